"""How much one connection, one address and the node take: pure decisions over plain numbers, no clock inside.

A rate is kept as one float, the *theoretical arrival time* of the generic cell rate algorithm (ITU-T I.371, annex A): the
moment at which everything taken so far would be paid off at the allowed pace. It lies in the past for who was quiet, and at
most the burst ahead of now for who may still go on. One float instead of a level and a time, for each of 20,000 connections.
"""

from __future__ import annotations

import ipaddress
from math import ceil

#: Addresses without a connection that are remembered, the longest silent forgotten first: 16,384 at 0.3 KB are 5 MB.
MAX_QUIET_ADDRESSES = 16_384
#: Part of a burst that is served at once after a refusal and the wait for it: of 200 commands 8, one turn's worth, so that
#: those who come back in one moment are through in a few milliseconds. Who sends without end gets that much of the rate, and
#: who waits as told and keeps to the rate from then on is served always.
FRESH_PART = 0.04
#: A burst as a multiple of a second's worth, as config.py describes it: for commands, and for new connections of an address.
#: Commands: what a client has to say after a pause, and no more than can be worked off beside others' without their noticing.
COMMAND_BURST = 1
CONNECT_BURST = 10
#: Refusals in a row after which a connection is closed as a flood. Not being read between them, it gets there by sending more
#: than a whole burst after each wait, or by never having waited.
FLOOD_REFUSALS = 5
#: Devices whose debt is remembered when they are gone, the longest gone forgotten first.
MAX_DEBTS = 16_384
#: What rounding may do to a sum of times: a clock of many years has steps of a tenth of this.
_ROUNDING_S = 1e-6
#: Connections beyond the limit that are still given a handshake, so that they hear 1013; beyond, TCP is cut. They come out of
#: the files that config.RESERVED_FILES keeps free.
FULL_MARGIN = 96
#: Connections that are not open yet (TLS, upgrade, hello, credentials) at a time. Beyond, the oldest goes: an honest client is
#: open within a few round trips, so the oldest is the likeliest to be idle on purpose.
MAX_PENDING = 4096


class Rate:
    """So many a second, `burst` at once. Durations in seconds."""

    __slots__ = ("_owed_s", "burst_s", "interval")

    def __init__(self, per_s: float, burst: float) -> None:
        self.interval = 1.0 / per_s
        #: How far ahead of now a taker may be and still be served.
        self.burst_s = burst / per_s + _ROUNDING_S
        #: How far ahead of now who was refused may be when the wait is over: so that one is served in any case.
        self._owed_s = min(burst * (1 - FRESH_PART), burst - 1) / per_s

    def after(self, paid: float, now: float) -> float:
        """`paid` after one more is taken. It was allowed if the result is at most `now + burst_s`."""
        return max(paid, now) + self.interval

    def refused(self, paid: float, now: float) -> tuple[float, int]:
        """`paid` after a refusal is charged, and how many milliseconds to wait for it: about the time of a burst."""
        paid = max(paid, now) + self._owed_s
        return paid, self.wait_ms(paid, now)

    def wait_ms(self, paid: float, now: float) -> int:
        """In how many milliseconds (at least 1) a part of a burst will be served again."""
        return max(1, ceil((paid - now - self._owed_s) * 1000))

    def in_a_row(self, refusals: int, resumed: float, now: float) -> int:
        """How many refusals this one makes, if the last of `refusals` had to be waited for until `resumed`."""
        return refusals + 1 if now - resumed <= self.burst_s else 1


class Debts:
    """Until when devices that are gone have to pay, so that a burst does not come anew with each connection."""

    __slots__ = ("_most", "_paid")

    def __init__(self, most: int = MAX_DEBTS) -> None:
        self._most = most
        self._paid: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._paid)

    def note(self, device: int, paid: float, now: float) -> None:
        """`device` has paid when `paid` has come. The later of two counts."""
        if paid <= now:
            return
        paid = max(paid, self._paid.pop(device, paid))
        self._paid[device] = paid
        if len(self._paid) > self._most:
            del self._paid[next(iter(self._paid))]

    def collect(self, device: int, paid: float) -> float:
        """What `device` brings along, to be kept by its connection; `paid` if that is later."""
        return max(paid, self._paid.pop(device, paid))


class Address:
    """What is known about one address (of IPv6: one /64 network, which is what one customer is given)."""

    __slots__ = ("commands", "connections", "connects", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.connections = 0
        #: Paid-off times of the rates, as in Rate.
        self.connects = 0.0
        self.commands = 0.0


class Addresses:
    """A table that cannot grow: addresses in use are as many as connections, quiet ones at most MAX_QUIET_ADDRESSES."""

    def __init__(self, connections: int, connects: Rate, max_quiet: int = MAX_QUIET_ADDRESSES) -> None:
        self._connections = connections
        self._connects = connects
        self._max_quiet = max_quiet
        self._used: dict[str, Address] = {}
        self._quiet: dict[str, Address] = {}

    def __len__(self) -> int:
        return len(self._used) + len(self._quiet)

    def arrive(self, host: str, now: float) -> Address | None:
        """A connection from `host`; None: refused. What is returned must `leave`."""
        key = network(host)
        address = self._used.get(key) or self._quiet.pop(key, None) or Address(key)
        paid = self._connects.after(address.connects, now)
        if address.connections >= self._connections or paid - now > self._connects.burst_s:
            if not address.connections:
                self._remember(address, now)
            return None
        address.connects = paid
        address.connections += 1
        self._used[key] = address
        return address

    def leave(self, address: Address, now: float) -> None:
        """A connection is over."""
        address.connections -= 1
        if not address.connections:
            del self._used[address.key]
            self._remember(address, now)

    def _remember(self, address: Address, now: float) -> None:
        if max(address.connects, address.commands) <= now:
            return  # it owes nothing: a new entry would be the same
        self._quiet[address.key] = address
        if len(self._quiet) > self._max_quiet:
            del self._quiet[next(iter(self._quiet))]


def network(host: str) -> str:
    """What limits are kept by: an IPv4 address (also when mapped into IPv6), or the /64 of an IPv6 address."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
