"""One workload's figures: as measured in one run, as the median of several, and as the JSON object that is published."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import machine, percentiles

Number = float | int


@dataclass(slots=True)
class Figures:
    """What one run measured; None: does not apply, or could not be seen.

    `rate_per_s` is what the workload's module says. `seconds` is how long was measured. `errors` counts by kind everything that
    was refused, lost, out of order or cut: a run with errors is not a result."""

    rate_per_s: Number
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    server_cpu_s: float | None = None
    server_rss_bytes: Number | None = None
    bytes_per_message: float | None = None
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    metrics: dict[str, Number | None] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Result:
    """The medians of all runs of a workload, figure by figure; errors are added up. The texts are the workload's.

    `durable` None: nothing is written in it, or nobody knows. `url`: of a server that ran already; None: a node of this
    checkout. `is_here`: it runs on this machine."""

    workload: str
    what: str
    rate: str
    target: str
    headline: str
    params: Mapping[str, Any]
    durable: bool | None
    figures: Figures
    url: str | None = None
    is_here: bool = True

    def as_json(self) -> dict[str, Any]:
        """What is not known of a server that ran already is null: the program of this checkout need not be what it runs."""
        figures = self.figures
        ours = self.url is None
        metrics = {name: _short(value) for name, value in figures.metrics.items()}
        metrics |= {f"errors: {kind}": count for kind, count in sorted(figures.errors.items())}
        return {
            "workload": self.workload,
            "params": dict(self.params),
            "durable": self.durable,
            "seconds": _short(figures.seconds),
            "rate_per_s": _short(figures.rate_per_s),
            "p50_ms": _short(figures.p50_ms),
            "p99_ms": _short(figures.p99_ms),
            "p999_ms": _short(figures.p999_ms),
            "server_cpu_s": _short(figures.server_cpu_s),
            "server_rss_bytes": _short(figures.server_rss_bytes),
            "bytes_per_message": _short(figures.bytes_per_message),
            "errors": figures.errors.total(),
            "metrics": metrics,
            "machine": machine.describe() if self.is_here else None,
            "versions": machine.versions() if ours else None,
            "commit": machine.commit() if ours else None,
            "date": machine.date(),
            "url": self.url,
        }


def medians(runs: Sequence[Figures]) -> Figures:
    """Figure by figure the median of the runs, with the lowest and highest rate beside it where there were several."""

    def of(name: str) -> float | None:
        return percentiles.median([getattr(each, name) for each in runs])

    rates = [each.rate_per_s for each in runs]
    names = dict.fromkeys(name for each in runs for name in each.metrics)
    metrics: dict[str, Number | None] = {name: percentiles.median([each.metrics.get(name) for each in runs]) for name in names}
    if len(runs) > 1:
        metrics |= {"lowest_rate_per_s": min(rates), "highest_rate_per_s": max(rates)}
    rate = percentiles.median(rates)
    seconds = percentiles.median([each.seconds for each in runs])
    assert rate is not None
    assert seconds is not None
    return Figures(
        rate,
        seconds,
        of("p50_ms"),
        of("p99_ms"),
        of("p999_ms"),
        of("server_cpu_s"),
        of("server_rss_bytes"),
        of("bytes_per_message"),
        sum((each.errors for each in runs), collections.Counter()),
        metrics,
    )


def _short(value: Number | None) -> Number | None:
    """Without digits that were never measured."""
    if value is None or isinstance(value, int):
        return value
    return round(value, 1) if abs(value) >= 1000 else round(value, 3)
