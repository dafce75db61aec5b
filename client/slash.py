"""The commands of the terminal chat: what is typed after a slash.

A command is a line of the table at the end: its arguments, what it is for, and what it does. Messages are named by the
number in front of them, people by their user names.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from client import wording
from client.chatting import Chat
from protocol import events, ids, messages


class Usage(Exception):
    """The arguments do not fit."""


@dataclass(slots=True, frozen=True)
class Command:
    usage: str
    text: str
    run: Callable[[Chat, str], Awaitable[None]]


async def run(chat: Chat, line: str) -> bool:
    """Carry out `line` ("/name arguments"). False: leave the chat. Raises codes.Refused, LookupError, ClientError."""
    name, _, rest = line[1:].partition(" ")
    if name in ("quit", "q", "exit"):
        return False
    command = COMMANDS.get(name)
    if command is None:
        chat.say(f"There is no /{name}; /help lists what there is")
        return True
    try:
        await command.run(chat, rest.strip())
    except Usage as usage:
        chat.say(f"/{name} {command.usage}" + (f" — {usage}" if str(usage) else ""))
    return True


# --- arguments --------------------------------------------------------------------------------------------------------


def _stream(chat: Chat) -> bytes:
    if not chat.view.selected:
        raise Usage("open a conversation first")
    return chat.view.selected


def _group(chat: Chat) -> bytes:
    stream = _stream(chat)
    if stream[0] != ids.Kind.GROUP:
        raise Usage("in a group")
    return stream


def _number(text: str, least: int = 1, most: int = ids.MAX_ID) -> int:
    try:
        number = int(text.lstrip("#"))
    except ValueError:
        raise Usage("a number is missing") from None
    if not least <= number <= most:
        raise Usage(f"a number from {least} to {most}")
    return number


def _split(text: str) -> tuple[int, str]:
    """A message's number, and what follows."""
    first, _, rest = text.partition(" ")
    return _number(first), rest.strip()


def _needed(text: str) -> str:
    if not text:
        raise Usage
    return text


async def _users(chat: Chat, text: str) -> list[int]:
    return [await chat.user_named(name) for name in _needed(text).split()]


# --- people and conversations -----------------------------------------------------------------------------------------


async def _help(chat: Chat, _: str) -> None:
    lines = [f"/{name} {command.usage}".ljust(HELP_COLUMNS) + command.text for name, command in COMMANDS.items()]
    chat.view.panel = [*lines, "/quit".ljust(HELP_COLUMNS) + "leave the chat", "", *KEYS]
    chat.view.scroll = 0


async def _find(chat: Chat, text: str) -> None:
    rows = await chat.client.find(_needed(text))
    for row in rows:
        chat.know(row)
    chat.say("Found: " + ", ".join(chat.view.names[row.user] for row in rows) if rows else f"Nobody is called {text}…")


async def _open(chat: Chat, text: str) -> None:
    await chat.open(await chat.user_named(_needed(text)))


async def _note(chat: Chat, _: str) -> None:
    await chat.open(chat.state.user)


async def _contact(chat: Chat, text: str) -> None:
    name, _, label = _needed(text).partition(" ")
    await chat.client.set_contact(await chat.user_named(name), label=label.strip())
    chat.say(f"{name} is a contact")


async def _block(chat: Chat, text: str) -> None:
    await chat.client.block(await chat.user_named(_needed(text)))
    chat.say(f"{text} is blocked")


async def _unblock(chat: Chat, text: str) -> None:
    await chat.client.block(await chat.user_named(_needed(text)), False)
    chat.say(f"{text} is no longer blocked")


async def _accept(chat: Chat, _: str) -> None:
    await chat.client.accept_request(_stream(chat))


async def _pin(chat: Chat, _: str) -> None:
    stream = _stream(chat)
    own = chat.state.stream(stream).settings
    await chat.client.set_conversation(stream, pinned=not own.pinned, muted_until=own.muted_until, archived=own.archived)


async def _mute(chat: Chat, _: str) -> None:
    stream = _stream(chat)
    own = chat.state.stream(stream).settings
    until = 0 if own.muted_until else ids.MAX_ID
    await chat.client.set_conversation(stream, pinned=own.pinned, muted_until=until, archived=own.archived)


async def _archive(chat: Chat, _: str) -> None:
    stream = _stream(chat)
    own = chat.state.stream(stream).settings
    await chat.client.set_conversation(stream, pinned=own.pinned, muted_until=own.muted_until, archived=not own.archived)


async def _archived(chat: Chat, _: str) -> None:
    chat.view.archived = not chat.view.archived


async def _clear(chat: Chat, text: str) -> None:
    stream = _stream(chat)
    items = chat.state.stream(stream).items
    if not items:
        raise Usage("there is nothing to clear")
    await chat.client.clear(stream, max(items), delete=text == "delete")


async def _timer(chat: Chat, text: str) -> None:
    await chat.client.set_timer(_stream(chat), _number(text, 0, MAX_TIMER_S))


# --- messages ---------------------------------------------------------------------------------------------------------


async def _reply(chat: Chat, text: str) -> None:
    seq, words = _split(text)
    chat.send(_needed(words), reply_to=seq)


async def _edit(chat: Chat, text: str) -> None:
    seq, words = _split(text)
    stream = _stream(chat)
    await chat.client.edit(stream, seq, _needed(words), mentions=chat.mentions(stream, words))


async def _delete(chat: Chat, text: str) -> None:
    await chat.client.delete(_stream(chat), _number(text))


async def _hide(chat: Chat, text: str) -> None:
    await chat.client.hide(_stream(chat), [_number(part) for part in _needed(text).split()])


async def _react(chat: Chat, text: str) -> None:
    seq, emoji = _split(text)
    await chat.client.react(_stream(chat), seq, emoji)


async def _star(chat: Chat, text: str) -> None:
    seq, stream = _number(text), _stream(chat)
    kept = chat.state.stream(stream).settings.kept.get(seq, 0)
    await chat.client.keep(stream, seq, starred=not kept & 1, pinned=bool(kept & 2))


async def _forward(chat: Chat, text: str) -> None:
    seq, name = _split(text)
    source = _stream(chat)
    opened = await chat.client.open(await chat.user_named(_needed(name)))
    await chat.client.forward(opened.stream, source, seq)
    chat.say(f"Forwarded to {name}")


async def _info(chat: Chat, text: str) -> None:
    info = await chat.client.info(_stream(chat), _number(text))
    read = ", ".join(chat.view.name(user) for user in info.read) or "nobody yet"
    delivered = ", ".join(chat.view.name(user) for user in info.delivered) or "nobody else"
    chat.say(f"Read by {read}; delivered to {delivered}")


# --- groups -----------------------------------------------------------------------------------------------------------


async def _create(chat: Chat, text: str) -> None:
    title, _, names = _needed(text).partition(":")
    members = await _users(chat, names) if names.strip() else []
    created = await chat.client.create_group(_needed(title.strip()), members)
    chat.select(created.stream)


async def _add(chat: Chat, text: str) -> None:
    await chat.client.add_members(_group(chat), await _users(chat, text))


async def _remove(chat: Chat, text: str) -> None:
    await chat.client.remove_member(_group(chat), await chat.user_named(_needed(text)))


async def _ban(chat: Chat, text: str) -> None:
    await chat.client.remove_member(_group(chat), await chat.user_named(_needed(text)), ban=True)


async def _unban(chat: Chat, text: str) -> None:
    await chat.client.unban(_group(chat), await chat.user_named(_needed(text)))


async def _leave(chat: Chat, _: str) -> None:
    await chat.client.leave(_group(chat))


async def _members(chat: Chat, _: str) -> None:
    group = chat.state.stream(_group(chat)).group
    if group is None or group.members is None:
        raise Usage("you are no member")
    rows = sorted(group.members.items(), key=lambda row: (-row[1].role, chat.view.name(row[0])))
    requests = [f"asks to join: {chat.view.name(user)} (/admit or /refuse)" for user in group.requests or ()]
    chat.view.panel = [f"{member.role.name.lower():8}{chat.view.name(user)}" for user, member in rows] + requests
    chat.view.scroll = 0


async def _role(chat: Chat, text: str) -> None:
    name, _, role = _needed(text).partition(" ")
    try:
        wanted = events.Role[role.strip().upper()]
    except KeyError:
        raise Usage from None
    await chat.client.set_role(_group(chat), await chat.user_named(name), wanted)


async def _title(chat: Chat, text: str) -> None:
    stream = _group(chat)
    group = chat.state.stream(stream).group
    description, picture = (group.description, group.picture) if group is not None else ("", "")
    await chat.client.set_group_profile(stream, _needed(text), description=description, picture=picture)


async def _invite(chat: Chat, text: str) -> None:
    stream = _group(chat)
    invite = await chat.client.create_invite(stream, approval=text == "ask")
    code = base64.urlsafe_b64encode(stream + invite.code).decode().rstrip("=")
    who = "asks to be let in" if invite.approval else "joins"
    chat.view.panel = [f"Whoever types /join and this {who}:", "", code]


async def _join(chat: Chat, text: str) -> None:
    try:
        link = base64.urlsafe_b64decode(_needed(text) + "=" * (-len(text) % 4))
    except ValueError:
        raise Usage("this is no invite") from None
    stream, code = link[:15], link[15:]
    if not code or stream[0] != ids.Kind.GROUP:
        raise Usage("this is no invite")
    await chat.client.join(stream, code)
    chat.select(stream)


async def _admit(chat: Chat, text: str) -> None:
    await chat.client.answer_join(_group(chat), await chat.user_named(_needed(text)), True)


async def _refuse(chat: Chat, text: str) -> None:
    await chat.client.answer_join(_group(chat), await chat.user_named(_needed(text)), False)


# --- oneself ----------------------------------------------------------------------------------------------------------


async def _profile(chat: Chat, text: str) -> None:
    profile = chat.state.account.profile
    await chat.client.set_profile(events.Profile(text, profile.about, profile.picture))
    chat.say(f"Others see you as {text}" if text else "Others see your user name")


async def _rename(chat: Chat, text: str) -> None:
    await chat.client.rename(_needed(text))


async def _password(chat: Chat, _: str) -> None:
    """The passwords are asked for: a line that is typed in is there for everybody to see."""
    old = await chat.ask("The old password: ")
    new = await chat.ask("The new password: ")
    if await chat.ask("Once more: ") != new:
        raise LookupError("The new passwords differ; nothing was changed")
    await chat.client.change_password(old, new)
    chat.say("The password is changed, and every other device logged out")


async def _devices(chat: Chat, _: str) -> None:
    mine = chat.client.identity.device
    rows: list[messages.DeviceInfo] = list((await chat.client.account()).state.devices)
    now = max((row.last_seen for row in rows), default=0)
    chat.view.panel = [
        f"{row.device}  {row.name or 'no name'}  "
        + ("this one" if row.device == mine else wording.last_seen(row.last_seen, now))
        for row in rows
    ]
    chat.view.panel.append("/revoke NUMBER logs a device out")


async def _revoke(chat: Chat, text: str) -> None:
    await chat.client.revoke_device(_number(text))


async def _logout(chat: Chat, _: str) -> None:
    chat.left = True
    await chat.client.logout()


#: The longest time after which messages may disappear (`messages.SetTimer`): 400 days.
MAX_TIMER_S = 400 * 86400
#: Columns of a command and its arguments in the list of commands; the rest of the pane's 55 is for what it does.
HELP_COLUMNS = 23
KEYS = (
    "Up, Down          another conversation",
    "PageUp, PageDown  scroll",
    "Esc               close this, drop what was refused",
    "Ctrl-D, Ctrl-Q    leave",
)

COMMANDS: dict[str, Command] = {
    "help": Command("", "this list", _help),
    "find": Command("NAME", "whose name begins so", _find),
    "open": Command("NAME", "talk to somebody", _open),
    "note": Command("", "the note to self", _note),
    "reply": Command("N TEXT", "answer message N", _reply),
    "edit": Command("N TEXT", "replace an own message", _edit),
    "delete": Command("N", "delete for everyone", _delete),
    "hide": Command("N...", "delete for yourself", _hide),
    "react": Command("N EMOJI", "react; no emoji takes it back", _react),
    "star": Command("N", "star a message, or no longer", _star),
    "forward": Command("N NAME", "send a message on", _forward),
    "info": Command("N", "who has it, who read it", _info),
    "create": Command("TITLE: NAME...", "make a group", _create),
    "add": Command("NAME...", "add people", _add),
    "remove": Command("NAME", "take somebody out", _remove),
    "ban": Command("NAME", "and keep them out", _ban),
    "unban": Command("NAME", "and let them come back", _unban),
    "members": Command("", "who is in this group", _members),
    "role": Command("NAME ROLE", "ROLE: member, admin or owner", _role),
    "title": Command("TEXT", "name this group", _title),
    "invite": Command("[ask]", "an invite; ask: admins let in", _invite),
    "join": Command("CODE", "join by an invite", _join),
    "admit": Command("NAME", "let somebody in who asked", _admit),
    "refuse": Command("NAME", "or not", _refuse),
    "leave": Command("", "leave this group", _leave),
    "timer": Command("SECONDS", "messages disappear; 0: never", _timer),
    "accept": Command("", "accept a message request", _accept),
    "contact": Command("NAME [LABEL]", "keep somebody as a contact", _contact),
    "block": Command("NAME", "hear nothing from somebody", _block),
    "unblock": Command("NAME", "hear from them again", _unblock),
    "pin": Command("", "keep it on top, or no longer", _pin),
    "mute": Command("", "mute it, or no longer", _mute),
    "archive": Command("", "off the list, or back on it", _archive),
    "archived": Command("", "show the archive, or no longer", _archived),
    "clear": Command("[delete]", "hide all; delete: and the entry", _clear),
    "profile": Command("NAME", "the name that others see", _profile),
    "rename": Command("NAME", "take another user name", _rename),
    "password": Command("", "change the password", _password),
    "devices": Command("", "where you are logged in", _devices),
    "revoke": Command("NUMBER", "log a device out", _revoke),
    "logout": Command("", "log this device out", _logout),
}
