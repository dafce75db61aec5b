"""HTTP beside the WebSocket: the public port's few pages, and the operator's port.

aiohttp serves both. On the public port it gets connections that the door has looked at, each through a `guests.Guest`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

import telemetry
from gateway import guests, handshake, limits
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


class Site:
    """aiohttp's server for the public port."""

    def __init__(self, hub: hubs.Hub) -> None:
        self._hub = hub
        application = web.Application(middlewares=[_serving(hub.counters)])
        application.router.add_get("/", _page)
        application.router.add_get(handshake.PATH, self._websocket)
        application.on_response_prepare.append(_anonymous)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)

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
        log: Any = None
        handler = guests.Handler(server, loop=self._hub.loop, access_log=log, keepalive_timeout=KEEPALIVE_S)
        guests.Guest(self._hub, handler, transport, raw, peer, address).data_received(data)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        """The upgrade, on a connection that served requests before; without an upgrade: say what is wanted."""
        guest = guests.guest_of(request)
        if guest is not None and "websocket" in request.headers.get("Upgrade", "").lower():
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


def _serving(counters: telemetry.Telemetry) -> Any:
    """Hold a connection to its requests, and its address to its rate; count the answers."""

    @web.middleware
    async def serve(request: web.Request, handler: _Handler) -> web.StreamResponse:
        guest = guests.guest_of(request)
        if guest is None or guest.asks():
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = error
        else:
            response = web.Response(status=HTTPStatus.TOO_MANY_REQUESTS, text="Too many requests.\n")
            response.force_close()
        if type(response) is guests.Taken:
            return response
        if guest is not None and guest.is_done:
            response.force_close()
        counters.requests[str(response.status)] += 1
        if isinstance(response, web.HTTPException):
            raise response
        return response

    return serve


async def _page(_request: web.Request) -> web.Response:
    return web.Response(text=_PAGE)


async def _anonymous(_request: web.Request, response: web.StreamResponse) -> None:
    """What it is written with is nobody's business."""
    response.headers.pop("Server", None)
