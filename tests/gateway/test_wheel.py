"""One timer for everybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway import wheel


class Entry:
    """Notes when it was called."""

    def __init__(self) -> None:
        self.slot: wheel.Bucket | None = None
        self.called: list[float] = []
        self.fails = False

    def due(self, now: float) -> None:
        self.called.append(now)
        if self.fails:
            raise RuntimeError("due")


def unexpected(_entry: wheel.Timed, error: Exception) -> None:
    raise error


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.lists(st.floats(0.01, 30), min_size=10, max_size=50))
def test_everybody_is_called_once_never_early_and_within_a_second_of_a_beat(whens: list[float], steps: list[float]) -> None:
    turning = wheel.Wheel(0.0)
    entries = [(when, Entry()) for when in whens]
    for when, entry in entries:
        turning.put(entry, when)
    beats = [sum(steps[: index + 1]) for index in range(len(steps))] + [1000.0]
    for now in beats:
        turning.advance(now, unexpected)
    for when, entry in entries:
        assert len(entry.called) == 1
        assert entry.called[0] >= when
        assert entry.called[0] == next(now for now in beats if now >= when and int(now) >= when)


def test_the_last_appointment_counts_and_an_earlier_one_is_void() -> None:
    turning = wheel.Wheel(0.0)
    entry = Entry()
    turning.put(entry, 5)
    turning.put(entry, 3)
    turning.advance(4, unexpected)
    assert entry.called == [4]
    turning.advance(10, unexpected)
    assert entry.called == [4]


def test_hastening_brings_an_appointment_forward_and_never_adds_one() -> None:
    turning = wheel.Wheel(0.0)
    entry = Entry()
    turning.put(entry, 9)
    turning.hasten(entry, 3)
    turning.hasten(entry, 6)
    turning.advance(20, unexpected)
    assert entry.called == [20]


def test_who_fails_keeps_nobody_waiting_and_is_reported() -> None:
    turning = wheel.Wheel(0.0)
    bad, good = Entry(), Entry()
    bad.fails = True
    turning.put(bad, 1)
    turning.put(good, 1)
    reported: list[wheel.Timed] = []
    turning.advance(1, lambda entry, _error: reported.append(entry))
    assert reported == [bad]
    assert good.called == [1]
