"""Actors reached from threads that run no loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from typing import Any

import pykka
import pytest

from actors.runtime import errors
from actors.runtime.actor import Actor
from actors.runtime.ref import ActorRef
from actors.runtime.runtime import Runtime
from tests.runtime.conftest import World, actor_of
from tests.runtime.hosts import PATIENCE_S


class Log(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []
        self.threads: set[int] = set()

    def on_start(self) -> None:
        self.log.append("start")

    def on_receive(self, message: Any) -> Any:
        self.threads.add(threading.get_ident())
        if callable(message):
            return message()
        self.log.append(message)
        return message


async def test_tells_from_many_threads_all_arrive_each_threads_in_order_on_the_loops_thread(world: World) -> None:
    ref = Log.start()

    def send(name: int) -> None:
        for i in range(200):
            ref.tell((name, i))

    await asyncio.gather(*(asyncio.to_thread(send, name) for name in range(4)))
    await ref.ask("end")
    log = [entry for entry in actor_of(ref).log if isinstance(entry, tuple)]
    assert len(log) == 800
    for name in range(4):
        assert [i for who, i in log if who == name] == list(range(200))
    assert actor_of(ref).threads == {threading.get_ident()}


async def test_a_thread_can_ask_proxy_assign_start_and_stop_by_blocking(world: World) -> None:
    def use() -> list[Any]:
        ref = Log.start()
        seen: list[Any] = [ref.ask("hello", block=True, timeout=30)]
        proxy: Any = ref.proxy()
        proxy.mood = "good"
        seen.append(proxy.mood.get(timeout=30))
        seen.append(proxy.log.get(timeout=30))
        seen.append(ref.stop(block=True, timeout=30))
        seen.append(ref.stop(block=True, timeout=30))
        return seen

    assert await asyncio.to_thread(use) == ["hello", "good", ["start", "hello"], True, False]


async def test_a_blocking_ask_times_out(world: World) -> None:
    ref = Log.start()
    release = asyncio.Event()
    with pytest.raises(pykka.Timeout):
        await asyncio.to_thread(lambda: ref.ask(release.wait, block=True, timeout=0.001))
    release.set()


async def test_a_threads_ask_that_does_not_block_times_out_by_the_runtimes_clock(world: World) -> None:
    ref = Log.start()
    release = asyncio.Event()
    answer = await asyncio.to_thread(lambda: ref.ask(release.wait, timeout=2.0))
    await world.settle()
    world.advance(3.0)
    with pytest.raises(pykka.Timeout):
        await answer
    release.set()


async def test_the_limit_counts_what_threads_have_sent_and_the_loop_has_not_seen(world: World) -> None:
    class Small(Log):
        mailbox_limit = 3

    ref = Small.start()
    await world.settle()
    outcomes: list[str] = []
    full = threading.Event()

    def send() -> None:
        for i in range(3):
            ref.tell(i)
        try:
            ref.tell("too many")
        except errors.MailboxFull:
            outcomes.append("refused")
        ref.tell_committed("completion")
        ref.tell_system("system")
        full.set()

    thread = threading.Thread(target=send)
    thread.start()
    full.wait()  # the loop stands still meanwhile, so nothing is taken
    thread.join()
    assert outcomes == ["refused"]
    assert not ref.is_idle()
    await world.settle()
    await world.settle()
    assert sorted(map(str, actor_of(ref).log)) == sorted(["start", "0", "1", "2", "completion", "system"])


async def test_an_actor_a_thread_has_written_to_is_not_idle_and_not_put_away(world: World) -> None:
    ref = Log.start()
    await world.settle()
    assert ref.is_idle()
    thread = threading.Thread(target=lambda: ref.tell("on its way"))
    thread.start()
    thread.join()
    assert not ref.is_idle()
    assert ref.stop_now() is False
    await world.settle()
    assert actor_of(ref).log == ["start", "on its way"]
    assert ref.stop_now() is True


async def test_a_thread_that_tells_a_dead_actor_hears_of_it(world: World) -> None:
    ref = Log.start()
    await ref.stop()
    with pytest.raises(errors.ActorDeadError):
        await asyncio.to_thread(ref.tell, "late")
    with pytest.raises(errors.ActorDeadError):
        await asyncio.to_thread(lambda: ref.ask("late", block=True))


async def test_an_ask_that_is_on_its_way_when_the_actor_dies_is_answered_dead(world: World) -> None:
    ref = Log.start()
    await world.settle()
    answers: list[Any] = []
    ref.kill()
    thread = threading.Thread(target=lambda: answers.append(ref.ask("on its way")))
    thread.start()
    thread.join()
    with pytest.raises(errors.ActorDeadError):
        await answers[0]


async def test_a_thread_can_kill(world: World) -> None:
    ref = Log.start()
    await asyncio.to_thread(ref.kill)
    assert await ref.stop() in (True, False)
    assert not ref.is_alive()


async def test_a_future_can_be_awaited_on_another_loop(world: World) -> None:
    ref = Log.start()

    async def elsewhere() -> Any:
        return await ref.ask("from another loop")

    assert await asyncio.to_thread(lambda: asyncio.run(elsewhere())) == "from another loop"


async def test_threads_that_ask_for_a_urn_at_once_get_the_same(world: World, monkeypatch: Any) -> None:
    both = threading.Barrier(2)
    make = uuid.uuid4

    def slow() -> uuid.UUID:
        with contextlib.suppress(threading.BrokenBarrierError):  # where only one thread makes one, it waits in vain
            both.wait(0.05)
        return make()

    monkeypatch.setattr(uuid, "uuid4", slow)
    ref = Log.start()
    urns = await asyncio.gather(*(asyncio.to_thread(lambda: ref.actor_urn) for _ in range(2)))
    assert urns[0] == urns[1] == ref.actor_urn
    assert world.runtime.registry.get_by_urn(urns[0]) is ref


async def test_an_actor_that_dies_while_a_thread_asks_for_its_urn_is_found_by_none(world: World, monkeypatch: Any) -> None:
    ref, make = Log.start(), uuid.uuid4
    await world.settle()
    in_the_midst, dead = threading.Event(), threading.Event()

    def slow() -> uuid.UUID:
        in_the_midst.set()
        assert dead.wait(PATIENCE_S)
        return make()

    monkeypatch.setattr(uuid, "uuid4", slow)
    urns: list[str] = []
    asker = threading.Thread(target=lambda: urns.append(ref.actor_urn))
    asker.start()
    assert in_the_midst.wait(PATIENCE_S)
    stopper = threading.Thread(target=lambda: world.runtime.registry.unregister(ref))
    stopper.start()  # as the end of the actor does; it has to wait for the URN
    dead.set()
    asker.join()
    stopper.join()
    assert world.runtime.registry.get_by_urn(urns[0]) is None


def test_a_tell_to_a_loop_that_is_closed_raises_every_time_and_is_not_kept() -> None:
    loop = asyncio.new_event_loop()

    async def start() -> ActorRef[Log]:
        Runtime(loop).start()
        return Log.start()

    ref = loop.run_until_complete(start())
    runtime = ref.runtime

    def tell() -> list[str]:
        outcomes = []
        for lane in (ref.tell, ref.tell_committed, ref.tell_system):
            try:
                lane("late")
                outcomes.append("told")
            except errors.ActorDeadError:
                outcomes.append("dead")
        return outcomes

    def on_a_thread() -> list[str]:
        outcomes: list[list[str]] = []
        thread = threading.Thread(target=lambda: outcomes.append(tell()))
        thread.start()
        thread.join()
        return outcomes[0]

    try:
        assert on_a_thread() == ["told"] * 3  # taken, but the loop ends before it looks
        loop.close()
        assert on_a_thread() == ["dead"] * 3
        assert len(runtime._inbound) == 3
    finally:
        Runtime._by_loop.pop(loop)
