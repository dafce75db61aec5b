"""The account: the owner of a user's account stream.

Some commands change the account store as well (name, password, devices). Each such change is idempotent and made first; then
the event is appended. A crash between leaves a command unanswered; its repeat finds the change made and appends the event.
What must not wait for a repeat does not: a device that the store let go of is cut off at once, and a name that was taken
without an event is recorded when the account is loaded.

A deleted account is nobody from the moment on in which the store let go of it. What is left (its groups, what its stream tells
of the person) is seen to afterwards; the store names it until that is done, and the sweeper wakes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec

from actors.directory import Directory
from actors.messages import Announce, Confirmed, CutOff, EndAccount, FactsChanged, Spread
from actors.owner import RETRY_MS, Owner
from actors.services import Services
from actors.state import account, log
from auth import names
from protocol import codes, events, ids, messages
from storage import errors, records

#: Seconds that a log-in waits for its device to be announced. A commit takes milliseconds; whoever waits longer hears
#: *unknown*, and the repeat finds how it went.
ANNOUNCE_LIMIT_S = 5.0
#: Events of a deleted account that are read, and erased, at once, so that senders do not wait behind them.
ERASE_EVENTS = 256
ERASE_BYTES = 256 * 1024


async def announce(directory: Directory, user: int, device: int, name: str) -> None:
    """Have the user's account record that a device was made; returns when that is stored. Idempotent. codes.Refused:
    UNAVAILABLE, UNKNOWN.

    To be awaited before the device gets its token: then no device comes in of which the others do not hear, whatever ends
    between."""
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if not directory.tell_committed(ids.account_stream(user), Announce(device, name, told)):
        raise codes.Refused(codes.UNAVAILABLE, retry_after_ms=RETRY_MS)
    try:
        await asyncio.wait_for(told, ANNOUNCE_LIMIT_S)
    except TimeoutError:
        raise codes.Refused(codes.UNKNOWN, retry_after_ms=RETRY_MS) from None


class Account(Owner):
    """Transient: loaded at its first message, put to sleep when idle."""

    _state: account.Account

    def __init__(self, services: Services, stream: bytes) -> None:
        super().__init__(services, stream)
        #: Who waits for a device to be announced. A list, as most are empty.
        self._announcing: list[Announce] = []
        #: A new name was asked for since the state was loaded: the account store may be ahead of it for a moment.
        self._renaming = False
        #: The user was deleted; and what is left of them is being erased.
        self._deleted = False
        self._erasing = False

    @property
    def state(self) -> account.Account:
        return self._state

    @property
    def user(self) -> int:
        return ids.owner(self.stream)

    def renew(self) -> None:
        services = self.services
        self._state = account.Account(self.stream, services.rules, self.user, "")

    def audience(self) -> list[int]:
        return [self.user]

    # --- decisions ----------------------------------------------------------------------------------------------------

    def need(self, command: log.Command) -> Awaitable[Any] | None:
        frame = command.frame
        if isinstance(frame, messages.Change) and type(frame) in _IN_STORE:
            return self._change_store(command, frame)
        if isinstance(frame, messages.SetContact | messages.SetBlock) and frame.on:
            return self._require(frame.user)
        if isinstance(frame, messages.Clear):
            return self._clear(command, frame)
        if isinstance(frame, _OF_A_STREAM):
            return self._require_member(frame.stream)
        if not self.services.people.knows(self.user):
            return self._meet()
        return None

    def context(self, command: log.Command, found: Any) -> tuple[None, None]:
        if self._deleted and command.device and not isinstance(command.frame, messages.DeleteAccount):
            raise codes.Refused(codes.NOT_ALLOWED)
        if not self._state.facts.name and not self._deleted:
            # The account was never changed: its name stands in the account store alone.
            people = self.services.people
            facts = people.peek(self.user) if people.knows(self.user) else None
            if facts is None:
                raise codes.Refused(codes.NOT_ALLOWED)
            self._state.facts = facts
        return None, None

    async def _meet(self) -> None:
        await self.services.people.load(self.user)

    async def _require(self, user: int) -> None:
        """Somebody who does not exist can be neither contact nor blocked. (Whether a user exists is told by no answer that
        depends on what that user allows: an id is not guessable.)"""
        await self._meet()
        if await self.services.people.load(user) is None:
            raise codes.Refused(codes.NOT_ALLOWED)

    async def _require_member(self, stream: bytes) -> None:
        """Settings are for streams that the user is, or was, in."""
        await self._meet()
        if not await self.services.store.memberships(self.user, stream):
            raise codes.Refused(codes.NOT_ALLOWED)

    async def _clear(self, command: log.Command, frame: messages.Clear) -> None:
        """What is cleared ends at what is there, and may be read: a number beyond would hide what is yet to come."""
        await self._require_member(frame.stream)
        intervals = await self.services.store.memberships(self.user, frame.stream)
        newest = await self.services.store.page(frame.stream, 1, intervals[-1][1], True, 1, 1)
        last = newest.items[0].event.seq if newest.items else 0
        command.frame = msgspec.structs.replace(frame, upto=min(frame.upto, last))

    async def _change_store(self, command: log.Command, frame: messages.Change) -> None:
        services, user = self.services, self.user
        await self._meet()
        match frame:
            case messages.Rename():
                self._renaming = True
                name = names.prepare(frame.name)
                with services.admitter.renaming(user):
                    try:
                        await services.store.rename(user, name.shown, name.key)
                    except errors.NameTaken:
                        raise codes.Refused(codes.NAME_TAKEN) from None
                command.frame = msgspec.structs.replace(frame, name=name.shown)
            case messages.ChangePassword():
                await services.admitter.change_password(user, frame.old, frame.new)
                if frame.revoke_others:
                    for device in await services.store.devices(user):
                        if device.id != command.device:
                            await self._let_go(device.id)
            case messages.RenameDevice():
                await self._require_device(frame.device)
                await services.store.rename_device(user, frame.device, frame.name)
            case messages.RevokeDevice():
                # One that the store let go of, and of which nobody was told yet, is a repeat's.
                if not await self._let_go(frame.device) and frame.device not in self._state.devices:
                    raise codes.Refused(codes.NOT_ALLOWED)
            case messages.DeleteAccount():
                await services.admitter.confirm_deletion(user, frame.confirmation)
                await services.store.delete_user(user, services.clock())
                self._deleted = True
            case _:
                raise AssertionError(frame)

    async def _let_go(self, device: int) -> bool:
        """Have the store drop a device, and cut it off before anything else can fail, also when the store cannot tell whether
        it is gone. False: it had none."""
        try:
            gone = await self.services.store.revoke_device(self.user, device)
        except errors.OutcomeUnknown:
            self._cut_off(CutOff(device, codes.REVOKED))
            raise
        if gone:
            self._cut_off(CutOff(device, codes.REVOKED))
        return gone

    async def _require_device(self, device: int) -> None:
        if not any(each.id == device for each in await self.services.store.devices(self.user)):
            raise codes.Refused(codes.NOT_ALLOWED)

    # --- consequences -------------------------------------------------------------------------------------------------

    def release(self, batch: list[log.Accepted]) -> None:
        self.burst(batch, self.audience())
        for accepted in batch:
            if not self._deleted and any(key == account.FACTS for key, _ in accepted.parts):
                self._publish()
            self._consequence(accepted)

    def _publish(self) -> None:
        """Let decisions see the new facts. (Those of a later, provisional change at worst: they are about to be durable, or the
        state is loaded again and published again.)"""
        self.services.people.put(self.user, self._state.facts)
        self.services.whereis("presence").tell_committed(FactsChanged(self.user, self._state.facts))

    def _announce_device(self, message: Announce) -> None:
        under_way = any(each.device == message.device for each in self._announcing)
        if message.device in self._state.devices and not under_way:
            _done(message)
            return
        self._announcing.append(message)
        if not under_way:
            event = events.DeviceAdded(*events.UNFILLED, message.device, message.name)
            self._take(log.Command(self.user, 0, event, 0))

    def _announced(self, device: int) -> None:
        for each in self._announcing:
            if each.device == device:
                _done(each)
        self._announcing = [each for each in self._announcing if each.device != device]

    def loaded(self) -> None:
        self._renaming = False
        self.pipe(self.services.store.user(self.user), _Row)
        people = self.services.people
        if self._state.facts.name and people.knows(self.user) and people.peek(self.user) is not None:
            people.put(self.user, self._state.facts)

    def _compare(self, row: records.User | None) -> None:
        """What the account store says of the user, as of when the state was loaded or later."""
        name = self._state.facts.name
        if row is not None and row.key is None:
            self._end_account()
        elif row is not None and name and row.name != name and not self._renaming:
            self._take(log.Command(self.user, 0, events.Renamed(*events.UNFILLED, row.name), 0))

    def _consequence(self, accepted: log.Accepted) -> None:
        event, frame = accepted.event, accepted.command.frame
        match event:
            case events.Joined() | events.Parted():
                self.services.directory.tell_committed(event.stream, Confirmed(self.user, event.seq))
                if self._deleted and type(event) is events.Joined:
                    self._leave(event.stream)  # whoever added the user did not know yet
                elif self._deleted:
                    self._erase_once_alone()
            case events.DeviceAdded():
                self._announced(event.added)
            case events.DeviceRevoked():
                self._cut_off(CutOff(event.revoked, codes.REVOKED))
            case events.PasswordChanged() if event.revoked:
                self._cut_off(CutOff(0, codes.REVOKED, except_device=accepted.command.device))
            case _ if isinstance(frame, messages.DeleteAccount):
                self._end_account()

    def _cut_off(self, message: CutOff) -> None:
        self.services.directory.tell_committed(("session", self.user), message)

    def _leave(self, stream: bytes) -> None:
        self.services.directory.tell_committed(stream, log.Command(self.user, 0, messages.Leave(0, 0, stream), 0))

    def _end_account(self) -> None:
        """The store has let go of the user: close the devices, leave the groups, erase. To do it again does no harm."""
        self._deleted = True
        self.services.people.put(self.user, None)
        self.services.whereis("presence").tell_committed(FactsChanged(self.user, None))
        # Behind what is on its way to the devices: one of them waits for an answer.
        self.services.whereis("fanout").tell_committed(Spread(self.audience(), CutOff(0, codes.ACCOUNT_DELETED)))
        for stream in self._state.groups:
            self._leave(stream)
        self._erase_once_alone()

    def _erase_once_alone(self) -> None:
        if not self._state.groups and not self._erasing:
            self._erasing = True
            self.pipe(self._erase(), lambda result: _Erased(result))

    async def _erase(self) -> None:
        """Take out of the stream what tells of the person, then its parts; StorageError when that has to be done again."""
        store, stream = self.services.store, self.stream
        head, first = await store.head(stream), 1
        while first <= head:
            rows = await store.range(stream, first, head, ERASE_EVENTS, ERASE_BYTES)
            told = [row.seq for row in rows if events.redact(row.data) != row.data]
            await self._rewrite(head, erase=[records.Erasure(seq, events.redact) for seq in told])
            first = rows[-1].seq + 1
        await self._rewrite(head, parts=[(key, None) for key in await store.parts(stream, b"")])
        await store.finish_deletion(self.user)

    async def _rewrite(self, head: int, **changes: Any) -> None:
        """Change the stream without an event. It fails if there was one after all."""
        if any(changes.values()):
            append = records.Append(self.stream, self._state.epoch, head + 1, self._state.n, self._state.time, **changes)
            (outcome,) = await self.services.store.commit([append])
            if outcome.result is not records.Result.STORED:
                raise errors.Unavailable(outcome.reason)

    def answer_again(self, command: log.Command, result: Any) -> None:
        super().answer_again(command, result)
        if isinstance(command.frame, messages.DeleteAccount):
            self._end_account()  # a crash may have come between the event and its consequence

    def handle(self, message: Any) -> None:
        if type(message) is Announce:
            self._announce_device(message)
        elif type(message) is _Row:
            if not isinstance(message.result, errors.StorageError):  # else it is compared at the next load
                self._compare(message.result)
        elif type(message) is EndAccount:
            self.pipe(self.services.store.user(self.user), _Row)
        elif type(message) is _Erased:
            self._erasing = False  # if it failed, the sweeper will tell
            if isinstance(message.result, BaseException) and not isinstance(message.result, errors.StorageError):
                raise message.result

    def refuse(self, command: log.Command, refused: codes.Refused) -> None:
        super().refuse(command, refused)
        event = command.frame
        if not refused.error.temporary and isinstance(event, events.Joined | events.Parted):
            # Heard of it before, or there is nobody to hear it: the group need not say it again.
            self.services.directory.tell_committed(event.stream, Confirmed(self.user, event.seq))
        if not refused.error.temporary and isinstance(event, events.DeviceAdded):
            self._announced(event.added)  # an earlier try of it was stored


def _done(message: Announce) -> None:
    if not message.told.done():  # else nobody waits any more
        message.told.set_result(None)


class _Row:
    """The user as the account store knows them, or why it does not say."""

    __slots__ = ("result",)

    def __init__(self, result: Any) -> None:
        self.result = result


class _Erased:
    """Nothing is left of a deleted account, or why something may be."""

    __slots__ = ("result",)

    def __init__(self, result: Any) -> None:
        self.result = result


_IN_STORE = frozenset(
    {
        messages.Rename,
        messages.ChangePassword,
        messages.RenameDevice,
        messages.RevokeDevice,
        messages.DeleteAccount,
    }
)
_OF_A_STREAM = (messages.SetConversation, messages.SetDraft, messages.Keep, messages.Hide)
