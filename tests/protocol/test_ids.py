"""Stream ids say what they are, go round, and cannot be anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import ids
from tests.protocol import strategies

_ID = st.integers(1, ids.MAX_ID)


@given(_ID, _ID)
def test_a_direct_stream_is_the_same_whoever_asks_and_names_both(one: int, other: int) -> None:
    stream = ids.direct_stream(one, other)
    assert stream == ids.direct_stream(other, one)
    assert ids.kind(stream) is ids.Kind.DIRECT
    assert ids.parties(stream) == (min(one, other), max(one, other))


@given(_ID, _ID)
def test_a_group_stream_names_the_command_that_made_it(device: int, counter: int) -> None:
    stream = ids.group_stream(device, counter)
    assert ids.kind(stream) is ids.Kind.GROUP
    assert ids.creator(stream) == (device, counter)


@given(_ID)
def test_an_account_stream_names_its_user(user: int) -> None:
    stream = ids.account_stream(user)
    assert ids.kind(stream) is ids.Kind.ACCOUNT
    assert ids.owner(stream) == user


@given(st.lists(st.tuples(_ID, _ID), min_size=2, max_size=2, unique_by=lambda pair: tuple(sorted(pair))))
def test_different_pairs_have_different_streams(pairs: list[tuple[int, int]]) -> None:
    assert ids.direct_stream(*pairs[0]) != ids.direct_stream(*pairs[1])


@pytest.mark.parametrize("number", [0, -1, ids.MAX_ID + 1, 2**56])
def test_numbers_outside_the_range_make_no_stream(number: int) -> None:
    for make in (ids.account_stream, lambda n: ids.direct_stream(n, 1), lambda n: ids.group_stream(1, n)):
        with pytest.raises(ValueError):
            make(number)


_SEVEN = (5).to_bytes(7, "big")
_ZERO = bytes(7)
_BEYOND = (ids.MAX_ID + 1).to_bytes(7, "big")


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"d",
        b"x" + _SEVEN * 2,
        b"\x00" + _SEVEN,
        b"d" + _SEVEN,
        b"a" + _SEVEN * 2,
        b"g" + _SEVEN,
        b"d" + _SEVEN * 2 + b"\x00",
        b"a" + _ZERO,
        b"a" + _BEYOND,
        b"a" + b"\xff" * 7,
        b"d" + _ZERO + _SEVEN,
        b"d" + _SEVEN + _ZERO,
        b"d" + _SEVEN + _BEYOND,
        b"d" + (6).to_bytes(7, "big") + _SEVEN,
        b"g" + _ZERO + _SEVEN,
        b"g" + _SEVEN + _ZERO,
        b"g" + _BEYOND + _SEVEN,
    ],
    ids=lambda stream: stream.hex() or "empty",
)
def test_bytes_that_this_server_never_makes_are_no_stream(stream: bytes) -> None:
    with pytest.raises(ids.BadStream):
        ids.kind(stream)


@given(st.binary(max_size=16))
def test_whatever_is_taken_for_a_stream_is_made_of_its_own_numbers(data: bytes) -> None:
    try:
        kind = ids.kind(data)
    except ids.BadStream:
        return
    again = {
        ids.Kind.DIRECT: lambda: ids.direct_stream(*ids.parties(data)),
        ids.Kind.GROUP: lambda: ids.group_stream(*ids.creator(data)),
        ids.Kind.ACCOUNT: lambda: ids.account_stream(ids.owner(data)),
    }[kind]()
    assert again == data


@given(strategies.STREAMS)
def test_the_first_byte_is_the_kind(stream: bytes) -> None:
    assert ids.kind(stream) == stream[0]


def test_a_drawn_id_is_never_zero_and_never_above_the_limit() -> None:
    assert ids.new_id(lambda _bits: 0) == 1
    assert ids.new_id(lambda bits: 2**bits - 1) == ids.MAX_ID
