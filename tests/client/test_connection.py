"""The core on its own: hello, heartbeat, how a connection ends, what is told anew."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from client import connection, errors, pacing
from client.api import text_body
from client.updates import Answer, Connected, Disconnected, End, Retry, StreamEvent
from protocol import codec, codes, events, ids, messages
from tests.client import model

CREDENTIAL = messages.RegisterCredential("asha", "a good password", b"a" * 16)
STREAM = ids.direct_stream(1, 1)


def core(**more: Any) -> connection.Connection:
    defaults: dict[str, Any] = {"credential": CREDENTIAL, "counter_seed": 5000, "random": lambda: 1.0}
    return connection.Connection(**(defaults | more))


def let_in(found: connection.Connection, server: model.Server | None = None, now: float = 0.0) -> model.Link:
    link = (server or model.Server()).connect()
    found.connected(now)
    exchange(found, link, now)
    assert found.state is connection.State.OPEN
    return link


def exchange(found: connection.Connection, link: model.Link, now: float) -> list[Any]:
    """Let both talk until neither has anything to say."""
    effects: list[Any] = []
    while True:
        for data in found.outgoing(now):
            link.receive(data)
        heard, link.out = link.out, []
        for data in heard:
            effects += found.receive(data, now)
        if not heard:
            return effects


def frames_of(data: list[bytes]) -> list[Any]:
    return [
        codec.decode_client(part)
        for each in data
        for part in (codec.split(each) if codec.is_batch(each) else [msgspec.Raw(each)])
    ]


def test_the_token_of_welcome_is_the_next_credential() -> None:
    found = core()
    let_in(found)
    found.disconnected(1006, "", 1.0)
    found.connected(2.0)
    (hello,) = frames_of(found.outgoing(2.0))
    assert hello.credential == messages.TokenCredential(found.identity.token)


def test_a_welcome_that_was_lost_finds_the_same_device() -> None:
    server, found = model.Server(), core()
    found.connected(0.0)
    link = server.connect()
    for data in found.outgoing(0.0):
        link.receive(data)
    link.cut()
    found.disconnected(1006, "", 1.0)
    let_in(found, server)
    assert len(server.devices) == 1


def test_no_command_leaves_before_welcome() -> None:
    found = core(identity=connection.Identity(1, 1001, "asha", b"token-of-device-1001"))
    found.submit(messages.Send(0, 0, STREAM, text_body("x")), "x")
    found.connected(0.0)
    assert [type(frame) for frame in frames_of(found.outgoing(0.0))] == [messages.Hello]


def test_a_command_before_the_first_welcome_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="first Welcome"):
        core().submit(messages.Send(0, 0, STREAM, text_body("x")), "x")


def test_counters_rise_from_the_clock_and_from_what_was_used() -> None:
    found = core()
    let_in(found)
    frame = messages.Send(0, 0, STREAM, text_body("x"))
    found.submit(frame, "x")
    assert frame.counter == 5001
    later = core(identity=connection.Identity(1, 1001, "asha", b"t" * 16, 9000))
    later.submit(frame, "x")
    assert frame.counter == 9001


def test_a_heartbeat_is_answered() -> None:
    found = core()
    let_in(found)
    found.receive(codec.encode(messages.Heartbeat(0)), 25.0)
    assert frames_of(found.outgoing(25.0)) == [messages.ClientHeartbeat(0)]


def test_a_silent_client_speaks_by_itself() -> None:
    """While the application is slow the socket is not read, and the server's heartbeats with it."""
    found = core()
    let_in(found)
    assert found.outgoing(24.9) == []
    assert found.deadline(24.9) == pytest.approx(25.0)
    assert frames_of(found.outgoing(25.0)) == [messages.ClientHeartbeat(0)]


def test_a_silent_server_counts_as_lost_after_two_heartbeats() -> None:
    found = core()
    let_in(found)
    assert not found.dead(59.9)
    assert found.dead(60.0)
    found.not_read(60.0)
    assert not found.dead(60.0)


def test_a_server_that_never_welcomes_is_given_up() -> None:
    found = core()
    found.connected(0.0)
    assert found.deadline(0.0) == connection.WELCOME_S
    assert found.dead(connection.WELCOME_S)


@pytest.mark.parametrize("close", [close for close in codes.CLOSES if not close.reconnect and close is not codes.NORMAL])
def test_a_final_close_is_the_end(close: codes.Close) -> None:
    found = core()
    let_in(found)
    outcome, _ = found.disconnected(close.code, "", 1.0)
    assert isinstance(outcome, End)
    assert isinstance(outcome.error, errors.Closed)
    assert outcome.error.close is close


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, *(close.code for close in codes.CLOSES if close.reconnect)])
def test_any_other_close_is_come_back_from(code: int) -> None:
    found = core()
    let_in(found)
    outcome, effects = found.disconnected(code, "", 1.0)
    assert outcome == Retry(0.5)
    assert [type(effect) for effect in effects] == [Disconnected]


def test_the_servers_hint_is_kept() -> None:
    found = core()
    let_in(found)
    found.receive(codec.encode(messages.GoingAway(0, 5000, "wss://other.example/ws")), 1.0)
    assert found.disconnected(1012, "", 1.0)[0] == Retry(5.5, "wss://other.example/ws")
    assert found.disconnected(1006, "", 2.0)[0] == Retry(1.0)


def test_wrong_credentials_are_the_end_and_a_busy_server_is_not() -> None:
    found = core()
    for error, number in ((codes.BUSY, 401), (codes.BAD_CREDENTIALS, 200)):
        found.connected(0.0)
        (hello,) = frames_of(found.outgoing(0.0))
        frame = messages.Error(hello.rid, number, error.symbol, error.text, error.temporary, 700)
        found.receive(codec.encode(frame), 0.0)
        outcome, _ = found.disconnected(4503 if error is codes.BAD_CREDENTIALS else 1013, "", 1.0)
        if error is codes.BUSY:
            assert outcome == Retry(0.7 + 0.5)
        else:
            assert isinstance(outcome, End)
            assert isinstance(outcome.error, codes.Refused)
            assert outcome.error.error is error


def test_a_new_connection_is_told_whom_and_what_one_looks_at() -> None:
    server, found = model.Server(), core()
    link = let_in(found, server)
    found.submit(messages.WatchPresence(0, (5, 6)), "watch")
    found.submit(messages.WatchPresence(0, (7,), (5,)), "watch")
    found.tell(messages.Look(0, STREAM))
    exchange(found, link, 1.0)
    found.disconnected(1006, "", 2.0)
    again = let_in(found, server, 3.0)
    assert messages.Look(0, STREAM) in again.received
    watched = [frame for frame in again.received if isinstance(frame, messages.WatchPresence)]
    assert [frame.add for frame in watched] == [(6, 7)]


def watched(link: model.Link) -> list[tuple[int, ...]]:
    return [frame.add for frame in link.received if isinstance(frame, messages.WatchPresence)]


def test_whom_the_server_did_not_let_one_watch_is_not_asked_for_again() -> None:
    server, found = model.Server(), core()
    link = let_in(found, server)
    found.submit(messages.WatchPresence(0, (5, 6)), "fine")
    exchange(found, link, 1.0)
    server.refuse = [codes.Refused(codes.TOO_MANY)]
    found.submit(messages.WatchPresence(0, (7,)), "too many")
    exchange(found, link, 1.0)
    found.disconnected(1006, "", 2.0)
    assert watched(let_in(found, server, 3.0)) == [(5, 6)]


def test_a_server_that_allows_less_than_the_last_one_is_asked_for_no_more() -> None:
    server, found = model.Server(), core()
    link = let_in(found, server)
    found.submit(messages.WatchPresence(0, (9, 3, 5, 6)), "watch")
    exchange(found, link, 1.0)
    found.disconnected(1006, "", 2.0)
    server.limits = msgspec.structs.replace(model.LIMITS, subscriptions=2)
    assert watched(let_in(found, server, 3.0)) == [(3, 9)]


def test_watching_again_goes_on_when_the_server_is_busy() -> None:
    server, found = model.Server(), core()
    link = let_in(found, server)
    found.submit(messages.WatchPresence(0, (5,)), "watch")
    exchange(found, link, 1.0)
    found.disconnected(1006, "", 2.0)
    server.refuse = [codes.Refused(codes.BUSY, retry_after_ms=500)]
    again = let_in(found, server, 3.0)
    exchange(found, again, 3.5)
    assert watched(again) == [(5,), (5,)]


def test_a_group_is_asked_how_large_it_is_at_its_first_event() -> None:
    found = core()
    let_in(found)
    group = ids.group_stream(5, 5)
    asked = []
    for seq in (8, 9):
        raw = msgspec.Raw(events.encode(events.Message(seq, seq, 2, 99, seq, text_body("x"))))
        found.receive(codec.encode(messages.Event(0, group, seq, raw)), 0.0)
        asked += frames_of(found.outgoing(0.0))
    assert [(type(frame), frame.stream) for frame in asked] == [(messages.FetchGroup, group)]


TOO_MUCH = text_body("x" * 70_000)


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (messages.Send(0, 0, STREAM, TOO_MUCH), codes.TOO_LONG),
        (messages.Edit(0, 0, STREAM, 1, text_body("x" * 17_000)), codes.TOO_LONG),
        (messages.CreateGroup(0, 0, "x" * 300), codes.TOO_LONG),
        (messages.SetDraft(0, 0, STREAM, "x" * 5000), codes.TOO_LONG),
        (messages.WatchPresence(0, tuple(range(1, 9000))), codes.TOO_MANY),
        (messages.Delete(0, 0, STREAM, 0), codes.MALFORMED),
        (messages.Delete(0, 0, STREAM, 2**60), codes.MALFORMED),
        (messages.FetchHistory(0, STREAM, 2**60), codes.MALFORMED),
        (messages.Send(0, 0, STREAM, msgspec.Raw(b"\x91" * 40 + b"\x01")), codes.TOO_LONG),
    ],
)
def test_what_the_server_would_not_read_is_refused_before_anything_is_kept_of_it(
    frame: messages.Frame, error: codes.Error
) -> None:
    found = core()
    let_in(found)
    with pytest.raises(codes.Refused) as refused:
        found.submit(frame, "x")
    assert refused.value.error is error
    assert found.unanswered == 0
    assert found.outgoing(0.0) == []


@pytest.mark.parametrize(
    "frame",
    [messages.FindUsers(0, "\udcff"), messages.CreateGroup(0, 0, "\udcff"), messages.Delete(0, 0, STREAM, 2**70)],
)
def test_what_cannot_be_encoded_is_the_callers_exception(frame: messages.Frame) -> None:
    found = core()
    let_in(found)
    with pytest.raises((ValueError, OverflowError)):
        found.submit(frame, "x")
    assert found.unanswered == 0


def test_a_smaller_limit_than_the_usual_one_is_kept() -> None:
    found = core()
    let_in(found, model.Server(msgspec.structs.replace(model.LIMITS, frame=2000)))
    with pytest.raises(codes.Refused, match="at most 2000 bytes"):
        found.submit(messages.Send(0, 0, STREAM, text_body("x" * 2000)), "x")


def test_a_command_that_was_taken_before_a_smaller_limit_was_known_is_refused_then() -> None:
    found = core(identity=connection.Identity(1, 1001, "asha", b"token-of-device-1001"))
    found.submit(messages.Send(0, 0, STREAM, text_body("x" * 2000)), "long")
    found.connected(0.0)
    found.outgoing(0.0)
    limits = msgspec.structs.replace(model.LIMITS, frame=1000)
    welcome = messages.Welcome(found._hello_rid, 1, b"s", 1, 1001, "asha", b"", 25, limits, 5)
    (answer, _) = found.receive(codec.encode(welcome), 0.0)
    assert isinstance(answer, Answer)
    assert answer.outcome.error is codes.TOO_LONG
    assert found.outgoing(0.0) == []


def test_a_kept_command_that_no_server_would_read_is_left_out_and_said() -> None:
    small = codec.encode(messages.Send(3, 103, STREAM, text_body("fine")))
    large = codec.encode(messages.Send(2, 102, STREAM, TOO_MUCH))
    found = core()
    said = found.restore(connection.Identity(1, 1001, "asha", b"t" * 16, 100), {}, (b"\xc1", large, small))
    assert len(said) == 2
    assert f"{len(large)} bytes" in said[1]
    assert [pending.data for pending in found.outflow] == [small]


@pytest.mark.parametrize("close", [codes.REVOKED, codes.ACCOUNT_DELETED])
def test_a_device_that_is_no_more_is_told_so(close: codes.Close) -> None:
    found = core()
    let_in(found)
    found.disconnected(close.code, "", 1.0)
    assert found.revoked


def test_a_token_that_is_refused_is_a_device_that_is_no_more_and_a_password_is_not() -> None:
    for identity, revoked in ((None, False), (connection.Identity(1, 1001, "asha", b"t" * 16), True)):
        found = core(identity=identity)
        found.connected(0.0)
        (hello,) = frames_of(found.outgoing(0.0))
        found.receive(codec.encode(messages.Error(hello.rid, 200, "bad_credentials", "", False)), 0.0)
        found.disconnected(codes.REFUSED.code, "", 1.0)
        assert found.revoked is revoked


def test_what_was_typed_is_not_told_to_a_later_connection() -> None:
    server, found = model.Server(), core()
    let_in(found, server)
    found.disconnected(1006, "", 2.0)
    found.tell(messages.Typing(0, STREAM))
    again = let_in(found, server, 3.0)
    assert [type(frame) for frame in again.received] == [messages.Hello]


def test_a_rate_limit_holds_every_stream() -> None:
    server, found = model.Server(), core()
    link = let_in(found, server)
    server.refuse = [codes.Refused(codes.RATE_LIMITED, retry_after_ms=2000)]
    found.submit(messages.Send(0, 0, STREAM, text_body("x")), "x")
    exchange(found, link, 1.0)
    found.submit(messages.Send(0, 0, ids.direct_stream(1, 2), text_body("y")), "y")
    found.submit(messages.Open(0, 2), "z")
    assert exchange(found, link, 2.9) == []
    assert found.deadline(2.9) == 3.0
    answers = [effect.waiter for effect in exchange(found, link, 3.0) if isinstance(effect, Answer)]
    assert sorted(answers) == ["x", "y", "z"]


def test_batches_keep_within_the_limits_of_a_message() -> None:
    found = core()
    let_in(found)
    for user in range(2, 12):
        for _ in range(40):
            found.submit(messages.Send(0, 0, ids.direct_stream(1, user), text_body("x" * 3000)), "x")
    out = found.outgoing(0.0)
    assert len(frames_of(out)) == 400
    assert max(map(len, out)) <= pacing.BATCH_BYTES + pacing.HEADER_BYTES


def test_an_event_of_a_kind_from_the_future_is_kept_and_passed_over() -> None:
    found = core()
    let_in(found)
    raw = msgspec.Raw(msgspec.msgpack.encode([31, 1, 2, 3, 4, 5, "new"]))
    (item,) = found.receive(codec.encode(messages.Event(0, STREAM, 1, raw)), 1.0)
    assert isinstance(item, StreamEvent)
    assert item.event is None


def test_an_unknown_frame_of_the_server_is_ignored() -> None:
    found = core()
    let_in(found)
    assert found.receive(msgspec.msgpack.encode([127, 0, "new"]), 1.0) == []


@pytest.mark.parametrize("data", [b"\xc1", b"\x93\x63\x00\xff", b"\x90" * 3, b"\x91" * 50_000])
def test_bytes_that_cannot_be_read_are_a_breach(data: bytes) -> None:
    found = core()
    let_in(found)
    with pytest.raises(errors.ProtocolViolation):
        found.receive(data, 1.0)


def test_what_is_over_tells_everybody_who_waits() -> None:
    found = core()
    let_in(found)
    found.submit(messages.Send(0, 0, STREAM, text_body("x")), "sender")
    found.submit(messages.Open(0, 5), "opener")
    error = errors.Closed("over")
    assert [(effect.waiter, effect.outcome) for effect in found.end(error) if isinstance(effect, Answer)] == [
        ("sender", error),
        ("opener", error),
    ]


def test_the_close_that_says_the_account_is_deleted_answers_the_wish() -> None:
    found = core()
    let_in(found)
    found.submit(messages.DeleteAccount(0, 0, "a good password"), "deleter")
    found.outgoing(0.0)
    outcome, effects = found.disconnected(codes.ACCOUNT_DELETED.code, "", 1.0)
    assert isinstance(outcome, End)
    assert [effect.waiter for effect in effects if isinstance(effect, Answer)] == ["deleter"]


def test_an_ephemeral_message_is_not_sent_twice() -> None:
    server, found = model.Server(), core()
    let_in(found, server)
    found.submit(messages.Send(0, 0, STREAM, text_body("x"), 0, events.Flag.EPHEMERAL), "x")
    found.outgoing(0.0)
    _, effects = found.disconnected(1006, "", 1.0)
    (answer,) = [effect for effect in effects if isinstance(effect, Answer)]
    assert isinstance(answer.outcome, errors.Lost)


def test_welcome_is_an_update_before_what_was_missed() -> None:
    server, found = model.Server(), core()
    let_in(found, server)
    found.disconnected(1006, "", 1.0)
    server.append(STREAM, events.Message(1, 5, 1, 99, 1, text_body("x")))
    link = server.connect()
    found.connected(2.0)
    kinds = [type(effect) for effect in exchange(found, link, 2.0)]
    assert kinds == [Connected, StreamEvent, messages.CaughtUp]


def event_frame(seq: int) -> bytes:
    event = events.Message(seq, 1000 + seq, 9, 90, seq, msgspec.Raw(msgspec.msgpack.encode([1, f"text {seq}"])))
    return codec.encode(messages.Event(0, STREAM, seq, msgspec.Raw(events.encode(event))))


def events_of(found: connection.Connection, *seqs: int) -> list[StreamEvent]:
    """What the application is given when these come."""
    return [each for seq in seqs for each in found.receive(event_frame(seq), 1.0) if isinstance(each, StreamEvent)]


def reconnected(found: connection.Connection, incarnation: int, now: float) -> list[Any]:
    """Cut off, and let in again by a server of this incarnation."""
    if found.state is connection.State.OPEN:
        found.disconnected(1006, "", now)
    found.connected(now)
    (hello,) = frames_of(found.outgoing(now))
    welcome = messages.Welcome(hello.rid, 1, b"s", 1, 1001, "asha", b"", 25, model.LIMITS, 5, incarnation=incarnation)
    return found.receive(codec.encode(welcome), now)


def acknowledged(found: connection.Connection, now: float) -> list[tuple[bytes, int]]:
    return [cursor for frame in frames_of(found.outgoing(now)) if isinstance(frame, messages.Ack) for cursor in frame.cursors]


def test_a_server_that_was_set_back_is_heard_from_the_beginning_and_told_of_nothing_older() -> None:
    found = core(identity=connection.Identity(1, 1001, "asha", b"token-of-device-1001"), strict=True)
    (first,) = [each for each in reconnected(found, 1, 0.0) if isinstance(each, Connected)]
    assert not first.anew
    given = events_of(found, 7, 8)
    assert [each.seq for each in given] == [7, 8]
    found.taken(given[0], 1.0)
    found.submit(messages.Send(0, 0, STREAM, text_body("unanswered")), "x")
    (again,) = [each for each in reconnected(found, 2, 2.0) if isinstance(each, Connected)]
    assert again.anew
    assert found.identity.incarnation == 2
    assert found.inflow.cursors() == {}
    came = events_of(found, 4, 5)
    assert [each.seq for each in came] == [4, 5]
    found.taken(given[1], 3.0)  # from before, taken late
    sent = frames_of(found.outgoing(10.0))
    assert [frame.body for frame in sent if isinstance(frame, messages.Send)] == [text_body("unanswered")]
    assert not any(isinstance(frame, messages.Ack) for frame in sent)
    found.taken(again, 10.0)
    found.taken(came[0], 10.0)
    assert acknowledged(found, 20.0) == [(STREAM, 4)]
    (same,) = [each for each in reconnected(found, 2, 30.0) if isinstance(each, Connected)]
    assert not same.anew
    assert found.inflow.cursors() == {STREAM: 4}


def test_a_server_that_tells_no_incarnation_is_the_same_one() -> None:
    found = core(identity=connection.Identity(1, 1001, "asha", b"token-of-device-1001"))
    for incarnation in (0, 5):  # from the first that tells it on
        assert [each.anew for each in reconnected(found, incarnation, 0.0) if isinstance(each, Connected)] == [False]
