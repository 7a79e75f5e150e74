"""Hostile scans and label maps, given to every verb that reads them."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_nifti import encode

from coopseg.errors import CoopsegError
from coopseg.scans.nifti import read_image

VOXELS = np.random.default_rng(1).integers(0, 4, (16, 16, 2)).astype(np.int16)
SOUND = gzip.compress(encode(VOXELS))
NAN, INFINITE = float("nan"), float("inf")


def with_bit(content: bytes, place: int) -> bytes:
    spoiled = bytearray(content)
    spoiled[place] ^= 0x10
    return bytes(spoiled)


def header(**fields: Any) -> bytes:
    return gzip.compress(encode(VOXELS, **fields))


def kilometres() -> bytes:
    """Voxels of a kilometre: in the plane each would become half a million pixels."""
    return header(pixdim=(1.0, 1e6, 1e6, 9e6, 1, 0, 0, 0), srow=(-1e6, 0, 0, 0, 0, 1e6, 0, 0, 0, 0, 9e6, 0))


def zeros(shape: tuple[int, ...]) -> bytes:
    """A file that says what it holds, and holds zeros: a thousandth of that on disk."""
    start = encode(np.zeros((1, 1, 1), np.uint8), dim=(len(shape), *shape, *[1] * (7 - len(shape))))[:352]
    packer, left = zlib.compressobj(9, wbits=31), int(np.prod(shape))
    parts = [packer.compress(start)]
    parts += [packer.compress(bytes(min(2**20, left - done))) for done in range(0, left, 2**20)]
    return b"".join([*parts, packer.flush()])


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "text": (b"this is no scan\n" * 50, "not a NIfTI file"),
    "truncated": (SOUND[:-100], "truncated"),
    "first half": (SOUND[:200], "truncated"),
    "one bit": (with_bit(SOUND, len(SOUND) // 2), "gzip file"),
    "one bit of the checksum": (with_bit(SOUND, -6), "incorrect data check"),
    "deflate without gzip": (zlib.compress(encode(VOXELS)), "not a NIfTI file"),
    "gzip twice": (gzip.compress(SOUND), "not a NIfTI file"),
    "garbage after it": (SOUND + b"garbage", "damaged gzip"),
    "negative dimensions": (header(dim=(3, 16, -16, 2, 1, 1, 1, 1)), "claims the shape (16, -16, 2)"),
    "no dimensions": (header(dim=(0, 16, 16, 2, 1, 1, 1, 1)), "claims 0 dimensions"),
    "huge dimensions": (header(dim=(3, 32767, 32767, 32767, 1, 1, 1, 1)), "voxels, more than"),
    "large dimensions": (header(dim=(3, 1200, 1200, 1200, 1, 1, 1, 1)), "cannot hold"),
    "voxels far away": (header(vox_offset=2.0**30), "cannot hold"),
    "NaN in the affine": (header(srow=(NAN, *[0.0] * 11)), "the affine holds NaN"),
    "infinite affine": (header(srow=(-3, 0, 0, INFINITE, *[0.0] * 8)), "the affine holds NaN or infinity"),
    "singular affine": (header(srow=(0.0,) * 12), "the affine is singular"),
    "infinite intercept": (header(scl_slope=2.0, scl_inter=INFINITE), "shifted by inf"),
    "colours": (header(datatype=128), "data type"),
    "two files": (header(magic=b"ni1"), "two-file NIfTI"),
    "a gigabyte of zeros": (zeros((1024, 1024, 1024)), "GiB of memory"),
}  # fmt: skip
# readable, but no images to work with; then labels in the same grid
UNUSABLE: dict[str, tuple[bytes, str, bytes]] = {
    "voxels of a kilometre": (kilometres(), "correct its voxel size", kilometres()),
    "no intensities": (gzip.compress(encode(VOXELS.astype("f4") * 1e38)), "no intensities", SOUND),
    "too great for float32": (header(scl_slope=3e38), "NaN or infinite", SOUND),
}
SMALL = ("--set=cases.size=[16,16]", "--set=cases.spacing=3")


@pytest.mark.parametrize("kind", [*UNREADABLE, *UNUSABLE])
def test_predict(refuses: Callable[..., str], data: Path, model: Path, kind: str) -> None:
    content, message, *_ = {**UNREADABLE, **UNUSABLE}[kind]
    bad = data / "images" / "p3.nii.gz"
    bad.write_bytes(content)  # type: ignore[arg-type]
    refuses("predict", "--model", model, bad, parts=(bad, message))


def refused_by_every_verb(
    refuses: Callable[..., str], data: Path, model: Path, parts: tuple[Any, ...]
) -> None:
    refuses("train", "--data", data, "--preset=cpu", "--device=cpu", *SMALL, parts=parts)
    refuses("evaluate", "--model", model, "--data", data, parts=parts)
    refuses("corrupt", "--data", data, "--workers=1", *SMALL, parts=parts)


@pytest.mark.parametrize("folder", ["images", "labels"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_data_sets(refuses: Callable[..., str], data: Path, model: Path, kind: str, folder: str) -> None:
    content, message = UNREADABLE[kind]
    for path in (data / folder).iterdir():
        path.write_bytes(content)
    refused_by_every_verb(refuses, data, model, (data / folder, message))


@pytest.mark.parametrize("kind", UNUSABLE)
def test_data_sets_of_unusable_images(
    refuses: Callable[..., str], data: Path, model: Path, kind: str
) -> None:
    image, message, label = UNUSABLE[kind]
    for path in (data / "images").iterdir():
        path.write_bytes(image)
        (data / "labels" / path.name).write_bytes(label)
    refused_by_every_verb(refuses, data, model, (data / "images", message))


def test_an_image_given_as_a_label_map(refuses: Callable[..., str], data: Path) -> None:
    for path in (data / "labels").iterdir():
        path.write_bytes(gzip.compress(encode(np.arange(512, dtype=np.int16).reshape(16, 16, 2))))
    (data / "dataset.json").unlink()
    refuses("train", "--data", data, "--preset=cpu", parts=(data / "labels", "more than 256 values"))


def test_a_failure_leaves_a_folder_that_was_there_empty(
    refuses: Callable[..., str], data: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    for bad in (data / "labels").iterdir():
        bad.write_bytes(SOUND[:-50])
    parts = (data / "labels" / "p1.nii.gz", "4 scans failed, none is left")
    refuses("evaluate", "--model", model, "--data", data, out=out, parts=parts)
    refuses("corrupt", "--data", data, "--workers=1", *SMALL, out=out, parts=parts)
    refuses("predict", "--model", model, data / "labels", out=out, parts=("no scan found",))


@pytest.mark.parametrize("kind", ["empty", "one bit", "huge dimensions", "a gigabyte of zeros"])
def test_one_bad_label_of_four(
    coopseg: Callable[..., Any], data: Path, model: Path, tmp_path: Path, kind: str
) -> None:
    """The rest is done, the bad one is named, and the exit code says that something is missing."""
    bad, (content, message) = data / "labels" / "p4.nii.gz", UNREADABLE[kind]
    bad.write_bytes(content)
    verbs = ("evaluate", "--model", model, "--workers=1"), ("corrupt", "--workers=1", *SMALL)
    for number, words in enumerate(verbs):
        result = coopseg(*words, "--data", data, "--out", tmp_path / f"out{number}")
        assert result.exit_code == 1, result.stderr
        (line,) = (line for line in result.stderr.splitlines() if line.startswith(f"error: {bad}: "))
        assert message in line
    assert (tmp_path / "out0" / "cases.csv").read_text().count(",p4,") == 0
    assert sorted(file.name[:2] for file in (tmp_path / "out1" / "RandBias" / "images").iterdir())[::3] == [
        "p1", "p2", "p3"
    ]  # fmt: skip


def test_blank_scans_of_a_size_that_exists_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    path.write_bytes(zeros((256, 256, 300)))
    assert read_image(path).data.shape == (256, 256, 300)


def test_many_tiny_gzip_members_take_no_more_than_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(encode(VOXELS)) + gzip.compress(b"") * 50_000)
    before = os.times().user
    np.testing.assert_array_equal(read_image(path).data, VOXELS)
    assert os.times().user - before < 5  # a copy of the rest for every member takes a minute


def test_a_header_in_two_gzip_members(tmp_path: Path) -> None:
    content = encode(VOXELS, version=2)
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(content[:100]) + gzip.compress(content[100:]))
    np.testing.assert_array_equal(read_image(path).data, VOXELS)


@pytest.mark.slow
def test_the_program_itself_within_two_gigabytes(data: Path, model: Path, tmp_path: Path) -> None:
    """As a user starts it: a bomb that unpacks to more than there is, in little memory and time."""
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(SOUND + zeros((1024, 1024, 1024)))
    out = tmp_path / "out"
    words = ("predict", "--model", model, bomb, "--out", out, "--device", "cpu")
    done = subprocess.run(
        [sys.executable, "-m", "coopseg", *map(str, words)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31)),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {bomb}: holds far more than the (16, 16, 2) voxels of its header; export it again\n"
    )
    assert not out.exists()


def test_a_folder_named_as_a_scan(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").mkdir()
    with pytest.raises(CoopsegError, match="directory"):
        read_image(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("within", ["coopseg.cases.prepare.judge_spacing", "coopseg.scans.nifti._load"])
def test_the_end_of_the_memory_names_the_file(
    refuses: Callable[..., str], data: Path, model: Path, monkeypatch: pytest.MonkeyPatch, within: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(within, full)
    parts = (data / "images", "p", ".nii.gz: too little memory for ")
    refuses("predict", "--model", model, "--device=cpu", data / "images", parts=parts)
    refused_by_every_verb(refuses, data, model, parts)


def test_the_end_of_the_memory_elsewhere_is_one_line(
    refuses: Callable[..., str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("coopseg.cases.splits._random_split", full)
    refuses("train", "--data", data, "--preset=cpu", *SMALL, parts=("error: too little memory; free some",))
