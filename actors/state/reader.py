"""How one device stands in one stream: live or behind. Pure.

    live    events are offered to the device as they commit
    behind  nothing is queued for it; pages are read from the store, as acknowledgements make room, until they meet the head

A device becomes behind when its window is full (events or bytes offered and not acknowledged), when its outlet refuses an
offer, when an event does not continue what it was offered (it was not told of those between), or when it comes back and the
store says so. Resume, slow reader and flow control are this one path.
"""

from __future__ import annotations

from collections import deque

#: Events and bytes that may be offered to a device in one stream and not be acknowledged (docs/protocol.md, Limits).
WINDOW_EVENTS = 256
WINDOW_BYTES = 256 * 1024
#: Beyond every seq.
EVER = 2**53 - 1


class Reader:
    """`acked` <= `offered` <= `head`: what the device took, what it was given, what there is, as far as is known.

    `intervals` are the seqs that its user may read, if they are known, and `known` the head that they were asked at: of what
    was committed since, they say nothing. `reading`: a page is being read from the store."""

    __slots__ = ("_bytes", "_sizes", "acked", "head", "intervals", "known", "live", "offered", "reading")

    def __init__(self, position: int) -> None:
        self.acked = position
        self.offered = position
        self.head = position
        self.live = True
        self.reading = False
        self.intervals: tuple[tuple[int, int], ...] | None = None
        self.known = EVER
        self._bytes = 0
        self._sizes: deque[tuple[int, int]] | None = None  # (seq, bytes) of what is offered and not acknowledged

    def committed(self, first: int, last: int, size: int) -> bool:
        """Events first..last have been committed. True: offer them now (then call `offered_to`, or `refused`)."""
        if last > self.head:
            self.head = last
            self.intervals = None  # the user may have gone and come since
        if not self.live or last <= self.offered:
            return False
        if first == self.offered + 1 and last - self.acked <= WINDOW_EVENTS and self._bytes + size <= WINDOW_BYTES:
            return True
        self.live = False
        return False

    def has_more(self, last: int) -> bool:
        """The stream goes on to `last`, and nobody offered that. Whether there is anything to be read."""
        self.head = max(self.head, last)
        self.intervals = None
        if self.offered < self.head:
            self.live = False
        return not self.live

    def offered_to(self, last: int, size: int) -> None:
        """The outlet took the events up to `last`."""
        self.offered = last
        self._bytes += size
        if self._sizes is None:
            self._sizes = deque()
        self._sizes.append((last, size))

    def refused(self) -> None:
        """The outlet is full."""
        self.live = False

    def become_behind(self, cursor: int, head: int, intervals: tuple[tuple[int, int], ...] | None) -> None:
        """The store says where the device stands. What it says of intervals holds up to the head that it names."""
        self.acked = self.offered = cursor
        self.intervals = intervals if head >= self.head else None
        self.known = EVER if intervals is None else head
        self.head = max(head, self.head)
        self.live = False

    def acknowledge(self, seq: int) -> bool:
        """The device has taken everything up to `seq`; whether that is news. More than was offered counts as all of it."""
        seq = min(seq, self.offered)
        if seq <= self.acked:
            return False
        self.acked = seq
        sizes = self._sizes
        if sizes is not None:
            while sizes and sizes[0][0] <= seq:
                self._bytes -= sizes.popleft()[1]
            if not sizes:
                self._sizes = None
        if self._sizes is None:
            self.acked = self.offered  # whatever was skipped beyond, the device cannot acknowledge
        return True

    def room(self) -> tuple[int, int] | None:
        """How many events and bytes the next page may hold; None while there is nothing to read or too little room.

        Pages begin when half the window is free, so that a device that acknowledges every event does not cause a read each."""
        if self.live or self.reading:
            return None
        if self.offered >= self.head:
            self.live = True
            return None
        events = WINDOW_EVENTS - (self.offered - self.acked)
        size = self.space()
        if events < WINDOW_EVENTS // 2 or size < WINDOW_BYTES // 2:
            return None
        return events, size

    def space(self) -> int:
        """Bytes that the window has left."""
        return WINDOW_BYTES - self._bytes

    def stretch(self) -> tuple[int, int] | None:
        """The next seqs, first and last, that the user may read, up to the head; what lies before them is skipped. None: there
        are none as far as is known, and that is skipped. `intervals` must be known."""
        end = min(self.head, self.known)
        for joined, removed in self.intervals or ():
            first, last = max(self.offered + 1, joined), min(removed, end)
            if first <= last:
                self.skip_to(first - 1)
                return first, last
        self.skip_to(end)
        if end < self.head:
            self.intervals = None
        return None

    def skip_to(self, seq: int) -> None:
        """There is nothing to be read up to `seq` (it lies between two intervals of membership, or beyond the last)."""
        if seq > self.offered:
            if self.acked == self.offered:
                self.acked = seq
            self.offered = seq
        self.head = max(self.head, seq)
