"""Runs the service from the check of the model to the removal of the last file."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from coopseg.errors import CoopsegError
from coopseg.serve.worker import How, Worker

if TYPE_CHECKING:
    import uvicorn

    from coopseg.serve.guard import Guard

INSTALL = 'pip install "coopseg[serve]"'
ENDING = 3  # seconds in which open connections may end


def serve(
    how: How,
    *,
    host: str,
    port: int,
    most_mb: int,
    keep_minutes: float,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    """Serve until a signal ends it; what was sent and made is then removed.

    The model is loaded and checked before the port is opened. port: 0 for one that is free. say: called with
    the address. warn: called with a line if others than this machine can reach it.
    Raises CoopsegError for a model that cannot be used and an address that cannot be opened.
    """
    try:
        import uvicorn

        from coopseg.serve.app import make_app
        from coopseg.serve.guard import is_local
        from coopseg.serve.jobs import Jobs
    except ModuleNotFoundError as error:
        raise CoopsegError(f"serving needs {error.name}; {INSTALL}") from None

    worker = Worker(how)
    try:
        ready = worker.start()
        with (
            listen(host, port) as listening,
            tempfile.TemporaryDirectory(prefix="coopseg-", ignore_cleanup_errors=True) as folder,
        ):
            port = listening.getsockname()[1]
            jobs = Jobs(Path(folder), worker, keep=60 * keep_minutes)
            try:
                app = make_app(jobs, ready, most_bytes=most_mb * 2**20, host=host, port=port)
                if not is_local(host):
                    warn(
                        f"whoever reaches port {port} of this machine can use the service: it asks for no "
                        "password and does not encrypt; leave out --host, or put a server before it that does"
                    )
                shown = f"[{host}]" if ":" in host else host
                say(f"open http://{shown}:{port} (Ctrl-C ends the service and removes what was sent)")
                uvicorn.Server(configure(app)).run(sockets=[listening])
            finally:
                jobs.close()
    finally:
        worker.stop(close=True)


def configure(app: Guard) -> uvicorn.Config:
    """Returns how the server runs: it logs no request, believes no proxy, and ends soon when it should."""
    import uvicorn

    return uvicorn.Config(
        app, lifespan="off", ws="none", log_config=None, log_level="critical", access_log=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=ENDING,
    )  # fmt: skip


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens. Raises CoopsegError if there can be none."""
    try:
        (family, *_), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such address"
        raise CoopsegError(
            f"{host}:{port} cannot be opened ({reason}); choose another --port, or 0 for any that is free"
        ) from None
