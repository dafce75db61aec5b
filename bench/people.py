"""The accounts of a bench: who its users are and how they come in.

On a node of its own they are written into the store in bulk, with a device and its token. A running server is entered with JWTs
of one of its issuers, or by registration.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from joserfc import jwk, jwt

from protocol import ids, messages
from storage import records
from storage.sqlite import bulk

#: Of accounts by registration.
PASSWORD = "measured, not guarded"
#: Seconds for which a JWT holds: longer than any run.
JWT_LIFE_S = 6 * 3600


@dataclass(slots=True, frozen=True)
class Person:
    """User number `index` of a population: always the same ids, spread over the whole range as random ones are, because small
    numbers would make small frames."""

    index: int

    def _digest(self, what: str) -> bytes:
        return hashlib.sha256(f"kith bench {what} {self.index}".encode()).digest()

    @property
    def user(self) -> int:
        return int.from_bytes(self._digest("user")[:7], "big") >> 3 or 1

    @property
    def device(self) -> int:
        return int.from_bytes(self._digest("device")[:7], "big") >> 3 or 1

    @property
    def token(self) -> bytes:
        return self._digest("token")


def records_of(people: Sequence[Person], now: int) -> Iterator[bulk.Record]:
    """The accounts of `people`, each with one device, as of `now` (ms since the epoch)."""
    for person in people:
        name = f"bench{person.index}"
        yield records.User(person.user, name, name, None, "bench", name, now)
        yield login_of(person, now)


def login_of(person: Person, now: int) -> bulk.Login:
    """The person's device; what stands in the store when its turn comes counts as acknowledged."""
    device = records.Device(person.device, person.user, "bench", now, now)
    token = records.Token(hashlib.sha256(person.token).digest(), person.user, person.device, now)
    return bulk.Login(device, token)


@dataclass(slots=True, frozen=True)
class Tokens:
    """Accounts that were written in bulk."""

    def credential(self, index: int) -> messages.Credential:
        return messages.TokenCredential(Person(index).token)


@dataclass(slots=True, frozen=True)
class Registered:
    """Accounts by registration; `prefix` keeps runs on one server apart."""

    prefix: str

    def credential(self, index: int) -> messages.Credential:
        request = hashlib.sha256(f"{self.prefix}{index}".encode()).digest()[:16]
        return messages.RegisterCredential(f"{self.prefix}{index}", PASSWORD, request, "bench")


@dataclass(slots=True, frozen=True)
class Signed:
    """Accounts by JWT (HS256) of an issuer that the server is configured with."""

    prefix: str
    secret: str
    issuer: str
    audience: str

    def credential(self, index: int) -> messages.Credential:
        name = f"{self.prefix}{index}"
        claims = {"iss": self.issuer, "aud": self.audience, "sub": name, "exp": int(time.time()) + JWT_LIFE_S}
        token = jwt.encode({"alg": "HS256"}, claims, jwk.OctKey.import_key(self.secret))
        return messages.JwtCredential(token, hashlib.sha256(name.encode()).digest()[:16], "bench")


Accounts = Tokens | Registered | Signed


def stream_of(one: Person, other: Person) -> bytes:
    """The direct stream of two people that were written in bulk."""
    return ids.direct_stream(one.user, other.user)
