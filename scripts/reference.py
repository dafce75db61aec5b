"""docs/protocol.md: the prose of docs/protocol.in.md with the tables, numbers and bytes filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from enum import IntEnum

import msgspec

import config
from actors import session
from actors.state import log, reader, rules
from auth import accounts, attempts
from client import inflow, own
from gateway import limits as gateway_limits
from protocol import codec, codes, connection, events, ids, messages, scan
from scripts import describe, meanings, vectors
from storage import records

_HOLE = re.compile(r"\{\{([a-z_]+)(?::([a-z_]+))?\}\}")

_SETTINGS = config.Limits()
_AUTH = config.Auth()

#: What a server with its settings untouched tells in Welcome.
USUAL = messages.Limits(
    frame=_SETTINGS.frame_bytes,
    body=codec.MAX_BODY,
    window_events=reader.WINDOW_EVENTS,
    window_bytes=reader.WINDOW_BYTES,
    commands_per_s=int(_SETTINGS.connection_commands_s),
    burst=int(_SETTINGS.connection_commands_s * gateway_limits.COMMAND_BURST),
    unanswered=log.WINDOW - 1,
    group_members=_SETTINGS.group_members,
    subscriptions=_SETTINGS.subscriptions,
    edit_window_s=_SETTINGS.edit_window_s,
    questions=session.MAX_QUERIES,
)

_ENUMS: tuple[type[IntEnum], ...] = (events.Role, events.Flag, events.Audience)


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _table(head: tuple[str, ...], rows: Iterable[Iterable[object]]) -> str:
    return "\n".join([_row(head), _row("---" for _ in head), *(_row(row) for row in rows)])


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _fields(struct: type[msgspec.Struct], skip: int = 0) -> str:
    rows = [
        (field.position, _code(field.name), field.shape, field.limit, _code(field.default or ""), field.meaning)
        for field in describe.fields(struct)[skip:]
    ]
    return _table(("#", "field", "type", "limit", "default", "meaning"), rows) if rows else ""


def _sample(struct: type[msgspec.Struct]) -> str:
    """The typical instance, decoded and as bytes, on two lines."""
    data = msgspec.msgpack.encode(vectors.build(struct, "typical"))
    return f"```\n{_json(data)}\n{data.hex(' ')}\n```" if len(data) <= 120 else f"```\n{_json(data)}\n```"


def _json(data: bytes) -> str:
    return _text(msgspec.msgpack.decode(data))


def _text(value: object) -> str:
    """msgpack in the manner of JSON, bytes as h'...'."""
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(each) for each in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_text(each)}" for key, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def _struct(struct: type[msgspec.Struct], skip: int = 0, level: str = "###") -> str:
    number = describe.tag(struct)
    title = struct.__name__ if number is None else f"{number} {struct.__name__}"
    parts = [f"{level} {title}", _clean(describe.summary(struct)), _fields(struct, skip), _sample(struct)]
    return "\n\n".join(part for part in parts if part)


def _clean(text: str) -> str:
    """Docstrings name the modules of the server; the reader of this page has none."""
    return text.replace("`protocol.events.Body`", "[a body](#bodies)").replace("`protocol.events`", "[events](#events)")


def _structs(structs: Iterable[type[msgspec.Struct]], skip: int = 0) -> str:
    return "\n\n".join(_struct(struct, skip) for struct in structs)


def _errors() -> str:
    rows = [(each.number, _code(each.symbol), each.text, each.fault.name.lower()) for each in codes.ERRORS]
    return _table(("number", "symbol", "meaning", "whose doing"), rows)


def _closes() -> str:
    rows = [
        (
            each.code,
            _code(each.symbol),
            each.text,
            "come back" if each.reconnect else "at will" if each.code == 1000 else "final",
        )
        for each in codes.CLOSES
    ]
    return _table(("code", "symbol", "meaning", "then"), rows)


def _limits() -> str:
    rows = [(_code(each), getattr(USUAL, each), meanings.of("Limits", each)) for each in messages.Limits.__struct_fields__]
    return _table(("limit", "usual", "meaning"), rows)


def _rules() -> str:
    """KeyError for a rule of which nothing is said."""
    usual = rules.Rules()
    names = [name for name in rules.Rules.__dataclass_fields__ if name not in meanings.OTHER_RULES]
    return _table(("at most", "what"), [(getattr(usual, name), meanings.RULES[name]) for name in names])


def _refusals() -> str:
    """KeyError for a command or an error of which nothing is known."""
    rows = []
    for struct in describe.CLIENT_FRAMES:
        found = sorted((codes.BY_SYMBOL[symbol] for symbol in meanings.REFUSALS[struct.__name__].split()), key=_number)
        if found:
            rows.append((struct.__name__, ", ".join(f"{each.number} `{each.symbol}`" for each in found)))
    return _table(("command", "errors"), rows)


def _number(error: codes.Error) -> int:
    return error.number


def _effects() -> str:
    """From what the Python client makes of its own commands. ValueError where that and the words do not fit."""
    rows, sent = [], messages.Sent(1, 5, 3, 0)
    for struct in describe.CLIENT_FRAMES:
        if not issubclass(struct, messages.Change):
            continue
        command = vectors.build(struct, "typical")
        assert isinstance(command, messages.Change)
        made = own.event_of(command, sent, 1001, 2001)
        words, where = meanings.EFFECTS.get(struct.__name__, ("", ""))
        if made is None or (made.missing and not where):
            raise ValueError(f"scripts/meanings.py does not say where to fetch what {struct.__name__} lacks")
        names = {type(made.event).__name__: None} | dict.fromkeys(_ALSO.get(struct.__name__, ()))
        rows.append((struct.__name__, " or ".join(names), words, where))
    if unknown := set(meanings.EFFECTS) - {row[0] for row in rows}:
        raise ValueError(f"scripts/meanings.py explains commands that there are not: {sorted(unknown)}")
    return _table(("command", "event", "what the server makes of it", "where to fetch it"), rows)


#: Commands that may become another event than `own.event_of` makes of them.
_ALSO = {"Join": ("MemberJoined",), "AnswerJoin": ("MemberJoined", "JoinRefused")}


def _streams() -> str:
    rows = [(each["name"], _code(bytes.fromhex(each["hex"]).hex(" "))) for each in vectors.files()["streams.json"]]
    return _table(("stream", "id in bytes"), rows)


def _enums() -> str:
    parts = []
    for enum in _ENUMS:
        rows = [(int(each), each.name) for each in enum]
        parts.append(f"**{enum.__name__}**. {describe.summary(enum)}".rstrip() + "\n\n" + _table(("number", "name"), rows))
    return "\n\n".join(parts)


def _session() -> str:
    token, stream, account = bytes(range(1, 33)), ids.direct_stream(1001, 1002), ids.account_stream(1001)
    counter, time = 1795370000001, 1795370000123
    text = [msgspec.Raw(msgspec.msgpack.encode([1, each])) for each in ("Good morrow, cousin.", "Is the day so young?")]
    asha = events.encode(events.Message(41, time - 60_000, 1002, 2002, 17, text[0]))
    contact = events.encode(events.ContactSet(0, time - 90_000, 1001, 2003, 5, 1002, "Asha", True))
    hello = messages.Hello(1, 1, 1, messages.TokenCredential(token), "example/1.0")
    welcome = messages.Welcome(1, 1, b"\x0a\x0b\x0c\x0d", 1001, 2001, "ben", b"", 25, USUAL, time)
    steps: list[tuple[str, str, list[messages.Frame]]] = [
        ("→", "Hello with the token of last time", [hello]),
        ("←", "Welcome; the token stays", [welcome]),
        (
            "←",
            "what was missed: a contact that another device of Ben's added, and a message; both and CaughtUp in one batch",
            [
                messages.Event(0, account, 9, msgspec.Raw(contact)),
                messages.Event(0, stream, 57, msgspec.Raw(asha)),
                messages.CaughtUp(0),
            ],
        ),
        ("→", "stored: acknowledge both streams", [messages.Ack(0, ((account, 9), (stream, 57)))]),
        ("→", "Ben has read it", [messages.Read(2, stream, 57)]),
        ("←", "done", [messages.Done(2)]),
        ("→", "Ben answers; rid and counter are the same number", [messages.Send(counter, counter, stream, text[1], 57)]),
        ("←", "it is event 58 of the conversation, and message 42", [messages.Sent(counter, 58, 42, time + 5000)]),
        ("←", "Asha's phone has it, then Asha has read it", [messages.Receipt(0, stream, 1002, 58, 57)]),
        ("→", "the own message counts as received", [messages.Ack(0, ((stream, 58),))]),
        ("←", "25 s of silence", [messages.Heartbeat(0)]),
        ("→", "still here", [messages.ClientHeartbeat(0)]),
    ]
    parts = []
    for direction, what, frames in steps:
        data = codec.batch([codec.encode(frame) for frame in frames])
        parts.append(f"{direction} {what}\n\n```\n{_json(data)}\n{data.hex(' ')}\n```")
    return "\n\n".join(parts)


def _error(symbol: str) -> str:
    found = codes.BY_SYMBOL[symbol]
    return f"{found.number} `{found.symbol}`"


def _close(symbol: str) -> str:
    found = next(each for each in codes.CLOSES if each.symbol == symbol)
    return f"{found.code} `{found.symbol}`"


def _parts() -> dict[str, Callable[[], str]]:
    every = (*describe.CLIENT_FRAMES, *describe.SERVER_FRAMES, *describe.EVENTS, *describe.BODIES)
    return {
        "subprotocol": lambda: "kith.v1.msgpack",
        "max_batch": lambda: str(codec.MAX_BATCH),
        "max_message": lambda: str(codec.MAX_MESSAGE),
        "max_body": lambda: str(codec.MAX_BODY),
        "max_depth": lambda: str(scan.MAX_DEPTH),
        "max_values": lambda: str(scan.MAX_VALUES),
        "max_held": lambda: str(connection.MAX_HELD),
        "max_held_bytes": lambda: str(connection.MAX_HELD_BYTES),
        "hello_timeout": lambda: f"{connection.HELLO_TIMEOUT_S:g}",
        "heartbeat": lambda: f"{connection.HEARTBEAT_S:g}",
        "memory": lambda: str(log.WINDOW),
        "unanswered": lambda: str(USUAL.unanswered),
        "ack_ms": lambda: f"{inflow.ACK_S * 1000:g}",
        "receipt_members": lambda: str(inflow.LARGE),
        "first_change": lambda: str(records.FIRST_CHANGE_KIND),
        "window_events": lambda: str(USUAL.window_events),
        "window_bytes": lambda: str(USUAL.window_bytes),
        "dead_device_days": lambda: str(config.Retention().dead_device_days),
        "request_messages": lambda: str(rules.Rules().request_messages),
        "page_items": lambda: str(_SETTINGS.history_page_messages),
        "page_kib": lambda: str(_SETTINGS.history_page_bytes // config.KIB),
        "connection_rate": lambda: str(USUAL.commands_per_s),
        "account_rate": lambda: f"{_SETTINGS.account_commands_s:g}",
        "account_burst": lambda: f"{session.BURST_S:g}",
        "address_rate": lambda: f"{_SETTINGS.address_commands_s:g}",
        "flood_refusals": lambda: str(gateway_limits.FLOOD_REFUSALS),
        "questions": lambda: str(USUAL.questions),
        "devices": lambda: str(session.MAX_DEVICES),
        "attempts": lambda: str(_AUTH.attempts),
        "address_attempts": lambda: str(_AUTH.attempts_per_address),
        "attempts_at_once": lambda: str(accounts.MAX_AT_ONCE),
        "right_times": lambda: str(attempts.RIGHT_TIMES),
        "attempts_minutes": lambda: f"{_AUTH.attempts_window_s / 60:g}",
        "rules": _rules,
        "refusals": _refusals,
        "effects": _effects,
        "streams": _streams,
        "errors": _errors,
        "closes": _closes,
        "limits": _limits,
        "session": _session,
        "client_frames": lambda: _structs(describe.CLIENT_FRAMES),
        "server_frames": lambda: _structs(describe.SERVER_FRAMES),
        "credentials": lambda: _structs(describe.CREDENTIALS),
        "event_head": lambda: _fields(events.Event),
        "events": lambda: _structs(describe.EVENTS, len(events.Event.__struct_fields__)),
        "bodies": lambda: _structs(describe.BODIES),
        "structs": lambda: _structs(describe.nested(every)),
        "fold": lambda: "\n\n".join((describe.summary(events.Fold), _fields(events.Fold), _sample(events.Fold))),
        "enums": _enums,
    }


def document(template: str) -> str:
    """The template with every hole filled. KeyError for a hole that nothing fills, ValueError for a part without a hole."""
    parts = _parts()
    holes = {match[1] for match in _HOLE.finditer(template)} - {"error", "close"}
    if left := set(parts) - holes:
        raise ValueError(f"the template has no place for {sorted(left)}")

    def fill(match: re.Match[str]) -> str:
        if match[2]:
            return {"error": _error, "close": _close}[match[1]](match[2])
        return parts[match[1]]()

    return "<!-- Generated by `make docs` from docs/protocol.in.md and protocol/. Do not edit. -->\n\n" + _HOLE.sub(
        fill, template
    )
