"""The client: one device of one account, connected as long as it is wanted.

    async with Client("wss://chat.example/ws", messages.TokenCredential(token)) as client:
        await client.send_text(await client.open(user), "hi")
        async for event in client.events():
            ...

The shell around `connection.Connection`: it owns the socket, the clock, the queue and the futures, and decides nothing. One
task connects, reads and connects again; a second one writes, woken by commands, by the application taking events, and by
the deadline that the core names.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl as ssl_module
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

from websockets.asyncio import client as websockets_client
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from client import connection, errors, store
from client.api import Commands
from client.updates import Answer, Connected, Disconnected, Effect, End, Numbered, StreamEvent, StreamGone, Update
from protocol import codec, messages

log = logging.getLogger("kith.client")

SUBPROTOCOL = Subprotocol("kith.v1.msgpack")
#: Updates that wait for the application; with so many the socket is not read, unless an answer is awaited: then the server's
#: window of each stream is the bound.
QUEUE = 1024
#: Commands and requests without an answer; beyond, `submit` raises Full.
UNANSWERED = 16384
#: Seconds for the opening handshake, for one write, and for the closing handshake.
OPEN_S = 10.0
WRITE_S = 30.0
CLOSE_S = 3.0
#: Seconds between two saves of cursors alone. Older cursors cost nothing: the server has its own.
SAVE_S = 1.0
#: HTTP statuses of a server that may be well again soon (RFC 9110 sections 15.5.9 and 15.6; RFC 6585 section 4).
PASSING = frozenset({408, 429, 500, 502, 503, 504})
_NUMBERED = (StreamEvent, StreamGone)


class Client(Commands):
    """`credential` may be left out when `kept` has a token. `random_float` and `clock_us` are for tests. `strict`: raise
    ProtocolViolation where the server breaks the contract, instead of logging it. `ssl` and `proxy` as `websockets.connect`
    takes them."""

    def __init__(
        self,
        url: str,
        credential: messages.Credential | None = None,
        *,
        kept: store.Store | None = None,
        agent: str = "kith-python/1",
        ssl: ssl_module.SSLContext | None = None,
        proxy: str | None = None,
        queue: int = QUEUE,
        strict: bool = False,
        random_float: Callable[[], float] = random.random,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.url = url
        self._ssl = ssl
        self._proxy = proxy
        self._store = kept
        saved = kept.load() if kept is not None else store.Saved()
        self._core = connection.Connection(
            credential=credential,
            counter_seed=clock_us(),
            random=random_float,
            agent=agent,
            identity=connection.Identity(saved.user, saved.device, saved.name, saved.token, saved.counter),
            cursors={bytes.fromhex(stream): seq for stream, seq in saved.cursors.items()},
            commands=saved.commands,
            strict=strict,
        )
        self._saved = saved
        self._next_save = 0.0
        self._saving = asyncio.Lock()
        self._queue: deque[Update] = deque()
        self._limit = queue
        self._out: Numbered | None = None  # given out by an iterator, not yet known to be taken
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._wake = asyncio.Event()
        self._ended: Exception | None = None
        self._runner: asyncio.Task[None] | None = None
        self._socket: websockets_client.ClientConnection | None = None
        self._welcome: asyncio.Future[messages.Welcome] | None = None
        self._closing = False
        self._last_failure = ""

    # --- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is not None:
            self._out = None  # it was not processed to the end: it comes again
        await self.close()

    async def start(self, wait_s: float | None = 30.0) -> messages.Welcome:
        """Connect, and go on doing so until `close`. Returns when the server has let this device in for the first time.

        codes.Refused if it does not; Unreachable after `wait_s` seconds without a connection (None: try for ever), or at
        once where there is no Kith server."""
        self.start_soon()
        assert self._welcome is not None
        try:
            async with asyncio.timeout(wait_s):
                return await asyncio.shield(self._welcome)
        except TimeoutError:
            await self.close()
            raise errors.Unreachable(f"{self.url}: {self._last_failure or 'no answer'}") from None
        except BaseException:
            await self.close()
            raise

    def start_soon(self) -> None:
        """Begin to connect, and return at once: for a program that is of use without a connection."""
        if self._runner is not None:
            raise RuntimeError("a client is started once")
        self._welcome = asyncio.get_running_loop().create_future()
        self._runner = asyncio.create_task(self._run(), name="kith-client")

    async def close(self) -> None:
        """Acknowledge what was taken, say goodbye, stop. Whoever waits for an answer gets Closed. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if self._out is not None:
            self.taken(self._out)
        socket = self._socket
        self._closing = True
        runner.cancel()
        await asyncio.wait([runner])
        if socket is not None:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    for message in self._core.closing(self._now()):
                        await socket.send(message)
                    await socket.close()
            socket.transport.abort()
        self._end(errors.Closed("the client is closed"))
        await self._save()

    @property
    def connected(self) -> bool:
        """Whether the server has let this device in on the present connection."""
        return self._core.state is connection.State.OPEN

    @property
    def identity(self) -> connection.Identity:
        """User, device, name and token; zero and empty before the first Welcome."""
        return self._core.identity

    @property
    def limits(self) -> messages.Limits | None:
        """What the server holds this device to; None before the first Welcome."""
        return self._core.welcome.limits if self._core.welcome is not None else None

    @property
    def violations(self) -> list[str]:
        """Where the server broke the contract, without `strict`."""
        return self._core.inflow.violations

    # --- updates ------------------------------------------------------------------------------------------------------

    async def receive(self) -> Update:
        """The next update, and it counts as taken. Raises what ended the client when there is no more (Closed after
        `close`)."""
        update = await self._next()
        if isinstance(update, _NUMBERED):
            self.taken(update)
        return update

    def receive_nowait(self) -> Update | None:
        """The next update if there is one, taken; else None."""
        if self._out is not None:
            self.taken(self._out)
        update = self._pop() if self._queue else None
        if isinstance(update, _NUMBERED):
            self.taken(update)
        return update

    async def updates(self) -> AsyncIterator[Update]:
        """Events, notices and changes of the connection as they come; ends after `close`, raises when the server ends it.

        An event counts as taken, and is acknowledged, when the next update is asked for: what a crash interrupted comes
        again. Who leaves the loop early and has dealt with the event says so with `taken`."""
        while True:
            try:
                update = await self._next()
            except errors.Closed as closed:
                if closed.close is None:
                    return
                raise
            if isinstance(update, _NUMBERED):
                self._out = update
            yield update

    async def events(self) -> AsyncIterator[StreamEvent]:
        """The events alone; otherwise as `updates`."""
        async for update in self.updates():
            if type(update) is StreamEvent:
                yield update

    def taken(self, event: Numbered) -> None:
        """The application has dealt with `event`, and with all before it in its stream."""
        if self._out is event:
            self._out = None
        self._core.taken(event, self._now())
        self._wake.set()

    async def _next(self) -> Update:
        if self._out is not None:
            self.taken(self._out)
        while not self._queue:
            if self._ended is not None:
                raise self._ended
            self._arrived.clear()
            await self._arrived.wait()
        return self._pop()

    def _pop(self) -> Update:
        update = self._queue.popleft()
        if len(self._queue) < self._limit:
            self._room.set()
        return update

    # --- commands -----------------------------------------------------------------------------------------------------

    def submit(self, frame: messages.Frame) -> asyncio.Future[Any]:
        """Any command; its rid and counter are set here. The future has the answer: Sent for a state-changing command, the
        frame (or the list of parts, and PageEnd) for the others. It raises codes.Refused, Closed, Lost.

        Commands go out in the order of these calls, per stream. Full beyond UNANSWERED. ValueError for a state-changing one
        before this device was ever let in."""
        if self._ended is not None:
            raise self._ended
        if self._core.unanswered >= UNANSWERED:
            raise errors.Full(f"{UNANSWERED} commands have no answer yet")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._core.submit(frame, future)
        self._wake.set()
        self._room.set()
        return future

    async def call(self, frame: messages.Frame) -> Any:
        future = self.submit(frame)
        try:
            return await future
        except asyncio.CancelledError:
            self._core.requests.withdraw(future)
            raise

    def _device(self) -> int:
        return self._core.identity.device

    def tell(self, frame: messages.Typing | messages.Look) -> None:
        self._core.tell(frame)
        self._wake.set()

    # --- the tasks ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _run(self) -> None:
        url = self.url
        try:
            while True:
                code, reason = await self._connection(url)
                outcome, effects = self._core.disconnected(code, reason, self._now())
                self._carry_out(effects)
                if isinstance(outcome, End):
                    self._end(outcome.error)
                    return
                self._last_failure = next((e.reason for e in effects if isinstance(e, Disconnected)), reason)
                log.info("%s: %s; again in %.1f s", url, self._last_failure, outcome.delay_s)
                url = outcome.url or self.url
                await self._save()
                await asyncio.sleep(outcome.delay_s)
        except Exception as error:
            if not isinstance(error, errors.ClientError):
                log.exception("the client failed")
            self._end(error)

    async def _connection(self, url: str) -> tuple[int, str]:
        """One connection from beginning to end: the close code and reason."""
        try:
            socket = await websockets_client.connect(
                url,
                subprotocols=[SUBPROTOCOL],
                compression=None,  # frames are small, and many; the contract has none on this path
                proxy=self._proxy,
                ssl=self._ssl,
                open_timeout=OPEN_S,
                close_timeout=CLOSE_S,
                ping_interval=None,  # the protocol has its own heartbeat
                max_size=codec.MAX_MESSAGE,
            )
        except InvalidURI as error:
            raise errors.Unreachable(f"{url}: {error}") from None
        except InvalidStatus as error:
            if error.response.status_code not in PASSING:
                raise errors.Unreachable(f"{url}: HTTP status {error.response.status_code}") from None
            return 1006, f"HTTP status {error.response.status_code}"
        except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
            return 1006, str(error) or type(error).__name__
        if socket.subprotocol != SUBPROTOCOL:
            await socket.close()
            raise errors.Unreachable(f"{url}: no Kith server answers there")
        self._socket = socket
        self._core.connected(self._now())
        self._wake.set()
        writer = asyncio.create_task(self._write(socket), name="kith-client-writer")
        writer.add_done_callback(lambda done: None if done.cancelled() else self._writing_ended(socket))
        try:
            await self._read(socket, writer)
        except ConnectionClosed:
            pass
        finally:
            self._socket = None
            if not self._closing:
                socket.transport.abort()
            writer.cancel()
            await asyncio.wait([writer])
        if not writer.cancelled() and (failure := writer.exception()) is not None:
            raise failure
        return socket.close_code or 1006, socket.close_reason or ""

    def _writing_ended(self, socket: websockets_client.ClientConnection) -> None:
        """Whatever ended the writing ends the reading, also one that waits for the application."""
        socket.transport.abort()
        self._room.set()

    async def _read(self, socket: websockets_client.ClientConnection, writer: asyncio.Task[None]) -> None:
        core = self._core
        while not writer.done():
            while len(self._queue) >= self._limit and not core.unanswered and not writer.done():
                self._room.clear()
                await self._room.wait()
                core.not_read(self._now())
            data = await socket.recv()
            if isinstance(data, str):
                raise errors.ProtocolViolation("a text message")
            self._carry_out(core.receive(data, self._now()))
            self._wake.set()

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Answer):
                future = effect.waiter
                if future.done():
                    continue
                if isinstance(effect.outcome, Exception):
                    future.set_exception(effect.outcome)
                else:
                    future.set_result(effect.outcome)
                continue
            if type(effect) is Connected and self._welcome is not None and not self._welcome.done():
                self._welcome.set_result(effect.welcome)
            self._queue.append(effect)
        if self._queue:
            self._arrived.set()

    async def _write(self, socket: websockets_client.ClientConnection) -> None:
        core = self._core
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                now = loop.time()
                if len(self._queue) >= self._limit:
                    core.not_read(now)
                elif core.dead(now):
                    break
                out = core.outgoing(now)
                if self._store is not None and (core.unsaved or now >= self._next_save):
                    await self._save()  # a command is kept before it is sent, so that its bytes are never lost
                async with asyncio.timeout(WRITE_S):
                    for message in out:
                        await socket.send(message)
                deadline = core.deadline(loop.time())
                timer = loop.call_at(deadline, self._wake.set) if deadline is not None else None
                await self._wake.wait()
                if timer is not None:
                    timer.cancel()
        except ConnectionClosed:
            return  # the reader knows
        except TimeoutError:
            log.info("the server took nothing for %.0f s", WRITE_S)

    async def _save(self) -> None:
        if self._store is None:
            return
        async with self._saving:
            core = self._core
            core.unsaved = False
            self._next_save = self._now() + SAVE_S
            who = core.identity
            saved = store.Saved(
                who.user,
                who.device,
                who.name,
                who.token,
                who.counter,
                {stream.hex(): seq for stream, seq in core.inflow.cursors().items()},
                tuple(pending.data for pending in core.outflow),
            )
            if saved != self._saved:
                await asyncio.to_thread(self._store.save, saved)
                self._saved = saved

    def _end(self, error: Exception) -> None:
        if self._ended is not None:
            return
        self._ended = error
        self._carry_out(self._core.end(error))
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(error)
            self._welcome.exception()  # `start` may not be waiting for it
        self._arrived.set()
