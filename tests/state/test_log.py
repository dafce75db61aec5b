"""The log machine against a model that remembers everything: order, idempotency, and the same answers after any crash."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.state import log, rules
from protocol import codes, events, ids, messages
from storage import records
from tests.state.world import NOW, Disk, Host, picture, text

STREAM = ids.direct_stream(1, 2)
DEVICES = (10, 20, 30)
DAY = 24 * 60 * 60 * 1000


class Tally(log.Log):
    """The smallest policy: it counts events of each sender, and refuses when the context says so."""

    __slots__ = ("tally",)

    def __init__(self) -> None:
        super().__init__(STREAM, rules.Rules(windows_kept=DAY))
        self.tally: dict[int, int] = {}

    def propose(self, command: log.Command, now: int, target: log.Target | None, context: bool) -> log.Proposal:
        if context:
            raise codes.Refused(codes.NOT_ALLOWED)
        if isinstance(command.frame, messages.SetTimer):
            return log.Proposal(events.TimerChanged(*events.UNFILLED, command.frame.seconds))
        assert isinstance(command.frame, messages.Send)
        return log.Proposal(events.Message(*events.UNFILLED, command.frame.body))

    def applied(self, seq: int, event: events.Event) -> None:
        self.tally[event.sender] = self.tally.get(event.sender, 0) + 1

    def snapshot_parts(self) -> list[tuple[bytes, bytes | None]]:
        return [(b"tally", msgspec.msgpack.encode(self.tally))]

    def restore(self, parts: dict[bytes, bytes]) -> None:
        if b"tally" in parts:
            self.tally = msgspec.msgpack.decode(parts[b"tally"], type=dict[int, int])


def send(counter: int, words: str = "hi") -> messages.Send:
    return messages.Send(0, counter, STREAM, text(words))


def host(auto: bool = True) -> Host[Tally]:
    return Host(Tally, auto)


class Answer:
    """What a command must be answered: kind, and seq where there is one."""

    NEW, REPEAT, WAITING = "new", "repeat", "waiting"


class LogMachine(RuleBasedStateMachine):
    """The model is the list of all accepted commands. It knows no window: only that the 64 highest counters of a device are
    remembered, and that what lies below the lowest of 64 was answered."""

    def __init__(self) -> None:
        super().__init__()
        self.host = host(auto=False)
        self.twin = self.host.state  # never crashes, as long as nothing was lost
        self.accepted: list[tuple[int, int, str]] = []  # (device, counter, words); its seq is its place + 1
        self.durable = 0

    def expected(self, device: int, counter: int, words: str, refuse: bool) -> tuple[object, int]:
        mine = {each[1]: place + 1 for place, each in enumerate(self.accepted) if each[0] == device}
        remembered = sorted(mine)[-64:]
        if counter in remembered:
            seq = mine[counter]
            if self.accepted[seq - 1][2] != words:
                return codes.COUNTER_REUSED, 0
            return (Answer.REPEAT, seq) if seq <= self.durable else (Answer.WAITING, 0)
        if len(remembered) == 64 and counter < remembered[0]:
            return codes.ALREADY, 0
        return (codes.NOT_ALLOWED, 0) if refuse else (Answer.NEW, len(self.accepted) + 1)

    def answer(self, state: log.Log, command: log.Command, refuse: bool) -> tuple[object, int, bytes]:
        before = picture(state)
        try:
            decision = state.decide(command, self.host.now, None, refuse)
        except codes.Refused as refused:
            assert picture(state) == before
            return refused.error, 0, b""
        if isinstance(decision, log.Accepted):
            if state is self.host.state:
                self.host.pending.append(decision)
            return Answer.NEW, decision.seq, decision.data
        assert picture(state) == before
        return (Answer.REPEAT, decision.seq, b"") if isinstance(decision, log.Repeat) else (Answer.WAITING, 0, b"")

    def send(self, device: int, counter: int, words: str, refuse: bool) -> None:
        command = self.host.command(device // 10, send(counter, words), device)
        wanted = self.expected(device, counter, words, refuse)
        found = self.answer(self.host.state, command, refuse)
        assert found[:2] == wanted
        if self.twin is not self.host.state:
            assert self.answer(self.twin, command, refuse) == found
        if found[0] == Answer.NEW:
            self.accepted.append((device, counter, words))

    @rule(device=st.sampled_from(DEVICES), counter=st.integers(1, 200), other=st.booleans(), refuse=st.booleans())
    def any_counter(self, device: int, counter: int, other: bool, refuse: bool) -> None:
        self.send(device, counter, "other bytes" if other else "hi", refuse)

    @rule(device=st.sampled_from(DEVICES), gap=st.integers(1, 3))
    def next_counter(self, device: int, gap: int) -> None:
        counters = [each[1] for each in self.accepted if each[0] == device]
        self.send(device, max(counters, default=0) + gap, "hi", refuse=False)

    @rule(device=st.sampled_from(DEVICES), count=st.integers(60, 70), step=st.integers(1, 2))
    def a_window_full(self, device: int, count: int, step: int) -> None:
        start = max((each[1] for each in self.accepted if each[0] == device), default=0)
        for number in range(1, count + 1):
            self.send(device, start + number * step, "hi", refuse=False)

    @rule(device=st.sampled_from(DEVICES), back=st.integers(60, 68), other=st.booleans())
    def near_the_edge_of_the_window(self, device: int, back: int, other: bool) -> None:
        counters = sorted(each[1] for each in self.accepted if each[0] == device)
        if len(counters) >= back:
            self.send(device, counters[-back], "other bytes" if other else "hi", refuse=False)

    @precondition(lambda self: self.accepted)
    @rule(data=st.data(), other=st.booleans())
    def a_repeat(self, data: st.DataObject, other: bool) -> None:
        device, counter, _ = data.draw(st.sampled_from(self.accepted))
        self.send(device, counter, "other bytes" if other else "hi", refuse=False)

    @rule(by=st.integers(-3_600_000, 3_600_000))
    def the_clock_moves(self, by: int) -> None:
        self.host.now += by

    @rule(most=st.one_of(st.none(), st.integers(1, 5)))
    def the_store_confirms(self, most: int | None) -> None:
        self.host.flush(most)
        self.durable = self.host.state.durable
        self.twin.stored(self.durable)

    @rule()
    def a_snapshot_is_taken(self) -> None:
        self.the_store_confirms(None)
        self.host.snapshot()
        if self.twin is not self.host.state:
            self.twin.snapshot()

    @rule(unheard=st.integers(0, 5))
    def the_owner_dies(self, unheard: int) -> None:
        everything = not self.host.pending
        before = self.host.state
        self.host.crash(unheard)
        if everything:
            assert picture(self.host.state) == picture(before)
        else:
            self.twin = self.host.state  # what was provisional is lost: a twin that has it is another stream
        del self.accepted[self.host.disk.head :]
        self.durable = self.host.disk.head

    @precondition(lambda self: not self.host.pending)
    @rule()
    def events_alone_give_the_same_state(self) -> None:
        rebuilt = picture(self.host.rebuilt(self.host.disk.events_alone()))
        now = picture(self.host.state)
        del rebuilt["snapshot_seq"], now["snapshot_seq"]
        assert rebuilt == now

    @invariant()
    def the_store_holds_what_was_accepted_once_and_in_order(self) -> None:
        disk = self.host.disk
        found = [events.decode(row.data) for row in disk.rows]
        assert [row.seq for row in disk.rows] == list(range(1, len(found) + 1))
        assert [(each.device, each.counter) for each in found] == [each[:2] for each in self.accepted[: len(found)]]
        assert len({each[:2] for each in self.accepted}) == len(self.accepted)
        assert [each.n for each in found] == list(range(1, len(found) + 1))
        times = [each.time for each in found]
        assert times == sorted(times)

    @invariant()
    def the_twin_is_the_same(self) -> None:
        assert picture(self.twin) == picture(self.host.state)


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def test_a_command_without_counter_is_refused() -> None:
    found = host()
    command = log.Command(1, 10, messages.Send(0, 0, STREAM, text("hi")), 1)
    with pytest.raises(codes.Refused) as caught:
        found.state.decide(command, NOW, None, False)
    assert caught.value.error is codes.COUNTER_MISSING
    assert found.state.head == 0


def test_commands_of_the_server_are_never_repeats() -> None:
    found = host()
    command = log.Command(1, 0, send(7), 5)
    assert [found.decide(command, False).seq for _ in range(3)] == [1, 2, 3]  # type: ignore[union-attr]
    assert found.state.windows == {}
    assert {events.decode(row.data).counter for row in found.disk.rows} == {0}


def test_only_messages_count_in_n_and_a_refusal_takes_neither_seq_nor_n_nor_time() -> None:
    found = host()
    assert (found.do(1, send(1), False).seq, found.state.n) == (1, 1)
    assert (found.do(1, messages.SetTimer(0, 2, STREAM, 60), False).seq, found.state.n) == (2, 1)
    found.now += 1000
    assert found.refused(1, send(3), True) is codes.NOT_ALLOWED
    assert (found.state.head, found.state.n, found.state.time) == (2, 1, NOW)
    assert found.do(1, send(3), False).seq == 3


def test_while_it_is_on_its_way_a_repeat_waits_and_afterwards_it_gets_the_first_answer() -> None:
    found = host(auto=False)
    command = found.command(1, send(5))
    assert isinstance(found.decide(command, False), log.Accepted)
    assert found.decide(command, True) is log.WAITING
    found.flush()
    assert found.decide(command, True) == log.Repeat(1)
    assert found.rebuilt().earlier(command) == log.Repeat(1)


def test_the_oldest_of_sixty_four_is_remembered_and_the_one_before_was_answered() -> None:
    found = host()
    for counter in range(1, 66):
        found.do(1, send(counter), False)
    for state in (found.state, found.rebuilt()):
        assert state.earlier(found.command(1, send(2))) == log.Repeat(2)
        with pytest.raises(codes.Refused) as caught:
            state.earlier(found.command(1, send(1)))
        assert caught.value.error is codes.ALREADY


def test_a_refused_command_that_comes_again_late_takes_its_place_among_the_remembered() -> None:
    found = host()
    for counter in range(1, 66):
        if counter != 3:
            found.do(1, send(counter), False)
    found.do(1, send(3), False)  # its 65th: now 2 is the lowest, and was answered
    for state in (found.state, found.rebuilt()):
        assert list(state.windows[10].entries) == list(range(2, 66))
    found.do(1, send(66), False)
    for state in (found.state, found.rebuilt()):
        assert list(state.windows[10].entries) == list(range(3, 67))
        assert state.earlier(found.command(1, send(3))) == log.Repeat(65)


def test_a_counter_with_other_bytes_is_an_error_while_it_is_on_its_way_and_afterwards() -> None:
    found = host(auto=False)
    found.do(1, send(5, "one"), False)
    assert found.refused(1, send(5, "two"), False) is codes.COUNTER_REUSED
    found.flush()
    assert found.refused(1, send(5, "two"), False) is codes.COUNTER_REUSED
    found.crash()
    assert found.refused(1, send(5, "two"), False) is codes.COUNTER_REUSED


def test_a_window_is_forgotten_after_long_silence_of_its_device_and_no_sooner() -> None:
    found = host()
    found.do(1, send(1), device=10)
    found.now += DAY
    found.do(1, send(1), device=20)
    found.snapshot()
    assert set(found.rebuilt().windows) == {10, 20}
    found.now += 1
    found.do(1, send(2), device=20)
    found.snapshot()
    assert set(found.state.windows) == set(found.rebuilt().windows) == {20}
    assert not [key for key in found.disk.parts if key.endswith((10).to_bytes(7, "big"))]


def test_windows_of_a_snapshot_hold_for_devices_that_were_silent_since() -> None:
    found = host()
    found.do(1, send(1), False, device=10)
    found.snapshot()
    found.do(2, send(1), False, device=20)
    found.snapshot()
    rebuilt = found.rebuilt()
    assert rebuilt.earlier(found.command(1, send(1), 10)) == log.Repeat(1)
    assert rebuilt.earlier(found.command(2, send(1), 20)) == log.Repeat(2)


def test_a_snapshot_is_due_after_256_events_and_not_again_until_256_more() -> None:
    found = host()
    due = []
    for counter in range(1, 600):
        found.do(1, send(counter), False)
        if found.state.snapshot_due:
            due.append(found.state.head)
            found.snapshot()
    assert due == [256, 512]
    assert len(found.disk.load().tail) == 599 - 512


class Touching(Tally):
    """Every command touches the item at seq 1."""

    __slots__ = ()

    def propose(self, command: log.Command, now: int, target: log.Target | None, context: bool) -> log.Proposal:
        proposal = super().propose(command, now, target, context)
        assert isinstance(proposal.event, events.Message)
        proposal.target = log.Target(self.head + 1, proposal.event, events.Fold())
        return proposal


def test_touched_items_are_kept_until_what_touched_them_is_durable_however_busy_the_stream_is() -> None:
    found = Host(Touching, auto=False)
    seen: list[Sequence[int]] = []
    found.do(1, send(1), False)
    for counter in range(2, 50):
        found.do(1, send(counter), False)
        found.flush(1)
        seen.append(list(found.state.targets))
    assert seen == [[seq] for seq in range(2, 50)]
    found.state.stored(49, keep_targets=[49])
    assert list(found.state.targets) == [49]
    found.state.stored(49)
    assert not found.state.targets


def test_the_store_of_these_tests_refuses_what_the_contract_refuses() -> None:
    """The instrument itself: fenced, conflicting, repeated."""
    disk = Disk(STREAM)
    event = records.NewEvent(1, events.encode(events.Message(1, NOW, 1, 10, 1, text("hi"))))
    first = records.Append(STREAM, 5, 1, 1, NOW, [event])
    assert disk.append(first) is records.Result.STORED
    assert disk.append(first) is records.Result.STORED
    assert disk.head == 1
    assert disk.append(records.Append(STREAM, 5, 3, 2, NOW, [event])) is records.Result.CONFLICT
    assert disk.append(records.Append(STREAM, 4, 2, 2, NOW, [event])) is records.Result.FENCED
