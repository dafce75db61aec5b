"""Accounts as their owners and the operator change them: passwords, codes, new users.

`admission.Admitter` adds the door to it. Here are the rules that both share: how a password is checked, what a guess costs,
and what an error of the store means to whoever asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal
from weakref import WeakValueDictionary

import telemetry
from auth import attempts as attempts_
from auth import names
from auth import passwords as passwords_
from auth import tokens as tokens_
from protocol import codes, ids
from storage import errors, interfaces, records

INVITE = "invite"
RESET = "reset"
#: Stands for the account in attempts that look for names: all of one user's count together.
RENAME = "a name, perhaps taken"
#: Devices of one account. One more is refused: to drop the longest silent one instead would log out, behind its owner's back, a
#: phone that lies in a drawer. Far more than anybody has in hand; yet each has cursors and windows in every conversation, and
#: one frame tells of all (36 KiB with the longest names). Those silent for long are forgotten anyway.
MOST_DEVICES = 128
#: Milliseconds after which to come again when the store does not answer.
STORE_RETRY = 1000
DAY = 24 * 3600 * 1000
#: Attempts of one address that are under way at once. One more is *busy*: the queue of hashes, which is everybody's, is not for
#: one address to fill.
MAX_AT_ONCE = 4

#: Tells a user's other devices of one that was made: (user, device, its name). May raise codes.Refused.
Announce = Callable[[int, int, str], Awaitable[None]]

_log = telemetry.logger("auth")


@dataclasses.dataclass(slots=True, frozen=True)
class Settings:
    """Who may register, the age in ms at which a token gets a successor, and how many ms a reset code holds."""

    registration: Literal["open", "invite", "closed"] = "open"
    token_rotation: int = 30 * DAY
    reset_code: int = 3600 * 1000


def monotonic_ms() -> int:
    """Of a clock that nobody sets, unlike that of the day."""
    return time.monotonic_ns() // 1_000_000


class Accounts:
    """What can be done to accounts, on one node's event loop.

    `clock()` gives ms since the epoch, `ticks()` ms of a clock that is never set, by which attempts are limited; `random(n)` n
    random bytes. `revoked(user, device)` is called after a device lost its
    token for good, so that whoever holds its connection cuts it off. `announce(user, device, name)` is awaited before a device
    that a log-in made, or found, gets a token: it tells the user's other devices, once however often it is called. Every
    method may raise Refused with UNAVAILABLE, UNKNOWN (do the same again) or, where a password is involved, BUSY. No text
    of an exception holds a secret."""

    def __init__(
        self,
        accounts: interfaces.AccountStore,
        passwords: passwords_.Passwords,
        tokens: tokens_.Tokens,
        attempts: attempts_.Attempts,
        settings: Settings,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        revoked: Callable[[int, int], None] | None = None,
        counts: telemetry.Telemetry | None = None,
        announce: Announce | None = None,
        ticks: Callable[[], int] = monotonic_ms,
    ) -> None:
        self._store = accounts
        self._passwords = passwords
        self._tokens = tokens
        self._attempts = attempts
        self._settings = settings
        self._clock = clock
        self._random = random
        self._revoked = revoked
        self._counts = counts
        self._announce = announce
        self._ticks = ticks
        #: Attempts that are being checked, by address (`attempts.customer`).
        self._under_way: dict[str, int] = {}
        self._locks: WeakValueDictionary[int | str, asyncio.Lock] = WeakValueDictionary()

    # --- for the owner of an account ----------------------------------------------------------------------------------

    async def change_password(self, user: int, old: str, new: str) -> None:
        """Replace the password. Repeated after it took effect, it succeeds again. Refused: BAD_CREDENTIALS, WEAK_PASSWORD,
        RATE_LIMITED, NOT_ALLOWED for a user whose log-ins an issuer vouches for.

        Guesses made from inside a session are counted apart from those at the door: a stolen device cannot lock its owner
        out."""
        with store_errors():
            prepared = names.new_password(new)
            async with self._lock(user):
                found = await self._living(user)
                with self._attempt(str(found.key), _inside(user)):
                    known = names.password(old)
                    right = known is not None and await self._passwords.verify(found.password, known)
                    if not right and not await self._passwords.verify(found.password, prepared):
                        raise codes.Refused(codes.BAD_CREDENTIALS)
                if right:
                    await self._store.set_password(user, await self._passwords.hash(prepared), found.password)
                await self._store.void_codes(user, RESET)

    async def confirm_deletion(self, user: int, confirmation: str) -> None:
        """Whether the owner means it: the password, or the user name for who has none. Refused: BAD_CREDENTIALS,
        RATE_LIMITED."""
        with store_errors():
            found = await self._store.user(user)
            if found is None or found.key is None:
                return  # deleted already: a repeat
            if found.password is None:
                if names.key(confirmation) != found.key:
                    raise codes.Refused(codes.BAD_CREDENTIALS)
                return
            with self._attempt(found.key, _inside(user)):
                known = names.password(confirmation)
                if known is None or not await self._passwords.verify(found.password, known):
                    raise codes.Refused(codes.BAD_CREDENTIALS)

    @contextlib.contextmanager
    def renaming(self, user: int) -> Iterator[None]:
        """Pay for a name that a user would like to have. That it is taken tells that somebody has it, so it costs as much as a
        wrong password. Refused: RATE_LIMITED."""
        with self._attempt(RENAME, _inside(user)):
            yield

    # --- for the operator -------------------------------------------------------------------------------------------

    async def add_user(self, name: str, password: str) -> records.User:
        """Make an account, whoever may register. Refused: BAD_NAME, WEAK_PASSWORD, NAME_TAKEN."""
        with store_errors():
            taken, prepared = names.prepare(name), names.new_password(password)
            return await self._create(taken, await self._passwords.hash(prepared), None)

    async def issue_invitation(self, uses: int = 1, expires_at: int = records.OPEN_END, issuer: int = 0) -> str:
        """A code with which `uses` people may register, until `expires_at`. It is told this once; the store has its digest.
        `issuer`: the user who invites, 0 for the operator."""
        with store_errors():
            text = self._tokens.invitation()
            digest = tokens_.code_digest(INVITE, 0, text)
            await self._store.add_code(records.Code(digest, INVITE, issuer, uses, expires_at))
            return text

    async def issue_reset(self, name: str) -> str:
        """A code with which the user may set a new password once, for as long as the settings say, or until there is a newer
        code or password. Told this once. Refused: NOT_ALLOWED when there is no such user, or one without a password."""
        with store_errors():
            key = names.key(name)
            found = await self._store.user_by_key(key) if key is not None else None
            if found is None or found.password is None:
                raise codes.Refused(codes.NOT_ALLOWED, "There is no user of this name who logs in with a password")
            text = self._tokens.reset_code()
            digest = tokens_.code_digest(RESET, found.id, text)
            expires_at = self._clock() + self._settings.reset_code
            await self._store.void_codes(found.id, RESET)
            await self._store.add_code(records.Code(digest, RESET, found.id, 1, expires_at))
            return text

    # --- rules that the door shares -------------------------------------------------------------------------------

    async def set_password_by_reset(self, name: str, code: str, password: str, keep: bytes, address: str) -> records.User:
        """Set a password with a reset code, and revoke all devices but the one that request `keep` makes. Refused:
        BAD_INVITATION (for an unknown user too), WEAK_PASSWORD, RATE_LIMITED.

        The code works once. Yet the repeat of a reset whose answer was lost succeeds: the same code, with the same request,
        and with the password that it set."""
        prepared, key = names.new_password(password), names.key(name)
        if key is None:
            raise codes.Refused(codes.BAD_INVITATION)
        with self._attempt(key, address):
            hashed = await self._passwords.hash(prepared)  # before the code is used up: this may be refused as busy
            known = await self._store.user_by_key(key)
            user = known.id if known is not None else 0  # who is nobody has no codes either: the same way for all
            async with self._lock(user):
                found = await self._reset(user, code, keep, prepared, hashed)
        kept = self._tokens.device(found.id, keep)
        for device in await self._store.devices(found.id):
            if device.id != kept and await self._store.revoke_device(found.id, device.id) and self._revoked is not None:
                self._revoked(found.id, device.id)
        return found

    async def _reset(self, user: int, code: str, request: bytes, password: str, hashed: str) -> records.User:
        """Use up a reset code and set the password; the user as they are then. Refused(BAD_INVITATION) when it is another
        request's code, or when it set another password.

        What the password was when the code was taken is noted with that: a repeat whose first try was cut off before the new
        one was set sets it, and none sets it again over a later one."""
        found, now = await self._store.user(user), self._clock()
        digest = tokens_.code_digest(RESET, user, code)
        before = tokens_.fingerprint(str(found and found.password).encode())
        try:
            taken = await self._store.take_code(digest, RESET, now, self._tokens.repeat(digest, request), before)
        except errors.NoSuch:
            raise codes.Refused(codes.BAD_INVITATION) from None
        if found is None or taken.code.expires_at <= now:
            raise codes.Refused(codes.BAD_INVITATION)
        if taken.note == before:
            await self._store.set_password(user, hashed, found.password)
            found = dataclasses.replace(found, password=hashed)
        elif not await self._passwords.verify(found.password, password):
            raise codes.Refused(codes.BAD_INVITATION)
        await self._store.void_codes(user, RESET)
        return found

    async def _check(self, user: records.User | None, password: str) -> bool:
        """Whether it is the user's prepared password. For nobody, the same work is done. A hash of another cost than is
        configured now is replaced, as this is the one moment when the password is there."""
        hashed = user.password if user is not None else None
        right = await self._passwords.verify(hashed, password)
        if right and user is not None and hashed is not None and self._passwords.outdated(hashed):
            await self._replace_hash(user.id, hashed, password)
        return right

    async def _replace_hash(self, user: int, outdated: str, password: str) -> None:
        """Never instead of logging in: when the pool is busy or the store refuses, the next log-in tries again. No password
        that was changed meanwhile is set back."""
        try:
            await self._store.set_password(user, await self._passwords.hash(password), outdated)
        except (codes.Refused, errors.StorageError) as error:
            _log.info("hash_not_replaced", user=user, reason=type(error).__name__)

    async def _create(self, name: names.Name, hashed: str, request: bytes | None) -> records.User:
        user = records.User(
            id=self._new_id(),
            name=name.shown,
            key=name.key,
            password=hashed,
            issuer=None,
            subject=None,
            created=self._clock(),
            request=request,
        )
        try:
            return await self._store.create_user(user)
        except errors.NameTaken:
            raise codes.Refused(codes.NAME_TAKEN) from None

    async def _living(self, user: int) -> records.User:
        found = await self._store.user(user)
        if found is None or found.key is None or found.password is None:
            raise codes.Refused(codes.NOT_ALLOWED)
        return found

    def _new_id(self) -> int:
        return ids.new_id(lambda bits: int.from_bytes(self._random(8), "big") >> (64 - bits))

    def _lock(self, key: int | str) -> asyncio.Lock:
        """One for each user id, and for each name that is being registered; gone when nobody holds it."""
        return self._locks.setdefault(key, asyncio.Lock())

    @contextlib.contextmanager
    def _attempt(self, account: str, address: str, *, free_when_right: bool = True) -> Iterator[None]:
        """Pay for a guess; Refused(RATE_LIMITED) when there is nothing to pay with, BUSY when too many of the address are under
        way. What could not be checked costs nothing; one that was cut off does, or cutting off would make guesses free."""
        place = attempts_.customer(address)
        under_way = self._under_way.get(place, 0)
        if under_way >= MAX_AT_ONCE:
            self._limited()
            raise codes.Refused(codes.BUSY, "Too many log-ins from this address at once", passwords_.BUSY_RETRY)
        wait = self._attempts.take(account, address, self._ticks())
        if wait:
            self._limited()
            raise codes.Refused(codes.RATE_LIMITED, "Too many attempts; come back later", wait)
        self._under_way[place] = under_way + 1
        try:
            yield
        except codes.Refused as refusal:
            if refusal.error.temporary:
                self._attempts.give_back(account, address, self._ticks())
            raise
        except errors.StorageError:
            self._attempts.give_back(account, address, self._ticks())
            raise
        finally:
            self._under_way[place] -= 1
            if not self._under_way[place]:
                del self._under_way[place]
        if free_when_right:
            self._attempts.was_right(account, address, self._ticks())

    def _limited(self) -> None:
        if self._counts is not None:
            self._counts.limited["attempts"] += 1


def _inside(user: int) -> str:
    """Stands for the address in guesses from inside a session."""
    return f"session of {user}"


@contextlib.contextmanager
def store_errors(gone: codes.Error = codes.NOT_ALLOWED) -> Iterator[None]:
    """What an error of the store means to whoever asked; `gone` when the user or device was deleted in the same moment."""
    try:
        yield
    except errors.NoSuch:
        raise codes.Refused(gone) from None
    except errors.OutcomeUnknown:
        raise codes.Refused(codes.UNKNOWN, retry_after_ms=STORE_RETRY) from None
    except (errors.Unavailable, errors.Damaged) as error:
        _log.warning("store_failed", reason=str(error))
        raise codes.Refused(codes.UNAVAILABLE, retry_after_ms=STORE_RETRY) from None
