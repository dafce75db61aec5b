"""The door: who a Hello speaks of, and with which device.

Five credentials lead in. A token is looked up and that is all; the others prove who somebody is and make a device with a token.
The device's id is derived from the user and the request in the credential, so that a repeat whose answer was lost finds the
device of the first one and gets a fresh token for it.

No answer, and no time taken for it, tells whether an account exists. One exception cannot be avoided: who may register learns
that a name is taken. It costs an attempt each time, and where registration is by invitation nobody without one gets so far.

Tokens (32 random bytes) and JWTs (signed) cannot be guessed, so attempts are not counted for them: somebody who guesses
passwords behind the same address must not keep out devices that are logged in.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

import telemetry
from auth import accounts as accounts_
from auth import attempts as attempts_
from auth import identity, jwt, names
from auth import passwords as passwords_
from auth import tokens as tokens_
from protocol import codes, messages
from storage import errors, interfaces, records

#: Bytes of the random ending of a name that the server makes up, and how often it tries another before it gives up.
ENDING_BYTES = 5
NAME_TRIES = 8
#: Bytes of a proposed name that are kept when an ending is added.
STEM = names.MAX_NAME - 2 * ENDING_BYTES - 1

_log = telemetry.logger("auth")

_OUTCOMES: dict[type[messages.Credential], str] = {
    messages.TokenCredential: "token",
    messages.PasswordCredential: "password",
    messages.RegisterCredential: "registered",
    messages.JwtCredential: "jwt",
    messages.ResetCredential: "reset",
}


class Admitter(accounts_.Accounts):
    """Admits devices; see `accounts.Accounts` for the arguments and for what else it does."""

    def __init__(
        self,
        accounts: interfaces.AccountStore,
        passwords: passwords_.Passwords,
        tokens: tokens_.Tokens,
        issuers: jwt.Issuers,
        attempts: attempts_.Attempts,
        settings: accounts_.Settings,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        revoked: Callable[[int, int], None] | None = None,
        counts: telemetry.Telemetry | None = None,
        announce: accounts_.Announce | None = None,
        ticks: Callable[[], int] = accounts_.monotonic_ms,
    ) -> None:
        super().__init__(accounts, passwords, tokens, attempts, settings, clock, random, revoked, counts, announce, ticks)
        self._issuers = issuers

    async def admit(self, hello: messages.Hello, address: str) -> identity.Admission:
        """Who comes in. Refused: with a number of 200-299 when not, TOO_MANY when the account has all the devices it may have,
        with a temporary one when it cannot be said now; the same Hello may then be sent again."""
        try:
            with accounts_.store_errors(gone=codes.BAD_CREDENTIALS):
                admission = await self._admit(hello.credential, address)
        except codes.Refused as refusal:
            self._count(refusal.error.symbol)
            _log.info("not_admitted", reason=refusal.error.symbol, address=address)
            raise
        self._count(_OUTCOMES[type(hello.credential)])
        return admission

    def _count(self, outcome: str) -> None:
        if self._counts is not None:
            self._counts.logins[outcome] += 1

    async def _admit(self, credential: messages.Credential, address: str) -> identity.Admission:
        match credential:
            case messages.TokenCredential():
                return await self._with_token(credential.token)
            case messages.PasswordCredential():
                user = await self._with_password(credential, address)
                password = names.password(credential.password)
            case messages.RegisterCredential():
                user = await self._register(credential, address)
                password = names.password(credential.password)
            case messages.JwtCredential():
                user, password = await self._with_jwt(credential), None
            case messages.ResetCredential():
                user = await self.set_password_by_reset(
                    credential.name, credential.code, credential.password, credential.request, address
                )
                password = names.password(credential.password)
        admission = await self._enter(user, password, credential.request, credential.device_name)
        if self._announce is not None:
            await self._announce(user.id, admission.device, credential.device_name)
        return admission

    # --- a device that was here before --------------------------------------------------------------------------------

    async def _with_token(self, token: bytes) -> identity.Admission:
        digest = tokens_.fingerprint(token)
        found = await self._store.find_token(digest)
        user = await self._store.user(found.user) if found is not None else None
        if found is None or user is None or user.key is None:
            raise codes.Refused(codes.BAD_CREDENTIALS)
        successor = b""
        if found.successor:
            await self._use(found)
        elif self._clock() - found.created >= self._settings.token_rotation:
            successor = await self._succeed(found)
        return identity.Admission(user.id, found.device, user.name, successor)

    async def _use(self, token: records.Token) -> None:
        """First use of a successor. A store that takes no writes keeps nobody out: the next use is the first one then."""
        try:
            await self._store.use_token(token)
        except (errors.Unavailable, errors.OutcomeUnknown) as error:
            _log.info("token_use_not_stored", device=token.device, reason=type(error).__name__)

    async def _succeed(self, token: records.Token) -> bytes:
        """A successor for a token that is due, or b"" when the store takes no writes now: it is due next time still. One that
        may have been stored, but that nobody was told, is replaced then."""
        fresh = self._tokens.token()
        try:
            await self._store.add_token(self._record(fresh, token.user, token.device, successor=True))
        except (errors.Unavailable, errors.OutcomeUnknown) as error:
            _log.info("token_not_rotated", device=token.device, reason=type(error).__name__)
            return b""
        return fresh

    # --- somebody who proves who they are -----------------------------------------------------------------------------

    async def _with_password(self, credential: messages.PasswordCredential, address: str) -> records.User:
        key, password = names.key(credential.name), names.password(credential.password)
        if key is None or password is None:  # nobody can have them, which is no secret
            raise codes.Refused(codes.BAD_CREDENTIALS)
        with self._attempt(key, address):
            user = await self._store.user_by_key(key)
            if not await self._check(user, password) or user is None:
                raise codes.Refused(codes.BAD_CREDENTIALS)
        return user

    async def _register(self, credential: messages.RegisterCredential, address: str) -> records.User:
        by_invitation = self._settings.registration == "invite"
        if self._settings.registration == "closed":
            raise codes.Refused(codes.REGISTRATION_CLOSED)
        if by_invitation and not self._tokens.is_invitation(credential.invitation):
            raise codes.Refused(codes.BAD_INVITATION)
        name, password = names.prepare(credential.name), names.new_password(credential.password)
        request = self._tokens.registration(name.key, credential.request)
        # It is paid for although it succeeds: accounts, like guesses, are limited per address.
        with self._attempt(name.key, address, free_when_right=False):
            async with self._lock(name.key):  # a repeat waits here for the first one, and finds its account
                known = await self._store.user_by_key(name.key)
                if known is not None:
                    return await self._registered(known, request, password)
                hashed = await self._passwords.hash(password)  # may be refused as busy, so before an invitation is used
                if by_invitation:
                    await self._take_invitation(credential.invitation, request)
                user = await self._create(name, hashed, request)
                return user if user.password == hashed else await self._registered(user, request, password)

    async def _registered(self, user: records.User, request: bytes, password: str) -> records.User:
        """The account of a registration that comes again, or NAME_TAKEN. The password decides: the request alone, which is no
        secret of the same weight, opens nothing."""
        repeat = user.request is not None and hmac.compare_digest(user.request, request)
        if not repeat or not await self._passwords.verify(user.password, password):
            raise codes.Refused(codes.NAME_TAKEN)
        return user

    async def _take_invitation(self, text: str, request: bytes) -> None:
        digest = tokens_.code_digest(accounts_.INVITE, 0, text)
        try:
            await self._store.take_code(digest, accounts_.INVITE, self._clock(), request)
        except errors.NoSuch:
            raise codes.Refused(codes.BAD_INVITATION) from None

    async def _with_jwt(self, credential: messages.JwtCredential) -> records.User:
        """A user at first sight too, whoever may register: the issuer vouches for them."""
        subject = self._issuers.verify(credential.jwt, self._clock())
        known = await self._store.user_by_subject(subject.issuer, subject.subject)
        return known if known is not None else await self._first_sight(subject)

    async def _first_sight(self, subject: jwt.Subject) -> records.User:
        for attempt in range(NAME_TRIES):
            name = self._propose(subject.name, plain=attempt == 0)
            user = records.User(
                id=self._new_id(),
                name=name.shown,
                key=name.key,
                password=None,
                issuer=subject.issuer,
                subject=subject.subject,
                created=self._clock(),
            )
            try:
                return await self._store.create_user(user)
            except errors.NameTaken:
                continue
        raise codes.Refused(codes.UNAVAILABLE, retry_after_ms=accounts_.STORE_RETRY)

    def _propose(self, wish: str, *, plain: bool) -> names.Name:
        """The name an issuer proposes if it is one and `plain`; with a random ending otherwise; a made-up one if it is none."""
        ending = self._random(ENDING_BYTES).hex()
        stem = wish.encode(errors="ignore")[:STEM].decode(errors="ignore")
        candidates = [f"{stem}-{ending}"] if stem else []
        for candidate in [wish, *candidates] if plain else candidates:
            try:
                return names.prepare(candidate)
            except codes.Refused:
                continue
        return names.prepare(f"user-{ending}")

    async def _enter(self, user: records.User, password: str | None, request: bytes, device_name: str) -> identity.Admission:
        """The device of this request, with a token. Refused(BAD_CREDENTIALS) when the password, which was the user's a moment
        ago, is no longer: whoever changed it also logged out what was there, and this must not come in behind that."""
        now, token = self._clock(), self._tokens.token()
        device = self._tokens.device(user.id, request)
        fresh = self._record(token, user.id, device)
        async with self._lock(user.id):
            await self._require_still(user, password)
            devices = await self._store.devices(user.id)
            if len(devices) >= accounts_.MOST_DEVICES and all(each.id != device for each in devices):
                text = f"the account has {accounts_.MOST_DEVICES} devices; log one of them out first"
                raise codes.Refused(codes.TOO_MANY, text)
            await self._store.add_device(records.Device(device, user.id, device_name, now, now), fresh)
            # Where the device was there before, `add_device` changed nothing, the new token least of all.
            if await self._store.find_token(fresh.digest) is None:
                await self._store.add_token(self._record(token, user.id, device, successor=True))
        return identity.Admission(user.id, device, user.name, token)

    async def _require_still(self, user: records.User, password: str | None) -> None:
        """Another hash may be of the same password: it was hashed anew."""
        found = await self._store.user(user.id)
        current = found.password if found is not None else None
        same = found is not None and found.key is not None and current == user.password
        if not same and (password is None or not await self._passwords.verify(current, password)):
            raise codes.Refused(codes.BAD_CREDENTIALS)

    def _record(self, token: bytes, user: int, device: int, *, successor: bool = False) -> records.Token:
        return records.Token(tokens_.fingerprint(token), user, device, self._clock(), successor)
