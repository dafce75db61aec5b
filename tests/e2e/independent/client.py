"""A complete client of one device, written from docs/protocol.md alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from tests.e2e.independent import own, wire
from tests.e2e.independent.inbox import Applied, Inbox
from tests.e2e.independent.line import Line, Lost, Refused
from tests.e2e.independent.tables import COMMANDS, Record, row

ACKS_PER_FRAME = 256


@dataclass(slots=True)
class Memory:
    """What outlives connections and restarts of the program."""

    user: int = 0
    device: int = 0
    name: str = ""
    token: bytes = b""
    counter: int = 0
    incarnation: int = 0
    commands: dict[int, tuple[Record, bytes]] = field(default_factory=dict)
    """State-changing commands without an answer, by rid: the command and its bytes."""


class Client(Line):
    """One device. `applied` is every event in the order in which it was taken; `watchers` are told of each.

    `acknowledging` false keeps back the acks that otherwise follow every message at once.
    """

    def __init__(self, url: str, label: str) -> None:
        super().__init__(url, label)
        self.memory = Memory()
        self.inbox = Inbox(self._apply, self._remove)
        self.acknowledging = True
        self.acked: dict[bytes, int] = {}
        self.applied: list[Applied] = []
        self.removed: list[tuple[bytes, int, int]] = []
        self.watchers: list[Callable[[Applied], None]] = []
        self.timers: dict[bytes, int] = {}
        self.asked: dict[bytes, dict[int, int]] = {}
        self.welcome = Record("none", {})
        self.looked_at: bytes | None = None
        self.watched: set[int] = set()
        self._repeats: set[asyncio.Task[None]] = set()
        self._is_caught_up = False

    @property
    def user(self) -> int:
        """One's own user id."""
        return self.memory.user

    @property
    def device(self) -> int:
        """One's own device id."""
        return self.memory.device

    @property
    def account(self) -> bytes:
        """One's own account stream."""
        return wire.account(self.memory.user)

    def with_(self, other: Client) -> bytes:
        """The direct conversation with another."""
        return wire.direct(self.user, other.user)

    # --- coming and going ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and say nothing yet."""
        self._is_caught_up = False
        self.inbox.connecting()
        await super().open()

    async def close(self) -> None:
        """End the connection; what is not answered is repeated on the next one."""
        for task in self._repeats:
            task.cancel()
        self._repeats.clear()
        await super().close()

    async def hello(self, credential: list[Any], *, lowest: int = 1, highest: int = 1) -> Record:
        """Say who it is, on an open connection; the Welcome. Raises Refused."""
        return await self.ask(
            "Hello", lowest_version=lowest, highest_version=highest, credential=credential, agent="independent/1"
        )

    async def enter(self, credential: list[Any]) -> Record:
        """Connect, say hello, and wait until what was missed has come; the Welcome."""
        await self.open()
        welcome = await self.hello(credential)
        await self.caught_up()
        return welcome

    async def caught_up(self) -> None:
        """Wait for CaughtUp of this connection."""
        await self.until(lambda: self._is_caught_up)

    async def come_back(self) -> None:
        """Connect by token, repeat what was not answered with the same bytes, look and watch anew: behind Hello as much of it
        as may be sent there, and the rest after Welcome."""
        await self.open()
        token = wire.credential("TokenCredential", token=self.memory.token)
        hello = wire.pack(COMMANDS.write("Hello", {"rid": 1} | _hello(token, 1, 1)))
        frames = [data for _, data in sorted(self.memory.commands.values(), key=_counter)]
        if self.looked_at is not None:
            frames.append(wire.pack(COMMANDS.write("Look", {"rid": 0, "stream": self.looked_at})))
        if self.watched:
            frames.append(wire.pack(COMMANDS.write("WatchPresence", {"rid": 2, "add": sorted(self.watched)})))
        sizes = accumulate((len(frame) for frame in frames), initial=len(hello) + wire.BATCH_HEADER)
        early = min(sum(size <= wire.HELD_BYTES for size in sizes) - 1, wire.HELD_FRAMES)
        welcomes = len(self.all("Welcome"))
        await self.send_bytes(wire.batch([hello, *frames[:early]]))
        if len(frames) > early:
            await self.until(lambda: len(self.all("Welcome")) > welcomes)
            for data in wire.messages(frames[early:]):
                await self.send_bytes(data)
        await self.caught_up()

    # --- commands -----------------------------------------------------------------------------------------------------

    def counter(self) -> int:
        """A number that was never used before: for a counter, and for a rid."""
        self.memory.counter = own.next_counter(self.memory.counter, time.time_ns() // 1_000_000)
        return self.memory.counter

    def command(self, kind: str, /, **fields: Any) -> tuple[Record, bytes]:
        """A command with a new rid (and counter), and its bytes."""
        number = self.counter()
        numbers = {"rid": number, "counter": number} if own.changes_state(kind) else {"rid": number}
        array = COMMANDS.write(kind, numbers | fields)
        command = COMMANDS.read(array)
        assert command is not None
        return command, wire.pack(array)

    async def tell(self, kind: str, /, **fields: Any) -> None:
        """A command that is not answered."""
        if kind == "Look":
            self.looked_at = fields.get("stream", b"")
        await self.send_array(COMMANDS.write(kind, {"rid": 0} | fields))

    async def pages(self, kind: str, /, **fields: Any) -> list[Record]:
        """A command that changes nothing durable; all frames of its answer. Raises Refused, or Lost."""
        command, data = self.command(kind, **fields)
        if kind == "WatchPresence":
            self.watched = (self.watched | set(command.add)) - set(command.drop)
        return await self.answer_to(kind, command.rid, data)

    async def ask(self, kind: str, /, **fields: Any) -> Record:
        """The same; the last frame of the answer."""
        return (await self.pages(kind, **fields))[-1]

    async def change(self, kind: str, /, **fields: Any) -> Record:
        """A state-changing command; its Sent. While the answer is temporary, the same bytes go again."""
        command, data = self.command(kind, **fields)
        self.memory.commands[command.rid] = command, data
        while True:
            try:
                return (await self.answer_to(kind, command.rid, data))[-1]
            except Refused as refused:
                if not refused.error.temporary:
                    raise
                await asyncio.sleep((refused.error.retry_after_ms or 500) / 1000)  # what the answer asks for

    async def send(self, stream: bytes, words: str, **fields: Any) -> Record:
        """A text message; its Sent."""
        return await self.change("Send", stream=stream, body=wire.text(words), **fields)

    async def start_sending(self, stream: bytes, words: str) -> Record:
        """Put a text message on the line without waiting for its answer; the command."""
        command, data = self.command("Send", stream=stream, body=wire.text(words))
        self.memory.commands[command.rid] = command, data
        await self.send_bytes(data)
        return command

    async def refusal(self, kind: str, /, **fields: Any) -> str:
        """The symbol of the error that refuses a command."""
        try:
            answer = await (self.change if own.changes_state(kind) else self.ask)(kind, **fields)
        except Refused as refused:
            return refused.symbol
        raise AssertionError(f"{self.label}: {kind} was not refused but answered by {answer}")

    # --- what is known ------------------------------------------------------------------------------------------------

    async def event(self, stream: bytes, seq: int) -> Record:
        """Wait until everything up to event `seq` of `stream` was taken; the event."""
        await self.until(lambda: any(each.stream == stream and each.seq == seq for each in self.applied))
        return next(each.event for each in self.applied if each.stream == stream and each.seq == seq)

    def events(self, stream: bytes, name: str = "") -> list[Applied]:
        """The events taken of a stream, or those of one kind."""
        return [each for each in self.applied if each.stream == stream and name in ("", each.event.kind)]

    def texts(self, stream: bytes) -> list[str]:
        """The texts of the messages taken of a stream, in order."""
        return [each.event.body[1] for each in self.events(stream, "Message")]

    # --- what comes ---------------------------------------------------------------------------------------------------

    def take(self, record: Record) -> None:
        """One frame: positions, unanswered commands, own ids."""
        match record.kind:
            case "Welcome":
                self.welcome = record
                self.memory.user, self.memory.device, self.memory.name = record.user, record.device, record.name
                self.memory.token = record.token or self.memory.token
                if self.memory.incarnation not in (0, record.incarnation):
                    # The server was set back: what was taken stands there no more.
                    self.inbox = Inbox(self._apply, self._remove)
                    self.acked.clear()
                self.memory.incarnation = record.incarnation
                self.inbox.user = record.user
            case "CaughtUp":
                self._is_caught_up = True
                self.inbox.caught_up()
            case "Event":
                self._settle_by_event(record)
                self.inbox.event(record.stream, record.seq, record.event)
            case "Gone" if record.rid == 0:
                self.inbox.gone(record.stream, record.first, record.last)
            case "Sent" if record.rid in self.memory.commands:
                command, _ = self.memory.commands.pop(record.rid)
                stream = own.stream_of(command, self.user, self.device)
                event = own.event_of(
                    command, record, self.user, self.device, self.timers.get(stream, 0), self.asked.get(stream, {})
                )
                self.inbox.sent(stream, record.seq, event)
            case "Error" if record.temporary and record.rid in self.memory.commands and not self.is_asked(record.rid):
                self._repeats.add(asyncio.create_task(self._repeat(record)))
            case "Done" | "Error" if not record.fields.get("temporary"):
                self.memory.commands.pop(record.rid, None)

    async def _repeat(self, error: Record) -> None:
        """The same bytes again, for a command that nobody waits for any more."""
        await asyncio.sleep((error.retry_after_ms or 500) / 1000)  # what the answer asks for
        if error.rid in self.memory.commands and self.close_code is None:
            with suppress(Lost):
                await self.send_bytes(self.memory.commands[error.rid][1])

    async def after_message(self) -> None:
        """Acknowledge what has moved, and once more what came twice; answer a heartbeat with anything."""
        again, self.inbox.again = self.inbox.again, set()
        moved = [
            (stream, seq)
            for stream, seq in self.inbox.positions.items()
            if seq > 0 and (seq > self.acked.get(stream, 0) or stream in again)
        ]
        if moved and self.acknowledging:
            for start in range(0, len(moved), ACKS_PER_FRAME):
                await self.tell("Ack", cursors=moved[start : start + ACKS_PER_FRAME])
            self.acked |= dict(moved)
        if self.received and self.received[-1].kind == "Heartbeat":
            await self.tell("ClientHeartbeat")

    def _settle_by_event(self, record: Record) -> None:
        event = record.event
        if event.device != self.device:
            return
        for rid, (command, _) in list(self.memory.commands.items()):
            if command.counter == event.counter:
                del self.memory.commands[rid]
                self.settle(rid, Record("Sent", {"rid": rid, "seq": record.seq, "n": event.n, "time": event.time}))

    def _apply(self, applied: Applied) -> None:
        if applied.event.kind == "TimerChanged":
            self.timers[applied.stream] = applied.event.seconds
        elif applied.event.kind == "JoinRequested":
            self.asked.setdefault(applied.stream, {})[applied.event.sender] = applied.event.invite
        elif applied.event.kind == "Joined":
            self.inbox.joined(applied.event.stream, applied.event.seq)
        self.applied.append(applied)
        for watcher in self.watchers:
            watcher(applied)

    def _remove(self, stream: bytes, first: int, last: int) -> None:
        self.removed.append((stream, first, last))

    def limits(self) -> Record:
        """The Limits of the Welcome."""
        return row("Limits", self.welcome.limits)


def _counter(entry: tuple[Record, bytes]) -> int:
    counter: int = entry[0].counter
    return counter


def _hello(credential: list[Any], lowest: int, highest: int) -> dict[str, Any]:
    return {"lowest_version": lowest, "highest_version": highest, "credential": credential, "agent": "independent/1"}
