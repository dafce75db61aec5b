"""One node: configuration -> stores -> tree -> listeners -> drain. The back end is chosen by who makes it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import config
import control
import operations
import telemetry
from actors import account, directory, measured, services, sweeper, tree
from actors.messages import CutOff
from actors.people import People
from actors.runtime import pipes
from actors.runtime.ref import ActorRef, watch_with
from actors.runtime.runtime import Hooks, Runtime
from actors.runtime.supervisor import WhichChildren
from actors.runtime.watchdog import Watchdog
from actors.session import MAX_QUERIES
from actors.state import log as log_state
from actors.state import reader, rules
from auth import accounts, admission, attempts, jwt, passwords, tokens
from gateway.limits import COMMAND_BURST
from gateway.listener import Gateway
from protocol import codec, codes, events, ids, messages
from storage import interfaces

#: Commands of one device that may be unanswered in one stream beyond the oldest (docs/protocol.md, Commands).
UNANSWERED = 63

#: When clients are told to come back after a stop: about as long as a restart takes.
RECONNECT_AFTER_MS = 2000

#: Seconds between two looks at whether the actors are done, while the node stops. Nothing on the way of a message has to
#: announce that it became idle for the sake of that one moment.
LOOK_EVERY_S = 0.02

#: Files a process may open where the system sets no limit: the kernel's own (fs.nr_open of Linux).
MAX_FILES = 1_048_576

#: Seconds that one thread keeps the interpreter when another asks for it. The writer's thread gives it up at every statement
#: and wants it back a moment later; at Python's 5 ms each commit would wait that long behind a busy loop. Measured: 20 % more
#: messages a second, and a quarter off the 99th percentile.
SWITCH_INTERVAL_S = 0.0005

#: Days beyond dead_device_days that streams remember a silent device's counters: clocks, and a sweep that came late.
FORGETTING_DAYS = 10

#: Opens the stores of a node with this configuration.
OpenStore = Callable[[config.Config], Awaitable[interfaces.CopyingStore]]

logger = telemetry.logger("node")


def _now() -> int:
    return time.time_ns() // 1_000_000


class Node:
    """A running node. `start` raises what keeps it from starting (StorageError, OSError, settings.ConfigError, ValueError) and
    leaves nothing open; `stop` drains it and leaves everything on disk.

    `ended` is set when the node can do no more: it has stopped, or its topmost supervisor gave up; then `failure` says why,
    and it is still to be stopped. `clock` gives ms since the epoch."""

    def __init__(self, settings: config.Config, open_store: OpenStore, clock: Callable[[], int] = _now) -> None:
        self.settings = settings
        self._open_store = open_store
        self.telemetry = telemetry.Telemetry()
        self.clock = clock
        self.ended = asyncio.Event()
        self.failure: BaseException | None = None
        self._ready = False
        self._hurried = False
        self._resources = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Open the stores, start the tree, then listen."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            await self._start()
        except BaseException:
            await self._resources.aclose()
            raise
        self._ready = True
        logger.info("started", url=self.url, internal=self.internal_url, epoch=self.store.node_epoch)

    async def _start(self) -> None:
        settings, resources = self.settings, self._resources
        opened = await self._open_store(settings)
        resources.push_async_callback(opened.close)
        self.saver = opened
        self.store = measured.measured(opened, self.telemetry)
        self.runtime = Runtime(asyncio.get_running_loop(), hooks=Hooks(failed=self._failed, hung=self._hung)).start()
        resources.push_async_callback(self.runtime.stop)
        self.watchdog = Watchdog(self.runtime, stalled=lambda _: self._stalled())
        self.watchdog.start()
        resources.callback(self.watchdog.stop)
        self.tree = tree.Tree(self.runtime.clock, self.telemetry)
        self.directory = self.tree.directory
        self.tokens = tokens.Tokens(bytes.fromhex(settings.auth.secret))
        self.passwords = _passwords(settings, self.telemetry)
        resources.callback(self.passwords.close)
        self.admitter = self._admitter()
        self.services = self.tree.services = self._services()
        retention = sweeper.Retention(settings.retention.dead_device_days, settings.retention.change_feed_days)
        self._top: ActorRef[Any] = self.tree.start(retention, self.revoked)
        resources.push_async_callback(self._stop_tree)
        self._top.watch(watch_with(self._gave_up))
        await self._top.ask(WhichChildren())
        self._measure()
        commands = control.Server(settings.command_socket, operations.Operations(self).handle)
        await commands.start()
        resources.push_async_callback(commands.stop)
        self.gateway = self._gateway()
        try:
            await self.gateway.start()
        except OSError as error:
            ports = f"listener.port {settings.listener.port}, internal.port {settings.internal.port}"
            raise OSError(f"cannot listen ({ports}): {error}") from error

    async def stop(self) -> None:
        """Take nothing new; answer what was taken; tell everybody to come back, flush, close. Returns when everything is on
        disk. What was taken is committed and answered before its connection is closed, as far as `stop_timeout_s` allows; what
        was not is *unknown* to its sender, who sends it again."""
        self._ready = False
        self._top.unwatch()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.node.stop_timeout_s
        logger.info("stopping", connections=len(self.gateway.hub.sockets))
        self.gateway.pause()
        await self._done(deadline)
        await self.gateway.stop(RECONNECT_AFTER_MS, max(0.0, deadline - loop.time()))
        await self._done(deadline)  # the cursors of those who have just left
        await self._resources.aclose()
        logger.info("stopped")
        self.ended.set()

    def hurry(self) -> None:
        """Cut the connections and wait for nobody; what was acknowledged is on disk as ever."""
        self._hurried = True
        self.gateway.cut()

    async def _done(self, deadline: float) -> None:
        """Until no actor has anything to do, or the time (of the loop) is over."""
        loop = asyncio.get_running_loop()
        while loop.time() < deadline and not self._hurried and not self.failure and self._is_busy():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)

    def _is_busy(self) -> bool:
        everyone = self.runtime.registry.get_all()
        return any(ref.backlog() or pipes.running(ref) for ref in everyone if ref.actor_class is not sweeper.Sweeper)

    async def _stop_tree(self) -> None:
        self._top.unwatch()
        await self._top.stop()

    def _gave_up(self, _ref: ActorRef[Any], error: BaseException | None) -> None:
        """The topmost supervisor has ended, though nobody stopped it."""
        self.failure = error or RuntimeError("the topmost supervisor was stopped")
        self._ready = False
        logger.critical("gave_up", reason=str(self.failure))
        self.ended.set()

    # --- parts --------------------------------------------------------------------------------------------------------

    def _admitter(self) -> admission.Admitter:
        auth = self.settings.auth
        return admission.Admitter(
            self.store,
            self.passwords,
            self.tokens,
            issuers(self.settings),
            attempts.Attempts(auth.attempts, auth.attempts_per_address, auth.attempts_window_s * 1000),
            accounts.Settings(
                auth.registration,  # type: ignore[arg-type]  # one_of
                auth.token_rotation_days * accounts.DAY,
                auth.reset_code_minutes * 60_000,
            ),
            self.clock,
            secrets.token_bytes,
            self.revoked,
            self.telemetry,
            lambda user, device, name: account.announce(self.directory, user, device, name),
        )

    def _services(self) -> services.Services:
        limits = self.settings.limits
        return services.Services(
            store=self.store,
            directory=self.directory,
            people=People(self.store),
            admitter=self.admitter,
            telemetry=self.telemetry,
            rules=rules.Rules(
                edit_window=limits.edit_window_s * 1000,
                group_members=limits.group_members,
                message_age=self.settings.retention.message_days * accounts.DAY,
                windows_kept=(self.settings.retention.dead_device_days + FORGETTING_DAYS) * accounts.DAY,
            ),
            limits=messages.Limits(
                limits.frame_bytes,
                codec.MAX_BODY,
                reader.WINDOW_EVENTS,
                reader.WINDOW_BYTES,
                max(1, int(limits.connection_commands_s)),
                max(1, int(limits.connection_commands_s * COMMAND_BURST)),
                UNANSWERED,
                limits.group_members,
                limits.subscriptions,
                limits.edit_window_s,
                MAX_QUERIES,
            ),
            clock=self.clock,
            whereis=self._whereis,
            invite_code=self.tokens.invite_code,
            check_invite=self.tokens.check_invite,
            heartbeat_s=math.ceil(limits.heartbeat_s),
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
        return Gateway(
            settings.listener,
            settings.limits,
            max_connections=config.connection_limit(settings.limits, file_limit()),
            directory=self.directory,
            admit=lambda hello, _, address: self.admitter.admit(hello, address),
            digest=tokens.Digest(bytes.fromhex(settings.auth.secret)).digest,
            counters=self.telemetry,
            internal=settings.internal,
            is_healthy=self._sick,
            is_ready=lambda: list(self._unready()),
        )

    # --- where, and how it is -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where clients connect to."""
        secure = "s" if self.settings.listener.tls_certificate is not None else ""
        return f"ws{secure}://{_joined(*self.gateway.addresses[0])}/ws"

    @property
    def internal_url(self) -> str:
        """Where the operator's port is."""
        return f"http://{_joined(*self.gateway.internal_addresses[0])}"

    def problems(self) -> Iterator[str]:
        """What is wrong with the node; nothing when all is well."""
        yield from self._sick()
        if not self._ready:
            yield "the node is starting or stopping"

    def _sick(self) -> list[str]:
        damaged = self.store.damaged
        return [*self._stuck(), *([f"the store is damaged: {damaged}"] if damaged else [])]

    def _stuck(self) -> Iterator[str]:
        """Why nobody is served. (Where single rows have rotted, everybody else is.)"""
        if not self.store.healthy:
            yield "the store does not take writes"
        if self.failure is not None:
            yield "the node has given up"

    def _unready(self) -> Iterator[str]:
        """Why the node should not get new connections."""
        yield from self._stuck()
        if not self._ready:
            yield "the node is starting or stopping"

    # --- watching -----------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        counts = self.telemetry
        counts.actors = self.directory.counts
        counts.storage_healthy = lambda: float(self.store.healthy)
        counts.writer_queue = self._writer_queue
        counts.devices_behind = self._devices_behind

    def _writer_queue(self) -> float:
        ref = self.runtime.registry.whereis("writer")
        writer = ref._actor_weakref() if ref is not None else None
        return float(writer.waiting()) if writer is not None else 0.0

    def _devices_behind(self) -> float:
        """A walk over all devices, once a scrape: a few ms for 10,000 of them."""
        sessions = (ref._actor_weakref() for ref in self.directory.sessions.values())
        devices = (device for session in sessions if session is not None for device in session.devices)
        return float(sum(any(not place.live for place in (device.readers or {}).values()) for device in devices))

    def _failed(self, ref: ActorRef[Any], error: BaseException) -> None:
        self.telemetry.restarts[ref.actor_class.__name__.lower()] += 1
        logger.error("actor_failed", actor=ref.actor_class.__name__, exc_info=error)

    def _hung(self, ref: ActorRef[Any], handler: str, seconds: float) -> None:
        self.telemetry.slow_handlers[ref.actor_class.__name__.lower()] += 1
        logger.error("actor_hung", actor=ref.actor_class.__name__, handler=handler, seconds=seconds)

    def _stalled(self) -> None:
        self.telemetry.loop_stalls += 1

    def cut_off(self, user: int, device: int, reason: codes.Close) -> None:
        """Close a device's connection, if it has one, for good."""
        self.directory.tell_committed(directory.session_key(user), CutOff(device, reason))

    def revoked(self, user: int, device: int) -> None:
        """The store has let go of a device, though not for the user's account actor: close its connection, and tell the user's
        other devices, which nobody waits for."""
        self.cut_off(user, device, codes.REVOKED)
        event = events.DeviceRevoked(*events.UNFILLED, device)
        self.directory.tell_committed(ids.account_stream(user), log_state.Command(user, 0, event, 0))


def issuers(settings: config.Config) -> jwt.Issuers:
    """The issuers of tokens that were set. ValueError: the key of one cannot be used."""
    return jwt.Issuers(
        [jwt.Issuer(each.issuer, each.audience, each.algorithm, each.key, each.name_claim) for each in settings.auth.jwt]
    )


def file_limit() -> int:
    """How many files this process may open now."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_FILES if soft == resource.RLIM_INFINITY else min(soft, MAX_FILES)


def raise_file_limit() -> int:
    """Raise the limit of open files to the highest that the process may set for itself; what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if wanted > file_limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return file_limit()


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _passwords(settings: config.Config, counts: telemetry.Telemetry) -> passwords.Passwords:
    auth = settings.auth
    cost = passwords.Cost(auth.argon2_memory_kib, auth.argon2_passes)
    return passwords.Passwords(cost, auth.argon2_threads, auth.argon2_queue, counts)
