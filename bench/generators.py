"""Processes that generate load, away from the server's core, and the moments at which all of them meet.

The parent looks at the server's CPU time and memory at each meeting, so that what is measured lies exactly between two of them.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import multiprocessing.connection
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from bench import machine, people, process, progress, wire

#: Seconds without a word from any generator after which something hangs.
SILENCE_S = 180.0
_POLL_S = 0.25


class GeneratorFailed(Exception):
    """A generator process raised: its traceback, or why it could not connect."""


@dataclass(slots=True, frozen=True)
class Job:
    """What one generator process is to do. `params` are the workload's; `part` of `parts` tells it from its siblings."""

    url: str
    accounts: people.Accounts
    params: Mapping[str, Any]
    seconds: float
    part: int = 0
    parts: int = 1


@dataclass(slots=True, frozen=True)
class Usage:
    """The server at one meeting. `at` on the monotonic clock; CPU and memory None where they cannot be seen."""

    at: float
    cpu_s: float | None
    rss_bytes: int | None


@dataclass(slots=True)
class Generated:
    """What the generators brought back, one result each, and the server's state at each meeting."""

    results: list[Any]
    usage: dict[str, Usage]

    def cpu_s(self, first: str, last: str) -> float | None:
        """CPU seconds of the server between two meetings."""
        before, after = self.usage[first].cpu_s, self.usage[last].cpu_s
        return None if before is None or after is None else round(after - before, 3)


class Link:
    """A generator's end of the pipe."""

    def __init__(self, pipe: multiprocessing.connection.Connection) -> None:
        self._pipe = pipe

    async def meet(self, name: str) -> None:
        """Wait until every generator is here. Connections go on meanwhile."""
        self._pipe.send(("meet", name))
        await asyncio.get_running_loop().run_in_executor(None, self._pipe.recv)

    def phase(self, text: str, total: float) -> None:
        """What begins now, and how many steps it has."""
        self._pipe.send(("phase", (text, total)))

    def progress(self, steps: float) -> None:
        """So many more steps are done."""
        self._pipe.send(("progress", steps))

    async def watch(self, text: str, seconds: float) -> None:
        """Let time pass, and show it."""
        self.phase(text, seconds)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            step = min(left, 0.5)
            await asyncio.sleep(step)
            self.progress(step)


Drive = Callable[[Job, Link], Awaitable[Any]]


def run(drive: Drive, jobs: Sequence[Job], server: process.Server, core: int | None, bar: progress.Bar) -> Generated:
    """Run `drive(job, link)` in a process of its own for each job, all on `core`; its results must be picklable."""
    context = multiprocessing.get_context("spawn")
    pipes: list[multiprocessing.connection.Connection] = []
    children: list[Any] = []
    try:
        for job in jobs:
            mine, theirs = context.Pipe()
            child = context.Process(target=_child, args=(theirs, drive, job, core), daemon=True)
            child.start()
            theirs.close()
            pipes.append(mine)
            children.append(child)
        return _attend(pipes, server, bar)
    finally:
        for pipe in pipes:
            pipe.close()
        for child in children:
            child.join(5.0)
            if child.is_alive():
                child.kill()
                child.join()


def _attend(pipes: list[multiprocessing.connection.Connection], server: process.Server, bar: progress.Bar) -> Generated:
    waiting: dict[str, list[multiprocessing.connection.Connection]] = {}
    results: dict[int, Any] = {}
    usage: dict[str, Usage] = {}
    heard = time.monotonic()
    while len(results) < len(pipes):
        running = [pipe for index, pipe in enumerate(pipes) if index not in results]
        for ready in multiprocessing.connection.wait(running, _POLL_S):
            assert isinstance(ready, multiprocessing.connection.Connection)
            heard = time.monotonic()
            try:
                kind, value = ready.recv()
            except EOFError:
                raise GeneratorFailed("a generator ended without a result") from None
            if kind == "meet":
                here = waiting.setdefault(value, [])
                here.append(ready)
                if len(here) == len(pipes):
                    usage[value] = Usage(time.monotonic(), server.cpu_s(), server.rss_bytes())
                    for pipe in here:
                        pipe.send(value)
            elif kind == "phase":
                bar.phase(value[0], value[1] * len(pipes))
            elif kind == "progress":
                bar.advance(value)
            elif kind == "result":
                results[pipes.index(ready)] = value
            else:
                raise GeneratorFailed(value)
        server.check()
        if time.monotonic() - heard > SILENCE_S:
            raise GeneratorFailed(f"no word from a generator for {SILENCE_S:.0f} s")
    return Generated([results[index] for index in range(len(pipes))], usage)


def _child(pipe: multiprocessing.connection.Connection, drive: Drive, job: Job, core: int | None) -> None:
    machine.pin(core)
    gc.disable()  # a short life with much memory: a pause of the generator would look like one of the server

    def broken(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A mistake in a callback must not go by as a slow server."""
        error = context.get("exception")
        text = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else str(context["message"])
        pipe.send(("failed", text))
        os._exit(1)  # nothing that follows means anything

    async def whole() -> Any:
        asyncio.get_running_loop().set_exception_handler(broken)
        return await drive(job, Link(pipe))

    try:
        pipe.send(("result", uvloop.run(whole())))
    except wire.Unreachable as error:
        pipe.send(("failed", str(error)))
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))
    pipe.close()
