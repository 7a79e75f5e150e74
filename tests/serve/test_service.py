"""The service over HTTP: what is sent, how it stands, what comes back, what is refused."""

from __future__ import annotations

import io
import logging
import re
import socket
import zipfile
from urllib.parse import quote

import pytest
from asking import FORM, MARKED, Asking, Toy, as_form, eventually


def begun(service: Asking, length: str) -> socket.socket:
    """A connection on which the header of a request to send scans has been written."""
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=30)
    lines = "POST /jobs HTTP/1.1", f"Host: localhost:{service.port}", "X-Coopseg: 1", f"Content-Type: {FORM}"
    connection.sendall("\r\n".join((*lines, length, "", "")).encode())
    return connection


def test_from_the_page_to_the_label_maps(service: Asking, toy: Toy) -> None:
    page = service.ask("GET", "/")
    assert page.status == 200
    assert "Research software, not a medical device" in page.text
    assert "RV, LV" in page.text
    sent = service.send(("study/p1.nii.gz", b"one"), ("study/p2.nii.gz", b"two"))
    assert sent.status == 201
    job = sent.json["id"]
    said = service.wait(job, "done")
    assert (said["segmented"], said["total"], said["page"], said["patients"]) == (2, 2, "index.html", 2)
    assert toy.seen == [["study/p1.nii.gz", "study/p2.nii.gz"]]
    assert service.ask("GET", f"/jobs/{job}/pages/p1.html").text == "<title>a page</title>"
    assert service.ask("GET", f"/jobs/{job}/pages/index.html").status == 200
    labels = service.ask("GET", f"/jobs/{job}/labels")
    assert labels.headers["content-disposition"] == 'attachment; filename="label-maps.zip"'
    with zipfile.ZipFile(io.BytesIO(labels.body)) as packed:
        assert packed.namelist() == ["labels.json", "measures.csv", "p1.nii.gz", "p2.nii.gz"]
        assert packed.read("p2.nii.gz") == b"labels of two"
    measures = service.ask("GET", f"/jobs/{job}/measures")
    assert measures.headers["content-disposition"] == 'attachment; filename="measures.csv"'
    assert (measures.headers["content-type"], measures.text) == ("text/csv; charset=utf-8", "{}")
    assert service.ask("DELETE", f"/jobs/{job}", headers=MARKED).status == 204
    for path in ("", "/labels", "/measures", "/pages/p1.html"):
        assert service.ask("GET", f"/jobs/{job}{path}").status == 404


def test_what_was_dicom_comes_back_as_dicom(service: Asking) -> None:
    plain, study = (service.send((name, b"1")).json["id"] for name in ("plain.nii", "odd_study.nii"))
    said = service.wait(plain, "done")
    assert (said["files"], said["warnings"]) == (["labels", "measures"], [])
    for name in ("dicom", "none", "scans", ".."):
        assert service.ask("GET", f"/jobs/{plain}/{name}").status == 404
    said = service.wait(study, "done")
    assert (said["files"], said["warnings"]) == (
        ["labels", "measures", "dicom"], ["odd_study.nii: LV in 2 pieces"],
    )  # fmt: skip
    objects = service.ask("GET", f"/jobs/{study}/dicom")
    assert objects.headers["content-disposition"] == 'attachment; filename="dicom.zip"'
    with zipfile.ZipFile(io.BytesIO(objects.body)) as packed:
        assert packed.namelist() == ["dicom/odd_study.nii_seg.dcm"]


def test_every_answer_has_the_headers(service: Asking) -> None:
    job = service.send(("a.nii", b"1")).json["id"]
    service.wait(job, "done")
    paths = "/", "/none", "/jobs/none", f"/jobs/{job}", f"/jobs/{job}/labels", f"/jobs/{job}/pages/a.html"
    for path in paths:
        headers = service.ask("GET", path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in headers
        assert "access-control-allow-origin" not in headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert "http:" not in policy.replace("'self'", "")
        assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")
    assert service.ask("GET", "/", headers={"Host": "evil.example"}).headers["cache-control"] == "no-store"
    page = service.ask("GET", "/").text
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)


def test_other_names_and_other_sites(service: Asking, toy: Toy) -> None:
    body = as_form(("a.nii", b"1"))
    for headers in (
        {"Content-Type": FORM},
        {"Content-Type": FORM, "Origin": f"http://127.0.0.1:{service.port}"},
        {"Content-Type": FORM, "Origin": "http://evil.example"} | MARKED,
        {"Content-Type": FORM, "Host": f"evil.example:{service.port}"} | MARKED,
    ):
        answer = service.ask("POST", "/jobs", body, headers)
        assert answer.status == 403
        assert len(answer.text.splitlines()) == 1
    assert service.ask("OPTIONS", "/jobs", headers={"Origin": "http://evil.example"}).status == 403
    assert toy.seen == []


def test_no_name_leads_out_of_the_folder(service: Asking, toy: Toy) -> None:
    names = ("../../../x.nii", "/etc/x.nii", "a\0b.nii", "x" * 3000 + ".nii", "心臓.nii", "..\\..\\y.nii")
    sent = service.send(*((name, b"1") for name in names))
    job = sent.json["id"]
    assert service.wait(job, "done")["total"] == len(names)
    (seen,) = toy.seen
    assert set(seen) == {"x.nii", "etc/x.nii", "a_b.nii", "x" * 96 + ".nii", "心臓.nii", "y.nii"}
    for name in (
        "../label-maps.zip",
        "..%2flabel-maps.zip",
        "%2e%2e/scans",
        "/etc/passwd",
        "labels.json",
        "%00",
    ):
        assert service.ask("GET", f"/jobs/{job}/pages/{name}").status == 404
    assert service.ask("GET", f"/jobs/{job}/pages/{quote('心臓.html')}").status == 200


def test_a_damaged_scan_is_one_line(service: Asking) -> None:
    job = service.send(("damaged.nii.gz", b"1")).json["id"]
    said = service.wait(job, "failed")
    assert said["line"] == "damaged.nii.gz: damaged gzip file; copy it again"
    assert service.ask("GET", f"/jobs/{job}/labels").status == 404


def test_too_much_is_refused(service: Asking, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coopseg.serve.app.LINGER", 0.5)
    most = 2**20
    answer = service.ask(
        "POST", "/jobs", b"", {"Content-Type": FORM, "Content-Length": str(most + 1)} | MARKED
    )
    assert answer.status == 413
    assert answer.text == (
        "too much was sent: the service takes at most 1 MB and 20000 files at once; send fewer scans at once"
    )
    with begun(service, "Transfer-Encoding: chunked") as raw:  # without a declared length
        body = as_form(("a.nii", bytes(most)))
        raw.sendall(f"{len(body):x}\r\n".encode() + body)
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")
    assert toy.seen == []


def test_what_breaks_off_leaves_nothing(service: Asking, toy: Toy) -> None:
    for _ in range(25):  # more than may wait
        with begun(service, "Content-Length: 9999") as raw:
            raw.sendall(as_form(("a.nii", b"1"))[:-9])
    eventually(lambda: service.send(("b.nii", b"1")).status == 201)
    eventually(lambda: toy.seen == [["b.nii"]])


def test_silence_ends_a_transfer(service: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coopseg.serve.app.PATIENCE", 0.1)
    monkeypatch.setattr("coopseg.serve.app.LINGER", 0.1)
    answer = service.ask("POST", "/jobs", b"", {"Content-Type": FORM, "Content-Length": "99"} | MARKED)
    assert answer.status == 408


def test_a_full_disk_is_one_line(service: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/tmp/coopseg-1/smith.nii")

    monkeypatch.setattr("coopseg.serve.upload.Upload.take", full)
    answer = service.send(("smith.nii", b"1"))
    assert (answer.status, answer.text) == (
        507, "the service cannot store it (No space left on device); tell who runs it",
    )  # fmt: skip


def test_too_many_jobs_are_refused(service: Asking, toy: Toy) -> None:
    toy.gate.clear()
    answers = [service.send(("a.nii", b"1")) for _ in range(22)]
    assert [answer.status for answer in answers][-1] == 503
    assert [answer.status for answer in answers][:20] == [201] * 20
    toy.gate.set()


def test_an_error_in_the_program_shows_nothing_of_a_patient(
    service: Asking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("smith")

    monkeypatch.setattr("coopseg.serve.jobs.Jobs.find", broken)
    answer = service.ask("GET", "/jobs/1/pages/smith.html")
    assert (answer.status, answer.text) == (500, "Internal Server Error")
    eventually(lambda: "a request failed: KeyError" in caplog.text)
    assert "smith" not in caplog.text


def test_nothing_is_logged(service: Asking, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        job = service.send(("smith.nii", b"1")).json["id"]
        service.wait(job, "done")
        service.ask("GET", f"/jobs/{job}/pages/smith.html")
    assert "smith" not in caplog.text
