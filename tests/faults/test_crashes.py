"""Actors that fail: what depends on them starts anew, what does not goes on, and nobody loses anything."""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import account, conversation, fanout, group, owner, presence, receipts, session, writer
from actors.state import log
from client.api import text_body
from client.client import Client
from node import Node
from protocol import codes, ids, messages
from storage import errors, records
from tests.checker import history
from tests.faults import nodes, tape, traffic
from tests.faults.waiting import until


class Planted(Exception):
    """A defect, for this test."""


def fail_once_each(monkeypatch: pytest.MonkeyPatch, kind: type[Any], every: int, most: int) -> Callable[[], int]:
    """Every so-manieth message of actors of this kind makes one raise, `most` times; how often it has happened."""
    # An owner hands on what nobody repeats, but not what it failed over: it fails with that done, and over no command of that
    # sort.
    name, done_first = ("_receive", True) if issubclass(kind, owner.Owner) else ("on_receive", False)
    original = getattr(kind, name)
    seen = [0, 0]

    def receive(self: Any, message: Any) -> Any:
        command = message.command if type(message) is owner._Found else message
        if done_first and type(command) is log.Command and not command.device:
            return original(self, message)
        seen[0] += 1
        fails = seen[0] % every == 0 and seen[1] < most
        seen[1] += fails
        if fails and not done_first:
            raise Planted(kind.__name__)
        result = original(self, message)
        if fails:
            raise Planted(kind.__name__)
        return result

    monkeypatch.setattr(kind, name, receive)
    return lambda: seen[1]


def nothing_else(_node: Node, _people: traffic.Traffic) -> None:
    """The traffic alone gives the actor enough to do."""


def cut_one_off(_node: Node, people: traffic.Traffic) -> None:
    """Somebody goes, and comes back: presence hears of that alone."""
    line = people.people[1].client._line
    if line is not None:
        line._socket.transport.abort()


def put_to_sleep(node: Node, _people: traffic.Traffic) -> None:
    """Owners that have nothing to do: what is acknowledged in their streams waits in the receipts."""
    node.directory.sweep(lambda each: isinstance(each, owner.Owner) and not each.loading and each.may_sleep())


@pytest.mark.parametrize(
    ("kind", "every", "most", "stir"),
    [
        (writer.Writer, 150, 2, nothing_else),
        (fanout.FanOut, 200, 3, nothing_else),
        (session.Session, 300, 5, nothing_else),
        (group.Group, 100, 2, nothing_else),
        (conversation.Conversation, 100, 2, nothing_else),
        (account.Account, 15, 2, nothing_else),
        (presence.Presence, 4, 2, cut_one_off),
        (receipts.Receipts, 3, 2, put_to_sleep),
    ],
)
async def test_whichever_actor_fails_all_come_back_and_nothing_is_lost(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Any],
    every: int,
    most: int,
    stir: Callable[[Node, traffic.Traffic], None],
) -> None:
    data = tmp_path / "data"
    async with nodes.inside(data) as node:
        async with traffic.Traffic(node.url, seed=10) as people:
            await people.gather()
            happened = fail_once_each(monkeypatch, kind, every, most)
            people.begin(commands=80)
            while not people.done or not happened():
                if people.done:
                    people.begin(commands=10)
                stir(node, people)
                await people.answered(20)
            monkeypatch.undo()
            await people.converge()
        assert node.telemetry.restarts[kind.__name__.lower()] == happened()
        assert not node.failure
    await traffic.stored(data, people.seen)
    people.check()


async def two(node: Node, *names: str) -> list[tuple[Client, tape.Tape]]:
    """People who are connected, beside the traffic; and what they hear."""
    found = []
    for name in names:
        client = Client(node.url, messages.RegisterCredential(name, traffic.PASSWORD, name.ljust(16).encode()), strict=True)
        client._core.backoff._random = lambda: 0.05
        heard = tape.Tape(client, history.History())
        await client.start()
        found.append((client, heard))
    return found


async def test_a_conversation_that_fails_over_every_command_is_quarantined_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    async with nodes.inside(data) as node, traffic.Traffic(node.url, seed=11) as people:
        await people.gather()
        (asha, to_asha), (ben, to_ben) = await two(node, "asha", "ben")
        broken = ids.direct_stream(asha.identity.user, ben.identity.user)
        original = conversation.Conversation._receive

        def receive(self: conversation.Conversation, message: Any) -> None:
            if self.stream == broken and type(message) is log.Command:
                raise Planted
            original(self, message)

        monkeypatch.setattr(conversation.Conversation, "_receive", receive)
        people.begin(commands=80)
        sending = [each.submit(messages.Send(0, 0, broken, text_body("at last"))) for each in (asha, ben)]
        await until(lambda: node.telemetry.quarantines["direct"] > 0, "it is quarantined")
        await people.answered(50)
        assert not any(each.done() for each in sending)
        for heard in (to_asha, to_ben):
            assert heard.refusals
            assert all(codes.BY_NUMBER[number].temporary for number in heard.refusals)
        assert codes.UNKNOWN.number in to_asha.refusals.keys() | to_ben.refusals.keys()
        assert node.telemetry.restarts["conversation"] > 3
        assert not node.failure
        monkeypatch.undo()
        assert sorted([(await each).seq for each in sending]) == [1, 2]
        for client in (asha, ben):
            await client.close()
        await people.converge()
    await traffic.stored(data, people.seen)
    people.check()


async def test_a_stream_that_cannot_be_loaded_is_quarantined_alone_and_comes_back(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    async with nodes.inside(data) as node, traffic.Traffic(node.url, seed=14) as people:
        await people.gather()
        (asha, _), (ben, _) = await two(node, "asha", "ben")
        broken = ids.direct_stream(asha.identity.user, ben.identity.user)
        note = ids.direct_stream(asha.identity.user, asha.identity.user)
        original: Callable[[bytes], Awaitable[records.Loaded]] = node.store.load
        broken_now = True

        async def load(stream: bytes) -> records.Loaded:
            if stream == broken and broken_now:
                raise errors.Damaged("planted")
            return await original(stream)

        node.store.load = load  # type: ignore[method-assign]
        people.begin(commands=60)
        sending = [asha.submit(messages.Send(0, 0, broken, text_body(str(each)))) for each in range(3)]
        await until(lambda: node.telemetry.quarantines["direct"] > 0, "it is quarantined")
        for number in range(20):
            assert (await asha.send_text(note, str(number))).seq == number + 1
        await people.answered(50)
        assert not any(each.done() for each in sending)
        assert not node.failure
        broken_now = False
        assert [(await each).seq for each in sending] == [1, 2, 3]
        for client in (asha, ben):
            await client.close()
        await people.converge()
    await traffic.stored(data, people.seen)
    people.check()


async def test_the_actor_that_blocks_the_loop_is_named_in_the_log(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    async with nodes.inside(data) as node, traffic.Traffic(node.url, seed=15) as people:
        await people.gather()
        ((asha, _),) = await two(node, "asha")
        note = ids.direct_stream(asha.identity.user, asha.identity.user)
        original = conversation.Conversation._receive

        def guilty_of_blocking(self: conversation.Conversation, message: Any) -> None:
            if self.stream == note and type(message) is log.Command:
                time.sleep(1.5)
            original(self, message)

        monkeypatch.setattr(conversation.Conversation, "_receive", guilty_of_blocking)
        people.begin(commands=60)
        with caplog.at_level(logging.WARNING):
            assert (await asha.send_text(note, "goes on")).seq == 1
            await until(lambda: node.telemetry.loop_stalls > 0, "the watchdog sees it")
            await until(lambda: "in the turn of Conversation" in caplog.text, "the actor is in the log")
        assert "guilty_of_blocking" in caplog.text
        monkeypatch.undo()
        await asha.close()
        await people.converge()
    await traffic.stored(data, people.seen)
    people.check()
