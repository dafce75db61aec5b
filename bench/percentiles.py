"""Percentiles and medians of what was measured. Nothing is interpolated: a percentile is a value that occurred."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 < share <= 1) of the values do not exceed (nearest rank).

    `ordered` is sorted and not empty."""
    # share * n may lie a rounding error above a whole number, which must not move the rank.
    return ordered[max(math.ceil(share * len(ordered) - 1e-9), 1) - 1]


def tail(seconds: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """p50, p99 and p99.9 in milliseconds; None of what was never measured."""
    if not seconds:
        return None, None, None
    ordered = sorted(seconds)
    p50, p99, p999 = (round(percentile(ordered, share) * 1000, 3) for share in (0.5, 0.99, 0.999))
    return p50, p99, p999


def median(values: Sequence[float | None]) -> float | None:
    """The median of several runs; None unless every run has a value."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return statistics.median(known)
