"""The invariants under hypothesis: random bytes, msgpack-shaped bytes, and frames with a few bytes changed."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec
from tests.fuzz import invariants
from tests.protocol import strategies

_HEADERS = st.sampled_from([bytes((byte,)) for byte in (*range(0x80, 0xA2), *range(0xC0, 0xE0))])
_SHAPED = st.lists(_HEADERS | st.integers(0, 130).map(lambda byte: bytes((byte,))) | st.binary(max_size=3), max_size=60).map(
    b"".join
)
_FRAMES = (strategies.CLIENT_FRAMES | strategies.SERVER_FRAMES | strategies.EVENTS).map(msgspec.msgpack.encode)
_BATCHES = st.lists(_FRAMES, min_size=1, max_size=4).map(codec.batch)


@st.composite
def _changed(draw: st.DrawFn) -> bytes:
    """A frame or batch, cut, or with bytes put in the place of others."""
    data = draw(_FRAMES | _BATCHES)
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 3)))
    tail = data[end:] if draw(st.booleans()) else b""
    return data[:start] + draw(st.binary(max_size=3) | _HEADERS) + tail


@pytest.mark.parametrize("invariant", invariants.ALL, ids=lambda each: each.__name__)
def test_the_invariant_holds(invariant: Callable[[bytes], None]) -> None:
    @given(st.binary(max_size=200) | _SHAPED | _changed())
    def holds(data: bytes) -> None:
        invariant(data)

    holds()
