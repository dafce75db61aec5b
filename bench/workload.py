"""What a workload is, and what its runs are given: a server, people on it, generators, a place to show progress."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench import generators, machine, people, process, progress, result
from storage.sqlite import bulk

#: Lines of a server's warnings that are shown.
COMPLAINTS = 20


class NotPossible(Exception):
    """The workload cannot be run in these surroundings; why."""


@dataclass(slots=True, frozen=True)
class Workload:
    """One row of the table. `params` and their defaults; `run` measures once, for about `seconds`.

    `what` it measures, `rate` what one of `rate_per_s` is, `target` what the project wants to reach, and `headline` the figures
    that are held against it. `durable`: its messages are acknowledged when they are on disk; None: it writes nothing."""

    name: str
    what: str
    rate: str
    target: str
    headline: Callable[[result.Figures], str]
    seconds: float
    params: Mapping[str, int]
    run: Callable[[Run], result.Figures]
    durable: bool | None = True


@dataclass(slots=True, frozen=True)
class Remote:
    """A server that runs already, and how to come in. `pid`: its process, where it is on this machine."""

    url: str
    accounts: people.Accounts
    pid: int = 0


@dataclass(slots=True)
class Surroundings:
    """What all runs of one call of the program share. `scratch` holds populations, made once and copied for each run."""

    bar: progress.Bar
    scratch: pathlib.Path
    remote: Remote | None = None
    profile: str | None = None
    cores: tuple[int | None, int | None] = (None, None)
    populations: dict[str, pathlib.Path] = field(default_factory=dict)


@contextlib.contextmanager
def surroundings(remote: Remote | None = None, profile: str | None = None) -> Iterator[Surroundings]:
    """Pins this process away from the server's core; everything temporary is gone afterwards."""
    cores, usual = machine.cores(), os.sched_getaffinity(0)
    machine.raise_file_limit()
    machine.pin(cores[1])
    try:
        with tempfile.TemporaryDirectory(prefix="kith-bench-", dir=machine.scratch()) as scratch, progress.Bar() as bar:
            yield Surroundings(bar, pathlib.Path(scratch), remote, profile, cores)
    finally:
        os.sched_setaffinity(0, usual)


class Run:
    """One run of a workload."""

    def __init__(self, around: Surroundings, name: str, params: Mapping[str, int], seconds: float) -> None:
        self.around = around
        self.bar = around.bar
        self.name = name
        self.params = params
        self.seconds = seconds

    @property
    def accounts(self) -> people.Accounts:
        return self.around.remote.accounts if self.around.remote else people.Tokens()

    @property
    def server_core(self) -> int | None:
        return self.around.cores[0]

    @contextlib.contextmanager
    def server(
        self,
        persons: int,
        population: Callable[[], Iterable[bulk.Record]] | None = None,
        total: int = 0,
        settings: Mapping[str, str] = process.UNLIMITED,
    ) -> Iterator[process.Server]:
        """A server that knows persons 0 .. `persons` - 1. `population` makes `total` records instead: accounts and what they
        have said. NotPossible on a server that runs already: no records can be written into it."""
        remote = self.around.remote
        if remote is not None:
            if population is not None:
                raise NotPossible(f"{self.name} needs a store that is filled in bulk, so a node of its own")
            yield process.Server(remote.url, remote.pid)
            return
        if population is None:
            now = time.time_ns() // 1_000_000
            folder = self._populated(
                f"{persons} accounts", lambda: people.records_of([people.Person(i) for i in range(persons)], now), 2 * persons
            )
        else:
            folder = self._populated(f"{self.name} {dict(self.params)}", population, total)
        server = process.OwnServer(folder, settings, self.server_core, self.around.profile)
        try:
            yield server
            server.check()
        finally:
            server.stop()
            for line in server.complaints()[:COMPLAINTS]:
                print(f"the server says: {line}", file=sys.stderr)
            shutil.rmtree(folder)

    def _populated(self, key: str, population: Callable[[], Iterable[bulk.Record]], total: int) -> pathlib.Path:
        """A folder of its own with the population."""
        around = self.around
        template = around.populations.get(key)
        if template is None:
            template = around.scratch / f"population-{len(around.populations)}"
            self.bar.phase("populate", total)
            bulk.populate(template, population(), self.bar.at)
            around.populations[key] = template
        folder = pathlib.Path(tempfile.mkdtemp(prefix="node-", dir=around.scratch))
        shutil.copytree(template, folder, dirs_exist_ok=True)
        return folder

    def generate(self, drive: generators.Drive, server: process.Server, parts: int = 1, **more: Any) -> generators.Generated:
        """Drive load at the server from `parts` processes; `more` is added to the parameters."""
        params = {**self.params, **more}
        jobs = [generators.Job(server.url, self.accounts, params, self.seconds, part, parts) for part in range(parts)]
        return generators.run(drive, jobs, server, self.around.cores[1], self.bar)
