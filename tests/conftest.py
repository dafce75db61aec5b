"""What every test may use."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def require_or_skip(reason: str) -> NoReturn:
    """Call it where something that a test needs is missing; `reason` names it and says how to get it.

    The test is skipped on a developer's machine and fails where CI=true, so that no suite turns green because a
    service was absent.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)
