"""The writer: groups what arrived in the same moment into one durable commit.

While a commit is under way the next one gathers, so the group is as large as the disk is slow, and an idle node commits at
once. Who asked hears of the outcome; nobody waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

from actors.messages import Persist, Persisted
from actors.runtime.actor import Actor
from actors.runtime.errors import ActorDeadError
from actors.runtime.ref import ActorRef
from actors.services import Services
from storage import records

#: Writes in one commit. Beyond a few hundred a larger group saves no more (measured: 30,400 rows/s in groups of 500), and a
#: large one delays everybody in it.
MAX_WRITES = 512
#: Writes that may wait. A store that is this far behind (seconds of work) refuses further ones at once.
MAX_WAITING = 32768


class _Commit:
    """Told to oneself: everything that came in the same turn is queued now."""


_COMMIT = _Commit()
_BROKEN = records.Outcome(records.Result.CONFLICT, "what it builds on was not stored")


class Writer(Actor):
    """Permanent. One commit is under way at a time: the next gathers meanwhile."""

    mailbox_limit: ClassVar[int] = MAX_WAITING
    await_limit_s: ClassVar[float | None] = None

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._store = services.store
        self._telemetry = services.telemetry
        self._waiting: list[Persist] = []
        self._count = 0
        self._busy = False
        #: Streams of which an append was not stored: by whom, and in which of the owner's lives.
        self._broken: dict[bytes, tuple[ActorRef[Any] | None, int]] = {}
        #: When the oldest of those that wait came (the runtime's clock).
        self._since = 0.0

    def on_receive(self, message: Any) -> None:
        if type(message) is Persist:
            if self._count >= MAX_WAITING and message.writes:  # nothing to write: it asks to hear when all before it is done
                refused = records.Outcome(records.Result.FAILED, "the writer is too far behind")
                _tell(message, [refused] * len(message.writes))
                return
            if self._broken and self._builds_on_nothing(message):
                _tell(message, [_BROKEN] * len(message.writes))
                return
            if not self._waiting:
                self._since = self.actor_ref.runtime.clock()
                if not self._busy:
                    self.actor_ref.tell_committed(_COMMIT)
            self._waiting.append(message)
            self._count += len(message.writes)
        elif type(message) is _Commit:
            self._commit()
        else:
            self._done(*message)

    async def on_stop(self) -> None:  # type: ignore[override]
        """What waits is still written; the commit under way ends before it."""
        writes = [write for persist in self._waiting for write in persist.writes]
        if writes:
            await self._store.commit(writes)

    def waiting(self) -> int:
        """Writes that wait."""
        return self._count

    def _commit(self) -> None:
        if self._busy or not self._waiting:
            return
        taken = 0
        writes: list[records.Write] = []
        for persist in self._waiting:
            if writes and len(writes) + len(persist.writes) > MAX_WRITES:
                break
            writes.extend(persist.writes)
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._count -= len(writes)
        self._busy = True
        since = self._since
        self.pipe(self._store.commit(writes), lambda outcomes: (batch, len(writes), since, outcomes))

    def _done(
        self, batch: Sequence[Persist], count: int, since: float, outcomes: Sequence[records.Outcome] | BaseException
    ) -> None:
        self._busy = False
        self._telemetry.append_seconds.observe(self.actor_ref.runtime.clock() - since)
        if isinstance(outcomes, BaseException):
            # The store's contract is to report its own trouble as outcomes; whatever this is, nothing is known.
            outcomes = [records.Outcome(records.Result.UNKNOWN, repr(outcomes))] * count
        position = 0
        failed = []
        for persist in batch:
            end = position + len(persist.writes)
            _tell(persist, outcomes[position:end])
            if end > position and outcomes[position].result is not records.Result.STORED:
                failed.append(persist)
            position = end
        if failed:
            self._break(failed)
        self._commit()

    def _break(self, failed: Sequence[Persist]) -> None:
        """These were not stored: nor is what their owners decided on top of them. All of the commit has been told by now, so
        that an owner hears of its writes in the order in which it asked for them."""
        for persist in failed:
            write = persist.writes[0]
            if isinstance(write, records.Append):
                self._broken[write.stream] = (persist.owner, persist.life)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if self._builds_on_nothing(each):
                self._count -= len(each.writes)
                _tell(each, [_BROKEN] * len(each.writes))
            else:
                self._waiting.append(each)

    def _builds_on_nothing(self, persist: Persist) -> bool:
        """Whether it was decided on top of an append that was not stored. An owner that has loaded since is on firm ground."""
        write = persist.writes[0] if persist.writes else None
        if not isinstance(write, records.Append):
            return False
        broken = self._broken.get(write.stream)
        if broken is None:
            return False
        owner, life = broken
        if persist.owner is owner and persist.life == life:
            return True
        del self._broken[write.stream]
        return False


def _tell(persist: Persist, outcomes: Sequence[records.Outcome]) -> None:
    if persist.owner is not None:
        with contextlib.suppress(ActorDeadError):
            persist.owner.tell_committed(Persisted(persist.token, outcomes))
