"""Stands before every request: who asks under another name, or from another site's page, is refused."""

from __future__ import annotations

import ipaddress
import logging
import platform
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)
SAFE = ("GET", "HEAD")  # methods that change nothing
MARK = "x-coopseg"  # a header that no page of another site can send unasked
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",  # an address holds the id of a job
    "x-content-type-options": "nosniff",
}


def address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Returns the address that a host is, None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_local(host: str) -> bool:
    """Tells whether this machine alone can reach what listens there."""
    own = address(host)
    return host.lower() == "localhost" or (own is not None and own.is_loopback)


class Guard:
    """Wraps an application: checks who asks, sets headers, and logs no traceback.

    host, port: where the service listens. policy: the Content-Security-Policy of all pages.
    """

    def __init__(self, app: ASGIApp, *, host: str, port: int, policy: str) -> None:
        self.app, self.host, self.port = app, host, port
        self.headers = HEADERS | {"content-security-policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        assert scope["type"] == "http"  # the server is told to do nothing else

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        refused = self.refuse(scope["method"], Headers(scope=scope))
        app = PlainTextResponse(refused, 403) if refused else self.app
        try:
            await app(scope, receive, send_guarded)
        except Exception as error:  # its message and the address may name a patient
            log.error("a request failed: %s", type(error).__name__)

    def refuse(self, method: str, headers: Mapping[str, str]) -> str:
        """Returns why a request is refused, "" if it is not.

        A page of another site can have a name of its own lead to this machine (DNS rebinding), but not ask
        under another name than that; and it can send what changes something here, but not with the header
        X-Coopseg, nor without saying whose page it is.
        """
        host = headers.get("host", "")
        if not self._is_ours(host):
            return "this service is not called by this name; open the address that it printed"
        if method not in SAFE and MARK not in headers:
            return f"a request that changes something needs the header {MARK}: 1"
        if method not in SAFE and headers.get("origin", f"http://{host}") != f"http://{host}":
            return "pages of other sites cannot use this service"
        return ""

    def _is_ours(self, host: str) -> bool:
        try:
            asked = urlsplit(f"http://{host}")
            name, port = asked.hostname or "", asked.port or 80
        except ValueError:
            return False
        if asked.netloc != host or "@" in host:
            return False
        own = address(self.host)
        if own is not None and own.is_unspecified:  # any address of this machine, perhaps by another port
            return name in ("localhost", platform.node().lower()) or address(name) is not None
        also = "localhost" if is_local(self.host) else ""
        return port == self.port and name in (self.host.lower(), also) and name != ""
