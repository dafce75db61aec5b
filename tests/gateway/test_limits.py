"""Rates and tables, without a clock or a socket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway import limits


@given(st.lists(st.floats(0, 0.5), max_size=300))
def test_nobody_is_served_more_than_the_burst_and_what_time_gives(gaps: list[float]) -> None:
    rate = limits.Rate(10, 20)
    now = begin = paid = 100.0
    served = 0
    for gap in gaps:
        now += gap
        after = rate.after(paid, now)
        if after - now <= rate.burst_s:
            paid = after
            served += 1
        else:
            paid, _ = rate.refused(paid, now)
    assert served <= 20 + 10 * (now - begin) + 1e-6


@given(st.integers(20, 39))
def test_who_waits_as_long_as_told_is_served(taken: int) -> None:
    rate = limits.Rate(10, 20)
    paid = 0.0
    for _ in range(taken):
        paid = rate.after(paid, 0.0)
    paid, wait_ms = rate.refused(paid, 0.0)
    now = wait_ms / 1000
    assert rate.after(paid, now) - now <= rate.burst_s + 1e-9


def test_going_on_after_refusals_is_a_flood_and_what_was_long_ago_is_not() -> None:
    rate = limits.Rate(10, 20)
    refusals = 0
    for _ in range(limits.FLOOD_REFUSALS):
        refusals = rate.in_a_row(refusals, 50.0, 50.5)
    assert refusals == limits.FLOOD_REFUSALS
    assert rate.in_a_row(refusals, 50.0, 53.0) == 1


@given(st.floats(0.1, 1000), st.floats(0, 1e6))
def test_who_never_waits_gets_the_fresh_part_of_the_rate_and_one_in_any_case(per_s: float, now: float) -> None:
    burst = max(1.0, per_s)
    rate = limits.Rate(per_s, burst)
    paid, wait_ms = rate.refused(now + rate.burst_s, now)
    now += wait_ms / 1000
    served = 0
    while (after := rate.after(paid, now)) - now <= rate.burst_s:
        paid = after
        served += 1
    assert 1 <= served <= max(2.0, burst * limits.FRESH_PART + per_s * 0.001 + 2)


def test_a_debt_outlives_the_connection_and_the_table_does_not_grow() -> None:
    debts = limits.Debts(most=3)
    for device in range(5):
        debts.note(device, 20.0, 10.0)
    debts.note(9, 10.0, 10.0)
    assert len(debts) == 3
    assert debts.collect(4, 11.0) == 20.0
    assert debts.collect(4, 11.0) == 11.0
    debts.note(3, 15.0, 10.0)
    assert debts.collect(3, 30.0) == 30.0


def table(connections: int = 2, quiet: int = 10) -> limits.Addresses:
    return limits.Addresses(connections, limits.Rate(1, 5), quiet)


def test_an_address_has_so_many_connections_and_another_one_is_not_concerned() -> None:
    addresses = table()
    first = addresses.arrive("192.0.2.1", 0.0)
    assert first is not None
    assert addresses.arrive("192.0.2.1", 0.0) is first
    assert addresses.arrive("192.0.2.1", 0.0) is None
    assert addresses.arrive("192.0.2.2", 0.0) is not None
    addresses.leave(first, 0.0)
    assert addresses.arrive("192.0.2.1", 0.0) is first


def test_connecting_again_and_again_is_remembered_after_the_connection_has_ended() -> None:
    addresses = table()
    for _ in range(5):
        address = addresses.arrive("192.0.2.1", 0.0)
        assert address is not None
        addresses.leave(address, 0.0)
    assert addresses.arrive("192.0.2.1", 0.0) is None
    assert addresses.arrive("192.0.2.1", 1.0) is not None


def test_the_table_does_not_grow_with_the_addresses_that_were_ever_seen() -> None:
    addresses = table(quiet=10)
    for number in range(1000):
        address = addresses.arrive(f"192.0.2.{number}", 0.0)
        assert address is not None
        addresses.leave(address, 0.0)
    assert len(addresses) == 10


def test_an_address_that_owes_nothing_is_forgotten() -> None:
    addresses = table()
    address = addresses.arrive("192.0.2.1", 0.0)
    assert address is not None
    addresses.leave(address, 60.0)
    assert len(addresses) == 0


def test_one_customer_of_ipv6_is_one_address() -> None:
    assert limits.network("2001:db8:1:2:3::4") == limits.network("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert limits.network("::ffff:192.0.2.1") == limits.network("192.0.2.1") == "192.0.2.1"
    assert limits.network("fe80::1%eth0") == "fe80::/64"
    assert limits.network("no:address") == "no:address"
