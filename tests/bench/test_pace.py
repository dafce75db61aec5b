"""Open loops: each action once, in order, with the moment at which it was due."""

from __future__ import annotations

import itertools
import time

import pytest
import uvloop

from bench import pace


def is_even(dues: list[float], rate: float) -> bool:
    return all(abs(later - earlier - 1 / rate) < 1e-6 for earlier, later in itertools.pairwise(dues))


async def test_a_busy_loop_acts_at_even_distances_and_never_before_it_is_due() -> None:
    dues: list[float] = []

    def act(due: float) -> None:
        assert due <= time.monotonic()
        dues.append(due)

    late = await pace.busy(1000, 0.05, act)
    assert (len(dues), is_even(dues, 1000)) == (50, True)
    assert late > 0


async def test_a_busy_loop_ends_when_it_is_told_to() -> None:
    dues: list[float] = []

    def act(due: float) -> None:
        if len(dues) == 3:
            raise pace.EnoughError
        dues.append(due)

    await pace.busy(1000, 60.0, act)
    assert len(dues) == 3


@pytest.mark.parametrize("rate", [500, 300])
def test_a_woken_loop_acts_at_even_distances_and_tells_how_late_each_was(rate: float) -> None:
    dues: list[float] = []

    async def whole() -> tuple[list[float], list[float]]:
        return await pace.woken(rate, 0.05, dues.append), await pace.woken(rate, 0.02, dues.append)

    first, second = uvloop.run(whole())
    assert (len(first), len(second)) == (int(0.05 * rate), int(0.02 * rate))
    assert is_even(dues[: len(first)], round(1e6 / round(1e6 / rate), 9))
    assert min(first + second) >= 0
