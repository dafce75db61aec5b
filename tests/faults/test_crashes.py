"""Actors that fail: what depends on them starts anew, what does not goes on, and nobody loses anything."""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import conversation, fanout, group, owner, session, writer
from client.api import text_body
from client.client import Client
from node import Node
from protocol import ids, messages
from storage import errors, records
from tests.faults import nodes, traffic
from tests.faults.waiting import until


class Planted(Exception):
    """A defect, for this test."""


def fail_once_each(monkeypatch: pytest.MonkeyPatch, kind: type[Any], every: int, most: int) -> Callable[[], int]:
    """Every so-manieth message of actors of this kind makes one raise, `most` times; how often it has happened."""
    # An owner hands on what nobody repeats, but not what it failed over: it fails with that done.
    name, done_first = ("_receive", True) if issubclass(kind, owner.Owner) else ("on_receive", False)
    original = getattr(kind, name)
    seen = [0, 0]

    def receive(self: Any, message: Any) -> Any:
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


@pytest.mark.parametrize(
    ("kind", "every", "most"),
    [
        (writer.Writer, 150, 2),
        (fanout.FanOut, 200, 3),
        (session.Session, 300, 5),
        (group.Group, 100, 2),
        (conversation.Conversation, 100, 2),
    ],
)
async def test_whichever_actor_fails_all_come_back_and_nothing_is_lost(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: type[Any], every: int, most: int
) -> None:
    data = tmp_path / "data"
    async with nodes.inside(data) as node:
        async with traffic.Traffic(node.url, seed=10) as people:
            await people.gather()
            happened = fail_once_each(monkeypatch, kind, every, most)
            people.begin(commands=80)
            await people.answered(10**6)
            monkeypatch.undo()
            await people.converge()
        assert happened() > 0
        assert node.telemetry.restarts[kind.__name__.lower()] == happened()
        assert not node.failure
    await traffic.stored(data, people.seen)
    people.check()


async def two(node: Node, *names: str) -> list[Client]:
    """People who are connected."""
    found = []
    for name in names:
        client = Client(node.url, messages.RegisterCredential(name, traffic.PASSWORD, name.ljust(16).encode()), strict=True)
        client._core.backoff._random = lambda: 0.05
        await client.start()
        found.append(client)
    return found


async def test_a_stream_that_cannot_be_loaded_is_quarantined_alone_and_comes_back(tmp_path: pathlib.Path) -> None:
    async with nodes.inside(tmp_path / "data") as node:
        asha, ben = await two(node, "asha", "ben")
        broken = ids.direct_stream(asha.identity.user, ben.identity.user)
        note = ids.direct_stream(asha.identity.user, asha.identity.user)
        original: Callable[[bytes], Awaitable[records.Loaded]] = node.store.load
        broken_now = True

        async def load(stream: bytes) -> records.Loaded:
            if stream == broken and broken_now:
                raise errors.Damaged("planted")
            return await original(stream)

        node.store.load = load  # type: ignore[method-assign]
        sending = [asha.submit(messages.Send(0, 0, broken, text_body(str(each)))) for each in range(3)]
        await until(lambda: node.telemetry.quarantines["direct"] > 0, "it is quarantined")
        for number in range(20):
            assert (await asha.send_text(note, str(number))).seq == number + 1
        assert not any(each.done() for each in sending)
        assert not node.failure
        broken_now = False
        assert [(await each).seq for each in sending] == [1, 2, 3]
        for client in (asha, ben):
            await client.close()


async def test_who_blocks_the_loop_is_named_in_the_log(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    async with nodes.inside(tmp_path / "data") as node:
        (asha,) = await two(node, "asha")

        def guilty_of_blocking() -> None:
            time.sleep(1.5)

        with caplog.at_level(logging.WARNING):
            node.runtime.loop.call_soon(guilty_of_blocking)
            await until(lambda: node.telemetry.loop_stalls > 0, "the watchdog sees it")
            await until(lambda: "guilty_of_blocking" in caplog.text, "the stack is in the log")
        note = ids.direct_stream(asha.identity.user, asha.identity.user)
        assert (await asha.send_text(note, "goes on")).seq == 1
        await asha.close()
