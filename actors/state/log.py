"""The one log machine: an ordered, gapless, idempotent log of events with one owner. Pure.

Every stream (direct, group, account) is a `Log` with its own policy, a subclass. A command goes through four steps:

    1. Has this device sent this counter before?  Then the old answer, or an error if the bytes differ.
    2. May it, and what does it become?           The policy's `propose`: an event, or a refusal. No seq is used by a refusal.
    3. The event gets the next seq, n and time.   It is provisional until the store has it.
    4. `apply` folds it into the state.           The same function rebuilds the state from the store.

Provisional events are never undone one by one: when an append fails, the owner throws the state away and loads it again.

A device's memory (`Window`) is its last 64 accepted counters. A device sends at most 63 commands to a stream beyond its
oldest unanswered one, so whatever it may still repeat is in there; what lies below the lowest of a full window was answered.
A window is forgotten long after its last use: a device that was silent for so long is itself forgotten, and one that was not
has repeated what it had to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.state import rules
from protocol import codes, events, messages
from storage import records

#: Accepted commands remembered of each device in each stream (docs/protocol.md, Commands).
WINDOW = 64
#: Events between snapshots: what an owner reads at most when it loads.
SNAPSHOT_EVERY = 256
#: Parts of a snapshot that hold one device's window.
WINDOW_PREFIX = b"w"

Entry = tuple[int, int]  # (seq, digest)
Row = tuple[int, int, int]  # (counter, seq, digest), as stored

_encoder = msgspec.msgpack.Encoder()
_window_decoder = msgspec.msgpack.Decoder(tuple[int, list[Row]])


class Window:
    """Which of one device's counters this stream has accepted, newest 64 by counter: {counter: (seq, digest)}, ascending.
    `time` is that of the newest event (ms)."""

    __slots__ = ("entries", "highest", "time")

    def __init__(self, time: int = 0, rows: Iterable[Row] = ()) -> None:
        self.time = time
        self.entries: dict[int, Entry] = {counter: (seq, digest) for counter, seq, digest in sorted(rows)}
        self.highest = next(reversed(self.entries), 0)

    def find(self, counter: int) -> Entry | None:
        return self.entries.get(counter)

    def is_past(self, counter: int) -> bool:
        """Whether a counter that is not in the window must have been answered long ago."""
        return counter < self.highest and len(self.entries) >= WINDOW and counter < next(iter(self.entries))

    def add(self, counter: int, seq: int, digest: int, time: int) -> None:
        self.time = time
        entries = self.entries
        entries[counter] = (seq, digest)
        if counter > self.highest:
            self.highest = counter
        else:
            # A refused command that was sent again with its old counter: rare, so sorting is cheaper than a better structure.
            self.entries = entries = dict(sorted(entries.items()))
        if len(entries) > WINDOW:
            del entries[next(iter(entries))]

    def rows(self) -> list[Row]:
        return [(counter, seq, digest) for counter, (seq, digest) in self.entries.items()]


@dataclass(slots=True, frozen=True)
class Copied:
    """The current body of a message that is forwarded, and how often it was forwarded by now."""

    body: msgspec.Raw
    hops: int


@dataclass(slots=True)
class Command:
    """A state-changing command at its stream. `mentions` are the users its body names; `digest` that of the raw bytes.

    device 0 stands for the server itself: such a command has no counter, is never a repeat, and its frame may be the event
    that it wants. `copied` is what a forward copies, once it was found."""

    user: int
    device: int
    frame: messages.Change | events.Event
    digest: int
    mentions: tuple[int, ...] = ()
    copied: Copied | None = None


@dataclass(slots=True)
class Target:
    """An item that a command refers to, as it is now: the event, and the fold of what was done to it. `changed` is the seq of
    the last event that touched it here."""

    seq: int
    event: events.AnyEvent
    fold: events.Fold
    changed: int = 0


@dataclass(slots=True)
class Proposal:
    """What a command becomes if nothing fails: the event (n and time are filled in later), and what goes with it.

    `expires_at` is for an event that carries a body and is no message (an edit): it goes when its message goes."""

    event: events.Event
    target: Target | None = None  # with its new fold
    erase: Sequence[int] = ()
    mentions: Sequence[int] = ()
    expires_after: int = 0  # ms; 0: never
    expires_at: int = 0


@dataclass(slots=True, frozen=True)
class Repeat:
    """The command took effect before, as event `seq`, which is durable: answer it as then."""

    seq: int


@dataclass(slots=True, frozen=True)
class Waiting:
    """The command is on its way to the store; its answer comes with that."""


@dataclass(slots=True)
class Accepted:
    """A new provisional event, and the part of an append that makes it durable."""

    seq: int
    n: int
    time: int
    event: events.Event
    data: bytes
    command: Command
    stored: records.NewEvent
    parts: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    erase: list[records.Erasure] = field(default_factory=list)
    members: Sequence[records.Membership] = ()
    mentions: Sequence[tuple[int, int]] = ()


WAITING = Waiting()
Decision = Accepted | Repeat | Waiting


class Log:
    """State of one stream. `head`, `n`, `time` include what is provisional; `durable` is the last seq known to be stored;
    `epoch` is what its owner appends with, from `load` on.

    `targets` holds the items touched by events that are not durable yet, for commands that refer to them meanwhile."""

    __slots__ = (
        "_changed_windows",
        "durable",
        "epoch",
        "head",
        "n",
        "rules",
        "snapshot_seq",
        "stream",
        "targets",
        "time",
        "windows",
    )

    def __init__(self, stream: bytes, limits: rules.Rules) -> None:
        self.stream = stream
        self.rules = limits
        self.epoch = 0
        self.head = 0
        self.durable = 0
        self.n = 0
        self.time = 0
        self.snapshot_seq = 0
        self.windows: dict[int, Window] = {}
        self.targets: dict[int, Target] = {}
        self._changed_windows: set[int] = set()

    # --- what a policy says -------------------------------------------------------------------------------------------

    def propose(self, command: Command, now: int, target: Target | None, context: Any) -> Proposal:
        """What the command becomes; codes.Refused if it may not be. Must not change the state.

        `target` is the item that `target_of` named; `context` what the policy's own docstring says."""
        raise NotImplementedError

    def applied(self, seq: int, event: events.Event) -> None:
        """Fold one event into the policy's state. Must depend on state and event alone."""
        raise NotImplementedError

    def memberships(self, seq: int, event: events.Event) -> Sequence[records.Membership]:
        """The memberships that this event, about to be applied, begins or ends."""
        return ()

    def changed_parts(self, event: events.Event) -> Sequence[tuple[bytes, bytes | None]]:
        """Parts to be stored together with an event that was just applied."""
        return ()

    def snapshot_parts(self) -> list[tuple[bytes, bytes | None]]:
        """The policy's own parts that changed since the last snapshot."""
        raise NotImplementedError

    def restore(self, parts: dict[bytes, bytes]) -> None:
        """Set the policy's state from the parts of a snapshot (none: a new stream)."""
        raise NotImplementedError

    # --- the machine --------------------------------------------------------------------------------------------------

    def earlier(self, command: Command) -> Repeat | Waiting | None:
        """Step 1: what is known of this (device, counter). codes.Refused: COUNTER_REUSED, ALREADY, COUNTER_MISSING."""
        device = command.device
        if device == 0:
            return None
        counter = command.frame.counter
        if counter < 1:
            raise codes.Refused(codes.COUNTER_MISSING)
        window = self.windows.get(device)
        if window is None:
            return None
        entry = window.entries.get(counter)
        if entry is None:
            if counter < window.highest and window.is_past(counter):
                raise codes.Refused(codes.ALREADY)
            return None
        if entry[1] != command.digest:
            raise codes.Refused(codes.COUNTER_REUSED)
        return Repeat(entry[0]) if entry[0] <= self.durable else WAITING

    def decide(self, command: Command, now: int, target: Target | None, context: Any) -> Decision:
        """Steps 1 to 4. codes.Refused when it is refused, and then nothing has changed."""
        known = self.earlier(command)
        return known if known is not None else self.accept(command, now, target, context)

    def accept(self, command: Command, now: int, target: Target | None, context: Any) -> Accepted:
        """Steps 2 to 4, for a command that `earlier` does not know. codes.Refused, and then nothing has changed."""
        # Whatever the clock does, this stream's time never goes back: not for limits in time, nor for expiry.
        time = max(now, self.time)
        proposal = self.propose(command, time, target, context)
        event = proposal.event
        seq = self.head + 1
        kind = events.kind_of(event)
        event.n = self.n + 1 if kind == events.MESSAGE else self.n
        event.time = time
        event.sender = command.user
        event.device = command.device
        event.counter = command.frame.counter if command.device else 0
        expires_at = proposal.expires_at
        if proposal.expires_after and isinstance(event, events.Message):
            expires_at = event.expires_at = time + proposal.expires_after
        data = events.encode(event)
        accepted = Accepted(seq, event.n, time, event, data, command, records.NewEvent(kind, data, expires_at, command.digest))
        accepted.members = self.memberships(seq, event)
        if command.device:
            self._remember(command.device, command.frame.counter, seq, command.digest, time)
        self._advance(seq, event)
        accepted.parts.extend(self.changed_parts(event))
        if proposal.mentions:
            accepted.mentions = [(user, seq) for user in proposal.mentions]
        if proposal.erase:
            accepted.erase = [records.Erasure(erased, events.redact) for erased in proposal.erase]
        if proposal.target is not None:
            proposal.target.changed = seq
            self.targets[proposal.target.seq] = proposal.target
            accepted.parts.append((records.fold_key(proposal.target.seq), events.encode_fold(proposal.target.fold)))
        return accepted

    def _remember(self, device: int, counter: int, seq: int, digest: int, time: int) -> None:
        window = self.windows.get(device)
        if window is None:
            window = self.windows[device] = Window()
        window.add(counter, seq, digest, time)
        self._changed_windows.add(device)

    def _advance(self, seq: int, event: events.Event) -> None:
        self.head = seq
        self.n = event.n
        self.time = event.time
        self.applied(seq, event)

    def stored(self, seq: int, keep_targets: Iterable[int] = ()) -> None:
        """Everything up to `seq` is durable. A target is forgotten once nothing about it is provisional, unless it is to be
        kept: who began to read it from the store before that may have got what it was."""
        if seq > self.durable:
            self.durable = seq
        if self.targets:
            kept = set(keep_targets)
            durable = self.durable
            self.targets = {
                number: target for number, target in self.targets.items() if target.changed > durable or number in kept
            }

    # --- snapshot and load --------------------------------------------------------------------------------------------

    @property
    def snapshot_due(self) -> bool:
        return self.head - self.snapshot_seq >= SNAPSHOT_EVERY

    def snapshot(self) -> records.Append:
        """An append that stores the state as of head. It is valid only if everything before it is stored."""
        parts = self.snapshot_parts()
        forgotten = self.time - self.rules.windows_kept
        for device in [device for device, window in self.windows.items() if window.time < forgotten]:
            del self.windows[device]
            self._changed_windows.add(device)
        for device in self._changed_windows:
            window = self.windows.get(device)
            part = None if window is None else _encoder.encode((window.time, window.rows()))
            parts.append((WINDOW_PREFIX + device.to_bytes(7, "big"), part))
        self._changed_windows.clear()
        self.snapshot_seq = self.head
        return records.Append(self.stream, self.epoch, self.head + 1, self.n, self.time, parts=parts, snapshot_seq=self.head)

    def load(self, loaded: records.Loaded) -> None:
        """Become what the store holds: the snapshot, then every event after it."""
        self.epoch = loaded.epoch
        self.restore(loaded.parts)
        for key, part in loaded.parts.items():
            if key.startswith(WINDOW_PREFIX):
                self.windows[int.from_bytes(key[1:], "big")] = Window(*_window_decoder.decode(part))
        self.snapshot_seq = loaded.snapshot_seq
        for row in loaded.tail:
            event = events.decode(row.data)
            if event.device:
                self._remember(event.device, event.counter, row.seq, row.digest, event.time)
            self._advance(row.seq, event)
        self.head = self.durable = loaded.head
        self.n = loaded.n
        self.time = loaded.time
