"""The look that builds nothing, beside decoders that build everything."""

from __future__ import annotations

import contextlib

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import scan
from tests.protocol import strategies

ROOM = 64 * 1024

#: One value of every format of the msgpack specification, by its first byte.
_OF_EVERY_FORMAT = [
    *(msgpack.packb(value) for value in (None, True, False, 0, 127, -1, -32, 1.5)),
    *(
        msgpack.packb(sign * (1 << bits) - (sign < 0))
        for bits in (7, 8, 16, 32, 63)
        for sign in (1, -1)
        if bits < 63 or sign > 0
    ),
    *(msgpack.packb(-(1 << bits)) for bits in (7, 15, 31, 63)),
    msgpack.packb(1.5, use_single_float=True),
    *(msgpack.packb("x" * size) for size in (0, 31, 32, 255, 256, 65000)),
    b"\xdb\x00\x00\x00\x01x",
    *(msgpack.packb(bytes(size)) for size in (0, 255, 256, 65000)),
    b"\xc6\x00\x00\x00\x01x",
    *(msgpack.packb(msgpack.ExtType(5, bytes(size))) for size in (0, 1, 2, 3, 4, 8, 16, 255, 256, 65000)),
    b"\xc9\x00\x00\x00\x01\x05x",
    *(msgpack.packb([0] * size) for size in (0, 15, 16, 1000)),
    b"\xdd\x00\x00\x00\x01\x00",
    *(msgpack.packb({str(key): 0 for key in range(size)}) for size in (0, 15, 16, 500)),
    b"\xdf\x00\x00\x00\x01\xa1k\x00",
]


def test_the_values_are_of_every_format() -> None:
    assert {data[0] for data in _OF_EVERY_FORMAT} >= {*range(0xC0, 0xE0)} - {0xC1}


@pytest.mark.parametrize("data", _OF_EVERY_FORMAT, ids=lambda data: f"{data[:1].hex()} {len(data)}")
def test_every_format_is_read_to_its_end(data: bytes) -> None:
    scan.check(data, ROOM)
    with pytest.raises(scan.Unfit):
        scan.check(data + b"\x00", ROOM)
    for end in {0, 1, len(data) // 2, len(data) - 1} - {len(data)}:
        with pytest.raises(scan.Unfit):
            scan.check(data[:end], ROOM)


@given(strategies.VALUES)
def test_what_others_write_is_fit_and_no_beginning_of_it(value: object) -> None:
    data = msgspec.msgpack.encode(value)
    scan.check(data, ROOM)
    for end in range(len(data)):
        with pytest.raises(scan.Unfit):
            scan.check(data[:end], ROOM)


_BYTES = st.binary(max_size=40) | st.lists(st.sampled_from([b"\x92", b"\x82", b"\x01", b"\xa1x", b"\xc0"])).map(b"".join)


@given(_BYTES.filter(lambda data: b"\xff" not in data))  # ext -1 is a time, which may not be one
def test_what_is_fit_others_can_read(data: bytes) -> None:
    with contextlib.suppress(scan.Unfit, scan.TooBig):
        scan.check(data, ROOM)
        msgpack.unpackb(data, strict_map_key=False)


@pytest.mark.parametrize(
    "data", [b"\xdc\xff\xff", b"\xde\x7f\xff\x00", b"\xda\xff\xff", b"\x92\x00\xdd\xff\xff\xff\xff"], ids=bytes.hex
)
def test_a_length_without_room_is_too_big_and_one_with_room_ends_early(data: bytes) -> None:
    with pytest.raises(scan.TooBig):
        scan.check(data, 60_000)
    with pytest.raises(scan.Unfit):
        scan.check(data, 2**40)
