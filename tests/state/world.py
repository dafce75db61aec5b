"""What the tests of the pure streams share: a store in memory, and a host that plays the owner without loop or writer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from actors.state import log, messaging
from protocol import codes, events, messages
from storage import records

NOW = 1_800_000_000_000
"""A moment in 2027, ms."""

L = TypeVar("L", bound=log.Log)


def text(words: str, *mentions: int) -> msgspec.Raw:
    """A body of plain text that names these users."""
    body = events.Text(words, tuple(events.Mention(user, 0, 1) for user in mentions))
    return msgspec.Raw(msgspec.msgpack.encode(body))


@dataclass
class Disk:
    """One stream as `storage.interfaces` says, in memory: an append is applied whole, fenced, or refused."""

    stream: bytes
    rows: list[records.Event] = field(default_factory=list)
    parts: dict[bytes, bytes] = field(default_factory=dict)
    marks: dict[int, tuple[int, int]] = field(default_factory=dict)
    members: dict[tuple[int, int], int] = field(default_factory=dict)
    mentions: set[tuple[int, int]] = field(default_factory=set)
    n: int = 0
    time: int = 0
    epoch: int = 0
    snapshot_seq: int = 0

    @property
    def head(self) -> int:
        return len(self.rows)

    def append(self, append: records.Append) -> records.Result:
        if append.epoch < self.epoch:
            return records.Result.FENCED
        if append.first_seq != self.head + 1:
            there = [row.data for row in self.rows[append.first_seq - 1 :][: len(append.events)]]
            same = append.events and there == [event.data for event in append.events]
            return records.Result.STORED if same else records.Result.CONFLICT
        for event in append.events:
            assert event.kind == events.kind_of(events.decode(event.data))
            row = records.Event(self.head + 1, event.kind, append.epoch, event.data, event.expires_at, event.digest)
            self.rows.append(row)
        self.n, self.time, self.epoch = append.n, append.time, append.epoch
        if append.snapshot_seq is not None:
            self.snapshot_seq = append.snapshot_seq
        for erasure in append.erase:
            self.erase(erasure.seq, erasure.redact)
        for key, part in append.parts:
            self.parts.pop(key, None)
            if part is not None:
                self.parts[key] = part
        for member in append.members:
            assert member.stream == self.stream
            self.members[member.user, member.joined] = member.removed
        self.mentions.update(append.mentions)
        return records.Result.STORED

    def erase(self, seq: int, redact: records.Redact) -> None:
        if seq <= self.head:
            row = self.rows[seq - 1]
            data = redact(row.data)
            assert redact(data) == data
            self.rows[seq - 1] = records.Event(row.seq, row.kind, row.epoch, data, row.expires_at, row.digest)
            self.parts.pop(records.fold_key(seq), None)

    def erase_expired(self, now: int) -> None:
        for row in list(self.rows):
            if 0 < row.expires_at <= now:
                self.erase(row.seq, events.redact)

    def mark(self, user: int, delivered: int, read: int) -> None:
        before = self.marks.get(user, (0, 0))
        self.marks[user] = (max(delivered, before[0]), max(read, before[1]))

    def load(self) -> records.Loaded:
        parts = {key: part for key, part in self.parts.items() if not key.startswith(records.FOLD_PREFIX)}
        marks = [records.Mark(self.stream, user, *mark) for user, mark in self.marks.items()]
        tail = self.rows[self.snapshot_seq :]
        return records.Loaded(self.stream, self.head, self.n, self.time, self.epoch, self.snapshot_seq, parts, tail, marks)

    def events_alone(self) -> records.Loaded:
        """As if there had never been a snapshot."""
        return records.Loaded(self.stream, self.head, self.n, self.time, self.epoch, 0, {}, list(self.rows), [])

    def fold(self, seq: int) -> events.Fold:
        part = self.parts.get(records.fold_key(seq))
        return events.Fold() if part is None else events.decode_fold(part)

    def target(self, seq: int) -> log.Target | None:
        if not 0 < seq <= self.head:
            return None
        return log.Target(seq, events.decode(self.rows[seq - 1].data), self.fold(seq))


class Host(Generic[L]):
    """The owner's part: counts each device's commands, looks targets up, appends what was accepted.

    `auto`: every accepted command is stored at once; otherwise when `flush` is called."""

    def __init__(self, make: Callable[[], L], auto: bool = True) -> None:
        self.make = make
        self.state = make()
        self.state.epoch = 1
        self.disk = Disk(self.state.stream)
        self.auto = auto
        self.now = NOW
        self.counters: dict[int, int] = {}
        self.pending: list[log.Accepted] = []

    def command(self, user: int, frame: Any, device: int | None = None, **more: Any) -> log.Command:
        """A command of the user's (first) device with its next counter, if the frame has none yet."""
        device = user * 10 if device is None else device
        if isinstance(frame, messages.Change) and not frame.counter:
            frame.counter = self.counters[device] = self.counters.get(device, 0) + 1
        digest = hash((type(frame).__name__, msgspec.msgpack.encode(frame))) & (2**63 - 1)
        return log.Command(user, device, frame, digest, **more)

    def decide(self, command: log.Command, context: Any) -> log.Decision:
        number = messaging.target_of(command.frame)
        target = self.state.targets.get(number) or self.disk.target(number)
        decision = self.state.decide(command, self.now, target, context)
        if isinstance(decision, log.Accepted):
            self.pending.append(decision)
            if self.auto:
                self.flush()
        return decision

    def do(self, user: int, frame: Any, context: Any = None, device: int | None = None, **more: Any) -> log.Accepted:
        """A command that must be accepted as new."""
        decision = self.decide(self.command(user, frame, device, **more), context)
        assert isinstance(decision, log.Accepted)
        return decision

    def refused(self, user: int, frame: Any, context: Any = None, device: int | None = None, **more: Any) -> codes.Error:
        """The code with which a command is refused; nothing may have changed by it."""
        before = picture(self.state)
        try:
            self.decide(self.command(user, frame, device, **more), context)
        except codes.Refused as refused:
            assert picture(self.state) == before
            assert not self.pending or self.pending[-1].seq == self.state.head
            return refused.error
        raise AssertionError("it was accepted")

    def flush(self, most: int | None = None) -> None:
        """Store the oldest accepted commands as one append, as the owner does with those of one turn."""
        batch, self.pending = self.pending[:most], self.pending[most:] if most is not None else []
        if not batch:
            return
        self.store(batch)
        self.state.stored(batch[-1].seq)

    def store(self, batch: list[log.Accepted]) -> None:
        last = batch[-1]
        append = records.Append(
            self.state.stream,
            self.state.epoch,
            batch[0].seq,
            last.n,
            last.time,
            [accepted.stored for accepted in batch],
            [part for accepted in batch for part in accepted.parts],
            None,
            [erasure for accepted in batch for erasure in accepted.erase],
            [member for accepted in batch for member in accepted.members],
            [mention for accepted in batch for mention in accepted.mentions],
        )
        assert self.disk.append(append) is records.Result.STORED
        for accepted in batch:  # in the same commit: own messages move the own marks
            if isinstance(accepted.event, events.Message) and isinstance(self.state, messaging.Messaging):
                self.disk.mark(accepted.event.sender, accepted.seq, accepted.seq)

    def snapshot(self) -> None:
        self.flush()
        assert self.disk.append(self.state.snapshot()) is records.Result.STORED

    def rebuilt(self, loaded: records.Loaded | None = None) -> L:
        """The state as the next owner builds it."""
        state = self.make()
        state.load(dataclasses.replace(loaded or self.disk.load(), epoch=self.state.epoch + 1))
        return state

    def crash(self, unheard: int = 0) -> None:
        """The owner dies; of what was not confirmed to it, the first `unheard` were stored all the same."""
        if unheard and self.pending:
            self.store(self.pending[:unheard])
        self.pending = []
        self.state = self.rebuilt()


#: What a load need not bring back: how the state is told from its predecessors, and what is of the moment.
_OF_THE_MOMENT = {"epoch", "rules", "targets", "last_sent", "owed"}


def picture(state: log.Log) -> dict[str, Any]:
    """Every public attribute of a state, in a form that can be compared (dicts by their order as well)."""
    names = {name for kind in type(state).__mro__ for name in getattr(kind, "__slots__", ()) if not name.startswith("_")}
    found = {name: getattr(state, name) for name in sorted(names - _OF_THE_MOMENT)}
    found["windows"] = {device: window.rows() for device, window in state.windows.items()}
    return {name: _frozen(value) for name, value in found.items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_frozen(each) for each in value)
    if isinstance(value, set | frozenset):
        return frozenset(value)
    if isinstance(value, msgspec.Struct):
        return (type(value).__name__, _frozen(msgspec.structs.asdict(value)))
    return value
