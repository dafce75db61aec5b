"""A connection from its acceptance until it is known what it is: PROXY header, TLS, the head of the first request.

Each stage ends by putting the next one in its place, with what was read too far. Everything up to here is pending: it has
a deadline, and there is a bound on how many.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from gateway import handshake, limits, proxy, websocket
from gateway import hub as hubs

if TYPE_CHECKING:
    from gateway.wheel import Bucket

#: Seconds that TLS gets to say goodbye when a connection closes.
TLS_SHUTDOWN_S = 5.0
#: Seconds after which one may come back who connected too often.
_RETRY_S = 10


class Door(asyncio.Protocol):
    """One newcomer."""

    __slots__ = ("_address", "_began", "_head", "_hub", "_is_over", "_peer", "_raw", "_task", "_transport", "slot")

    def __init__(self, hub: hubs.Hub) -> None:
        self.slot: Bucket | None = None
        self._hub = hub
        self._began = hub.clock()
        self._head = b""
        self._peer = ""
        self._address: limits.Address | None = None
        #: The TCP transport, and what requests are read from: the same, or TLS on it once that stands.
        self._raw: asyncio.Transport | None = None
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_over = False

    # --- who it is ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP was accepted."""
        # uvloop's transports are no subclasses of asyncio.Transport; they have its methods.
        transport = cast("asyncio.Transport", transport)
        hub = self._hub
        self._raw = transport
        if not hub.enter(self):
            transport.abort()
            return
        hub.wheel.put(self, self._began + hub.limits.hello_timeout_s)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if not hub.proxies or not proxy.is_within(self._peer, hub.proxies):
            if self._comes_from(self._peer):
                self._secure()
        elif hub.proxy_protocol:
            transport.set_protocol(proxy.HeaderReader(transport, self._introduced, self.connection_lost))
        else:
            self._secure()  # X-Forwarded-For stands in the head

    def _introduced(self, client: str | None) -> None:
        """The PROXY header has been read."""
        assert self._raw is not None
        self._raw.set_protocol(self)
        if self._comes_from(client or self._peer):
            self._secure()

    def _comes_from(self, host: str) -> bool:
        """Its address is known now. False: too many connections or too often, and it was cut off."""
        self._peer = host
        self._address = self._hub.addresses.arrive(host, self._hub.clock())
        if self._address is None:
            self._hub.refused("address")
            assert self._raw is not None
            self._raw.abort()
        return self._address is not None

    # --- TLS ----------------------------------------------------------------------------------------------------------

    def _secure(self) -> None:
        hub = self._hub
        assert self._raw is not None
        if hub.certificate is None:
            self._transport = self._raw
        else:
            self._raw.pause_reading()
            self._task = hub.loop.create_task(self._start_tls())

    async def _start_tls(self) -> None:
        hub, raw = self._hub, self._raw
        assert raw is not None
        assert hub.certificate is not None
        if raw.is_closing():
            return  # given up before it began; the transport reports the end itself
        standing = asyncio.ensure_future(
            hub.loop.start_tls(
                raw,
                self,
                hub.certificate.context,
                server_side=True,
                ssl_handshake_timeout=hub.limits.hello_timeout_s,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S,
            )
        )
        try:
            await asyncio.sleep(0)  # the protocol of TLS is in its place now, and connected in the loop's next turn
            hub.loop.call_soon(self._hand_over, raw)
            self._transport = await standing
        except (OSError, asyncio.CancelledError) as error:
            standing.cancel()
            hub.refused("tls")
            raw.abort()
            self.connection_lost(error if isinstance(error, Exception) else None)
            return
        finally:
            self._task = None
        if self._transport is None:  # the client left in the moment in which TLS stood
            raw.abort()
            self.connection_lost(None)
        elif self._head:
            self._look()

    def _hand_over(self, raw: asyncio.Transport) -> None:
        """Give TLS what came before it was there. uvloop reads once after `connection_made`, whatever is said in it."""
        reader = raw.get_protocol()
        if reader is self or not self._head:
            return
        early, self._head = self._head, b""
        secure = cast("asyncio.BufferedProtocol", reader)  # uvloop's is no subclass of it; it has its methods
        while early:
            buffer = memoryview(secure.get_buffer(len(early)))
            size = min(len(early), len(buffer))
            buffer[:size] = early[:size]
            early = early[size:]
            secure.buffer_updated(size)

    # --- what it wants ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of the first request."""
        if self._is_over:
            return
        self._head += data
        if self._transport is not None:
            self._look()

    def _look(self) -> None:
        """Once the head is whole, hand the connection to whom it concerns."""
        assert self._transport is not None
        end = self._head.find(handshake.END)
        if end < 0:
            if len(self._head) > handshake.MAX_HEAD:
                text = "The head of the request is too long."
                self._refuse("head", handshake.refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text))
            return
        end += len(handshake.END)
        head, rest = self._head[:end], self._head[end:]
        hub = self._hub
        if self._address is None:
            self._peer = proxy.client_of(head, self._peer, hub.proxies)
            self._address = hub.addresses.arrive(self._peer, hub.clock())
            if self._address is None:
                text = "Too many connections from this address."
                self._refuse("address", handshake.refusal(HTTPStatus.TOO_MANY_REQUESTS, text, _RETRY_S))
                return
        if handshake.asks_upgrade(head):
            answer = handshake.answer(head, hub.listener.origins)
            if not answer.opened:
                self._refuse("handshake", answer)
                return
            self._done()
            upgrade(hub, self._transport, self._raw or self._transport, answer, rest, self._peer, self._address, self._began)
        elif hub.is_full:
            text = "The server is full."
            self._refuse("full", handshake.refusal(HTTPStatus.SERVICE_UNAVAILABLE, text, _RETRY_S))
        else:
            self._done()
            assert hub.site is not None
            hub.site.take(self._transport, self._raw or self._transport, head + rest, self._peer, self._address)

    def _refuse(self, reason: str, answer: handshake.Answer) -> None:
        assert self._transport is not None
        self._hub.refused(reason)
        self._is_over = True
        self._head = b""
        self._transport.write(answer.wire)
        self._transport.close()

    def _done(self) -> None:
        """Somebody else has the connection now."""
        self._is_over = True
        self.slot = None
        self._head = b""
        self._hub.pending.pop(self, None)

    # --- how it ends --------------------------------------------------------------------------------------------------

    def eof_received(self) -> None:
        """It will send no more; the transport closes itself."""

    def connection_lost(self, _error: Exception | None) -> None:
        """It left before it was known what it wanted. May be called twice: by the transport and when TLS fails."""
        if self._raw is None:
            return
        self._raw = self._transport = None
        self._done()
        if self._task is not None:
            self._task.cancel()
        self._hub.leave(self._address)
        self._address = None

    def due(self, _now: float) -> None:
        """The deadline."""
        self._hub.refused("timeout")
        self.give_up()

    def give_up(self) -> None:
        """Cut it off."""
        if self._raw is not None:
            self._raw.abort()


def upgrade(
    hub: hubs.Hub,
    transport: asyncio.Transport,
    raw: asyncio.Transport,
    answer: handshake.Answer,
    rest: bytes,
    peer: str,
    address: limits.Address | None,
    began: float,
) -> None:
    """From here on it is a WebSocket. `rest` was read beyond the head."""
    socket = websocket.Socket(hub, transport, raw, peer, address, began)
    transport.set_protocol(socket)
    transport.write(answer.wire)
    if hub.is_full:
        socket.turn_away_full()
    elif rest:
        socket.data_received(rest)
