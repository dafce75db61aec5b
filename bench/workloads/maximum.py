"""`maximum`: how many messages a second a node carries before they come too late.

The open loop of `latency` at one rate after the other, four seconds each: doubled from 4,000 a second until the node misses,
then bisected between the highest rate that it carried and the lowest that it missed, down to 3 %. It carries a rate when 99 in
100 messages arrive within 15 ms of the moment at which they were due. It has missed it when they do not, or as soon as
deliveries fall behind so far that a sender has 64 messages unanswered, where a client has to stop (docs/protocol.md, Commands).

One miss may be a stall of the machine, so that a rate is given up when it was missed twice. A try in which the generator itself
was away for 15 ms tells nothing and is repeated, four tries being the most.

`rate_per_s`: the highest rate carried. Latency, CPU and memory: at that rate. `missed_rate_per_s` is the lowest rate given up,
and `missed_server_cpu_share` the server's share of its core there: far below 1, the generator, the disk or the machine was the
limit and not the server.
"""

from __future__ import annotations

import array
import itertools
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bench import generators, pace, pairs, percentiles, result, show, wire, workload

#: The contract of a carried rate: p99, in ms.
TARGET_P99_MS = 15.0
#: Messages that a client has unanswered in a stream at most (docs/protocol.md, Limits: `unanswered`, and the oldest itself).
UNANSWERED = 64
#: Seconds at each rate before anything counts.
WARM_UP_S = 0.5
#: Messages a second below which nothing is looked for.
LEAST = 10.0
#: Seconds in which a share of CPU can be told: the kernel counts in hundredths.
TOLD_S = 0.5
#: Misses after which a rate is given up, and tries.
MISSES = 2
TRIES = 4


@dataclass(slots=True, frozen=True)
class Probe:
    """What came of one try at a rate. `late_s`: how long the generator was away at most."""

    rate: int
    fell_behind: bool
    counted: pairs.Counted
    latencies: array.array[float]
    late_s: float

    @property
    def p99_ms(self) -> float | None:
        return percentiles.tail(self.latencies)[1]

    @property
    def is_carried(self) -> bool:
        return not self.fell_behind and self.p99_ms is not None and self.p99_ms <= TARGET_P99_MS

    @property
    def is_missed(self) -> bool:
        """By the server, as far as can be told."""
        return not self.is_carried and self.late_s * 1000 <= TARGET_P99_MS


async def search(first: float, precision: float, carries: Callable[[int], Awaitable[bool]]) -> None:
    """Try rates: doubled from `first` until one is not carried, then between the highest carried and the lowest that was not,
    until they are `precision` of the former apart. Halved from `first` on when that is not carried."""
    low, high, rate = 0.0, math.inf, first
    while rate >= LEAST and high - low > max(precision * low, 1.0):
        if await carries(round(rate)):
            low = rate
        else:
            high = rate
        rate = 2 * low if high == math.inf else (low + high) / 2


class Prober:
    """Tries rates, and remembers what came of each."""

    def __init__(self, job: generators.Job, link: generators.Link, talking: list[pairs.Pair]) -> None:
        self._job = job
        self._link = link
        self._talking = talking
        self._turn = itertools.cycle(talking)
        self._fell_behind = False
        self.probes: list[Probe] = []

    async def carries(self, rate: int) -> bool:
        """Whether the node carries it."""
        misses = 0
        for _ in range(TRIES):
            probe = await self._probe(rate)
            self.probes.append(probe)
            misses += probe.is_missed
            if probe.is_carried or misses == MISSES:
                return probe.is_carried
        return False

    def _send(self, due: float) -> None:
        pair = next(self._turn)
        if pair.sent - pair.sender.answered >= UNANSWERED:
            self._fell_behind = True
            raise pace.EnoughError
        pair.sender.send(due)

    async def _probe(self, rate: int) -> Probe:
        number = len(self.probes)
        seconds = self._job.seconds
        self._fell_behind = False
        self._link.phase(f"{rate:,}/s", seconds)
        late = await pace.busy(rate, min(WARM_UP_S, seconds), self._send)
        await self._link.meet(f"begin {number}")
        span = pairs.Span(self._talking)
        if not self._fell_behind:
            late = await pace.busy(rate, seconds, self._send)
        counted = span.end()
        await self._link.meet(f"end {number}")
        await pairs.drain(self._talking)
        self._link.progress(seconds)
        return Probe(rate, self._fell_behind, counted, span.taken(), late)


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator."""
    errors = wire.Errors()
    async with pairs.talking(job, link, errors) as talking:
        prober = Prober(job, link, talking)
        await search(job.params["first"], job.params["precision_percent"] / 100, prober.carries)
        return {"probes": prober.probes, "errors": errors}


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    with run.server(2 * run.params["pairs"]) as server:
        generated = run.generate(drive, server)
        found = generated.results[0]
        probes: list[Probe] = found["probes"]
        carried = [number for number, probe in enumerate(probes) if probe.is_carried]
        if not carried:
            return result.Figures(0, run.seconds, errors=found["errors"], metrics=_metrics(generated, probes, None))
        best = max(carried, key=lambda number: probes[number].rate)
        probe, cpu = probes[best], generated.cpu_s(f"begin {best}", f"end {best}")
        metrics = _metrics(generated, probes, best)
        usage = generated.usage[f"end {best}"]
        figures = pairs.figures(probe.counted, probe.latencies, found["errors"], cpu, usage, metrics)
        figures.rate_per_s = probe.rate
        return figures


def _metrics(generated: generators.Generated, probes: list[Probe], best: int | None) -> dict[str, result.Number | None]:
    carried = {probe.rate for probe in probes if probe.is_carried}
    given_up = [number for number, probe in enumerate(probes) if probe.rate not in carried]
    # Of the tries at that rate, one that tells something of the server.
    worst = min(given_up, key=lambda number: (probes[number].rate, not probes[number].is_missed), default=None)
    return {
        "delivered_per_s": None if best is None else probes[best].counted.delivered / probes[best].counted.seconds,
        "server_cpu_share": _cpu_share(generated, probes, best),
        "generator_late_ms": None if best is None else probes[best].late_s * 1000,
        "missed_rate_per_s": None if worst is None else probes[worst].rate,
        "missed_p99_ms": None if worst is None else probes[worst].p99_ms,
        "missed_server_cpu_share": _cpu_share(generated, probes, worst),
        "missed_generator_late_ms": None if worst is None else probes[worst].late_s * 1000,
        "tries": len(probes),
    }


def _cpu_share(generated: generators.Generated, probes: list[Probe], number: int | None) -> float | None:
    if number is None or (seconds := probes[number].counted.seconds) < TOLD_S:
        return None
    cpu = generated.cpu_s(f"begin {number}", f"end {number}")
    return None if cpu is None else cpu / seconds


def headline(figures: result.Figures) -> str:
    """What stands in the table."""
    return f"{show.count(figures.rate_per_s)}/s with p99 {show.ms(figures.p99_ms)}"


WORKLOAD = workload.Workload(
    "maximum",
    "open loop: the highest rate at which p99 stays within 15 ms",
    "messages carried",
    "none: it is looked for",
    headline,
    4.0,
    {"first": 4000, "precision_percent": 3, "pairs": 50, "body_bytes": 128},
    run,
)
