"""What supervisors decide, without an actor, a clock or a loop."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.runtime import restarts
from actors.runtime.restarts import (
    Action,
    Backoff,
    Escalate,
    Family,
    Intensity,
    KeyTrouble,
    Restart,
    Start,
    Stop,
    Strategy,
)

ABC = (("a", Restart.PERMANENT), ("b", Restart.TRANSIENT), ("c", Restart.TEMPORARY), ("d", Restart.PERMANENT))


def running(strategy: Strategy = Strategy.ONE_FOR_ONE, intensity: Intensity | None = None) -> Family:
    return Family(ABC, strategy, intensity or Intensity(3, 10.0)).start_all()[0]


def test_children_start_in_order_and_stop_in_reverse() -> None:
    family, starts = Family(ABC, Strategy.ONE_FOR_ONE, Intensity()).start_all()
    assert starts == (Start("a"), Start("b"), Start("c"), Start("d"))
    assert family.stop_all()[1] == (Stop("d"), Stop("c"), Stop("b"), Stop("a"))


@pytest.mark.parametrize(
    ("name", "failed", "restarted"),
    [("a", True, True), ("a", False, True), ("b", True, True), ("b", False, False), ("c", True, False), ("c", False, False)],
)
def test_permanent_always_transient_after_a_failure_temporary_never(name: str, failed: bool, restarted: bool) -> None:
    family, actions = running().child_ended(name, failed=failed, now=0.0)
    assert actions == ((Start(name),) if restarted else ())
    assert (name in family.running) == restarted


def test_rest_for_one_restarts_those_started_later_but_no_temporary_one() -> None:
    family, actions = running(Strategy.REST_FOR_ONE).child_ended("b", failed=True, now=0.0)
    assert actions == (Stop("d"), Stop("c"), Start("b"), Start("d"))
    assert family.running == {"a", "b", "d"}


def test_rest_for_one_leaves_alone_who_had_finished() -> None:
    family, _ = running(Strategy.REST_FOR_ONE).child_ended("b", failed=False, now=0.0)
    _, actions = family.child_ended("a", failed=True, now=1.0)
    assert actions == (Stop("d"), Stop("c"), Start("a"), Start("d"))


def test_one_restart_too_many_within_the_window_stops_all_and_escalates() -> None:
    family = running(intensity=Intensity(2, 10.0))
    for now in (0.0, 1.0):
        family, actions = family.child_ended("a", failed=True, now=now)
        assert actions == (Start("a"),)
    family, actions = family.child_ended("d", failed=True, now=9.0)
    assert actions == (Stop("c"), Stop("b"), Stop("a"), Escalate("d"))
    assert family.running == frozenset()


def test_restarts_spread_over_more_than_the_window_do_not_escalate() -> None:
    family = running(intensity=Intensity(2, 10.0))
    for step in range(50):
        family, actions = family.child_ended("a", failed=True, now=step * 5.0)
        assert actions == (Start("a"),)
        assert len(family.restarts) <= 2


def test_an_end_that_needs_no_restart_does_not_count() -> None:
    family = running(intensity=Intensity(0, 10.0))
    family, actions = family.child_ended("b", failed=False, now=0.0)
    assert actions == ()
    assert family.child_ended("a", failed=False, now=0.0)[1][-1] == Escalate("a")


KINDS = st.lists(st.sampled_from(list(Restart)), min_size=1, max_size=6)
ENDS = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats(0.0, 5.0)), max_size=40)


@settings(deadline=None)  # a slow machine is no failure
@given(
    kinds=KINDS,
    strategy=st.sampled_from(list(Strategy)),
    allowed=st.integers(0, 4),
    window=st.floats(0.1, 20.0),
    ends=ENDS,
)
def test_carried_out_the_decisions_give_the_state_they_promise(
    kinds: list[Restart], strategy: Strategy, allowed: int, window: float, ends: list[tuple[int, bool, float]]
) -> None:
    """A model world carries out the actions: nothing is started twice or stopped twice, dependants stop before and start
    after what they depend on, and escalation comes exactly when the window holds too many restarts."""
    order = tuple((str(i), kind) for i, kind in enumerate(kinds))
    family, actions = Family(order, strategy, Intensity(allowed, window)).start_all()
    world: list[str] = []
    history: list[float] = []
    _carry_out(world, actions)
    now = 0.0
    for index, failed, passed in ends:
        now += passed
        name = str(index)
        if name not in world:
            continue
        world.remove(name)
        family, actions = family.child_ended(name, failed=failed, now=now)
        _carry_out(world, actions)
        if order[index][1].applies(failed):
            history = [at for at in history if now - at < window]
            history.append(now)
            assert (len(history) > allowed) == (Escalate(name) in actions)
        else:
            assert actions == ()
        assert family.running == set(world)
        assert world == sorted(world) or strategy is Strategy.ONE_FOR_ONE
        if Escalate(name) in actions:
            assert world == []
            return


def _carry_out(world: list[str], actions: tuple[Action, ...]) -> None:
    stopping = True
    for action in actions:
        if isinstance(action, Stop):
            assert stopping, "a stop after a start"
            world.remove(action.name)
        elif isinstance(action, Start):
            stopping = False
            assert action.name not in world
            world.append(action.name)


# -- keys

POLICY = Intensity(2, 10.0)
BACKOFF = Backoff(1.0, 8.0)


def end(trouble: KeyTrouble, now: float, jitter: float = 1.0) -> tuple[KeyTrouble, float]:
    return restarts.key_ended(trouble, now, POLICY, BACKOFF, jitter)


def test_a_key_is_restarted_at_once_within_its_intensity_and_quarantined_over_it() -> None:
    trouble = restarts.NO_TROUBLE
    for now in (0.0, 1.0):
        trouble, wait = end(trouble, now)
        assert wait == 0.0
        assert trouble.quarantined_for(now) == 0.0
    trouble, wait = end(trouble, 2.0)
    assert wait == 1.0
    assert trouble.quarantined_for(2.25) == 0.75
    assert trouble.quarantined_for(3.0) == 0.0


def test_on_probation_each_failure_doubles_the_quarantine_up_to_the_cap() -> None:
    trouble = KeyTrouble((), 1, 100.0)
    waits = []
    now = 100.0
    for _ in range(5):
        trouble, wait = end(trouble, now)
        waits.append(wait)
        now += wait
    assert waits == [2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_key_that_stayed_well_for_the_cap_begins_anew() -> None:
    trouble = KeyTrouble((), 4, 100.0)
    trouble, wait = end(trouble, 108.0)
    assert (wait, trouble.rounds) == (0.0, 0)


def test_jitter_takes_at_most_half_of_a_quarantine() -> None:
    assert BACKOFF.delay_s(2, 0.0) == 2.0
    assert BACKOFF.delay_s(2, 1.0) == 4.0
    assert BACKOFF.delay_s(10_000, 1.0) == 8.0


def test_old_trouble_is_forgotten_and_fresh_trouble_is_not() -> None:
    assert KeyTrouble((0.0,)).is_past(10.0, POLICY, BACKOFF)
    assert not KeyTrouble((0.1,)).is_past(10.0, POLICY, BACKOFF)
    assert not KeyTrouble((), 1, 5.0).is_past(12.9, POLICY, BACKOFF)
    assert KeyTrouble((), 1, 5.0).is_past(13.0, POLICY, BACKOFF)


@settings(deadline=None)  # a slow machine is no failure
@given(steps=st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(0.0, 1.0)), max_size=60))
def test_no_key_restarts_at_once_more_often_than_its_intensity(steps: list[tuple[float, float]]) -> None:
    trouble, now, at_once = restarts.NO_TROUBLE, 0.0, list[float]()
    for passed, jitter in steps:
        now += passed + trouble.quarantined_for(now)
        if trouble.is_past(now, POLICY, BACKOFF):
            forgotten = end(restarts.NO_TROUBLE, now, jitter)
            assert forgotten[1] == end(trouble, now, jitter)[1]
        trouble, wait = end(trouble, now, jitter)
        if wait == 0.0:
            at_once = [at for at in at_once if now - at < POLICY.seconds] + [now]
            assert len(at_once) <= POLICY.restarts
        else:
            assert BACKOFF.first_s / 2 <= wait <= BACKOFF.cap_s
            assert trouble.quarantined_for(now) == pytest.approx(wait)
