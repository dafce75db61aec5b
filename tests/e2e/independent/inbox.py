"""Positions: which events of which streams this device has, whatever order the answers come in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.e2e.independent import own as own_
from tests.e2e.independent.tables import Record


@dataclass(slots=True)
class Applied:
    """One event that was taken: by a frame, or because a Sent stood for it (`own`)."""

    stream: bytes
    seq: int
    event: Record
    own: bool


@dataclass(slots=True)
class Inbox:
    """What a device keeps about its streams. `apply` is called once for each event, in the order of each stream.

    `user`: oneself. `covered`: own events whose turn has not come. `begun`: streams that began with an own event, at which
    seq; `late`: the highest of those before it that came after all. `outside`: streams that one has left, by what was taken.
    `entered`: the newest joining that the account stream told of. `again`: streams of which something came twice, so that the
    server lacks an acknowledgement. `jumps`: gaps that nothing explains."""

    apply: Callable[[Applied], None]
    remove: Callable[[bytes, int, int], None]
    user: int = 0
    positions: dict[bytes, int] = field(default_factory=dict)
    covered: dict[bytes, dict[int, Record]] = field(default_factory=dict)
    begun: dict[bytes, int] = field(default_factory=dict)
    late: dict[bytes, int] = field(default_factory=dict)
    outside: set[bytes] = field(default_factory=set)
    entered: dict[bytes, int] = field(default_factory=dict)
    again: set[bytes] = field(default_factory=set)
    jumps: list[tuple[bytes, int]] = field(default_factory=list)
    duplicates: int = 0
    has_caught_up: bool = False

    def connecting(self) -> None:
        """A new connection: events before an own one may be under way."""
        self.has_caught_up = False

    def caught_up(self) -> None:
        """CaughtUp: streams of which nothing but own events came begin with those."""
        self.has_caught_up = True
        for stream in [stream for stream in self.covered if stream not in self.positions]:
            self._begin(stream)

    def event(self, stream: bytes, seq: int, event: Record) -> None:
        """An Event frame."""
        position = self.positions.get(stream)
        if position is None:
            self.positions[stream] = position = min(seq, *self.covered.get(stream, {seq: None})) - 1
            self._step_over(stream)
            position = self.positions[stream]
        if seq <= position:
            if self.late.get(stream, 0) < seq < self.begun.get(stream, 0):
                self.late[stream] = seq
                self.apply(Applied(stream, seq, event, own=False))
            else:
                self.duplicates += 1
            self.again.add(stream)
            return
        if seq > position + 1:
            if not own_.lets_in(event, self.user):
                self.jumps.append((stream, seq))
            self._forget_covered(stream, seq - 1)
        self._take(stream, seq, event, own=False)

    def sent(self, stream: bytes, seq: int, event: Record) -> None:
        """A Sent. It overtakes events before it that are read from the store."""
        position = self.positions.get(stream)
        if position is not None and seq <= position:
            return
        self.covered.setdefault(stream, {})[seq] = event
        if position is None and (seq == 1 or self.has_caught_up):
            self._begin(stream)
        elif position is not None:
            self._step_over(stream)

    def gone(self, stream: bytes, first: int, last: int) -> None:
        """A Gone with rid 0: seqs that hold nothing any more."""
        position = self.positions.get(stream)
        if position is not None and last <= position:
            if last < self.begun.get(stream, 0):
                self.late[stream] = max(last, self.late.get(stream, 0))
            else:
                self.duplicates += 1
            self.again.add(stream)
        else:
            if position is not None and first > position + 1:
                self.jumps.append((stream, first))
            self.positions[stream] = last
            self._forget_covered(stream, last)
        self.remove(stream, first, last)
        self._step_over(stream)

    def joined(self, stream: bytes, seq: int) -> None:
        """The account stream says that one is a member of a group from `seq` on. Events before that may still come."""
        self.entered[stream] = seq
        if self.positions.get(stream) == seq:
            self.outside.discard(stream)

    def _begin(self, stream: bytes) -> None:
        first = min(self.covered[stream])
        self.positions[stream] = first - 1
        self.begun[stream] = first
        self._step_over(stream)

    def _take(self, stream: bytes, seq: int, event: Record, *, own: bool) -> None:
        self.positions[stream] = seq
        self.covered.get(stream, {}).pop(seq, None)
        if not own:
            self.begun.pop(stream, None)
        if own_.keeps_out(event, self.user) or (own_.is_join(event) and self.entered.get(stream) != seq):
            self.outside.add(stream)
        else:
            self.outside.discard(stream)
        self.apply(Applied(stream, seq, event, own))
        self._step_over(stream)

    def _step_over(self, stream: bytes) -> None:
        """Take the own events whose turn it is. Between leaving and coming back there is nothing to wait for."""
        waiting = self.covered.get(stream)
        if not waiting:
            return
        following = self.positions[stream] + 1
        if following not in waiting and stream in self.outside:
            following = min(waiting)
        event = waiting.pop(following, None)
        if event is not None:
            self._take(stream, following, event, own=True)

    def _forget_covered(self, stream: bytes, upto: int) -> None:
        waiting = self.covered.get(stream, {})
        for seq in [seq for seq in waiting if seq <= upto]:
            del waiting[seq]
