"""The pages: their code runs, their commands and options exist, their links lead somewhere.

Commands stand in the pages as one would type them. They are quick here because networks, images, phantoms
and the number of steps are made tiny underneath; `make demo` runs one of them at its true size.
"""

from __future__ import annotations

import contextlib
import doctest
import glob
import importlib
import importlib.util
import io
import os
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import coopseg

ROOT = Path(__file__).parents[1]
FILES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(str(f.relative_to(ROOT)) for f in (ROOT / "docs").rglob("*.md")),
)
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in sorted(FILES)}
RUN_HERE = ("python", "sh")
SHELL = {"python3", "pip", "source", "make", "git", "cd"}  # set-up, which is not run here
MEASURED = "docs/results.md"  # its commands train for hours on real scans
# Blocks with commands that cannot be run here: clusters, several processes.
SLOW = (
    "docs/start.md",
    "docs/how-to/test-robustness.md",
    "docs/how-to/change-the-method.md",
    "docs/how-to/compare-methods.md",
    "docs/how-to/predict-in-a-pipeline.md",
)
SLOW_EXAMPLES = ("coopseg.benchmark.run",)
NOT_RUN = {
    "docs/how-to/compare-methods.md": 1,
    "docs/how-to/serve.md": 1,
    "docs/how-to/train-on-a-cluster.md": 3,
}
COMMAND = re.compile(r"^\s*(?:\$ )?(?:srun |exec |torchrun .*-m |python -m )*coopseg (.*)$", re.MULTILINE)
PYTHON = re.compile(r"^(import|from) \w+", re.MULTILINE)
INDENTED = re.compile(r"^ {4,}(?:\$ )?coopseg (.*)$", re.MULTILINE)
TINY: dict[str, dict[str, Any]] = {
    "network": {"width": 2},
    "cases": {"size": (32, 32), "spacing": 8.0},
    "training": {"batch_size": 4},
}


@dataclass(frozen=True)
class Block:
    """A fenced block. info: what follows the three backticks, as "python" or "json split.json"."""

    info: str
    text: str
    line: int

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def commands(self) -> list[str]:
        """What follows `coopseg` on its lines."""
        return COMMAND.findall(self.text.replace("\\\n", " "))


def blocks(text: str) -> list[Block]:
    """Fenced blocks of a page in order; none may be left open."""
    found: list[Block] = []
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if line.startswith("```"):
            inside = []
            for _, entry in lines:
                if entry.startswith("```"):
                    break
                inside.append(entry)
            else:
                raise AssertionError(f"the block of line {number} does not end")
            found.append(Block(line.removeprefix("```").strip(), "\n".join(inside), number))
    return found


def without_blocks(text: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def test_every_page_installs_the_versions_that_were_measured() -> None:
    """Without the constraints a newcomer gets whatever is newest on that day."""
    for name, page in PAGES.items():
        for line in re.findall(r"pip install [^`\n]*(?<= )[.](?![\w/])[^`\n]*", page):
            assert "-c constraints.txt" in line, (name, line)


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """scripts/make_reference.py."""
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "scripts" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn() -> Callable[..., Any]:
    """What draws a patient of a phantom, each once for all pages."""
    from coopseg.phantom.scan import scan

    return cache(scan)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, drawn: Callable[..., Any]) -> None:
    """Presets, trainings, phantoms and the demo as small as can be, no further processes, an ended service.

    Distances and pictures, most of an evaluation's time, are left out; they have tests of their own.
    """
    from coopseg import demo
    from coopseg.config.methods import PRESETS
    from coopseg.config.section import Named
    from coopseg.phantom.dicom import write_dicom_phantom
    from coopseg.phantom.write import write_phantom
    from coopseg.serve.run import listen

    for name in PRESETS:
        monkeypatch.setitem(PRESETS, name, Named("tiny", TINY))
    for write in (write_phantom, write_dicom_phantom):
        monkeypatch.setitem(write.__kwdefaults__, "size", 48)  # type: ignore[arg-type]
        monkeypatch.setattr(f"{write.__module__}.scan", drawn)
    monkeypatch.setitem(write_dicom_phantom.__kwdefaults__, "times", 3)  # type: ignore[arg-type]
    monkeypatch.setattr(demo, "CASES", {"cases.size": [32, 32], "cases.spacing": 8.0})
    monkeypatch.setattr(demo, "COLUMNS", 48)
    monkeypatch.setattr("coopseg.workers.cores", lambda: 1)
    monkeypatch.setattr(
        "coopseg.evaluation.evaluate.surface_scores", lambda *args, **options: (1.0, 1.0, 1.0)
    )
    monkeypatch.setattr("coopseg.evaluation.run.write_pictures", lambda *args, **options: [])
    monkeypatch.setattr("coopseg.benchmark.executor.Processes.run", run_task_here)
    monkeypatch.setattr("coopseg.serve.run.listen", lambda host, port: listen(host, 0))
    if importlib.util.find_spec("uvicorn"):
        monkeypatch.setattr("uvicorn.Server.run", lambda *args, **options: None)  # which ends when it is told


@pytest.fixture
def tiny(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes trainings end after their first step, too."""
    from coopseg.training import loop

    steps = loop.total_steps
    monkeypatch.setattr(loop, "total_steps", lambda *args: min(1, steps(*args)))


def run_task_here(processes: object, task: Any, threads: int) -> int:
    """What a benchmark would do in a process of its own, which would know nothing of what is tiny here."""
    with contextlib.redirect_stdout(io.StringIO()):  # a process of its own writes to the job's log
        return importlib.import_module(task.module).main(task.bench, task.argument, *task.trusted)


def words(line: str) -> list[str]:
    """A line as the shell splits it: quotes, variables, patterns."""
    expanded = [os.path.expandvars(word) for word in shlex.split(line)]
    return [found for word in expanded for found in (sorted(glob.glob(word)) or [word])]


def run_shell(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `coopseg` lines, in this process; exports count, and set-up is passed over."""
    from coopseg.cli.main import app

    for line in block.text.replace("\\\n", " ").splitlines():
        program, *arguments = words(line.partition(" #")[0]) or [""]
        if program == "coopseg":
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, f"{line}\n{done.stderr}\n{done.exception!r}"
        elif program == "export":
            monkeypatch.setenv(*arguments[0].split("=", 1))
        else:
            assert Path(program).name in {*SHELL, ""} or line.startswith("#"), f"not run: {line}"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name, text in PAGES.items()
        if name != MEASURED and {"python", "sh"} & {block.language for block in blocks(text)}
    ],
)
def test_the_code_of_a_page_runs_from_top_to_bottom(
    name: str, tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "README.md":  # which speaks of the reader's own scans
        data = coopseg.write_phantom(tmp_path / "scans", patients=8)
        lay_out_plainly(data["acdc"], tmp_path / "mine")
        monkeypatch.setenv("ACDC", str(data["acdc"]))
        monkeypatch.setenv("MNMS", str(data["mnms"]))
    names: dict[str, Any] = {}
    for block in blocks(PAGES[name]):
        if block.info != block.language:  # the content of a file
            Path(block.info.split()[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, name, "exec"), names)
        elif block.language == "sh":
            run_shell(block, monkeypatch)


def lay_out_plainly(data: Path, folder: Path) -> None:
    """Pairs of files with the same name in two folders."""
    for ref in coopseg.open_dataset(data).items:
        for kind, file in (("images", ref.image), ("labels", ref.label)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            assert file is not None
            (folder / kind / f"{ref.id}.nii.gz").symlink_to(file)


def test_only_these_commands_are_not_run() -> None:
    """A block with a command is run, or is one of those counted here."""
    waiting: Counter[str] = Counter()
    for name, text in PAGES.items():
        if name != MEASURED:
            found = [block for block in blocks(text) if block.language not in RUN_HERE]
            waiting[name] += sum(bool(block.commands or PYTHON.search(block.text)) for block in found)
            assert not INDENTED.findall(without_blocks(text)), f"{name}: put commands between ```sh and ```"
    assert +waiting == Counter(NOT_RUN)


def commands_of(text: str) -> Iterator[str]:
    """What follows `coopseg` in blocks, run or not, indented ones, and in running text."""
    for block in blocks(text):
        yield from block.commands
    plain = without_blocks(text)
    yield from INDENTED.findall(plain)
    yield from re.findall(r"`coopseg ([^`]+)`", plain)


@pytest.mark.parametrize("name", PAGES)
def test_every_verb_and_option_exists(name: str, reference: ModuleType) -> None:
    known = {verb: reference.options(function) for verb, function in reference.verbs().items()}
    for command in commands_of(PAGES[name]):
        verb, *rest = command.split()
        if verb in ("VERB", "--version", "--help"):
            continue
        assert verb in known, command
        given = {re.split("[= ]", word)[0] for word in rest if word.startswith("--")}
        assert given <= known[verb] | {"--help"}, command
    spans = re.findall(r"`(--[a-z-]+)[^`]*`", without_blocks(PAGES[name]))
    assert set(spans) <= set().union(*known.values(), {"--help", "--version"})


@pytest.mark.parametrize("name", PAGES)
def test_every_setting_exists(name: str) -> None:
    from coopseg.config.resolve import setting_fields

    sections = "cases|network|latent|losses|augmentation|training|prediction"
    found = re.findall(rf"[`'\"= ]((?:{sections})\.[a-z_0-9]+)(?=[`'\"=])", PAGES[name])
    found = [name for name in found if not name.endswith(".csv")]
    assert set(found) <= set(setting_fields())


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(PAGES[name])):
        if link.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), f"{name}: {link}"
        beside = (ROOT / "docs").resolve() in target.resolve().parents
        assert beside or target.is_file() or not name.startswith("docs"), (
            f"{name}: {link}: a folder is not copied"
        )
        assert ROOT in target.resolve().parents or target.resolve() == ROOT, f"{name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{name}: {link}"


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([^)#]+\.md)\)", PAGES["docs/README.md"]))
    assert {f"docs/{link}" for link in linked} >= {name for name in PAGES if name.startswith("docs/")} - {
        "docs/README.md"
    }


def test_the_readme_names_every_verb_and_is_short(reference: ModuleType) -> None:
    text = PAGES["README.md"]
    assert all(f"`{verb}`" in text for verb in reference.verbs())
    assert len(text.splitlines()) <= 140
    python = [block for block in blocks(text) if block.language == "python"]
    assert [len(block.text.splitlines()) <= 12 for block in python] == [True]
    for said in ("not a medical device", "No trained weights are shipped"):
        assert said in " ".join(text.replace("*", "").split())


def test_the_reference_is_that_of_the_source(reference: ModuleType) -> None:
    for name, content in reference.render().items():
        assert PAGES[f"docs/reference/{name}"] == content, f"{name}: run python scripts/make_reference.py"


def test_the_citation_file() -> None:
    """The keys that schema 1.2.0 requires, and those that this project promises."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["cff-version"] == "1.2.0"
    assert (cited["type"], cited["license"]) == ("software", "Apache-2.0")
    assert str(cited["version"]) == coopseg.__version__
    (paper,) = cited["references"]
    assert paper["doi"] == "10.1007/978-3-030-87199-4_14"
    families = ["Chen", "Hammernik", "Ouyang", "Qin", "Bai", "Rueckert"]
    assert [author["family-names"] for author in paper["authors"]] == families


def test_the_changelog_names_this_version() -> None:
    assert re.search(rf"^## \[?{re.escape(coopseg.__version__)}\]?", PAGES["CHANGELOG.md"], re.MULTILINE)


def public_names() -> list[str]:
    """What a user may import, of the package and its public modules."""
    modules = {"coopseg": coopseg, **{f"coopseg.{name}": getattr(coopseg, name) for name in coopseg.MODULES}}
    return [f"{home}.{name}" for home, module in modules.items() for name in module.__all__]


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_has_an_example(name: str) -> None:
    home, _, last = name.rpartition(".")
    thing = getattr(importlib.import_module(home), last)
    if callable(thing):
        assert ">>> " in (thing.__doc__ or "")


WITH_EXAMPLES = [
    str(file.relative_to(ROOT / "src").with_suffix("")).replace("/", ".").removesuffix(".__init__")
    for file in sorted((ROOT / "src").rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW_EXAMPLES else ()) for name in WITH_EXAMPLES],
)
def test_the_examples_of_docstrings_run(
    name: str, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        said: list[str] = []
        doctest.DocTestRunner(verbose=False).run(test, out=said.append)
        assert not said, "".join(said)
