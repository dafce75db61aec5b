"""Backlogs taking turns, and those who wait, without a socket."""

from __future__ import annotations

import asyncio

from gateway import turns
from tests.gateway import world


class Client:
    """Has a number of turns to take, and may raise in one of them."""

    def __init__(self, queue: turns.Turns, log: list[str], name: str, left: int, raises_at: int = 0) -> None:
        self.queue, self.log, self.name, self.left, self.raises_at = queue, log, name, left, raises_at
        self.is_aborted = False

    def turn(self) -> None:
        self.log.append(self.name)
        if self.left == self.raises_at:
            raise RecursionError
        self.left -= 1
        if self.left:
            self.queue.add(self)

    def resume(self) -> None:
        self.log.append(f"{self.name} resumed")
        if self.raises_at:
            raise RecursionError

    def abort(self) -> None:
        self.is_aborted = True


async def test_who_raises_in_a_turn_is_aborted_alone_and_everybody_else_goes_on() -> None:
    queue = turns.Turns(asyncio.get_running_loop(), world.Clock())
    log: list[str] = []
    broken = Client(queue, log, "broken", 2, raises_at=2)
    others = [Client(queue, log, name, 3) for name in "ab"]
    for each in (others[0], broken, others[1]):
        queue.add(each)
    for _ in range(20):
        await asyncio.sleep(0)
    assert log == ["a", "broken", "b", "a", "b", "a", "b"]
    assert broken.is_aborted
    assert not any(each.is_aborted for each in others)
    assert queue.is_idle
    late = Client(queue, log, "late", 1)
    queue.add(late)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log[-1] == "late"


async def test_who_raises_when_its_wait_is_over_is_aborted_alone_and_the_later_ones_are_resumed() -> None:
    clock = world.Clock()
    queue = turns.Turns(asyncio.get_running_loop(), clock)
    log: list[str] = []
    broken = Client(queue, log, "broken", 0, raises_at=1)
    for when, each in enumerate((broken, Client(queue, log, "a", 0), Client(queue, log, "b", 0)), 1001):
        queue.wait(each, when)
    clock.now = 1002.0
    queue.wake()
    assert log == ["broken resumed", "a resumed"]
    assert broken.is_aborted
    clock.now = 1003.0
    queue.wake()
    assert log[-1] == "b resumed"
    queue.stop()


def test_what_is_not_taken_apart_of_a_backlog_can_be_had_in_slices_or_at_once() -> None:
    backlog = turns.Backlog(b"a" * turns.SLICE + b"b" * 10, [])
    assert backlog.slice() == b"a" * turns.SLICE
    backlog.add(b"c")
    assert backlog.rest() == b"b" * 10 + b"c"
    assert not backlog
    assert backlog.rest() == backlog.slice() == b""
