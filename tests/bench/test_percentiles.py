"""Percentiles are values that occurred."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import percentiles

values = st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=300)
shares = st.floats(min_value=0.001, max_value=1.0)


@given(values, shares)
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(some: list[float], share: float) -> None:
    found = percentiles.percentile(sorted(some), share)
    assert found in some
    assert sum(value <= found for value in some) >= share * len(some) - 1e-6
    below = [value for value in some if value < found]
    assert len(below) < share * len(some)


def test_the_tail_of_a_thousand_values_is_in_milliseconds_and_by_nearest_rank() -> None:
    seconds = [number / 1000 for number in range(1, 1001)]
    assert percentiles.tail(seconds[::-1]) == (500.0, 990.0, 999.0)


def test_what_was_never_measured_has_no_percentile() -> None:
    assert percentiles.tail([]) == (None, None, None)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [([3.0, 1.0, 2.0], 2.0), ([4.0], 4.0), ([1.0, 2.0], 1.5), ([], None), ([1.0, None, 2.0], None)],
)
def test_a_median_needs_a_value_of_every_run(runs: list[float | None], expected: float | None) -> None:
    assert percentiles.median(runs) == expected
