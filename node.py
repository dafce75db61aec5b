"""One node: configuration -> stores -> tree -> listeners -> drain. The only file that chooses a back end."""

from __future__ import annotations

import asyncio
import resource
import secrets
import time
from collections.abc import Callable
from typing import Any

import config
import telemetry
from actors import directory, services, sweeper, tree
from actors.messages import CutOff
from actors.people import People
from actors.runtime.ref import ActorRef
from actors.runtime.runtime import Hooks, Runtime
from actors.runtime.supervisor import WhichChildren
from actors.runtime.watchdog import Watchdog
from actors.state import reader, rules
from auth import accounts, admission, attempts, jwt, passwords, tokens
from gateway.listener import Gateway
from protocol import codec, codes, connection, messages
from storage.sqlite import store as sqlite

#: Commands of one device that may be unanswered in one stream (contract.md, Delivery 2).
UNANSWERED = 64

#: When clients are told to come back after a stop: about as long as a restart takes.
RECONNECT_AFTER_MS = 2000

logger = telemetry.logger("node")


def _now() -> int:
    return time.time_ns() // 1_000_000


class Node:
    """A running node. `start` raises what keeps it from starting; `stop` drains it and leaves everything on disk.

    `clock` gives ms since the epoch."""

    def __init__(self, settings: config.Config, clock: Callable[[], int] = _now) -> None:
        self.settings = settings
        self.telemetry = telemetry.Telemetry()
        self._clock = clock
        self._ready = False
        self.ended = asyncio.Event()

    async def start(self) -> None:
        """Open the stores, start the tree, then listen."""
        settings = self.settings
        self.store = await sqlite.open_store(settings.node.folder, readers=settings.storage.reader_threads)
        self.runtime = Runtime(asyncio.get_running_loop(), hooks=Hooks(failed=self._failed, hung=self._hung)).start()
        self.watchdog = Watchdog(self.runtime, stalled=lambda _: self._stalled())
        self.watchdog.start()
        self.tree = tree.Tree(self.runtime.clock, self.telemetry)
        self.directory = self.tree.directory
        self.tokens = tokens.Tokens(bytes.fromhex(settings.auth.secret))
        self.passwords = _passwords(settings, self.telemetry)
        self.admitter = self._admitter()
        self.services = self.tree.services = self._services()
        retention = sweeper.Retention(settings.retention.dead_device_days, settings.retention.change_feed_days)
        self._top: ActorRef[Any] = self.tree.start(retention, self._cut_off)
        await self._top.ask(WhichChildren())
        self._measure()
        self.gateway = self._gateway()
        await self.gateway.start()
        self._ready = True

    async def stop(self) -> None:
        """Take nothing new, tell everybody to come back, flush, close. Returns when everything is on disk."""
        self._ready = False
        settings = self.settings.node
        await self.gateway.stop(RECONNECT_AFTER_MS, settings.stop_timeout_s)
        await self._top.stop()
        await self.runtime.stop()
        self.watchdog.stop()
        self.passwords.close()
        await self.store.close()
        self.ended.set()

    # --- parts --------------------------------------------------------------------------------------------------------

    def _admitter(self) -> admission.Admitter:
        auth = self.settings.auth
        issuers = [
            jwt.Issuer(each.issuer, each.audience, each.algorithm, each.key)
            for each in auth.jwt
        ]
        return admission.Admitter(
            self.store,
            self.passwords,
            self.tokens,
            jwt.Issuers(issuers),
            attempts.Attempts(auth.attempts, auth.attempts_per_address, auth.attempts_window_s * 1000),
            accounts.Settings(
                auth.registration,  # type: ignore[arg-type]  # one_of
                auth.token_rotation_days * accounts.DAY,
                auth.reset_code_minutes * 60_000,
            ),
            self._clock,
            secrets.token_bytes,
            lambda user, device: self._cut_off(user, device, codes.REVOKED),
            self.telemetry,
        )

    def _services(self) -> services.Services:
        limits = self.settings.limits
        return services.Services(
            store=self.store,
            directory=self.directory,
            people=People(self.store),
            admitter=self.admitter,
            telemetry=self.telemetry,
            rules=rules.Rules(edit_window=limits.edit_window_s * 1000, group_members=limits.group_members),
            limits=messages.Limits(
                limits.frame_bytes,
                codec.MAX_BODY,
                reader.WINDOW_EVENTS,
                reader.WINDOW_BYTES,
                int(limits.connection_commands_s),
                int(limits.connection_commands_s),
                UNANSWERED,
                limits.group_members,
                limits.subscriptions,
                limits.edit_window_s,
            ),
            clock=self._clock,
            whereis=self._whereis,
            invite_code=self.tokens.invite_code,
            check_invite=self.tokens.check_invite,
            heartbeat_s=int(connection.HEARTBEAT_S),
            commands_per_s=limits.account_commands_s,
            page_items=limits.history_page_messages,
            page_bytes=limits.history_page_bytes,
        )

    def _whereis(self, name: str) -> ActorRef[Any]:
        found = self.runtime.registry.whereis(name)
        if found is None:
            raise LookupError(f"{name} is being restarted")
        return found

    def _gateway(self) -> Gateway:
        settings = self.settings
        file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return Gateway(
            settings.listener,
            settings.limits,
            max_connections=config.connection_limit(settings.limits, file_limit),
            directory=self.directory,
            admit=lambda hello, _, address: self.admitter.admit(hello, address),
            digest=tokens.Digest(bytes.fromhex(settings.auth.secret)).digest,
            counters=self.telemetry,
            internal=settings.internal,
            is_healthy=self._sick,
            is_ready=lambda: [*self._sick(), *([] if self._ready else ["not ready"])],
        )

    # --- watching -----------------------------------------------------------------------------------------------------

    def _sick(self) -> list[str]:
        return [] if self.store.healthy else ["the store does not take writes"]

    def _measure(self) -> None:
        counts = self.telemetry
        counts.actors = self.directory.counts
        counts.storage_healthy = lambda: float(self.store.healthy)

    def _failed(self, ref: ActorRef[Any], error: BaseException) -> None:
        self.telemetry.restarts[ref.actor_class.__name__.lower()] += 1
        logger.error("actor_failed", actor=ref.actor_class.__name__, exc_info=error)

    def _hung(self, ref: ActorRef[Any], handler: str, seconds: float) -> None:
        self.telemetry.slow_handlers[ref.actor_class.__name__.lower()] += 1
        logger.error("actor_hung", actor=ref.actor_class.__name__, handler=handler, seconds=seconds)

    def _stalled(self) -> None:
        self.telemetry.loop_stalls += 1

    def _cut_off(self, user: int, device: int, reason: codes.Close) -> None:
        self.directory.tell_committed(directory.session_key(user), CutOff(device, reason))


def _passwords(settings: config.Config, counts: telemetry.Telemetry) -> passwords.Passwords:
    auth = settings.auth
    cost = passwords.Cost(auth.argon2_memory_kib, auth.argon2_passes)
    return passwords.Passwords(cost, auth.argon2_threads, auth.argon2_queue, counts)
