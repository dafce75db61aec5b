"""What Pykka documents of futures, on this runtime and on Pykka's own threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pykka
import pytest

from tests.runtime.hosts import PATIENCE_S, Host, Latch, Recorder, of

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


async def test_futures_can_be_mapped_filtered_joined_and_reduced(host: Host) -> None:
    ref = host.start(Recorder)
    one = ref.ask(lambda: [1, 2, 3], block=False)
    two = ref.ask(lambda: "x", block=False)
    assert await host.get(one.map(len)) == 3
    assert await host.get(one.filter(lambda item: item > 1)) == [2, 3]
    assert await host.get(two.join(one)) == ["x", [1, 2, 3]]
    assert await host.get(one.reduce(lambda a, b: a + b)) == 6
    assert await host.get(one.reduce(lambda a, b: a + b, 10)) == 16


async def test_a_future_is_settled_once(host: Host) -> None:
    future = host.base._create_future()
    future.set(1)
    with pytest.raises(host.already_settled):
        future.set(2)
    with pytest.raises(host.already_settled):
        future.set_exception((ValueError, ValueError(), None))
    with pytest.raises(host.already_settled):
        future.set_get_hook(lambda timeout: 3)
    assert await host.get(future) == 1


async def test_a_get_hook_makes_the_value_once(host: Host) -> None:
    future = host.base._create_future()
    made: list[Any] = []

    def make(timeout: float | None) -> str:
        made.append(timeout)
        return "made"

    future.set_get_hook(make)
    assert [await host.get(future), await host.get(future)] == ["made", "made"]
    assert len(made) == 1


async def test_a_future_takes_the_exception_that_is_being_handled(host: Host) -> None:
    future = host.base._create_future()
    try:
        raise KeyError("handled")
    except KeyError:
        future.set_exception()
    with pytest.raises(KeyError, match="handled"):
        await host.get(future)


async def test_a_value_that_does_not_come_in_time_is_a_timeout(host: Host) -> None:
    future = host.base._create_future()
    for source in (future, future.map(len), future.join(future)):
        with pytest.raises(pykka.Timeout):
            await asyncio.to_thread(source.get, timeout=0)
    future.set("late")
    assert await asyncio.to_thread(future.map(len).get, timeout=0) == 4


async def test_a_filter_and_a_reduce_of_what_is_no_iterable_raise(host: Host) -> None:
    future = host.base._create_future()
    future.set(1)
    with pytest.raises(TypeError):
        await host.get(future.filter(bool))
    with pytest.raises(TypeError):
        await host.get(future.reduce(lambda a, b: a))


async def test_a_function_of_a_derived_future_is_called_once_for_readers_on_many_threads(host: Host) -> None:
    future = host.base._create_future()
    made: list[object] = []
    values: list[object] = []

    def make(value: Any) -> object:
        made.append(object())
        return made[-1]

    derived = future.map(make)
    threads = [threading.Thread(target=lambda: values.append(derived.get(timeout=PATIENCE_S))) for _ in range(3)]
    for thread in threads:
        thread.start()
    future.set(1)
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert values == made * 3


async def test_get_all_waits_for_many(host: Host) -> None:
    ref = host.start(Recorder)
    futures = [ref.ask(number, block=False) for number in range(3)]
    assert await asyncio.to_thread(pykka.get_all, futures, timeout=PATIENCE_S) == [0, 1, 2]


async def test_get_all_gives_up_as_get_does(host: Host) -> None:
    never = host.base._create_future()
    with pytest.raises(pykka.Timeout):
        await asyncio.to_thread(pykka.get_all, [never], timeout=0)


async def test_an_ask_and_a_stop_that_take_too_long_are_timeouts_and_the_actor_goes_on(host: Host) -> None:
    log: list[Any] = []
    ref, release = host.start(Recorder, log), Latch()
    actor = of(ref)
    holding = ref.ask(lambda: host.hold(release), block=False)
    for wait in (lambda: ref.ask("behind", block=True, timeout=0), lambda: ref.stop(block=True, timeout=0)):
        with pytest.raises(pykka.Timeout):
            await asyncio.to_thread(wait)
    release.set()
    await host.get(holding)
    await actor.stopped.wait()
    assert log == ["start", "behind", "stop"]
