"""What is sent: forms in pieces of any size, broken ones, zip files of every kind, and bombs."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("python_multipart")

from coopseg.serve.places import Refused
from coopseg.serve.upload import MOST_DIRECTORY, Upload

BOUNDARY = b"x1y2"
FORM = "multipart/form-data; boundary=x1y2"
Send = Callable[..., dict[str, bytes]]


def form(*files: tuple[str, bytes]) -> bytes:
    head = b'--%s\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\n\r\n%s\r\n'
    return b"".join(head % (BOUNDARY, name.encode(), data) for name, data in files) + b"--%s--\r\n" % BOUNDARY


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as packed:
        for name, data in files:
            packed.writestr(name, data)
    return content.getvalue()


@pytest.fixture
def send(tmp_path: Path) -> Send:
    """Sends a body in pieces; returns what lies in the folder after that."""
    folders = iter(range(10**6))

    def sent(body: bytes, *, piece: int = 1000, kind: str = FORM, most: int = 2**20, length: int = 0):  # type: ignore[no-untyped-def]
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        upload = Upload(kind, length, folder, most_bytes=most)
        try:
            for start in range(0, len(body), piece):
                upload.take(body[start : start + piece])
            upload.finish()
        finally:
            upload.close()
        assert {path.name for path in tmp_path.iterdir()} <= {str(number) for number in range(10**4)}
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    return sent


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 10**6])
def test_forms_in_pieces(send: Send, piece: int) -> None:
    content = bytes(random.Random(0).randbytes(300)) + b"\r\n--x1y\r\n--x1y2x"
    files = {"a/one.nii.gz": content, "a/two.nii": b"", "b/one.nii.gz": b"\r\n"}
    assert send(form(*files.items()), piece=piece) == files


def test_fields_are_no_files(send: Send) -> None:
    field = b'--x1y2\r\nContent-Disposition: form-data; name="filename"\r\n\r\nx\r\n'
    nothing = b'--x1y2\r\ncontent-disposition: form-data; name="f"; filename=""\r\n\r\n\r\n'
    assert send(field + nothing + form(("a.nii", b"1"))) == {"a.nii": b"1"}
    with pytest.raises(Refused, match="no file was sent"):
        send(field + nothing + b"--x1y2--\r\n")


@pytest.mark.parametrize(
    ("kind", "body", "status", "line"),
    [
        ("application/json", b"{}", 415, "as multipart/form-data"),
        ("", b"{}", 415, "as multipart/form-data"),
        ("multipart/form-data", form(("a.nii", b"1")), 415, "as multipart/form-data"),
        (FORM, b"{}", 400, "cannot be read as multipart/form-data"),
        (FORM, b"", 400, "broke off"),
        (FORM, form(("a.nii", b"1"))[:-5], 400, "broke off"),
        (FORM, form(("a.nii", b"1" * 2**20)), 413, "too much was sent: .* at most 1 MB"),
        (f"{FORM}{'x' * 9000}", form(("a.nii", b"1")), 400, "cannot be read"),
    ],
)
def test_other_bodies_are_refused(send: Send, kind: str, body: bytes, status: int, line: str) -> None:
    with pytest.raises(Refused, match=line) as refused:
        send(body, kind=kind)
    assert refused.value.status == status


def test_too_much_is_refused_before_and_while_it_comes(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    body = form(("a.nii", b"1" * 500), ("b.nii", b"1" * 500))
    assert len(send(body, most=len(body), length=len(body))) == 2
    for declared in (0, len(body)):
        with pytest.raises(Refused, match="too much was sent"):
            send(body, most=len(body) - 1, length=declared)
    monkeypatch.setattr("coopseg.serve.upload.MOST_FILES", 1)
    with pytest.raises(Refused, match="and 1 files at once"):
        send(body)


def test_zips(send: Send) -> None:
    inside = zipped(("p1/a.nii", b"1"), ("p2/a.nii", b"2"), ("p2/._a.nii", b"3"), ("e/", b""))
    assert send(form(("both.zip", inside))) == {"both/p1/a.nii": b"1", "both/p2/a.nii": b"2"}
    other = zipped(("../../../a.nii", b"3"), ("/a.nii", b"4"), method=zipfile.ZIP_STORED)
    found = send(form(("d/X.ZIP", other), ("X.zip", other), ("a.nii", b"5")))
    assert found == {
        "d/X/a.nii": b"3", "d/X/2_a.nii": b"4", "X/a.nii": b"3", "X/2_a.nii": b"4", "a.nii": b"5",
    }  # fmt: skip


def test_a_link_in_a_zip_is_passed_over(send: Send) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        link = zipfile.ZipInfo("link.nii")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
        packed.writestr("a.nii", b"1")
    assert send(form(("z.zip", content.getvalue()))) == {"z/a.nii": b"1"}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_packing_are_refused(send: Send, method: int) -> None:
    with pytest.raises(Refused, match=r"\(packed by a method other than deflate\); pack it anew"):
        send(form(("z.zip", zipped(("a.nii", b"1"), method=method))))


def test_an_encrypted_zip_is_refused(send: Send) -> None:
    content = bytearray(zipped(("a.nii", b"1" * 100)))
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + place] |= 1
    with pytest.raises(Refused, match=r"\(it is damaged, or encrypted\); pack it anew"):
        send(form(("z.zip", bytes(content))))


def test_bombs_are_refused(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped(("a.nii", bytes(2**20)), ("b.nii", bytes(2**20)))
    assert len(bomb) < 5000
    with pytest.raises(Refused, match=r"the zip file unpacks to too much: .* at most 1 MB") as refused:
        send(form(("z.zip", bomb)))
    assert refused.value.status == 413
    half = zipped(("a.nii", bytes(2**19 + 1)))
    with pytest.raises(Refused, match="unpacks to too much"):
        send(form(("y.zip", half), ("z.zip", half)))
    monkeypatch.setattr("coopseg.serve.upload.MOST_FILES", 3)
    with pytest.raises(Refused, match=r"unpacks to too much: .* and 3 files"):
        send(form(("z.zip", zipped(*((f"{number}.nii", b"") for number in range(4))))))


def test_a_zip_that_lies_of_its_sizes_is_refused(send: Send) -> None:
    """It says that its megabytes are ten bytes."""
    content = bytearray(zipped(("a.nii", bytes(2**21))))
    for signature, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.index(signature) + place, 10)
    with pytest.raises(Refused):
        send(form(("z.zip", bytes(content))))


def test_a_zip_with_an_endless_list_is_refused(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_DIRECTORY > 2**16 + 22, "what zipfile reads of the end"
    monkeypatch.setattr("coopseg.serve.upload.MOST_DIRECTORY", 2**16 + 22)
    packed = zipped(*((f"{'x' * 200}{number}.nii", b"") for number in range(300)))
    with pytest.raises(Refused, match=r"\(its list of files is too long\)"):
        send(form(("z.zip", packed)))


def test_damaged_zips_are_refused_or_read(send: Send) -> None:
    whole = zipped(("a.nii", b"1" * 100), ("p/b.nii", bytes(range(256))))
    draw, said = random.Random(0), list[str]()
    for _ in range(300):
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        try:
            send(form(("z.zip", bytes(content))))
        except Refused as error:
            said.append(str(error))
    for end in (0, 1, 50, len(whole) - 10):
        with pytest.raises(Refused, match="damaged, or encrypted"):
            send(form(("z.zip", whole[:end])))
    assert len(said) > 100
    assert all(len(line.splitlines()) == 1 for line in said)
