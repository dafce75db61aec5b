"""Hypothesis strategies made from the structs' own types and limits."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from protocol import ids
from scripts import describe

_ID = st.integers(1, ids.MAX_ID)
_TEXT = st.characters(exclude_categories=["Cs"])

STREAMS = st.one_of(
    st.builds(ids.direct_stream, _ID, _ID), st.builds(ids.group_stream, _ID, _ID), st.builds(ids.account_stream, _ID)
)

#: What a later version may put into any place: plain msgpack of few levels.
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(_TEXT) | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(_TEXT, max_size=4), inner, max_size=4),
    max_leaves=10,
)
_SOME_TEXT = st.text(_TEXT, max_size=40)
_HEADS = st.one_of(
    st.tuples(st.just(1), _SOME_TEXT, st.just(())),
    st.tuples(st.just(2), st.binary(min_size=1, max_size=40), _SOME_TEXT, st.just(())),
    st.tuples(st.just(3), st.binary(min_size=1, max_size=40)),
    st.tuples(st.integers(50, 2**53 - 1)),
)
#: Bodies that a server relays: of known kinds and of later ones, with items of a later version or without.
BODIES = (
    st.tuples(_HEADS, st.lists(VALUES, max_size=2))
    .map(lambda parts: msgspec.msgpack.encode([*parts[0], *parts[1]]))
    .map(msgspec.Raw)
)


def of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a msgspec type within its limits."""
    kind = describe.unwrap(kind)
    match kind:
        case inspect.IntType():
            return st.integers(0 if kind.ge is None else kind.ge, ids.MAX_ID if kind.le is None else kind.le)
        case inspect.StrType():
            low, high = kind.min_length or 0, 40 if kind.max_length is None else min(kind.max_length, 40)
            return st.text(_TEXT, min_size=low, max_size=high)
        case inspect.BytesType(min_length=8):
            return STREAMS
        case inspect.BytesType():
            low = kind.min_length or 0
            return st.binary(min_size=low, max_size=max(low, 40 if kind.max_length is None else min(kind.max_length, 40)))
        case inspect.BoolType():
            return st.booleans()
        case inspect.EnumType():
            return st.sampled_from(list(kind.cls))
        case inspect.StructType():
            return struct(kind.cls)
        case inspect.VarTupleType():
            low = kind.min_length or 0
            return st.lists(of(kind.item_type), min_size=low, max_size=max(low, 3)).map(tuple)
        case inspect.TupleType():
            return st.tuples(*(of(each) for each in kind.item_types))
        case inspect.DictType():
            return st.dictionaries(of(kind.key_type), of(kind.value_type), max_size=3)
        case inspect.UnionType():
            return st.one_of(*(of(each) for each in kind.types))
    raise TypeError(f"no strategy for {kind}")


def struct(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Instances of a struct."""
    return st.builds(kind, *(BODIES if field.raw else of(field.type) for field in describe.fields(kind)))


CLIENT_FRAMES = st.one_of(*(struct(each) for each in describe.CLIENT_FRAMES))
SERVER_FRAMES = st.one_of(*(struct(each) for each in describe.SERVER_FRAMES))
EVENTS = st.one_of(*(struct(each) for each in describe.EVENTS))
