"""The search for the highest rate, and what one try at a rate says."""

from __future__ import annotations

import array

import pytest

from bench import pairs
from bench.workloads import maximum


@pytest.mark.parametrize("limit", [20, 3999, 4000, 4001, 17_345, 100_000])
async def test_the_search_ends_within_its_precision_below_what_is_carried(limit: int) -> None:
    tried: list[int] = []

    async def carries(rate: int) -> bool:
        tried.append(rate)
        return rate <= limit

    await maximum.search(4000, 0.03, carries)
    found = max(rate for rate in tried if rate <= limit)
    assert found <= limit <= found * 1.03 + 2
    assert len(tried) < 25


async def test_the_search_ends_where_nothing_is_carried() -> None:
    tried: list[int] = []

    async def carries(rate: int) -> bool:
        tried.append(rate)
        return False

    await maximum.search(4000, 0.03, carries)
    assert tried == sorted(tried, reverse=True)
    assert tried[-1] >= maximum.LEAST


def probe(latencies: list[float], late_s: float = 0.0, fell_behind: bool = False) -> maximum.Probe:
    return maximum.Probe(100, fell_behind, pairs.Counted(1.0, 100, 1, 1, 0.5), array.array("d", latencies), late_s)


def test_a_rate_is_carried_when_99_in_100_come_within_15_ms() -> None:
    assert probe([0.001] * 99 + [1.0]).is_carried
    assert not probe([0.001] * 98 + [0.016] * 2).is_carried


def test_a_rate_at_which_a_client_would_have_to_stop_is_missed_however_fast_the_others_were() -> None:
    assert probe([0.001] * 100, fell_behind=True).is_missed
    assert probe([], fell_behind=True).is_missed


def test_a_try_in_which_the_generator_was_away_says_nothing_against_the_server() -> None:
    assert not probe([0.02] * 100, late_s=0.02).is_missed
    assert probe([0.02] * 100, late_s=0.002).is_missed
