"""Calls to those who only want to hear of something: their error is theirs, and must not keep the runtime from going on."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("actors.runtime")


def notify(what: str, callback: Callable[..., object] | None, *args: object) -> None:
    """Call `callback`, if there is one. Whatever it raises is logged with `what` it is."""
    if callback is None:
        return
    try:
        callback(*args)
    except BaseException:
        logger.exception("%s raised", what)
