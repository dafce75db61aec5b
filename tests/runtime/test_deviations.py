"""Where this runtime differs from Pykka on purpose; docs/runtime.md lists the same."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pykka
import pytest
from pykka import messages

from actors.runtime import errors
from actors.runtime.actor import Actor
from actors.runtime.runtime import Runtime
from tests.runtime.conftest import World


class Doer(Actor):
    """Calls what it is told."""

    value = 1

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[BaseException | None] = []

    def on_receive(self, message: Any) -> Any:
        return message()

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.failures.append(exception_value)


async def test_answers_are_awaited(world: World) -> None:
    ref = Doer.start()
    assert await ref.ask(lambda: "answer") == "answer"
    assert await ref.proxy().value == 1
    assert await ref.stop() is True


async def test_blocking_on_the_loop_is_refused_and_nothing_is_sent(world: World) -> None:
    ref = Doer.start()
    called: list[int] = []
    for block in (
        lambda: ref.ask(lambda: called.append(1), block=True),
        lambda: ref.stop(block=True),
        lambda: ref.ask(lambda: None).get(),
        lambda: world.runtime.registry.stop_all(block=True),
        lambda: setattr(ref.proxy(), "value", 2),
    ):
        with pytest.raises(errors.BlockingOnLoop, match="await the future"):
            block()
    assert await ref.ask(lambda: "still there") == "still there"
    assert called == []
    assert await ref.proxy().value == 1


async def test_an_assignment_can_be_awaited_as_a_message(world: World) -> None:
    ref = Doer.start()
    await ref.ask(messages.ProxySetAttr(("value",), 7), block=False)
    assert await ref.proxy().value == 7


async def test_a_value_that_is_there_can_be_got_on_the_loop(world: World) -> None:
    future = Doer.start().ask(lambda: 5)
    assert await future == 5
    assert future.get() == 5


async def test_an_ask_gives_up_after_its_timeout_and_a_late_answer_is_dropped(world: World) -> None:
    release = asyncio.Event()
    ref = Doer.start()
    answer = ref.ask(release.wait, timeout=2.0)
    await world.settle()
    world.advance(1.9)
    assert not answer.done()
    world.advance(0.2)
    with pytest.raises(pykka.Timeout, match=r"2\.0 seconds"):
        await answer
    release.set()
    assert await ref.ask(lambda: "goes on") == "goes on"


async def test_an_answer_in_time_takes_its_timer_away(world: World) -> None:
    ref = Doer.start()
    assert await ref.ask(lambda: 1, timeout=2.0) == 1
    assert len(world.runtime.timers) == 0


async def test_a_full_mailbox_refuses_tells_and_asks_and_queues_nothing(world: World) -> None:
    class Small(Doer):
        mailbox_limit = 3

    handled: list[int] = []
    ref = Small.start()
    for i in range(3):
        ref.tell(lambda i=i: handled.append(i))
    with pytest.raises(errors.MailboxFull, match="Small: 3 messages"):
        ref.tell(lambda: handled.append(99))
    with pytest.raises(errors.MailboxFull):
        await ref.ask(lambda: handled.append(99))
    await world.settle()
    assert handled == [0, 1, 2]
    await ref.ask(lambda: None)
    assert ref.is_alive()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
async def test_a_base_exception_ends_one_actor_only(world: World, error: BaseException) -> None:
    def fail() -> None:
        raise error

    ref, other = Doer.start(), Doer.start()
    actor = ref._actor
    assert actor is not None
    ref.tell(fail)
    await world.settle()
    assert not ref.is_alive()
    assert actor.failures == [error]
    assert await other.ask(lambda: "alive") == "alive"


async def test_who_asked_for_a_base_exception_hears_that_the_actor_is_dead(world: World) -> None:
    def fail() -> None:
        raise asyncio.CancelledError

    with pytest.raises(pykka.ActorDeadError) as caught:
        await Doer.start().ask(fail)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_actor_stopped_is_a_flag_to_read(world: World) -> None:
    ref = Doer.start()
    actor = ref._actor
    assert actor is not None
    assert not ref.actor_stopped.is_set()
    assert not actor.actor_stopped.is_set()
    await ref.stop()
    assert ref.actor_stopped.is_set()
    assert actor.actor_stopped.is_set()


async def test_the_inbox_takes_envelopes_and_gives_none(world: World) -> None:
    ref = Doer.start()
    inbox = ref.actor_inbox
    assert inbox.empty()
    done: list[int] = []
    inbox.put(pykka._envelope.Envelope(lambda: done.append(1)))
    assert (len(inbox), inbox.empty()) == (1, False)
    with pytest.raises(errors.BlockingOnLoop):
        inbox.get()
    reply: Any = Doer._create_future()
    inbox.put(pykka._envelope.Envelope(lambda: "asked", reply_to=reply))
    assert await reply == "asked"
    assert done == [1]


async def test_an_idle_actor_is_two_small_objects(world: World) -> None:
    class Lean(Actor):
        def on_receive(self, message: Any) -> None:
            pass

    ref = Lean.start()
    actor = ref._actor
    assert actor is not None
    ref.tell("x")
    await world.settle()
    assert (ref._queue, ref._system, ref._pending, ref._urn) == (None, None, None, None)
    assert vars(actor) == {}
    assert vars(ref) == {}
    assert sys.getsizeof(ref) < 200
    assert sys.getsizeof(actor) < 200


async def test_without_a_runtime_no_actor_starts() -> None:
    with pytest.raises(errors.NoRuntime):
        Doer.start()


async def test_a_loop_has_one_runtime(world: World) -> None:
    with pytest.raises(RuntimeError, match="has a runtime"):
        Runtime(asyncio.get_running_loop()).start()
    assert Runtime.current() is world.runtime


async def test_a_broadcast_reaches_all_that_have_room_and_then_says_how_many_have_not(world: World) -> None:
    class Small(Doer):
        mailbox_limit = 1

    called: list[str] = []
    small, large = Small.start(), Doer.start()
    small.tell(lambda: called.append("waited"))
    with pytest.raises(errors.MailboxFull, match="1 of 2 actors have no room, the first is Small"):
        world.runtime.registry.broadcast(lambda: called.append("broadcast"))
    await large.ask(lambda: None)
    assert called == ["waited", "broadcast"]


async def test_a_get_hook_that_blocks_is_refused_when_it_is_awaited(world: World) -> None:
    ref = Doer.start()
    future = Doer._create_future()
    future.set_get_hook(lambda timeout: ref.ask(lambda: "answer").get(timeout=timeout))
    with pytest.raises(errors.BlockingOnLoop):
        await future
    assert await asyncio.to_thread(future.get) == "answer"


async def test_an_async_method_is_awaited_by_the_actor_and_its_result_is_the_answer(world: World) -> None:
    class Slow(Doer):
        async def method(self) -> str:
            await asyncio.sleep(0)
            return "result"

    ref = Slow.start()
    assert await ref.proxy().method() == "result"
    assert await ref.ask(lambda: asyncio.sleep(0, "result")) == "result"


async def test_a_timeout_of_a_future_that_is_awaited_is_its_askers(world: World) -> None:
    ref, release = Doer.start(), asyncio.Event()
    ref.tell(release.wait)
    stopping = ref.stop(timeout=2.0)
    await world.settle()
    world.advance(2.0)
    with pytest.raises(pykka.Timeout):
        await stopping
    release.set()
