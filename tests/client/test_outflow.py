"""Commands until they are answered: order, window, repeats, pace."""

from __future__ import annotations

import pytest

from client import outflow
from client.api import text_body
from protocol import codec, ids, messages

ONE = ids.direct_stream(1, 2)
OTHER = ids.direct_stream(1, 3)


def fill(flow: outflow.Outflow, count: int, stream: bytes = ONE, start: int = 1) -> None:
    for number in range(start, start + count):
        frame = messages.Send(number, 1000 + number, stream, text_body(str(number)))
        flow.submit(frame, codec.encode(frame), stream, number)


def sent(flow: outflow.Outflow, now: float) -> list[int]:
    found = []
    while (pending := flow.next(now)) is not None:
        assert codec.decode_client(pending.data) == pending.frame
        found.append(pending.rid)
    return found


def test_commands_of_a_stream_go_out_in_order_up_to_the_window() -> None:
    flow = outflow.Outflow()
    fill(flow, 100)
    assert sent(flow, 0.0) == list(range(1, 65))


def test_the_window_counts_from_the_oldest_unanswered_one() -> None:
    flow = outflow.Outflow()
    fill(flow, 100)
    sent(flow, 0.0)
    for rid in range(2, 65):
        flow.answered(rid)
    assert sent(flow, 0.0) == [], "the oldest may still have to be repeated"
    flow.answered(1)
    assert sent(flow, 0.0) == list(range(65, 101))


def test_a_full_stream_does_not_stand_before_another() -> None:
    flow = outflow.Outflow()
    fill(flow, 100)
    fill(flow, 2, OTHER, start=200)
    assert set(sent(flow, 0.0)) >= {200, 201}


def test_a_new_connection_gets_everything_unanswered_again_in_order() -> None:
    flow = outflow.Outflow()
    fill(flow, 5)
    sent(flow, 0.0)
    flow.answered(2)
    flow.connected()
    assert sent(flow, 1.0) == [1, 3, 4, 5]


def test_without_an_answer_the_same_bytes_go_out_again_ever_more_rarely() -> None:
    flow = outflow.Outflow()
    fill(flow, 1)
    times = []
    now = 0.0
    for _ in range(6):
        assert sent(flow, now) == [1]
        deadline = flow.deadline()
        assert deadline is not None
        times.append(deadline - now)
        assert sent(flow, deadline - 0.01) == []
        now = deadline
    assert times == pytest.approx([10, 20, 40, 80, 120, 120])


def test_a_temporary_refusal_holds_its_stream_and_keeps_the_order() -> None:
    flow = outflow.Outflow()
    fill(flow, 3)
    fill(flow, 1, OTHER, start=50)
    sent(flow, 0.0)
    assert flow.later(2, 2.0, 1.0)
    assert flow.later(3, 0.5, 1.0)
    fill(flow, 1, start=4)
    fill(flow, 1, OTHER, start=51)
    assert sent(flow, 2.9) == [51]
    assert flow.deadline() == 3.0
    assert sent(flow, 3.0) == [2, 3, 4]


def test_a_refusal_without_a_hint_is_waited_out_longer_each_time() -> None:
    flow = outflow.Outflow()
    fill(flow, 1)
    waits = []
    now = 0.0
    for _ in range(9):
        assert sent(flow, now) == [1]
        flow.later(1, 0.0, now)
        deadline = flow.deadline()
        assert deadline is not None
        waits.append(deadline - now)
        now = deadline
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10])


def test_a_new_connection_does_not_wait_for_an_old_hint() -> None:
    flow = outflow.Outflow()
    fill(flow, 1)
    sent(flow, 0.0)
    flow.later(1, 60.0, 0.0)
    flow.connected()
    assert sent(flow, 1.0) == [1]


def test_an_answer_to_a_command_that_waits_to_be_repeated_ends_it() -> None:
    flow = outflow.Outflow()
    fill(flow, 2)
    sent(flow, 0.0)
    flow.later(1, 1.0, 0.0)
    found = flow.answered(1)
    assert found is not None
    assert found.waiter == 1
    assert flow.answered(1) is None
    assert sent(flow, 5.0) == []
    assert [pending.rid for pending in flow] == [2]


def test_a_command_is_found_by_its_counter_until_it_is_answered() -> None:
    flow = outflow.Outflow()
    fill(flow, 1)
    found = flow.with_counter(1001)
    assert found is not None
    assert found.rid == 1
    flow.answered(1)
    assert flow.with_counter(1001) is None


def test_answered_commands_wake_nobody() -> None:
    flow = outflow.Outflow()
    fill(flow, 10)
    sent(flow, 0.0)
    for rid in range(1, 11):
        flow.answered(rid)
    assert flow.deadline() is None


def test_a_command_that_is_not_stored_yet_waits_and_wakes_nobody() -> None:
    flow = outflow.Outflow()
    flow.kept = 2
    fill(flow, 4)
    fill(flow, 1, OTHER, start=50)
    assert sent(flow, 0.0) == [1, 2]
    for rid in (1, 2):
        flow.answered(rid)
    assert flow.deadline() is None
    flow.kept = 50
    assert sorted(sent(flow, 0.0)) == [3, 4, 50]
