"""A device in a stream, against a model that knows everything: nothing skipped, nothing twice, nothing beyond the window,
nothing outside the intervals of membership, and in the end the head is met."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.state import reader
from storage.records import OPEN_END

SIZES = st.sampled_from([1, 100, 1000, 16 * 1024])


class Device(RuleBasedStateMachine):
    """The stream, the membership, and what the device was given; the reader under test stands between them."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []  # of seq 1, 2, ...
        self.joined = [1]
        self.removed: list[int] = []
        self.given: list[int] = []
        self.acked = 0
        self.place = reader.Reader(0)

    @property
    def head(self) -> int:
        return len(self.sizes)

    @property
    def is_member(self) -> bool:
        return len(self.joined) > len(self.removed)

    @property
    def intervals(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self.joined, (*self.removed, OPEN_END), strict=False))

    def readable(self) -> list[int]:
        return [seq for seq in range(1, self.head + 1) if any(a <= seq <= b for a, b in self.intervals)]

    def commit(self, sizes: list[int], deaf: bool = False) -> None:
        first = self.head + 1
        self.sizes += sizes
        size = sum(sizes)
        if self.place.committed(first, self.head, size):
            if deaf:
                self.place.refused()
            else:
                self.given += range(first, self.head + 1)
                self.place.offered_to(self.head, size)

    @precondition(lambda self: self.is_member)
    @rule(sizes=st.lists(SIZES, min_size=1, max_size=200), deaf=st.sampled_from([False, False, False, True]))
    def events_commit(self, sizes: list[int], deaf: bool) -> None:
        self.commit(sizes, deaf)

    @precondition(lambda self: self.is_member)
    @rule()
    def the_member_is_removed(self) -> None:
        self.commit([50])
        self.removed.append(self.head)

    @precondition(lambda self: not self.is_member)
    @rule(unseen=st.integers(0, 300))
    def the_member_is_let_in_again(self, unseen: int) -> None:
        self.sizes += [100] * unseen
        self.joined.append(self.head + 1)
        self.commit([50])

    @precondition(lambda self: self.is_member)
    @rule(sizes=st.lists(SIZES, min_size=1, max_size=5))
    def events_are_stored_unheard(self, sizes: list[int]) -> None:
        self.sizes += sizes
        self.place.has_more(self.head)

    @rule(share=st.floats(0, 1))
    def the_device_acknowledges(self, share: float) -> None:
        waiting = [seq for seq in self.given if seq > self.acked]
        if waiting:
            self.acked = waiting[int(share * (len(waiting) - 1))]
            self.place.acknowledge(self.acked)

    @rule()
    def the_device_acknowledges_what_it_was_not_given(self) -> None:
        self.place.acknowledge(2**53 - 1)
        self.acked = max([self.acked, *self.given])

    @rule()
    def a_page_is_read(self) -> None:
        self.read()

    def read(self) -> bool:
        """As the session does; whether there was a page."""
        room = self.place.room()
        if room is None:
            return False
        self.place.intervals, self.place.known = self.intervals, self.place.head
        stretch = self.place.stretch()
        if stretch is None:
            return True
        first, last = stretch
        assert last - first >= 0
        page = list(range(first, min(last, first + room[0] - 1) + 1))
        size = taken = 0
        for seq in page:
            if taken and size + self.sizes[seq - 1] > self.place.space():
                break
            size += self.sizes[seq - 1]
            taken += 1
        self.given += page[:taken]
        self.place.intervals = None
        self.place.offered_to(page[taken - 1], size)
        return True

    @invariant()
    def nothing_is_skipped_or_given_twice_or_read_from_outside(self) -> None:
        assert self.given == self.readable()[: len(self.given)]

    @invariant()
    def the_window_is_kept(self) -> None:
        waiting = [seq for seq in self.given if seq > self.acked]
        assert len(waiting) <= reader.WINDOW_EVENTS
        assert sum(self.sizes[seq - 1] for seq in waiting) <= reader.WINDOW_BYTES

    @invariant()
    def a_live_device_has_everything(self) -> None:
        if self.place.live:
            assert self.given == self.readable()

    def teardown(self) -> None:
        for _ in range(10_000):
            if not self.read():
                if self.place.live:
                    break
                self.acked = max(self.given, default=0)
                self.place.acknowledge(self.acked)
        assert self.place.live
        assert self.given == self.readable()


TestDevice = Device.TestCase


def test_one_event_larger_than_what_is_left_waits_for_acknowledgements() -> None:
    place = reader.Reader(0)
    assert place.committed(1, 1, reader.WINDOW_BYTES - 10)
    place.offered_to(1, reader.WINDOW_BYTES - 10)
    assert not place.committed(2, 2, 11)
    assert place.room() is None
    place.acknowledge(1)
    assert place.room() == (reader.WINDOW_EVENTS, reader.WINDOW_BYTES)


def test_what_the_store_said_of_membership_is_not_believed_beyond_the_head_it_named() -> None:
    place = reader.Reader(4)
    place.live = False
    place.committed(20, 20, 1)  # removed and let in again since the store was asked
    place.become_behind(4, 9, ((1, OPEN_END),))
    assert place.intervals is None


def test_intervals_are_forgotten_when_the_stream_goes_on() -> None:
    place = reader.Reader(0)
    place.become_behind(0, 9, ((1, OPEN_END),))
    assert place.intervals is not None
    place.committed(20, 20, 1)
    assert place.intervals is None
