"""How often somebody may try: token buckets per (account, address) and per address, in bounded tables.

Never per account alone: that would let anybody lock its owner out. A guess is paid for before it is checked, so that a burst
of parallel guesses is limited too, and given back when it was right. Right ones are counted apart: each costs the node a hash
all the same. Pure: the time is passed in, nothing is awaited.

Accounts are named by what was asked for, whether it exists or not. An IPv6 address counts as its /64, which is what one
customer gets (RFC 6177); otherwise each would have 2**64 addresses to try from.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable

#: Entries of each table, about 250 bytes each. Over it the one unused for longest is forgotten: it has refilled the most, and
#: whoever commands so many addresses is not held by limits per address anyway.
MAX_ENTRIES = 65536
#: Bits of an IPv6 address that name a customer.
CUSTOMER_BITS = 64
#: Right guesses for one that may be wrong: somebody who logs in so often is a program out of its mind.
RIGHT_TIMES = 10


class Buckets:
    """Token buckets of one size: full at `size`, empty at 0, refilled evenly within `window` ms."""

    __slots__ = ("_filled", "_max_entries", "_rate", "_size")

    def __init__(self, size: int, window: int, max_entries: int = MAX_ENTRIES) -> None:
        self._size = size
        self._rate = size / window
        self._max_entries = max_entries
        self._filled: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()  # key: (level, as of when)

    def __len__(self) -> int:
        return len(self._filled)

    def wait(self, key: Hashable, now: int) -> int:
        """Milliseconds until a token is there; 0: now."""
        level = self._level(key, now)
        return 0 if level >= 1 else int((1 - level) / self._rate) + 1

    def take(self, key: Hashable, now: int) -> None:
        """Take a token. Where `wait` did not say 0, it has to be earned before the next one."""
        self._set(key, self._level(key, now) - 1, now)

    def give_back(self, key: Hashable, now: int) -> None:
        """Undo a `take`."""
        if key in self._filled:
            self._set(key, self._level(key, now) + 1, now)

    def _level(self, key: Hashable, now: int) -> float:
        level, then = self._filled.get(key, (float(self._size), now))
        # A clock that was set back refills nothing; it must not empty a bucket either.
        return min(float(self._size), level + max(0, now - then) * self._rate)

    def _set(self, key: Hashable, level: float, now: int) -> None:
        if level >= self._size:
            self._filled.pop(key, None)  # a full bucket is no different from none
            return
        self._filled[key] = (level, now)
        self._filled.move_to_end(key)
        if len(self._filled) > self._max_entries:
            self._filled.popitem(last=False)


class Attempts:
    """`per_account` guesses for one account from one address, `per_address` from one address for all, within `window` ms; of
    those that are right RIGHT_TIMES as many."""

    __slots__ = ("_accounts", "_addresses", "_right_accounts", "_right_addresses")

    def __init__(self, per_account: int, per_address: int, window: int, max_entries: int = MAX_ENTRIES) -> None:
        self._accounts = Buckets(per_account, window, max_entries)
        self._addresses = Buckets(per_address, window, max_entries)
        self._right_accounts = Buckets(per_account * RIGHT_TIMES, window, max_entries)
        self._right_addresses = Buckets(per_address * RIGHT_TIMES, window, max_entries)

    def take(self, account: str, address: str, now: int) -> int:
        """Pay for one guess. 0: it may be made. Otherwise nothing was paid, and it may be made in so many milliseconds."""
        place = customer(address)
        wait = max(
            self._addresses.wait(place, now),
            self._accounts.wait((account, place), now),
            self._right_addresses.wait(place, now),
            self._right_accounts.wait((account, place), now),
        )
        if wait == 0:
            self._addresses.take(place, now)
            self._accounts.take((account, place), now)
        return wait

    def give_back(self, account: str, address: str, now: int) -> None:
        """The guess could not be checked: it costs nothing."""
        place = customer(address)
        self._addresses.give_back(place, now)
        self._accounts.give_back((account, place), now)

    def was_right(self, account: str, address: str, now: int) -> None:
        """The guess was none."""
        self.give_back(account, address, now)
        place = customer(address)
        self._right_addresses.take(place, now)
        self._right_accounts.take((account, place), now)


def customer(address: str) -> str:
    """Whom an address belongs to, as far as it can tell: IPv4 itself, IPv6 its /64. Other text (a Unix socket) is itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, CUSTOMER_BITS), strict=False).network_address)
