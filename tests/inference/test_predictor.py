"""Probabilities and label maps against the networks applied slice by slice, by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coopseg.cases.prepare import Case, prepare, restore
from coopseg.config.resolve import resolve_settings
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.inference.model import LAST, load_model, save_model
from coopseg.inference.predictor import Predictor, stack_frames
from coopseg.networks.cooperative import Networks
from coopseg.networks.fold import fold
from coopseg.networks.norm import Norm, norms
from coopseg.quality.opinions import MASKS
from coopseg.scans.types import Scan

MakeScan = Callable[..., Scan]
K = 4.0  # of scan statistics


def by_hand(networks: Networks, image: np.ndarray, refinements: int) -> np.ndarray:
    """(classes, slices, H, W): one slice at a time, the STN on softmax(logits / 2) again and again."""
    found = []
    with torch.no_grad():
        for plane in torch.from_numpy(image):
            code = networks.image_encoder(plane[None])
            logits = networks.segmentation_decoder(networks.image_encoder.decoupler(code))
            for _ in range(refinements):
                logits = networks.shape_decoder(networks.shape_encoder((logits / 2).softmax(1)))
            found.append(logits.softmax(1)[0].numpy())
    return np.stack(found, axis=1)


@pytest.mark.parametrize("refinements", [0, 1, 3])
def test_probabilities(
    small_networks: Networks, small_settings: Settings, make_scan: MakeScan, refinements: int
) -> None:
    case = prepare(make_scan(40, 50, 9), small_settings.cases)
    predictor = Predictor(small_networks, small_settings, refinements=refinements)
    found = predictor.probabilities(case)
    expected = {"FTN": 0, **({"FTN+STN": refinements} if refinements else {})}
    assert tuple(found) == predictor.heads == tuple(expected)
    for head, times in expected.items():
        assert found[head].shape == (4, 9, 32, 32)
        np.testing.assert_allclose(found[head], by_hand(small_networks, case.image, times), atol=1e-5)
        np.testing.assert_allclose(found[head].sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("refinements", [0, 1, 2])
def test_a_model_s_predictor_gives_the_same(
    small_networks: Networks, small_model: Path, make_scan: MakeScan, refinements: int
) -> None:
    model = load_model(small_model)
    case = prepare(make_scan(40, 50, 9), model.settings.cases)
    predictor = Predictor.from_model(model, refinements=refinements)
    head = predictor.heads[-1]
    found = predictor.probabilities(case, [head])
    assert list(found) == [head]
    np.testing.assert_allclose(found[head], by_hand(small_networks, case.image, refinements), atol=1e-4)
    assert predictor.device == torch.device("cpu")
    for name, value in small_networks.state_dict().items():
        assert torch.equal(model.networks.state_dict()[name], value)  # type: ignore[union-attr]


def test_bf16_of_a_model_is_close(small_model: Path, make_scan: MakeScan) -> None:
    model = load_model(small_model)
    case = prepare(make_scan(40, 50, 9), model.settings.cases)
    full, half = (Predictor.from_model(model, precision=p).probabilities(case)["FTN"] for p in ("32", "bf16"))
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).mean() < 0.02
    with pytest.raises(CoopsegError, match="precision '16' is not known"):
        Predictor.from_model(model, precision="16")


def test_labels_lie_in_the_grid_of_the_scan(
    small_networks: Networks, small_settings: Settings, make_scan: MakeScan
) -> None:
    scan = make_scan(40, 50, 5)
    case = prepare(scan, small_settings.cases)
    predictor = Predictor(small_networks, small_settings)
    for head, values in predictor(scan).items():
        assert (values.shape, values.dtype) == ((40, 50, 5), np.dtype(np.uint8))
        assert np.array_equal(values, restore(predictor.probabilities(case)[head], case.record))
        assert len(np.unique(values)) > 1


def test_frames_are_predicted_one_by_one(
    small_networks: Networks, small_settings: Settings, make_scan: MakeScan
) -> None:
    scan = make_scan(20, 24, 3, 4)
    predictor = Predictor(small_networks, small_settings)
    moving = predictor.frames(scan)
    for head, values in moving.items():
        assert values.shape == scan.data.shape
        for index in range(4):
            assert np.array_equal(values[..., index], predictor(scan.frame(index))[head])
    still = predictor.frames(scan.frame(2))
    assert all(np.array_equal(still[head], moving[head][..., 2]) for head in moving)
    joined = stack_frames({"FTN": np.full((2, 2, 2), index)} for index in range(3))
    assert joined["FTN"][0, 0, 0].tolist() == [0, 1, 2]


def test_a_normalised_scan_is_not_clipped_again(
    small_networks: Networks, small_settings: Settings, make_scan: MakeScan
) -> None:
    scan = make_scan(40, 50, 3)
    scan = Scan(scan.data / scan.data.max(), scan.affine, None)
    predictor = Predictor(small_networks, small_settings)
    case = prepare(scan, small_settings.cases, normalised=True)
    assert np.array_equal(predictor(scan, True)["FTN"], predictor.labels(case)["FTN"])
    assert not np.array_equal(predictor(scan, True)["FTN"], predictor(scan)["FTN"])


def test_without_an_stn_there_is_one_head(small_networks: Networks, make_scan: MakeScan) -> None:
    settings = resolve_settings(
        preset="lsm2022", overrides={"network.width": 2, "cases.size": (32, 32), "cases.spacing": 3.0}
    )
    assert tuple(Predictor(small_networks, settings)(make_scan(20, 20, 3))) == ("FTN",)


@pytest.mark.parametrize("k", [None, K])
def test_the_mode_and_the_weights_stay(
    small_networks: Networks, small_settings: Settings, make_scan: MakeScan, k: float | None
) -> None:
    before = {name: value.clone() for name, value in small_networks.state_dict().items()}
    Predictor(small_networks, with_k(small_settings) if k else small_settings)(make_scan(20, 20, 3))
    assert not small_networks.training
    assert all(norm.scan_statistics is None for norm in norms(small_networks))
    for name, value in small_networks.state_dict().items():
        assert torch.equal(value, before[name])


def by_hooks(networks: Networks, image: np.ndarray, refinements: int) -> np.ndarray:
    """(classes, slices, H, W): before each norm of the stem its running statistics become the mixed ones."""
    networks = copy.deepcopy(networks)

    def mix(norm: Norm, inputs: tuple[torch.Tensor], kept: tuple[torch.Tensor, torch.Tensor]) -> None:
        share = len(inputs[0]) / (len(inputs[0]) + K)
        own = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), correction=0)
        norm.running_mean.copy_((1 - share) * kept[0] + share * own[0])
        norm.running_var.copy_((1 - share) * kept[1] + share * own[1])

    for norm in norms(networks.image_encoder.stem):
        kept = norm.running_mean.clone(), norm.running_var.clone()
        norm.register_forward_pre_hook(lambda norm, inputs, kept=kept: mix(norm, inputs, kept))
    with torch.no_grad():
        logits = networks(torch.from_numpy(image), refinements=refinements, temperature=2.0)
    return list(logits.values())[-1].softmax(1).transpose(0, 1).numpy()


@pytest.mark.parametrize("refinements", [0, 1, 2])
@pytest.mark.parametrize("slices", [1, 9, 40])
def test_scan_statistics(
    small_networks: Networks, small_model: Path, make_scan: MakeScan, slices: int, refinements: int
) -> None:
    model = load_model(small_model)
    case = prepare(make_scan(40, 50, slices), model.settings.cases)
    predictor = Predictor.from_model(model, refinements=refinements, scan_statistics=K)
    assert (predictor.scan_statistics, predictor.settings.prediction.scan_statistics) == (K, K)
    head = predictor.heads[-1]
    found = predictor.probabilities(case)[head]
    expected = by_hooks(small_networks, case.image, refinements)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    fast = predictor.probabilities(case)["FTN"]  # an untrained STN hardly tells its inputs apart
    assert np.abs(fast - by_hand(small_networks, case.image, 0)).max() > 1e-3
    live = Predictor(small_networks, predictor.settings, refinements=refinements)
    np.testing.assert_allclose(live.probabilities(case)[head], found, atol=1e-5)


def test_scan_statistics_as_the_model_says_or_otherwise(
    tmp_path: Path, save_small: Callable[[Path, Settings], str], small_settings: Settings, make_scan: MakeScan
) -> None:
    save_small(tmp_path, with_k(small_settings))
    model = load_model(tmp_path)
    case = prepare(make_scan(40, 50, 5), model.settings.cases)
    for given, k in ((None, K), (8, 8.0), ("0", 0.0), ("off", None)):
        predictor = Predictor.from_model(model, scan_statistics=given)
        assert predictor.scan_statistics == k
    off = Predictor(model.networks, small_settings)
    assert np.abs(predictor.probabilities(case)["FTN"] - off.probabilities(case)["FTN"]).max() < 1e-4
    with pytest.raises(CoopsegError, match="scan statistics 'on' cannot be used; give K, a number of slices"):
        Predictor.from_model(model, scan_statistics="on")
    with pytest.raises(CoopsegError, match=r"a folded network knows no scan statistics \(K = 4\)"):
        Predictor(fold(model.networks), model.settings)  # type: ignore[arg-type]


def with_k(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"prediction": settings.prediction.model_copy(update={"scan_statistics": K})}
    )


def test_the_order_of_slices_does_not_matter(
    small_networks: Networks, small_settings: Settings, make_scan: MakeScan
) -> None:
    case = prepare(make_scan(40, 50, 9), small_settings.cases)
    order = np.random.default_rng(0).permutation(9)
    predictor = Predictor(small_networks, with_k(small_settings))
    found = predictor.probabilities(replace(case, image=np.ascontiguousarray(case.image[order])))
    for head, values in predictor.probabilities(case).items():
        np.testing.assert_allclose(found[head], values[:, order], atol=1e-4)


def test_volumes_do_not_know_of_each_other(
    small_networks: Networks, small_settings: Settings, make_scan: MakeScan
) -> None:
    predictor = Predictor(small_networks, with_k(small_settings))
    cases = [prepare(make_scan(40, 50, 1 + seed, seed=seed), small_settings.cases) for seed in range(8)]

    def last(case: Case) -> np.ndarray:
        return predictor.probabilities(case)["FTN+STN"]

    alone = [last(case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(last, reversed(cases * 3)))
    for found, expected in zip(together, reversed(alone * 3), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    moving = make_scan(20, 24, 3, 2)
    frames = predictor.frames(moving)
    for index in range(2):
        for head, labels in predictor(moving.frame(index)).items():
            assert np.array_equal(frames[head][..., index], labels)


def test_scan_statistics_in_bf16(small_model: Path, make_scan: MakeScan) -> None:
    model = load_model(small_model)
    case = prepare(make_scan(40, 50, 9), model.settings.cases)
    full, half = (
        Predictor.from_model(model, precision=p, scan_statistics=K).probabilities(case)["FTN"]
        for p in ("32", "bf16")
    )
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).mean() < 0.02


def test_probabilities_that_are_not_finite_are_refused(
    small_networks: Networks, small_settings: Settings, make_scan: MakeScan
) -> None:
    networks = copy.deepcopy(small_networks)
    next(networks.parameters()).data.fill_(float("nan"))
    with pytest.raises(CoopsegError, match="the networks: the probabilities of FTN hold NaN or infinity"):
        Predictor(networks, small_settings)(make_scan(20, 20, 2))


def test_threads_change_no_label(small_model: Path, make_scan: MakeScan) -> None:
    """Sums in another order may change the last digits of a probability."""
    case = prepare(make_scan(40, 40, 6), load_model(small_model).settings.cases)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(Predictor.from_model(load_model(small_model)).probabilities(case))
    finally:
        torch.set_num_threads(before)
    for head, values in found[0].items():
        np.testing.assert_allclose(found[1][head], values, atol=1e-6)
        assert np.array_equal(found[1][head].argmax(0), values.argmax(0))


@pytest.mark.parametrize("kind", ["published", "unet"])
def test_masked_codes_are_decoded_as_by_the_networks(
    tmp_path: Path, small_settings: Settings, make_scan: MakeScan, kind: str
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        networks = Networks(classes=4, width=2, kind=kind)  # type: ignore[arg-type]
        networks.train()(torch.rand(8, 1, 32, 32))
        networks.eval()
    network = small_settings.network.model_copy(update={"kind": kind})
    settings = small_settings.model_copy(update={"network": network})
    save_model(tmp_path / LAST, networks.state_dict(), settings=settings, names=("background", "a", "b", "c"))
    case = prepare(make_scan(40, 50, 3), settings.cases)
    found = Predictor.from_model(load_model(tmp_path)).opinions(case, draws=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        _, *codes = networks.encode(torch.from_numpy(case.image))
        for labels in found.masked:
            choices = MASKS.sample_levels([code.shape for code in codes], generator)
            kept = [(choice.priority < 0.7) / 0.7 for choice in choices]
            masked = [code * keep[:, :, None, None] for code, keep in zip(codes, kept, strict=True)]
            expected = networks.segmentation_decoder(*masked).argmax(1).numpy()
            assert len(np.unique(expected)) > 1
            assert (labels == expected).mean() > 0.999  # equal logits may be rounded to either side
    np.testing.assert_allclose(found.code, codes[0].mean((0, 2, 3)), atol=1e-5)
    assert len(found.masked) == 2
    assert (found.masked[0] != found.masked[1]).any()


def test_opinions_hold_the_probabilities_and_are_the_same_each_time(
    small_model: Path, make_scan: MakeScan
) -> None:
    predictor = Predictor.from_model(load_model(small_model))
    case = prepare(make_scan(40, 50, 9), predictor.settings.cases)  # more slices than are taken at once
    plain, first, second = predictor.probabilities(case), predictor.opinions(case), predictor.opinions(case)
    for head, values in plain.items():
        assert np.array_equal(values, first.probabilities[head])
    assert all(np.array_equal(a, b) for a, b in zip(first.masked, second.masked, strict=True))
    assert first.masked[0].shape == (9, 32, 32)
    assert first.spacing == case.record.spacing


def test_networks_that_do_not_show_their_codes(
    small_networks: Networks, small_settings: Settings, make_scan: MakeScan
) -> None:
    predictor = Predictor(small_networks, small_settings)
    found = predictor.opinions(prepare(make_scan(40, 50, 3), small_settings.cases))
    assert (list(found.masked), found.code.size) == ([], 0)
