"""What is stored: events go round, and erasure leaves everything but the body."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from protocol import events
from scripts import describe, vectors
from tests.protocol import strategies

_WITH_BODY = [each for each in describe.EVENTS if "body" in each.__struct_fields__]
#: What goes besides bodies: of an account's events.
_OF_A_PERSON: dict[type[events.Event], tuple[str, ...]] = {
    events.ProfileChanged: ("profile",),
    events.Renamed: ("name",),
    events.DeviceAdded: ("name",),
    events.DeviceRenamed: ("name",),
    events.ContactSet: ("user", "label", "on"),
    events.BlockSet: ("user", "on"),
    events.DraftSet: ("text", "reply_to"),
}


@given(strategies.EVENTS)
def test_every_event_goes_round(event: Any) -> None:
    data = events.encode(event)
    assert events.encode(events.decode(data)) == data
    assert events.KINDS[events.kind_of(event)] is type(event)


@given(strategies.EVENTS)
def test_redaction_is_idempotent_and_keeps_all_but_the_body(event: Any) -> None:
    data = events.encode(event)
    erased = events.redact(data)
    assert events.redact(erased) == erased
    before, after = events.decode(data), events.decode(erased)
    assert type(after) is type(before)
    for field in before.__struct_fields__:
        if field == "body":
            assert bytes(after.body) == b"\xc0"  # type: ignore[union-attr]
        elif field not in _OF_A_PERSON.get(type(before), ()):
            assert getattr(after, field) == getattr(before, field)


@pytest.mark.parametrize("kind", _WITH_BODY, ids=lambda each: each.__name__)
def test_no_byte_of_a_body_outlives_redaction(kind: type[msgspec.Struct]) -> None:
    event: Any = vectors.build(kind, "typical")
    event.body = msgspec.Raw(msgspec.msgpack.encode([1, "a secret that must go"]))
    assert b"secret" not in events.redact(events.encode(event))


@pytest.mark.parametrize("kind", _OF_A_PERSON, ids=lambda each: each.__name__)
def test_nothing_that_tells_of_a_person_outlives_redaction(kind: type[events.Event]) -> None:
    event: Any = vectors.build(kind, "typical")
    event.sender = 4711
    for field in _OF_A_PERSON[kind]:
        value = getattr(event, field)
        if isinstance(value, str):
            setattr(event, field, "a secret that must go")
        elif isinstance(value, events.Profile):
            setattr(event, field, events.Profile("a secret that must go", "a secret that must go", "a secret that must go"))
    erased: Any = events.decode(events.redact(events.encode(event)))
    assert b"secret" not in events.encode(erased)
    assert getattr(erased, "user", 4711) == 4711


def test_messages_and_edits_are_the_kinds_with_a_body() -> None:
    assert set(_WITH_BODY) == {events.Message, events.Edited}


@given(strategies.struct(events.Fold))
def test_every_fold_goes_round(fold: events.Fold) -> None:
    data = events.encode_fold(fold)
    assert events.encode_fold(events.decode_fold(data)) == data


@pytest.mark.parametrize("kind", describe.BODIES, ids=lambda each: each.__name__)
def test_a_body_decodes_to_its_kind(kind: type[msgspec.Struct]) -> None:
    body = vectors.build(kind, "typical")
    assert events.decode_body(msgspec.msgpack.encode(body)) == body


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\xc1", b"\x90", b"\x91\x63", b"\x92\x01\xa1\xff", b"\x92\x01\x05", b"\x80"])
def test_what_is_no_body_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        events.decode_body(data)


def test_kinds_are_unique_and_lie_in_the_range_of_their_group() -> None:
    kinds = [describe.tag(each) or 0 for each in describe.EVENTS]
    assert len(set(kinds)) == len(kinds) == len(events.KINDS)
    account = [each for each in describe.EVENTS if (describe.tag(each) or 0) >= 64]
    assert account
    assert describe.tag(events.Message) == events.MESSAGE
