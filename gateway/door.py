"""A connection from its acceptance until it is known what it is: PROXY header, TLS, the head of the first request.

Each stage ends by putting the next one in its place, with what was read too far. Everything up to here is pending: it has
a deadline, and there is a bound on how many.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from gateway import handshake, limits, proxy, vigil, websocket
from gateway import hub as hubs

if TYPE_CHECKING:
    from gateway.wheel import Bucket

#: Seconds that TLS gets to say goodbye when a connection closes.
TLS_SHUTDOWN_S = 5.0
#: Seconds after which one may come back who connected too often.
RETRY_S = 10


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
        self._peer = _host(transport)
        if not proxy.is_within(self._peer, hub.proxies):
            if hub.proxies and hub.certificate is None and not proxy.is_loopback(self._peer):
                # TLS ends at the proxies: who comes past them would speak in plain text, over whatever network that is.
                hub.refused("plain")
                transport.abort()
            elif self._comes_from(self._peer):
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
            self._peer = forwarded(hub, self._raw or self._transport, head) or self._peer
            self._address = hub.addresses.arrive(self._peer, hub.clock())
            if self._address is None:
                text = "Too many connections from this address."
                self._refuse("address", handshake.refusal(HTTPStatus.TOO_MANY_REQUESTS, text, RETRY_S))
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
            self._refuse("full", handshake.refusal(HTTPStatus.SERVICE_UNAVAILABLE, text, RETRY_S))
        else:
            self._done()
            assert hub.site is not None
            hub.site.take(self._transport, self._raw or self._transport, head + rest, self._peer, self._address)

    def _refuse(self, reason: str, answer: handshake.Answer) -> None:
        assert self._transport is not None
        self._hub.refused(reason)
        self._is_over = True
        self._head = b""
        transport = self._transport
        transport.write(answer.wire)
        if transport.can_write_eof():
            # More may be on its way that is not read; closing on it would reset TCP and take the answer with it.
            transport.write_eof()
            self._hub.wheel.put(self, self._hub.clock() + vigil.CLOSE_GRACE_S)
        else:
            transport.close()

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
        """The deadline, or the end of the grace that follows a refusal."""
        if not self._is_over:
            self._hub.refused("timeout")
        self.give_up()

    def give_up(self) -> None:
        """Cut it off."""
        if self._raw is not None:
            self._raw.abort()


def _host(transport: asyncio.Transport) -> str:
    """Where TCP comes from."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def forwarded(hub: hubs.Hub, raw: asyncio.Transport, head: bytes) -> str | None:
    """The client's address by the X-Forwarded-For of a request's head; None where nobody is believed about that."""
    peer = _host(raw)
    if hub.proxy_protocol or not proxy.is_within(peer, hub.proxies):
        return None
    return proxy.client_of(head, peer, hub.proxies)


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
    if hub.is_stopping:
        socket.turn_away_stopping()
    elif hub.is_full:
        socket.turn_away_full()
    elif rest:
        socket.data_received(rest)
