"""What the runtime raises beyond Pykka's own `ActorDeadError` and `Timeout`, which are named here too."""

from __future__ import annotations

from pykka import ActorDeadError, Timeout

__all__ = [
    "ActorDeadError",
    "BlockingOnLoop",
    "HandlerTimeout",
    "Killed",
    "MailboxFull",
    "NoRuntime",
    "PipesFull",
    "Quarantined",
    "RestartIntensityExceeded",
    "Timeout",
]


class MailboxFull(Exception):
    """A bounded tell or ask was refused: the actor's mailbox holds `mailbox_limit` messages. Nothing was queued."""


class PipesFull(Exception):
    """`Actor.pipe` was refused: `pipe_limit` awaitables of this actor are still running. Nothing was started."""


class BlockingOnLoop(RuntimeError):
    """A thread that runs an event loop asked to block until an actor answers. Await the future instead."""


class NoRuntime(RuntimeError):
    """There is no started `Runtime` for the calling loop, so no actor can live there."""


class HandlerTimeout(Exception):
    """An async handler awaited longer than its actor's `await_limit_s`; the actor failed with this."""


class Killed(Exception):
    """An actor was ended from outside without finishing its mailbox (a stop that took too long, a shutdown)."""


class RestartIntensityExceeded(Exception):
    """A supervisor saw more restarts than its intensity allows and gives up to its own supervisor."""


class Quarantined(Exception):
    """A keyed child failed too often and may not start yet.

    `retry_after_s`: seconds until a start is allowed again, above 0.
    """

    def __init__(self, key: object, retry_after_s: float) -> None:
        super().__init__(f"{key!r} is quarantined for another {retry_after_s:.3f} s")
        self.key = key
        self.retry_after_s = retry_after_s
