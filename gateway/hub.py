"""What all connections of one node share, so that each of them holds one reference."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import config
import telemetry
from auth.identity import Admission
from gateway import flusher, limits, proxy, reader, tls, toll, turns, wheel
from protocol import connection, messages

if TYPE_CHECKING:
    from gateway.guests import Guest
    from gateway.http import Site
    from gateway.websocket import Socket

#: Seconds between two looks at the wheel: its resolution.
BEAT_S = 1.0

#: Check a credential: (hello, version, the client's address). Raises codes.Refused.
Admit = Callable[[messages.Hello, int, str], Awaitable[Admission]]
#: The keyed digest of a command's raw bytes, by which its repeats are known.
Digest = Callable[[bytes], int]

log = telemetry.logger("gateway")


class Directory(Protocol):
    """Where commands go; see actors.directory."""

    def tell(self, key: tuple[str, int], message: object) -> bool:
        """Hand `message` to the session of a user, ("session", user). False: there is none.

        MailboxFull, for a Command alone; Quarantined, for an Attach alone; ActorDeadError.
        """
        ...


class Pending(Protocol):
    """A connection that is not open yet."""

    def give_up(self) -> None:
        """Drop it: there are too many."""
        ...


class Hub:
    """Made when the node starts to listen; everything in it belongs to the loop's thread."""

    def __init__(
        self,
        listener: config.Listener,
        limit: config.Limits,
        max_connections: int,
        *,
        directory: Directory,
        admit: Admit,
        digest: Digest,
        counters: telemetry.Telemetry,
        clock: Callable[[], float],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.listener = listener
        self.limits = limit
        self.max_connections = max_connections
        self.max_pending = min(limits.MAX_PENDING, max_connections + limits.FULL_MARGIN)
        self.directory = directory
        self.admit = admit
        self.digest = digest
        self.counters = counters
        self.clock = clock
        self.site: Site | None = None
        self.certificate = (
            tls.Certificate(listener.tls_certificate, listener.tls_key)
            if listener.tls_certificate is not None and listener.tls_key is not None
            else None
        )
        self.proxies = proxy.networks(listener.behind_proxy)
        self.proxy_protocol = listener.client_address == "proxy-protocol"
        self.terms = connection.Terms(limit.frame_bytes, limit.hello_timeout_s, limit.heartbeat_s)
        self.wheel = wheel.Wheel(clock())
        self.flusher = flusher.Flusher(self.loop, limit.outbox_bytes, counters, clock)
        reader.quiet.setLevel(logging.WARNING)
        self.readers = reader.Readers(limit.frame_bytes)
        self.turns = turns.Turns(self.loop, clock)
        self.debts = limits.Debts()
        self.tariff = toll.Tariff(
            _rate(limit.connection_commands_s, limits.COMMAND_BURST), _rate(limit.address_commands_s, limits.COMMAND_BURST)
        )
        self.addresses = limits.Addresses(
            limit.connections_per_address, _rate(limit.connects_per_address_s, limits.CONNECT_BURST)
        )
        #: All connections of the public port, of whatever kind.
        self.connections = 0
        #: Those that are not open yet, the oldest first.
        self.pending: dict[Pending, None] = {}
        #: WebSockets, from the upgrade to the end of TCP.
        self.sockets: set[Socket] = set()
        #: HTTP connections, for as long as they are that.
        self.guests: set[Guest] = set()
        self.is_stopping = False
        #: Called when a connection is over.
        self.on_left: Callable[[], None] | None = None
        counters.connections = lambda: float(len(self.sockets))
        counters.outbox_bytes = lambda: float(sum(socket.outbox.held for socket in self.sockets))

    def enter(self, pending: Pending) -> bool:
        """A connection was accepted, and is pending. False: there are far too many, so it has to go. It must `leave`."""
        self.connections += 1
        if self.is_stopping or self.connections > self.max_connections + limits.FULL_MARGIN:
            self.refused("full")
            return False
        self.wait(pending)
        return True

    def wait(self, pending: Pending) -> None:
        """It is not open yet. The oldest that is not has to make room, if there are too many."""
        self.pending[pending] = None
        if len(self.pending) > self.max_pending:
            oldest = next(iter(self.pending))
            del self.pending[oldest]
            self.refused("half_open")
            oldest.give_up()

    def leave(self, address: limits.Address | None) -> None:
        """A connection is over."""
        self.connections -= 1
        if address is not None:
            self.addresses.leave(address, self.clock())
        if self.on_left is not None:
            self.on_left()

    @property
    def is_full(self) -> bool:
        """Whether the newest connection is one too many."""
        return self.connections > self.max_connections

    def refused(self, reason: str) -> None:
        """Count a connection that did not come to be open."""
        self.counters.connections_refused[reason] += 1

    def jitter(self, least: float, most: float) -> float:
        """Spread what would otherwise happen to all at the same moment."""
        return random.uniform(least, most)  # noqa: S311  spreading load needs no cryptographic randomness


def _rate(per_s: float, burst: int) -> limits.Rate:
    return limits.Rate(per_s, max(1.0, per_s * burst))
