"""When to try again: exponential, with full jitter, so that ten thousand clients of a restarted node do not come as one.

Full jitter (a delay drawn between nothing and the bound) spreads the load best and costs the single client half the wait.
"""

from __future__ import annotations

from collections.abc import Callable

#: Bound of the first wait, seconds.
FIRST_S = 0.5
#: Bound of the longest wait, seconds.
LONGEST_S = 30.0
#: A connection that stayed for so long begins anew at FIRST_S; a shorter one counts as one more failure, so that a server
#: which accepts and drops at once is not hammered. Seconds.
SETTLED_S = 10.0


class Backoff:
    """Give `delay` one call per failure. `random` returns floats in [0, 1), as `random.random` does."""

    __slots__ = ("_failures", "_random")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0

    def delay(self, at_least: float = 0.0) -> float:
        """Seconds to wait. `at_least` is the server's hint: it is kept, and the jitter comes on top."""
        bound = min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return at_least + self._random() * bound

    def settled(self) -> None:
        """The connection stayed: forget the failures."""
        self._failures = 0
