"""Lists the rows of `make bench`: what is measured, its goal, its limit, and what stands beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Found = dict[str, Any]

LIMITS = "limits of this machine"


@dataclass(frozen=True)
class Row:
    """Describes a row. kind: a module of measures/. value and limit are in `unit`.

    limit and beside read the rows up to this one.
    """

    name: str
    kind: str
    arguments: Found = field(default_factory=dict)
    goal: str = ""
    unit: str = "s"
    value: Callable[[Found], float] = lambda found: found["median_s"]
    limit: Callable[[Found], float] | None = None
    beside: Callable[[Found, Found], str] = lambda found, rows: ""
    less_is_better: bool = True
    needs_bf16: bool = False


def step_row(name: str, preset: str, method: str, precision: str, goal: str = "", repeats: int = 6) -> Row:
    """Makes the row of a training step, with the plain one beside it if that was measured before."""
    key, plain = f"{preset} {method} {precision}", f"plain {name}"

    def beside(found: Found, rows: Found) -> str:
        images = f"{found['images'] / found['median_s']:.1f} images/s, kernels {found['kernels']}"
        if plain not in rows or "error" in rows[plain]:
            return images
        times = rows[plain]["median_s"] / found["median_s"]
        memory = found["peak_gb"] / rows[plain]["peak_gb"]
        return f"{times:.1f} x the plain step, {memory:.0%} of its memory; {images}"

    return Row(
        name,
        "step",
        {"preset": preset, "method": method, "precision": precision, "repeats": repeats},
        goal,
        limit=lambda rows: rows[LIMITS]["steps"][key]["limit_s"],
        beside=beside,
        needs_bf16=precision == "bf16",
    )


def plain_row(name: str, precision: str) -> Row:
    """Makes the row of the reference: one graph, contiguous layout."""
    arguments = {"preset": "miccai2021", "method": "cooperative", "precision": precision, "plain": True}
    return Row(f"plain {name}", "step", {**arguments, "repeats": 1}, needs_bf16=precision == "bf16")


def gflops(found: Found, rows: Found) -> str:
    """Tells the rates of the machine limits."""
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in found["convolution_gflops"].items())
    return f"GFLOP/s of convolutions: {rates}; copy {found['copy_gb_s']:.0f} GB/s"


def predict_row(refinements: int, precision: str, scan_statistics: float | None = None) -> Row:
    """Makes the row of prediction. scan_statistics: K, with the folded networks beside it."""
    head = "FTN+STN" if refinements else "FTN"
    name = f"predict {head}, {'float32' if precision == '32' else precision}"
    more, rival, words = {}, "plain_slices_per_s", "as the networks train"
    if scan_statistics is not None:
        name += ", scan statistics"
        more, rival, words = {"scan_statistics": scan_statistics}, "folded_slices_per_s", "folded"
    return Row(
        name,
        "predict",
        {"preset": "miccai2021", "refinements": refinements, "precision": precision, **more},
        unit="/s",
        value=lambda found: found["slices_per_s"],
        # all arithmetic at the best rate of a convolution
        limit=lambda rows: rows[LIMITS]["convolution_gflops"][precision] / rows[name]["gflop_a_slice"],
        beside=lambda found, rows: (
            f"{found['slices_per_s'] / found[rival]:.1f} x {words}, {found['gflop_per_s']:.0f} GFLOP/s"
        ),
        less_is_better=False,
        needs_bf16=precision == "bf16",
    )


def curve(vary: str) -> Row:
    """Makes the row that times a step against one setting."""

    def beside(found: Found, rows: Found) -> str:
        points = (f"{p['value']}: {p['seconds']:.2f}" for p in found["points"])
        return "; ".join(points)

    return Row(
        f"step against {vary}",
        "curve",
        {"vary": vary, "repeats": 2},
        value=lambda found: found["points"][-1]["seconds"],
        beside=beside,
    )


STEPS = [
    ["miccai2021", "cooperative", "32"],
    ["miccai2021", "standard", "32"],
    ["miccai2021", "cooperative", "bf16"],
    ["cpu", "cooperative", "32"],
    ["cpu", "standard", "32"],
]
COOPERATIVE, COOPERATIVE_BF16 = "step cooperative, float32", "step cooperative, bf16"


def input_row(preset: str, precision: str) -> Row:
    """Makes the row of reading and augmenting a batch."""
    return Row(
        f"input and augmentation, {preset} {precision}",
        "batch_input",
        {"preset": preset, "precision": precision, "repeats": 4},
        "5 % of the step",
        beside=lambda found, rows: f"{found['share']:.1%} of a step of {found['step_s']:.2f} s",
        needs_bf16=precision == "bf16",
    )


def patient_row(precision: str) -> Row:
    """Makes the row of a patient; its limit is the networks' arithmetic: 3.6 GFLOP a slice."""

    def stages(found: Found, rows: Found) -> str:
        return ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in found["stages_s"].items())

    name = f"a patient, ED and ES, {'float32' if precision == '32' else precision}"
    return Row(
        name,
        "patient",
        {"precision": precision},
        "1.0 s",
        limit=lambda rows: (
            3.6
            * sum(min(shape) for shape in rows[name]["shapes"])
            / rows[LIMITS]["convolution_gflops"][precision]
        ),
        beside=lambda found, rows: f"of one volume: {stages(found, rows)}",
        needs_bf16=precision == "bf16",
    )


def share(name: str, of: str) -> Callable[[Found, Found], str]:
    """Cores busy and what one worker spends its time with."""

    def beside(found: Found, rows: Found) -> str:
        busy, one = found["all_workers"]["cores_busy"], found["one_worker"]
        return f"{busy:.0%} of {found['cores']} cores busy; {of} {one[name]:.0%} of one worker's time"

    return beside


def onnx(found: Found, rows: Found) -> str:
    """Tells the slices a second of each runtime."""
    speed = found["slices_per_s"]
    kinds = ", ".join(f"{kind} {rate:.0f}" for kind, rate in speed.items())
    times = speed["onnx runtime"] / speed["torch plain"]
    apart = found["apart"]["onnx runtime"]
    return f"slices/s: {kinds}; {times:.2f} x torch plain; probabilities {apart:.0e} apart"


def processes(found: Found, rows: Found) -> str:
    """Tells the images a second of each set-up of processes."""
    setups = (
        f"{name}: {setup['images_per_s']:.1f} images/s, averaging {setup['averaging_share']:.1%}"
        for name, setup in found["setups"].items()
    )
    return "; ".join(setups)


ROWS = (
    Row("bare import", "bare_import"),
    Row(LIMITS, "limits", {"steps": STEPS}, value=lambda found: 0.0, beside=gflops),
    plain_row(COOPERATIVE, "32"),
    step_row(COOPERATIVE, "miccai2021", "cooperative", "32", "5.0 s, 2.6 GB"),
    plain_row(COOPERATIVE_BF16, "bf16"),
    step_row(COOPERATIVE_BF16, "miccai2021", "cooperative", "bf16", "2.7 s, 1.5 GB"),
    step_row("step standard, float32", "miccai2021", "standard", "32"),
    step_row("step cooperative, preset cpu", "cpu", "cooperative", "32"),
    step_row("step standard, preset cpu", "cpu", "standard", "32"),
    input_row("miccai2021", "32"),
    input_row("miccai2021", "bf16"),
    input_row("cpu", "32"),
    predict_row(0, "32"),
    predict_row(1, "32"),
    predict_row(1, "bf16"),
    predict_row(1, "32", scan_statistics=1.0),
    predict_row(1, "bf16", scan_statistics=1.0),
    patient_row("32"),
    patient_row("bf16"),
    Row(
        "start-up of predict",
        "startup",
        goal="3 s",
        limit=lambda rows: rows["start-up of predict"]["import_torch_s"],
        beside=lambda found, rows: (
            f"import torch {found['import_torch_s']:.2f} s, --help {found['help_s']:.2f} s"
        ),
    ),
    Row("ONNX Runtime, 20 slices", "onnx_runtime", goal="1.5 x PyTorch", beside=onnx),
    Row("corrupt", "corrupt", goal="95 % in TorchIO", beside=share("torchio_share", "TorchIO")),
    Row("evaluate", "evaluate", goal="95 % in distances", beside=share("distance_share", "distances")),
    Row(
        "evaluate without distances",
        "evaluate",
        {"distances": False},
        beside=share("network_share", "networks"),
    ),
    Row("one and two gloo processes", "processes", beside=processes),
    *(curve(vary) for vary in ("batch_size", "side", "width", "slices")),
)
