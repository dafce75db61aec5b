"""What decisions need to know of people, kept at hand: a bounded read-through cache of `auth.policy.Facts`.

The owner of an account puts the new facts here when a change of them is durable, so what stands here is never older than what
was acknowledged. With more than one node the owner tells the others.
"""

from __future__ import annotations

from actors.state import account
from auth.policy import Facts
from protocol import ids
from storage import interfaces

#: Users whose facts are kept: about 1 KB each besides the users that they name.
MAX_PEOPLE = 50_000
#: Users that all of those name, as contacts or as blocked: about 70 bytes each.
MAX_NAMED = 1_000_000


class People:
    """For the loop's thread. `peek` answers at once or says that it does not know; `load` asks the store."""

    def __init__(self, store: interfaces.Store, limit: int = MAX_PEOPLE, limit_named: int = MAX_NAMED) -> None:
        self._store = store
        self._limit = limit
        self._limit_named = limit_named
        self._known: dict[int, Facts | None] = {}
        self._named = 0
        #: Reads under way of each user, as far as no newer facts were put meanwhile.
        self._reading: dict[int, set[object]] = {}

    def knows(self, user: int) -> bool:
        return user in self._known

    def peek(self, user: int) -> Facts | None:
        """The facts of a user that is known; None: there is no such user (any more)."""
        return self._known[user]

    def put(self, user: int, facts: Facts | None) -> None:
        """The facts of a user have changed, durably."""
        self._reading.pop(user, None)
        self._keep(user, facts)

    def _keep(self, user: int, facts: Facts | None) -> None:
        """The oldest make room; the newest stays, whatever it names."""
        known = self._known
        self._named += _named(facts) - _named(known.pop(user, None))
        known[user] = facts
        while len(known) > 1 and (len(known) > self._limit or self._named > self._limit_named):
            self._named -= _named(known.pop(next(iter(known))))

    async def load(self, user: int) -> Facts | None:
        """The facts of a user, from the store if need be. Raises what the store raises."""
        while user not in self._known:
            mine = object()
            self._reading.setdefault(user, set()).add(mine)
            try:
                facts = await self.read(user)
            finally:
                under_way = self._reading.get(user, set())
                is_newest = mine in under_way
                under_way.discard(mine)
                if not under_way:
                    self._reading.pop(user, None)
            if is_newest and user not in self._known:
                self._keep(user, facts)
        return self._known[user]

    async def read(self, user: int) -> Facts | None:
        """The facts of a user as they are stored now."""
        row = await self._store.user(user)
        if row is None or row.key is None:
            return None
        parts = await self._store.parts(ids.account_stream(user), account.FACTS)
        part = parts.get(account.FACTS)
        return account.decode_facts(part) if part is not None else Facts(row.name)


def _named(facts: Facts | None) -> int:
    return len(facts.contacts) + len(facts.blocked) if facts is not None else 0
