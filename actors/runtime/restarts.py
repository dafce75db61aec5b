"""What supervisors decide, as functions of (state, what happened, now). No actor, no clock, no randomness.

A supervisor counts restarts in a sliding window (Erlang/OTP's restart intensity). Over the intensity it gives up:
one that has named children escalates to its own supervisor; one that has keyed children (ten thousand conversations)
counts per key and quarantines that key, since five unrelated crashes among ten thousand are no reason to end them all.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final


class Restart(enum.Enum):
    """Which ends of a child are followed by a restart."""

    PERMANENT = "permanent"
    """Every one."""
    TRANSIENT = "transient"
    """A failure, but not a stop: the child may have finished, or gone to sleep."""
    TEMPORARY = "temporary"
    """None: whoever needs it starts it again."""

    def applies(self, failed: bool) -> bool:
        return self is Restart.PERMANENT or (self is Restart.TRANSIENT and failed)


class Strategy(enum.Enum):
    """Who is restarted with a child that ended."""

    ONE_FOR_ONE = "one-for-one"
    """Nobody."""
    REST_FOR_ONE = "rest-for-one"
    """Those started after it, which may depend on it."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """At most `restarts` within any `seconds`; the next one is too many."""

    restarts: int = 5
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a key is quarantined: `first_s`, twice that the next time, and so on up to `cap_s`; of each the upper
    half is jittered, so that keys that failed together do not come back together."""

    first_s: float = 1.0
    cap_s: float = 60.0

    def delay_s(self, rounds: int, jitter: float) -> float:
        """`rounds`: quarantines before this one. `jitter`: 0 up to 1."""
        # Beyond 2**30 the cap has long been reached, and the power would overflow in the end.
        return min(self.cap_s, self.first_s * 2.0 ** min(rounds, 30)) * (0.5 + 0.5 * jitter)


@dataclass(frozen=True, slots=True)
class Stop:
    name: str


@dataclass(frozen=True, slots=True)
class Start:
    name: str


@dataclass(frozen=True, slots=True)
class Escalate:
    name: str
    """The child whose end was one too many."""


Action = Stop | Start | Escalate


@dataclass(frozen=True, slots=True)
class Family:
    """The named children of a supervisor. `order`: all of them, in the order of starting, each with its kind.
    `running`: those that run or are being started. `restarts`: when it restarted, within the window, oldest first."""

    order: tuple[tuple[str, Restart], ...]
    strategy: Strategy
    intensity: Intensity
    running: frozenset[str] = frozenset()
    restarts: tuple[float, ...] = ()

    def start_all(self) -> tuple[Family, tuple[Action, ...]]:
        names = tuple(name for name, _ in self.order)
        return replace(self, running=frozenset(names)), tuple(Start(name) for name in names)

    def stop_all(self) -> tuple[Family, tuple[Action, ...]]:
        return replace(self, running=frozenset()), self._stops(0)

    def child_ended(self, name: str, *, failed: bool, now: float) -> tuple[Family, tuple[Action, ...]]:
        """What to do, in this order, now that a running child has ended: stops (last started first), then starts
        (in order), or stops and an escalation. The new state takes it for done."""
        position, kind = next((i, kind) for i, (other, kind) in enumerate(self.order) if other == name)
        family = replace(self, running=self.running - {name})
        if not kind.applies(failed):
            return family, ()
        recent = (*(at for at in self.restarts if now - at < self.intensity.seconds), now)
        if len(recent) > self.intensity.restarts:
            family, stops = family.stop_all()
            return family, (*stops, Escalate(name))
        if self.strategy is Strategy.ONE_FOR_ONE:
            return replace(family, running=self.running | {name}, restarts=recent), (Start(name),)
        later = {other for other, _ in self.order[position + 1 :]} & self.running
        # A temporary child is never started again, whatever it was stopped for.
        again = [
            other
            for other, other_kind in self.order[position:]
            if other == name or (other in later and other_kind is not Restart.TEMPORARY)
        ]
        running = (family.running - later) | frozenset(again)
        actions = (*family._stops(position + 1), *(Start(other) for other in again))
        return replace(family, running=running, restarts=recent), actions

    def _stops(self, position: int) -> tuple[Action, ...]:
        return tuple(Stop(name) for name, _ in reversed(self.order[position:]) if name in self.running)


@dataclass(frozen=True, slots=True)
class KeyTrouble:
    """What is remembered of a key that has failed. `restarts`: within the window, oldest first. `rounds`: quarantines
    in a row. `until`: when the last of them ends (0: there was none)."""

    restarts: tuple[float, ...] = ()
    rounds: int = 0
    until: float = 0.0

    def quarantined_for(self, now: float) -> float:
        """Seconds that are left of the quarantine; 0 when there is none."""
        return max(0.0, self.until - now)

    def is_past(self, now: float, intensity: Intensity, backoff: Backoff) -> bool:
        """Whether it may be forgotten: a key that starts from nothing would be treated the same."""
        calm = all(now - at >= intensity.seconds for at in self.restarts)
        return calm and (self.rounds == 0 or now - self.until >= backoff.cap_s)


NO_TROUBLE: Final = KeyTrouble()


def key_ended(
    trouble: KeyTrouble, now: float, intensity: Intensity, backoff: Backoff, jitter: float
) -> tuple[KeyTrouble, float]:
    """A keyed child whose kind asks for a restart has ended, or could not start.

    The second value is 0.0 when it is restarted at once, otherwise the seconds of its quarantine. After a quarantine
    the key is on probation for `backoff.cap_s`: one more end quarantines it again, for longer.
    """
    probation = trouble.rounds > 0 and now - trouble.until < backoff.cap_s
    recent = tuple(at for at in trouble.restarts if now - at < intensity.seconds)
    if not probation and len(recent) < intensity.restarts:
        return KeyTrouble((*recent, now)), 0.0
    rounds = trouble.rounds if probation else 0
    delay = backoff.delay_s(rounds, jitter)
    return KeyTrouble(recent, rounds + 1, now + delay), delay
