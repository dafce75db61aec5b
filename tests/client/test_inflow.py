"""Order, repeats, gaps, and the time of acknowledgements."""

from __future__ import annotations

import pytest

from client import errors, inflow
from client.api import text_body
from client.updates import Numbered, StreamEvent, StreamGone
from protocol import events, ids, messages

ME = 7
STREAM = ids.direct_stream(ME, 9)
GROUP = ids.group_stream(1, 1)


def message(seq: int, *, stream: bytes = STREAM, n: int | None = None, own: bool = False, size: int = 50) -> StreamEvent:
    event = events.Message(seq if n is None else n, 1000 + seq, 9, 90, seq, text_body(str(seq)))
    return StreamEvent(stream, seq, event, size, own)


def fresh(strict: bool = True, cursors: tuple[tuple[bytes, int], ...] = ()) -> inflow.Inflow:
    found = inflow.Inflow(strict)
    found.restore(cursors)
    found.user = ME
    return found


def caught_up(cursors: tuple[tuple[bytes, int], ...] = ()) -> inflow.Inflow:
    found = fresh(cursors=cursors)
    found.caught_up()
    return found


def seqs(items: object) -> list[int]:
    assert isinstance(items, list | tuple)
    return [item.seq for item in items]


def test_a_stream_begins_wherever_the_server_begins_it() -> None:
    flow = fresh()
    assert seqs(flow.event(message(500), 0)) == [500]
    assert seqs(flow.event(message(501), 0)) == [501]


def test_what_comes_again_is_dropped() -> None:
    flow = fresh()
    for seq in (1, 2, 3):
        flow.event(message(seq), 0)
    assert not flow.event(message(2), 0)
    assert not flow.sent(message(3, own=True), True)
    assert seqs(flow.event(message(4), 0)) == [4]


def test_a_gap_is_a_breach_of_the_contract() -> None:
    flow = fresh()
    flow.event(message(1), 0)
    with pytest.raises(errors.ProtocolViolation, match="expected seq 2, got 4"):
        flow.event(message(4), 0)


def test_without_strictness_a_gap_is_written_down_and_passed() -> None:
    flow = fresh(strict=False)
    flow.event(message(1), 0)
    assert seqs(flow.event(message(4), 0)) == [4]
    assert len(flow.violations) == 1
    assert seqs(flow.event(message(5), 0)) == [5]


def test_who_is_let_in_again_goes_on_there() -> None:
    flow = fresh()
    flow.event(message(1, stream=GROUP), 0)
    back = events.MembersAdded(1, 1040, 9, 90, 5, (3, ME))
    assert seqs(flow.event(StreamEvent(GROUP, 40, back, 60), 0)) == [40]
    assert seqs(flow.event(message(41, stream=GROUP, n=2), 3000)) == [41]


def test_counts_and_times_that_do_not_add_up_are_a_breach() -> None:
    flow = fresh()
    flow.event(message(1), 0)
    with pytest.raises(errors.ProtocolViolation, match="n 5"):
        flow.event(message(2, n=5), 0)


def test_an_own_event_takes_its_place_behind_those_before_it() -> None:
    flow = caught_up()
    flow.event(message(1), 0)
    assert not flow.sent(message(4, own=True), True)
    assert seqs(flow.event(message(2), 0)) == [2]
    assert seqs(flow.event(message(3), 0)) == [3, 4]
    assert seqs(flow.event(message(5), 0)) == [5]


def test_an_own_event_that_comes_by_itself_is_given_once() -> None:
    flow = caught_up()
    flow.event(message(1), 0)
    flow.sent(message(3, own=True), True)
    assert seqs(flow.event(message(2), 0)) == [2, 3]
    assert not flow.event(message(3), 0)


def test_before_caught_up_the_first_own_event_waits_for_what_was_missed() -> None:
    flow = fresh()
    assert not flow.sent(message(12, own=True), True)
    assert seqs(flow.event(message(10), 0)) == [10]
    assert seqs(flow.event(message(11), 0)) == [11, 12]


def test_caught_up_says_that_an_own_event_stands_first() -> None:
    flow = fresh()
    flow.sent(message(12, own=True), True)
    assert seqs(flow.caught_up()) == [12]


def test_after_caught_up_an_own_event_is_given_at_once() -> None:
    assert seqs(caught_up().sent(message(12, own=True), True)) == [12]


def test_what_stands_before_an_own_event_that_came_too_early_is_late_and_not_lost() -> None:
    """A device that falls behind with the very first event of a stream: nothing tells it so."""
    flow = caught_up()
    assert seqs(flow.sent(message(12, own=True), True)) == [12]
    flow.taken(message(12, own=True), 0)
    assert flow.cursors() == {}, "a restart must not take what is missing for known"
    assert seqs(flow.event(message(10), 0)) == [10]
    assert seqs(flow.event(message(11), 0)) == [11]
    assert not flow.event(message(10), 0)
    assert not flow.event(message(12), 0)
    assert seqs(flow.event(message(13), 0)) == [13]
    assert flow.cursors() == {STREAM: 12}


def test_a_stored_cursor_drops_what_was_taken_and_allows_what_the_server_knows_better() -> None:
    flow = fresh(cursors=((STREAM, 90),))
    assert not flow.event(message(90), 0)
    assert seqs(flow.event(message(95), 0)) == [95]
    with pytest.raises(errors.ProtocolViolation):
        flow.event(message(97), 0)


def test_events_behind_one_that_is_being_fetched_wait_for_it() -> None:
    flow = caught_up()
    flow.event(message(1), 0)
    assert not flow.sent(message(2, own=True), complete=False)
    assert not flow.event(message(3), 0)
    assert seqs(flow.completed(message(2, own=True))) == [2, 3]
    assert not flow.completed(message(2, own=True))


def test_expired_events_leave_no_gap() -> None:
    flow = fresh()
    flow.event(message(1), 0)
    gone = StreamGone(STREAM, 2, 5, 30)
    assert list(flow.gone(gone, 0)) == [gone]
    assert not flow.gone(gone, 0)
    assert seqs(flow.event(message(6), 0)) == [6]
    flow.taken(gone, 0)
    assert flow.acks(1.0) == [messages.Ack(0, ((STREAM, 5),))]


def removed(seq: int, n: int) -> StreamEvent:
    return StreamEvent(GROUP, seq, events.MemberRemoved(n, 1000 + seq, 9, 90, seq, ME), 60)


def joined(seq: int, n: int) -> StreamEvent:
    return StreamEvent(GROUP, seq, events.MemberJoined(n, 1000 + seq, ME, 70, seq, ME, 4), 60, own=True)


def test_who_comes_back_by_a_link_expects_nothing_of_the_time_between() -> None:
    flow = caught_up()
    flow.event(message(1, stream=GROUP), 0)
    flow.event(removed(2, 1), 0)
    assert seqs(flow.sent(joined(50, 9), True)) == [50]
    assert seqs(flow.event(message(51, stream=GROUP, n=10), 0)) == [51]


def test_coming_back_waits_for_what_was_said_before_one_was_removed() -> None:
    """The answer to Join overtakes the events of a device that is behind."""
    flow = caught_up()
    flow.event(message(1, stream=GROUP), 0)
    assert not flow.sent(joined(50, 9), True)
    assert seqs(flow.event(message(2, stream=GROUP), 0)) == [2]
    assert seqs(flow.event(removed(3, 2), 0)) == [3, 50]
    assert seqs(flow.event(message(51, stream=GROUP, n=10), 0)) == [51]


def test_what_was_still_being_fetched_when_one_was_removed_and_came_back_keeps_its_place() -> None:
    flow = caught_up()
    flow.event(message(1, stream=GROUP), 0)
    added = StreamEvent(GROUP, 2, events.MembersAdded(1, 1002, ME, 70, 2, (3,)), 60, own=True, missing=("users",))
    assert not flow.sent(added, complete=False)
    assert not flow.event(removed(3, 1), 0)
    assert not flow.sent(joined(50, 9), True)
    assert not flow.event(message(51, stream=GROUP, n=10), 0)
    assert seqs(flow.completed(added)) == [2, 3, 50, 51]


def test_who_asked_to_join_and_is_let_in_goes_on_there() -> None:
    flow = caught_up()
    asked = StreamEvent(GROUP, 5, events.JoinRequested(1, 1005, ME, 70, 1, 1), 60, own=True)
    assert seqs(flow.sent(asked, True)) == [5]
    assert seqs(flow.sent(joined(30, 9), True)) == [30]


# --- acknowledgements -------------------------------------------------------------------------------------------------


def take(flow: inflow.Inflow, item: Numbered, now: float) -> None:
    if isinstance(item, StreamEvent):
        flow.event(item, now)
    flow.taken(item, now)


def test_nothing_is_acknowledged_before_it_is_taken() -> None:
    flow = fresh()
    flow.event(message(1), 0)
    assert flow.deadline() is None
    assert flow.acks(100.0) == []


def test_one_frame_acknowledges_every_stream_after_a_tenth_of_a_second() -> None:
    flow = fresh()
    other = ids.direct_stream(ME, 10)
    take(flow, message(1), 10.0)
    take(flow, message(2), 10.05)
    take(flow, message(8, stream=other), 10.06)
    assert flow.deadline() == pytest.approx(10.1)
    assert flow.acks(10.09) == []
    assert flow.acks(10.1) == [messages.Ack(0, ((STREAM, 2), (other, 8)))]
    assert flow.deadline() is None


def test_large_groups_are_acknowledged_once_a_second() -> None:
    flow = fresh()
    flow.group_size(GROUP, 33, 10.0)
    take(flow, message(1, stream=GROUP), 10.0)
    assert flow.deadline() == pytest.approx(11.0)
    small = events.MemberLeft(1, 2000, 9, 90, 2)
    take(flow, StreamEvent(GROUP, 2, small, 60), 10.0)
    assert flow.deadline() == pytest.approx(10.1)


def test_the_size_of_a_group_is_asked_for_once_and_until_then_it_counts_as_large() -> None:
    flow = fresh()
    take(flow, message(1, stream=GROUP), 10.0)
    take(flow, message(2, stream=GROUP), 10.0)
    assert flow.unsized == [GROUP]
    assert flow.deadline() == pytest.approx(11.0)
    flow.group_size(GROUP, 3, 10.2)
    assert flow.deadline() == pytest.approx(10.3)
    grown = events.MembersAdded(2, 2000, 9, 90, 3, tuple(range(100, 130)))
    flow.acks(10.3)
    take(flow, StreamEvent(GROUP, 3, grown, 60), 20.0)
    assert flow.deadline() == pytest.approx(21.0)


def test_the_size_of_a_group_that_one_was_thrown_out_of_is_not_asked_for() -> None:
    flow = fresh()
    flow.event(StreamEvent(GROUP, 5, events.MemberRemoved(1, 2000, 9, 90, 1, ME, False), 60), 0.0)
    assert flow.unsized == []


def test_of_many_breaches_the_newest_are_remembered() -> None:
    flow = fresh(strict=False)
    for seq in range(1, 3 * inflow.VIOLATIONS, 2):
        flow.event(message(seq), 0)
    assert len(flow.violations) == inflow.VIOLATIONS


def test_half_a_window_of_events_is_acknowledged_at_once() -> None:
    flow = fresh()
    for seq in range(1001, 1001 + 127):
        take(flow, message(seq), 10.0)
    assert flow.deadline() == pytest.approx(10.1)
    take(flow, message(1128), 10.0)
    assert flow.acks(10.0) == [messages.Ack(0, ((STREAM, 1128),))]


def test_half_a_window_of_bytes_is_acknowledged_at_once() -> None:
    flow = fresh()
    for seq in range(1, 9):
        take(flow, message(seq, size=16 * 1024), 10.0)
    assert flow.deadline() == 10.0


def test_a_repeat_of_what_was_taken_is_acknowledged_again() -> None:
    flow = fresh()
    take(flow, message(1), 10.0)
    flow.acks(11.0)
    flow.event(message(1), 20.0)
    assert flow.acks(20.2) == [messages.Ack(0, ((STREAM, 1),))]


def test_a_repeat_is_acknowledged_without_a_wait_for_the_line_may_break_before_it_is_over() -> None:
    flow = fresh(cursors=((STREAM, 90),))
    flow.event(message(90), 10.0)
    assert flow.acks(10.0) == [messages.Ack(0, ((STREAM, 90),))]


def test_a_repeat_of_what_waits_for_the_application_is_not_acknowledged() -> None:
    flow = fresh()
    flow.event(message(1), 10.0)
    flow.event(message(1), 20.0)
    assert flow.deadline() is None


def test_many_streams_are_acknowledged_within_the_limit_of_the_frame() -> None:
    flow = fresh()
    for user in range(10, 10 + 300):
        take(flow, message(1, stream=ids.direct_stream(ME, user)), 10.0)
    assert [len(ack.cursors) for ack in flow.acks(11.0)] == [256, 44]


def test_an_orderly_close_acknowledges_what_is_not_due_yet() -> None:
    flow = fresh()
    take(flow, message(1), 10.0)
    assert flow.acks(10.0, closing=True) == [messages.Ack(0, ((STREAM, 1),))]


def test_a_request_to_join_is_not_acknowledged_in_a_stream_one_does_not_read() -> None:
    flow = caught_up()
    asked = StreamEvent(GROUP, 5, events.JoinRequested(1, 2000, ME, 70, 1, 1), 60, True, ("kind", "invite"))
    flow.sent(asked, True)
    flow.taken(asked, 0)
    assert flow.deadline() is None


def test_what_the_application_takes_late_of_before_all_began_anew_acknowledges_nothing() -> None:
    flow = fresh()
    flow.event(message(8), 0)
    flow.begin_anew()
    flow.begun_anew()
    flow.taken(message(8), 0)
    flow.event(message(3), 0)
    flow.taken(message(8), 0)
    assert flow.deadline() is None
    assert flow.cursors() == {}
