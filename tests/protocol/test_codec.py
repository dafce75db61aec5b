"""Bytes <-> frames: everything goes round, nothing crashes, every refusal names what is wrong."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, codes, ids, messages
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


def _nested(levels: int) -> bytes:
    return b"\x91" * (levels - 1) + b"\x90"


@pytest.mark.parametrize("levels", [1, 2, codec.MAX_DEPTH - 1, codec.MAX_DEPTH])
def test_a_body_of_few_levels_is_accepted(levels: int) -> None:
    assert bytes(codec.decode_client(_send(_nested(levels))).body) == _nested(levels)  # type: ignore[union-attr]


@pytest.mark.parametrize("levels", [codec.MAX_DEPTH + 1, 200, 900, 5000, 60000])
@pytest.mark.parametrize("level", [b"\x91", b"\x81\x01", b"\xdc\x00\x01"], ids=["arrays", "maps", "long arrays"])
def test_a_nesting_bomb_in_a_body_is_too_deep_and_never_a_crash(levels: int, level: bytes) -> None:
    bomb = level * (levels - 1) + b"\x90"
    with pytest.raises(codec.TooDeep):
        codec.decode_client(_send(bomb))
    edit = b"\x96\x0c\x07\x01\xc4\x0f" + STREAM + b"\x01"
    with pytest.raises(codec.TooDeep):
        codec.decode_client(edit + bomb)


def test_deep_keys_of_maps_count_as_levels() -> None:
    with pytest.raises(codec.TooDeep):
        codec.decode_client(_send(b"\x92\x01\x81" + _nested(codec.MAX_DEPTH) + b"\x01"))


def test_many_small_containers_side_by_side_are_not_deep() -> None:
    body = _pack([1, "é" * 300, [[1, 2, 3]] * 40])
    assert bytes(codec.decode_client(_send(body)).body) == body  # type: ignore[union-attr]


@pytest.mark.parametrize("decode", [codec.decode_client, codec.decode_server, codec.split], ids=lambda each: each.__name__)
@pytest.mark.parametrize("tail", [b"", b"\x90", b"\x00"])
def test_a_nesting_bomb_anywhere_is_answered(decode: Any, tail: bytes) -> None:
    for data in (
        b"\x91" * 60000 + tail,
        b"\x93\x0b\x01" + b"\x91" * 60000 + tail,
        b"\x92\xcd\x7f\xff" + b"\x91" * 60000 + tail,
    ):
        with pytest.raises((codec.TooDeep, codec.Problem)):
            decode(data)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff" + b"\x00" * 60000,
        b"\xdd\x00\x00\xea\x60" + b"\x00" * 60000,
        b"\xdd\x00\x00\xea\x5f\x90" + b"\x00" * 60000,
        b"\xdd\xff\xff\xff\xff\x91\x00",
        _send(b"\xdd\xff\xff\xff\xff"),
        _send(b"\xc6\xff\xff\xff\xff"),
        _send(b"\xdb\xff\xff\xff\xff"),
        _send(b"\xdf\xff\xff\xff\xff"),
        b"\x93\x03\x01\xdd\xff\xff\xff\xff",
    ],
    ids=lambda each: each[:12].hex(),
)
def test_a_length_bomb_costs_no_more_than_the_bytes_that_are_there(bomb: bytes) -> None:
    for decode in (codec.decode_client, codec.split):
        tracemalloc.start()
        try:
            with pytest.raises((codec.Problem, codec.TooDeep)):
                decode(bomb)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * len(bomb) + 32 * 1024


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
