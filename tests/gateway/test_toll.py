"""What a connection pays, without a clock or a socket."""

from __future__ import annotations

from gateway import limits, toll

#: Four a second and four at once for a connection, eight for an address: exact in binary.
TARIFF = toll.Tariff(limits.Rate(4, 4), limits.Rate(8, 8))


def payers(count: int) -> list[toll.Payer]:
    address = limits.Address("192.0.2.1")
    return [toll.Payer(address, 100.0) for _ in range(count)]


def test_a_connection_has_its_burst_and_then_its_limit_is_named() -> None:
    (payer,) = payers(1)
    assert [payer.pay(TARIFF, 100.0) for _ in range(5)] == ["", "", "", "", toll.CONNECTION]
    assert payer.pay(TARIFF, 100.25) == ""
    assert payer.pay(TARIFF, 100.25) == toll.CONNECTION


def test_what_connections_of_one_address_pay_adds_up_and_what_is_beyond_is_not_paid_by_either() -> None:
    one, two, three = payers(3)
    assert {payer.pay(TARIFF, 100.0) for payer in (one, two) for _ in range(4)} == {""}
    assert three.pay(TARIFF, 100.0) == toll.ADDRESS
    assert three.pay(TARIFF, 100.125) == ""
    assert [three.pay(TARIFF, 101.125) for _ in range(4)] == [""] * 4


def test_going_on_after_each_wait_is_a_flood_of_the_connection_and_what_the_address_lacks_never_is() -> None:
    now, (payer,) = 100.0, payers(1)
    for refusals in range(1, limits.FLOOD_REFUSALS + 1):
        while (limit := payer.pay(TARIFF, now)) == "":
            pass
        wait_ms = payer.refuse(TARIFF, limit, now)
        assert payer.is_flood == (refusals == limits.FLOOD_REFUSALS)
        now = payer._resumed = now + wait_ms / 1000
    one, two, three = payers(3)
    for payer in (one, two):
        for _ in range(4):
            payer.pay(TARIFF, 100.0)
    for _ in range(2 * limits.FLOOD_REFUSALS):
        assert three.pay(TARIFF, 100.0) == toll.ADDRESS
        assert three.refuse(TARIFF, toll.ADDRESS, 100.0) > 0
    assert not three.is_flood


def test_what_is_taken_on_credit_is_waited_for_and_the_address_pays_it_too() -> None:
    (payer,) = payers(1)
    for _ in range(8):
        wait_ms = payer.overdraw(TARIFF, 100.0)
    assert payer._address is not None
    assert payer._address.commands == 101.0
    assert payer.pay(TARIFF, 100.0) == toll.CONNECTION
    assert payer.pay(TARIFF, 100.0 + wait_ms / 1000) == ""


def test_a_request_over_http_is_paid_by_the_address_that_the_connections_share() -> None:
    (payer,) = payers(1)
    assert payer._address is not None
    assert [toll.charge(payer._address, TARIFF, 100.0) for _ in range(9)] == [True] * 8 + [False]
    assert payer.pay(TARIFF, 100.0) == toll.ADDRESS
