"""The history checker finds what was planted, and nothing in a history that keeps every promise."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import events
from tests.checker import checks, history
from tests.checker.simulate import Simulation

SEEDS = st.integers(0, 2**32)


@given(SEEDS)
@settings(max_examples=60)
def test_a_correct_history_is_clean(seed: int) -> None:
    findings = checks.check(Simulation(seed).seen)
    assert not findings, checks.report(findings)


def test_a_correct_history_has_every_kind_of_trouble_in_it() -> None:
    """What the other tests prove is worth something: there are repeats, refusals, cuts, owners and comings and goings."""
    seen = Simulation(7, steps=600).seen
    entries = [entry for device in seen.devices.values() for entry in device.entries]
    found = [command for device in seen.devices.values() for command in history.commands(device).values()]
    assert sum(isinstance(entry, history.Disconnected) for entry in entries) > 20
    assert any(len(command.tries) > 1 for command in found)
    assert any(command.refused_for_good for command in found)
    assert any(isinstance(entry, history.Receipt) for entry in entries)
    assert len({row.epoch for rows in seen.rows.values() for row in rows}) > 5
    kinds = {type(events.decode(row.data)) for rows in seen.rows.values() for row in rows}
    assert kinds >= {events.Edited, events.Deleted, events.Reacted, events.MembersAdded, events.MemberRemoved}
