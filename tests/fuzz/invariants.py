"""What must hold for whatever bytes: one line each. Both fuzzers, by hypothesis and by coverage, call these."""

from __future__ import annotations

import msgspec

from protocol import codec, connection, events, ids, scan


def decoding_answers(data: bytes) -> None:
    """A frame is understood or refused; what was understood means the same after it was encoded again."""
    for decode in (codec.decode_client, codec.decode_server):
        try:
            frame = decode(data)
        except (codec.Problem, scan.TooBig):
            continue
        again = codec.encode(frame)
        assert codec.encode(decode(again)) == again


def splitting_answers(data: bytes) -> None:
    """A batch is refused, or is as long as its parts and their header."""
    try:
        parts = codec.split(data)
    except (codec.Problem, scan.TooBig):
        return
    assert data.endswith(b"".join(bytes(part) for part in parts))
    assert 0 < len(parts) <= codec.MAX_BATCH


def a_connection_answers(data: bytes) -> None:
    """Whatever comes, in whatever state: effects, each of which can be carried out, and nothing after a close."""
    for state in (connection.State.HELLO, connection.State.ADMITTING, connection.State.OPEN):
        subject = connection.Connection(0.0)
        subject.state = state
        received = [effect for effects in subject.receive(data, 1.0) for effect in effects]
        effects = [*received, *subject.admitted()]
        for effect in effects:
            if isinstance(effect, connection.Reply):
                codec.decode_server(codec.encode(effect.frame))
            elif isinstance(effect, connection.Command):
                codec.decode_client(effect.raw)
        closes = [index for index, effect in enumerate(effects) if isinstance(effect, connection.Close)]
        assert closes in ([], [len(effects) - 1])
        assert bool(closes) is (subject.state is connection.State.CLOSED)


def an_event_answers(data: bytes) -> None:
    """Stored bytes are an event or not; redaction of an event is an event, and final."""
    try:
        events.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return
    erased = events.redact(data)
    assert events.redact(erased) == erased


def a_body_answers(data: bytes) -> None:
    """A body is typed or refused."""
    try:
        events.decode_body(data)
    except (msgspec.MsgspecError, RecursionError):
        return


def a_stream_id_answers(data: bytes) -> None:
    """Bytes are a stream id or BadStream."""
    try:
        kind = ids.kind(data)
    except ids.BadStream:
        return
    assert data[0] == kind


ALL = (decoding_answers, splitting_answers, a_connection_answers, an_event_answers, a_body_answers, a_stream_id_answers)
