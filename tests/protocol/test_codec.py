"""Bytes <-> frames: everything goes round, nothing crashes, every refusal names what is wrong."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, codes, ids, messages, scan
from scripts import describe, vectors
from tests.protocol import strategies

STREAM = ids.direct_stream(1001, 1002)
_pack = msgspec.msgpack.encode
_FRAMES = (*describe.CLIENT_FRAMES, *describe.SERVER_FRAMES)


def _decode(frame: type[msgspec.Struct], data: bytes) -> Any:
    return codec.decode_client(data) if frame in describe.CLIENT_FRAMES else codec.decode_server(data)


def _send(body: bytes) -> bytes:
    return b"\x95\x0b\x07\x01\xc4\x0f" + STREAM + body


def _problem(data: bytes) -> codec.Problem:
    with pytest.raises(codec.Problem) as caught:
        codec.decode_client(data)
    return caught.value


@given(strategies.CLIENT_FRAMES)
def test_every_client_frame_goes_round(frame: Any) -> None:
    data = codec.encode(frame)
    assert codec.encode(codec.decode_client(data)) == data


@given(strategies.SERVER_FRAMES)
def test_every_server_frame_goes_round(frame: Any) -> None:
    data = codec.encode(frame)
    assert codec.encode(codec.decode_server(data)) == data


@given(strategies.CLIENT_FRAMES, st.lists(strategies.VALUES, max_size=3))
def test_unknown_trailing_items_are_ignored(frame: Any, later: list[Any]) -> None:
    data = codec.encode(frame)
    longer = _pack([*msgspec.msgpack.decode(data, type=list[msgspec.Raw]), *later])
    assert codec.encode(codec.decode_client(longer)) == data


@pytest.mark.parametrize("frame", describe.CLIENT_FRAMES, ids=lambda each: each.__name__)
def test_a_missing_item_is_named_and_the_request_id_quoted(frame: type[msgspec.Struct]) -> None:
    items = msgspec.msgpack.decode(_pack(vectors.build(frame, "typical")), type=list[msgspec.Raw])
    for field in describe.fields(frame):
        if field.default is None:
            problem = _problem(_pack(items[: field.position]))
            assert problem.error is codes.MALFORMED
            assert problem.text == f"{field.name}: missing"
            assert problem.rid == (0 if field.name == "rid" else 7)


@pytest.mark.parametrize("frame", describe.CLIENT_FRAMES, ids=lambda each: each.__name__)
def test_an_item_of_the_wrong_type_is_named_and_the_request_id_quoted(frame: type[msgspec.Struct]) -> None:
    items = msgspec.msgpack.decode(_pack(vectors.build(frame, "typical")), type=list[Any])
    for field in describe.fields(frame):
        if field.raw:
            continue
        problem = _problem(_pack([*items[: field.position], 1.5, *items[field.position + 1 :]]))
        assert problem.error is codes.MALFORMED
        assert problem.text.startswith(f"{field.name}: ")
        assert problem.rid == (0 if field.name == "rid" else 7)


@given(st.integers(0, ids.MAX_ID), st.integers(0, ids.MAX_ID), st.lists(strategies.VALUES, max_size=3))
def test_an_unknown_frame_number_is_reported_as_such_with_the_request_id(number: int, rid: int, items: list[Any]) -> None:
    if number in {describe.tag(each) for each in describe.CLIENT_FRAMES}:
        return
    problem = _problem(_pack([number, rid, *items]))
    assert problem.error is codes.UNKNOWN_FRAME
    assert problem.rid == rid


def test_a_client_leaves_out_frames_of_a_newer_server() -> None:
    known = codec.encode(messages.Done(5))
    data = codec.batch([_pack([5000, 0, "new"]), known])
    assert list(codec.decode_server_message(data)) == [messages.Done(5)]
    assert list(codec.decode_server_message(known)) == [messages.Done(5)]
    with pytest.raises(codec.Problem):
        list(codec.decode_server_message(b""))


@pytest.mark.parametrize("text", [b"\xa1\xff", b"\xa2\xc3\x28", b"\xa3\xed\xa0\x80"])
def test_text_that_is_no_utf8_is_malformed_and_named(text: bytes) -> None:
    problem = _problem(b"\x95\x31\x07\x01\xc4\x0f" + STREAM + text)
    assert (problem.rid, problem.error) == (7, codes.MALFORMED)
    assert problem.text.startswith("text: ")
    problem = _problem(_send(b"\x92\x01" + text))
    assert (problem.rid, problem.error) == (7, codes.MALFORMED)
    assert problem.text.startswith("body: ")


def test_the_request_id_is_quoted_from_a_frame_that_breaks_off() -> None:
    whole = codec.encode(messages.Send(2**40, 1, STREAM, msgspec.Raw(_pack([1, "x"]))))
    for end in range(len(whole)):
        problem = _problem(whole[:end])
        assert problem.error is codes.MALFORMED
        assert problem.rid == (2**40 if end >= 11 else 0)


def _nested(levels: int, level: bytes = b"\x91") -> bytes:
    """A body of a later kind, of so many levels."""
    return b"\x92\x32" + level * (levels - 2) + b"\x90"


@pytest.mark.parametrize("levels", [2, 3, scan.MAX_DEPTH - 1, scan.MAX_DEPTH])
def test_a_body_of_few_levels_is_accepted(levels: int) -> None:
    assert bytes(codec.decode_client(_send(_nested(levels))).body) == _nested(levels)  # type: ignore[union-attr]


@pytest.mark.parametrize("levels", [scan.MAX_DEPTH + 1, 200, 900, 5000, 60000])
@pytest.mark.parametrize("level", [b"\x91", b"\x81\x01", b"\xdc\x00\x01"], ids=["arrays", "maps", "long arrays"])
def test_a_nesting_bomb_in_a_body_is_too_big_and_never_a_crash(levels: int, level: bytes) -> None:
    bomb = _nested(levels, level)
    with pytest.raises(scan.TooBig):
        codec.decode_client(_send(bomb))
    edit = b"\x96\x0c\x07\x01\xc4\x0f" + STREAM + b"\x01"
    with pytest.raises(scan.TooBig):
        codec.decode_client(edit + bomb)


@pytest.mark.parametrize("body", [b"\x93\x01\xa1x\x90", b"\x92\x01\xa1x", b"\x94\x01\xa1x\x90\x81\xa1k\x01"], ids=bytes.hex)
def test_a_body_is_relayed_as_it_was_written(body: bytes) -> None:
    assert bytes(codec.decode_client(_send(body)).body) == body  # type: ignore[union-attr]


def test_many_small_containers_side_by_side_are_not_deep() -> None:
    body = _pack([1, "é" * 300, [], [[1, 2, 3]] * 40])
    assert bytes(codec.decode_client(_send(body)).body) == body  # type: ignore[union-attr]


@pytest.mark.parametrize("key", [b"\x92\x01\x02", b"\x90", b"\x81\x01\x02", b"\xdc\x00\x00"], ids=bytes.hex)
def test_an_array_or_a_map_is_no_key(key: bytes) -> None:
    """Made into objects it would be a tuple, whose hash can be foreseen, so that a map of 45 KB takes a tenth of a second."""
    for body in (b"\x92\x32\x82\x01\x01" + key + b"\x01", b"\x94\x01\xa1x\x90\x81" + key + b"\x01"):
        problem = _problem(_send(body))
        assert (problem.rid, problem.error) == (7, codes.MALFORMED)
        assert problem.text == "body: an array or a map as a key"


def test_nothing_is_built_of_what_no_type_describes() -> None:
    """Whatever the keys are, they are not hashed: 500 of them would make a dict of 18 KiB and objects of 12 KiB."""
    keys = {2.0**exponent: 0 for exponent in range(-250, 250)}
    body = _pack([1, "x", [], keys])
    for data in (_send(body), _pack([60, 7, keys])):
        codec.decode_client(data)
        tracemalloc.start()
        try:
            codec.decode_client(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3 * len(data)


def test_a_body_over_the_limit_is_not_looked_into() -> None:
    body = b"\x93\x01\xda\x3f\xfa" + b"x" * (codec.MAX_BODY - 6) + b"\x90"
    assert len(body) == codec.MAX_BODY
    codec.decode_client(_send(body))
    broken = b"\x92\x32\x81\x90\xda\x40\x00" + b"\xff" * codec.MAX_BODY
    problem = _problem(_send(broken))
    assert (problem.rid, problem.error) == (7, codes.TOO_LONG)
    assert problem.text == f"body: at most {codec.MAX_BODY} bytes"


@pytest.mark.parametrize("value", [b"\x00", b"\x90", b"\xa0"], ids=["numbers", "arrays", "texts"])
def test_a_body_of_more_values_than_the_limit_is_refused(value: bytes) -> None:
    inside = scan.MAX_VALUES - 3
    body = b"\x92\x32" + codec.array_header(inside) + value * inside
    codec.decode_client(_send(body))
    problem = _problem(_send(b"\x92\x32" + codec.array_header(inside + 1) + value * (inside + 1)))
    assert (problem.rid, problem.error) == (7, codes.TOO_MANY)
    assert str(scan.MAX_VALUES) in problem.text


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ([1, 5], "body[1]"),
        ([1], "body"),
        ([], "body"),
        (["text"], "body[0]"),
        ({"text": 1}, "body"),
        ("text", "body"),
        (None, "body"),
        ([1, "x", 5], "body[2]"),
        ([1, "x", [[0, 0, 1]]], "body[2][0][0]"),
        ([2, "media"], "body[1]"),
    ],
    ids=str,
)
def test_a_body_of_the_wrong_shape_is_malformed_and_its_place_named(body: object, place: str) -> None:
    for head in ([11, 7, 1, STREAM], [12, 7, 1, STREAM, 1]):
        problem = _problem(_pack([*head, body]))
        assert (problem.rid, problem.error) == (7, codes.MALFORMED)
        assert problem.text.startswith(f"{place}: ")


def test_a_body_of_a_kind_that_is_not_known_is_left_to_who_knows_what_is_accepted() -> None:
    frame = codec.decode_client(_send(_pack([50, "poll", {"yes": 1}])))
    assert isinstance(frame, messages.Send)


@pytest.mark.parametrize(
    ("array", "error", "text"),
    [
        ([20, 7, 1, "x" * 101], codes.TOO_LONG, "title: at most 100 characters"),
        ([20, 7, 1, ""], codes.EMPTY, "title: empty"),
        ([20, 7, 1, "x", [1] * 1025], codes.TOO_MANY, "members: at most 1024 entries"),
        ([21, 7, 1, STREAM, []], codes.EMPTY, "users: empty"),
        ([49, 7, 1, STREAM, "x" * 4097], codes.TOO_LONG, "text: at most 4096 characters"),
        ([40, 7, 1, ["x" * 65]], codes.TOO_LONG, "profile[0]: at most 64 characters"),
        ([1, 7, 1, 1, [2, "asha", "x" * 257, bytes(16)]], codes.TOO_LONG, "credential[2]: at most 256 characters"),
        ([1, 7, 1, 1, [2, "", "password", bytes(16)]], codes.EMPTY, "credential[1]: empty"),
        ([29, 7, 1, STREAM, bytes(65)], codes.TOO_LONG, "code: at most 64 bytes"),
        ([11, 7, 1, STREAM, [2, b""]], codes.EMPTY, "body[1]: empty"),
        ([11, 7, 1, STREAM, [2, bytes(65)]], codes.TOO_LONG, "body[1]: at most 64 bytes"),
        ([11, 7, 1, STREAM, [2, b"m", "x" * 4097]], codes.TOO_LONG, "body[2]: at most 4096 characters"),
        ([11, 7, 1, STREAM, [1, "x" * 70, [[1, 0, 1]] * 65]], codes.TOO_MANY, "body[2]: at most 64 entries"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_length_that_a_person_may_have_typed_is_refused_by_the_name_of_its_limit(
    array: list[Any], error: codes.Error, text: str
) -> None:
    problem = _problem(_pack(array))
    assert (problem.rid, problem.error, problem.text) == (7, error, text)


@pytest.mark.parametrize("frame", describe.CLIENT_FRAMES, ids=lambda each: each.__name__)
def test_what_is_answered_by_more_than_an_error_needs_a_request_id(frame: type[msgspec.Struct]) -> None:
    """An answer with 0 could not be told from a frame that is none, so that a Sent would be a hole in its stream."""
    items = msgspec.msgpack.decode(_pack(vectors.build(frame, "typical")), type=list[msgspec.Raw])
    data = _pack([items[0], 0, *items[2:]])
    if issubclass(frame, messages.Change | messages.Question):
        problem = _problem(data)
        assert (problem.rid, problem.error) == (0, codes.MALFORMED)
        assert problem.text.startswith("rid: ")
    else:
        assert frame.__name__ in _MAY_BE_WITHOUT_ANSWER
        codec.decode_client(data)


_MAY_BE_WITHOUT_ANSWER = {"Hello", "ClientHeartbeat", "Ack", "Read", "Typing", "Look", "WatchPresence", "Logout"}


def test_what_is_too_short_to_be_an_id_is_the_programs_fault() -> None:
    assert _problem(_pack([18, 7, b"d", 1])).error is codes.MALFORMED
    assert _problem(_pack([1, 7, 1, 1, [1, b"token"]])).error is codes.MALFORMED


@pytest.mark.parametrize("decode", [codec.decode_client, codec.decode_server, codec.split], ids=lambda each: each.__name__)
@pytest.mark.parametrize("tail", [b"", b"\x90", b"\x00"])
def test_a_nesting_bomb_anywhere_is_answered(decode: Any, tail: bytes) -> None:
    for data in (
        b"\x91" * 60000 + tail,
        b"\x93\x0b\x01" + b"\x91" * 60000 + tail,
        b"\x92\xcd\x7f\xff" + b"\x91" * 60000 + tail,
    ):
        with pytest.raises((scan.TooBig, codec.Problem)):
            decode(data)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff" + b"\x00" * 60000,
        b"\xdd\xff\xff\xff\xff\x91\x00",
        b"\xdc\xff\xff" * 20000,
        b"\xdf\xff\xff\xff\xff",
        b"\xde\x80\x00",
        _send(b"\xdd\xff\xff\xff\xff"),
        _send(b"\xc6\xff\xff\xff\xff"),
        _send(b"\xdb\xff\xff\xff\xff"),
        _send(b"\xdf\xff\xff\xff\xff"),
        _send(b"\xc9\xff\xff\xff\xff\x01"),
        _send(b"\x92\x01\xdb\x00\x01\x00\x00"),
        b"\x93\x03\x01\xdd\xff\xff\xff\xff",
        b"\x93\xcd\x13\x88\x01\xdd\xff\xff\xff\xff",
    ],
    ids=lambda each: f"{len(each)} {each[:12].hex()}",
)
def test_a_length_that_no_message_has_room_for_is_too_big_and_costs_nothing(bomb: bytes) -> None:
    for message in (bomb, b"\x91" + bomb):
        tracemalloc.start()
        try:
            with pytest.raises(scan.TooBig):
                codec.decode_client(message) if not codec.is_batch(message) else codec.split(message)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * len(bomb) + 32 * 1024


@pytest.mark.parametrize(
    "data",
    [
        _send(b"\xc5\xff\x00"),
        _send(b"\x92\x01\xda\x40\x00"),
        _send(b"\x92\x01"),
        b"\xdd\x00\x00\xea\x5f\x90" + b"\x00" * 60000,
        b"\xdd\x00\x00",
        b"\xdc",
    ],
    ids=lambda each: f"{len(each)} {each[:12].hex()}",
)
def test_what_merely_breaks_off_is_malformed(data: bytes) -> None:
    with pytest.raises(codec.Problem) as caught:
        codec.split(data) if codec.is_batch(data) else codec.decode_client(data)
    assert caught.value.error is codes.MALFORMED


@given(st.lists(strategies.CLIENT_FRAMES, min_size=1, max_size=20))
def test_a_batch_holds_its_frames_in_order(frames: list[Any]) -> None:
    encoded = [codec.encode(frame) for frame in frames]
    data = codec.batch(encoded)
    assert codec.is_batch(data) is (len(frames) > 1)
    parts = codec.split(data) if codec.is_batch(data) else [data]
    assert [bytes(part) for part in parts] == encoded


@pytest.mark.parametrize("outer", [b"\x91", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01"])
@pytest.mark.parametrize("inner", [b"\x92", b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x02"])
def test_a_batch_is_known_by_every_form_of_header(outer: bytes, inner: bytes) -> None:
    frame = inner + b"\x02\x00"
    assert codec.is_batch(outer + frame)
    assert not codec.is_batch(frame)
    assert [bytes(part) for part in codec.split(outer + frame)] == [frame]


def test_an_empty_message_is_no_batch_and_an_empty_array_is_one() -> None:
    assert not codec.is_batch(b"")
    for empty in (b"\x90", b"\xdc\x00\x00", b"\xdd\x00\x00\x00\x00"):
        assert codec.is_batch(empty)
        with pytest.raises(codec.Problem):
            codec.split(empty)


@pytest.mark.parametrize("count", [1, 15, 16, codec.MAX_BATCH])
def test_a_batch_up_to_the_limit_is_split(count: int) -> None:
    assert len(codec.split(codec.array_header(count) + b"\x92\x02\x00" * count)) == count


def test_a_batch_over_the_limit_is_refused() -> None:
    count = codec.MAX_BATCH + 1
    with pytest.raises(codec.Problem):
        codec.split(codec.array_header(count) + b"\x92\x02\x00" * count)


@pytest.mark.parametrize("count", [0, 15, 16, 65535, 65536])
def test_array_headers_are_those_of_msgpack(count: int) -> None:
    assert codec.array_header(count) == _pack([None] * count)[: len(codec.array_header(count))]


def test_the_numbers_of_the_two_directions_do_not_overlap() -> None:
    numbers = [describe.tag(each) or 0 for each in _FRAMES]
    assert len(numbers) == len(set(numbers))
    assert all(1 <= (describe.tag(each) or 0) <= 95 for each in describe.CLIENT_FRAMES)
    assert all(96 <= (describe.tag(each) or 0) <= 127 for each in describe.SERVER_FRAMES)


@given(stream=st.binary(min_size=8, max_size=15), seq=st.integers(1, 2**53 - 1), text=st.text(max_size=200))
def test_the_frame_of_a_stored_event_is_what_the_struct_encodes_to(stream: bytes, seq: int, text: str) -> None:
    event = msgspec.msgpack.encode([1, 2, 3, 4, 5, 6, [1, text]])
    frame = codec.encode(messages.Event(0, stream, seq, msgspec.Raw(event)))
    assert codec.event_encoder(stream)(seq, event) == frame
