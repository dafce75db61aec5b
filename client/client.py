"""The client: one device of one account, connected as long as it is wanted.

    async with Client("wss://chat.example/ws", messages.TokenCredential(token)) as client:
        await client.send_text(await client.open(user), "hi")
        async for event in client.events():
            ...

The shell around `connection.Connection`: it owns the futures, connects and connects again, and decides nothing. What waits for
the application is in `inbox`, what is stored is with `keeper`, and a `line` has the socket.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl as ssl_module
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

from client import connection, dial, errors, inbox, keeper, line, store
from client.api import Commands
from client.updates import Answer, Connected, Disconnected, Effect, End, NotKept, Numbered, StreamEvent, Update
from protocol import messages

log = logging.getLogger("kith.client")

SUBPROTOCOL = dial.SUBPROTOCOL
#: Updates that wait for the application; with so many the socket is not read, unless an answer is awaited: then the server's
#: window of each stream is the bound.
QUEUE = 1024
#: Commands and requests without an answer; beyond, `submit` raises Full.
UNANSWERED = 16384
#: Updates that nobody takes (above all the events of one's own commands), beyond which `submit` raises Full.
UNTAKEN = 16384


class Client(Commands):
    """`credential` may be left out when `kept` has a token. `listen` False: the application only sends; events count as taken
    as they come, and there are no updates. `random_float` and `clock_us` are for tests. `strict`: raise ProtocolViolation where
    the server breaks the contract, instead of noting it. `ssl` and `proxy` as `websockets.connect` takes them.

    When the server says that this device is no more (logged out, revoked, the account deleted), an empty state is stored: the
    next run begins with `credential`."""

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
        listen: bool = True,
        strict: bool = False,
        random_float: Callable[[], float] = random.random,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.url = url
        self._ssl = ssl
        self._proxy = proxy
        self._core = connection.Connection(
            credential=credential, counter_seed=clock_us(), random=random_float, agent=agent, strict=strict
        )
        self._keeper = keeper.Keeper(kept, self._snapshot, self._stored, self._not_kept) if kept is not None else None
        if self._keeper is not None:
            self._core.outflow.kept = 0
        self._inbox = inbox.Inbox(queue, self._taken, listen=listen)
        self._wake = asyncio.Event()
        self._ended: Exception | None = None
        self._welcome: asyncio.Future[messages.Welcome] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._line: line.Line | None = None
        self._last_failure = ""

    # --- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        await self.start()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def start(self, wait_s: float | None = 30.0) -> messages.Welcome:
        """Connect, and go on doing so until `close`. Returns when the server has let this device in for the first time.

        codes.Refused if it does not; Unreachable after `wait_s` seconds without a connection (None: try for ever), or at
        once where there is no Kith server. Otherwise as `start_soon`."""
        await self.start_soon()
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

    async def start_soon(self) -> None:
        """Load what was kept, begin to connect, and return: for a program that is of use without a connection. DamagedState, or
        OSError, when what was kept cannot be read."""
        if self._welcome is not None:
            raise RuntimeError("a client is started once")
        self._welcome = asyncio.get_running_loop().create_future()
        if self._keeper is not None:
            await self._restore(self._keeper)
        if self._ended is None:
            self._runner = asyncio.create_task(self._run(), name="kith-client")

    async def _restore(self, kept: keeper.Keeper) -> None:
        saved = await kept.load()
        who = connection.Identity(saved.user, saved.device, saved.name, saved.token, saved.counter, saved.incarnation)
        cursors = {bytes.fromhex(stream): seq for stream, seq in saved.cursors.items()}
        for left_out in self._core.restore(who, cursors, saved.commands):
            log.warning("a command of the last run cannot be sent, and is dropped: %s", left_out)
        self._stored(self._core.last_rid)

    async def close(self) -> None:
        """Say goodbye, stop, and save. Whoever waits for an answer gets Closed. Idempotent: every call returns when it is done,
        and who is cancelled only waits no longer.

        The event that an iterator gave out last and did not go on from is not acknowledged: it may not have been dealt with."""
        if self._closer is None:
            self._closer = asyncio.create_task(self._close(), name="kith-client-close")
        await asyncio.shield(self._closer)

    async def _close(self) -> None:
        self._inbox.forget_out()
        if self._runner is not None:
            if self._line is not None:
                await self._line.close(self._runner)
            self._runner.cancel()
            await asyncio.wait([self._runner])
        self._end(errors.Closed("the client is closed"))
        if self._keeper is not None:
            await self._keeper.close()

    @property
    def connected(self) -> bool:
        """Whether the server has let this device in on the present connection."""
        return self._core.state is connection.State.OPEN

    @property
    def revoked(self) -> bool:
        """Whether the server said that this device is no more."""
        return self._core.revoked

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
        """Where the server broke the contract, without `strict`: the newest `inflow.VIOLATIONS`."""
        return list(self._core.inflow.violations)

    # --- updates: for one consumer, by one of these ways at a time ----------------------------------------------------

    async def receive(self) -> Update:
        """The next update, and it counts as taken. Raises what ended the client when there is no more (Closed after
        `close`)."""
        update = await self._inbox.next()
        if isinstance(update, Numbered):
            self.taken(update)
        return update

    def receive_nowait(self) -> Update | None:
        """The next update if there is one, taken; else None."""
        update = self._inbox.next_nowait()
        if isinstance(update, Numbered):
            self.taken(update)
        return update

    async def updates(self) -> AsyncIterator[Update]:
        """Events, notices and changes of the connection as they come; ends after `close`, raises when the server ends it.

        An event counts as taken, and is acknowledged, when the next update is asked for: what a crash interrupted comes
        again. Who leaves the loop early and has dealt with the event says so with `taken`."""
        while True:
            try:
                update = await self._inbox.next()
            except errors.Closed as closed:
                if closed.close is None:
                    return
                raise
            yield update

    async def events(self) -> AsyncIterator[StreamEvent]:
        """The events alone; otherwise as `updates`."""
        async for update in self.updates():
            if type(update) is StreamEvent:
                yield update

    def taken(self, event: Numbered) -> None:
        """The application has dealt with `event`, and with all before it in its stream."""
        self._inbox.taken(event)

    def _taken(self, event: Numbered | Connected) -> None:
        self._core.taken(event, self._now())
        self._wake.set()
        if self._keeper is not None:
            self._keeper.changed(at_once=False)

    # --- commands -----------------------------------------------------------------------------------------------------

    def submit(self, frame: messages.Frame) -> asyncio.Future[Any]:
        """Any command; its rid and counter are set here. The future has the answer: Sent for a state-changing command, the
        frame (or the list of parts, and PageEnd) for the others. It raises codes.Refused, Closed, Lost.

        Commands go out in the order of these calls, per stream. What cannot be sent is raised here: codes.Refused where it is
        against the rules of the protocol (too long, out of range), ValueError for text that cannot be encoded, and for a
        state-changing command before this device was ever let in; Full beyond UNANSWERED, or when UNTAKEN updates wait."""
        if self._ended is not None:
            raise self._ended
        if self._core.unanswered >= UNANSWERED:
            raise errors.Full(f"{UNANSWERED} commands have no answer yet")
        if len(self._inbox) >= UNTAKEN:
            raise errors.Full(f"{UNTAKEN} updates wait: take them, or decline them with listen=False")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._core.submit(frame, future)
        if self._keeper is not None and isinstance(frame, messages.Change):
            self._keeper.changed(at_once=True)
        self._wake.set()
        self._inbox.stir()
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

    # --- what is stored -----------------------------------------------------------------------------------------------

    def _snapshot(self) -> tuple[store.Saved, int]:
        core = self._core
        if core.revoked:
            return store.Saved(), core.last_rid
        who = core.identity
        cursors = {stream.hex(): seq for stream, seq in core.inflow.cursors().items()}
        commands = tuple(pending.data for pending in core.outflow)
        return store.Saved(
            who.user, who.device, who.name, who.token, who.counter, cursors, commands, who.incarnation
        ), core.last_rid

    def _stored(self, rid: int) -> None:
        """Commands up to `rid` are on disk: they may be sent, and their bytes are never lost."""
        self._core.outflow.kept = max(self._core.outflow.kept, rid)
        self._wake.set()

    def _not_kept(self, error: OSError, retry_in_s: float) -> None:
        log.warning("the state of this device cannot be saved: %s", error)
        self._inbox.put(NotKept(error.strerror or str(error), retry_in_s))

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
                if self._keeper is not None:
                    await self._keeper.save()  # a token is stored before it is used: that makes the one before it void
                await asyncio.sleep(outcome.delay_s)
        except Exception as error:
            if not isinstance(error, errors.ClientError):
                log.exception("the client failed")
            self._end(error)

    async def _connection(self, url: str) -> tuple[int, str]:
        """One connection from beginning to end: the close code and reason."""
        try:
            socket = await dial.dial(url, self._ssl, self._proxy)
        except dial.NotNow as failure:
            # Who was let in once knows that there is a Kith server: then something stands before it that fails at the moment.
            if not failure.is_kith and not self._core.identity.device:
                raise errors.Unreachable(f"{url}: {failure}") from None
            return 1006, str(failure)
        self._line = line.Line(socket, self._core, self._inbox, self._wake, self._carry_out)
        try:
            return await self._line.run()
        finally:
            self._line = None

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
            if type(effect) is Connected:
                if self._welcome is not None and not self._welcome.done():
                    self._welcome.set_result(effect.welcome)
                if self._keeper is not None:
                    self._keeper.changed(at_once=True)
            self._inbox.put(effect)

    def _end(self, error: Exception) -> None:
        if self._ended is not None:
            return
        self._ended = error
        self._carry_out(self._core.end(error))
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(error)
            self._welcome.exception()  # `start` may not be waiting for it
        self._inbox.end(error)
