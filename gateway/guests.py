"""One HTTP connection of the public port, between the transport and aiohttp.

It forwards the transport's calls: so the node knows when a connection ends, can hold it to its limits, and can take it back
when a client asks for the upgrade on a connection that it has used for a request before (aiohttp's own client does).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

import telemetry
from gateway import door, handshake, limits, toll, turns
from gateway import hub as hubs

if TYPE_CHECKING:
    from gateway.wheel import Bucket

#: Requests on one connection; the answer to the last one closes it. A page, the upgrade, a few checks of a balancer's. Sent all
#: in one go they take a millisecond.
MAX_REQUESTS = 8
#: Seconds that an HTTP connection lives in any case: so long may one hold it that sends a body without end, or reads nothing.
LIFETIME_S = 90.0


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


class Handler(web.RequestHandler):
    """aiohttp's, but for what it says of what it cannot read."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer as the door does, and close. Anybody can send what is no HTTP, so it is nothing for the log; what fails here
        is. The library's own answer would say what the node is written with."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            hubs.log.error("request_failed", path=request.path, reason=message, exc_info=exc)
        transport = self.transport
        if transport is not None:
            guest = transport.get_protocol()
            if isinstance(guest, Guest):
                guest.counters.requests[str(int(status))] += 1
            transport.write(handshake.refusal(HTTPStatus(status), "The request cannot be served.").wire)
        return Taken()


class Guest(asyncio.Protocol):
    """One HTTP connection: the transport talks to this, and this to aiohttp's handler.

    What comes is handed on in slices, a turn each (`gateway.turns`), as it is with WebSockets."""

    __slots__ = ("_address", "_backlog", "_handler", "_hub", "_peer", "_raw", "_requests", "_transport", "slot")

    def __init__(
        self,
        hub: hubs.Hub,
        handler: web.RequestHandler,
        transport: asyncio.Transport,
        raw: asyncio.Transport,
        peer: str,
        address: limits.Address | None,
    ) -> None:
        self.slot: Bucket | None = None
        self._hub = hub
        #: None: aiohttp has nothing to do with it any more.
        self._handler: web.RequestHandler | None = handler
        self._transport = transport
        self._raw = raw
        self._peer = peer
        self._address = address
        self._requests = 0
        self._backlog: turns.Backlog | None = None
        hub.guests.add(self)
        hub.wheel.put(self, hub.clock() + LIFETIME_S)
        transport.set_protocol(self)
        handler.connection_made(transport)

    @property
    def counters(self) -> telemetry.Telemetry:
        """Where requests are counted."""
        return self._hub.counters

    # --- from the transport -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Requests."""
        if self._backlog is not None:
            self._backlog.add(data)
        elif len(data) <= turns.SLICE:
            self._feed(data)
        elif self._handler is not None:
            self._backlog = turns.Backlog(data, [])
            self._transport.pause_reading()
            self._hub.turns.add(self)

    def turn(self) -> None:
        """Hand on one slice of what waits."""
        backlog = self._backlog
        if backlog is None:
            return
        self._feed(backlog.slice())
        if self._handler is None:
            return
        if backlog:
            self._hub.turns.add(self)
        else:
            self._backlog = None
            self._transport.resume_reading()

    def resume(self) -> None:
        """It never waits for a time."""

    def _feed(self, data: bytes) -> None:
        if self._handler is not None and self._requests < MAX_REQUESTS:
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
        handler = self._leave()
        if handler is not None:
            handler.connection_lost(error)
            self._hub.leave(self._address)

    def _leave(self) -> web.RequestHandler | None:
        """It is no guest any more; the handler that it had."""
        handler, self._handler = self._handler, None
        self._backlog = self.slot = None
        self._hub.guests.discard(self)
        return handler

    # --- from aiohttp -------------------------------------------------------------------------------------------------

    def asks(self) -> bool:
        """A request came. False: there are too many from this address."""
        self._requests += 1
        hub = self._hub
        if self._address is None or toll.charge(self._address, hub.tariff, hub.clock()):
            return True
        hub.counters.limited[toll.ADDRESS] += 1
        return False

    @property
    def is_done(self) -> bool:
        """Whether this was the last request."""
        return self._requests >= MAX_REQUESTS

    def upgrade(self, request: web.Request) -> web.StreamResponse:
        """Take the connection back from aiohttp and make it a WebSocket."""
        hub = self._hub
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
        if not self._comes_from(door.forwarded(hub, self._raw, head)):
            hub.refused("address")
            headers = {"Retry-After": str(door.RETRY_S)}
            text = "Too many connections from this address.\n"
            return web.Response(status=HTTPStatus.TOO_MANY_REQUESTS, headers=headers, text=text)
        unread = self._backlog.rest() if self._backlog is not None else b""
        handler = self._leave()
        assert handler is not None
        tail = _Tail()
        handler.set_parser(tail)  # type: ignore[arg-type]  # duck-typed by aiohttp: it calls feed_data and feed_eof alone
        # As if the connection had been lost, but without the transport, so that aiohttp cannot close it.
        handler.transport = None
        handler.connection_lost(None)
        self._transport.resume_reading()  # before the WebSocket may have a reason of its own not to
        door.upgrade(hub, self._transport, self._raw, answer, tail.data + unread, self._peer, self._address, hub.clock())
        return Taken()

    def _comes_from(self, client: str | None) -> bool:
        """A proxy may use one connection for one client after the other: it counts for the one who becomes a WebSocket. False:
        there are too many from there."""
        if client is None or client == self._peer:
            return True
        hub = self._hub
        now = hub.clock()
        address = hub.addresses.arrive(client, now)
        if address is None:
            return False
        if self._address is not None:
            hub.addresses.leave(self._address, now)
        self._peer, self._address = client, address
        return True

    # --- from the wheel, and from the listener ------------------------------------------------------------------------

    def due(self, _now: float) -> None:
        """It has lived long enough."""
        self.abort()

    def pause(self) -> None:
        """The node is about to stop: read nothing more."""
        self._backlog = None
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def abort(self) -> None:
        """Cut TCP."""
        self._transport.abort()


def guest_of(request: web.Request) -> Guest | None:
    """The connection that a request came by, where the public port has it."""
    guest = request.transport.get_protocol() if request.transport is not None else None
    return guest if isinstance(guest, Guest) else None
