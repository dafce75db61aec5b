"""A gateway on a free port, with sessions that only take down what they are told, and raw clients."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

import config
import telemetry
from actors import commands
from actors.runtime import errors
from actors.sink import Sink
from auth.identity import Admission
from gateway import listener
from gateway.websocket import Socket
from protocol import codec, codes, messages

SUBPROTOCOL = "kith.v1.msgpack"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: kith.v1.msgpack\r\n\r\n"
)
LIMITS = messages.Limits(65536, 16384, 256, 262144, 200, 800, 63, 1024, 256, 900)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sessions:
    """A directory of sessions that answer Attach with Welcome, and keep everything."""

    def __init__(self) -> None:
        self.told: list[tuple[tuple[str, int], Any]] = []
        self.sinks: dict[int, Sink] = {}
        self.is_full = False
        self.is_dead = False
        self.on_command: Callable[[Sink, commands.Command], None] = lambda _sink, _command: None
        self._news = asyncio.Event()

    def tell(self, key: tuple[str, int], message: Any) -> bool:
        if self.is_dead:
            raise errors.ActorDeadError("dead")
        if isinstance(message, commands.Command) and self.is_full:
            raise errors.MailboxFull
        self.told.append((key, message))
        self._news.set()
        if isinstance(message, commands.Attach):
            self.sinks[message.admission.device] = message.sink
            message.sink.reply(codec.encode(welcome(message)))
        elif isinstance(message, commands.Command):
            if message.device not in self.sinks:
                return False
            self.on_command(self.sinks[message.device], message)
        elif isinstance(message, commands.Detach):
            self.sinks.pop(message.device, None)
        return True

    @property
    def frames(self) -> list[messages.ClientFrame]:
        return [message.frame for _, message in self.told if isinstance(message, commands.Command)]

    @property
    def detached(self) -> list[int]:
        return [message.device for _, message in self.told if isinstance(message, commands.Detach)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until what was told fulfils the condition."""
        while not condition():
            self._news.clear()
            await self._news.wait()


def welcome(attach: commands.Attach) -> messages.Welcome:
    admission = attach.admission
    return messages.Welcome(
        attach.rid, attach.version, b"s", admission.user, admission.device, admission.name, b"", 25, LIMITS, 1
    )


async def admit_all(hello: messages.Hello, _version: int, _peer: str) -> Admission:
    """Whoever brings a token is let in: its first bytes are the user, who has one device."""
    assert isinstance(hello.credential, messages.TokenCredential)
    user = int.from_bytes(hello.credential.token[:4], "big")
    return Admission(user, user + 1000, f"user{user}")


def digest(raw: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(raw, digest_size=6).digest(), "big")


def hello(user: int = 1, rid: int = 1) -> bytes:
    return codec.encode(messages.Hello(rid, 1, 1, messages.TokenCredential(user.to_bytes(4, "big") + bytes(12))))


def send(counter: int, rid: int = 1, body: bytes = b"\x92\x01\xa2hi") -> bytes:
    return codec.encode(messages.Send(rid, counter, b"d" + bytes(14), msgspec.Raw(body)))


@dataclasses.dataclass
class World:
    """One gateway and what stands around it."""

    gateway: listener.Gateway
    sessions: Sessions
    counters: telemetry.Telemetry
    clock: Clock | None
    tls: ssl.SSLContext | None = None

    @property
    def port(self) -> int:
        return self.gateway.addresses[0][1]

    @property
    def url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}/ws"

    @property
    def sockets(self) -> set[Socket]:
        return self.gateway.hub.sockets

    def connect(self, **options: Any) -> connect_websocket:
        """The `websockets` client."""
        options.setdefault("subprotocols", [SUBPROTOCOL])
        return connect_websocket(
            self.url, compression=None, ping_interval=None, ssl=self.tls, max_size=None, proxy=None, **options
        )

    @contextlib.asynccontextmanager
    async def client(self, user: int = 1, **options: Any) -> AsyncIterator[ClientConnection]:
        """A client that was welcomed."""
        async with self.connect(**options) as client:
            await client.send(hello(user))
            (frame,) = await received(client)
            assert isinstance(frame, messages.Welcome)
            yield client

    def sink(self, user: int = 1) -> Sink:
        return self.sessions.sinks[user + 1000]

    def pass_time(self, seconds: float) -> None:
        """Let so much of the clock's time pass, and those who waited for it go on."""
        assert self.clock is not None
        self.clock.now += seconds
        self.gateway.hub.turns.wake()
        self.gateway.beat()

    async def settled(self, condition: Callable[[], object]) -> None:
        """Turn the loop until the condition holds: for what no event announces. The test's timeout ends it."""
        while not condition():  # noqa: ASYNC110  a turn at a time is what this waits for
            await asyncio.sleep(0)


async def remainder(client: ClientConnection) -> tuple[int, list[messages.ServerFrame]]:
    """Everything until the server closes: its close code, and the frames before it."""
    frames: list[messages.ServerFrame] = []
    try:
        while True:
            frames += await received(client)
    except ConnectionClosed:
        assert client.close_code is not None
        return client.close_code, frames


async def was_cut(source: asyncio.StreamReader) -> bool:
    """Whether TCP ended without a word."""
    try:
        return not await source.read()
    except ConnectionResetError:
        return True


async def received(client: ClientConnection) -> list[messages.ServerFrame]:
    """The frames of the next message."""
    data = await client.recv()
    assert isinstance(data, bytes)
    return list(codec.decode_server_message(data))


@contextlib.asynccontextmanager
async def running(
    *,
    sessions: Sessions | None = None,
    admit: Callable[[messages.Hello, int, str], Awaitable[Admission]] = admit_all,
    clock: Clock | None = None,
    max_connections: int = 1000,
    listener_options: dict[str, Any] | None = None,
    limit_options: dict[str, Any] | None = None,
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[World]:
    """A started gateway, stopped at the end."""
    sessions = sessions or Sessions()
    counters = telemetry.Telemetry()
    if clock is not None:
        options["clock"] = clock
    gateway = listener.Gateway(
        config.Listener(port=0, **(listener_options or {})),
        config.Limits(**(limit_options or {})),
        max_connections=max_connections,
        directory=sessions,
        admit=admit,
        digest=digest,
        counters=counters,
        internal=config.Internal(port=0),
        **options,
    )
    await gateway.start()
    try:
        yield World(gateway, sessions, counters, clock, tls)
    finally:
        await gateway.stop(0, 1.0)


def error_of(frame: messages.ServerFrame) -> codes.Error:
    """The error that an Error frame tells."""
    assert isinstance(frame, messages.Error)
    return codes.BY_NUMBER[frame.number]


async def closed(client: ClientConnection) -> int:
    """The code with which the server closes."""
    return (await remainder(client))[0]


def answer_sent(sink: Any, command: commands.Command) -> None:
    sink.reply(codec.encode(messages.Sent(command.frame.rid, 1, 1, 1)))


async def raw_client(node: World) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket after the upgrade."""
    source, sink = await asyncio.open_connection("127.0.0.1", node.port)
    sink.write(UPGRADE)
    assert (await source.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return source, sink


async def close_code(source: asyncio.StreamReader) -> int | None:
    """The code of the close frame with which a stream of frames ends."""
    data = await source.read()
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        if data[0] == 0x88:
            return int.from_bytes(data[start : start + 2], "big")
        data = data[start + size :]
    return None
