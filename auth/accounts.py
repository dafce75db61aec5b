"""Accounts as their owners and the operator change them: passwords, codes, new users.

`admission.Admitter` adds the door to it. Here are the rules that both share: how a password is checked, what a guess costs,
and what an error of the store means to whoever asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
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
#: What stands for a reset code that was used, so that the same request may repeat its reset.
REPEAT = "repeated reset"
#: How often it may.
REPEATS = 8
#: Milliseconds after which to come again when the store does not answer.
STORE_RETRY = 1000
DAY = 24 * 3600 * 1000

#: Tells a user's other devices of one that was made: (user, device, its name). May raise codes.Refused.
Announce = Callable[[int, int, str], Awaitable[None]]

_log = telemetry.logger("auth")


@dataclasses.dataclass(slots=True, frozen=True)
class Settings:
    """Who may register, the age in ms at which a token gets a successor, and how many ms a reset code holds."""

    registration: Literal["open", "invite", "closed"] = "open"
    token_rotation: int = 30 * DAY
    reset_code: int = 3600 * 1000


class Accounts:
    """What can be done to accounts, on one node's event loop.

    `clock()` gives ms since the epoch, `random(n)` n random bytes. `revoked(user, device)` is called after a device lost its
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
                    await self._store.set_password(user, await self._passwords.hash(prepared))

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
        """A code with which the user may set a new password once, for as long as the settings say. Told this once. Refused:
        NOT_ALLOWED when there is no such user, or one without a password."""
        with store_errors():
            key = names.key(name)
            found = await self._store.user_by_key(key) if key is not None else None
            if found is None or found.password is None:
                raise codes.Refused(codes.NOT_ALLOWED, "There is no user of this name who logs in with a password")
            text = self._tokens.reset_code()
            digest = tokens_.code_digest(RESET, found.id, text)
            expires_at = self._clock() + self._settings.reset_code
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
            found = await self._store.user_by_key(key)
            user = found.id if found is not None else 0
            async with self._lock(user):
                repeated = not await self._take_reset(user, code, keep)
                if repeated:
                    await self._require_password(user, prepared)
                else:
                    await self._store.set_password(user, hashed)
            if found is None:
                raise codes.Refused(codes.BAD_INVITATION)
        kept = self._tokens.device(user, keep)
        for device in await self._store.devices(user):
            if device.id != kept and await self._store.revoke_device(user, device.id) and self._revoked is not None:
                self._revoked(user, device.id)
        return found if repeated else dataclasses.replace(found, password=hashed)

    async def _take_reset(self, user: int, code: str, request: bytes) -> bool:
        """Use up a reset code. False when this very request has used it already; else Refused(BAD_INVITATION)."""
        digest, now = tokens_.code_digest(RESET, user, code), self._clock()
        repeat = self._tokens.repeat(digest, request)
        try:
            await self._store.take_code(digest, RESET, now)
        except errors.NoSuch:
            try:
                await self._store.take_code(repeat, REPEAT, now)
            except errors.NoSuch:
                raise codes.Refused(codes.BAD_INVITATION) from None
            return False
        await self._store.add_code(records.Code(repeat, REPEAT, user, REPEATS, now + self._settings.reset_code))
        return True

    async def _require_password(self, user: int, password: str) -> None:
        """Refused(BAD_INVITATION) unless it is what the reset set: then it was cut off before that, or was another password."""
        found = await self._store.user(user)
        if not await self._passwords.verify(found.password if found is not None else None, password):
            raise codes.Refused(codes.BAD_INVITATION)

    async def _check(self, user: records.User | None, password: str) -> bool:
        """Whether it is the user's prepared password. For nobody, the same work is done. A hash of another cost than is
        configured now is replaced, as this is the one moment when the password is there."""
        hashed = user.password if user is not None else None
        right = await self._passwords.verify(hashed, password)
        if right and user is not None and hashed is not None and self._passwords.outdated(hashed):
            await self._replace_hash(user.id, hashed, password)
        return right

    async def _replace_hash(self, user: int, outdated: str, password: str) -> None:
        """Never instead of logging in: when the pool is busy or the store refuses, the next log-in tries again."""
        try:
            hashed = await self._passwords.hash(password)
            async with self._lock(user):  # no password that was changed meanwhile may be set back
                found = await self._store.user(user)
                if found is not None and found.password == outdated:
                    await self._store.set_password(user, hashed)
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
        """Pay for a guess; Refused(RATE_LIMITED) when there is nothing to pay with. What could not be checked costs nothing;
        one that was cut off does, or cutting off would make guesses free."""
        wait = self._attempts.take(account, address, self._clock())
        if wait:
            if self._counts is not None:
                self._counts.limited["attempts"] += 1
            raise codes.Refused(codes.RATE_LIMITED, "Too many attempts; come back later", wait)
        try:
            yield
        except codes.Refused as refusal:
            if refusal.error.temporary:
                self._attempts.give_back(account, address, self._clock())
            raise
        except errors.StorageError:
            self._attempts.give_back(account, address, self._clock())
            raise
        if free_when_right:
            self._attempts.give_back(account, address, self._clock())


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
