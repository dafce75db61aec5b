"""The event that a command of one's own became: a Sent stands for it, and no frame brings it."""

from __future__ import annotations

from typing import Any

from tests.e2e.independent import wire
from tests.e2e.independent.tables import COMMANDS, EVENTS, MAX_INT, Record

ACCOUNT = frozenset(
    "SetProfile Rename SetContact SetBlock SetPrivacy RenameDevice RevokeDevice SetConversation Clear SetDraft Keep Hide"
    " ChangePassword DeleteAccount".split()
)
"""Commands that become events of one's account stream, whatever stream they speak of."""

_SAME_FIELDS = {
    "Edit": "Edited",
    "Delete": "Deleted",
    "React": "Reacted",
    "SetTimer": "TimerChanged",
    "AcceptRequest": "RequestAccepted",
    "CreateGroup": "GroupCreated",
    "AddMembers": "MembersAdded",
    "SetRole": "RoleChanged",
    "SetGroupProfile": "GroupProfileChanged",
    "SetPermissions": "PermissionsChanged",
    "RevokeInvite": "InviteRevoked",
    "Unban": "Unbanned",
    "SetProfile": "ProfileChanged",
    "Rename": "Renamed",
    "SetContact": "ContactSet",
    "SetBlock": "BlockSet",
    "SetPrivacy": "PrivacySet",
    "SetConversation": "ConversationSet",
    "SetDraft": "DraftSet",
    "Keep": "Kept",
    "Hide": "Hidden",
}

UNKNOWN_BODY: list[Any] = [0]
"""Stands for what only the server knows, the body of a Forward: fetch it."""


def stream_of(command: Record, user: int, device: int) -> bytes:
    """The stream that a state-changing command goes to."""
    if command.kind in ACCOUNT:
        return wire.account(user)
    if command.kind == "CreateGroup":
        return wire.group(device, command.counter)
    stream: bytes = command.stream
    return stream


def event_of(command: Record, sent: Record, user: int, device: int, timer: int, asked: dict[int, int]) -> Record:
    """The event of `command`, by its answer. `timer`: the seconds in force in its stream. `asked`: who asked to join it, and
    by which link."""
    common = {"n": sent.n, "time": sent.time, "sender": user, "device": device, "counter": command.counter}
    name, values = _of(command, sent, timer, asked)
    shape = EVENTS.by_name[name]
    return Record(name, shape.defaults | common | {key: values[key] for key in shape.fields if key in values})


def _of(command: Record, sent: Record, timer: int, asked: dict[int, int]) -> tuple[str, dict[str, Any]]:
    fields = dict(command.fields)
    expires = sent.time + 1000 * timer if timer else 0
    match command.kind:
        case "Send":
            return "Message", fields | {"hops": 0, "expires_at": expires}
        case "Forward":
            return "Message", {"body": UNKNOWN_BODY, "expires_at": expires, "flags": command.flags}
        case "RemoveMember":
            return "MemberRemoved", fields | {"banned": command.ban}
        case "Leave":
            return "MemberLeft", {}
        case "CreateInvite":
            return "InviteCreated", fields | {"invite": sent.seq}
        case "Join":
            return "MemberJoined", {"user": 0, "invite": 0}
        case "AnswerJoin":
            return ("MemberJoined" if command.accept else "JoinRefused"), fields | {"invite": asked.get(command.user, 0)}
        case "RenameDevice":
            return "DeviceRenamed", fields | {"renamed": command.device}
        case "RevokeDevice":
            return "DeviceRevoked", {"revoked": command.device}
        case "Clear":
            return "Cleared", fields | {"deleted": command.delete}
        case "ChangePassword":
            return "PasswordChanged", {"revoked": command.revoke_others}
    return _SAME_FIELDS[command.kind], fields


def is_join(event: Record) -> bool:
    """Whether it is an own Join, of which the answer does not say whether one is in or has only asked."""
    return event.kind == "MemberJoined" and not event.user


def lets_in(event: Record, user: int) -> bool:
    """Whether it makes this user a member: what a reader of a group may jump to."""
    came = {"MembersAdded": "users", "MemberJoined": "user"}.get(event.kind)
    return event.kind == "GroupCreated" or (came is not None and user in _users(event, came))


def keeps_out(event: Record, user: int) -> bool:
    """Whether this user, to whom it is shown, is no member after it."""
    gone = {"MemberRemoved": "user", "MemberLeft": "sender", "JoinRequested": "sender"}.get(event.kind)
    return gone is not None and user in _users(event, gone)


def _users(event: Record, key: str) -> list[int]:
    found = event.fields[key]
    return found if isinstance(found, list) else [found]


def changes_state(name: str) -> bool:
    """Whether a command carries a counter."""
    return "counter" in COMMANDS.by_name[name].fields


def next_counter(last: int, now_ms: int) -> int:
    """A counter that rises over restarts even where the last one was lost."""
    return min(max(last + 1, now_ms), MAX_INT)
