"""Bytes to messages, cut anywhere; the shared parser."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import BINARY, CLOSE, CONT, PING, TEXT, Close, Frame, Opcode

from gateway import reader
from protocol import codes

LIMIT = 70_000


def frame(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    """As a client writes it."""
    return Frame(opcode, data, fin).serialize(mask=True)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


messages_ = st.lists(
    st.one_of(
        st.binary(max_size=300).map(lambda data: ([frame(BINARY, data)], data)),
        st.integers(60_000, 66_000).map(lambda size: ([frame(BINARY, bytes(size))], bytes(size))),
        st.lists(st.binary(max_size=20), min_size=1, max_size=5).map(
            lambda parts: (
                [frame(CONT if index else BINARY, part, index == len(parts) - 1) for index, part in enumerate(parts)],
                b"".join(parts),
            )
        ),
    ),
    max_size=6,
)


@given(messages_, st.lists(st.integers(0, 10**6), max_size=10))
def test_any_cutting_of_the_bytes_gives_the_same_messages(sent: list[tuple[list[bytes], bytes]], places: list[int]) -> None:
    wire = b"".join(part for parts, _ in sent for part in parts)
    source = reader.Reader(LIMIT)
    got = [item for piece in cut(wire, places) for item in source.feed(piece)]
    assert [item for item in got if type(item) is bytes] == [whole for _, whole in sent]
    assert source.clean


@given(messages_, st.lists(st.integers(0, 10**6), max_size=10))
def test_a_parser_counts_as_clean_only_between_messages(sent: list[tuple[list[bytes], bytes]], places: list[int]) -> None:
    wire = b"".join(part for parts, _ in sent for part in parts)
    ends = {0}
    for parts, _ in sent:
        ends.add(max(ends) + sum(map(len, parts)))
    source = reader.Reader(LIMIT)
    read = 0
    for piece in cut(wire, places):
        source.feed(piece)
        read += len(piece)
        assert source.clean == (read in ends)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**6)), max_size=40), st.lists(messages_, min_size=4, max_size=4))
def test_connections_that_share_parsers_never_see_each_others_bytes(
    turns: list[tuple[int, int]], sent: list[list[tuple[list[bytes], bytes]]]
) -> None:
    readers = reader.Readers(LIMIT)
    wires = [b"".join(part for parts, _ in each for part in parts) for each in sent]
    own: list[reader.Reader | None] = [None] * 4
    got: list[list[bytes]] = [[] for _ in range(4)]
    for who, size in [*turns, *((who, 10**9) for who in range(4))]:
        piece, wires[who] = wires[who][:size], wires[who][size:]
        source = own[who] or readers.borrow()
        got[who] += [item for item in source.feed(piece) if type(item) is bytes]
        own[who] = None if source.clean else source
        if source.clean:
            readers.give_back(source)
    assert got == [[whole for _, whole in each] for each in sent]


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_no_bytes_whatsoever_raise(pieces: list[bytes]) -> None:
    source = reader.Reader(1000)
    for piece in pieces:
        incoming = source.feed(piece)
        if incoming and type(incoming[-1]) is reader.Ended:
            break


def test_a_length_that_is_merely_announced_ends_it_before_anything_is_read() -> None:
    source = reader.Reader(LIMIT)
    (ended,) = source.feed(b"\x82\xff" + (1 << 40).to_bytes(8, "big"))
    assert isinstance(ended, reader.Ended)
    assert ended.close is codes.TOO_BIG
    assert ended.wire[2:4] == codes.TOO_BIG.code.to_bytes(2, "big")


def test_fragments_count_together() -> None:
    source = reader.Reader(1000)
    source.feed(frame(BINARY, bytes(600), fin=False))
    (ended,) = source.feed(frame(CONT, bytes(401)))
    assert isinstance(ended, reader.Ended)
    assert ended.close is codes.TOO_BIG


def test_a_length_in_a_longer_form_than_needed_keeps_its_parser_to_itself() -> None:
    source = reader.Reader(LIMIT)
    long_form = b"\x82\xff" + (2).to_bytes(8, "big") + b"\0\0\0\0hi"
    assert source.feed(long_form) == [b"hi"]
    assert not source.clean
    assert source.feed(frame(BINARY, b"ho")) == [b"ho"]


def test_a_ping_is_answered_with_its_payload_and_text_is_reported_at_its_beginning() -> None:
    source = reader.Reader(LIMIT)
    assert source.feed(frame(PING, b"abc")) == [reader.Pong(b"\x8a\x03abc")]
    assert source.clean
    assert source.feed(frame(TEXT, b"x", fin=False)) == [reader.Mark.TEXT]


def test_a_close_frame_is_echoed_and_a_breach_of_rfc_6455_is_answered_with_1002() -> None:
    (ended,) = reader.Reader(LIMIT).feed(frame(CLOSE, Close(1001, "bye").serialize()))
    assert ended == reader.Ended(codes.NORMAL, b"\x88\x05" + Close(1001, "bye").serialize(), has_closed=True)
    (ended,) = reader.Reader(LIMIT).feed(Frame(BINARY, b"unmasked").serialize(mask=False))
    assert isinstance(ended, reader.Ended)
    assert ended.close.code == 1002
