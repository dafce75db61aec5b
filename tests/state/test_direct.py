"""Two people: who may write to whom, message requests, and what becomes of single messages."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from actors.state import direct, log, messaging, rules
from auth.policy import Facts
from protocol import codes, events, ids, messages
from protocol.events import Audience, Privacy
from storage import records
from tests.state.world import NOW, Host, picture, text

ASHA, BEN, EVE = 1, 2, 3
STREAM = ids.direct_stream(ASHA, BEN)
LIMITS = rules.Rules(edits=3)
DAY = 24 * 60 * 60 * 1000

OPEN = Facts("open")
CLOSED = Facts("closed", privacy=Privacy(write=Audience.CONTACTS, requests=False))
BY_REQUEST = Facts("by request", privacy=Privacy(write=Audience.CONTACTS))


def pair(sender: Facts | None = OPEN, other: Facts | None = OPEN) -> direct.Pair:
    return direct.Pair(sender, other)


def blocking(*users: int) -> Facts:
    return Facts("blocking", blocked=frozenset(users))


def conversation(one: int = ASHA, other: int = BEN) -> Host[direct.Direct]:
    return Host(lambda: direct.Direct(ids.direct_stream(one, other), LIMITS))


def send(words: str = "hi", *, reply_to: int = 0, flags: int = 0) -> messages.Send:
    return messages.Send(0, 0, STREAM, text(words), reply_to, flags)


def edit(target: int = 1, words: str = "ho") -> messages.Edit:
    return messages.Edit(0, 0, STREAM, target, text(words))


def delete(target: int = 1) -> messages.Delete:
    return messages.Delete(0, 0, STREAM, target)


def react(target: int = 1, emoji: str = "👍") -> messages.React:
    return messages.React(0, 0, STREAM, target, emoji)


def timer(seconds: int = 60) -> messages.SetTimer:
    return messages.SetTimer(0, 0, STREAM, seconds)


def accept() -> messages.AcceptRequest:
    return messages.AcceptRequest(0, 0, STREAM)


def forward() -> messages.Forward:
    return messages.Forward(0, 0, STREAM, STREAM, 1)


COPY = log.Copied(text("copied"), 1)


def started() -> Host[direct.Direct]:
    """Asha and Ben have written to each other."""
    host = conversation()
    host.do(ASHA, send("hi"), pair())
    host.do(BEN, send("hello"), pair())
    return host


def message(accepted: log.Accepted) -> events.Message:
    assert isinstance(accepted.event, events.Message)
    return accepted.event


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame", [send(), edit(), delete(), react(), timer(), accept(), forward()], ids=lambda f: type(f).__name__
)
def test_nobody_else_may_do_anything(frame: Any) -> None:
    assert started().refused(EVE, msgspec.structs.replace(frame), pair(), copied=COPY) is codes.NOT_ALLOWED


@pytest.mark.parametrize(
    "context",
    [pair(OPEN, blocking(ASHA)), pair(blocking(BEN), OPEN), pair(OPEN, None), pair(None, OPEN)],
    ids=["blocked", "blocks the other", "the other is gone", "gone"],
)
@pytest.mark.parametrize("frame", [send(), edit(), react(2), timer(), forward()], ids=lambda f: type(f).__name__)
def test_past_a_block_goes_nothing_new_not_even_an_edit_a_reaction_or_the_timer(frame: Any, context: direct.Pair) -> None:
    host = started()
    assert host.refused(ASHA, msgspec.structs.replace(frame), context, copied=COPY) is codes.NOT_ALLOWED
    with pytest.raises(codes.Refused):
        host.state.check_ephemeral(host.command(ASHA, send()), NOW, context)


def test_what_one_said_can_be_taken_back_in_spite_of_a_block() -> None:
    host = started()
    host.do(ASHA, delete(1), pair(OPEN, blocking(ASHA)))
    assert host.disk.fold(1).deleted


@pytest.mark.parametrize(
    "frame", [send(), react(), timer(), forward(), accept(), edit(), delete()], ids=lambda f: type(f).__name__
)
def test_a_stranger_cannot_begin_anything_with_one_who_wants_neither_messages_nor_requests(frame: Any) -> None:
    host = conversation()
    assert host.refused(ASHA, msgspec.structs.replace(frame), pair(OPEN, CLOSED), copied=COPY) is codes.NOT_ALLOWED
    assert not host.disk.members


def test_a_contact_may_write_where_only_contacts_may() -> None:
    facts = msgspec.structs.replace(CLOSED, contacts=frozenset({ASHA}))
    assert message(conversation().do(ASHA, send(), pair(OPEN, facts))).flags == 0


def test_the_first_event_makes_both_members_from_seq_1_and_no_other_event_does() -> None:
    host = conversation()
    assert host.do(ASHA, send(), pair()).members == [records.Membership(user, STREAM, 1) for user in (ASHA, BEN)]
    assert host.do(BEN, send(), pair()).members == ()
    assert host.disk.members == {(ASHA, 1): records.OPEN_END, (BEN, 1): records.OPEN_END}


def test_the_note_to_self_needs_nobodys_consent_and_has_one_member() -> None:
    host = conversation(ASHA, ASHA)
    hermit = Facts("hermit", privacy=Privacy(write=Audience.NOBODY, requests=False))
    host.do(ASHA, send(), pair(hermit, hermit))
    host.do(ASHA, react(1), pair(hermit, hermit))
    assert host.state.members() == (ASHA,)
    assert host.disk.members == {(ASHA, 1): records.OPEN_END}
    assert host.refused(ASHA, accept(), pair(hermit, hermit)) is codes.NOT_ALLOWED
    assert host.refused(BEN, send(), pair()) is codes.NOT_ALLOWED


# --- message requests -------------------------------------------------------------------------------------------------


def requested(count: int = 1) -> Host[direct.Direct]:
    """Asha, a stranger, has sent Ben some messages."""
    host = conversation()
    for _ in range(count):
        assert message(host.do(ASHA, send(), pair(OPEN, BY_REQUEST))).flags == events.Flag.REQUEST
    assert host.state.request_for == BEN
    assert host.state.hides_from(ASHA)
    assert not host.state.hides_from(BEN)
    return host


def test_a_stranger_has_three_messages_until_the_request_is_accepted() -> None:
    host = requested(3)
    for frame in (send(), forward()):
        assert host.refused(ASHA, frame, pair(OPEN, BY_REQUEST), copied=COPY) is codes.TOO_MANY
    host.crash()
    assert host.refused(ASHA, send(), pair(OPEN, BY_REQUEST)) is codes.TOO_MANY


@pytest.mark.parametrize("frame", [react(1), timer()], ids=lambda f: type(f).__name__)
def test_while_a_request_waits_nothing_but_those_messages_reaches_the_other(frame: Any) -> None:
    host = requested()
    assert host.refused(ASHA, msgspec.structs.replace(frame), pair(OPEN, BY_REQUEST)) is codes.NOT_ALLOWED
    with pytest.raises(codes.Refused):
        host.state.check_ephemeral(host.command(ASHA, send()), NOW, pair(OPEN, BY_REQUEST))


def test_a_request_can_be_corrected_and_taken_back_even_when_no_more_messages_are_left() -> None:
    host = requested(3)
    host.do(ASHA, edit(1), pair(OPEN, BY_REQUEST))
    host.do(ASHA, delete(1), pair(OPEN, BY_REQUEST))
    assert host.refused(ASHA, send(), pair(OPEN, BY_REQUEST)) is codes.TOO_MANY


def test_accepting_opens_both_ways_for_ever() -> None:
    host = requested(3)
    assert isinstance(host.do(BEN, accept(), pair()).event, events.RequestAccepted)
    assert (host.state.request_for, host.state.hides_from(ASHA)) == (0, False)
    for _ in range(5):
        assert message(host.do(ASHA, send(), pair(OPEN, CLOSED))).flags == 0
        assert message(host.do(BEN, send(), pair(BY_REQUEST, CLOSED))).flags == 0
    assert host.refused(BEN, accept(), pair()) is codes.NOT_ALLOWED


@pytest.mark.parametrize("asker", [OPEN, BY_REQUEST, CLOSED], ids=lambda facts: facts.name)
def test_an_answer_accepts_however_closed_the_one_is_who_asked(asker: Facts) -> None:
    host = conversation()
    host.do(ASHA, send(), pair(asker, BY_REQUEST))
    assert message(host.do(BEN, send(), pair(BY_REQUEST, asker))).flags == 0
    assert host.state.request_for == 0
    assert message(host.do(BEN, send(), pair(BY_REQUEST, asker))).flags == 0
    assert message(host.do(ASHA, send(), pair(asker, BY_REQUEST))).flags == 0


def test_one_cannot_accept_ones_own_request() -> None:
    assert requested().refused(ASHA, accept(), pair()) is codes.NOT_ALLOWED


def test_where_nobody_asked_there_is_nothing_to_accept() -> None:
    assert started().refused(BEN, accept(), pair()) is codes.NOT_ALLOWED


def test_who_was_written_to_may_answer_though_the_writer_closed_the_door_since() -> None:
    host = conversation()
    host.do(ASHA, send(), pair())
    assert message(host.do(BEN, send(), pair(OPEN, CLOSED))).flags == 0


def test_who_was_never_answered_meets_a_door_that_was_closed_since() -> None:
    host = conversation()
    host.do(ASHA, send(), pair())
    assert host.refused(ASHA, send(), pair(OPEN, CLOSED)) is codes.NOT_ALLOWED


# --- sending ----------------------------------------------------------------------------------------------------------


def test_a_client_cannot_set_the_flags_that_are_the_servers() -> None:
    accepted = conversation().do(ASHA, send(flags=0xFF), pair())
    assert message(accepted).flags == events.Flag.URGENT | events.Flag.SILENT
    assert message(accepted).hops == message(accepted).expires_at == 0


def test_a_reply_names_a_seq_that_exists() -> None:
    host = started()
    assert message(host.do(ASHA, send(reply_to=2), pair())).reply_to == 2
    assert host.refused(ASHA, send(reply_to=4), pair()) is codes.NOT_ALLOWED
    assert host.refused(ASHA, send(reply_to=2**53 - 1), pair()) is codes.NOT_ALLOWED


def test_only_the_two_can_be_mentioned_and_each_is_counted_once() -> None:
    host = started()
    assert host.refused(ASHA, send(), pair(), mentions=(BEN, EVE)) is codes.BAD_MENTION
    assert host.do(ASHA, send(), pair(), mentions=(BEN, BEN)).mentions == [(BEN, 3)]
    assert host.refused(ASHA, edit(1), pair(), mentions=(EVE,)) is codes.BAD_MENTION
    with pytest.raises(codes.Refused):
        host.state.check_ephemeral(host.command(ASHA, send(), mentions=(EVE,)), NOW, pair())


def test_a_message_to_the_other_may_be_ephemeral() -> None:
    host = started()
    before = picture(host.state)
    host.state.check_ephemeral(host.command(ASHA, send()), NOW, pair())
    assert picture(host.state) == before


# --- the timer --------------------------------------------------------------------------------------------------------


def test_messages_expire_by_the_timer_of_their_moment_and_by_the_streams_own_time() -> None:
    host = started()
    host.do(BEN, timer(60), pair())
    assert message(host.do(ASHA, send(), pair())).expires_at == NOW + 60_000
    host.now -= 3_600_000  # the clock was set back
    accepted = host.do(ASHA, send(), pair())
    assert (accepted.time, message(accepted).expires_at) == (NOW, NOW + 60_000)
    assert host.disk.rows[-1].expires_at == NOW + 60_000
    assert host.do(ASHA, forward(), pair(), copied=COPY).stored.expires_at == NOW + 60_000
    host.crash()
    assert host.refused(ASHA, timer(60), pair()) is codes.NOTHING_CHANGED
    host.do(ASHA, timer(0), pair())
    assert message(host.do(ASHA, send(), pair())).expires_at == 0


def test_what_has_expired_is_gone_from_that_millisecond_on() -> None:
    host = started()
    host.do(ASHA, timer(60), pair())
    host.do(ASHA, send(), pair())
    host.now += 59_999
    host.do(BEN, react(4), pair())
    host.now += 1
    for frame in (edit(4), delete(4), react(4, "🎉")):
        assert host.refused(ASHA, frame, pair()) is codes.GONE
    host.do(BEN, react(1), pair())
    host.now -= 3_600_000  # nor does it come back when the clock is set back
    assert host.refused(ASHA, edit(4), pair()) is codes.GONE


def test_erasing_what_expired_erases_its_edits_too() -> None:
    host = started()
    host.do(ASHA, timer(60), pair())
    host.do(ASHA, send("secret one"), pair())
    host.do(ASHA, edit(4, "secret two"), pair())
    host.disk.erase_expired(NOW + 60_000)
    assert b"secret" not in b"".join(row.data for row in host.disk.rows) + b"".join(host.disk.parts.values())
    rebuilt = picture(host.rebuilt(host.disk.events_alone()))
    assert rebuilt["timer"] == 60
    with pytest.raises(codes.Refused) as caught:
        messaging.copy_of(host.disk.target(4), NOW)  # by a clock that was set back
    assert caught.value.error is codes.GONE


# --- edit, delete, react ----------------------------------------------------------------------------------------------


def test_an_edit_is_possible_until_the_last_millisecond_of_the_window() -> None:
    host = started()
    host.now = NOW + LIMITS.edit_window
    host.do(ASHA, edit(1, "just"), pair())
    fold = host.disk.fold(1)
    assert (fold.body, fold.edited_at, fold.edits) == (text("just"), host.now, (3,))
    host.now += 1
    assert host.refused(ASHA, edit(1), pair()) is codes.TOO_LATE
    host.now -= 3_600_000
    assert host.do(ASHA, edit(1), pair()).time == NOW + LIMITS.edit_window


def test_edits_of_a_message_are_limited_and_all_of_them_are_known() -> None:
    host = started()
    for number in range(LIMITS.edits):
        host.do(ASHA, edit(1, f"edit {number}"), pair())
    assert host.disk.fold(1).edits == (3, 4, 5)
    assert host.refused(ASHA, edit(1), pair()) is codes.TOO_MANY


def test_only_the_sender_edits_or_deletes() -> None:
    host = started()
    assert host.refused(BEN, edit(1), pair()) is codes.NOT_ALLOWED
    assert host.refused(BEN, delete(1), pair()) is codes.NOT_ALLOWED


@pytest.mark.parametrize("frame", [edit(9), delete(9), react(9), edit(3), delete(3), react(3)], ids=repr)
def test_what_is_no_message_cannot_be_touched_and_answers_like_what_does_not_exist(frame: Any) -> None:
    host = started()
    host.do(ASHA, timer(), pair())  # seq 3
    assert host.refused(ASHA, msgspec.structs.replace(frame), pair()) is codes.NOT_ALLOWED


def test_a_deletion_takes_the_body_of_the_message_of_its_edits_and_the_reactions() -> None:
    host = started()
    host.do(ASHA, edit(1, "second thought"), pair())
    host.do(BEN, react(1), pair())
    host.do(ASHA, delete(1), pair())
    fold = host.disk.fold(1)
    assert (fold.deleted, fold.body, fold.reactions, fold.edits) == (True, events.NIL, {}, (3,))
    first, edited = (events.decode(host.disk.rows[seq - 1].data) for seq in (1, 3))
    assert isinstance(first, events.Message)
    assert isinstance(edited, events.Edited)
    assert first.body == edited.body == events.NIL
    assert (first.sender, first.device, first.counter, first.time) == (ASHA, 10, 1, NOW)
    for frame in (edit(1), delete(1), react(1)):
        assert host.refused(ASHA, frame, pair()) is codes.GONE


def test_what_is_sent_edited_and_deleted_in_one_turn_leaves_no_body() -> None:
    host = conversation()
    host.do(ASHA, send("one"), pair())
    host.auto = False
    host.do(ASHA, edit(1, "two"), pair())
    host.do(BEN, react(1), pair())
    host.do(ASHA, delete(1), pair())
    assert host.refused(BEN, react(1), pair()) is codes.GONE
    host.flush()
    assert [getattr(events.decode(row.data), "body", events.NIL) for row in host.disk.rows] == [events.NIL] * 4
    assert host.disk.fold(1) == events.Fold(edits=(2,), deleted=True, changed=4)


def test_each_user_has_one_reaction_to_a_message() -> None:
    host = started()
    host.do(ASHA, react(1, "👍"), pair())
    host.do(BEN, react(1, "👍"), pair())
    host.do(ASHA, react(1, "🎉"), pair())
    assert host.disk.fold(1).reactions == {ASHA: "🎉", BEN: "👍"}
    assert host.refused(ASHA, react(1, "🎉"), pair()) is codes.NOTHING_CHANGED
    host.do(ASHA, react(1, ""), pair())
    assert host.disk.fold(1).reactions == {BEN: "👍"}
    assert host.refused(ASHA, react(1, ""), pair()) is codes.NOTHING_CHANGED


def test_a_reaction_is_an_emoji() -> None:
    host = started()
    assert host.refused(BEN, react(1, "a b"), pair()) is codes.UNSUPPORTED_BODY
    assert host.refused(BEN, react(1, "👍" * 11), pair()) is codes.TOO_LONG


def test_a_reaction_after_an_edit_keeps_the_edit_and_the_other_way_round() -> None:
    host = started()
    host.do(ASHA, edit(1, "new"), pair())
    host.do(BEN, react(1), pair())
    host.do(ASHA, edit(1, "newer"), pair())
    fold = host.disk.fold(1)
    assert (fold.body, fold.edits, fold.reactions) == (text("newer"), (3, 5), {BEN: "👍"})


# --- forwards ---------------------------------------------------------------------------------------------------------


def target(body: msgspec.Raw, fold: events.Fold | None = None, *, hops: int = 0, expires_at: int = 0) -> log.Target:
    return log.Target(1, events.Message(1, NOW, ASHA, 10, 1, body, 0, hops, expires_at), fold or events.Fold())


def test_a_forward_carries_the_copy_one_hop_on_and_neither_reply_nor_mentions() -> None:
    copied = messaging.copy_of(target(text("hi", BEN), hops=4), NOW)
    accepted = started().do(BEN, forward(), pair(), copied=copied)
    assert message(accepted).hops == 5
    assert events.decode_body(message(accepted).body) == events.Text("hi")
    assert (message(accepted).reply_to, accepted.mentions) == (0, ())


def test_a_forward_carries_the_body_as_it_was_last_edited() -> None:
    fold = events.Fold(body=text("edited", BEN), edited_at=NOW, edits=(2,))
    assert messaging.copy_of(target(text("hi")), NOW).body == text("hi")
    assert events.decode_body(messaging.copy_of(target(text("hi"), fold), NOW).body) == events.Text("edited")


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (None, codes.NOT_ALLOWED),
        (log.Target(1, events.TimerChanged(0, NOW, ASHA, 10, 1, 5), events.Fold()), codes.NOT_ALLOWED),
        (target(text("x"), events.Fold(deleted=True)), codes.GONE),
        (target(text("x"), expires_at=NOW), codes.GONE),
        (target(events.NIL), codes.GONE),
        (target(msgspec.Raw(msgspec.msgpack.encode([99, "of a newer program"]))), codes.UNSUPPORTED_BODY),
    ],
    ids=["missing", "no message", "deleted", "expired", "erased", "unknown body"],
)
def test_what_cannot_be_forwarded_is_refused_with_a_code(found: log.Target | None, code: codes.Error) -> None:
    with pytest.raises(codes.Refused) as caught:
        messaging.copy_of(found, NOW)
    assert caught.value.error is code


@pytest.mark.parametrize(
    "body",
    [[1, "hi", [[BEN, 0, 2]], "later"], [2, b"id", "caption", [[BEN, 0, 2]], {"later": 1}]],
    ids=["text", "media"],
)
def test_losing_its_mentions_a_body_keeps_what_this_program_does_not_know(body: list[Any]) -> None:
    raw = messaging.without_mentions(msgspec.Raw(msgspec.msgpack.encode(body)))
    wanted = [[] if item == [[BEN, 0, 2]] else item for item in body]
    assert msgspec.msgpack.decode(raw) == wanted
    assert messaging.without_mentions(raw) == raw


def test_an_encrypted_body_is_forwarded_byte_for_byte() -> None:
    raw = msgspec.Raw(msgspec.msgpack.encode([3, b"\x00secret", "later"]))
    assert messaging.without_mentions(raw) == raw


# --- watermarks -------------------------------------------------------------------------------------------------------


def test_watermarks_only_grow_read_implies_delivered_and_neither_passes_what_is_durable() -> None:
    host = started()
    assert (host.state.read, host.state.delivered) == ({ASHA: 1, BEN: 2}, {ASHA: 1, BEN: 2})
    assert host.state.mark(ASHA, 0, 2)
    assert (host.state.read[ASHA], host.state.delivered[ASHA]) == (2, 2)
    assert not host.state.mark(ASHA, 1, 1)
    assert not host.state.mark(ASHA, 2**53 - 1, 2**53 - 1)
    assert (host.state.read[ASHA], host.state.delivered[ASHA]) == (2, 2)
    assert not host.state.mark(EVE, 2, 2)
    assert EVE not in host.state.read


def test_a_load_brings_watermarks_back_also_those_of_own_messages_before_the_snapshot() -> None:
    host = started()
    host.state.mark(ASHA, 2, 0)
    host.disk.mark(ASHA, 2, 0)
    host.snapshot()
    before = picture(host.state)
    host.crash()
    assert picture(host.state) == before
    assert (host.state.delivered, host.state.read) == ({ASHA: 2, BEN: 2}, {ASHA: 1, BEN: 2})


def test_limits_are_those_it_was_given() -> None:
    host = Host(lambda: direct.Direct(STREAM, dataclasses.replace(LIMITS, request_messages=1)))
    host.do(ASHA, send(), pair(OPEN, BY_REQUEST))
    assert host.refused(ASHA, send(), pair(OPEN, BY_REQUEST)) is codes.TOO_MANY


@pytest.mark.parametrize(
    ("seconds", "days", "expected"), [(0, 0, 0), (60, 0, 60_000), (0, 1, DAY), (60, 1, 60_000), (200_000, 1, DAY)]
)
def test_a_message_is_gone_after_the_timer_or_the_nodes_own_limit_whichever_is_shorter(
    seconds: int, days: int, expected: int
) -> None:
    host = Host(lambda: direct.Direct(STREAM, dataclasses.replace(LIMITS, message_age=days * DAY)))
    host.do(ASHA, send(), pair())
    if seconds:
        host.do(ASHA, messages.SetTimer(0, 0, STREAM, seconds), pair())
    event = host.do(ASHA, send(), pair()).event
    assert isinstance(event, events.Message)
    assert event.expires_at == (host.now + expected if expected else 0)
