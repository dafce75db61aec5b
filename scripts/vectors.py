"""Golden byte vectors: for every frame, event, body, fold and credential, bytes and what they say, at the bounds and between.

A vector is {"name", "struct", "hex", "value"}; `value` is the array as msgpack gives it, with {"hex": "..."} for bytes and
{"map": [[key, value], ...]} for maps. With "only": "decode" the bytes are another writing of the value that a reader must take
but no writer here makes. Everything is made from the types alone, without chance: the same structs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Raw, inspect

from protocol import codec, codes, events, ids, messages
from scripts import describe

Vector = dict[str, Any]

#: The largest strings and arrays in a vector: enough to cross into every longer header form short of 64 KiB, small to read.
_LONG = 300

_TYPICAL: dict[str, Any] = {
    "rid": 7,
    "counter": 1795370000001,
    "n": 41,
    "seq": 57,
    "target": 52,
    "time": 1795370000123,
    "user": 1001,
    "sender": 1001,
    "device": 2001,
    "members": (1002, 1003),
    "text": "Good morrow, cousin ☀",
    "emoji": "👍🏽",
    "invite": 1795370000001,
    "reply_to": 52,
    "hops": 0,
    "flags": 0,
    "expires_at": 0,
}
#: By struct and field, where the name alone says too little.
_TYPICAL_OF: dict[tuple[type, str], Any] = {(messages.ExportPart, "name"): "message"}
_BODY = {
    "lowest": msgspec.msgpack.encode([1, ""]),
    "typical": msgspec.msgpack.encode([1, "Is the day so young?", []]),
    "highest": msgspec.msgpack.encode([1, "é" * _LONG, [[ids.MAX_ID, 0, 2]], {"later": [True, None, 1.5]}]),
}


def _event(which: str) -> bytes:
    body = Raw(_BODY[which])
    if which == "lowest":
        return events.encode(events.Message(0, 0, 0, 0, 0, events.NIL))
    return events.encode(events.Message(41, 1795370000123, 1001, 2001, 1795370000001, body))


def _raw(names: tuple[str, ...], which: str) -> Raw:
    if which == "lowest" and "nil" in names:
        return events.NIL
    if "HistoryItem" in names:
        return Raw(msgspec.msgpack.encode(build(messages.HistoryItem, which)))
    if names[0] == "AnyEvent":
        return Raw(_event(which))
    if names[0] == "Fold":
        return Raw(events.encode_fold(events.Fold(Raw(_BODY[which]), 1795370000456, (58,), False, {1002: "👍"}, 59)))
    return Raw(_BODY[which])


def _stream(which: str) -> bytes:
    pair = {"lowest": (1, 1), "typical": (1001, 1002), "highest": (ids.MAX_ID - 1, ids.MAX_ID)}[which]
    return ids.direct_stream(*pair)


def _number(kind: inspect.IntType, which: str) -> int:
    low, high = kind.ge or 0, kind.le if kind.le is not None else ids.MAX_ID
    return {"lowest": low, "typical": min(max(low, 200), high), "highest": high}[which]


def _length(low: int | None, high: int | None, which: str) -> int:
    lowest, highest = low or 0, min(_LONG, _LONG if high is None else high)
    return {"lowest": lowest, "typical": min(max(lowest, 12), highest), "highest": highest}[which]


def _value(kind: inspect.Type, name: str, which: str) -> Any:
    """One value of the type, `which` of lowest, typical, highest."""
    kind = describe.unwrap(kind)
    item = kind.item_type if isinstance(kind, inspect.VarTupleType) else kind
    if which == "typical" and name in _TYPICAL and not isinstance(item, inspect.StructType):
        return _TYPICAL[name]
    match kind:
        case inspect.IntType():
            return _number(kind, which)
        case inspect.StrType():
            return ("é" if which == "highest" else "k") * _length(kind.min_length, kind.max_length, which)
        case inspect.BytesType() if name in ("stream", "source") or kind.min_length == 8:
            return _stream(which)
        case inspect.BytesType():
            return bytes(index % 256 for index in range(_length(kind.min_length, kind.max_length, which)))
        case inspect.BoolType():
            return which != "lowest"
        case inspect.EnumType():
            choices = list(kind.cls)
            return {"lowest": choices[0], "typical": choices[1], "highest": choices[-1]}[which]
        case inspect.StructType():
            return build(kind.cls, which)
        case inspect.VarTupleType():
            count = min(_length(kind.min_length, kind.max_length, which), {"typical": 2}.get(which, 20))
            return tuple(_value(kind.item_type, name, which) for _ in range(count))
        case inspect.TupleType():
            return tuple(_value(each, "", which) for each in kind.item_types)
        case inspect.DictType():
            return {} if which == "lowest" else {57: _value(kind.value_type, name, which)}
        case inspect.UnionType():
            return _value(kind.types[-1 if which == "highest" else 0], name, which)
    raise TypeError(f"no value of {kind}")


def build(struct: type[msgspec.Struct], which: str) -> msgspec.Struct:
    """One instance, `which` of lowest, typical, highest."""
    return struct(*(_field(struct, field, which) for field in describe.fields(struct)))


def _field(struct: type[msgspec.Struct], field: describe.Field, which: str) -> Any:
    if field.raw:
        return _raw(field.raw, which)
    if which == "typical" and (struct, field.name) in _TYPICAL_OF:
        return _TYPICAL_OF[struct, field.name]
    return _value(field.type, field.name, which)


def plain(value: Any) -> Any:
    """What msgpack decodes, as JSON can say it."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {"map": [[plain(key), plain(each)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def vector(name: str, struct: type, data: bytes, only: str | None = None) -> Vector:
    """One entry of a file."""
    found = {"name": name, "struct": struct.__name__, "hex": data.hex(), "value": plain(msgspec.msgpack.decode(data))}
    return found | ({"only": only} if only else {})


def _of(structs: Iterable[type[msgspec.Struct]]) -> list[Vector]:
    found = []
    for struct in structs:
        described = describe.fields(struct)
        found += [
            vector(f"{struct.__name__}: {which}", struct, msgspec.msgpack.encode(build(struct, which)))
            for which in ("lowest", "typical", "highest")
        ]
        items = msgspec.msgpack.decode(msgspec.msgpack.encode(build(struct, "typical")))
        given = (describe.tag(struct) is not None) + sum(field.default is None for field in described)
        if given < len(items):
            short = msgspec.msgpack.encode(items[:given])
            found.append(vector(f"{struct.__name__}: without the items that have a default", struct, short, "decode"))
        longer = msgspec.msgpack.encode([*items, "later", {"k": [1]}])
        found.append(vector(f"{struct.__name__}: with unknown trailing items", struct, longer, "decode"))
    return found


def _streams() -> list[Vector]:
    pairs = [(1, 1), (1, 2), (2, 1), (1001, 1002), (255, 256), (2**32, 2**32 - 1), (ids.MAX_ID, 1)]
    found: list[Vector] = [
        {"name": f"direct, users {one} and {other}", "kind": "direct", "numbers": [one, other]} for one, other in pairs
    ]
    groups = [(1, 1), (2001, 1795370000001), (ids.MAX_ID, ids.MAX_ID)]
    found += [{"name": f"group, device {one}, counter {two}", "kind": "group", "numbers": [one, two]} for one, two in groups]
    found += [{"name": f"account of user {user}", "kind": "account", "numbers": [user]} for user in (1, 1001, ids.MAX_ID)]
    make: dict[str, Callable[..., bytes]] = {
        "direct": ids.direct_stream,
        "group": ids.group_stream,
        "account": ids.account_stream,
    }
    return [each | {"hex": make[each["kind"]](*each["numbers"]).hex()} for each in found]


def _batches() -> list[Vector]:
    beat, done = codec.encode(messages.ClientHeartbeat(0)), codec.encode(messages.Done(9))
    found = [
        ("one frame", beat),
        ("a batch of two", codec.batch([beat, done])),
        ("a batch of one", b"\x91" + beat),
        ("a batch of two with a 16-bit header", b"\xdc\x00\x02" + beat + done),
        ("a batch of two with a 32-bit header", b"\xdd\x00\x00\x00\x02" + beat + done),
        ("a frame with a 16-bit header", b"\xdc\x00\x02\x02\x00"),
        ("a batch of 16", codec.batch([done] * 16)),
    ]
    return [
        {
            "name": name,
            "hex": data.hex(),
            "batch": codec.is_batch(data),
            "frames": [bytes(part).hex() for part in codec.split(data)] if codec.is_batch(data) else [data.hex()],
        }
        for name, data in found
    ]


def _refused() -> list[Vector]:
    pack = msgspec.msgpack.encode
    stream = ids.direct_stream(1001, 1002)
    bytes_of = [
        ("not msgpack", b"\xc1"),
        ("a map", pack({1: 2})),
        ("text as frame number", pack(["send", 7])),
        ("an unknown frame number", pack([5000, 7, 1])),
        ("a frame of the other direction", pack([96, 7])),
        ("an item missing", pack([11, 7, 1, stream])),
        ("a request id below 0", pack([18, -1, stream, 1])),
        ("a request id of 2^53", pack([18, 2**53, stream, 1])),
        ("text where bytes are asked for", pack([18, 7, "stream", 1])),
        ("a role that there is not", pack([24, 7, 1, stream, 1001, 9])),
        ("a text that is no UTF-8", b"\x94\x31\x07\x01\xc4\x0f" + stream + b"\xa1\xff"),
        ("a text that is no UTF-8, whole", b"\x95\x31\x07\x01\xc4\x0f" + stream + b"\xa1\xff"),
        ("a body that ends early", b"\x95\x0b\x07\x01\xc4\x0f" + stream + b"\x92\x01"),
    ]
    found = []
    for name, data in bytes_of:
        try:
            codec.decode_client(data)
        except codec.Problem as problem:
            found.append({"name": name, "hex": data.hex(), "rid": problem.rid, "symbol": problem.error.symbol})
    assert len(found) == len(bytes_of)
    assert {each["symbol"] for each in found} == {codes.MALFORMED.symbol, codes.UNKNOWN_FRAME.symbol}
    return found


def files() -> dict[str, list[Vector]]:
    """Every file's vectors, by file name."""
    return {
        "client_frames.json": _of(describe.CLIENT_FRAMES),
        "server_frames.json": _of(describe.SERVER_FRAMES),
        "events.json": _of(describe.EVENTS),
        "bodies.json": _of(describe.BODIES),
        "credentials.json": _of(describe.CREDENTIALS),
        "folds.json": _of([events.Fold]),
        "streams.json": _streams(),
        "batches.json": _batches(),
        "refused.json": _refused(),
    }
