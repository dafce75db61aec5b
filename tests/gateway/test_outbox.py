"""What waits for a device, with a transport that takes as much as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import telemetry
from gateway import flusher, outbox
from gateway import frames as wires
from protocol import codec, codes, messages

LIMIT = 256 * 1024


class Loop:
    """Runs what was called soon when told."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


class Transport(asyncio.WriteTransport):
    """Buffers everything while it is blocked."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.buffered = 0
        self.is_blocked = False
        self.high = 0
        self.outbox: outbox.Outbox | None = None
        self.is_paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or 0

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.writes.append(data)
        if self.is_blocked:
            self.buffered += len(data)
            if self.buffered > self.high and not self.is_paused:
                self.is_paused = True
                assert self.outbox is not None
                self.outbox.pause_writing()

    def unblock(self) -> None:
        self.is_blocked = False
        self.buffered = 0
        if self.is_paused:
            self.is_paused = False
            assert self.outbox is not None
            self.outbox.resume_writing()


class Device:
    """An outbox, its connection and its transport."""

    def __init__(self, limit: int = LIMIT, sharing: flusher.Flusher | None = None, loop: Loop | None = None) -> None:
        self.loop = loop or Loop()
        self.counters = telemetry.Telemetry()
        self.flusher = sharing or flusher.Flusher(self.loop, limit, self.counters, lambda: 7.0)  # type: ignore[arg-type]
        self.transport = Transport()
        self.log: list[object] = []
        self.outbox = outbox.Outbox(self.flusher, self.transport, self)
        self.transport.outbox = self.outbox
        self.outbox.on_drained = lambda: self.log.append("drained")

    def spoke(self, now: float, size: int) -> None:
        self.log.append((now, size))

    def hold(self, on: bool) -> None:
        self.log.append("held" if on else "released")

    def stalled(self) -> None:
        self.log.append("stalled")

    def closing(self, code: int) -> None:
        self.log.append(code)

    def abort(self) -> None:
        self.log.append("aborted")

    @property
    def got(self) -> list[bytes]:
        """The frames in all that was written."""
        return [frame for write in self.transport.writes for message in payloads(write) for frame in split(message)]


def payloads(wire: bytes) -> list[bytes]:
    """The payloads of unmasked binary WebSocket messages."""
    found = []
    while wire and wire[0] == 0x82:
        size, start = wire[1], 2
        if size == 126:
            size, start = int.from_bytes(wire[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(wire[2:10], "big"), 10
        found.append(wire[start : start + size])
        wire = wire[start + size :]
    return found


def split(message: bytes) -> list[bytes]:
    return [bytes(frame) for frame in codec.split(message)] if codec.is_batch(message) else [message]


def frame(number: int, size: int = 0) -> bytes:
    return codec.encode(messages.Error(number, 1, "x" * size, "", False))


frames_ = st.tuples(st.integers(0, 2**53 - 1), st.one_of(st.integers(0, 300), st.integers(15_000, 70_000))).map(
    lambda each: frame(*each)
)


@given(st.lists(st.lists(frames_, min_size=1, max_size=4), max_size=12))
def test_frames_leave_in_order_in_one_write_joined_into_messages_that_clients_accept(offers: list[list[bytes]]) -> None:
    device = Device(limit=8 * 1024 * 1024)
    for frames in offers:
        assert device.outbox.offer(b"".join(frames), len(frames))
    device.loop.turn()
    assert device.got == [each for frames in offers for each in frames]
    assert len(device.transport.writes) == (1 if offers else 0)
    for write in device.transport.writes:
        for message in payloads(write):
            assert len(message) <= codec.MAX_MESSAGE or not codec.is_batch(message)
    assert device.counters.frames_out == sum(map(len, offers))


@pytest.mark.parametrize("tiny", [b"\x91\x01", frame(1)], ids=["of two bytes", "of a heartbeat"])
def test_many_tiny_frames_make_batches_of_what_a_client_accepts_and_a_bad_line_lets_through(tiny: bytes) -> None:
    device = Device()
    for _ in range(2500):
        device.outbox.reply(tiny)
    device.loop.turn()
    (write,) = device.transport.writes
    most = min(codec.MAX_BATCH, flusher.JOIN_BYTES // len(tiny))
    assert [len(split(message)) for message in payloads(write)][:-1] == [most] * (2500 // most)
    assert device.got == [tiny] * 2500


def test_a_single_frame_stays_bare() -> None:
    device = Device()
    device.outbox.offer(frame(1), 1)
    device.loop.turn()
    assert device.transport.writes == [bytes((0x82, len(frame(1)))) + frame(1)]


def test_members_of_a_group_are_written_the_same_bytes_object() -> None:
    loop = Loop()
    first = Device(loop=loop)
    others = [Device(sharing=first.flusher, loop=loop) for _ in range(3)]
    for each in (first, *others):
        each.outbox.offer(frame(1), 1)
        each.outbox.offer(frame(2), 1)
    others[2].outbox.offer(frame(3), 1)
    loop.turn()
    assert others[0].transport.writes[0] is first.transport.writes[0]
    assert others[1].transport.writes[0] is first.transport.writes[0]
    assert others[2].got == [frame(1), frame(2), frame(3)]


def test_over_the_limit_an_offer_is_refused_and_once_there_is_room_drained_is_called_once() -> None:
    device = Device()
    device.transport.is_blocked = True
    chunk = frame(1, 10_000)
    accepted = 0
    while device.outbox.offer(chunk, 1):
        accepted += 1
        device.loop.turn()
        assert device.outbox.held <= LIMIT
    assert not device.outbox.offer(chunk, 1)
    assert device.log.count("drained") == 0
    assert device.log.count("stalled") == 1
    device.transport.unblock()
    device.loop.turn()
    assert device.log.count("drained") == 1
    assert device.got == [chunk] * accepted
    assert device.outbox.offer(chunk, 1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("offer offer offer reply latest ephemeral turn block unblock".split()), st.integers(0, 40_000)
        )
    )
)
def test_whatever_happens_what_is_held_stays_under_the_limit_and_order_is_kept(steps: list[tuple[str, int]]) -> None:
    device = Device()
    accepted: list[bytes] = []
    for number, (step, size) in enumerate(steps):
        each = frame(number, size)
        if step == "offer":
            held_before = device.outbox.held
            if device.outbox.offer(each, 1):
                accepted.append(each)
                assert device.outbox.held <= LIMIT or held_before == 0
        elif step == "reply" and "held" not in device.log[-1:]:
            held_before = device.outbox.held
            device.outbox.reply(each)
            accepted.append(each)
            assert device.outbox.held <= max(LIMIT, held_before) + len(each) + outbox.FRAME_OVERHEAD
        elif step == "latest":
            held_before = device.outbox.held
            device.outbox.offer_latest("key", each)
            assert device.outbox.held <= max(LIMIT, held_before + len(each))
        elif step == "ephemeral":
            device.outbox.offer_ephemeral(each)
        elif step == "turn":
            device.loop.turn()
        elif step == "block":
            device.transport.is_blocked = True
        elif step == "unblock":
            device.transport.unblock()
    device.transport.unblock()
    while device.loop.soon:
        device.loop.turn()
    kept = set(accepted)
    assert [each for each in device.got if each in kept] == accepted
    assert device.outbox.held == 0


def test_an_offer_that_alone_exceeds_the_limit_passes_when_nothing_waits() -> None:
    device = Device()
    frames = [frame(number, 30_000) for number in range(20)]
    assert device.outbox.offer(b"".join(frames), len(frames))
    assert not device.outbox.offer(frames[0], 1)
    device.loop.turn()
    assert device.got == frames
    assert device.log.count("drained") == 1


def test_replies_are_always_taken_and_reading_pauses_until_the_outbox_has_sunk() -> None:
    device = Device()
    device.transport.is_blocked = True
    for number in range(50):
        device.outbox.reply(frame(number, 10_000))
        device.loop.turn()
    assert device.log.count("held") == 1
    assert device.log.count("released") == 0
    device.transport.unblock()
    device.loop.turn()
    assert device.log.count("released") == 1
    assert len(device.got) == 50


def test_of_collapsible_frames_with_one_key_only_the_newest_leaves_and_after_what_is_durable() -> None:
    device = Device()
    device.outbox.offer_latest("a", frame(1))
    device.outbox.offer_latest("b", frame(2))
    device.outbox.offer_latest("a", frame(3))
    device.outbox.offer(frame(4), 1)
    device.loop.turn()
    assert device.got == [frame(4), frame(2), frame(3)]
    device.loop.turn()
    assert len(device.transport.writes) == 1


def test_collapsible_frames_without_end_hold_no_more_than_one_each_key() -> None:
    device = Device()
    device.transport.is_blocked = True
    device.outbox.offer(frame(0, 100_000), 1)
    device.loop.turn()
    for number in range(10_000):
        device.outbox.offer_latest("key", frame(number))
    device.transport.unblock()
    device.loop.turn()
    assert device.got[1:] == [frame(9_999)]


def test_ephemeral_frames_are_dropped_while_the_transport_is_full() -> None:
    device = Device()
    device.outbox.offer_ephemeral(frame(1))
    device.loop.turn()
    device.transport.is_blocked = True
    device.outbox.offer(frame(2, 100_000), 1)
    device.loop.turn()
    device.outbox.offer_ephemeral(frame(3))
    device.transport.unblock()
    device.loop.turn()
    assert device.got == [frame(1), frame(2, 100_000)]
    assert device.counters.ephemeral_dropped == 1


@pytest.mark.parametrize("code", [1012, 1013])
def test_closing_for_a_restart_sends_what_waits_then_the_hint_then_the_close_frame(code: int) -> None:
    device = Device()
    device.transport.is_blocked = True
    device.outbox.offer(frame(1, 100_000), 1)
    device.loop.turn()
    device.outbox.offer(frame(2), 1)
    device.outbox.close(code, "back soon", 1500)
    device.outbox.close(4500, "again")
    assert not device.outbox.offer(frame(3), 1)
    device.outbox.reply(frame(3))
    device.outbox.offer_latest("key", frame(3))
    device.outbox.offer_ephemeral(frame(3))
    device.loop.turn()
    assert device.got == [frame(1, 100_000), frame(2), codec.encode(messages.GoingAway(0, 1500))]
    assert device.transport.writes[-1].endswith(b"\x88\x0b" + code.to_bytes(2, "big") + b"back soon")
    assert device.log[-1] == code


def test_a_final_close_has_no_hint() -> None:
    device = Device()
    device.outbox.close(codes.REVOKED.code, codes.REVOKED.text)
    assert device.got == []


def test_a_session_that_fails_when_it_hears_of_room_harms_no_other_device() -> None:
    loop = Loop()
    first = Device(loop=loop)
    second = Device(sharing=first.flusher, loop=loop)

    def fail() -> None:
        raise RuntimeError("the session is gone")

    first.outbox.on_drained = fail
    while first.outbox.offer(frame(1, 10_000), 1):
        pass
    second.outbox.offer(frame(2), 1)
    loop.turn()
    assert second.got == [frame(2)]


def test_more_frames_in_one_offer_than_a_batch_may_have_are_an_error_of_the_caller() -> None:
    device = Device()
    with pytest.raises(ValueError, match="1025"):
        device.outbox.offer(b"\x90" * 1025, 1025)


def test_an_outbox_that_cannot_be_flushed_is_cut_alone_and_the_others_of_the_same_flush_and_later_ones_leave() -> None:
    loop = Loop()
    first = Device(loop=loop)
    others = [Device(sharing=first.flusher, loop=loop) for _ in range(2)]

    def fail(_data: object) -> None:
        raise RuntimeError("a transport that is broken")

    first.transport.write = fail  # type: ignore[assignment,method-assign]
    for each in (first, *others):
        each.outbox.offer(frame(1), 1)
    loop.turn()
    assert first.log[-1] == "aborted"
    assert not first.outbox.offer(frame(2), 1)
    for each in others:
        each.outbox.offer(frame(2), 1)
    loop.turn()
    assert [each.got for each in others] == [[frame(1), frame(2)]] * 2


def test_pongs_leave_in_the_write_of_the_next_flush_before_its_frames_and_the_newest_stands_for_all() -> None:
    device = Device()
    for number in range(100):
        device.outbox.pong(wires.pong(b"%d" % number))
    device.outbox.reply(frame(1))
    device.loop.turn()
    assert device.transport.writes == [wires.pong(b"99") + wires.binary(frame(1))]
    device.outbox.pong(wires.pong(b"alone"))
    device.loop.turn()
    device.loop.turn()
    assert device.transport.writes[1:] == [wires.pong(b"alone")]


def test_a_transport_that_is_full_takes_no_pong() -> None:
    device = Device()
    device.outbox.pong(wires.pong(b"waits"))
    device.transport.is_blocked = True
    device.outbox.offer(frame(1, 200_000), 1)
    device.loop.turn()
    written = len(device.transport.writes)
    device.outbox.pong(wires.pong(b"left out"))
    device.loop.turn()
    device.transport.unblock()
    device.loop.turn()
    assert len(device.transport.writes) == written
