"""HTTP beside the WebSocket: the public port's few pages, and the operator's port.

aiohttp serves both. On the public port it gets connections that the door has looked at, each through a `Guest` that forwards
the transport's calls: so the node knows when they end, and can take one back when a client asks for the upgrade on a
connection that it has used for a request before (aiohttp's own client does).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

import telemetry
from gateway import door, handshake, limits
from gateway import hub as hubs

#: Seconds without a request after which an HTTP connection is closed; longer than a load balancer's usual minute.
KEEPALIVE_S = 75.0
#: Seconds that requests in progress get when the node stops.
SHUTDOWN_S = 5.0

#: What is wrong, one sentence each; nothing: all is well.
Check = Callable[[], Sequence[str]]

_PAGE = (
    "This is a Kith messaging server.\n\n"
    f"Clients connect by WebSocket to {handshake.PATH} with the subprotocol {handshake.SUBPROTOCOL}.\n"
)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Taken(web.StreamResponse):
    """No response: the connection belongs to somebody else by now. aiohttp prepares and ends it, and nothing is written."""

    async def prepare(self, _request: web.BaseRequest) -> None:
        """Nothing."""

    async def write_eof(self, _data: bytes = b"") -> None:
        """Nothing."""


class _Tail:
    """Takes what aiohttp read beyond the head of a request for an upgrade."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """More of it."""
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """No more of it."""


class Guest(asyncio.Protocol):
    """One HTTP connection: the transport talks to this, and this to aiohttp's handler."""

    __slots__ = ("_address", "_handler", "_hub", "_peer", "_raw", "_transport")

    def __init__(
        self,
        hub: hubs.Hub,
        handler: web.RequestHandler,
        transport: asyncio.Transport,
        raw: asyncio.Transport,
        peer: str,
        address: limits.Address | None,
    ) -> None:
        self._hub = hub
        self._handler: web.RequestHandler | None = handler
        self._transport = transport
        self._raw = raw
        self._peer = peer
        self._address = address
        transport.set_protocol(self)
        handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Requests."""
        if self._handler is not None:
            self._handler.data_received(data)

    def eof_received(self) -> None:
        """The client will send no more; the transport closes itself."""
        if self._handler is not None:
            self._handler.eof_received()

    def pause_writing(self) -> None:
        """The transport is full."""
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        """The transport takes bytes again."""
        if self._handler is not None:
            self._handler.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """TCP is over."""
        if self._handler is not None:
            handler, self._handler = self._handler, None
            handler.connection_lost(error)
            self._hub.leave(self._address)

    def upgrade(self, request: web.Request) -> web.StreamResponse:
        """Take the connection back from aiohttp and make it a WebSocket."""
        hub, handler = self._hub, self._handler
        assert handler is not None
        head = b"".join(
            [
                f"GET {request.rel_url.raw_path_qs} HTTP/{request.version.major}.{request.version.minor}\r\n".encode(),
                *(name + b": " + value + b"\r\n" for name, value in request.raw_headers),
                b"\r\n",
            ]
        )
        answer = handshake.answer(head, hub.listener.origins)
        if not answer.opened:
            hub.refused("handshake")
            return web.Response(status=answer.status, text="The WebSocket cannot be opened.\n")
        tail = _Tail()
        handler.set_parser(tail)  # type: ignore[arg-type]  # duck-typed by aiohttp: it calls feed_data and feed_eof alone
        # As if the connection had been lost, but without the transport, so that aiohttp cannot close it.
        self._handler = None
        handler.transport = None
        handler.connection_lost(None)
        door.upgrade(hub, self._transport, self._raw, answer, tail.data, self._peer, self._address, hub.clock())
        self._transport.resume_reading()
        return Taken()


class Site:
    """aiohttp's server for the public port."""

    def __init__(self, hub: hubs.Hub) -> None:
        self._hub = hub
        application = web.Application(middlewares=[_counting(hub.counters)])
        application.router.add_get("/", _page)
        application.router.add_get(handshake.PATH, self._websocket)
        application.on_response_prepare.append(_anonymous)
        self._runner = web.AppRunner(application, access_log=None, keepalive_timeout=KEEPALIVE_S, shutdown_timeout=SHUTDOWN_S)

    async def start(self) -> None:
        """Be ready to take connections."""
        await self._runner.setup()

    async def stop(self) -> None:
        """Let requests in progress end, then close every connection."""
        await self._runner.cleanup()

    def take(
        self,
        transport: asyncio.Transport,
        raw: asyncio.Transport,
        data: bytes,
        peer: str,
        address: limits.Address | None,
    ) -> None:
        """A connection whose first bytes are `data`."""
        server = self._runner.server
        assert server is not None
        Guest(self._hub, server(), transport, raw, peer, address).data_received(data)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        """The upgrade, on a connection that served requests before; without an upgrade: say what is wanted."""
        guest = request.transport.get_protocol() if request.transport is not None else None
        if isinstance(guest, Guest) and "websocket" in request.headers.get("Upgrade", "").lower():
            return guest.upgrade(request)
        return web.Response(
            status=HTTPStatus.UPGRADE_REQUIRED, headers={"Upgrade": "websocket"}, text="This is for WebSockets.\n"
        )


class Internal:
    """The operator's port: /metrics, /healthz (is it working?), /readyz (should it get new connections?)."""

    def __init__(self, host: str, port: int, counters: telemetry.Telemetry, is_healthy: Check, is_ready: Check) -> None:
        async def metrics(_request: web.Request) -> web.Response:
            return web.Response(body=counters.exposition(), headers={"Content-Type": telemetry.CONTENT_TYPE})

        application = web.Application()
        application.router.add_get("/metrics", metrics)
        application.router.add_get("/healthz", _checking(is_healthy))
        application.router.add_get("/readyz", _checking(is_ready))
        application.on_response_prepare.append(_anonymous)
        self._host = host
        self._port = port
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)

    async def start(self) -> None:
        """Listen. OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens."""
        return [(str(address[0]), int(address[1])) for address in self._runner.addresses]


def _checking(check: Check) -> _Handler:
    async def answer(_request: web.Request) -> web.Response:
        problems = check()
        if problems:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="".join(f"{each}\n" for each in problems))
        return web.Response(text="ok\n")

    return answer


def _counting(counters: telemetry.Telemetry) -> Any:
    @web.middleware
    async def count(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            counters.requests[str(error.status)] += 1
            raise
        if type(response) is not Taken:
            counters.requests[str(response.status)] += 1
        return response

    return count


async def _page(_request: web.Request) -> web.Response:
    return web.Response(text=_PAGE)


async def _anonymous(_request: web.Request, response: web.StreamResponse) -> None:
    """What it is written with is nobody's business."""
    response.headers.pop("Server", None)
