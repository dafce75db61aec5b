"""The AsyncAPI 3.0 document: one channel, both directions, a JSON Schema for the array of every frame.

Payloads are JSON Schema 2020-12 (`prefixItems`), given as Multi Format Schema Objects; msgpack's `bin` stands as a string of
format "binary", whose lengths count bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

from protocol import codec, connection, events
from scripts import describe

Schema = dict[str, Any]

_FORMAT = "application/schema+json;version=2020-12"
_REF = "#/components/schemas/{}/schema"


def _name(struct: type[msgspec.Struct]) -> str:
    """Frames, events and bodies have names of their own in the document: Event and Error would clash otherwise."""
    suffix = (
        "Frame" if describe.room(struct) == "messages" and struct in (*describe.CLIENT_FRAMES, *describe.SERVER_FRAMES) else ""
    )
    return struct.__name__ + (suffix or ("Event" if struct in describe.EVENTS else ""))


#: The names of frames, which may stand inside others.
_FRAMES = {struct.__name__: _name(struct) for struct in describe.SERVER_FRAMES}


def _ref(name: str) -> Schema:
    return {"$ref": _REF.format(name)}


def _bounded(kind: str, low: int | None, high: int | None, words: tuple[str, str], **more: Any) -> Schema:
    found: Schema = {"type": kind, **more}
    if low is not None:
        found[words[0]] = low
    if high is not None:
        found[words[1]] = high
    return found


def _type(kind: inspect.Type) -> Schema:
    kind = describe.unwrap(kind)
    match kind:
        case inspect.IntType():
            return _bounded("integer", kind.ge, kind.le, ("minimum", "maximum"))
        case inspect.StrType():
            return _bounded("string", kind.min_length, kind.max_length, ("minLength", "maxLength"))
        case inspect.BytesType():
            return _bounded("string", kind.min_length, kind.max_length, ("minLength", "maxLength"), format="binary")
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.EnumType():
            members = [{"const": int(each), "title": each.name} for each in kind.cls]  # type: ignore[call-overload]
            return {"type": "integer", "oneOf": members}
        case inspect.StructType():
            return _ref(_name(kind.cls))
        case inspect.VarTupleType():
            return _bounded("array", kind.min_length, kind.max_length, ("minItems", "maxItems"), items=_type(kind.item_type))
        case inspect.TupleType():
            return {"type": "array", "prefixItems": [_type(each) for each in kind.item_types], "minItems": len(kind.item_types)}
        case inspect.DictType():
            text = f"a msgpack map with integer keys, {describe.shape(kind)}"
            return {"type": "object", "additionalProperties": _type(kind.value_type), "description": text}
        case inspect.UnionType():
            return {"oneOf": [_type(each) for each in kind.types]}
    raise TypeError(f"no schema for {kind}")


def _raw(names: tuple[str, ...]) -> Schema:
    choices: list[Schema] = [{"type": "null"} if name == "nil" else _ref(_FRAMES.get(name, name)) for name in names]
    return choices[0] if len(choices) == 1 else {"oneOf": choices}


def _array(struct: type[msgspec.Struct]) -> Schema:
    """The schema of the struct's array."""
    tag = describe.tag(struct)
    items: list[Schema] = [] if tag is None else [{"const": tag, "description": f"always {tag}"}]
    required = len(items)
    for field in describe.fields(struct):
        item = _raw(field.raw) if field.raw else _type(field.type)
        items.append({**item, "title": field.name, "description": field.meaning})
        required += field.default is None
    found: Schema = {"type": "array", "title": struct.__name__, "prefixItems": items, "minItems": required}
    text = describe.summary(struct)
    return {**found, "description": text} if text else found


def _multi(schema: Schema) -> Schema:
    return {"schemaFormat": _FORMAT, "schema": schema}


def document() -> Schema:
    """The whole document."""
    frames: tuple[type[msgspec.Struct], ...] = (*describe.CLIENT_FRAMES, *describe.SERVER_FRAMES)
    structs: tuple[type[msgspec.Struct], ...] = (
        *frames,
        *describe.EVENTS,
        *describe.BODIES,
        *describe.CREDENTIALS,
        events.Fold,
    )
    schemas = {_name(each): _multi(_array(each)) for each in (*structs, *describe.nested(structs))}
    schemas["AnyEvent"] = _multi({"oneOf": [_ref(_name(each)) for each in describe.EVENTS]})
    schemas["Body"] = _multi({"oneOf": [_ref(_name(each)) for each in describe.BODIES]})
    found = {
        _name(each): {
            "name": _name(each),
            "title": f"{describe.tag(each)} {each.__name__}",
            "summary": describe.summary(each) or each.__name__,
            "contentType": "application/msgpack",
            "payload": _multi(_ref(_name(each))),
        }
        for each in frames
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Kith",
            "version": f"{connection.HIGHEST_VERSION}.0.0",
            "description": "Real-time messaging over one WebSocket. What the frames mean, and in which order they come, "
            "is told in docs/protocol.md. A WebSocket message holds one of these arrays, or an array of them.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/msgpack",
        "servers": {
            "node": {
                "host": "{host}",
                "pathname": "/ws",
                "protocol": "wss",
                "variables": {"host": {"default": "localhost:8470", "description": "host and port of a node"}},
            }
        },
        "channels": {
            "connection": {
                "address": "/ws",
                "title": "One connection of one device",
                "description": f"Subprotocol kith.v1.msgpack; binary messages of at most {codec.MAX_MESSAGE} bytes.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in found},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "receive": _operation("receive", "What the server takes from a client", describe.CLIENT_FRAMES),
            "send": _operation("send", "What the server sends to a client", describe.SERVER_FRAMES),
        },
        "components": {"messages": found, "schemas": schemas},
    }


def _operation(action: str, summary: str, frames: tuple[type[msgspec.Struct], ...]) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/connection"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/connection/messages/{_name(each)}"} for each in frames],
    }
