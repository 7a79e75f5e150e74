"""Zip files and folders of foreign files: read by content, within bounds, and never unpacked by name."""

from __future__ import annotations

import re
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from made_dicom import as_file, one_series, save, series_per_slice

from coopseg.dicom import find, headers, places
from coopseg.dicom.convert import import_dicom, open_dicom
from coopseg.dicom.find import find_objects
from coopseg.dicom.pixels import read_stack
from coopseg.dicom.places import holds_dicom
from coopseg.dicom.types import DicomObject, Place
from coopseg.errors import CoopsegError
from coopseg.scans import discover
from coopseg.scans.types import Scan


@pytest.fixture(scope="module")
def scan() -> Scan:
    values = np.random.default_rng(0).integers(0, 900, (12, 10, 4, 3)).astype(np.float32)
    return Scan(values, np.diag([-1.5, -1.25, 9, 1]))


def zipped(scan: Scan, path: Path, folder: str = "a/b/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/", "")
        archive.writestr("DICOMDIR", as_file(one_series(scan)[0]))
        archive.writestr("__MACOSX/._x", b"x")
        archive.writestr("read me.txt", b"hello")
        for number, data in enumerate(series_per_slice(scan)):
            archive.writestr(f"{folder}{number * 7 % 11}/{number}", as_file(data))
    return path


@pytest.mark.parametrize("folder", ["a/b/", "../../../../tmp/", "/etc/", "C:\\x\\"])
def test_a_zip_file(folder: str, scan: Scan, tmp_path: Path) -> None:
    """Names that lead elsewhere are names only."""
    path = zipped(scan, tmp_path / "study.ZIP", folder)
    assert holds_dicom(path)
    found = open_dicom(path)
    (stack,) = found.stacks
    assert np.array_equal(read_stack(stack).data, scan.data)
    assert np.allclose(stack.affine, scan.affine)
    (entry,) = found.passed_over
    assert (entry.path, entry.reason) == (
        path / "read me.txt",
        "does not begin as a DICOM file does; 1 file",
    )
    before = set(tmp_path.rglob("*"))
    import_dicom(path, tmp_path / "out")
    assert {p.name for p in set(tmp_path.rglob("*")) - before} == {"out", "P1.nii.gz", "import.json"}


def test_zip_files_in_a_folder(scan: Scan, tmp_path: Path) -> None:
    zipped(scan, tmp_path / "one.zip")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    found = open_dicom(tmp_path)
    assert [stack.name for stack in found.stacks] == ["P1"]
    (error,) = found.refused
    assert str(error).startswith(f"{tmp_path / 'broken.zip'}: cannot be read as a zip file (")


def test_zip_files_that_claim_too_much(scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(scan, tmp_path / "study.zip")
    for name, value, said in (("MOST_MEMBERS", 3, "claims 16 members"), ("MOST_BYTES", 99, "unpack it")):
        with monkeypatch.context() as patch:
            patch.setattr(places, name, value)
            with pytest.raises(CoopsegError, match=said):
                import_dicom(path, tmp_path / "out")
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", as_file(one_series(scan)[0]) + bytes(2**22))
    monkeypatch.setattr(places, "MEMORY", 2**16)
    with pytest.raises(CoopsegError, match=r"bomb.zip/x: claims \d+ bytes in \d+ compressed ones"):
        import_dicom(bomb, tmp_path / "out")


def test_damaged_zip_files_never_give_a_traceback(scan: Scan, tmp_path: Path) -> None:
    content = bytearray(zipped(scan, tmp_path / "study.zip").read_bytes())
    path = tmp_path / "damaged.zip"
    generator, said = np.random.default_rng(0), list[str]()
    for _ in range(60):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 12):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            for stack in open_dicom(path).stacks:
                read_stack(stack)
        except CoopsegError as error:
            said.append(str(error))
    assert [line for line in said if str(path) not in line] == []


def test_damaged_files_never_give_a_traceback(scan: Scan, tmp_path: Path) -> None:
    save(one_series(scan), tmp_path)
    victim = sorted((tmp_path / "d0").iterdir())[0]
    content, generator, said = victim.read_bytes(), np.random.default_rng(0), list[str]()
    for _ in range(150):
        damaged = bytearray(content)
        for place in generator.integers(132, len(content) - 300, 4):
            damaged[place] = generator.integers(256)
        victim.write_bytes(damaged)
        try:
            for stack in open_dicom(tmp_path).stacks:
                read_stack(stack)
        except CoopsegError as error:
            said.append(str(error))
    assert [line for line in said if str(tmp_path) not in line] == []


def test_an_encrypted_zip_file(scan: Scan, tmp_path: Path) -> None:
    content = bytearray(zipped(scan, tmp_path / "study.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the bit of encryption, in both headers
        place = content.find(mark)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(mark, place + 1)
    path = tmp_path / "locked.zip"
    path.write_bytes(content)
    with pytest.raises(CoopsegError, match="is encrypted; unpack it, and give the folder"):
        import_dicom(path, tmp_path / "out")


def test_folders_that_are_read_as_dicom(scan: Scan, tmp_path: Path) -> None:
    assert not holds_dicom(tmp_path)
    assert not holds_dicom(tmp_path / "none")
    (tmp_path / "notes.dcm").write_text("no DICOM")
    assert not holds_dicom(tmp_path)
    file = tmp_path / "deep" / "IM1"
    file.parent.mkdir()
    file.write_bytes(as_file(one_series(scan)[0]))
    assert holds_dicom(tmp_path)
    assert holds_dicom(file)
    (tmp_path / "x.nii.gz").write_bytes(b"")
    assert not holds_dicom(tmp_path)
    assert not holds_dicom(tmp_path / "x.nii.gz")


def test_links_to_nothing_and_folders_in_a_circle(scan: Scan, tmp_path: Path) -> None:
    save(one_series(scan), tmp_path)
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    found = open_dicom(tmp_path)
    assert [stack.name for stack in found.stacks] == ["P1"]
    assert [str(error) for error in found.refused] == [
        f"{tmp_path / 'lost'}: a link to nothing; fetch what it links to or remove it"
    ]


def test_a_long_search_says_how_far_it_is(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(one_series(scan), tmp_path)
    plain = headers.read_object

    def slow(file: BinaryIO, place: Place) -> DicomObject:
        time.sleep(0.05)
        return plain(file, place)

    monkeypatch.setattr(find, "read_object", slow)
    monkeypatch.setattr(discover, "PATIENCE", 0.1)
    with caplog.at_level("INFO", "coopseg"):
        find_objects(tmp_path)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("coopseg")]
    assert any(re.search(r": \d+ of 12 files looked at, after \d+ s$", line) for line in said)


def test_only_headers_are_read_at_first(scan: Scan, tmp_path: Path) -> None:
    """A file of many pixels takes no more memory than its header needs."""
    large = Scan(np.zeros((1024, 1024, 4, 1), np.float32), scan.affine)
    save(one_series(large), tmp_path)
    find_objects(tmp_path)  # imports what it needs
    tracemalloc.start()
    try:
        assert len(find_objects(tmp_path).objects) == 4
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
