"""Who is refused, and what every answer says to a browser."""

from __future__ import annotations

import platform

import pytest

pytest.importorskip("starlette")

from coopseg.serve.guard import Guard


def guard(host: str, port: int = 8000) -> Guard:
    async def app(*_: object) -> None: ...

    return Guard(app, host=host, port=port, policy="")


OURS = [
    ("127.0.0.1", 8000, "127.0.0.1:8000"),
    ("127.0.0.1", 8000, "localhost:8000"),
    ("127.0.0.1", 8000, "LOCALHOST:8000"),
    ("127.0.0.1", 80, "127.0.0.1"),
    ("::1", 8000, "[::1]:8000"),
    ("::1", 8000, "localhost:8000"),
    ("10.1.2.3", 8000, "10.1.2.3:8000"),
    ("Scanner.hospital", 8000, "scanner.hospital:8000"),
    ("localhost", 8000, "localhost:8000"),
    ("0.0.0.0", 8000, "10.1.2.3:9000"),  # a container whose port has another number outside
    ("0.0.0.0", 8000, "localhost:8000"),
    ("0.0.0.0", 8000, f"{platform.node()}:8000"),
    ("::", 8000, "[fe80::1]:8000"),
]
OTHERS = [
    ("127.0.0.1", 8000, host)
    for host in (
        "", "evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:8001", "127.0.0.1:x",
        "127.0.0.2:8000", "127.0.0.1:8000@evil.example", "evil.example/127.0.0.1:8000",
        "127.0.0.1.evil.example:8000", "[::1", "127.0.0.1:99999",
        "user@127.0.0.1:8000", "127.0.0.1:8000, evil.example",
    )
] + [
    ("0.0.0.0", 8000, "evil.example:8000"),
    ("10.1.2.3", 8000, "localhost:8000"),
    ("10.1.2.3", 8000, "evil.example:8000"),
]  # fmt: skip


@pytest.mark.parametrize(("bound", "port", "host"), OURS)
def test_our_names(bound: str, port: int, host: str) -> None:
    assert guard(bound, port).refuse("GET", {"host": host}) == ""


@pytest.mark.parametrize(("bound", "port", "host"), OTHERS)
def test_other_names_are_refused(bound: str, port: int, host: str) -> None:
    assert "not called by this name" in guard(bound, port).refuse("GET", {"host": host})


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"])
def test_other_sites_are_refused(method: str) -> None:
    own = {"host": "localhost:8000", "x-coopseg": "1"}
    refuse = guard("127.0.0.1").refuse
    assert refuse(method, own) == ""
    assert refuse(method, own | {"origin": "http://localhost:8000"}) == ""
    assert "needs the header x-coopseg: 1" in refuse(method, {"host": "localhost:8000"})
    for origin in ("http://evil.example", "null", "https://localhost:8000", "http://127.0.0.1:8000", ""):
        assert "other sites" in refuse(method, own | {"origin": origin})
