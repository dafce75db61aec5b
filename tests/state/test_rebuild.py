"""K10 (`tests/checker/checks.py`) for every kind of stream: whatever people try, state is a function of the events, and so is
every item and interval.

Random commands, allowed or not, while the store confirms and the owner dies at random. Nothing but a refusal may come out of a
decision, and a refusal leaves no trace. The model reads the stored events alone, as a client would.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.state import account, direct, group, log, rules
from auth.policy import Facts
from protocol import codes, events, ids, messages
from protocol.events import Audience, Permissions, Privacy, Profile, Role
from storage import records
from tests.state.world import Host, picture, text

LIMITS = rules.Rules(
    edit_window=1000,
    group_members=5,
    request_messages=2,
    edits=3,
    invites=2,
    join_requests=1,
    bans=2,
    contacts=2,
    blocked=2,
    kept=2,
    hidden=3,
    settings=2,
)
S = b"placehold"  # the stream of a frame is for the session; the state does not look at it

USERS = st.integers(1, 6)
#: Who attempts; 0 is whoever owns the group at that moment.
PEOPLE = st.sampled_from([0, 0, 0, 0, 1, 2, 2, 3, 4, 5])
SEQS = st.integers(1, 12)
BOTH = st.booleans()
ROLES = st.sampled_from(Role)
BODIES = st.sampled_from([text("a"), text("b", 1), text("c", 2, 3)])


@dataclass
class Try:
    """One attempt: who, on which of two devices (or the server for them), what, and in what world."""

    user: int
    device: int
    frame: Any
    facts: dict[int, Facts | None]
    invite: int = 0
    mentions: tuple[int, ...] = ()
    again: bool = False  # send the device's previous command once more
    later: int = 0  # ms that the clock moves first
    store: str = ""  # what happens afterwards


OPEN = Facts("open")
CONTACTS = Privacy(write=Audience.CONTACTS)
NOBODY = Privacy(write=Audience.NOBODY, requests=False, add_to_groups=Audience.NOBODY)
#: What is known of everybody in the attempt's world; mostly nothing stands in the way.
WORLDS: list[dict[int, Facts | None]] = [
    *([{}] * 6),
    {1: Facts("by request", privacy=CONTACTS), 2: Facts("by request", privacy=CONTACTS)},
    {2: Facts("by request", privacy=CONTACTS)},
    {1: Facts("contact", privacy=CONTACTS, contacts=frozenset({2})), 2: Facts("closed", privacy=NOBODY)},
    {2: Facts("blocks", blocked=frozenset({1})), 3: None},
    {1: None, 4: Facts("closed", privacy=NOBODY)},
]

MESSAGING = st.one_of(
    st.builds(
        lambda body, reply, flags: messages.Send(0, 0, S, body, reply, flags),
        BODIES,
        st.sampled_from([0, 0, 1, 9]),
        st.integers(0, 15),
    ),
    st.builds(lambda seq, body: messages.Edit(0, 0, S, seq, body), SEQS, BODIES),
    st.builds(lambda seq: messages.Delete(0, 0, S, seq), SEQS),
    st.builds(lambda seq, emoji: messages.React(0, 0, S, seq, emoji), SEQS, st.sampled_from(["", "👍", "🎉"])),
    st.builds(lambda: messages.Forward(0, 0, S, S, 1)),
    st.builds(lambda seconds: messages.SetTimer(0, 0, S, seconds), st.sampled_from([0, 1, 60])),
)
LEAVE_OR_ACCEPT = st.sampled_from([messages.Leave(0, 0, S), messages.AcceptRequest(0, 0, S)])
GROUP = st.one_of(
    st.builds(lambda users: messages.CreateGroup(0, 0, "Kith", tuple(users)), st.lists(USERS, max_size=4)),
    st.builds(lambda users: messages.AddMembers(0, 0, S, tuple(users)), st.lists(USERS, min_size=1, max_size=3)),
    st.builds(lambda user, ban: messages.RemoveMember(0, 0, S, user, ban), USERS, BOTH),
    st.builds(lambda user, role: messages.SetRole(0, 0, S, user, role), USERS, ROLES),
    st.builds(lambda title: messages.SetGroupProfile(0, 0, S, title), st.sampled_from("ab")),
    st.builds(lambda one, two, three: messages.SetPermissions(0, 0, S, Permissions(one, two, three)), ROLES, ROLES, ROLES),
    st.builds(lambda uses, yes: messages.CreateInvite(0, 0, S, uses, 0, yes), st.integers(0, 2), BOTH),
    st.builds(lambda number: messages.RevokeInvite(0, 0, S, number), SEQS),
    st.builds(lambda: messages.Join(0, 0, S, b"code")),
    st.builds(lambda: messages.Join(0, 0, S, b"code")),
    st.builds(lambda user, yes: messages.AnswerJoin(0, 0, S, user, yes), USERS, BOTH),
    st.builds(lambda user: messages.Unban(0, 0, S, user), USERS),
)
STREAMS = st.sampled_from(
    [ids.direct_stream(1, 2), ids.direct_stream(2, 3), ids.group_stream(10, 1), ids.group_stream(10, 2), b"bad name"]
)
GROUPS = STREAMS.filter(lambda each: len(each) == 15)
ACCOUNT = st.one_of(
    st.builds(lambda name: messages.SetProfile(0, 0, Profile(name)), st.sampled_from("ab")),
    st.builds(lambda name: messages.Rename(0, 0, name), st.sampled_from("ab")),
    st.builds(lambda user, on, label: messages.SetContact(0, 0, user, on, label), USERS, BOTH, st.sampled_from("ab")),
    st.builds(lambda user, on: messages.SetBlock(0, 0, user, on), USERS, BOTH),
    st.builds(lambda write: messages.SetPrivacy(0, 0, Privacy(write=write)), st.sampled_from(Audience)),
    st.builds(lambda stream, on, until: messages.SetConversation(0, 0, stream, on, until), STREAMS, BOTH, st.integers(0, 1)),
    st.builds(lambda stream, upto, delete: messages.Clear(0, 0, stream, upto, delete), STREAMS, SEQS, BOTH),
    st.builds(lambda stream, words: messages.SetDraft(0, 0, stream, words), STREAMS, st.sampled_from(["", "a"])),
    st.builds(lambda stream, seq, star, pin: messages.Keep(0, 0, stream, seq, star, pin), STREAMS, SEQS, BOTH, BOTH),
    st.builds(lambda stream, seqs: messages.Hide(0, 0, stream, tuple(seqs)), STREAMS, st.lists(SEQS, min_size=1, max_size=3)),
    st.builds(lambda stream, seq: events.Joined(*events.UNFILLED, stream, seq), GROUPS, SEQS),
    st.builds(lambda stream, seq: events.Parted(*events.UNFILLED, stream, seq), GROUPS, SEQS),
)


def tries(frames: st.SearchStrategy[Any], users: st.SearchStrategy[int] = PEOPLE) -> st.SearchStrategy[list[Try]]:
    one = st.builds(
        Try,
        user=users,
        device=st.sampled_from([1, 1, 1, 2, 0]),
        frame=frames.map(lambda frame: frame),
        facts=st.sampled_from(WORLDS),
        invite=st.integers(0, 3),
        mentions=st.sampled_from([(), (), (), (1,), (2, 2), (3, 6)]),
        again=st.sampled_from([False] * 9 + [True]),
        later=st.sampled_from([0, 0, 0, 400, 1000, 70_000, -5000]),
        store=st.sampled_from(["", "", "", *(["flush"] * 6), "snapshot", "crash", "crash half"]),
    )
    return st.lists(one, min_size=20, max_size=50)


L = TypeVar("L", bound=log.Log)


class Run:
    """Carries out attempts, and checks after each what must always hold."""

    def __init__(self, host: Host[Any]) -> None:
        self.host = host
        host.auto = False
        self.last: dict[int, log.Command] = {}

    def context(self, attempt: Try) -> Any:
        state = self.host.state
        facts = {user: attempt.facts.get(user, Facts("open")) for user in range(1, 7)}
        if isinstance(state, direct.Direct):
            return direct.Pair(facts[attempt.user], facts[state.other(attempt.user)])
        if isinstance(state, group.Group):
            numbers = [0, *state.invites]
            return group.Asked(facts, numbers[attempt.invite % len(numbers)])
        return None

    def command(self, attempt: Try) -> log.Command:
        device = attempt.user * 10 + attempt.device if attempt.device else 0
        if attempt.again and device in self.last:
            return self.last[device]
        frame = msgspec.structs.replace(attempt.frame)
        self.aim(frame)
        if isinstance(frame, events.Event):
            device = 0
        copied = log.Copied(text("copied"), 1) if isinstance(frame, messages.Forward) else None
        command = self.host.command(attempt.user, frame, device, mentions=attempt.mentions, copied=copied)
        if device:
            self.last[device] = command
        return command

    def aim(self, frame: Any) -> None:
        """Most commands name something; that it exists must not be left to chance."""
        state = self.host.state
        if hasattr(frame, "target"):
            frame.target = 1 + frame.target % (state.head + 1)
        elif isinstance(state, group.Group):
            if isinstance(frame, messages.RevokeInvite) and state.invites:
                frame.invite = list(state.invites)[frame.invite % len(state.invites)]
            elif isinstance(frame, messages.AnswerJoin) and state.requests:
                frame.user = next(iter(state.requests))
            elif isinstance(frame, messages.Unban) and state.banned:
                frame.user = min(state.banned)

    def attempt(self, attempt: Try) -> None:
        host = self.host
        if not attempt.user:
            attempt = dataclasses.replace(attempt, user=host.state.owner or 1)
        host.now += attempt.later
        command = self.command(attempt)
        before = picture(host.state)
        waiting = len(host.pending)
        try:
            decision = host.decide(command, self.context(attempt))
        except codes.Refused:
            decision = None
        if not isinstance(decision, log.Accepted):
            assert picture(host.state) == before
            assert len(host.pending) == waiting
        else:
            assert decision.seq == before["head"] + 1
            assert decision.time >= before["time"]
        match attempt.store:
            case "flush":
                host.flush()
            case "snapshot":
                host.snapshot()
            case "crash":
                host.crash()
            case "crash half":
                host.crash(unheard=len(host.pending) // 2)
        self.check()

    def check(self) -> None:
        state = self.host.state
        if isinstance(state, group.Group):
            check_group(state)

    def finish(self) -> None:
        host = self.host
        host.flush()
        now = picture(host.state)
        assert picture(host.rebuilt()) == now
        alone = picture(host.rebuilt(host.disk.events_alone()))
        apart = {"snapshot_seq", "read", "delivered"}  # watermarks are no events
        assert {name: alone[name] for name in alone.keys() - apart} == {name: now[name] for name in now.keys() - apart}
        check_rows(host.disk.rows)


def carry_out(host: Host[Any], attempts: Sequence[Try]) -> Host[Any]:
    run = Run(host)
    for attempt in attempts:
        run.attempt(attempt)
    run.finish()
    return host


def check_rows(rows: Sequence[records.Event]) -> None:
    """K2, K3 and idempotency, from what is stored alone."""
    found = [events.decode(row.data) for row in rows]
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    commands = [(each.device, each.counter) for each in found if each.device]
    assert len(set(commands)) == len(commands)
    messages_so_far = 0
    time = 0
    for row, event in zip(rows, found, strict=True):
        messages_so_far += isinstance(event, events.Message)
        assert event.n == messages_so_far
        assert event.time >= time
        assert event.sender > 0
        assert row.kind == events.kind_of(event)
        time = event.time


def folds_of(rows: Sequence[records.Event], bodies: dict[int, msgspec.Raw]) -> dict[int, events.Fold]:
    """What a reader of the events makes of each message; `bodies` are those of edits before anything was erased."""
    folds: dict[int, events.Fold] = {}
    for row in rows:
        match events.decode(row.data):
            case events.Edited() as event:
                fold = folds.setdefault(event.target, events.Fold())
                fold.body, fold.edited_at, fold.edits = bodies[row.seq], event.time, (*fold.edits, row.seq)
                fold.changed = row.seq
            case events.Deleted() as event:
                edits = folds.get(event.target, events.Fold()).edits
                folds[event.target] = events.Fold(edits=edits, deleted=True, changed=row.seq)
            case events.Reacted() as event:
                fold = folds.setdefault(event.target, events.Fold())
                fold.changed, reactions = row.seq, fold.reactions
                reactions[event.sender] = event.emoji
                if not event.emoji:
                    del reactions[event.sender]
    return folds


def check_items(host: Host[Any]) -> None:
    """Every stored fold is what a reader of the events has; what was deleted has no body left, all else has its own."""
    rows = host.disk.rows
    found = {row.seq: events.decode(row.data) for row in rows}
    bodies = {seq: event.body for seq, event in found.items() if isinstance(event, events.Edited)}
    folds = folds_of(rows, bodies)
    for seq, event in found.items():
        if isinstance(event, events.Message):
            fold = folds.get(seq, events.Fold())
            assert host.disk.fold(seq) == fold
            assert (event.body == events.NIL) is fold.deleted
            for edit in fold.edits:
                assert (bodies[edit] == events.NIL) is fold.deleted
                assert rows[edit - 1].expires_at == event.expires_at
            assert len(fold.edits) <= LIMITS.edits
        else:
            assert seq not in folds


def check_group(state: group.Group) -> None:
    """What holds of a group at every seq."""
    inside = set(state.standing)
    owners = [user for user, standing in state.standing.items() if standing.role is Role.OWNER]
    assert len(owners) == (1 if inside else 0)
    assert len(inside) <= LIMITS.group_members
    assert not inside & state.banned
    assert not inside & set(state.requests)
    assert not state.banned & set(state.requests)
    assert len(state.banned) <= LIMITS.bans
    assert len(state.invites) <= LIMITS.invites
    assert len(state.requests) <= LIMITS.join_requests
    assert set(state.read) <= inside
    joined = [standing.joined for standing in state.standing.values()]
    assert joined == sorted(joined)


def check_intervals(host: Host[group.Group]) -> None:
    """K11: the intervals in the store are those of the events, in which everybody came and went."""
    wanted: dict[tuple[int, int], int] = {}
    since: dict[int, int] = {}
    for row in host.disk.rows:
        event = events.decode(row.data)
        came: Sequence[int] = ()
        gone = 0
        match event:
            case events.GroupCreated():
                came = (event.sender, *event.members)
            case events.MembersAdded():
                came = event.users
            case events.MemberJoined():
                came = (event.user,)
            case events.MemberRemoved():
                gone = event.user
            case events.MemberLeft():
                gone = event.sender
        for user in came:
            assert user not in since
            since[user] = row.seq
            wanted[user, row.seq] = records.OPEN_END
        if gone in since:
            wanted[gone, since.pop(gone)] = row.seq
    assert host.disk.members == wanted
    assert {user: standing.joined for user, standing in host.state.standing.items()} == since
    for user, seq in host.disk.mentions:
        assert any(mine == user and joined <= seq <= end for (mine, joined), end in wanted.items())


def check_owed(host: Host[group.Group]) -> None:
    """Whatever was confirmed to former owners, the next one owes at least the latest news of everybody."""
    alone = host.rebuilt(host.disk.events_alone()).owed
    assert host.rebuilt().owed == alone


@settings(max_examples=150, deadline=None)
@given(tries(st.one_of(MESSAGING, MESSAGING, LEAVE_OR_ACCEPT), st.sampled_from([1, 2, 1, 2, 3])))
def test_a_direct_conversation_is_a_function_of_its_events(attempts: list[Try]) -> None:
    host = carry_out(Host(lambda: direct.Direct(ids.direct_stream(1, 2), LIMITS)), attempts)
    check_items(host)
    assert {user for user, _ in host.disk.members} == ({1, 2} if host.disk.head else set())


@settings(max_examples=50, deadline=None)
@given(tries(MESSAGING, st.just(1)))
def test_a_note_to_self_is_a_function_of_its_events(attempts: list[Try]) -> None:
    check_items(carry_out(Host(lambda: direct.Direct(ids.direct_stream(1, 1), LIMITS)), attempts))


CREATION = Try(1, 1, messages.CreateGroup(0, 0, "Kith", (2, 3)), {}, store="flush")


@settings(max_examples=250, deadline=None)
@given(tries(st.one_of(GROUP, GROUP, MESSAGING, LEAVE_OR_ACCEPT)), st.sampled_from([True] * 9 + [False]))
def test_a_group_is_a_function_of_its_events(attempts: list[Try], made: bool) -> None:
    attempts = [CREATION, *attempts] if made else attempts
    host = carry_out(Host(lambda: group.Group(ids.group_stream(10, 1), LIMITS)), attempts)
    check_items(host)
    check_intervals(host)
    check_owed(host)


@settings(max_examples=150, deadline=None)
@given(tries(st.one_of(ACCOUNT, ACCOUNT, ACCOUNT, MESSAGING), st.sampled_from([1, 1, 1, 2])))
def test_an_account_is_a_function_of_its_events(attempts: list[Try]) -> None:
    host = carry_out(Host(lambda: account.Account(ids.account_stream(1), LIMITS, 1, "asha")), attempts)
    state: account.Account = host.state
    assert len(state.facts.contacts) <= LIMITS.contacts
    assert len(state.facts.blocked) <= LIMITS.blocked
    assert len(state.settings) <= LIMITS.settings
    for view in state.settings.values():
        assert len(view.kept) <= LIMITS.kept
        assert len(view.hidden) <= LIMITS.hidden


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(MESSAGING, GROUP, LEAVE_OR_ACCEPT, ACCOUNT), max_size=10), st.sampled_from("dga"))
def test_no_command_is_too_strange_for_a_new_stream(frames: list[Any], kind: str) -> None:
    """Each command at each kind of stream, with nothing set up: an event or a refusal, nothing else."""
    made: dict[str, Host[Any]] = {
        "d": Host(lambda: direct.Direct(ids.direct_stream(1, 2), LIMITS)),
        "g": Host(lambda: group.Group(ids.group_stream(10, 1), LIMITS)),
        "a": Host(lambda: account.Account(ids.account_stream(1), LIMITS, 1, "asha")),
    }
    carry_out(made[kind], [Try(1, 1, frame, {}) for frame in frames])
