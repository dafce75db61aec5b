"""Limits of attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth import attempts

WINDOW = 60_000


def test_guesses_for_one_account_from_one_address_are_limited_and_the_owner_elsewhere_is_not() -> None:
    table = attempts.Attempts(3, 100, WINDOW)
    assert [table.take("asha", "192.0.2.1", 0) for _ in range(3)] == [0, 0, 0]
    assert table.take("asha", "192.0.2.1", 0) > 0
    assert table.take("asha", "192.0.2.2", 0) == 0
    assert table.take("ben", "192.0.2.1", 0) == 0


def test_guesses_from_one_address_are_limited_over_all_accounts() -> None:
    table = attempts.Attempts(3, 10, WINDOW)
    assert [table.take(f"user{number}", "192.0.2.1", 0) for number in range(10)] == [0] * 10
    assert table.take("user10", "192.0.2.1", 0) > 0
    assert table.take("user10", "192.0.2.2", 0) == 0


def test_the_wait_that_is_told_is_enough_and_not_a_window_too_long() -> None:
    table = attempts.Attempts(3, 100, WINDOW)
    for _ in range(3):
        table.take("asha", "192.0.2.1", 0)
    wait = table.take("asha", "192.0.2.1", 0)
    assert wait <= WINDOW // 3 + 1
    assert table.take("asha", "192.0.2.1", wait - 2) > 0
    assert table.take("asha", "192.0.2.1", wait) == 0


def test_a_refused_guess_costs_nothing_more() -> None:
    table = attempts.Attempts(1, 2, WINDOW)
    table.take("asha", "192.0.2.1", 0)
    for _ in range(5):
        assert table.take("asha", "192.0.2.1", 0) > 0
    assert table.take("ben", "192.0.2.1", 0) == 0


def test_a_guess_that_could_not_be_checked_is_given_back() -> None:
    table = attempts.Attempts(1, 1, WINDOW)
    for _ in range(5):
        assert table.take("asha", "192.0.2.1", 0) == 0
        table.give_back("asha", "192.0.2.1", 0)


def test_right_guesses_are_limited_apart_and_take_none_of_those_that_may_be_wrong() -> None:
    table = attempts.Attempts(2, 100, WINDOW)
    for _ in range(2 * attempts.RIGHT_TIMES):
        assert table.take("asha", "192.0.2.1", 0) == 0
        table.was_right("asha", "192.0.2.1", 0)
    wait = table.take("asha", "192.0.2.1", 0)
    assert 0 < wait <= WINDOW // (2 * attempts.RIGHT_TIMES) + 1
    assert table.take("asha", "192.0.2.2", 0) == 0
    assert [table.take("asha", "192.0.2.1", wait) for _ in range(2)] == [0, 0]


def test_right_guesses_from_one_address_are_limited_over_all_accounts() -> None:
    table = attempts.Attempts(1, 3, WINDOW)
    for number in range(3 * attempts.RIGHT_TIMES):
        assert table.take(f"user{number}", "192.0.2.1", 0) == 0
        table.was_right(f"user{number}", "192.0.2.1", 0)
    assert table.take("asha", "192.0.2.1", 0) > 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("unix", "unix", True),
    ],
)
def test_addresses_of_one_customer_count_as_one(one: str, other: str, same: bool) -> None:
    assert (attempts.customer(one) == attempts.customer(other)) is same


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.integers(-5000, 5000)), max_size=200))
def test_no_key_ever_gets_more_than_the_limit_allows_and_the_table_stays_bounded(steps: list[tuple[int, bool, int]]) -> None:
    size, now = 4, 100_000
    buckets = attempts.Buckets(size, WINDOW, max_entries=8)
    taken: dict[int, list[int]] = {}
    highest = now
    for key, back, step in steps:
        now += step
        highest = max(highest, now)
        if back:
            continue
        if buckets.wait(key, now) == 0:
            buckets.take(key, now)
            taken.setdefault(key, []).append(now)
        assert len(buckets) <= 8
    # Keys that were never forgotten had at most the bucket and what forward steps refilled.
    forward = sum(max(0, step) for _, _, step in steps)
    if len(taken) <= 8:
        for times in taken.values():
            assert len(times) <= size + forward * size / WINDOW + 1


def test_a_clock_that_is_set_back_neither_refills_nor_locks_for_good() -> None:
    buckets = attempts.Buckets(1, WINDOW)
    buckets.take("key", 1_000_000)
    assert buckets.wait("key", 0) > 0
    buckets.give_back("key", 0)
    buckets.take("key", 0)
    assert buckets.wait("key", WINDOW + 1) == 0


def test_a_full_bucket_takes_no_room() -> None:
    buckets = attempts.Buckets(2, WINDOW)
    buckets.take("key", 0)
    assert len(buckets) == 1
    buckets.give_back("key", WINDOW)
    assert len(buckets) == 0
