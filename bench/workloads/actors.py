"""`actors`: what the actor runtime itself costs, with no chat, no socket and no disk.

One event loop (uvloop), one process on the core that the server has in the other workloads. 100 actors with ordinary bounded
mailboxes and plain handlers are told messages in rounds that fill half of each mailbox: nine in ten as commands (refused when
the mailbox is full), the others in the lane of committed events, one in a hundred in the system lane. A round ends when all are
handled.

`rate_per_s`: messages told and handled. Metrics: `hops_per_s`, messages that actors pass on among themselves; `asks_per_s`,
questions answered and awaited, 100 at a time (`asks_one_by_one_per_s`: each awaited before the next); `starts_per_s`; and
`bytes_per_idle_actor`, resident memory of 100,000 actors that have handled a message and are idle, divided. Nothing is durable.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from actors.runtime.actor import Actor
from actors.runtime.mailbox import DEFAULT_MAILBOX_LIMIT
from actors.runtime.ref import ActorRef
from actors.runtime.runtime import Runtime
from bench import generators, machine, process, result, show, workload

#: Messages to one actor in one round.
ROUND = DEFAULT_MAILBOX_LIMIT // 2
#: Questions that are awaited together.
ASKED_AT_ONCE = 100
#: Share of the time that each of the four measurements gets.
SHARE = 0.25


class Counter(Actor):
    """Counts what it is told, and answers with the count."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_receive(self, message: Any) -> int:
        self.count += 1
        return self.count


class Relay(Actor):
    """Passes a number on, one less, until it is 0."""

    __slots__ = ("next", "on_end")

    def __init__(self, on_end: Callable[[], None]) -> None:
        super().__init__()
        self.next: ActorRef[Any] | None = None
        self.on_end = on_end

    def on_receive(self, message: Any) -> None:
        if type(message) is int:
            if message:
                assert self.next is not None
                self.next.tell(message - 1)
            else:
                self.on_end()
        else:
            self.next = message


async def handled(runtime: Runtime, target: int) -> None:
    while runtime.handled < target:  # noqa: ASYNC110 (what is measured is this loop)
        await asyncio.sleep(0)


async def tells(runtime: Runtime, refs: list[ActorRef[Counter]], seconds: float) -> float:
    """Messages a second, by the three lanes."""
    message = object()
    total = 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        target = runtime.handled + ROUND * len(refs)
        for ref in refs:
            tell, committed = ref.tell, ref.tell_committed
            for number in range(ROUND):
                if number % 10:
                    tell(message)
                elif number % 100:
                    committed(message)
                else:
                    ref.tell_system(message)
        await handled(runtime, target)
        total += ROUND * len(refs)
    return total / spent


async def hops(refs: list[ActorRef[Any]], tokens: int, seconds: float) -> float:
    """Messages a second that go from actor to actor."""
    ended = asyncio.Semaphore(0)
    ring = [Relay.start(ended.release) for _ in refs]
    for index, ref in enumerate(ring):
        ref.tell(ring[(index + 1) % len(ring)])
    length, total = 1000, 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        for ref in ring[:tokens]:
            ref.tell(length)
        for _ in ring[:tokens]:
            await ended.acquire()
        total += tokens * (length + 1)
    for ref in ring:
        ref.stop()
    return total / spent


async def asks(refs: list[ActorRef[Counter]], at_once: int, seconds: float) -> float:
    """Questions a second, answered and awaited."""
    message = object()
    total = 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        for _ in range(10):
            futures = [refs[number % len(refs)].ask(message, block=False) for number in range(at_once)]
            for future in futures:
                await future
            total += at_once
    return total / spent


async def idle_actors(runtime: Runtime, count: int) -> tuple[float, float]:
    """Bytes of an idle actor that has handled something, and actors started a second."""
    refs: list[ActorRef[Counter]] = [Counter.start() for _ in range(1000)]  # what is made once is not counted
    before = machine.rss_bytes(os.getpid())
    began = time.perf_counter()
    refs += [Counter.start() for _ in range(count)]
    seconds = time.perf_counter() - began
    target = runtime.handled + len(refs)
    for ref in refs:
        ref.tell(None)
    await handled(runtime, target)
    size = (machine.rss_bytes(os.getpid()) - before) / count
    for ref in refs:
        await ref.stop(block=False)
    return size, count / seconds


async def drive(job: generators.Job, link: generators.Link) -> dict[str, float]:
    """Everything, in the process that is measured."""
    runtime = Runtime(asyncio.get_running_loop()).start()
    link.phase("measure", 5)
    size, starts = await idle_actors(runtime, job.params["idle_actors"])
    link.progress(1)
    refs = [Counter.start() for _ in range(job.params["actors"])]
    seconds = job.seconds * SHARE
    cpu = time.process_time()
    found = {"bytes_per_idle_actor": size, "starts_per_s": starts}
    found["tells_per_s"] = await tells(runtime, refs, seconds)
    found["cpu_s"] = time.process_time() - cpu
    link.progress(1)
    found["hops_per_s"] = await hops(refs, min(len(refs), ASKED_AT_ONCE), seconds)
    link.progress(1)
    found["asks_per_s"] = await asks(refs, ASKED_AT_ONCE, seconds)
    link.progress(1)
    found["asks_one_by_one_per_s"] = await asks(refs, 1, seconds)
    link.progress(1)
    found["rss_bytes"] = machine.rss_bytes(os.getpid())
    await runtime.stop()
    return found


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    if run.around.remote is not None:
        raise workload.NotPossible("actors measures the runtime of this checkout, and no server")
    job = generators.Job("", run.accounts, run.params, run.seconds)
    found = generators.run(drive, [job], process.Server(""), run.server_core, run.bar).results[0]
    rate, cpu, memory = found.pop("tells_per_s"), found.pop("cpu_s"), found.pop("rss_bytes")
    return result.Figures(rate, run.seconds * SHARE, server_cpu_s=cpu, server_rss_bytes=memory, metrics=found)


def headline(figures: result.Figures) -> str:
    """What stands in the table."""
    asks, size = show.count(figures.metrics["asks_per_s"]), show.count(figures.metrics["bytes_per_idle_actor"])
    return f"{show.count(figures.rate_per_s)} tells/s; {asks} asks/s; {size} bytes an idle actor"


WORKLOAD = workload.Workload(
    "actors",
    "the runtime alone, inside one loop",
    "messages told and handled",
    "300,000 tells/s, goal 500,000/s; 150,000 asks/s; 1.5 KB an idle actor",
    headline,
    8.0,
    {"actors": 100, "idle_actors": 100_000},
    run,
    durable=False,
)
