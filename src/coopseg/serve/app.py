"""Answers requests: the page, what is sent, how jobs stand, and what they made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from coopseg import __version__
from coopseg.errors import CoopsegError
from coopseg.pages.html import environment, script_hash, source, style
from coopseg.pages.write import SCRIPT as VIEWER
from coopseg.serve.guard import MARK, Guard
from coopseg.serve.jobs import GONE, Job, Jobs
from coopseg.serve.places import Refused
from coopseg.serve.upload import BROKEN_OFF, MOST_FILES, Upload
from coopseg.serve.worker import Ready
from coopseg.text import counted

PACKAGE = "coopseg.serve"  # which holds the templates
PAGE, STYLE, SCRIPT = "serve.html", "serve.css", "serve.js"
PATIENCE = 60.0  # seconds in which something has to come while files are sent
LINGER = 10.0  # seconds in which the rest of a refused request is read: browsers listen only after that


def make_app(jobs: Jobs, ready: Ready, *, most_bytes: int, host: str, port: int) -> Guard:
    """Returns the application. ready: what is said of the model. host, port: where it will be asked for."""
    script = source(SCRIPT, PACKAGE)
    page = (
        environment(PACKAGE)
        .get_template(PAGE)
        .render(
            made=f"coopseg {__version__}",
            structures=", ".join(ready.structures),
            device=ready.device,
            kept=counted(round(jobs.keep / 60), "minute"),
            limits={"bytes": most_bytes, "files": MOST_FILES, "mark": MARK},
            most=most_bytes // 2**20,
            style=style() + source(STYLE, PACKAGE),
            script=script,
        )
    )
    scripts = " ".join(f"'{script_hash(each)}'" for each in (script, source(VIEWER)))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    service = _Service(jobs, page, most_bytes)
    app = Starlette(
        routes=[
            Route("/", service.home),
            Route("/jobs", service.send, methods=["POST"]),
            Route("/jobs/{id}", service.describe),
            Route("/jobs/{id}", service.remove, methods=["DELETE"]),
            Route("/jobs/{id}/{file}", service.download),
            Route("/jobs/{id}/pages/{name:path}", service.page),
        ],
        exception_handlers={CoopsegError: _refuse},  # type: ignore[dict-item]
    )
    return Guard(app, host=host, port=port, policy=policy)


class _Service:
    """Holds what the answers need."""

    def __init__(self, jobs: Jobs, page: str, most_bytes: int) -> None:
        self.jobs, self.start, self.most_bytes = jobs, page, most_bytes

    async def home(self, request: Request) -> Response:
        return HTMLResponse(self.start)

    async def send(self, request: Request) -> Response:
        pieces = request.stream()
        try:
            job = await self._receive(request, pieces)
        except Refused:
            with suppress(ClientDisconnect, TimeoutError):
                async with asyncio.timeout(LINGER):
                    async for _ in pieces:
                        pass
            raise
        return JSONResponse({"id": job.id}, 201)

    async def _receive(self, request: Request, pieces: AsyncIterator[bytes]) -> Job:
        """Returns a job with what was sent, which waits for its turn; none is left if that fails."""
        job = self.jobs.begin()
        try:
            await self._store(request, pieces, job.scans)
            self.jobs.enqueue(job)
        except BaseException:
            await asyncio.to_thread(self.jobs.remove, job)
            raise
        return job

    async def _store(self, request: Request, pieces: AsyncIterator[bytes], folder: Path) -> None:
        length = int(request.headers.get("content-length", 0))
        upload = Upload(request.headers.get("content-type", ""), length, folder, most_bytes=self.most_bytes)
        try:
            while True:
                async with asyncio.timeout(PATIENCE):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                await asyncio.to_thread(upload.take, piece)
            await asyncio.to_thread(upload.finish)
        except ClientDisconnect:
            raise Refused(400, BROKEN_OFF) from None
        except TimeoutError:
            raise Refused(408, f"nothing came for {PATIENCE:.0f} seconds; send it again") from None
        except OSError as error:
            raise Refused(507, f"the service cannot store it ({error.strerror}); tell who runs it") from None
        finally:
            upload.close()

    async def describe(self, request: Request) -> Response:
        job = self._job(request)
        return JSONResponse(await asyncio.to_thread(self.jobs.describe, job))

    async def remove(self, request: Request) -> Response:
        await asyncio.to_thread(self.jobs.remove, self._job(request))
        return Response(status_code=204)

    async def download(self, request: Request) -> Response:
        files = await asyncio.to_thread(lambda: self._job(request).files)
        if request.path_params["file"] not in files:
            raise Refused(404, "this job has no such file, or not yet")
        path = files[request.path_params["file"]]
        return FileResponse(path, filename=path.name)

    async def page(self, request: Request) -> Response:
        pages = await asyncio.to_thread(lambda: self._job(request).pages)
        if request.path_params["name"] not in pages:  # the name is looked up, and never a path
            raise Refused(404, GONE)
        return FileResponse(pages[request.path_params["name"]], media_type="text/html")

    def _job(self, request: Request) -> Job:
        return self.jobs.find(request.path_params["id"])


async def _refuse(request: Request, error: CoopsegError) -> Response:
    return PlainTextResponse(str(error), error.status if isinstance(error, Refused) else 400)
