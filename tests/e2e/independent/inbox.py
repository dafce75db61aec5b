"""Positions: which events of which streams this device has, whatever order the answers come in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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
    """What a device keeps about its streams. `apply` is called once for each event, in the order of each stream."""

    apply: Callable[[Applied], None]
    remove: Callable[[bytes, int, int], None]
    positions: dict[bytes, int] = field(default_factory=dict)
    covered: dict[bytes, dict[int, Record]] = field(default_factory=dict)
    jumps: list[tuple[bytes, int]] = field(default_factory=list)
    duplicates: int = 0

    def event(self, stream: bytes, seq: int, event: Record) -> None:
        """An Event frame."""
        position = self.positions.get(stream)
        if position is None:
            position = self.positions[stream] = seq - 1
        if seq <= position:
            self.duplicates += 1
            return
        if seq > position + 1:
            self.jumps.append((stream, seq))
            self._forget_covered(stream, seq - 1)
        self._take(stream, seq, event, own=False)

    def sent(self, stream: bytes, seq: int, event: Record) -> None:
        """A Sent. Where the stream has no position, later than its first event, what was before is yet to be learnt."""
        position = self.positions.get(stream)
        if position is None and seq == 1:
            position = self.positions[stream] = 0
        if position is not None and seq <= position:
            return
        if position is not None and seq == position + 1:
            self._take(stream, seq, event, own=True)
        else:
            self.covered.setdefault(stream, {})[seq] = event

    def gone(self, stream: bytes, first: int, last: int) -> None:
        """A Gone with rid 0: seqs that hold nothing any more."""
        position = self.positions.get(stream)
        if position is None or first <= position + 1:
            self.positions[stream] = max(position or 0, last)
            self._forget_covered(stream, last)
        else:
            self.jumps.append((stream, first))
            self.positions[stream] = last
        self.remove(stream, first, last)
        self._step_over(stream)

    def start(self, stream: bytes, position: int) -> None:
        """Everything up to `position` is known from elsewhere (the head of a row, the seq before a joining)."""
        if self.positions.get(stream, -1) < position:
            self.positions[stream] = position
            self._forget_covered(stream, position)
            self._step_over(stream)

    def _take(self, stream: bytes, seq: int, event: Record, *, own: bool) -> None:
        self.positions[stream] = seq
        self.covered.get(stream, {}).pop(seq, None)
        self.apply(Applied(stream, seq, event, own))
        self._step_over(stream)

    def _step_over(self, stream: bytes) -> None:
        waiting = self.covered.get(stream)
        if not waiting:
            return
        event = waiting.pop(self.positions[stream] + 1, None)
        if event is not None:
            self._take(stream, self.positions[stream] + 1, event, own=True)

    def _forget_covered(self, stream: bytes, upto: int) -> None:
        waiting = self.covered.get(stream, {})
        for seq in [seq for seq in waiting if seq <= upto]:
            del waiting[seq]
