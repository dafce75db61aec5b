"""The account stream: every command and limit, and events that may be applied twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.state import account, rules
from auth.policy import Facts
from protocol import codes, events, ids, messages
from protocol.events import Audience, Privacy, Profile
from protocol.messages import Settings
from storage import records
from tests.state.world import Host, picture

ME, BEN, EVE = 1, 2, 3
STREAM = ids.account_stream(ME)
WITH_BEN = ids.direct_stream(ME, BEN)
KIN = ids.group_stream(10, 1)
LIMITS = rules.Rules(contacts=2, blocked=2, kept=2, hidden=4, settings=3)
EVER = 2**53 - 1


def make() -> account.Account:
    return account.Account(STREAM, LIMITS, ME, "asha")


def mine() -> Host[account.Account]:
    return Host(make)


def contact(user: int, on: bool = True, label: str = "") -> messages.SetContact:
    return messages.SetContact(0, 0, user, on, label)


def block(user: int, on: bool = True) -> messages.SetBlock:
    return messages.SetBlock(0, 0, user, on)


def draft(words: str, stream: bytes = WITH_BEN, reply_to: int = 0) -> messages.SetDraft:
    return messages.SetDraft(0, 0, stream, words, reply_to)


def keep(seq: int, starred: bool = True, pinned: bool = False) -> messages.Keep:
    return messages.Keep(0, 0, WITH_BEN, seq, starred, pinned)


def hide(*seqs: int) -> messages.Hide:
    return messages.Hide(0, 0, WITH_BEN, seqs)


def clear(upto: int, delete: bool = False) -> messages.Clear:
    return messages.Clear(0, 0, WITH_BEN, upto, delete)


def chosen(pinned: bool = False, muted_until: int = 0, archived: bool = False) -> messages.SetConversation:
    return messages.SetConversation(0, 0, WITH_BEN, pinned, muted_until, archived)


def joined(seq: int, stream: bytes = KIN) -> events.Joined:
    return events.Joined(*events.UNFILLED, stream, seq)


def parted(seq: int, stream: bytes = KIN) -> events.Parted:
    return events.Parted(*events.UNFILLED, stream, seq)


def test_nobody_else_commands_an_account() -> None:
    host = mine()
    for frame in (contact(BEN), chosen(), messages.SetProfile(0, 0, Profile("x"))):
        assert host.refused(EVE, frame) is codes.NOT_ALLOWED


@pytest.mark.parametrize(
    "frame",
    [messages.Leave(0, 0, KIN), messages.Send(0, 0, WITH_BEN, events.NIL), messages.AcceptRequest(0, 0, WITH_BEN)],
    ids=lambda frame: type(frame).__name__,
)
def test_commands_of_conversations_are_refused_here(frame: messages.Change) -> None:
    assert mine().refused(ME, frame) is codes.NOT_ALLOWED


def test_facts_are_what_was_set_and_stored_with_the_event_for_others_to_read() -> None:
    host = mine()
    profile = Profile("Asha", "here", "pic")
    privacy = Privacy(write=Audience.CONTACTS)
    host.do(ME, messages.SetProfile(0, 0, profile))
    host.do(ME, messages.SetPrivacy(0, 0, privacy))
    host.do(ME, contact(BEN, label="Benny"))
    host.do(ME, block(EVE))
    host.do(ME, messages.Rename(0, 0, "Asha2"))
    wanted = Facts("Asha2", profile, privacy, frozenset({BEN}), frozenset({EVE}))
    assert host.state.facts == wanted
    assert account.decode_facts(host.disk.parts[account.FACTS]) == wanted
    host.do(ME, contact(BEN, on=False))
    host.do(ME, block(EVE, on=False))
    host.do(ME, messages.DeleteAccount(0, 0, "asha"))
    assert account.decode_facts(host.disk.parts[account.FACTS]) == Facts("Asha2", Profile(), privacy)


def test_labels_are_stored_one_by_one_and_not_with_what_others_need() -> None:
    host = mine()

    def labels() -> dict[int, str]:
        found = {key: part for key, part in host.disk.parts.items() if key.startswith(account.LABEL_PREFIX)}
        return account.decode_labels(found)

    host.do(ME, contact(20, label="a label"))
    host.do(ME, contact(21, label="名"))
    assert labels() == {20: "a label", 21: "名"}
    assert b"label" not in host.disk.parts[account.FACTS]
    host.do(ME, contact(20, label=""))
    host.do(ME, contact(21, on=False))
    assert labels() == {}
    assert account.decode_facts(host.disk.parts[account.FACTS]).contacts == {20}


def test_settings_take_no_more_bytes_than_are_kept() -> None:
    host = Host(lambda: account.Account(STREAM, rules.Rules(settings_bytes=200), ME, "asha"))
    host.do(ME, draft("x" * 150))
    assert host.refused(ME, draft("y" * 150, KIN)) is codes.TOO_MANY
    host.do(ME, draft("x" * 160))
    assert host.refused(ME, hide(*range(1, 9))) is codes.TOO_MANY
    host.do(ME, draft("x" * 185))
    assert host.refused(ME, keep(1)) is codes.TOO_MANY
    host.do(ME, draft(""))
    host.do(ME, keep(1))
    host.do(ME, draft("y" * 150, KIN))
    assert host.state.settings_bytes == sum(len(part) for key, part in host.disk.parts.items() if key[:1] == b"c")


def test_a_new_account_has_its_name_and_nothing_else() -> None:
    assert (mine().state.facts, mine().state.groups, mine().state.settings) == (Facts("asha"), {}, {})


def test_one_is_neither_ones_own_contact_nor_blocks_oneself() -> None:
    assert mine().refused(ME, contact(ME)) is codes.NOT_ALLOWED
    assert mine().refused(ME, block(ME)) is codes.NOT_ALLOWED


def test_contacts_are_limited_and_those_there_are_can_still_be_changed() -> None:
    host = mine()
    host.do(ME, contact(20))
    host.do(ME, contact(21))
    assert host.refused(ME, contact(22)) is codes.TOO_MANY
    host.do(ME, contact(20, label="new label"))
    host.do(ME, contact(21, on=False))
    host.do(ME, contact(22))
    assert host.state.facts.contacts == {20, 22}


def test_blocks_are_limited_and_one_who_is_blocked_can_be_blocked_again() -> None:
    host = mine()
    host.do(ME, block(20))
    host.do(ME, block(21))
    assert host.refused(ME, block(22)) is codes.TOO_MANY
    host.do(ME, block(20))
    host.do(ME, block(20, on=False))
    host.do(ME, block(22))
    assert host.state.facts.blocked == {21, 22}


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (chosen(True, EVER, True), Settings(pinned=True, muted_until=EVER, archived=True)),
        (draft("but", reply_to=7), Settings(draft="but", draft_reply_to=7)),
        (keep(5), Settings(kept={5: 1})),
        (keep(5, False, True), Settings(kept={5: 2})),
        (keep(5, True, True), Settings(kept={5: 3})),
        (hide(9, 4, 9), Settings(hidden=(4, 9))),
        (clear(8), Settings(cleared=8)),
        (clear(8, True), Settings(cleared=8, deleted=True)),
    ],
    ids=repr,
)
def test_settings_of_a_conversation_are_what_was_set(frame: messages.Change, wanted: Settings) -> None:
    host = mine()
    host.do(ME, msgspec.structs.replace(frame))
    assert host.state.view(WITH_BEN) == wanted
    assert account.decode_settings(host.disk.parts[account.SETTINGS_PREFIX + WITH_BEN]) == wanted


def test_settings_do_not_disturb_each_other() -> None:
    host = mine()
    for frame in (chosen(True), draft("but"), keep(5), hide(9), clear(3)):
        host.do(ME, frame)
    assert host.state.view(WITH_BEN) == Settings(pinned=True, cleared=3, draft="but", kept={5: 1}, hidden=(9,))


def test_clearing_drops_what_concerns_cleared_messages_and_never_goes_back() -> None:
    host = mine()
    for frame in (keep(5), keep(9), hide(4, 6), clear(5)):
        host.do(ME, frame)
    assert host.state.view(WITH_BEN) == Settings(cleared=5, kept={9: 1}, hidden=(6,))
    host.do(ME, clear(2))
    assert host.state.view(WITH_BEN).cleared == 5


def test_kept_messages_are_limited_and_those_there_are_can_still_be_changed() -> None:
    host = mine()
    host.do(ME, keep(1))
    host.do(ME, keep(2))
    assert host.refused(ME, keep(3)) is codes.TOO_MANY
    host.do(ME, keep(2, False, True))
    host.do(ME, keep(3, False, False))
    host.do(ME, keep(1, False, False))
    host.do(ME, keep(3))
    assert host.state.view(WITH_BEN).kept == {2: 2, 3: 1}


def test_hidden_messages_are_limited_and_only_news_counts() -> None:
    host = mine()
    host.do(ME, clear(3))
    assert host.refused(ME, hide(1, 2, 3)) is codes.NOTHING_CHANGED
    event = host.do(ME, hide(2, 4, 5, 6)).event
    assert isinstance(event, events.Hidden)
    assert event.seqs == (4, 5, 6)
    assert host.refused(ME, hide(4, 6)) is codes.NOTHING_CHANGED
    assert host.refused(ME, hide(4, 7, 8)) is codes.TOO_MANY
    host.do(ME, hide(7))


@pytest.mark.parametrize(
    "stream",
    [b"garbage!", b"x" * 15, ids.direct_stream(BEN, EVE), STREAM, ids.account_stream(BEN), b"d" + bytes(14)],
    ids=repr,
)
def test_there_are_no_settings_of_what_cannot_be_ones_conversation(stream: bytes) -> None:
    host = mine()
    for frame in (chosen(True), clear(1), draft("x"), keep(1), hide(1)):
        frame.stream = stream
        assert host.refused(ME, frame) is codes.NOT_ALLOWED


def test_conversations_with_settings_are_limited_and_one_back_at_the_defaults_makes_room() -> None:
    host = mine()
    streams = [ids.direct_stream(ME, user) for user in range(20, 25)]
    for stream in streams[:3]:
        host.do(ME, draft("x", stream))
    assert host.refused(ME, draft("x", streams[3])) is codes.TOO_MANY
    host.do(ME, draft("", streams[0]))
    assert account.SETTINGS_PREFIX + streams[0] not in host.disk.parts
    host.do(ME, draft("x", streams[3]))
    host.crash()
    assert host.refused(ME, draft("x", streams[4])) is codes.TOO_MANY


def test_devices_and_passwords_leave_no_state() -> None:
    host = mine()
    before = picture(host.state)
    host.do(ME, messages.RenameDevice(0, 0, 10, "phone"))
    host.do(ME, messages.RevokeDevice(0, 0, 11))
    host.do(ME, messages.ChangePassword(0, 0, "old", "new"))
    after = picture(host.state)
    assert {name for name in before if before[name] != after[name]} == {"head", "durable", "time", "windows"}
    assert host.state.n == 0


def test_no_secret_of_a_command_gets_into_an_event() -> None:
    host = mine()
    host.do(ME, messages.ChangePassword(0, 0, "old secret", "new secret"))
    host.do(ME, messages.DeleteAccount(0, 0, "the secret"))
    assert b"secret" not in b"".join(row.data for row in host.disk.rows)


# --- notices of groups ------------------------------------------------------------------------------------------------


def test_what_the_server_tells_names_who_caused_it() -> None:
    host = mine()
    event = host.do(BEN, joined(5), device=0).event
    assert (event.sender, event.device, event.counter) == (BEN, 0, 0)
    assert host.state.groups == {KIN: 5}


def test_a_notice_told_again_is_known_and_an_older_one_is_too() -> None:
    host = mine()
    assert host.refused(BEN, parted(3), device=0) is codes.NOTHING_CHANGED
    host.do(BEN, joined(5), device=0)
    for notice in (joined(5), joined(4), parted(4)):
        assert host.refused(BEN, notice, device=0) is codes.NOTHING_CHANGED
    host.do(BEN, parted(9), device=0)
    assert host.state.groups == {}
    assert host.refused(BEN, parted(9), device=0) is codes.NOTHING_CHANGED
    host.do(BEN, joined(12), device=0)
    assert host.refused(BEN, parted(9), device=0) is codes.NOTHING_CHANGED
    host.crash()
    assert host.state.groups == {KIN: 12}


@pytest.mark.parametrize(
    "event",
    [
        events.DeviceAdded(*events.UNFILLED, 12, "tablet"),
        events.OwnRead(*events.UNFILLED, WITH_BEN, 5),
        events.PasswordChanged(*events.UNFILLED, True),
        events.DeviceRevoked(*events.UNFILLED, 12),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_else_the_server_tells_becomes_an_event_as_it_is(event: events.Event) -> None:
    host = mine()
    host.do(ME, event, device=0)
    assert events.decode(host.disk.rows[0].data) == event


# --- twice is once ----------------------------------------------------------------------------------------------------

STREAMS = st.sampled_from([WITH_BEN, KIN])
BOTH = st.booleans()
WORDS = st.sampled_from(["", "a", "bb"])
SEQS = st.integers(1, 6)
HEAD = (0, 1, 0, 0, 0)
EVENTS: st.SearchStrategy[events.Event] = st.one_of(
    st.builds(lambda name: events.ProfileChanged(*HEAD, Profile(name)), st.sampled_from("abc")),
    st.builds(lambda name: events.Renamed(*HEAD, name), st.sampled_from("abc")),
    st.builds(lambda user, label, on: events.ContactSet(*HEAD, user, label, on), SEQS, st.sampled_from("ab"), st.booleans()),
    st.builds(lambda user, on: events.BlockSet(*HEAD, user, on), SEQS, st.booleans()),
    st.builds(lambda who: events.PrivacySet(*HEAD, Privacy(write=who)), st.sampled_from(Audience)),
    st.builds(
        lambda stream, pinned, muted: events.ConversationSet(*HEAD, stream, pinned, muted, False),
        STREAMS,
        st.booleans(),
        st.integers(0, 1),
    ),
    st.builds(lambda stream, upto, delete: events.Cleared(*HEAD, stream, upto, delete), STREAMS, SEQS, st.booleans()),
    st.builds(
        lambda stream, words: events.DraftSet(*HEAD, stream, words, len(words)), STREAMS, st.sampled_from(["", "a", "bb"])
    ),
    st.builds(
        lambda stream, seq, star, pin: events.Kept(*HEAD, stream, seq, star, pin), STREAMS, SEQS, st.booleans(), st.booleans()
    ),
    st.builds(lambda stream, seqs: events.Hidden(*HEAD, stream, tuple(seqs)), STREAMS, st.lists(SEQS, min_size=1)),
    st.builds(lambda seq: events.Joined(*HEAD, KIN, seq), SEQS),
    st.builds(lambda seq: events.Parted(*HEAD, KIN, seq), SEQS),
)


def own_state(state: account.Account) -> Any:
    return picture(state)["facts"], state.groups, state.settings


@given(st.lists(EVENTS, max_size=12), EVENTS)
def test_applying_an_event_twice_is_applying_it_once(before: list[events.Event], event: events.Event) -> None:
    state = make()
    for seq, each in enumerate([*before, event], 1):
        state.applied(seq, each)
    once = own_state(state)
    state.applied(len(before) + 1, event)
    assert own_state(state) == once


@given(st.lists(EVENTS, max_size=16), st.integers(0, 16))
def test_a_tail_over_parts_that_are_newer_than_its_snapshot_gives_the_same_state(history: list[events.Event], cut: int) -> None:
    state = make()
    parts: dict[bytes, bytes] = {}
    for seq, event in enumerate(history, 1):
        state.applied(seq, event)
        for key, part in state.changed_parts(event):
            parts.pop(key, None)
            if part is not None:
                parts[key] = part
    rows = [records.Event(seq, events.kind_of(event), 1, events.encode(event)) for seq, event in enumerate(history, 1)]
    cut = min(cut, len(rows))
    rebuilt = make()
    rebuilt.load(records.Loaded(STREAM, len(rows), 0, 1, 1, cut, parts, rows[cut:], []))
    assert own_state(rebuilt) == own_state(state)


def test_the_text_of_a_draft_goes_when_another_takes_its_place_or_it_is_removed() -> None:
    host = mine()

    def texts() -> list[str]:
        found = [events.decode(row.data) for row in host.disk.rows]
        return [event.text for event in found if isinstance(event, events.DraftSet)]

    host.do(ME, draft("one"))
    host.do(ME, draft("elsewhere", KIN))
    host.do(ME, draft("two"))
    assert texts() == ["", "elsewhere", "two"]
    host.crash()
    host.do(ME, draft("three"))
    host.do(ME, draft("", KIN))
    assert texts() == ["", "", "", "three", ""]
    host.do(ME, draft("anew", KIN))
    host.do(ME, draft(""))
    assert texts() == ["", "", "", "", "", "anew", ""]
    assert host.state.view(KIN).draft == "anew"
    assert {key for key in host.disk.parts if key.startswith(account.DRAFT_PREFIX)} == {account.DRAFT_PREFIX + KIN}
