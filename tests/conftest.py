"""What every test may use."""

from __future__ import annotations

import os
from typing import NoReturn

import hypothesis
import pytest

IN_CI = os.environ.get("CI") == "true"

# No property fails because the machine is slow. In CI the same code sees the same examples; elsewhere each run tries new ones.
hypothesis.settings.register_profile(
    "kith", deadline=None, derandomize=IN_CI, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("kith")


def require_or_skip(reason: str) -> NoReturn:
    """Call it where something that a test needs is missing; `reason` names it and says how to get it.

    The test is skipped on a developer's machine and fails where CI=true, so that no suite turns green because a
    service was absent.
    """
    if IN_CI:
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)
