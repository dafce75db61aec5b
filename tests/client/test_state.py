"""Every kind of event changes the local state as it changes the server's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from client import state, streams
from client.api import mention, text_body
from client.updates import StreamEvent, StreamGone
from protocol import events, ids, messages
from protocol.events import Role

ME, BEN, CARA, DAN = 7, 8, 9, 10
DEVICE = 70
DIRECT = ids.direct_stream(ME, BEN)
GROUP = ids.group_stream(80, 1)
ACCOUNT = ids.account_stream(ME)


class World:
    """A state, and the next seq, n and time of each stream."""

    def __init__(self) -> None:
        self.state = state.State(ME)
        self.seqs: dict[bytes, int] = {}
        self.n: dict[bytes, int] = {}
        self.seen: set[type] = set()

    def happens(
        self, stream: bytes, kind: type[events.Event], *fields: Any, by: int = BEN, device: int = 80, **more: Any
    ) -> int:
        seq = self.seqs[stream] = self.seqs.get(stream, 0) + 1
        self.n[stream] = self.n.get(stream, 0) + (kind is events.Message)
        event: Any = kind(self.n[stream], 1000 * seq, by, device, seq, *fields)
        self.seen.add(kind)
        self.state.apply(StreamEvent(stream, seq, event, 50, **more))
        return seq

    def says(self, text: str, stream: bytes = DIRECT, by: int = BEN, mentions: Any = (), **more: Any) -> int:
        return self.happens(stream, events.Message, text_body(text, mentions), by=by, **more)

    def group(self) -> streams.Group:
        group = self.state.streams[GROUP].group
        assert group is not None
        return group

    def members(self) -> dict[int, tuple[Role, int]]:
        members = self.group().members
        assert members is not None
        return {user: (member.role, member.joined) for user, member in members.items()}

    def created(self, by: int = BEN) -> None:
        self.happens(GROUP, events.GroupCreated, "Title", "About", "", (ME, CARA), by=by)


@pytest.fixture
def world() -> World:
    return World()


def texts(found: streams.Stream, now: int = 0) -> list[str]:
    shown = []
    for item in found.visible(now):
        body = events.decode_body(item.body)
        assert isinstance(body, events.Text)
        shown.append(body.text)
    return shown


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_is_an_item_and_counts_as_unread(world: World) -> None:
    world.says("one")
    world.says("two", mentions=[mention("hi @me", "@me", ME)])
    found = world.state.streams[DIRECT]
    assert texts(found) == ["one", "two"]
    assert (found.head, found.n, found.time, found.unread, found.mentions) == (2, 2, 2000, 2, 1)
    assert found.marks[BEN] == streams.Mark(2, 2), "who writes has seen what stands above"


def test_own_messages_move_the_own_mark(world: World) -> None:
    world.says("one")
    world.says("two", by=ME)
    found = world.state.streams[DIRECT]
    assert (found.read, found.unread) == (2, 0)


def test_an_edit_replaces_the_body_once(world: World) -> None:
    seq = world.says("helo")
    world.happens(DIRECT, events.Edited, seq, text_body("hello"))
    found = world.state.streams[DIRECT]
    assert texts(found) == ["hello"]
    assert found.items[seq].fold.edits == (2,)
    assert found.items[seq].fold.edited_at == 2000
    assert (found.n, found.unread) == (1, 1)


def test_a_deletion_leaves_no_body_anywhere(world: World) -> None:
    seq = world.says("regret")
    world.happens(DIRECT, events.Edited, seq, text_body("more regret"))
    world.happens(DIRECT, events.Reacted, seq, "😬", by=ME)
    world.happens(DIRECT, events.Deleted, seq)
    item = world.state.streams[DIRECT].items[seq]
    assert texts(world.state.streams[DIRECT]) == []
    assert item.fold == events.Fold(edits=(2,), deleted=True, changed=4)
    assert isinstance(item.event, events.Message)
    assert item.event.body == events.NIL


def test_a_reaction_is_one_per_user_and_can_be_taken_back(world: World) -> None:
    seq = world.says("news")
    item = world.state.streams[DIRECT].items[seq]
    world.happens(DIRECT, events.Reacted, seq, "👍")
    world.happens(DIRECT, events.Reacted, seq, "🎉", by=ME)
    world.happens(DIRECT, events.Reacted, seq, "❤", by=BEN)
    assert item.fold.reactions == {BEN: "❤", ME: "🎉"}
    world.happens(DIRECT, events.Reacted, seq, "", by=BEN)
    assert item.fold.reactions == {ME: "🎉"}


def test_an_event_about_a_message_that_was_never_loaded_is_no_error(world: World) -> None:
    world.state.load_opened(messages.Opened(1, DIRECT, 50, 40, 0, 0, ()))
    world.seqs[DIRECT] = 50
    world.happens(DIRECT, events.Edited, 3, text_body("x"))
    world.happens(DIRECT, events.Deleted, 4)
    world.happens(DIRECT, events.Reacted, 5, "👍")
    assert world.state.streams[DIRECT].items == {}


def test_the_timer_lets_messages_disappear(world: World) -> None:
    world.happens(DIRECT, events.TimerChanged, 60)
    seq = world.says("soon gone", by=ME, own=True, missing=("expires_at", "flags"))
    found = world.state.streams[DIRECT]
    assert found.timer == 60
    assert found.items[seq].event.expires_at == 1000 * seq + 60_000  # type: ignore[attr-defined]
    assert [item.seq for item in found.visible(1000 * seq + 59_999)] == [1, seq]
    assert [item.seq for item in found.visible(1000 * seq + 60_000)] == [1]


def test_what_expired_before_it_came_leaves_the_counts_in_doubt(world: World) -> None:
    world.says("one")
    world.state.apply(StreamGone(DIRECT, 2, 9, 30))
    found = world.state.streams[DIRECT]
    assert (found.head, found.stale) == (9, True)


def test_a_message_request_waits_for_an_answer(world: World) -> None:
    world.happens(DIRECT, events.Message, text_body("hello stranger"), 0, 0, 0, events.Flag.REQUEST)
    found = world.state.streams[DIRECT]
    assert found.request_for == ME
    world.happens(DIRECT, events.RequestAccepted, by=ME)
    assert found.request_for == 0


def test_answering_accepts_a_message_request(world: World) -> None:
    world.happens(DIRECT, events.Message, text_body("hello stranger"), 0, 0, 0, events.Flag.REQUEST)
    world.says("who is it?", by=ME)
    assert world.state.streams[DIRECT].request_for == 0


def test_own_messages_of_an_open_request_carry_its_flag(world: World) -> None:
    world.happens(DIRECT, events.Message, text_body("hello"), 0, 0, 0, events.Flag.REQUEST, by=ME)
    seq = world.says("are you there?", by=ME, own=True, missing=("expires_at", "flags"))
    found = world.state.streams[DIRECT]
    assert found.items[seq].event.flags == events.Flag.REQUEST  # type: ignore[attr-defined]
    assert found.stale, "the other may have made this user a contact meanwhile"


def test_after_an_answer_nothing_is_a_message_request(world: World) -> None:
    world.says("hello", by=BEN)
    seq = world.says("hello", by=ME, own=True, missing=("expires_at", "flags"))
    found = world.state.streams[DIRECT]
    assert (found.items[seq].event.flags, found.stale) == (0, False)  # type: ignore[attr-defined]


# --- groups -----------------------------------------------------------------------------------------------------------


def test_a_new_group_is_known_whole(world: World) -> None:
    world.created()
    group = world.group()
    assert (group.title, group.description, group.owner) == ("Title", "About", BEN)
    assert world.members() == {BEN: (Role.OWNER, 1), ME: (Role.MEMBER, 1), CARA: (Role.MEMBER, 1)}
    assert (group.invites, group.requests, group.banned) == (None, None, None), "for admins alone"


def test_who_becomes_an_admin_has_to_ask_for_what_admins_see(world: World) -> None:
    world.created()
    world.happens(GROUP, events.RoleChanged, ME, Role.ADMIN)
    assert world.state.streams[GROUP].stale
    world.group().invites = {}
    world.happens(GROUP, events.RoleChanged, ME, Role.MEMBER)
    assert world.group().invites is None


def test_members_come_and_go(world: World) -> None:
    world.created()
    world.happens(GROUP, events.MembersAdded, (DAN,))
    assert world.members()[DAN] == (Role.MEMBER, 2)
    world.happens(GROUP, events.MemberRemoved, DAN)
    world.happens(GROUP, events.MemberLeft, 0, by=CARA)
    assert set(world.members()) == {BEN, ME}


def test_an_owner_that_leaves_is_followed(world: World) -> None:
    world.created()
    world.happens(GROUP, events.MemberLeft, CARA)
    assert world.group().owner == CARA


def test_handing_the_group_over_makes_the_old_owner_an_admin(world: World) -> None:
    world.created()
    world.happens(GROUP, events.RoleChanged, CARA, Role.ADMIN)
    assert world.members()[CARA] == (Role.ADMIN, 1)
    world.happens(GROUP, events.RoleChanged, ME, Role.OWNER)
    assert (world.members()[ME][0], world.members()[BEN][0]) == (Role.OWNER, Role.ADMIN)


def test_title_and_permissions_change(world: World) -> None:
    world.created()
    world.happens(GROUP, events.GroupProfileChanged, "New", "Other", "pic")
    permissions = events.Permissions(send=Role.ADMIN)
    world.happens(GROUP, events.PermissionsChanged, permissions)
    group = world.group()
    assert (group.title, group.description, group.picture) == ("New", "Other", "pic")
    assert group.permissions == permissions


def test_invites_requests_and_bans_are_kept_for_admins(world: World) -> None:
    world.happens(GROUP, events.GroupCreated, "Title", "About", "", (BEN, CARA), by=ME)
    invite = world.seqs[GROUP] + 1
    world.happens(GROUP, events.InviteCreated, invite, 5, 0, True, by=ME)
    world.happens(GROUP, events.JoinRequested, invite, by=DAN)
    world.happens(GROUP, events.JoinRequested, invite, by=11)
    assert world.group().requests == [DAN, 11]
    world.happens(GROUP, events.MemberJoined, DAN, invite, by=ME)
    world.happens(GROUP, events.JoinRefused, 11, by=ME)
    group = world.group()
    assert group.requests == []
    assert world.members()[DAN][0] is Role.MEMBER
    assert group.invites == {invite: streams.Invite(5, 1, 0, True)}
    world.happens(GROUP, events.InviteRevoked, invite, by=ME)
    world.happens(GROUP, events.MemberRemoved, DAN, True, by=ME)
    assert (group.invites, group.banned) == ({}, {DAN})
    world.happens(GROUP, events.Unbanned, DAN, by=ME)
    assert group.banned == set()


def test_who_is_removed_knows_the_group_no_longer(world: World) -> None:
    world.created()
    world.happens(GROUP, events.MemberRemoved, ME)
    found = world.state.streams[GROUP]
    assert (found.member, found.group) == (False, None)


def test_who_is_added_again_has_to_ask_what_the_group_is_like(world: World) -> None:
    world.created()
    world.says("unread", GROUP)
    world.happens(GROUP, events.MemberLeft, 0, by=ME)
    world.seqs[GROUP] = 20
    world.happens(GROUP, events.MembersAdded, (ME,))
    found = world.state.streams[GROUP]
    assert (found.member, found.stale, found.read, found.unread) == (True, True, 21, 0)
    world.state.load_group(
        messages.GroupState(1, GROUP, 21, 1, "T", "", "", events.Permissions(), 0, 2, BEN, Role.MEMBER, 21),
        [messages.Member(ME, Role.MEMBER, 21), messages.Member(BEN, Role.OWNER, 1)],
    )
    assert world.members() == {ME: (Role.MEMBER, 21), BEN: (Role.OWNER, 1)}


def test_an_event_that_the_fetched_group_contains_already_is_passed_over(world: World) -> None:
    world.created()
    world.state.load_group(
        messages.GroupState(1, GROUP, 2, 0, "T", "", "", events.Permissions(), 0, 2, BEN, Role.MEMBER, 1),
        [messages.Member(ME, Role.MEMBER, 1), messages.Member(BEN, Role.OWNER, 1)],
    )
    world.happens(GROUP, events.MembersAdded, (DAN,))
    assert DAN not in world.members(), "it was added at seq 2, and gone again when the group was fetched"


# --- the account ------------------------------------------------------------------------------------------------------


def test_the_own_account_changes(world: World) -> None:
    mine = world.state.account
    profile, privacy = events.Profile("Asha", "about"), events.Privacy(receipts=False)
    for kind, *fields in (
        (events.ProfileChanged, profile),
        (events.Renamed, "asha2"),
        (events.PrivacySet, privacy),
        (events.ContactSet, BEN, "Benny", True),
        (events.ContactSet, CARA, "", True),
        (events.ContactSet, CARA, "", False),
        (events.BlockSet, DAN, True),
        (events.BlockSet, CARA, True),
        (events.BlockSet, CARA, False),
    ):
        world.happens(ACCOUNT, kind, *fields, by=ME)
    assert (mine.profile, mine.name, mine.privacy) == (profile, "asha2", privacy)
    assert (mine.contacts, mine.blocked) == ({BEN: "Benny"}, {DAN})
    assert mine.head == 9


def test_devices_come_and_go(world: World) -> None:
    mine = world.state.account
    for device in (DEVICE, 71, 72):
        world.happens(ACCOUNT, events.DeviceAdded, device, f"device {device}", by=0, device=0)
    world.happens(ACCOUNT, events.DeviceRenamed, 71, "laptop", by=ME)
    world.happens(ACCOUNT, events.DeviceRevoked, 72, by=ME)
    assert mine.devices == {DEVICE: "device 70", 71: "laptop"}
    world.happens(ACCOUNT, events.PasswordChanged, False, by=ME, device=DEVICE)
    assert len(mine.devices) == 2
    world.happens(ACCOUNT, events.PasswordChanged, True, by=ME, device=DEVICE)
    assert mine.devices == {DEVICE: "device 70"}


def test_the_own_view_of_a_conversation_changes(world: World) -> None:
    for number in range(6):
        world.says(f"message {number + 1}")
    world.happens(ACCOUNT, events.ConversationSet, DIRECT, True, 5000, True, by=ME)
    world.happens(ACCOUNT, events.DraftSet, DIRECT, "half a though", 2, by=ME)
    world.happens(ACCOUNT, events.Kept, DIRECT, 1, True, True, by=ME)
    world.happens(ACCOUNT, events.Kept, DIRECT, 5, True, False, by=ME)
    world.happens(ACCOUNT, events.Kept, DIRECT, 4, False, True, by=ME)
    world.happens(ACCOUNT, events.Kept, DIRECT, 4, False, False, by=ME)
    world.happens(ACCOUNT, events.Hidden, DIRECT, (5, 2), by=ME)
    found = world.state.streams[DIRECT]
    assert found.settings == messages.Settings(True, 5000, True, 0, False, "half a though", 2, {1: 3, 5: 1}, (2, 5))
    assert texts(found) == ["message 1", "message 3", "message 4", "message 6"]
    world.happens(ACCOUNT, events.Cleared, DIRECT, 3, False, by=ME)
    assert (found.settings.cleared, found.settings.hidden, found.settings.kept) == (3, (5,), {5: 1})
    assert texts(found) == ["message 4", "message 6"]


def test_a_deleted_conversation_is_off_the_list_until_something_new_comes(world: World) -> None:
    world.says("one")
    world.happens(ACCOUNT, events.Cleared, DIRECT, 1, True, by=ME)
    found = world.state.streams[DIRECT]
    before = found.listed
    world.says("two")
    assert (before, found.listed) == (False, True)
    assert texts(found) == ["two"]


def test_an_own_clear_ends_at_what_is_there(world: World) -> None:
    world.says("one")
    world.happens(ACCOUNT, events.Cleared, DIRECT, 1 << 40, False, by=ME, own=True, missing=("upto",))
    assert world.state.streams[DIRECT].settings.cleared == 1


def test_own_reading_on_another_device_counts_here(world: World) -> None:
    for number in range(5):
        world.says(str(number), mentions=[mention("@me", "@me", ME)] if number == 4 else ())
    found = world.state.streams[DIRECT]
    world.happens(ACCOUNT, events.OwnRead, DIRECT, 3, by=0, device=0)
    assert (found.read, found.unread, found.mentions, found.stale) == (3, 2, 1, False)
    world.happens(ACCOUNT, events.OwnRead, DIRECT, 2, by=0, device=0)
    assert found.read == 3
    world.happens(ACCOUNT, events.OwnRead, DIRECT, 5, by=0, device=0)
    assert (found.unread, found.mentions) == (0, 0)


def test_reading_within_what_was_never_loaded_asks_for_the_counts(world: World) -> None:
    row = messages.Conversation(1, DIRECT, 90, 90, 5000, 40, 0, 50, 50, True, messages.Settings())
    world.state.load_conversation(row)
    world.happens(ACCOUNT, events.OwnRead, DIRECT, 70, by=0, device=0)
    assert world.state.stream(DIRECT).stale is True
    row.unread, row.read = 20, 70
    world.state.load_conversation(row)
    found = world.state.stream(DIRECT)
    assert [found.unread, found.stale] == [20, False]


def test_the_account_hears_of_groups_that_it_is_in(world: World) -> None:
    world.happens(ACCOUNT, events.Joined, GROUP, 4, by=BEN)
    found = world.state.streams[GROUP]
    assert (found.member, found.stale) == (True, True)
    world.happens(ACCOUNT, events.Parted, GROUP, 9, by=BEN)
    assert not found.member


def test_a_wish_to_join_waits_for_its_answer(world: World) -> None:
    found = world.state.stream(GROUP)
    for kind, *fields in ((events.TurnedDown, GROUP), (events.Joined, GROUP, 9)):
        world.happens(GROUP, events.JoinRequested, 3, by=ME, own=True, missing=("kind", "invite"))
        assert (found.asked, found.member) == (True, False)
        world.happens(ACCOUNT, kind, *fields)
        assert not found.asked
    assert found.member


def test_a_kind_from_the_future_makes_the_stream_stale(world: World) -> None:
    world.state.apply(StreamEvent(DIRECT, 1, None, 10))
    assert world.state.streams[DIRECT].stale
    world.state.apply(StreamEvent(ACCOUNT, 1, None, 10))
    assert world.state.account.head == 1


# --- what was fetched -------------------------------------------------------------------------------------------------


def test_an_account_is_loaded_and_older_events_are_passed_over(world: World) -> None:
    loaded = messages.AccountState(
        1, 5, ME, "asha", events.Profile("A"), events.Privacy(), (DAN,), (messages.DeviceInfo(DEVICE, "phone", 1, 2),)
    )
    world.state.load_account(loaded, [messages.Contact(BEN, "Benny")])
    world.seqs[ACCOUNT] = 4
    world.happens(ACCOUNT, events.Renamed, "before", by=ME)
    mine = world.state.account
    assert (mine.name, mine.contacts, mine.blocked, mine.devices) == ("asha", {BEN: "Benny"}, {DAN}, {DEVICE: "phone"})
    world.happens(ACCOUNT, events.Renamed, "after", by=ME)
    assert mine.name == "after"


def test_history_is_in_its_current_state(world: World) -> None:
    message = events.Message(1, 1000, BEN, 80, 1, text_body("first"))
    fold = events.Fold(text_body("second"), 2000, (2,), reactions={ME: "👍"}, changed=2)
    item = messages.HistoryItem(1, DIRECT, 1, msgspec.Raw(events.encode(message)), msgspec.Raw(events.encode_fold(fold)))
    world.state.load_history(DIRECT, [item], whole_from=1)
    assert texts(world.state.streams[DIRECT]) == ["second"]
    world.seqs[DIRECT] = 1
    world.happens(DIRECT, events.Edited, 1, text_body("second"))
    assert world.state.streams[DIRECT].items[1].fold.edits == (2,), "the page contained this edit"


def page(seq: int, text: str) -> list[messages.HistoryItem]:
    message = events.Message(seq, 1000, BEN, 80, seq, text_body(text))
    return [messages.HistoryItem(1, DIRECT, seq, msgspec.Raw(events.encode(message)))]


def test_a_page_does_not_undo_what_came_while_it_was_fetched(world: World) -> None:
    seq = world.says("news")
    world.happens(DIRECT, events.Reacted, seq, "👍")
    world.state.load_history(DIRECT, page(seq, "news"), 1, head=1)
    found = world.state.stream(DIRECT)
    assert found.items[seq].fold.reactions == {BEN: "👍"}
    assert not found.stale


def test_a_page_with_an_item_that_changed_meanwhile_is_fetched_again(world: World) -> None:
    world.seqs[DIRECT] = 9
    world.happens(DIRECT, events.Reacted, 5, "👍")
    world.state.load_history(DIRECT, page(5, "news"), 1, head=9)
    assert world.state.stream(DIRECT).stale


def test_a_row_older_than_the_events_since_is_fetched_again(world: World) -> None:
    world.seqs[DIRECT] = 9
    world.says("ten")
    world.state.load_conversation(messages.Conversation(1, DIRECT, 9, 9, 1, 3, 0, 6, 6, True, messages.Settings()))
    assert world.state.stream(DIRECT).stale


def test_an_account_older_than_the_events_since_is_fetched_again(world: World) -> None:
    world.seqs[ACCOUNT] = 9
    world.happens(ACCOUNT, events.Renamed, "new", by=ME)
    fetched = messages.AccountState(1, 9, ME, "old", events.Profile(), events.Privacy(), (), ())
    assert not world.state.load_account(fetched, [])
    fetched.head, fetched.name = 10, "new"
    assert world.state.load_account(fetched, [])
    assert world.state.account.name == "new"


def test_receipts_only_grow(world: World) -> None:
    world.state.heard(messages.Receipt(0, DIRECT, BEN, 5, 3))
    world.state.heard(messages.Receipt(0, DIRECT, BEN, 4, 4))
    assert world.state.streams[DIRECT].marks[BEN] == streams.Mark(5, 4)


def test_the_same_loads_and_events_give_the_same_state() -> None:
    one, other = World(), World()
    for world in (one, other):
        world.created()
        world.says("x", GROUP)
        world.happens(GROUP, events.Reacted, 2, "👍", by=CARA)
    assert one.state.streams == other.state.streams


def test_every_kind_of_event_is_tested_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8").replace(")", ",")
    assert [kind.__name__ for kind in events.KINDS.values() if f"events.{kind.__name__}," not in text] == []


def test_a_row_older_than_own_settings_does_not_set_them_back(world: World) -> None:
    row = messages.Conversation(1, DIRECT, 9, 9, 1, 3, 0, 6, 6, True, messages.Settings(draft="half"))
    world.seqs[ACCOUNT] = 4
    world.state.load_conversation(row, 4)
    world.happens(ACCOUNT, events.DraftSet, DIRECT, "half a thought", by=ME)
    found = world.state.stream(DIRECT)
    world.state.load_conversation(row, 4)
    assert found.settings.draft == "half a thought"
    row.settings = messages.Settings(draft="a whole one")
    world.state.load_conversation(row, 5)
    assert (found.settings.draft, found.stale) == ("a whole one", False)


def test_settings_that_changed_before_they_were_ever_known_are_fetched_again(world: World) -> None:
    row = messages.Conversation(1, DIRECT, 9, 9, 1, 3, 0, 6, 6, True, messages.Settings(pinned=True))
    world.seqs[ACCOUNT] = 4
    world.happens(ACCOUNT, events.DraftSet, DIRECT, "half a thought", by=ME)
    found = world.state.stream(DIRECT)
    world.state.load_conversation(row, 4)
    assert found.stale
    row.settings = messages.Settings(pinned=True, draft="half a thought")
    world.state.load_conversation(row, 5)
    assert (found.settings, found.stale) == (row.settings, False)


def test_a_row_from_before_one_came_back_does_not_put_one_out_again(world: World) -> None:
    row = messages.Conversation(1, GROUP, 9, 9, 1, 0, 0, 9, 9, False, messages.Settings())
    world.state.load_conversation(row, 4)
    world.seqs[ACCOUNT] = 4
    world.happens(ACCOUNT, events.Joined, GROUP, 14, by=BEN)
    world.state.load_conversation(row, 4)
    assert world.state.stream(GROUP).member


def test_the_newest_item_of_a_row_does_not_undo_what_came_since(world: World) -> None:
    seq = world.says("news")
    world.happens(DIRECT, events.Reacted, seq, "👍")
    item = page(seq, "news")[0]
    old = messages.Conversation(
        1, DIRECT, 1, 1, 1, 1, 0, 0, 0, True, messages.Settings(), last_seq=seq, last=item.event, last_fold=item.fold
    )
    world.state.load_conversation(old)
    assert world.state.stream(DIRECT).items[seq].fold.reactions == {BEN: "👍"}


def test_a_page_that_knows_more_than_the_events_so_far_is_not_changed_by_them(world: World) -> None:
    seq = world.says("news")
    world.happens(DIRECT, events.Reacted, seq, "👍")
    fold = events.encode_fold(events.Fold(changed=3))
    item = page(seq, "news")[0]
    world.state.load_history(DIRECT, [messages.HistoryItem(1, DIRECT, seq, item.event, msgspec.Raw(fold))], 1, head=2)
    world.happens(DIRECT, events.Reacted, seq, "")
    assert world.state.stream(DIRECT).items[seq].fold == events.Fold(changed=3)


def test_a_group_that_changed_while_it_was_fetched_is_fetched_again(world: World) -> None:
    world.created()
    world.happens(GROUP, events.MembersAdded, (DAN,))
    old = messages.GroupState(1, GROUP, 1, 0, "T", "", "", events.Permissions(), 0, 2, BEN, Role.MEMBER, 1)
    rows = [messages.Member(ME, Role.MEMBER, 1), messages.Member(BEN, Role.OWNER, 1)]
    assert not world.state.load_group(old, rows)
    new = msgspec.structs.replace(old, head=2)
    assert not world.state.load_group(new, rows, members_head=1)
    assert DAN in world.members()
    world.says("a message changes no group", GROUP)
    assert world.state.load_group(new, [*rows, messages.Member(DAN, Role.MEMBER, 2)], members_head=3)


def test_each_part_of_a_group_takes_the_events_that_it_does_not_contain(world: World) -> None:
    state = messages.GroupState(1, GROUP, 5, 0, "T", "", "", events.Permissions(), 0, 2, ME, Role.OWNER, 1)
    invites = (messages.Invite(2, b"code", 0, 1, 0, False),)
    admin = messages.GroupAdmin(1, invites, (), (), 7)
    assert world.state.load_group(state, [messages.Member(ME, Role.OWNER, 1)], admin, members_head=5)
    world.seqs[GROUP] = 5
    world.happens(GROUP, events.GroupProfileChanged, "U", "", "", by=ME)
    world.happens(GROUP, events.MemberJoined, DAN, 2, by=DAN)
    group = world.group()
    assert group.invites is not None
    assert (group.title, DAN in world.members(), group.invites[2].used) == ("U", True, 1)
    world.happens(GROUP, events.MemberJoined, CARA, 2, by=CARA)
    assert group.invites[2].used == 2
