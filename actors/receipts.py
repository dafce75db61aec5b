"""Receipts for streams that sleep: their owners are woken for them one after the other, at a bounded pace.

When thousands of devices come back at once, each has messages to acknowledge in streams that nobody has touched since. The
marks are stored at once; that somebody hears of them can wait a little. Waking an owner for each there and then would make
everybody wait who wants to catch up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from actors.runtime.actor import Actor
from actors.services import Services

#: Owners woken in one go, and seconds until the next: at 0.4 ms each, a twelfth of a core.
AT_ONCE = 20
EVERY_S = 0.1
#: Streams that wait to be woken. Beyond, the oldest are forgotten: their marks are stored, and shown when somebody looks.
MAX_WAITING = 100_000


@dataclass(slots=True, frozen=True)
class Postponed:
    """`user` has everything up to `seq` of a stream that sleeps; the watermark is stored. Sent on to the stream's owner."""

    stream: bytes
    user: int
    seq: int


class _Go:
    """The time has come to wake some more."""


_GO = _Go()


class Receipts(Actor):
    """Permanent."""

    await_limit_s: ClassVar[float | None] = None

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._directory = services.directory
        self._waiting: dict[bytes, dict[int, Postponed]] = {}
        self._is_due = False

    def on_receive(self, message: Any) -> None:
        if type(message) is Postponed:
            self._waiting.setdefault(message.stream, {})[message.user] = message
            if len(self._waiting) > MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
        else:
            self._is_due = False
            self._wake()
        if self._waiting and not self._is_due:
            self._is_due = True
            self.schedule(EVERY_S, _GO)

    def _wake(self) -> None:
        for stream in list(self._waiting)[:AT_ONCE]:
            for postponed in self._waiting.pop(stream).values():
                self._directory.tell_committed(stream, postponed)
