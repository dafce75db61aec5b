"""The server's side of a connection: every pair of state and input, and every clock."""

from __future__ import annotations

import msgspec
import pytest

from protocol import codec, codes, connection, messages
from protocol.connection import Admit, Command, Connection, Input, Reply, State

HELLO = codec.encode(messages.Hello(1, 1, 1, messages.TokenCredential(bytes(16))))
COMMAND = codec.encode(messages.FetchAccount(5))
BEAT = codec.encode(messages.ClientHeartbeat(0))
GARBAGE = b"\xc1"
NEWER = b"\x92\xcd\x27\x0f\x08"


def _at(state: State, now: float = 0.0) -> Connection:
    subject = Connection(now)
    if state is State.CLOSED:
        subject.close(codes.NORMAL)
    elif state is not State.HELLO:
        _received(subject, HELLO, now)
        if state is State.OPEN:
            subject.admitted()
    assert subject.state is state
    return subject


def _received(subject: Connection, data: bytes, now: float) -> list[connection.Effect]:
    """All that one message brings."""
    return [effect for effects in subject.receive(data, now) for effect in effects]


def _closes(effects: list[connection.Effect]) -> list[codes.Close]:
    return [each.close for each in effects if isinstance(each, connection.Close)]


def _errors(effects: list[connection.Effect]) -> list[tuple[int, int]]:
    frames = [each.frame for each in effects if isinstance(each, Reply)]
    return [(each.rid, each.number) for each in frames if isinstance(each, messages.Error)]


_INPUTS = {Input.HELLO: HELLO, Input.COMMAND: COMMAND}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Input)
def test_every_pair_of_state_and_input_does_what_the_table_says(state: State, event: Input) -> None:
    subject = _at(state)
    if event is Input.CLOSE:
        effects = subject.close(codes.RESTART)
    elif event is Input.ADMITTED:
        effects = subject.admitted()
    else:
        effects = _received(subject, _INPUTS[event], 1.0)
    after = connection.TRANSITIONS.get((state, event))
    if after is not None:
        assert subject.state is after
    elif state is State.CLOSED or event is Input.ADMITTED:
        assert subject.state is state
        assert effects == []
    else:
        assert subject.state is State.CLOSED
        assert _closes(effects) == [codes.PROTOCOL_ORDER]
        assert _errors(effects)[0][1] == codes.NOT_READY.number


def test_a_hello_is_handed_on_with_the_version_in_common() -> None:
    [effect] = _received(Connection(0.0), HELLO, 0.0)
    assert isinstance(effect, Admit)
    assert effect.version == 1
    assert codec.encode(effect.hello) == HELLO


@pytest.mark.parametrize(("low", "high", "fits"), [(0, 0, False), (0, 9, True), (1, 1, True), (2, 3, False), (3, 1, False)])
def test_a_client_without_a_version_in_common_is_closed_for_good(low: int, high: int, fits: bool) -> None:
    subject = Connection(0.0)
    effects = _received(subject, codec.encode(messages.Hello(4, low, high, messages.TokenCredential(bytes(16)))), 0.0)
    assert (subject.state is State.ADMITTING) is fits
    if not fits:
        assert _errors(effects) == [(4, codes.UNSUPPORTED_VERSION.number)]
        assert _closes(effects) == [codes.NO_VERSION]


def test_no_hello_in_time_closes() -> None:
    for state in (State.HELLO, State.ADMITTING):
        subject = _at(state, 100.0)
        assert subject.tick(100.0 + connection.HELLO_TIMEOUT_S - 0.001) == []
        assert _closes(subject.tick(100.0 + connection.HELLO_TIMEOUT_S)) == [codes.HELLO_TIMEOUT]
        assert subject.tick(1000.0) == []


def test_unreadable_bytes_do_not_put_off_the_hello_deadline() -> None:
    subject = Connection(0.0)
    _received(subject, NEWER, 9.0)
    assert _closes(subject.tick(10.0)) == [codes.HELLO_TIMEOUT]


def test_a_silent_connection_is_asked_once_a_heartbeat_and_given_up_after_two_and_a_margin() -> None:
    subject = _at(State.OPEN, 0.0)
    asked = [second for second in range(60) if subject.tick(float(second))]
    assert asked == [25, 50]
    assert _closes(subject.tick(60.0)) == [codes.HEARTBEAT_LOST]


def test_a_client_that_answers_heartbeats_stays() -> None:
    subject = _at(State.OPEN, 0.0)
    for second in range(1000):
        for effect in subject.tick(float(second)):
            assert effect == Reply(messages.Heartbeat(0))
            assert _received(subject, BEAT, float(second)) == []
    assert subject.state is State.OPEN


def test_a_client_that_only_listens_is_asked_although_the_server_speaks() -> None:
    subject = _at(State.OPEN, 0.0)
    asked = []
    for second in range(1, 60):
        subject.spoke = float(second)
        if subject.tick(float(second)):
            asked.append(second)
    assert asked == [25, 50]


def test_a_client_that_sends_without_answer_hears_the_server_all_the_same() -> None:
    subject = _at(State.OPEN, 0.0)
    asked = []
    for second in range(1, 80):
        _received(subject, COMMAND, float(second))
        if subject.tick(float(second)):
            asked.append(second)
    assert asked == [25, 50, 75]


def test_an_operator_may_set_the_terms() -> None:
    terms = connection.Terms(max_message=4096, hello_timeout_s=2.0, heartbeat_s=5.0)
    subject = Connection(0.0, terms)
    assert _closes(subject.tick(2.0)) == [codes.HELLO_TIMEOUT]
    subject = Connection(0.0, terms)
    assert _closes(_received(subject, bytes(4097), 0.0)) == [codes.TOO_BIG]
    subject = Connection(0.0, terms)
    _received(subject, HELLO, 0.0)
    subject.admitted()
    assert subject.tick(4.9) == []
    assert subject.tick(5.0) == [Reply(messages.Heartbeat(0))]
    assert _closes(subject.tick(terms.lost_s)) == [codes.HEARTBEAT_LOST]


def test_commands_sent_behind_hello_are_held_and_released_in_order() -> None:
    subject = Connection(0.0)
    frames = [codec.encode(messages.Open(rid, 7)) for rid in range(1, connection.MAX_HELD + 1)]
    [effect] = _received(subject, codec.batch([HELLO, *frames]), 0.0)
    assert isinstance(effect, Admit)
    assert _received(subject, BEAT, 0.0) == []
    released = subject.admitted()
    assert [bytes(each.raw) for each in released if isinstance(each, Command)] == frames
    assert subject.admitted() == []
    [after] = _received(subject, COMMAND, 0.0)
    assert isinstance(after, Command)


def test_a_frame_of_a_batch_is_read_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    decode = codec.decode_client

    def reading(data: bytes) -> messages.ClientFrame:
        read.append(bytes(data))
        return decode(data)

    subject = _at(State.OPEN)
    monkeypatch.setattr(codec, "decode_client", reading)
    frames = iter(subject.receive(codec.batch([COMMAND, BEAT, NEWER, b"\x91\xa0", COMMAND]), 0.0))
    assert [type(each) for each in next(frames)] == [Command]
    assert next(frames) == []
    assert read == [COMMAND, BEAT]
    assert _errors(next(frames)) == [(8, codes.UNKNOWN_FRAME.number)]
    subject.close(codes.RESTART)
    assert list(frames) == []


def test_a_strangers_batch_of_more_than_may_follow_hello_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "decode_client", None)
    effects = _received(Connection(0.0), codec.batch([NEWER] * (connection.MAX_HELD + 2)), 0.0)
    assert _errors(effects) == [(0, codes.NOT_READY.number)]
    assert _closes(effects) == [codes.PROTOCOL_ORDER]


def test_more_held_commands_than_the_limit_close() -> None:
    subject = _at(State.ADMITTING)
    for _ in range(connection.MAX_HELD):
        assert _received(subject, COMMAND, 0.0) == []
    effects = _received(subject, COMMAND, 0.0)
    assert _errors(effects) == [(5, codes.NOT_READY.number)]
    assert _closes(effects) == [codes.PROTOCOL_ORDER]
    assert subject.admitted() == []


def test_more_held_bytes_than_the_limit_close() -> None:
    body = msgspec.Raw(msgspec.msgpack.encode([3, bytes(16000)]))
    frame = codec.encode(messages.Send(5, 1, b"d" + bytes(6) + b"\x01" + bytes(6) + b"\x02", body))
    subject = _at(State.ADMITTING)
    fit = connection.MAX_HELD_BYTES // len(frame)
    for _ in range(fit):
        assert _received(subject, frame, 0.0) == []
    assert _closes(_received(subject, frame, 0.0)) == [codes.PROTOCOL_ORDER]


@pytest.mark.parametrize("state", [State.HELLO, State.ADMITTING, State.OPEN])
def test_the_third_unreadable_frame_in_a_row_closes(state: State) -> None:
    subject = _at(state)
    assert _errors(_received(subject, GARBAGE, 0.0)) == [(0, codes.MALFORMED.number)]
    assert _errors(_received(subject, NEWER, 0.0)) == [(8, codes.UNKNOWN_FRAME.number)]
    assert _errors(_received(subject, b"", 0.0)) == [(0, codes.MALFORMED.number)]
    assert subject.state is state
    assert _closes(_received(subject, GARBAGE, 0.0)) == [codes.BAD_FRAMES]


def test_nothing_of_a_strangers_command_is_read() -> None:
    stream = b"d" + bytes(6) + b"\x01" + bytes(6) + b"\x02"
    for broken in (b"\x92\x01", b"\x92\x32\x81\x90\x01", b"\xdd\xff\xff\xff\xff"):
        effects = _received(Connection(0.0), b"\x95\x0b\x07\x01\xc4\x0f" + stream + broken, 0.0)
        assert _errors(effects) == [(7, codes.NOT_READY.number)]
        assert _closes(effects) == [codes.PROTOCOL_ORDER]


def test_what_a_person_typed_too_long_or_left_out_never_closes() -> None:
    subject = _at(State.OPEN)
    for title, number in (("x" * 101, codes.TOO_LONG.number), ("", codes.EMPTY.number)):
        for _ in range(10):
            assert _errors(_received(subject, msgspec.msgpack.encode([20, 7, 1, title]), 0.0)) == [(7, number)]
    assert subject.state is State.OPEN


def test_the_third_body_of_the_wrong_shape_closes() -> None:
    subject = _at(State.OPEN)
    data = msgspec.msgpack.encode([11, 7, 1, b"d" + bytes(14), [1, 5]])
    assert _errors(_received(subject, data, 0.0) + _received(subject, data, 0.0)) == [(7, codes.MALFORMED.number)] * 2
    assert _closes(_received(subject, data, 0.0)) == [codes.BAD_FRAMES]


def test_a_readable_frame_between_starts_the_count_anew() -> None:
    subject = _at(State.OPEN)
    for _ in range(10):
        _received(subject, GARBAGE, 0.0)
        _received(subject, GARBAGE, 0.0)
        _received(subject, COMMAND, 0.0)
    assert subject.state is State.OPEN


def test_unknown_frames_never_close() -> None:
    subject = _at(State.OPEN)
    for _ in range(100):
        assert _errors(_received(subject, NEWER, 0.0)) == [(8, codes.UNKNOWN_FRAME.number)]
    assert subject.state is State.OPEN


def test_unreadable_frames_of_one_batch_count_and_what_follows_the_close_is_not_read() -> None:
    bad = codec.encode(messages.FetchAccount(5))[:1] + b"\x00\x07"
    effects = _received(
        _at(State.OPEN), codec.batch([COMMAND, bad, bad, COMMAND, b"\x91\xa0", b"\x91\xa0", b"\x91\xa0", COMMAND]), 0.0
    )
    assert len([each for each in effects if isinstance(each, Command)]) == 2
    assert isinstance(effects[-1], connection.Close)
    assert _closes(effects) == [codes.BAD_FRAMES]


def test_what_is_too_big_or_too_deep_or_text_closes() -> None:
    assert _closes(_received(_at(State.OPEN), bytes(codec.MAX_MESSAGE + 1), 0.0)) == [codes.TOO_BIG]
    assert _closes(_received(_at(State.OPEN), b"\x91" * codec.MAX_MESSAGE, 0.0)) == [codes.TOO_BIG]
    assert _closes(_at(State.OPEN).receive_text()) == [codes.NOT_BINARY]


def test_after_the_close_nothing_is_read_or_said() -> None:
    subject = _at(State.CLOSED)
    assert _received(subject, HELLO, 1.0) == subject.receive_text() == subject.tick(99.0) == subject.close(codes.RESTART) == []


def test_every_transition_of_the_table_starts_and_ends_in_a_state_that_is_open_to_it() -> None:
    assert not any(before is State.CLOSED for before, _ in connection.TRANSITIONS)
    assert all((state, Input.CLOSE) in connection.TRANSITIONS for state in State if state is not State.CLOSED)
