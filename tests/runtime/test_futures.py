"""Futures beyond what Pykka's share: who makes a value, who waits for it, and what a future keeps."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any

import pykka
import pytest

from actors.runtime.future import Future
from tests.runtime.hosts import PATIENCE_S


async def read(source: Future[Any]) -> Any:
    return await source


def depth(traceback: TracebackType | None) -> int:
    frames = 0
    while traceback is not None:
        frames, traceback = frames + 1, traceback.tb_next
    return frames


async def test_a_derived_value_is_made_once_for_all_who_await_it_meanwhile() -> None:
    source: Future[int] = Future()
    made: list[object] = []

    def make(value: int) -> object:
        made.append(value)
        return object()

    derived = source.map(make)
    readers = [asyncio.create_task(read(derived)) for _ in range(3)]
    await asyncio.sleep(0)
    source.set(1)
    values = await asyncio.gather(*readers)
    assert made == [1]
    assert values[0] is values[1] is values[2]
    assert derived.done()


async def test_a_reader_that_is_cancelled_leaves_the_making_to_the_next() -> None:
    source: Future[int] = Future()
    derived = source.map(lambda value: value + 1)
    first, second = asyncio.create_task(read(derived)), asyncio.create_task(read(derived))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.set(1)
    assert await second == 2
    assert first.cancelled()


async def test_a_hook_that_raises_is_called_again_by_the_next_reader() -> None:
    made: Future[str] = Future()
    outcomes: list[Any] = [ValueError("not yet"), "made"]

    def make(timeout: float | None) -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    made.set_get_hook(make)
    with pytest.raises(ValueError, match="not yet"):
        await made
    assert (await made, made.get()) == ("made", "made")


async def test_a_hook_that_is_set_while_somebody_waits_makes_the_value() -> None:
    late: Future[str] = Future()
    reader = asyncio.create_task(read(late))
    await asyncio.sleep(0)
    late.set_get_hook(lambda timeout: "made")
    assert await reader == "made"


def test_a_thread_waits_for_the_thread_that_makes_the_value_and_no_longer_than_it_likes() -> None:
    made: Future[str] = Future()
    begun, release = threading.Event(), threading.Event()
    calls: list[float | None] = []

    def make(timeout: float | None) -> str:
        calls.append(timeout)
        begun.set()
        assert release.wait(PATIENCE_S)
        return "made"

    made.set_get_hook(make)
    values: list[str] = []
    maker = threading.Thread(target=lambda: values.append(made.get(timeout=PATIENCE_S)))
    maker.start()
    assert begun.wait(PATIENCE_S)
    with pytest.raises(pykka.Timeout):
        made.get(timeout=0)
    release.set()
    values.append(made.get())
    maker.join()
    assert values == ["made", "made"]
    assert calls == [PATIENCE_S]


async def test_who_has_given_up_waiting_is_not_kept() -> None:
    source: Future[int] = Future()
    readers = [asyncio.create_task(read(source)) for _ in range(3)]
    await asyncio.sleep(0)
    for reader in readers[:2]:
        reader.cancel()
    await asyncio.sleep(0)
    assert source._waiters is not None
    assert len(source._waiters) == 1
    source.set(1)
    assert await readers[2] == 1


def test_a_thread_that_has_given_up_waiting_is_not_kept() -> None:
    source: Future[int] = Future()
    with pytest.raises(pykka.Timeout, match="0 seconds"):
        source.get(timeout=0)
    assert source._waiters == []


async def test_the_traceback_of_a_failure_does_not_grow_with_its_readers() -> None:
    failed: Future[int] = Future()
    failed.set_exception(ValueError("once"))
    depths: list[int] = []
    for _ in range(3):
        try:
            await failed
        except ValueError as error:
            depths.append(depth(error.__traceback__))
    assert depths[0] == depths[1] == depths[2]


async def test_the_traceback_of_where_it_failed_is_kept() -> None:
    def deep() -> None:
        raise ValueError("here")

    failed: Future[int] = Future()
    try:
        deep()
    except ValueError:
        failed.set_exception()
    names: list[str] = []
    try:
        await failed
    except ValueError as error:
        traceback = error.__traceback__
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
    assert names[-1] == "deep"


async def test_a_value_reaches_others_when_one_who_waited_is_on_a_loop_that_is_closed() -> None:
    source: Future[int] = Future()
    gone = asyncio.new_event_loop()
    assert source._wait_with(gone.create_future())
    gone.close()
    reader = asyncio.create_task(read(source))
    await asyncio.sleep(0)
    source.set(1)
    assert await reader == 1
