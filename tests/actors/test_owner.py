"""The owner under trouble: order per device, answers to everybody who waits, and nothing stored that stays unheard."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

from actors import conversation, session
from actors.messages import Persisted
from actors.owner import LOAD_AGAIN_S
from actors.state import log
from protocol import codes, events, ids, messages
from storage import errors, records
from tests.actors.world import ASHA, BEN, CARA, World, direct, text
from tests.storage.faults import Fault

S = direct(ASHA, BEN)


class Gate:
    """Holds one kind of store call back until it is opened."""

    def __init__(self, world: World, name: str) -> None:
        self._inner = getattr(world.store, name)
        self.waiting = 0
        self._open = asyncio.Event()
        setattr(world.store, name, self._call)

    async def _call(self, *args: Any) -> Any:
        self.waiting += 1
        await self._open.wait()
        return await self._inner(*args)

    def open(self) -> None:
        self._open.set()


async def test_what_was_stored_though_nobody_knew_reaches_everybody_without_another_event(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("one"))
    await world.quiet()
    world.store.faults.append(Fault.UNANSWERED)
    rid = asha.say(messages.Send, S, text("two"))
    answer = await asha.answer(rid)
    assert isinstance(answer, messages.Error)
    assert answer.symbol == "unknown"
    await world.until(lambda: ben.texts(S) == ["one", "two"])
    # The same bytes again: the same event.
    asha.tell(messages.Send(rid, asha.counter, S, text("two")))
    await world.until(lambda: any(isinstance(each, messages.Sent) and each.rid == rid for each in asha.frames))
    assert await world.whole(S) == await world.whole(S)
    assert len(await world.whole(S)) == 2


@pytest.mark.parametrize(("fault", "symbol"), [(Fault.REFUSED, "unavailable"), (Fault.LOST, "unknown")])
async def test_what_was_not_stored_is_seen_by_nobody_and_takes_its_place_when_sent_again(
    world: World, fault: Fault, symbol: str
) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("one"))
    await world.quiet()
    world.store.faults.append(fault)
    rid = asha.say(messages.Send, S, text("two"))
    answer = await asha.answer(rid)
    assert isinstance(answer, messages.Error)
    assert (answer.symbol, answer.temporary) == (symbol, True)
    await world.quiet()
    assert ben.texts(S) == ["one"]
    asha.frames.clear()
    asha.tell(messages.Send(rid, asha.counter, S, text("two")))
    assert isinstance(await asha.answer(rid), messages.Sent)
    await world.quiet()
    assert ben.texts(S) == ["one", "two"]


async def test_commands_of_a_device_keep_their_order_when_a_look_up_ends_while_the_state_is_loaded(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    first = await asha.done(messages.Send, S, text("zero"))
    await world.quiet()
    item, load = Gate(world, "item"), Gate(world, "load")
    edit = asha.say(messages.Edit, S, first.seq, text("edited"))  # has to be looked up
    one = asha.say(messages.Send, S, text("one"))
    await world.until(lambda: item.waiting)
    world.store.faults.append(Fault.LOST)
    ben.say(messages.Send, S, text("lost"))
    await world.until(lambda: load.waiting)
    two = asha.say(messages.Send, S, text("two"))
    await world.until(lambda: len(world.actor(S)._stash) == 1)
    item.open()
    await world.until(lambda: len(world.actor(S)._stash) == 3)
    load.open()
    seqs = [await asha.answer(rid) for rid in (edit, one, two)]
    assert [answer.seq for answer in seqs if isinstance(answer, messages.Sent)] == [2, 3, 4]


async def test_everybody_who_waits_is_answered_when_the_owner_raises(world: World) -> None:
    asha, ben, cara = await world.known(ASHA), await world.known(BEN), await world.known(CARA)
    created = await asha.done(messages.CreateGroup, "g", (BEN, CARA))
    group = ids.group_stream(asha.device, asha.counter)
    await world.quiet()
    owner = world.actor(group)
    item = Gate(world, "item")
    waiting = [
        (asha, asha.say(messages.React, group, created.seq, "x")),  # looked up
        (asha, asha.say(messages.Send, group, text("held"))),
        (ben, ben.say(messages.Send, group, text("accepted"))),
    ]
    await world.until(lambda: item.waiting)

    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    owner.release = fail
    waiting.append((cara, cara.say(messages.Send, group, text("accepted too"))))
    answers = [await phone.answer(rid) for phone, rid in waiting]
    assert all(isinstance(answer, messages.Error) and answer.temporary for answer in answers)
    # It is started again, and what was stored is heard by who had not heard of it.
    await world.until(lambda: "accepted" in cara.texts(group))
    assert await world.whole(group)
    assert isinstance(await ben.ask(messages.Send, group, text("later")), messages.Sent)


async def test_an_owner_whose_store_is_away_answers_and_goes_on_when_it_is_back(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("one"))
    await world.quiet()
    assert await world.sleep()
    world.store.away = True
    assert await asha.refused(messages.Send, S, text("two")) is codes.UNAVAILABLE
    world.store.away = False
    assert not world.services.telemetry.quarantines
    rid = asha.say(messages.Send, S, text("three"))
    await world.advance(1.0)
    assert isinstance(await asha.answer(rid), messages.Sent)
    await world.quiet()
    assert ben.texts(S) == ["one", "three"]


async def test_an_owner_that_cannot_be_loaded_is_kept_apart_and_says_when_to_come_back(world: World) -> None:
    asha, ben, cara = await world.known(ASHA), await world.known(BEN), await world.known(CARA)
    inner = world.store.inner.load

    async def load(stream: bytes) -> Any:
        if stream == S:
            raise errors.Damaged("planted")
        return await inner(stream)

    world.store.load = load  # type: ignore[attr-defined]
    assert await asha.refused(messages.Send, S, text("x")) is codes.UNAVAILABLE
    await world.until(lambda: world.services.telemetry.quarantines["direct"])
    answer = await asha.ask(messages.Send, S, text("y"))
    assert isinstance(answer, messages.Error)
    assert answer.symbol == "unavailable"
    assert answer.retry_after_ms > 0
    assert isinstance(await cara.ask(messages.Send, direct(BEN, CARA), text("not harmed")), messages.Sent)
    await world.until(lambda: ben.texts(direct(BEN, CARA)))


async def test_a_question_is_answered_only_by_what_is_durable(world: World) -> None:
    asha = await world.known(ASHA)
    await asha.done(messages.CreateGroup, "before", ())
    group = ids.group_stream(asha.device, asha.counter)
    await world.quiet()
    world.store.faults.append(Fault.REFUSED)
    commit = Gate(world, "commit")
    change = asha.say(messages.SetGroupProfile, group, "never")
    asked = asha.say(messages.FetchGroup, group)
    await world.until(lambda: commit.waiting and not world.runtime.ready)
    assert not [frame for frame in asha.frames if frame.rid in (change, asked)]
    commit.open()
    assert isinstance(await asha.answer(change), messages.Error)
    answer = await asha.answer(asked)
    assert isinstance(answer, messages.Error)
    assert answer.temporary
    state = await asha.ask(messages.FetchGroup, group)
    assert isinstance(state, messages.GroupState)
    assert state.title == "before"


async def test_more_questions_than_an_owner_looks_up_at_once_are_told_to_come_again(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    sent = await asha.done(messages.Send, S, text("one"))
    await world.quiet()
    item = Gate(world, "item")
    rids = [asha.say(messages.Info, S, sent.seq) for _ in range(200)]
    await world.until(lambda: item.waiting and not world.runtime.ready)
    item.open()
    answers = [await asha.answer(rid) for rid in rids]
    assert {type(answer) for answer in answers} == {messages.MessageInfo, messages.Error}
    assert {answer.symbol for answer in answers if isinstance(answer, messages.Error)} == {"busy"}
    assert not world.services.telemetry.restarts
    assert isinstance(await ben.ask(messages.Send, S, text("still here")), messages.Sent)


async def test_the_servers_own_commands_are_never_turned_away_for_being_many(world: World) -> None:
    await world.known(ASHA)
    user = Gate(world, "user")
    world.services.people._known.clear()
    stream = ids.account_stream(ASHA)
    for number in range(1, 201):
        group = ids.group_stream(5, number)
        world.directory.tell_committed(stream, log.Command(ASHA, 0, events.Joined(*events.UNFILLED, group, 1), 0))
    await world.until(lambda: user.waiting)
    user.open()
    await world.until(lambda: len(world.actor(stream).state.groups) == 200)


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_what_the_server_itself_has_to_tell_is_tried_until_it_is_stored(world: World, fault: Fault) -> None:
    phone, laptop = await world.known(BEN), await world.known(BEN)
    asha = await world.known(ASHA)
    sent = await asha.done(messages.Send, S, text("one"))
    await phone.ask(messages.Read, S, sent.seq)
    await world.quiet()
    world.store.faults.append(fault)
    await world.advance(session.GATHER_S)  # the event of the account is refused, or the cursors written with it are
    world.store.faults.append(fault)
    await world.advance(LOAD_AGAIN_S)
    await world.advance(LOAD_AGAIN_S)
    await world.advance(LOAD_AGAIN_S)
    account = ids.account_stream(BEN)
    read = [event for _, event in laptop.events(account) if isinstance(event, events.OwnRead)]
    assert [(event.stream, event.seq) for event in read] == [(S, sent.seq)]


async def test_what_the_server_itself_has_to_tell_waits_for_a_store_that_is_away(world: World) -> None:
    ben = await world.known(BEN)
    account = ids.account_stream(BEN)
    await world.sleep()
    assert world.directory.awake(account) is None
    world.store.away = True
    world.directory.tell_committed(account, log.Command(BEN, 0, events.TurnedDown(*events.UNFILLED, S), 0))
    await world.advance(LOAD_AGAIN_S)
    world.store.away = False
    await world.advance(LOAD_AGAIN_S)
    assert [type(event) for _, event in ben.events(account)] == [events.TurnedDown]


async def test_reading_is_refused_with_a_time_while_the_store_is_away(world: World) -> None:
    ben = await world.known(BEN)
    world.store.away = True
    rid = ben.say(messages.Read, S, 1)
    answer = await ben.answer(rid)
    assert isinstance(answer, messages.Error)
    assert (answer.symbol, answer.temporary) == ("unavailable", True)


async def test_reading_where_nothing_was_ever_said_keeps_nothing(world: World) -> None:
    ben = await world.known(BEN)
    nowhere = direct(BEN, 999)
    assert isinstance(await ben.ask(messages.Read, nowhere, 1), messages.Done)
    assert await world.disk.marks(nowhere) == []


async def test_what_became_durable_while_the_tree_was_restarted_reaches_who_is_there(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("one"))
    await world.quiet()
    commits = Commits(world)
    asha.say(messages.Send, S, text("two"))
    await world.until(lambda: commits.waiting)
    assert world.directory.awake(S).stop_now()  # type: ignore[union-attr]
    commits.open()
    await asha.ask(messages.Open, BEN)  # whatever wakes it
    await world.until(lambda: ben.texts(S) == ["one", "two"])


async def test_what_stands_behind_a_command_that_makes_its_owner_fail_is_answered_or_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the state was loaded, they all waited."""
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("one"))
    await world.quiet()
    await world.sleep()
    loading = Gate(world, "load")
    decide = conversation.Conversation.decide

    def fails(self: Any, command: log.Command, found: Any) -> None:
        if isinstance(command.frame, messages.SetTimer):
            raise ZeroDivisionError("planted")
        decide(self, command, found)

    monkeypatch.setattr(conversation.Conversation, "decide", fails)
    rids = [
        asha.say(messages.SetTimer, S, 60),
        asha.say(messages.Send, S, text("two")),
        ben.say(messages.Send, S, text("three")),
    ]
    await world.until(lambda: loading.waiting)
    loading.open()
    answers = [await asha.answer(rids[0]), await asha.answer(rids[1]), await ben.answer(rids[2])]
    assert [answer.symbol for answer in answers if isinstance(answer, messages.Error)] == [
        "unknown",
        "unavailable",
        "unavailable",
    ]


async def test_who_waits_for_a_read_mark_or_for_what_is_durable_is_answered_when_the_owner_fails(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("one"))
    await world.quiet()
    commits = Commits(world)
    rids = [ben.say(messages.Read, S, 1)]
    await world.until(lambda: commits.waiting)
    asha.say(messages.Send, S, text("two"))
    rids += [ben.say(messages.Open, ASHA), ben.say(messages.Read, S, 1)]
    await world.until(lambda: world.actor(S)._answers and world.actor(S)._readers)
    world.directory.tell_committed(S, Persisted(None, []))  # what no writer says
    answers = [await ben.answer(rid) for rid in rids]
    assert [answer.symbol for answer in answers if isinstance(answer, messages.Error)] == ["unavailable"] * 3
    commits.open()
    await world.until(lambda: ben.texts(S) == ["one", "two"])


class Commits:
    """Holds every commit back until it is its turn: `go` lets the oldest through, with a fault, `open` all from now on."""

    def __init__(self, world: World) -> None:
        self._inner = world.store.commit
        self._faults = world.store.faults
        self.waiting: deque[asyncio.Event] = deque()
        self._is_open = False
        world.store.commit = self._call  # type: ignore[method-assign]

    async def _call(self, batch: Sequence[records.Write]) -> list[records.Outcome]:
        if not self._is_open:
            turn = asyncio.Event()
            self.waiting.append(turn)
            await turn.wait()
        return await self._inner(batch)

    def go(self, fault: Fault) -> None:
        self._faults.append(fault)
        self.waiting.popleft().set()

    def open(self) -> None:
        self._is_open = True
        for turn in self.waiting:
            turn.set()


async def test_a_watermark_that_is_stored_while_the_state_is_loaded_is_told_and_does_not_go_back(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN, acks=False)
    await asha.done(messages.Send, S, text("one"))
    await world.advance(2.0)
    commits, loading = Commits(world), Gate(world, "load")
    asha.say(messages.Send, S, text("two"))
    await world.until(lambda: commits.waiting)
    ben.say(messages.Read, S, 1)
    await world.until(lambda: world.permanent("writer").waiting())
    commits.go(Fault.REFUSED)
    await world.until(lambda: loading.waiting and commits.waiting)
    loading.open()  # the load comes first, and finds the older mark
    await world.until(lambda: not world.actor(S).loading)
    commits.open()
    await world.until(lambda: asha.all(messages.Receipt))
    assert (asha.all(messages.Receipt)[-1].delivered, asha.all(messages.Receipt)[-1].read) == (1, 1)
    asha.say(messages.Send, S, text("three"))
    await world.until(lambda: ben.seqs(S) == [1, 2])
    ben.ack(list(ben.all(messages.Event)))
    await world.until(lambda: asha.all(messages.Receipt)[-1].delivered == 2)
    assert [receipt.read for receipt in asha.all(messages.Receipt)] == [1, 1]


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_a_watermark_that_was_not_stored_before_the_state_was_loaded_is_stored_and_told_after(
    world: World, fault: Fault
) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN, acks=False)
    await asha.done(messages.Send, S, text("one"))
    await world.advance(2.0)
    commits = Commits(world)
    asha.say(messages.Send, S, text("two"))
    await world.until(lambda: commits.waiting)
    ben.ack(list(ben.all(messages.Event)))
    await world.until(lambda: world.permanent("writer").waiting())
    commits.go(fault)
    await world.until(lambda: commits.waiting)
    commits.go(fault)  # the mark's
    await world.until(lambda: commits.waiting)
    commits.open()
    await world.until(lambda: asha.all(messages.Receipt))
    assert asha.all(messages.Receipt)[-1].delivered == 1
    assert [(mark.user, mark.delivered) for mark in await world.disk.marks(S) if mark.user == BEN] == [(BEN, 1)]
