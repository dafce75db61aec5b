"""What goes out and when: the server's rate, and everything that counts against it."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import pytest

from client import pacing
from client.api import text_body
from client.updates import Answer, StreamEvent
from gateway import limits as gateway_limits
from protocol import codec, codes, connection, events, ids, messages
from tests.client import model
from tests.client.test_connection import STREAM, core, frames_of, let_in

#: Of a server as it is configured by default.
PER_S, BURST = 200, 200


def went(pace: pacing.Pace, start: float, end: float) -> int:
    """How many frames go out meanwhile if there are always more."""
    count, now = 0, start
    while now < end:
        while pace.has(now):
            pace.take()
            count += 1
        now = max(pace.ready_at(), now)
    return count


def test_the_pace_allows_a_part_of_the_burst_and_then_of_the_rate() -> None:
    pace = pacing.Pace()
    pace.limit(10, 50, 0.0)
    assert went(pace, 100.0, 100.01) == 50 * pacing.BURST_PART
    assert went(pace, 100.01, 102.0) == pytest.approx(2 * 10 * pacing.RATE_PART, abs=1)


def test_a_connection_begins_with_little_of_a_burst() -> None:
    """Whoever used up the burst before, the server serves so much after one refusal."""
    pace = pacing.Pace()
    pace.limit(10, 50, 0.0)
    assert went(pace, 0.0, 0.01) == 50 * pacing.FRESH_PART


def test_no_rate_is_no_limit() -> None:
    pace = pacing.Pace()
    pace.limit(0, 0, 0.0)
    for _ in range(1000):
        assert pace.has(0.0)
        pace.take()


def test_a_reconnect_is_no_way_around_the_pace() -> None:
    pace = pacing.Pace()
    pace.limit(10, 5, 0.0)
    pace.take()
    pace.limit(10, 5, 0.0)
    assert not pace.has(0.0)


def test_after_a_refusal_nothing_has_gathered_when_the_wait_is_over() -> None:
    pace = pacing.Pace()
    pace.limit(10, 5, 0.0)
    pace.empty(until=2.0)
    assert not pace.has(2.0)
    assert pace.ready_at() == pytest.approx(2.0 + 1 / (10 * pacing.RATE_PART))


def test_what_is_not_a_command_counts_as_well() -> None:
    """The server charges acknowledgements, heartbeats, typing, looking and Hello as it does commands."""
    server = model.Server(msgspec.structs.replace(model.LIMITS, commands_per_s=10, burst=250))
    found = core()
    let_in(found, server)
    found.receive(codec.encode(messages.Heartbeat(0)), 0.0)
    found.tell(messages.Typing(0, STREAM))
    found.tell(messages.Look(0, STREAM))
    for number in range(20):
        found.submit(messages.Send(0, 0, STREAM, text_body(str(number))), number)
    kinds = [type(frame) for frame in frames_of(found.outgoing(0.0))]
    assert kinds == [messages.ClientHeartbeat, messages.Typing, messages.Look, *[messages.Send] * 6]
    assert len(kinds) + 1 == 250 * pacing.FRESH_PART


def test_of_signs_that_wait_only_the_newest_goes_out() -> None:
    found = core()
    let_in(found)
    for _ in range(500):
        found.tell(messages.Typing(0, STREAM))
        found.tell(messages.Look(0, STREAM))
    found.tell(messages.Typing(0, STREAM, False))
    assert frames_of(found.outgoing(0.0)) == [messages.Typing(0, STREAM, False), messages.Look(0, STREAM)]


def test_batches_keep_under_the_limit_that_the_server_told() -> None:
    server = model.Server(msgspec.structs.replace(model.LIMITS, frame=8192))
    found = core()
    let_in(found, server)
    for number in range(20):
        found.submit(messages.Send(0, 0, STREAM, text_body("x" * 1000)), number)
    out = found.outgoing(0.0)
    assert len(frames_of(out)) == 20
    assert max(map(len, out)) <= 8192


class Strict:
    """The gateway's own rule, at the times of the test. It reads nothing while a refused connection has to wait."""

    def __init__(self, owed_s: float = 0.0) -> None:
        self.rate = gateway_limits.Rate(PER_S, BURST)
        self.paid = owed_s
        self.refused = 0
        self.resumed = 0.0
        self.unread: deque[Any] = deque()

    def hear(self, found: Any, link: model.Link, now: float) -> list[Any]:
        """Let the server have what the client sends, and the client what it answers."""
        self.unread += frames_of(found.outgoing(now))
        while self.unread and self.resumed <= now:
            frame = self.unread.popleft()
            paid = self.rate.after(self.paid, now)
            if paid - now > self.rate.burst_s and not isinstance(frame, messages.Ack):
                self.paid, wait_ms = self.rate.refused(self.paid, now)
                self.refused += 1
                self.resumed = now + wait_ms / 1000
                link.say(connection.error_frame(frame.rid, codes.Refused(codes.RATE_LIMITED, "", wait_ms)))
                break
            self.paid = paid
            link.receive(codec.encode(frame))
        said, link.out = link.out, []
        return [effect for each in said for effect in found.receive(each, now)]


def play(found: Any, link: model.Link, server: Strict, commands: int) -> float:
    """Everything at once, and every event taken: when the last answer came."""
    for number in range(commands):
        stream = ids.direct_stream(1, 1 + number % 7)
        found.submit(messages.Send(0, 0, stream, text_body(str(number))), number)
    now, answered = 0.0, 0
    while answered < commands:
        for effect in server.hear(found, link, now):
            answered += isinstance(effect, Answer)
            if isinstance(effect, StreamEvent):
                found.taken(effect, now)
        due = found.deadline(now)
        assert due is not None
        now = max(due, now + 0.001)
    return now


def limited() -> tuple[Any, model.Link]:
    found = core()
    return found, let_in(found, model.Server(msgspec.structs.replace(model.LIMITS, commands_per_s=PER_S, burst=BURST)))


def test_fifteen_hundred_commands_at_once_are_never_too_many_for_the_server() -> None:
    found, link = limited()
    server = Strict()
    took_s = play(found, link, server, 1500)
    assert server.refused == 0
    assert took_s < 1500 / PER_S * 1.2, "and most of what is allowed is used"


def test_a_client_that_begins_with_debts_is_refused_once() -> None:
    """Another program of this device, or the last run of this one, has used up what was allowed."""
    found, link = limited()
    server = Strict(owed_s=1.0)
    play(found, link, server, 1500)
    assert server.refused == 1


def test_acknowledgements_go_out_while_commands_have_to_wait() -> None:
    found, _ = limited()
    raw = msgspec.Raw(events.encode(events.Message(1, 5, 2, 99, 1, text_body("x"))))
    (item,) = found.receive(codec.encode(messages.Event(0, STREAM, 1, raw)), 0.0)
    found.taken(item, 0.0)
    found.receive(codec.encode(messages.Error(0, 400, "rate_limited", "", True, 60_000)), 0.0)
    assert frames_of(found.outgoing(1.0)) == [messages.Ack(0, ((STREAM, 1),))]


def test_a_question_that_is_due_again_while_nothing_may_be_sent_is_no_reason_to_look_again_and_again() -> None:
    client = core()
    let_in(client)
    client.submit(messages.FetchProfiles(0, (1,)), "waiter")
    client.outgoing(10.0)
    client.receive(codec.encode(connection.error_frame(99, codes.Refused(codes.RATE_LIMITED, retry_after_ms=60_000))), 11.0)
    client.outgoing(40.0)
    deadline = client.deadline(40.0)
    assert deadline is not None
    assert deadline > 40.0
