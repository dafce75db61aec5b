"""Conversations with a past, as records for a store that is filled in bulk.

What stands there is what a node would have written: events in their final encoding, memberships, and snapshots of the state
that the pure log machine makes of those events.
"""

from __future__ import annotations

from collections.abc import Iterator

from actors.state import direct, rules
from bench import people, wire
from protocol import events
from storage import records

#: Of events written before the node ever ran.
EPOCH = 1
#: Events in one append, and between two snapshots: as often as a node would make one.
CHUNK = 256
#: Time between two messages, ms.
PACE_MS = 1000

_BODY = wire.body()


class Past:
    """One direct conversation, as far as it was written."""

    __slots__ = ("_others", "_state", "head", "stream")

    def __init__(self, one: people.Person, other: people.Person) -> None:
        self._others = (one, other)
        self.stream = people.stream_of(one, other)
        self.head = 0
        self._state = direct.Direct(self.stream, rules.Rules())

    def say(self, count: int, start: int, sender: int | None = None, snapshots: bool = False) -> Iterator[records.Append]:
        """`count` more messages, the first at `start` (ms since the epoch), by turns or all by `sender` (0 or 1)."""
        while count:
            size = min(count, CHUNK)
            first = self.head + 1
            rows = []
            members = [] if self.head else [records.Membership(each.user, self.stream, 1) for each in self._others]
            for seq in range(first, first + size):
                writer = self._others[seq % 2 if sender is None else sender]
                time = start + (seq - first) * PACE_MS
                event = events.Message(seq, time, writer.user, writer.device, seq, _BODY)
                rows.append(records.NewEvent(events.MESSAGE, events.encode(event)))
            self.head += size
            yield records.Append(self.stream, EPOCH, first, self.head, time, rows, members=members)
            if snapshots:
                yield self._snapshot(first, rows, time)
            count -= size
            start = time + PACE_MS

    def _snapshot(self, first: int, rows: list[records.NewEvent], time: int) -> records.Append:
        tail = [records.Event(first + index, row.kind, EPOCH, row.data) for index, row in enumerate(rows)]
        self._state.load(records.Loaded(self.stream, self.head, self.head, time, EPOCH, 0, {}, tail, []))
        return self._state.snapshot()

    def acknowledged(self, by: int) -> records.Cursor:
        """The device of `by` (0 or 1) has everything."""
        person = self._others[by]
        return records.Cursor(person.user, person.device, self.stream, self.head)
