"""What the tests of accounts stand on: a real store, a clock that is set by hand, an Argon2 that costs next to nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import pytest
from joserfc import jwk, jwt

import telemetry
from auth import accounts, admission, attempts, identity, passwords, tokens
from auth import jwt as jwt_
from protocol import codes, messages
from storage import errors, records
from storage.sqlite import store

SECRET = b"\x5a" * 32
CHEAP = passwords.Cost(memory_kib=8, passes=1)
HOME = "198.51.100.7"
ELSEWHERE = "203.0.113.9"
PASSWORD = "correct horse"
START = 1_800_000_000_000  # ms
PER_ACCOUNT, PER_ADDRESS, WINDOW = 3, 6, 60_000
HS_SECRET = "a shared secret of at least 32 bytes"
ISSUER = jwt_.Issuer("https://shop.example", "kith", "HS256", HS_SECRET)


def request() -> bytes:
    return secrets.token_bytes(16)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


class Faulty:
    """A store whose methods raise what `broken` says, before or (`after`) although they took effect."""

    def __init__(self, inner: store.SQLiteStore) -> None:
        self._inner = inner
        self.broken: dict[str, errors.StorageError] = {}
        self.after: dict[str, errors.StorageError] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*args: Any) -> Any:
            self.calls.append(name)
            if name in self.broken:
                raise self.broken[name]
            result = await method(*args)
            if name in self.after:
                raise self.after.pop(name)
            return result

        return call


class Watched(passwords.Passwords):
    """Remembers against what it verified: the dummy counts as None."""

    verified: list[str | None]

    async def verify(self, hashed: str | None, password: str) -> bool:
        self.verified.append(hashed)
        return await super().verify(hashed, password)


class Door:
    """An admitter with everything that it needs, and short ways to knock."""

    def __init__(self, inner: store.SQLiteStore, cost: passwords.Cost = CHEAP, **settings: Any) -> None:
        self.store = Faulty(inner)
        self.clock = Clock()
        #: Which of the clock's changes `ticks` does not follow, because somebody set it.
        self.was_set = 0
        self.counts = telemetry.Telemetry()
        self.passwords = Watched(cost, 2, 16, self.counts)
        self.passwords.verified = []
        self.tokens = tokens.Tokens(SECRET)
        self.revoked: list[tuple[int, int]] = []
        self.announced: list[tuple[int, int, str]] = []
        self.attempts = attempts.Attempts(PER_ACCOUNT, PER_ADDRESS, WINDOW)
        self.settings = settings
        self.admitter = self.make()

    def make(self, **settings: Any) -> admission.Admitter:
        return admission.Admitter(
            self.store,
            self.passwords,
            self.tokens,
            jwt_.Issuers([ISSUER]),
            self.attempts,
            accounts.Settings(**self.settings, **settings),
            self.clock,
            secrets.token_bytes,
            lambda user, device: self.revoked.append((user, device)),
            self.counts,
            self.announce,
            ticks=self.ticks,
        )

    def ticks(self) -> int:
        return self.clock.now - self.was_set

    def set_clock(self, change: int) -> None:
        """Somebody sets the clock of the day; no time passes."""
        self.clock.now += change
        self.was_set += change

    async def announce(self, user: int, device: int, name: str) -> None:
        self.announced.append((user, device, name))

    async def knock(self, credential: messages.Credential, address: str = HOME) -> identity.Admission:
        return await self.admitter.admit(messages.Hello(1, 1, 1, credential), address)

    async def register(
        self, name: str = "asha", password: str = PASSWORD, again: bytes = b"", **more: Any
    ) -> identity.Admission:
        return await self.knock(messages.RegisterCredential(name, password, again or request(), "phone", **more))

    async def login(
        self, name: str = "asha", password: str = PASSWORD, again: bytes = b"", address: str = HOME
    ) -> identity.Admission:
        return await self.knock(messages.PasswordCredential(name, password, again or request(), "laptop"), address)

    async def token(self, token: bytes) -> identity.Admission:
        return await self.knock(messages.TokenCredential(token))

    async def reset(
        self, code: str, name: str = "asha", password: str = "another horse", again: bytes = b"", address: str = HOME
    ) -> identity.Admission:
        return await self.knock(messages.ResetCredential(name, code, password, again or request(), "tablet"), address)

    async def jwt(self, again: bytes = b"", **claims: Any) -> identity.Admission:
        return await self.knock(messages.JwtCredential(self.sign(**claims), again or request(), "web"))

    def sign(self, **claims: Any) -> str:
        now = self.clock.now // 1000
        whole = {"iss": ISSUER.issuer, "aud": ISSUER.audience, "sub": "17", "exp": now + 600, **claims}
        return jwt.encode({"alg": "HS256"}, whole, jwk.OctKey.import_key(HS_SECRET))

    async def devices(self, user: int) -> list[int]:
        return [device.id for device in await self.store.devices(user)]

    async def user(self, user: int) -> records.User:
        found: records.User | None = await self.store.user(user)
        assert found is not None
        return found


class Refusal:
    """`with world.refused(codes.X) as refusal:` expects exactly this refusal."""

    def __init__(self, error: codes.Error) -> None:
        self._error = error
        self._raises = pytest.raises(codes.Refused)

    def __enter__(self) -> Refusal:
        self._info = self._raises.__enter__()
        return self

    def __exit__(self, *exc: Any) -> bool:
        swallowed = self._raises.__exit__(*exc)
        if swallowed:
            assert self._info.value.error is self._error
        return swallowed

    @property
    def value(self) -> codes.Refused:
        return self._info.value


def refused(error: codes.Error) -> Refusal:
    return Refusal(error)


def chain(error: BaseException) -> Iterable[str]:
    """Every text that printing an exception, with all that led to it, could show."""
    seen: BaseException | None = error
    while seen is not None:
        yield f"{seen!r} {seen} {seen.__dict__}"
        seen = seen.__cause__ or seen.__context__
