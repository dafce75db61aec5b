"""The generator's own WebSocket is held to an independent one, frame by frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from bench import wire
from protocol import events

sizes = st.sampled_from([0, 1, 125, 126, 127, 65535, 65536]) | st.integers(min_value=0, max_value=70_000)


@given(sizes)
def test_a_server_reads_what_the_generator_masks(size: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    server = ServerProtocol(state=State.OPEN, max_size=None)
    server.receive_data(wire.masked(payload))
    (received,) = server.events_received()
    assert isinstance(received, Frame)
    assert (received.opcode, bytes(received.data)) == (Opcode.BINARY, payload)


@given(st.lists(sizes, min_size=1, max_size=4), st.data())
def test_frames_of_a_server_are_taken_whole_and_never_in_part(parts: list[int], data: st.DataObject) -> None:
    payloads = [bytes(number % 249 for number in range(size)) for size in parts]
    stream = b"".join(Frame(Opcode.BINARY, payload).serialize(mask=False) for payload in payloads)
    cut = data.draw(st.integers(min_value=0, max_value=len(stream) - 1))
    taken, start = [], 0
    while (found := wire.take(stream[:cut], start)) is not None:
        taken.append(found[1])
        start = found[2]
    assert taken == payloads[: len(taken)]
    while (found := wire.take(stream, start)) is not None:
        taken.append(found[1])
        start = found[2]
    assert taken == payloads
    assert start == len(stream)


@pytest.mark.parametrize("size", [8, 34, 36, 128, 258, 1024, 8192])
def test_a_body_of_any_usual_size_is_a_text_of_exactly_that_size(size: int) -> None:
    body = wire.body(size)
    assert len(bytes(body)) == size
    assert isinstance(events.decode_body(body), events.Text)
