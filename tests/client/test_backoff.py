"""When a client comes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from client import backoff


def test_the_bound_doubles_up_to_the_longest() -> None:
    tries = backoff.Backoff(lambda: 1.0)
    assert [tries.delay() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=30), st.floats(0, 100))
def test_a_delay_keeps_the_servers_hint_and_stays_under_the_bound(draws: list[float], hint: float) -> None:
    source = iter(draws)
    tries = backoff.Backoff(lambda: next(source))
    for number in range(len(draws)):
        bound = min(backoff.LONGEST_S, backoff.FIRST_S * 2**number)
        assert hint <= tries.delay(hint) <= hint + bound


def test_a_connection_that_stayed_begins_anew() -> None:
    tries = backoff.Backoff(lambda: 1.0)
    for _ in range(5):
        tries.delay()
    tries.settled()
    assert tries.delay() == 0.5
