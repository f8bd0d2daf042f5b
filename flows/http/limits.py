"""What the server accepts: who may ask, how much at once, and how long an upload may take."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LARGEST_AT_ONCE = 4  # so many requests of the largest size are held at once, or more smaller ones
BUSY = "the server is busy with other requests: try again in a second"


@dataclass(frozen=True)
class Limits:
    """Bounds of a request (``max_bytes`` of it, ``max_seconds`` of each recording, ``upload_s``) and of their number."""

    max_bytes: int = 50_000_000
    max_seconds: float = 300
    max_requests: int = 32  # that are uploading, waiting or being computed
    upload_s: float = 30


def refusal(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """A response of one sentence."""
    return JSONResponse({"error": sentence}, status, headers)


class Gate:
    """ASGI middleware that holds `Limits`; the application behind it receives the body of a POST as one message.

    ``loopback_only``: refuse requests to other names of this machine, as a page that rebinds its own name would send.
    """

    def __init__(self, app: ASGIApp, limits: Limits, loopback_only: bool) -> None:
        self.app, self.limits, self.loopback_only = app, limits, loopback_only
        self.requests = 0
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if sentence := self._foreign(headers):
            await refusal(403, sentence)(scope, receive, send)
        elif scope["method"] != "POST":
            await self.app(scope, receive, send)
        elif self.requests >= self.limits.max_requests:
            await self._read(headers, receive, 0)
            await refusal(503, BUSY, {"Retry-After": "1"})(scope, receive, send)
        else:
            self.requests += 1
            try:
                await self._admit(headers, scope, receive, send)
            except asyncio.CancelledError:  # by the server, which waits for no longer
                sentence = "the server is stopping: send it again when the server runs again"
                await refusal(503, sentence, {"Retry-After": "10"})(scope, receive, send)
            finally:
                self.requests -= 1

    async def _admit(self, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._read(headers, receive, self.limits.max_bytes)
        if isinstance(body, JSONResponse):
            await body(scope, receive, send)
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        size = len(body)
        del body  # the application frees it when it has the recordings

        async def whole() -> Message:
            return messages.pop() if messages else await receive()

        self.held_bytes += size
        try:
            await self.app(scope, whole, send)
        finally:
            self.held_bytes -= size

    async def _read(self, headers: Headers, receive: Receive, max_bytes: int) -> bytes | JSONResponse:
        """The body, or why it is refused. One that is too large, or too much at once, is read to its end, and dropped.

        A client that still sends would otherwise see a broken connection and not the response.
        """
        too_large = refusal(413, f"more than {max_bytes / 1e6:g} MB: send a shorter recording, or fewer at once")
        declared = headers.get("content-length", "0")
        if "expect" in headers and int(declared) > max_bytes:  # it waits before it sends
            return too_large
        chunks: list[bytes] = []
        size, more, is_too_much = 0, True, False

        def drop() -> None:
            self.held_bytes -= sum(map(len, chunks))
            chunks.clear()

        try:
            async with asyncio.timeout(self.limits.upload_s):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return refusal(400, "the upload broke off: send it again")
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    size += len(chunk)
                    is_too_much |= self.held_bytes + len(chunk) > LARGEST_AT_ONCE * self.limits.max_bytes
                    if size > max_bytes or is_too_much:
                        drop()
                    else:
                        self.held_bytes += len(chunk)
                        chunks.append(chunk)
            if size > max_bytes:
                return too_large
            return refusal(503, BUSY, {"Retry-After": "1"}) if is_too_much else b"".join(chunks)
        except TimeoutError:
            sentence = f"the upload took longer than {self.limits.upload_s:g} s: send a shorter recording"
            return too_large if size > max_bytes else refusal(408, sentence, {"Connection": "close"})
        finally:
            drop()

    def _foreign(self, headers: Headers) -> str:
        """Why a request is refused for where it is sent to or comes from; empty for others."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.loopback_only and _name(host) not in LOOPBACK:
            return "this server answers at localhost only: open it there, or start it with --host"
        if origin is not None and origin.partition("://")[2] != host:
            return "pages of other sites may not use this server"
        return ""


def _name(host: str) -> str | None:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
