"""The sweeper: what has to be looked after from time to time. Each round is short, and a failed one is tried again later."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from actors.messages import EndAccount
from actors.owner import Owner
from actors.runtime.actor import Actor
from actors.services import Services
from protocol import events, ids
from storage import errors, records

logger = logging.getLogger("actors.sweeper")

#: Seconds between two looks for owners to put to sleep; one that is untouched from one look to the next sleeps.
SLEEP_EVERY_S = 60.0
#: Seconds between two looks for expired messages. Readers never see one in between: its time is checked as it is read.
EXPIRE_EVERY_S = 5.0
#: How long a message stays after it has expired, in ms: longer than a commit takes, so that an edit that was decided in time is
#: erased with it.
EXPIRE_SLACK_MS = 10_000
#: Expired messages erased in one transaction, so that senders do not wait behind them.
EXPIRE_AT_ONCE = 256
#: Seconds between two tries of a store that has failed.
PROBE_EVERY_S = 1.0
#: Seconds between two looks for deleted accounts of which something is left: after a crash, or of a group that did not load.
FINISH_EVERY_S = 60.0
#: Accounts that are told at once to see to that.
FINISH_AT_ONCE = 1024
#: Seconds between two looks for what is kept for days.
RETAIN_EVERY_S = 3600.0
#: Devices forgotten in one transaction.
FORGET_AT_ONCE = 256
#: Mentions swept in one transaction.
MENTIONS_AT_ONCE = 1024
DAY_MS = 86_400_000


@dataclass(slots=True, frozen=True)
class Retention:
    """Days that things are kept: devices that stay away, and the change feed."""

    dead_device_days: int
    change_feed_days: int


class _Due:
    """A chore's time has come."""

    __slots__ = ("chore",)

    def __init__(self, chore: str) -> None:
        self.chore = chore


class _Done:
    """A chore has ended; `again`: there is more of it."""

    __slots__ = ("chore", "result")

    def __init__(self, chore: str, result: Any) -> None:
        self.chore = chore
        self.result = result


class Sweeper(Actor):
    """Permanent."""

    await_limit_s: ClassVar[float | None] = None

    def __init__(self, services: Services, retention: Retention, revoked: Callable[[int, int], None]) -> None:
        super().__init__()
        self._services = services
        self._retention = retention
        self._revoked = revoked
        self._chores: dict[str, tuple[float, Callable[[], Awaitable[bool]]]] = {
            "expire": (EXPIRE_EVERY_S, self._expire),
            "probe": (PROBE_EVERY_S, self._probe),
            "finish deletions": (FINISH_EVERY_S, self._finish_deletions),
            "forget devices": (RETAIN_EVERY_S, self._forget_devices),
            "sweep codes": (RETAIN_EVERY_S, self._sweep_codes),
            "sweep mentions": (RETAIN_EVERY_S, self._sweep_mentions),
            "trim changes": (RETAIN_EVERY_S, self._trim_changes),
        }

    def on_start(self) -> None:
        self.schedule(SLEEP_EVERY_S, _Due("sleep"))
        for chore, (every_s, _) in self._chores.items():
            self.schedule(every_s, _Due(chore))

    def on_receive(self, message: Any) -> None:
        if type(message) is _Done:
            self._done(message)
        elif message.chore == "sleep":
            self._sleep()
            self.schedule(SLEEP_EVERY_S, message)
        else:
            self._begin(message.chore)

    def _begin(self, chore: str) -> None:
        self.pipe(self._chores[chore][1](), lambda result: _Done(chore, result))

    def _done(self, message: _Done) -> None:
        result = message.result
        if isinstance(result, BaseException) and not isinstance(result, errors.StorageError):
            raise result
        if result is True:
            self._begin(message.chore)
            return
        if isinstance(result, errors.StorageError):
            logger.warning("%s: %s", message.chore, result)
        self.schedule(self._chores[message.chore][0], _Due(message.chore))

    def _sleep(self) -> None:
        slept = self._services.directory.sweep(_is_tired)
        self._services.telemetry.actor_sleeps["stream"] += slept

    async def _expire(self) -> bool:
        due = self._services.clock() - EXPIRE_SLACK_MS
        erased = await self._services.store.erase_expired(due, events.redact, EXPIRE_AT_ONCE)
        return erased == EXPIRE_AT_ONCE

    async def _probe(self) -> bool:
        """A store that failed is tried until it takes writes again; without that, nobody would until somebody writes."""
        if not self._services.store.healthy:
            await self._services.store.probe()
        return False

    async def _forget_devices(self) -> bool:
        await self._note_connected()
        silent_since = self._services.clock() - self._retention.dead_device_days * DAY_MS
        gone = await self._services.store.forget_devices(silent_since, FORGET_AT_ONCE)
        for device in gone:
            self._revoked(device.user, device.id)
        return len(gone) == FORGET_AT_ONCE

    async def _sweep_mentions(self) -> bool:
        return await self._services.store.sweep_mentions(MENTIONS_AT_ONCE) == MENTIONS_AT_ONCE

    async def _finish_deletions(self) -> bool:
        for user in await self._services.store.unfinished_deletions(FINISH_AT_ONCE):
            self._services.directory.tell_committed(ids.account_stream(user), EndAccount())
        return False

    async def _note_connected(self) -> None:
        """Whoever is connected is seen now: a connection may last longer than silence may, and end without a word."""
        now = self._services.clock()
        sessions = [(user, ref._actor_weakref()) for user, ref in self._services.directory.sessions.items()]
        seen = [records.LastSeen(user, device.id, now) for user, actor in sessions if actor for device in actor.devices]
        for start in range(0, len(seen), FORGET_AT_ONCE):
            await self._services.store.commit(seen[start : start + FORGET_AT_ONCE])

    async def _sweep_codes(self) -> bool:
        """A day later nobody repeats what a code was used for."""
        await self._services.store.sweep_codes(self._services.clock() - DAY_MS)
        return False

    async def _trim_changes(self) -> bool:
        before = self._services.clock() - self._retention.change_feed_days * DAY_MS
        await self._services.store.trim_changes(before)
        return False


def _is_tired(actor: Actor) -> bool:
    """Whether an owner was left alone since the last look, and has nothing under way."""
    if not isinstance(actor, Owner):
        return False
    if actor.touched:
        actor.touched = False
        return False
    return not actor.loading and actor.may_sleep()
