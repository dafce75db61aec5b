"""The structs of the protocol as data: every field's place, type, limit and default, for all that is generated from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

from protocol import events, messages
from scripts import meanings

CLIENT_FRAMES: tuple[type[msgspec.Struct], ...] = messages.ClientFrame.__args__
SERVER_FRAMES: tuple[type[msgspec.Struct], ...] = messages.ServerFrame.__args__
EVENTS: tuple[type[msgspec.Struct], ...] = events.AnyEvent.__args__
BODIES: tuple[type[msgspec.Struct], ...] = events.Body.__args__
CREDENTIALS: tuple[type[msgspec.Struct], ...] = messages.Credential.__args__

#: What the structs leave as raw bytes, by (module, struct, field): the names of what stands there; nil where it may.
RAW: dict[tuple[str, str, str], tuple[str, ...]] = {
    ("messages", "Send", "body"): ("Body",),
    ("messages", "Edit", "body"): ("Body",),
    ("messages", "Ephemeral", "body"): ("Body",),
    ("messages", "Event", "event"): ("AnyEvent",),
    ("messages", "HistoryItem", "event"): ("AnyEvent",),
    ("messages", "HistoryItem", "fold"): ("Fold", "nil"),
    ("messages", "Conversation", "last"): ("AnyEvent", "nil"),
    ("messages", "Conversation", "last_fold"): ("Fold", "nil"),
    ("messages", "ExportPart", "data"): ("AccountState", "Contacts", "HistoryItem"),
    ("events", "Message", "body"): ("Body", "nil"),
    ("events", "Edited", "body"): ("Body", "nil"),
    ("events", "Fold", "body"): ("Body", "nil"),
}

_MAX = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Field:
    """One item of an array. `default` is None where the item must be there, else what its absence means."""

    position: int
    name: str
    type: inspect.Type
    shape: str
    limit: str
    default: str | None
    meaning: str
    raw: tuple[str, ...]


def room(struct: type) -> str:
    """`messages` or `events`: the module that the struct is from."""
    return struct.__module__.rpartition(".")[2]


def tag(struct: type[msgspec.Struct]) -> int | None:
    """Item 0 of the struct's array; None for one without."""
    found = struct.__struct_config__.tag
    return found if isinstance(found, int) else None


def summary(struct: type) -> str:
    """The docstring in one line; "" where the class has none of its own."""
    own = struct.__dict__.get("__doc__") or ""
    return " ".join(own.split())


def unwrap(kind: inspect.Type) -> inspect.Type:
    """The type without what was annotated to it."""
    return unwrap(kind.type) if isinstance(kind, inspect.Metadata) else kind


def fields(struct: type[msgspec.Struct]) -> list[Field]:
    """The items of the struct's array, the tag left out, in order."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    first = 0 if tag(struct) is None else 1
    found = []
    for position, field in enumerate(info.fields, first):
        raw = RAW.get((room(struct), struct.__name__, field.name), ())
        kind = unwrap(field.type)
        assert raw or not isinstance(kind, inspect.RawType), f"describe.RAW lacks {struct.__name__}.{field.name}"
        found.append(
            Field(
                position=position,
                name=field.name,
                type=kind,
                shape=" or ".join(raw) if raw else shape(kind),
                limit=limit(kind),
                default=None if field.required else _default(field),
                meaning=meanings.of(struct.__name__, field.name),
                raw=raw,
            )
        )
    return found


def nested(structs: tuple[type[msgspec.Struct], ...]) -> list[type[msgspec.Struct]]:
    """The structs that occur inside these, each once, in order of appearance, unions of them left out."""
    found: dict[type[msgspec.Struct], None] = {}
    for struct in structs:
        for field in fields(struct):
            for inner in _structs(field.type):
                found.setdefault(inner, None)
    return list(found)


def _structs(kind: inspect.Type) -> Iterator[type[msgspec.Struct]]:
    kind = unwrap(kind)
    if isinstance(kind, inspect.StructType):
        yield kind.cls
        for field in kind.fields:
            yield from _structs(field.type)
    elif isinstance(kind, inspect.VarTupleType):
        yield from _structs(kind.item_type)


def shape(kind: inspect.Type) -> str:
    """The msgpack type in words."""
    kind = unwrap(kind)
    match kind:
        case inspect.IntType():
            return "int"
        case inspect.StrType():
            return "str"
        case inspect.BytesType():
            return "bin"
        case inspect.BoolType():
            return "bool"
        case inspect.EnumType():
            return kind.cls.__name__
        case inspect.StructType():
            return kind.cls.__name__
        case inspect.VarTupleType():
            return f"array of {shape(kind.item_type)}"
        case inspect.TupleType():
            return "[" + ", ".join(shape(each) for each in kind.item_types) + "]"
        case inspect.DictType():
            return f"map {shape(kind.key_type)} → {shape(kind.value_type)}"
        case inspect.UnionType() if all(isinstance(each, inspect.StructType) for each in kind.types):
            return "Credential"
        case inspect.UnionType():
            return " or ".join(shape(each) for each in kind.types)
    raise TypeError(f"no words for {kind}")


def limit(kind: inspect.Type) -> str:
    """The bounds in words; "" where there are none but those of the type."""
    kind = unwrap(kind)
    match kind:
        case inspect.IntType():
            if kind.ge is None:
                return ""
            high = "2^53-1" if kind.le == _MAX else str(kind.le)
            return f"{kind.ge}..{high}"
        case inspect.StrType():
            return _length(kind.min_length, kind.max_length, "characters")
        case inspect.BytesType():
            return _length(kind.min_length, kind.max_length, "bytes")
        case inspect.VarTupleType():
            count = _length(kind.min_length, kind.max_length, "items")
            inner = limit(kind.item_type)
            return ", ".join(part for part in (count, f"each {inner}" if inner else "") if part)
        case inspect.TupleType():
            return "; ".join(limit(each) for each in kind.item_types)
    return ""


def _length(low: int | None, high: int | None, unit: str) -> str:
    if high is None:
        return ""
    return f"{high} {unit}" if low == high else f"{low or 0}..{high} {unit}"


def _default(field: inspect.Field) -> str:
    value: Any = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Raw):
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bytes):
        return "empty" if not value else value.hex()
    if isinstance(value, tuple | dict):
        assert not value
        return "empty"
    return f"{value.name} ({int(value)})" if hasattr(value, "name") else str(value)
