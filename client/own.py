"""What a device's own commands become, told from the command and its answer alone.

`Sent` stands for the event on the device that sent the command, so that a body does not travel twice. The client makes the
event itself. It is the event that all others see, except for fields that the server alone can know; those are named in
`Own.missing` and hold the client's best knowledge. Where the server can be asked for them, that is done before the event is
shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import msgspec

from client.updates import StreamEvent
from protocol import events, ids, messages

#: Frame numbers of the commands whose stream is the account stream of who sends them.
ACCOUNT_COMMANDS = range(40, 55)


class Fetch(Enum):
    """Where the missing fields can be had."""

    NOWHERE = 0
    HISTORY = 1
    PROFILE = 2


@dataclass(slots=True, frozen=True)
class Own:
    """The event of an own command. `missing`: fields that only the server knows."""

    event: events.AnyEvent
    missing: tuple[str, ...] = ()
    fetch: Fetch = Fetch.NOWHERE


def stream_of(command: messages.Change, user: int, device: int) -> bytes:
    """The stream that numbers the command. Its counter must be set."""
    if isinstance(command, messages.CreateGroup):
        return ids.group_stream(device, command.counter)
    if messages.number_of(command) in ACCOUNT_COMMANDS:
        return ids.account_stream(user)
    stream: bytes = getattr(command, "stream")  # noqa: B009 - every other command has it, the base class has not
    return stream


def event_of(command: messages.Change, sent: messages.Sent, user: int, device: int) -> Own | None:
    """The event that `command` became. None for a command of a newer kind."""
    head = (sent.n, sent.time, user, device, command.counter)
    if isinstance(command, messages.CreateInvite):
        # The one command whose event says its own seq.
        return Own(events.InviteCreated(*head, sent.seq, command.uses, command.expires_at, command.approval))
    make = _MAKERS.get(type(command))
    if make is None:
        return None
    found = make(command, head)
    if sent.n == 1 and isinstance(command, messages.Send) and _to_another(command.stream, user):
        # The first words to somebody: only the server knows whether they arrive as a message request.
        return replace(found, fetch=Fetch.HISTORY)
    return found


def _to_another(stream: bytes, user: int) -> bool:
    return stream[0] == ids.Kind.DIRECT and ids.parties(stream) != (user, user)


def question(item: StreamEvent, fetch: Fetch, user: int) -> messages.Frame:
    """What to ask for the missing fields of an own event."""
    if fetch is Fetch.PROFILE:
        return messages.FetchProfiles(0, (user,))
    return messages.FetchHistory(0, item.stream, item.seq, False, 1)


def completed(item: StreamEvent, answer: Any) -> StreamEvent:
    """An own event with what the server said about it: the answer to `question`, or anything else, which leaves it as it is."""
    if isinstance(answer, messages.Profiles) and answer.profiles and isinstance(item.event, events.Renamed):
        event = msgspec.structs.replace(item.event, name=answer.profiles[0].name)
        return replace(item, event=event, missing=())
    parts = answer[0] if isinstance(answer, tuple) else ()
    if parts and isinstance(parts[0], messages.HistoryItem) and parts[0].seq == item.seq:
        data = bytes(parts[0].event)
        return StreamEvent(item.stream, item.seq, events.decode(data), len(data), True)
    return item


_Head = tuple[int, int, int, int, int]
_Maker = Callable[[Any, _Head], Own]


def _leave(_: messages.Leave, head: _Head) -> Own:
    return Own(events.MemberLeft(*head), ("successor",), Fetch.HISTORY)


def _answer_join(c: messages.AnswerJoin, head: _Head) -> Own:
    if not c.accept:
        return Own(events.JoinRefused(*head, c.user))
    return Own(events.MemberJoined(*head, c.user, 0), ("invite",), Fetch.HISTORY)


_MAKERS: dict[type[messages.Change], _Maker] = {
    messages.Send: lambda c, h: Own(events.Message(*h, c.body, c.reply_to, 0, 0, c.flags), ("expires_at", "flags")),
    messages.Edit: lambda c, h: Own(events.Edited(*h, c.target, c.body)),
    messages.Delete: lambda c, h: Own(events.Deleted(*h, c.target)),
    messages.React: lambda c, h: Own(events.Reacted(*h, c.target, c.emoji)),
    messages.Forward: lambda c, h: Own(
        events.Message(*h, events.NIL, 0, 1, 0, c.flags), ("body", "hops", "expires_at"), Fetch.HISTORY
    ),
    messages.SetTimer: lambda c, h: Own(events.TimerChanged(*h, c.seconds)),
    messages.AcceptRequest: lambda _, h: Own(events.RequestAccepted(*h)),
    messages.CreateGroup: lambda c, h: Own(
        events.GroupCreated(*h, c.title, c.description, c.picture, c.members),
        ("members",) if c.members else (),
        Fetch.HISTORY if c.members else Fetch.NOWHERE,
    ),
    messages.AddMembers: lambda c, h: Own(events.MembersAdded(*h, c.users), ("users",), Fetch.HISTORY),
    messages.RemoveMember: lambda c, h: Own(events.MemberRemoved(*h, c.user, c.ban)),
    messages.Leave: _leave,
    messages.SetRole: lambda c, h: Own(events.RoleChanged(*h, c.user, c.role)),
    messages.SetGroupProfile: lambda c, h: Own(events.GroupProfileChanged(*h, c.title, c.description, c.picture)),
    messages.SetPermissions: lambda c, h: Own(events.PermissionsChanged(*h, c.permissions)),
    messages.RevokeInvite: lambda c, h: Own(events.InviteRevoked(*h, c.invite)),
    # Not a member while approval is waited for: history then refuses, and this is what is left.
    messages.Join: lambda _, h: Own(events.JoinRequested(*h, 1), ("kind", "invite"), Fetch.HISTORY),
    messages.AnswerJoin: _answer_join,
    messages.Unban: lambda c, h: Own(events.Unbanned(*h, c.user)),
    messages.SetProfile: lambda c, h: Own(events.ProfileChanged(*h, c.profile)),
    # The server may write the name otherwise (RFC 8265), and clears no further than there is something.
    messages.Rename: lambda c, h: Own(events.Renamed(*h, c.name), ("name",), Fetch.PROFILE),
    messages.SetContact: lambda c, h: Own(events.ContactSet(*h, c.user, c.label if c.on else "", c.on)),
    messages.SetBlock: lambda c, h: Own(events.BlockSet(*h, c.user, c.on)),
    messages.SetPrivacy: lambda c, h: Own(events.PrivacySet(*h, c.privacy)),
    messages.RenameDevice: lambda c, h: Own(events.DeviceRenamed(*h, c.device, c.name)),
    messages.RevokeDevice: lambda c, h: Own(events.DeviceRevoked(*h, c.device)),
    messages.SetConversation: lambda c, h: Own(events.ConversationSet(*h, c.stream, c.pinned, c.muted_until, c.archived)),
    messages.Clear: lambda c, h: Own(events.Cleared(*h, c.stream, c.upto, c.delete), ("upto",)),
    messages.SetDraft: lambda c, h: Own(events.DraftSet(*h, c.stream, c.text, c.reply_to)),
    messages.Keep: lambda c, h: Own(events.Kept(*h, c.stream, c.seq, c.starred, c.pinned)),
    messages.Hide: lambda c, h: Own(events.Hidden(*h, c.stream, c.seqs)),
    messages.DeleteAccount: lambda _, h: Own(events.ProfileChanged(*h, events.Profile())),
    messages.ChangePassword: lambda c, h: Own(events.PasswordChanged(*h, c.revoke_others)),
}


def lets_in(event: events.AnyEvent | None, user: int) -> bool:
    """Whether `event` makes `user` a member: a member's interval begins there, and a reader may jump to it."""
    if isinstance(event, events.GroupCreated):
        return True
    if isinstance(event, events.MembersAdded):
        return user in event.users
    return isinstance(event, events.MemberJoined) and event.user == user


def keeps_out(event: events.AnyEvent, user: int) -> bool:
    """Whether `user`, to whom `event` is shown, is no member after it."""
    if isinstance(event, events.MemberRemoved):
        return event.user == user
    return isinstance(event, events.MemberLeft | events.JoinRequested) and event.sender == user
