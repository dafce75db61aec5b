"""One timer for all connections: buckets of a second each, instead of a timer handle per connection.

A connection stands in one bucket, the one of the next moment at which something may be due. Traffic does not move it: when
its bucket comes, it looks at its own times and stands in again. At 25 s between heartbeats that is a touch every 25 s.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Protocol


class Timed(Protocol):
    """What can stand in a bucket."""

    #: The bucket it stands in; kept by the wheel. An entry left behind in another bucket does not count.
    slot: Bucket | None

    def due(self, now: float) -> None:
        """The time has come. It must not raise; it may `put` itself in again."""
        ...


class Bucket(list["Timed"]):
    """Who is due at `second`."""

    __slots__ = ("second",)

    def __init__(self, second: int) -> None:
        super().__init__()
        self.second = second


class Wheel:
    """Resolution: one second, never early."""

    def __init__(self, now: float) -> None:
        self._next = ceil(now)
        self._buckets: dict[int, Bucket] = {}

    def put(self, entry: Timed, when: float) -> None:
        """Call `entry.due` at `when` or up to a second later, and not at the moment that was appointed before."""
        second = max(ceil(when), self._next)
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = Bucket(second)
        bucket.append(entry)
        entry.slot = bucket

    def hasten(self, entry: Timed, when: float) -> None:
        """As `put`, unless the entry is due by then anyway."""
        if entry.slot is None or entry.slot.second > ceil(when):
            self.put(entry, when)

    def advance(self, now: float, failed: Callable[[Timed, Exception], None]) -> None:
        """Call everything that is due. Who raises is reported, and does not keep the others waiting."""
        while self._next <= now:
            bucket = self._buckets.pop(self._next, None)
            self._next += 1
            for entry in bucket or ():
                if entry.slot is bucket:
                    entry.slot = None
                    try:
                        entry.due(now)
                    except Exception as error:
                        failed(entry, error)
