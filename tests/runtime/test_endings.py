"""Last hooks that do not end, and ends that go wrong: who waits for an actor hears of it, and the others go on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pykka
import pytest

from actors.runtime import endings, errors
from actors.runtime.actor import Actor
from actors.runtime.ref import ActorRef, watch_with
from actors.runtime.runtime import Hooks
from tests.runtime.conftest import World


class Doer(Actor):
    """Calls what it is told."""

    def on_receive(self, message: Any) -> Any:
        return message()


def fail() -> None:
    raise ValueError("a bad message")


class Lingerer(Doer):
    """Its last hook waits for what never comes, and is told when it is cancelled."""

    swallows = 0

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    async def linger(self) -> None:
        for _ in range(self.swallows + 1):
            self.log.append("lingers")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.log.append("cancelled")

    async def on_stop(self) -> None:  # type: ignore[override]
        await self.linger()

    async def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:  # type: ignore[override]
        await self.linger()


class Stubborn(Lingerer):
    """And goes on waiting, also when it is given up; until the loop itself ends."""

    swallows = 2


def watched(ref: ActorRef[Any]) -> list[BaseException | None]:
    ends: list[BaseException | None] = []
    ref.watch(watch_with(lambda who, error: ends.append(error)))
    return ends


async def test_a_last_hook_that_hangs_is_cancelled_counted_and_holds_up_nobody(world: World) -> None:
    hangs: list[tuple[Any, str]] = []
    world.runtime.hooks = Hooks(hung=lambda ref, name, seconds: hangs.append((ref, name)))
    ref = Lingerer.start()
    ends = watched(ref)
    ref.tell(fail)
    behind = ref.ask(lambda: "never")
    await world.settle()
    world.advance(4.9)
    await world.settle()
    assert ends == []
    world.advance(0.6)
    await world.settle()
    assert [type(end) for end in ends] == [ValueError]  # what it failed of, not what became of its hook
    with pytest.raises(pykka.ActorDeadError):
        await behind
    assert hangs == [(ref, "Lingerer.on_failure")]
    assert world.runtime.suspended.hung == 1
    assert world.runtime.ending == {}


async def test_a_last_hook_that_swallows_its_cancellation_is_given_up(world: World) -> None:
    ref = Stubborn.start()
    ends, stopping = watched(ref), ref.stop()
    await world.settle()
    world.advance(6.0)
    await world.settle()
    assert ends == []
    world.advance(endings.KILL_GRACE_S)
    assert await stopping is True
    assert ends == [None]
    assert len(world.runtime.suspended) == 0


async def test_a_class_may_let_its_last_hook_take_as_long_as_it_likes(world: World) -> None:
    class Patient(Lingerer):
        await_limit_s = None

    ref = Patient.start()
    ends = watched(ref)
    ref.stop()
    await world.settle()
    world.advance(1000.0)
    await world.settle()
    assert ends == []
    assert world.runtime.suspended.hung == 0


async def test_stop_or_kill_tells_a_hook_that_did_not_end_from_an_actor_that_stopped(world: World) -> None:
    ref = Stubborn.start()
    actor = ref._actor
    assert actor is not None
    stopping, behind = ref.stop(), ref.ask(lambda: "never")
    await world.settle()
    assert not ref.is_alive()  # but its hook runs
    ending = asyncio.ensure_future(endings.stop_or_kill(ref, 0.25))
    for seconds in (0.25, endings.KILL_GRACE_S):
        await world.settle()
        assert not stopping.done()
        world.advance(seconds)
    assert await ending is False
    assert actor.log[:3] == ["lingers", "cancelled", "lingers"]
    assert await stopping is True
    with pytest.raises(pykka.ActorDeadError):
        await behind


async def test_stop_or_kill_waits_for_the_hook_of_an_actor_that_is_dead_already(world: World) -> None:
    gate = asyncio.Event()

    class Flushes(Actor):
        async def on_stop(self) -> None:  # type: ignore[override]
            await gate.wait()

    ref = Flushes.start()
    assert ref.stop_now()
    ending = asyncio.ensure_future(endings.stop_or_kill(ref, 3.0))
    await world.settle()
    assert not ending.done()
    gate.set()
    assert await ending is True


async def test_stop_or_kill_gives_the_last_hook_a_grace_after_a_handler_that_was_given_up(world: World) -> None:
    class Hangs(Lingerer):
        async def on_receive(self, message: Any) -> None:
            for _ in range(3):  # swallowed: that of the kill, and of giving up; the loop's own ends it
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

    ref = Hangs.start()
    actor = ref._actor
    assert actor is not None
    ref.tell("hang")
    await world.settle()
    ending = asyncio.ensure_future(endings.stop_or_kill(ref, 0.25))
    for seconds in (0.25, endings.KILL_GRACE_S, endings.KILL_GRACE_S):
        await world.settle()
        assert not ending.done()
        world.advance(seconds)
    assert await ending is False
    assert world.clock.now - 1000.0 == 0.25 + endings.KILL_S
    assert actor.log[0] == "lingers"


async def test_a_kill_cancels_a_last_hook(world: World) -> None:
    ref = Lingerer.start()
    stopping = ref.stop()
    await world.settle()
    ref.kill()
    assert await stopping is True


# -- what goes wrong beside the actor that ends


@pytest.mark.parametrize("error", [RuntimeError("of the owner"), asyncio.CancelledError()])
async def test_a_hook_of_the_owner_that_raises_freezes_nobody(world: World, error: BaseException) -> None:
    def broken(*_: Any) -> None:
        raise error

    world.runtime.hooks = Hooks(failed=broken, hung=broken)
    other, ref = Doer.start(), Doer.start()
    ends = watched(ref)
    ref.tell(fail)
    hanging = Lingerer.start()
    stopping = hanging.stop()
    await world.settle()
    world.advance(6.0)
    assert await stopping is True
    assert [type(end) for end in ends] == [ValueError]
    assert await other.ask(lambda: "alive") == "alive"


async def test_a_watcher_that_raises_what_it_should_not_freezes_nobody(world: World) -> None:
    def broken(who: Any, error: Any) -> None:
        raise asyncio.CancelledError

    other, ref = Doer.start(), Doer.start()
    ref.watch(watch_with(broken))
    ref.tell(fail)
    await world.settle()
    assert await other.ask(lambda: "alive") == "alive"


async def test_an_end_that_breaks_the_runtime_itself_stops_no_other_actor(world: World, monkeypatch: Any) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a defect of the runtime")

    unhandled: list[Any] = []
    world.runtime.loop.set_exception_handler(lambda loop, context: unhandled.append(context["exception"]))
    other, ref = Doer.start(), Doer.start()
    with monkeypatch.context() as patched:
        patched.setattr(world.runtime.registry, "unregister", broken)
        ref.tell(fail)
        answer = other.ask(lambda: "alive")
        await world.settle()
    assert await answer == "alive"
    assert [str(error) for error in unhandled] == ["a defect of the runtime"]
    world.runtime.registry.unregister(ref)


async def test_an_envelope_with_a_future_of_another_kind_is_refused(world: World) -> None:
    ref = Doer.start()
    with pytest.raises(TypeError, match="Future of this runtime"):
        ref.actor_inbox.put(pykka._envelope.Envelope(fail, reply_to=pykka.ThreadingFuture()))
    assert ref.is_idle()


async def test_a_handler_that_raises_generator_exit_ends_its_actor(world: World) -> None:
    class Odd(Actor):
        await_limit_s = None

        async def on_receive(self, message: Any) -> None:
            raise GeneratorExit

    ref = Odd.start()
    with pytest.raises(errors.ActorDeadError):
        await ref.ask("x")
    assert not ref.is_alive()
    assert len(world.runtime.suspended) == 0
