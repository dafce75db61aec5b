"""What a connection pays for what it sends, and what becomes of it when it cannot pay. Pure: the time is passed in.

Whatever comes from a client costs the same, be it a command, a ping, a fragment or a frame that nobody can read; it is paid to
the rate of its connection and to that of its address, which all connections from there share. Beyond them:

    the rate of       a command                  an acknowledgement, whose      no command
                                                 loss would stop the events
    the connection    is refused, which counts   is taken, on credit            counts as a refusal
                      toward a flood
    the address       is refused                 is taken, on credit            is taken, on credit

and in any case nothing more is read for a while. Others of the same address may have used its rate up, so that is no flood of
this connection's.

A connection is a Payer, by inheritance: a purse of its own for each of 20,000 would be another object.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway import limits

#: What `Payer.pay` goes beyond; the names that telemetry counts refusals by.
CONNECTION = "connection"
ADDRESS = "address"


@dataclass(slots=True, frozen=True)
class Tariff:
    """The rates that all connections pay. One object serves them all."""

    connection: limits.Rate
    address: limits.Rate


def charge(address: limits.Address, tariff: Tariff, now: float) -> bool:
    """Have an address alone pay for one: for a request over HTTP. False: it goes beyond the rate, and nothing is paid."""
    owed = tariff.address.after(address.commands, now)
    if owed - now > tariff.address.burst_s:
        return False
    address.commands = owed
    return True


class Payer:
    """Times are seconds of one monotonic clock."""

    __slots__ = ("_address", "_paid", "_refusals", "_resumed")

    def __init__(self, address: limits.Address | None, began: float) -> None:
        self._address = address
        #: Paid-off time of the rate of the connection (`limits.Rate`).
        self._paid = began
        #: Refusals in a row, and when the wait after the last one was over.
        self._refusals = 0
        self._resumed = began

    def pay(self, tariff: Tariff, now: float) -> str:
        """Pay for one. "": it is paid. Else the limit that it goes beyond, and nothing is paid: `refuse` or `overdraw` then."""
        rate = tariff.connection
        paid = rate.after(self._paid, now)
        if paid - now > rate.burst_s:
            return CONNECTION
        address = self._address
        if address is not None:
            rate = tariff.address
            owed = rate.after(address.commands, now)
            if owed - now > rate.burst_s:
                return ADDRESS
            address.commands = owed
        self._paid = paid
        return ""

    def overdraw(self, tariff: Tariff, now: float) -> int:
        """Pay for what is taken although it goes beyond a limit. How many milliseconds to read nothing for it."""
        rate, address = tariff.connection, self._address
        self._paid = rate.after(self._paid, now)
        wait_ms = rate.wait_ms(self._paid, now)
        if address is not None:
            rate = tariff.address
            address.commands = rate.after(address.commands, now)
            wait_ms = max(wait_ms, rate.wait_ms(address.commands, now))
        return wait_ms

    def refuse(self, tariff: Tariff, limit: str, now: float) -> int:
        """What goes beyond `limit` is refused. After how many milliseconds some will be served again."""
        if limit is ADDRESS:
            assert self._address is not None
            return tariff.address.wait_ms(self._address.commands, now)
        rate = tariff.connection
        self._refusals = rate.in_a_row(self._refusals, self._resumed, now)
        self._paid, wait_ms = rate.refused(self._paid, now)
        return wait_ms

    @property
    def is_flood(self) -> bool:
        """Whether the last refusal was one too many."""
        return self._refusals >= limits.FLOOD_REFUSALS
