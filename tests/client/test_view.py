"""What the terminal chat shows, without a terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from rich.cells import cell_len

from client import view, wording
from client.api import mention, text_body
from client.state import State
from client.updates import StreamEvent
from client.view import Line, View
from protocol import codes, events, ids, messages

ME, BEN, CARA = 7, 8, 9
DIRECT = ids.direct_stream(ME, BEN)
NOTE = ids.direct_stream(ME, ME)
GROUP = ids.group_stream(80, 1)
#: 2026-01-02 03:04:00 UTC
NOON = 1767323040000


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class World:
    def __init__(self) -> None:
        self.view = View(State(ME), {BEN: "ben", CARA: "cara"})
        self.seqs: dict[bytes, int] = {}

    def happens(self, stream: bytes, kind: type[events.Event], *fields: Any, by: int = BEN) -> int:
        seq = self.seqs[stream] = self.seqs.get(stream, 0) + 1
        event: Any = kind(seq, NOON + seq * 60_000, by, 80, seq, *fields)
        self.view.state.apply(StreamEvent(stream, seq, event, 50))
        return seq

    def says(self, text: str, by: int = BEN, stream: bytes = DIRECT, mentions: Any = (), reply_to: int = 0) -> int:
        return self.happens(stream, events.Message, text_body(text, mentions), reply_to, by=by)

    def shown(self, width: int = 60) -> list[str]:
        return [plain(line) for line in self.view.message_lines(width, NOON)]

    def receipt(self, user: int, delivered: int, read: int, stream: bytes = DIRECT) -> None:
        self.view.state.heard(messages.Receipt(0, stream, user, delivered, read))


def plain(line: Line) -> str:
    return "".join(text for _, text in line)


@pytest.fixture
def world() -> World:
    found = World()
    found.view.selected = DIRECT
    return found


def test_a_conversation_reads_like_one(world: World) -> None:
    world.says("hi")
    world.says("hello", by=ME)
    assert world.shown() == ["— Friday, 02 January 2026 —", "   1 03:05 ben: hi", "   2 03:06 you: hello ✓"]


def test_the_mark_behind_an_own_message_tells_how_far_it_is(world: World) -> None:
    world.says("hello", by=ME)
    assert world.shown()[-1].endswith("hello ✓")
    world.receipt(BEN, 1, 0)
    assert world.shown()[-1].endswith("hello ✓✓")
    world.receipt(BEN, 1, 1)
    assert world.shown()[-1].endswith("hello ✔✔")


def test_in_a_group_the_mark_waits_for_everybody(world: World) -> None:
    world.view.selected = GROUP
    world.happens(GROUP, events.GroupCreated, "Friends", "", "", (BEN, CARA), by=ME)
    world.says("hello", by=ME, stream=GROUP)
    world.receipt(BEN, 2, 2, GROUP)
    assert world.shown()[-1].endswith("hello ✓")
    world.receipt(CARA, 2, 1, GROUP)
    assert world.shown()[-1].endswith("hello ✓✓")
    world.receipt(CARA, 2, 2, GROUP)
    assert world.shown()[-1].endswith("hello ✔✔")
    world.view.counts[GROUP] = messages.ReceiptCount(0, GROUP, 2, 40, 12)
    assert world.shown()[-1].endswith("hello ✓40 ✔12")


def test_the_note_to_self_waits_for_nobody(world: World) -> None:
    world.view.selected = NOTE
    world.says("milk", by=ME, stream=NOTE)
    assert world.shown()[-1].endswith("milk ✓")
    assert world.view.title(NOTE) == "note to self"


def test_edits_replies_and_reactions_show(world: World) -> None:
    world.says("helo")
    world.happens(DIRECT, events.Edited, 1, text_body("hello"))
    world.says("hi there", by=ME, reply_to=1)
    world.happens(DIRECT, events.Reacted, 1, "👍", by=ME)
    assert world.shown()[1:] == [
        "   1 03:05 ben: hello (edited)",
        "             👍 you",
        "           ┌ ben: hello",
        "   3 03:07 you: hi there ✓",
    ]


def test_a_deleted_message_is_gone_and_its_reply_names_the_number(world: World) -> None:
    world.says("regret")
    world.says("what?", by=ME, reply_to=1)
    world.happens(DIRECT, events.Deleted, 1)
    assert world.shown()[1:] == ["           ┌ #1", "   2 03:06 you: what? ✓"]


def test_what_waits_for_the_server_shows_below(world: World) -> None:
    world.view.waiting[DIRECT] = [view.Waiting("on its way"), view.Waiting("not this", "Not allowed")]
    assert world.shown() == ["you: on its way …", "you: not this ✗ Not allowed (Esc drops it)"]


def test_of_a_long_text_that_waits_only_the_beginning_shows(world: World) -> None:
    world.view.waiting[DIRECT] = [view.Waiting("word " * 4000, "Longer than the limit")]
    shown = world.shown()
    assert shown[0].startswith("you: word word")
    assert len(shown) <= view.WAITING_LINES + 1
    assert "20000 characters ✗ Longer than the limit" in " ".join(shown)


def test_a_mark_is_not_taken_back_when_somebody_comes_or_goes(world: World) -> None:
    world.view.selected = GROUP
    world.happens(GROUP, events.GroupCreated, "Friends", "", "", (BEN, CARA), by=ME)
    world.says("hello", by=ME, stream=GROUP)
    world.receipt(BEN, 2, 2, GROUP)
    world.receipt(CARA, 2, 1, GROUP)
    delivered = "hello ✓✓"
    assert world.shown()[-1].endswith(delivered)
    world.happens(GROUP, events.MembersAdded, (10,), by=ME)
    assert world.shown()[2].endswith(delivered), "what was before somebody came is not theirs to get"
    for user in (10, CARA):
        world.happens(GROUP, events.MemberLeft, 0, by=user)
    assert world.shown()[2].endswith("hello ✔✔")
    world.happens(GROUP, events.MemberLeft, 0, by=BEN)
    assert world.shown()[2].endswith("hello ✔✔")
    assert world.view.header(NOON) == "Friends · 1 member"


def test_a_group_that_one_left_keeps_its_title(world: World) -> None:
    world.view.selected = GROUP
    world.happens(GROUP, events.GroupCreated, "Friends", "", "", (ME, CARA))
    assert world.view.title(GROUP) == "Friends"
    world.happens(GROUP, events.MemberRemoved, ME, False)
    assert world.view.header(NOON) == "Friends · you are no member"


def test_the_time_to_the_next_try_counts_down_before_the_reason(world: World) -> None:
    world.view.connection, world.view.reason, world.view.again_at = (
        "offline",
        "no server\nlistens there" + "!" * 100 + "; x",
        50.0,
    )
    assert world.view.connection_line(47.0).startswith("offline, again in 3 s (no server listens there!")
    assert world.view.connection_line(49.0).startswith("offline, again in 1 s")
    assert world.view.connection_line(50.1).startswith("offline, trying again")
    assert cell_len(world.view.connection_line(47.0)) < 90
    world.view.reason = codes.RESTART.text
    assert world.view.connection_line(49.9) == "offline, trying again (The server is restarting)"


def test_what_was_typed_and_not_sent_has_a_sign_in_the_list(world: World) -> None:
    world.says("hi", by=ME)
    world.view.unsent[DIRECT] = "half a th"
    assert "✎" in plain(world.view.list_lines(24, 5)[0])


def test_a_conversation_with_nothing_but_what_was_typed_is_on_the_list(world: World) -> None:
    world.says("hi")
    world.view.state.stream(NOTE)
    world.view.unsent[NOTE] = "half a th"
    assert [found.stream for found in world.view.conversations()] == [DIRECT, NOTE]


@given(st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1, max_size=100), st.integers(6, 40))
def test_a_narrow_pane_loses_none_of_the_words(text: str, width: int) -> None:
    """However long the name before them is."""
    world = World()
    world.view.selected = DIRECT
    world.view.names[BEN] = "Benjamin Theodore the Third of Somewhere"
    world.says(text)
    lines = world.shown(width)[1:]
    assert all(cell_len(line) <= width for line in lines)
    assert wording.safe(text) in "".join(line.strip() for line in lines)


def test_group_changes_are_told_in_words(world: World) -> None:
    world.view.selected = GROUP
    world.happens(GROUP, events.GroupCreated, "Friends", "", "", (ME, CARA))
    world.happens(GROUP, events.MemberLeft, 0, by=CARA)
    world.happens(GROUP, events.TimerChanged, 86400, by=ME)
    assert [line[11:] for line in world.shown(90)[1:]] == [
        "ben made the group “Friends” with you, cara",
        "cara left",
        "you: messages disappear after 1 day from now on",
    ]


def test_the_list_shows_counts_and_the_newest_first(world: World) -> None:
    world.view.selected = b""
    world.says("one")
    world.says("two", mentions=[mention("@me", "@me", ME)])
    world.happens(GROUP, events.GroupCreated, "Friends", "", "", (ME,))
    world.happens(GROUP, events.TimerChanged, 60)
    world.happens(GROUP, events.TimerChanged, 0)
    lines = [plain(line) for line in world.view.list_lines(20, 10)]
    assert lines == ["# Friends           ", "  ben             @2"]


def test_pinned_conversations_come_first_and_archived_ones_not_at_all(world: World) -> None:
    account = ids.account_stream(ME)
    world.view.selected = b""
    world.says("one")
    world.says("note", by=ME, stream=NOTE)
    world.happens(account, events.ConversationSet, NOTE, True, 0, False, by=ME)
    assert [found.stream for found in world.view.conversations()] == [NOTE, DIRECT]
    world.happens(account, events.ConversationSet, NOTE, True, 0, True, by=ME)
    assert [found.stream for found in world.view.conversations()] == [DIRECT]
    world.view.archived = True
    assert NOTE in [found.stream for found in world.view.conversations()]


def test_moving_goes_round_the_list(world: World) -> None:
    world.view.selected = b""
    assert world.view.move(1) == b""
    world.says("one")
    world.says("note", by=ME, stream=NOTE)
    first, second = (found.stream for found in world.view.conversations())
    assert world.view.move(1) == first
    world.view.selected = first
    assert world.view.move(1) == second
    world.view.selected = second
    assert world.view.move(1) == first


def test_typing_is_forgotten_after_a_while(world: World) -> None:
    world.view.typed(messages.MemberTyping(0, DIRECT, BEN, True), 100.0)
    assert world.view.typing_line(105.9) == "ben is typing …"
    assert world.view.typing_line(106.0) == ""
    world.view.typed(messages.MemberTyping(0, DIRECT, BEN, False), 101.0)
    assert world.view.typing_line(101.0) == ""


def test_the_header_tells_how_somebody_is(world: World) -> None:
    assert world.view.header(NOON) == "ben"
    world.view.presence[BEN] = messages.Presence(0, BEN, True)
    assert world.view.header(NOON) == "ben · online"
    world.view.presence[BEN] = messages.Presence(0, BEN, False, NOON - 3_600_000)
    assert world.view.header(NOON) == "ben · last seen 02:04"
    world.happens(DIRECT, events.Message, text_body("hello stranger"), 0, 0, 0, events.Flag.REQUEST)
    assert "message request" in world.view.header(NOON)


def test_names_that_are_not_known_are_asked_for(world: World) -> None:
    world.says("hi", by=55)
    world.happens(DIRECT, events.Reacted, 1, "👍", by=66)
    assert world.view.strangers() == {55, 66}


def test_text_of_others_cannot_move_the_cursor(world: World) -> None:
    world.says("a\x1b[2Jb\x9bc\u202ed")
    assert "\x1b" not in world.shown()[-1]
    assert world.shown()[-1].endswith("a\ufffd[2Jb\ufffdc\ufffdd")
    world.view.names[BEN] = "b\x07en\nX"
    assert world.view.name(BEN) == "b\ufffden X"


@given(st.text(max_size=300), st.integers(4, 60))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    lines = view.wrap(wording.safe(text), width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == wording.safe(text).replace("\n", "").replace(" ", "")


def test_a_first_line_with_less_room_does_not_break_what_follows() -> None:
    assert view.wrap("https://example.org/a/long/address and more", 30, 12) == [
        "https://exam",
        "ple.org/a/long/address and",
        "more",
    ]


def test_what_is_no_text_can_be_shown() -> None:
    assert wording.safe("a\udcff").encode() == "a\ufffd".encode()


@given(st.text(max_size=300), st.integers(30, 100), st.sampled_from([ME, BEN]))
def test_every_line_of_a_message_fits_the_pane(text: str, width: int, by: int) -> None:
    world = World()
    world.view.selected = DIRECT
    world.says(text, by=by)
    assert all(cell_len(line) <= width for line in world.shown(width)[1:])


@pytest.mark.parametrize("kind", [kind for number, kind in events.KINDS.items() if 1 < number < 32])
def test_every_item_has_words(kind: type[events.Event]) -> None:
    values = {
        "users": (BEN,),
        "members": (BEN,),
        "role": events.Role.ADMIN,
        "permissions": events.Permissions(),
        "title": "T",
        "description": "",
        "picture": "",
    }
    fields: list[Any] = [values.get(name, 8) for name in kind.__struct_fields__]
    assert "cannot show" not in wording.change(kind(*fields), lambda user: f"user {user}")


def test_a_body_of_a_newer_kind_is_named_as_such() -> None:
    assert "cannot show" in wording.body(Raw(b"\x92\x63\x01"))
    assert wording.body(Raw(b"\x92\x03\xc4\x01x")) == "[an encrypted message]"


def test_a_refusal_is_told_with_what_the_server_adds() -> None:
    assert wording.refusal(codes.Refused(codes.EMPTY)) == codes.EMPTY.text
    assert wording.refusal(codes.Refused(codes.TOO_LONG, "body")) == f"{codes.TOO_LONG.text} (body)"
