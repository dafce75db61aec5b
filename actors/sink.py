"""One device's outlet, as the actors see it. The gateway implements it; a link to another process may, later.

Nothing here waits. Frames are encoded already, and may be shared with thousands of other sinks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Sink(Protocol):
    """Frames leave in the order of the calls, except that collapsible and ephemeral ones may be replaced or dropped."""

    #: Called once, after a refused `offer`, when the outlet has room again. Set by the session.
    on_drained: Callable[[], None] | None

    @property
    def spare(self) -> int:
        """Bytes that may wait in addition. Replies are taken beyond that, too: who prepares a large one looks here before."""
        ...

    def offer(self, frames: bytes, count: int) -> bool:
        """Durable: `count` encoded frames, one after the other in `frames`. False: over the limit, and nothing was queued."""
        ...

    def reply(self, frame: bytes) -> None:
        """The answer to a command of this device. Always queued: the outlet bounds it by not reading further commands."""
        ...

    def offer_latest(self, key: object, frame: bytes) -> None:
        """Collapsible: takes the place of a waiting frame of the same key; dropped over the limit."""
        ...

    def offer_ephemeral(self, frame: bytes) -> None:
        """The first to be dropped."""
        ...

    def close(self, code: int, reason: str, retry_after_ms: int = 0) -> None:
        """Send what is waiting, then close. Later calls of anything do nothing."""
        ...
