"""Groups: every command by every role, invite links, requests, bans, succession, and who may read which seqs."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from actors.state import group, log, rules
from auth.policy import Facts
from protocol import codes, events, ids, messages
from protocol.events import Audience, Permissions, Privacy, Role
from storage import records
from tests.state.world import NOW, Host, picture, text

OWNER, ADMIN, MEMBER, OTHER, STRANGER = 1, 2, 3, 4, 5
NEW = 6
STREAM = ids.group_stream(10, 1)
LIMITS = rules.Rules(group_members=6, invites=3, join_requests=2, bans=2)

ANYBODY = Facts("anybody")
CAREFUL = Facts("careful", privacy=Privacy(add_to_groups=Audience.CONTACTS))
NOTHING = group.Asked()
OPEN_TO_ALL = group.Asked(dict.fromkeys(range(1, 40), ANYBODY))


def new(limits: rules.Rules = LIMITS) -> Host[group.Group]:
    return Host(lambda: group.Group(STREAM, limits))


def create(*members: int) -> messages.CreateGroup:
    return messages.CreateGroup(0, 0, "Kith", members, "of old", "pic")


def made(limits: rules.Rules = LIMITS, permissions: Permissions | None = None) -> Host[group.Group]:
    """A group of an owner, an admin and two members."""
    host = new(limits)
    host.do(OWNER, create(ADMIN, MEMBER, OTHER), OPEN_TO_ALL)
    host.do(OWNER, role(ADMIN, Role.ADMIN))
    if permissions is not None:
        host.do(OWNER, messages.SetPermissions(0, 0, STREAM, permissions))
    return host


def send(words: str = "hi") -> messages.Send:
    return messages.Send(0, 0, STREAM, text(words))


def role(user: int, wanted: Role) -> messages.SetRole:
    return messages.SetRole(0, 0, STREAM, user, wanted)


def add(*users: int) -> messages.AddMembers:
    return messages.AddMembers(0, 0, STREAM, users)


def remove(user: int, ban: bool = False) -> messages.RemoveMember:
    return messages.RemoveMember(0, 0, STREAM, user, ban)


def leave() -> messages.Leave:
    return messages.Leave(0, 0, STREAM)


def unban(user: int) -> messages.Unban:
    return messages.Unban(0, 0, STREAM, user)


def invite(uses: int = 0, expires_at: int = 0, approval: bool = False) -> messages.CreateInvite:
    return messages.CreateInvite(0, 0, STREAM, uses, expires_at, approval)


def revoke(number: int) -> messages.RevokeInvite:
    return messages.RevokeInvite(0, 0, STREAM, number)


def join() -> messages.Join:
    return messages.Join(0, 0, STREAM, b"code")


def answer(user: int, yes: bool = True) -> messages.AnswerJoin:
    return messages.AnswerJoin(0, 0, STREAM, user, yes)


def by(number: int) -> group.Asked:
    """The context of one who comes with the code of this invite."""
    return group.Asked(invite=number)


def profile() -> messages.SetGroupProfile:
    return messages.SetGroupProfile(0, 0, STREAM, "Kin")


def permissions(send: Role = Role.MEMBER) -> messages.SetPermissions:
    return messages.SetPermissions(0, 0, STREAM, Permissions(send))


def timer(seconds: int = 60) -> messages.SetTimer:
    return messages.SetTimer(0, 0, STREAM, seconds)


# --- every command by every role --------------------------------------------------------------------------------------

EVERYBODY = {OWNER, ADMIN, MEMBER}
LEADERS = {OWNER, ADMIN}

TABLE: list[tuple[str, messages.Change, set[int]]] = [
    ("send", send(), EVERYBODY),
    ("forward", messages.Forward(0, 0, STREAM, STREAM, 1), EVERYBODY),
    ("react", messages.React(0, 0, STREAM, 3, "👍"), EVERYBODY),
    ("edit another's", messages.Edit(0, 0, STREAM, 3, text("x")), set()),
    ("delete another's", messages.Delete(0, 0, STREAM, 3), LEADERS),
    ("timer", timer(), LEADERS),
    ("profile", profile(), LEADERS),
    ("permissions", permissions(Role.ADMIN), LEADERS),
    ("add", add(NEW), LEADERS),
    ("remove a member", remove(OTHER), LEADERS),
    ("ban a member", remove(OTHER, ban=True), LEADERS),
    ("ban one who is not in", remove(NEW, ban=True), LEADERS),
    ("remove one who is not in", remove(NEW), set()),
    ("remove an admin", remove(7), {OWNER}),
    ("remove the owner", remove(OWNER), set()),
    ("promote a member", role(OTHER, Role.ADMIN), LEADERS),
    ("demote an admin", role(7, Role.MEMBER), {OWNER}),
    ("hand over to a member", role(OTHER, Role.OWNER), {OWNER}),
    ("hand over to an admin", role(7, Role.OWNER), {OWNER}),
    ("promote one who is not in", role(NEW, Role.ADMIN), set()),
    ("leave", leave(), EVERYBODY),
    ("make an invite", invite(), LEADERS),
    ("revoke an invite", revoke(4), LEADERS),
    ("revoke no invite", revoke(99), set()),
    ("let in", answer(8), LEADERS),
    ("turn away", answer(8, yes=False), LEADERS),
    ("answer nobody", answer(NEW), set()),
    ("unban", unban(9), LEADERS),
    ("create it again", create(NEW), set()),
    ("accept a request", messages.AcceptRequest(0, 0, STREAM), set()),
    ("set a profile of one's own", messages.SetProfile(0, 0, messages.Profile()), set()),
]


def furnished() -> Host[group.Group]:
    """As `made`, and: 3 a message of OTHER, 4 an invite with approval, 7 an admin, 8 asks to join, 9 is banned."""
    host = made(dataclasses.replace(LIMITS, group_members=12))
    assert host.do(OTHER, send(), NOTHING).seq == 3
    assert host.do(OWNER, invite(approval=True), NOTHING).seq == 4
    host.do(OWNER, add(7), OPEN_TO_ALL)
    host.do(OWNER, role(7, Role.ADMIN))
    host.do(8, join(), by(4))
    host.do(OWNER, remove(9, ban=True))
    return host


@pytest.mark.parametrize(
    "user", [OWNER, ADMIN, MEMBER, STRANGER, 8, 9], ids="owner admin member stranger asking banned".split()
)
@pytest.mark.parametrize(("name", "frame", "allowed"), TABLE, ids=[row[0] for row in TABLE])
def test_each_role_may_do_what_the_table_says_and_nothing_else(
    name: str, frame: messages.Change, allowed: set[int], user: int
) -> None:
    host = furnished()
    frame = msgspec.structs.replace(frame)
    copied = log.Copied(text("copied"), 1)
    if user in allowed:
        host.do(user, frame, OPEN_TO_ALL, copied=copied)
        assert picture(host.rebuilt()) == picture(host.state)
    else:
        assert host.refused(user, frame, OPEN_TO_ALL, copied=copied) is codes.NOT_ALLOWED


PERMITTED = [
    ("send", send(), "send"),
    ("forward", messages.Forward(0, 0, STREAM, STREAM, 1), "send"),
    ("react", messages.React(0, 0, STREAM, 3, "👍"), "send"),
    ("add", add(NEW), "add"),
    ("invite", invite(), "add"),
    ("revoke", revoke(4), "add"),
    ("let in", answer(8), "add"),
    ("profile", profile(), "edit"),
    ("timer", timer(), "edit"),
]


@pytest.mark.parametrize("lowest", list(Role))
@pytest.mark.parametrize(("name", "frame", "power"), PERMITTED, ids=[row[0] for row in PERMITTED])
def test_permissions_name_the_lowest_role_for_each_power(name: str, frame: messages.Change, power: str, lowest: Role) -> None:
    for user, own in ((OWNER, Role.OWNER), (ADMIN, Role.ADMIN), (MEMBER, Role.MEMBER), (STRANGER, 0)):
        host = furnished()
        chosen = msgspec.structs.replace(Permissions(), **{power: lowest})
        host.do(OWNER, messages.SetPermissions(0, 0, STREAM, chosen))
        copied = log.Copied(text("copied"), 1)
        command = msgspec.structs.replace(frame)
        if own >= lowest:
            host.do(user, command, OPEN_TO_ALL, copied=copied)
        else:
            assert host.refused(user, command, OPEN_TO_ALL, copied=copied) is codes.NOT_ALLOWED
        if power == "add":
            assert host.state.may_administer(user) is (own >= lowest)


def test_who_may_no_longer_send_may_neither_edit_what_was_sent_before_nor_send_what_is_not_stored() -> None:
    host = made()
    seq = host.do(MEMBER, send(), NOTHING).seq
    host.do(OWNER, permissions(Role.ADMIN))
    assert host.refused(MEMBER, messages.Edit(0, 0, STREAM, seq, text("x")), NOTHING) is codes.NOT_ALLOWED
    with pytest.raises(codes.Refused):
        host.state.check_ephemeral(host.command(MEMBER, send()), NOW, NOTHING)
    host.do(MEMBER, messages.Delete(0, 0, STREAM, seq), NOTHING)


@pytest.mark.parametrize("frame", [row[1] for row in TABLE if not isinstance(row[1], messages.CreateGroup)], ids=repr)
def test_a_group_that_was_never_made_answers_like_one_that_is_closed_to_one(frame: messages.Change) -> None:
    copied = log.Copied(text("copied"), 1)
    assert new().refused(OWNER, msgspec.structs.replace(frame), OPEN_TO_ALL, copied=copied) is codes.NOT_ALLOWED


def test_nobody_can_do_anything_to_oneself_but_leave() -> None:
    for user in (OWNER, ADMIN, MEMBER):
        host = made()
        for frame in (remove(user), remove(user, ban=True), role(user, Role.MEMBER), role(user, Role.OWNER)):
            assert host.refused(user, frame) is codes.NOT_ALLOWED


# --- creating and adding ----------------------------------------------------------------------------------------------


def test_its_creator_is_the_owner_and_the_first_of_the_members_each_named_once() -> None:
    host = new()
    accepted = host.do(OWNER, create(MEMBER, OWNER, ADMIN, MEMBER), OPEN_TO_ALL)
    assert isinstance(accepted.event, events.GroupCreated)
    assert accepted.event.members == (MEMBER, ADMIN)
    assert host.state.members() == [OWNER, MEMBER, ADMIN]
    assert [host.state.role(user) for user in (OWNER, MEMBER, ADMIN, STRANGER)] == [Role.OWNER, Role.MEMBER, Role.MEMBER, 0]
    assert accepted.members == [records.Membership(user, STREAM, 1) for user in (OWNER, MEMBER, ADMIN)]
    assert (host.state.title, host.state.description, host.state.picture) == ("Kith", "of old", "pic")


@pytest.mark.parametrize(
    "facts",
    [None, CAREFUL, Facts("b", blocked=frozenset({OWNER})), Facts("n", privacy=Privacy(add_to_groups=Audience.NOBODY))],
    ids=["no such user", "contacts only", "blocks the adder", "nobody"],
)
def test_one_who_may_not_be_added_spoils_the_whole_list_with_one_and_the_same_answer(facts: Facts | None) -> None:
    context = group.Asked({**OPEN_TO_ALL.facts, NEW: facts})
    assert new().refused(OWNER, create(MEMBER, NEW), context) is codes.NOT_ALLOWED
    assert made().refused(OWNER, add(STRANGER, NEW), context) is codes.NOT_ALLOWED
    assert made().refused(OWNER, add(STRANGER, NEW), group.Asked({STRANGER: ANYBODY})) is codes.NOT_ALLOWED


def test_contacts_may_be_added_where_contacts_may() -> None:
    facts = msgspec.structs.replace(CAREFUL, contacts=frozenset({OWNER}))
    made().do(OWNER, add(NEW), group.Asked({NEW: facts}))


def test_a_list_that_adds_nobody_changes_nothing() -> None:
    assert made().refused(OWNER, add(MEMBER, OWNER), OPEN_TO_ALL) is codes.NOTHING_CHANGED


def test_a_group_holds_its_members_to_the_limit_by_every_way_in() -> None:
    assert new().refused(OWNER, create(*range(2, 8)), OPEN_TO_ALL) is codes.TOO_MANY
    new().do(OWNER, create(*range(2, 7)), OPEN_TO_ALL)
    host = made()
    open_link = host.do(OWNER, invite()).seq
    asking = host.do(OWNER, invite(approval=True)).seq
    host.do(20, join(), by(asking))
    assert host.refused(OWNER, add(21, 22, 23), OPEN_TO_ALL) is codes.TOO_MANY
    host.do(OWNER, add(21, 22, MEMBER), OPEN_TO_ALL)
    assert host.refused(24, join(), by(open_link)) is codes.TOO_MANY
    assert host.refused(OWNER, answer(20)) is codes.TOO_MANY
    host.do(OWNER, remove(21))
    host.do(OWNER, answer(20))


# --- owners -----------------------------------------------------------------------------------------------------------


def successor(host: Host[group.Group], user: int) -> int:
    event = host.do(user, leave()).event
    assert isinstance(event, events.MemberLeft)
    return event.successor


def test_an_owner_is_followed_by_the_longest_serving_admin_then_by_the_longest_serving_member() -> None:
    host = made()
    host.do(OWNER, role(OTHER, Role.ADMIN))
    host.do(OWNER, add(NEW), OPEN_TO_ALL)
    for user, heir in ((OWNER, ADMIN), (ADMIN, OTHER), (OTHER, MEMBER), (MEMBER, NEW), (NEW, 0)):
        host.snapshot()  # the order of joining survives snapshots
        host.crash()
        assert host.state.owner == user
        assert successor(host, user) == heir
    assert (host.state.owner, host.state.members()) == (0, [])


def test_others_leave_without_successor() -> None:
    host = made()
    assert successor(host, ADMIN) == successor(host, MEMBER) == 0
    assert host.state.owner == OWNER


def test_who_hands_the_group_over_is_an_admin_afterwards() -> None:
    host = made()
    host.do(OWNER, role(MEMBER, Role.OWNER))
    assert [host.state.role(user) for user in (OWNER, MEMBER)] == [Role.ADMIN, Role.OWNER]
    assert host.refused(OWNER, role(MEMBER, Role.MEMBER)) is codes.NOT_ALLOWED
    host.do(MEMBER, role(OWNER, Role.MEMBER))


def test_a_role_that_one_has_changes_nothing() -> None:
    assert made().refused(OWNER, role(ADMIN, Role.ADMIN)) is codes.NOTHING_CHANGED


def test_a_group_that_everybody_left_is_over_even_for_one_with_a_link() -> None:
    host = made()
    link = host.do(OWNER, invite()).seq
    asking = host.do(OWNER, invite(approval=True)).seq
    for user in (OWNER, ADMIN, MEMBER, OTHER):
        host.do(user, leave())
    assert host.refused(NEW, join(), by(link)) is codes.NOT_ALLOWED
    assert host.refused(NEW, join(), by(asking)) is codes.NOT_ALLOWED
    assert host.refused(OWNER, create(NEW), OPEN_TO_ALL) is codes.NOT_ALLOWED


# --- bans -------------------------------------------------------------------------------------------------------------


def test_a_ban_closes_every_way_in_until_it_is_lifted() -> None:
    host = made()
    link = host.do(OWNER, invite()).seq
    asking = host.do(OWNER, invite(approval=True)).seq
    host.do(NEW, join(), by(asking))
    host.do(OWNER, remove(NEW, ban=True))
    assert host.state.requests == {}
    assert host.refused(OWNER, answer(NEW)) is codes.NOT_ALLOWED
    for number in (link, asking):
        assert host.refused(NEW, join(), by(number)) is codes.NOT_ALLOWED
    assert host.refused(OWNER, add(NEW), OPEN_TO_ALL) is codes.NOT_ALLOWED
    assert host.refused(OWNER, remove(NEW, ban=True)) is codes.NOT_ALLOWED
    host.do(OWNER, unban(NEW))
    assert host.refused(OWNER, unban(NEW)) is codes.NOTHING_CHANGED
    host.do(NEW, join(), by(link))


def test_a_removal_without_ban_leaves_the_links_open() -> None:
    host = made()
    link = host.do(OWNER, invite()).seq
    host.do(OWNER, remove(MEMBER))
    host.do(MEMBER, join(), by(link))


def test_bans_are_limited() -> None:
    host = made()
    host.do(OWNER, remove(20, ban=True))
    host.do(OWNER, remove(21, ban=True))
    assert host.refused(OWNER, remove(MEMBER, ban=True)) is codes.TOO_MANY
    host.do(OWNER, remove(MEMBER))


# --- invite links and requests ----------------------------------------------------------------------------------------


def test_an_invite_lets_in_as_many_as_it_says() -> None:
    host = made()
    link = host.do(OWNER, invite(uses=1)).seq
    event = host.do(STRANGER, join(), by(link)).event
    assert isinstance(event, events.MemberJoined)
    assert (event.user, event.sender, event.invite) == (STRANGER, STRANGER, link)
    host.crash()
    assert host.refused(NEW, join(), by(link)) is codes.NOT_ALLOWED
    assert host.refused(STRANGER, join(), by(link)) is codes.NOTHING_CHANGED


def test_an_invite_works_until_the_millisecond_of_its_expiry() -> None:
    host = made()
    link = host.do(OWNER, invite(expires_at=NOW + 1000)).seq
    host.now += 999
    host.do(STRANGER, join(), by(link))
    host.now += 1
    assert host.refused(NEW, join(), by(link)) is codes.NOT_ALLOWED


def test_a_revoked_link_never_works_again_whatever_counters_other_devices_use() -> None:
    host = made()
    frame = invite()
    frame.counter = 77
    leaked = host.do(OWNER, frame, device=10).seq
    host.do(OWNER, revoke(leaked))
    again = invite()
    again.counter = 77
    fresh = host.do(ADMIN, again, device=20).seq
    assert host.refused(NEW, join(), by(leaked)) is codes.NOT_ALLOWED
    host.do(NEW, join(), by(fresh))


def test_two_devices_with_the_same_counter_make_two_invites() -> None:
    host = made()
    for user in (OWNER, ADMIN):
        frame = invite(uses=user)
        frame.counter = 77
        host.do(user, frame)
    assert [each.uses for each in host.state.invites.values()] == [OWNER, ADMIN]


def test_a_code_of_no_invite_of_this_group_is_refused() -> None:
    assert made().refused(NEW, join(), by(0)) is codes.NOT_ALLOWED
    assert made().refused(NEW, join(), by(99)) is codes.NOT_ALLOWED


def test_invites_are_limited_until_one_is_revoked() -> None:
    host = made()
    numbers = [host.do(OWNER, invite()).seq for _ in range(3)]
    assert host.refused(OWNER, invite()) is codes.TOO_MANY
    host.do(OWNER, revoke(numbers[0]))
    host.do(OWNER, invite())


def test_with_approval_one_asks_once_and_is_let_in_or_not() -> None:
    host = made()
    link = host.do(OWNER, invite(approval=True)).seq
    asked = host.do(STRANGER, join(), by(link))
    assert isinstance(asked.event, events.JoinRequested)
    assert not asked.members
    assert host.refused(STRANGER, join(), by(link)) is codes.NOTHING_CHANGED
    assert host.refused(STRANGER, send(), NOTHING) is codes.NOT_ALLOWED
    host.do(ADMIN, answer(STRANGER, yes=False))
    host.do(STRANGER, join(), by(link))
    event = host.do(ADMIN, answer(STRANGER)).event
    assert isinstance(event, events.MemberJoined)
    assert (event.sender, event.user, event.invite) == (ADMIN, STRANGER, link)
    assert host.state.invites[link].used == 1
    assert host.refused(ADMIN, answer(STRANGER)) is codes.NOT_ALLOWED


def test_requests_are_limited_and_end_when_one_comes_in_by_another_way() -> None:
    host = made()
    link = host.do(OWNER, invite(approval=True)).seq
    free = host.do(OWNER, invite()).seq
    host.do(20, join(), by(link))
    host.do(21, join(), by(link))
    assert host.refused(22, join(), by(link)) is codes.TOO_MANY
    host.do(20, join(), by(free))
    host.do(OWNER, add(21), OPEN_TO_ALL)
    assert host.state.requests == {}


def test_a_request_outlives_its_link() -> None:
    host = made()
    link = host.do(OWNER, invite(approval=True)).seq
    host.do(STRANGER, join(), by(link))
    host.do(OWNER, revoke(link))
    host.do(OWNER, answer(STRANGER))
    assert STRANGER in host.state.standing


# --- who may read -----------------------------------------------------------------------------------------------------


def test_membership_is_an_interval_of_seqs_that_ends_with_the_removal_itself() -> None:
    host = made()
    left = host.do(MEMBER, leave())
    assert left.members == [records.Membership(MEMBER, STREAM, 1, left.seq)]
    removed = host.do(OWNER, remove(OTHER))
    back = host.do(OWNER, add(OTHER), OPEN_TO_ALL)
    assert host.disk.members[OTHER, 1] == removed.seq
    assert host.disk.members[OTHER, back.seq] == records.OPEN_END
    again = host.do(OWNER, remove(OTHER, ban=True))
    assert again.members == [records.Membership(OTHER, STREAM, back.seq, again.seq)]
    assert not host.do(OWNER, remove(NEW, ban=True)).members


def test_what_was_written_before_one_came_cannot_be_touched_and_answers_like_nothing() -> None:
    host = made()
    old = host.do(OWNER, send(), NOTHING).seq
    joined = host.do(OWNER, add(NEW), OPEN_TO_ALL).seq
    host.do(OWNER, role(NEW, Role.ADMIN))
    assert host.refused(NEW, messages.React(0, 0, STREAM, old, "👍"), NOTHING) is codes.NOT_ALLOWED
    assert host.refused(NEW, messages.Delete(0, 0, STREAM, old), NOTHING) is codes.NOT_ALLOWED
    assert [host.state.may_see(NEW, seq) for seq in (old, joined, joined + 1)] == [False, True, True]
    assert not host.state.may_see(STRANGER, 1)


def test_who_comes_back_may_not_touch_even_own_messages_of_before() -> None:
    host = made()
    own = host.do(MEMBER, send(), NOTHING).seq
    host.do(MEMBER, leave())
    host.do(OWNER, add(MEMBER), OPEN_TO_ALL)
    assert host.refused(MEMBER, messages.Edit(0, 0, STREAM, own, text("x")), NOTHING) is codes.NOT_ALLOWED


def test_only_members_can_be_mentioned() -> None:
    host = made()
    assert host.refused(OWNER, send(), NOTHING, mentions=(MEMBER, NEW)) is codes.BAD_MENTION
    assert host.do(OWNER, send(), NOTHING, mentions=(MEMBER, ADMIN, MEMBER)).mentions == [(MEMBER, 3), (ADMIN, 3)]


def test_watermarks_begin_where_one_joined_and_are_gone_with_the_member() -> None:
    host = made()
    joined = host.do(OWNER, add(NEW), OPEN_TO_ALL).seq
    assert (host.state.read[NEW], host.state.delivered[NEW]) == (joined, joined)
    host.snapshot()
    host.crash()
    assert (host.state.read[NEW], host.state.delivered[NEW]) == (joined, joined)
    host.do(NEW, leave())
    assert NEW not in host.state.read
    assert not host.state.mark(NEW, joined, joined)


# --- notices that are owed --------------------------------------------------------------------------------------------


def test_who_came_or_went_is_owed_a_notice_until_it_is_confirmed_also_by_the_next_owner() -> None:
    host = made()
    assert host.state.owed == dict.fromkeys((OWNER, ADMIN, MEMBER, OTHER), (1, True, OWNER))
    host.state.confirmed(OWNER, 1)
    gone = host.do(MEMBER, leave()).seq
    host.state.confirmed(MEMBER, 1)  # of the coming: late
    assert host.state.owed == {ADMIN: (1, True, OWNER), OTHER: (1, True, OWNER), MEMBER: (gone, False, MEMBER)}
    host.snapshot()
    banned = host.do(OWNER, remove(NEW, ban=True)).seq
    host.crash()
    assert host.state.owed == {ADMIN: (1, True, OWNER), OTHER: (1, True, OWNER), MEMBER: (gone, False, MEMBER)}
    host.state.confirmed(MEMBER, banned)
    host.state.confirmed(STRANGER, banned)
    assert MEMBER not in host.state.owed


def test_the_server_itself_can_have_a_user_leave() -> None:
    """When an account is deleted."""
    host = made()
    accepted = host.do(OWNER, leave(), device=0)
    assert isinstance(accepted.event, events.MemberLeft)
    assert (accepted.event.successor, accepted.event.counter) == (ADMIN, 0)


@pytest.mark.parametrize("frame", [events.Unbanned(*events.UNFILLED, 9), events.MemberLeft(*events.UNFILLED)], ids=repr)
def test_a_group_takes_no_ready_made_events(frame: Any) -> None:
    assert made().refused(OWNER, frame, device=0) is codes.NOT_ALLOWED
