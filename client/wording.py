"""Events and bodies in words, for people."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import msgspec

from client import errors
from protocol import codes, events

Name = Callable[[int], str]

#: Characters that would move the cursor or change the terminal: C0, DEL, C1, and the overrides of direction (RFC 8264 would
#: not let them into a name; a text may hold anything). And surrogates: what a terminal gave that is no text.
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def safe(text: str) -> str:
    """Text of others as it may be shown on a terminal."""
    return _CONTROLS.sub("\ufffd", text)


def one_line(text: str) -> str:
    """The same where there is room for one line alone."""
    return safe(text).replace("\n", " ")


def body(raw: msgspec.Raw) -> str:
    """A message's body in words."""
    try:
        decoded = events.decode_body(raw)
    except (msgspec.MsgspecError, RecursionError):
        return "[a message that this version cannot show]"
    match decoded:
        case events.Text():
            return safe(decoded.text)
        case events.Media():
            return safe(f"[media] {decoded.caption}".strip())
        case _:
            return "[an encrypted message]"


def mentions(raw: msgspec.Raw) -> tuple[events.Mention, ...]:
    try:
        found: tuple[events.Mention, ...] = getattr(events.decode_body(raw), "mentions", ())
    except (msgspec.MsgspecError, RecursionError):
        return ()
    return found


def people(event: events.Event) -> tuple[int, ...]:
    """The users whom an item names."""
    users = getattr(event, "users", ()) or getattr(event, "members", ())
    return (event.sender, *users, getattr(event, "user", 0), getattr(event, "successor", 0))


def change(event: events.Event, name: Name) -> str:
    """What an item that is no message says happened."""
    who = name(event.sender)
    match event:
        case events.GroupCreated():
            others = _names(event.members, name)
            return f"{who} made the group “{safe(event.title)}”" + (f" with {others}" if others else "")
        case events.MembersAdded():
            return f"{who} added {_names(event.users, name)}"
        case events.MemberRemoved():
            return f"{who} {'banned' if event.banned else 'removed'} {name(event.user)}"
        case events.MemberLeft():
            return f"{who} left" + (f"; {name(event.successor)} owns the group now" if event.successor else "")
        case events.MemberJoined():
            return f"{name(event.user)} joined" + ("" if event.sender == event.user else f", let in by {who}")
        case events.RoleChanged():
            return f"{who} made {name(event.user)} {event.role.name.lower()}"
        case events.GroupProfileChanged():
            return f"{who} named the group “{safe(event.title)}”"
        case events.PermissionsChanged():
            rules = event.permissions
            told = (
                f"{what}: {role.name.lower()}"
                for what, role in (("send", rules.send), ("add", rules.add), ("edit", rules.edit))
            )
            return f"{who} changed who may — " + ", ".join(told)
        case events.TimerChanged():
            return f"{who}: messages {f'disappear after {span(event.seconds)}' if event.seconds else 'stay'} from now on"
        case events.RequestAccepted():
            return f"{who} accepted the message request"
        case _:
            return "[something that this version cannot show]"


def _names(users: tuple[int, ...], name: Name) -> str:
    shown = ", ".join(name(user) for user in users[:8])
    return shown + (f" and {len(users) - 8} more" if len(users) > 8 else "")


def span(seconds: int) -> str:
    """A time in the largest unit that divides it."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} seconds"


def last_seen(seen_ms: int, now_ms: int) -> str:
    """When somebody was last seen; "" if that is not known."""
    if not seen_ms:
        return ""
    ago = max(0, now_ms - seen_ms) // 1000
    if ago < 60:
        return "last seen just now"
    if ago < 86400:
        return f"last seen {time.strftime('%H:%M', time.localtime(seen_ms / 1000))}"
    return f"last seen {time.strftime('%d %b', time.localtime(seen_ms / 1000))}"


def failure(error: Exception) -> str:
    """Why something did not work, in one line."""
    if isinstance(error, codes.Refused):
        return refusal(error)
    if isinstance(error, UnicodeError):
        return "There are characters in it that cannot be sent"
    if isinstance(error, errors.ClientError | LookupError | ValueError) and error.args:
        return one_line(str(error.args[0]))
    return one_line(f"{type(error).__name__}: {error}")


def refusal(refused: codes.Refused) -> str:
    """Why something was refused, in one line."""
    text = refused.text if refused.text == refused.error.text else f"{refused.error.text} ({refused.text})"
    return safe(text)
