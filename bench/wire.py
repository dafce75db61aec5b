"""A client's end of one connection, as light as Python allows: it must not be what is measured.

Frames to the server are masked with the key 0 (RFC 6455 section 5.3 forbids it where a browser could be tricked; a bench is no
browser), which costs the generator nothing and the server what any key costs. Frames from the server are taken apart by hand.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import hashlib
import os
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import msgspec

from bench import people
from protocol import codec, messages

#: Where a server takes WebSockets.
PATH = "/ws"
#: Seconds until a connection must be open, a crowd of thousands included.
OPEN_TIMEOUT_S = 60.0

#: Registrations that wait for their password to be hashed: as many as a node has under way for one address (auth.accounts).
REGISTERED_AT_ONCE = 4

SENT = messages.number_of(messages.Sent)
EVENT = messages.number_of(messages.Event)
ERROR = messages.number_of(messages.Error)
WELCOME = messages.number_of(messages.Welcome)
CAUGHT_UP = messages.number_of(messages.CaughtUp)
HEARTBEAT = messages.number_of(messages.Heartbeat)

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_BINARY = 0x82
_TEXT_OF_128 = b"\x92\x01\xd9\x7c" + (b"The quick brown fox jumps over the lazy dog. " * 3)[:124]

decode = msgspec.msgpack.Decoder().decode

#: Errors by kind, of one generator process.
Errors = collections.Counter[str]


def body(size: int = 128) -> msgspec.Raw:
    """The body of a text message (`protocol.events.Text`) of exactly so many bytes, at least 8."""
    if size == len(_TEXT_OF_128):
        return msgspec.Raw(_TEXT_OF_128)
    text = msgspec.msgpack.encode("x" * (size - 3 if size - 3 < 32 else size - 4 if size - 4 < 256 else size - 5))
    raw = b"\x92\x01" + text
    assert len(raw) == size, "no text is encoded in so many bytes"
    return msgspec.Raw(raw)


def masked(payload: bytes) -> bytes:
    """A whole binary WebSocket message of a client."""
    size = len(payload)
    if size < 126:
        return bytes((_BINARY, 0x80 | size, 0, 0, 0, 0)) + payload
    if size < 1 << 16:
        return bytes((_BINARY, 0xFE, size >> 8, size & 0xFF, 0, 0, 0, 0)) + payload
    return b"\x82\xff" + size.to_bytes(8, "big") + b"\0\0\0\0" + payload


def take(data: bytes, start: int) -> tuple[int, bytes, int] | None:
    """The server's WebSocket frame at `start`: first byte, payload, where the next one begins. None: not all of it is there."""
    available = len(data) - start
    if available < 2:
        return None
    size = data[start + 1]
    begin = start + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if available < 2 + width:
            return None
        size = int.from_bytes(data[begin : begin + width], "big")
        begin += width
    end = begin + size
    if end > len(data):
        return None
    return data[start], data[begin:end], end


class Client(asyncio.Protocol):
    """One device's connection. Subclasses say what to do with frames in `frame`.

    `user`, `device` and `limits` are known when `opened` is done; `counter` is that of the last command. `opened` fails with
    Unreachable when the server closes before. Whatever the server refuses or breaks is counted in `errors`, by symbol."""

    __slots__ = (
        "_credential", "_host", "_key", "_rest", "bytes_in", "bytes_out", "counter", "device", "ending", "errors", "is_open",
        "opened", "rid", "transport", "user",
    )  # fmt: skip

    def __init__(self, host: str, credential: messages.Credential, errors: Errors) -> None:
        self._host = host
        self._credential = credential
        self._key = base64.b64encode(os.urandom(16))
        self._rest = b""
        self.errors = errors
        self.bytes_in = 0
        self.bytes_out = 0
        self.user = 0
        self.device = 0
        # Counters are seeded from the clock, so that a device can come back with another process.
        self.counter = time.time_ns() // 1000
        self.rid = 0
        self.is_open = False
        self.ending = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    # --- for subclasses -----------------------------------------------------------------------------------------------

    def frame(self, number: int, items: list[Any]) -> None:
        """One frame of the server, as plain values; `items` includes the number."""

    def closed(self) -> None:
        """The connection is over."""

    # --- sending ------------------------------------------------------------------------------------------------------

    def write(self, payload: bytes) -> None:
        """Send one encoded frame (or batch). On a closed connection, which was counted as an error then, it does nothing."""
        if self.transport.is_closing():
            return
        wire = masked(payload)
        self.bytes_out += len(wire)
        self.transport.write(wire)

    def end(self) -> None:
        """Cut the connection; what comes after is no error."""
        self.ending = True
        self.transport.abort()

    # --- the transport's calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(
            b"GET "
            + PATH.encode()
            + b" HTTP/1.1\r\nHost: "
            + self._host.encode()
            + b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: kith.v1.msgpack\r\n"
            b"Sec-WebSocket-Key: " + self._key + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not self.is_open:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            if not self._shaken(data[: end + 2]):
                return
            data = data[end + 4 :]
        start = 0
        while (found := take(data, start)) is not None:
            first, payload, start = found
            if first == _BINARY:
                items = decode(payload)
                if type(items[0]) is list:
                    for each in items:
                        self._frame(each)
                else:
                    self._frame(items)
            else:
                self._control(first, payload)
        if start < len(data):
            self._rest = data[start:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ending:
            self.errors["connection lost"] += 1
        if not self.opened.done():
            seen = ", ".join(self.errors) or "no reason was given"
            self.opened.set_exception(Unreachable(f"{self._host}: closed before Welcome ({seen})"))
            self.opened.exception()  # looked at, so that nobody is warned of it twice
        self.closed()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _shaken(self, head: bytes) -> bool:
        accept = base64.b64encode(hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest())
        if not head.startswith(b"HTTP/1.1 101 ") or b"Accept: " + accept not in head:
            self.errors[f"no upgrade: {head.split(maxsplit=2)[1].decode('ascii', 'replace')}"] += 1
            self.end()
            return False
        self.is_open = True
        self.write(codec.encode(messages.Hello(1, 1, 1, self._credential, "kith bench")))
        return True

    def _frame(self, items: list[Any]) -> None:
        number = items[0]
        if number == HEARTBEAT:
            self.write(codec.encode(messages.ClientHeartbeat(0)))
        elif number == WELCOME:
            self.user, self.device = items[4], items[5]
            self.rid = 1
            if not self.opened.done():
                self.opened.set_result(None)
        elif number == ERROR:
            self.errors[items[3]] += 1
        self.frame(number, items)

    def _control(self, first: int, payload: bytes) -> None:
        if first == 0x88:
            if not self.ending:
                code = int.from_bytes(payload[:2], "big")
                self.errors[f"closed {code} {payload[2:].decode('utf-8', 'replace')}".rstrip()] += 1
                self.end()
        elif first == 0x89:
            self.transport.write(bytes((0x8A, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
        else:
            self.errors["unexpected WebSocket frame"] += 1


class Unreachable(ConnectionError):
    """A connection could not be made, or was closed before anybody was let in; why."""


@dataclass(slots=True, frozen=True)
class Endpoint:
    """Where a server is. `authority`: host and port as in its URL."""

    host: str
    port: int
    authority: str
    tls: bool


def endpoint(url: str) -> Endpoint:
    """ValueError that says what is wrong with the URL."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from None
    if parts.scheme not in ("ws", "wss") or parts.hostname is None:
        raise ValueError(f"{url}: ws://host:port/ws or wss://host:port/ws is expected")
    if parts.path != PATH or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{url}: a Kith server takes WebSockets at {PATH}, with nothing else in the URL")
    tls = parts.scheme == "wss"
    return Endpoint(parts.hostname, port or (443 if tls else 80), parts.netloc, tls)


C = TypeVar("C", bound=Client)
Make = Callable[[str, messages.Credential, Errors], C]


class Connector:
    """Opens connections, `at_once` handshakes at a time, from one source address ("": the system's choice), with so many bytes
    of receive buffer (0: the system's choice)."""

    def __init__(
        self,
        url: str,
        accounts: people.Accounts,
        errors: Errors,
        at_once: int = 64,
        source: str = "",
        receive_buffer: int = 0,
    ) -> None:
        self._place = endpoint(url)
        # The system's authorities, or those of the file that SSL_CERT_FILE names (SSL_CTX_set_default_verify_paths(3)).
        self._tls = ssl.create_default_context() if self._place.tls else None
        self._accounts = accounts
        self._errors = errors
        if isinstance(accounts, people.Registered):
            at_once = min(at_once, REGISTERED_AT_ONCE)
        self._places = asyncio.Semaphore(at_once)
        self._source = source
        self._receive_buffer = receive_buffer

    async def open(self, make: Make[C], index: int) -> C:
        """User number `index`, connected and let in. Unreachable, TimeoutError."""
        loop = asyncio.get_running_loop()
        place, name = self._place, self._place.host if self._tls else None
        async with self._places:
            credential = self._accounts.credential(index)
            try:
                channel = await self._channel()
                _, client = await loop.create_connection(
                    lambda: make(place.authority, credential, self._errors), sock=channel, ssl=self._tls, server_hostname=name
                )
            except OSError as error:
                raise Unreachable(f"no connection to {place.authority}: {error}") from error
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await client.opened
        return client

    async def _channel(self) -> socket.socket:
        """A connected TCP socket."""
        family, kind, protocol, _, address = (
            await asyncio.get_running_loop().getaddrinfo(self._place.host, self._place.port, type=socket.SOCK_STREAM)
        )[0]
        channel = socket.socket(family, kind, protocol)
        try:
            channel.setblocking(False)
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._receive_buffer:  # before connecting: it decides the window that is offered (tcp(7))
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            if self._source:
                channel.bind((self._source, 0))
            await asyncio.get_running_loop().sock_connect(channel, address)
        except BaseException:
            channel.close()
            raise
        return channel

    async def open_all(self, make: Make[C], indexes: Iterable[int], opened: Callable[[], None] = lambda: None) -> list[C]:
        """Many, in the order of `indexes`; `opened` is called after each."""

        async def one(index: int) -> C:
            client = await self.open(make, index)
            opened()
            return client

        return list(await asyncio.gather(*(one(index) for index in indexes)))
