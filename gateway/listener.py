"""The public port and the operator's port of one node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import config
import telemetry
from gateway import http, kernel, websocket
from gateway import hub as hubs
from gateway.door import Door
from gateway.wheel import Timed

#: Connections a second that come back after a stop; hints are spread so that no more do (`bench storm` has to reach 1,000/s).
_RETURNS_PER_S = 1000
#: Connections closed in one go while stopping; then the loop gets a turn.
_CLOSES_PER_TURN = 256


def _nothing_wrong() -> Sequence[str]:
    return ()


class Gateway:
    """Listens from `start` to `stop`, once.

    `max_connections`: WebSockets and HTTP together (config.connection_limit). `admit`, `digest`, `directory`: see gateway.hub.
    `clock`: monotonic seconds. `is_healthy`, `is_ready`: what is wrong, if anything. `internal` None: no operator's port.
    """

    def __init__(
        self,
        listener: config.Listener,
        limit: config.Limits,
        *,
        max_connections: int,
        directory: hubs.Directory,
        admit: hubs.Admit,
        digest: hubs.Digest,
        counters: telemetry.Telemetry,
        internal: config.Internal | None = None,
        is_healthy: http.Check = _nothing_wrong,
        is_ready: http.Check = _nothing_wrong,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._limits = limit
        self._max_connections = max_connections
        self._directory = directory
        self._admit = admit
        self._digest = digest
        self._counters = counters
        self._clock = clock
        self._internal = (
            http.Internal(internal.host, internal.port, counters, is_healthy, is_ready) if internal is not None else None
        )
        self._hub: hubs.Hub | None = None
        self._server: asyncio.Server | None = None
        self._beat_timer: asyncio.TimerHandle | None = None

    @property
    def hub(self) -> hubs.Hub:
        """What the connections share; from `start` on."""
        assert self._hub is not None
        return self._hub

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the public port listens."""
        assert self._server is not None
        return [socket.getsockname()[:2] for socket in self._server.sockets]

    @property
    def internal_addresses(self) -> list[tuple[str, int]]:
        """Where the operator's port listens."""
        return self._internal.addresses if self._internal is not None else []

    async def start(self) -> None:
        """Open both ports, the operator's first. OSError: the address, the certificate or the key cannot be used."""
        hub = self._hub = hubs.Hub(
            self._listener,
            self._limits,
            self._max_connections,
            directory=self._directory,
            admit=self._admit,
            digest=self._digest,
            counters=self._counters,
            clock=self._clock,
        )
        hub.site = http.Site(hub)
        await hub.site.start()
        try:
            if self._internal is not None:
                await self._internal.start()
            self._server = await hub.loop.create_server(
                lambda: Door(hub), self._listener.host, self._listener.port, backlog=self._listener.backlog, start_serving=False
            )
            kernel.bound(self._server)
            await self._server.start_serving()
        except BaseException:
            await self._close_pages()
            raise
        self._beat_timer = hub.loop.call_later(hubs.BEAT_S, self._beat)

    def reload(self) -> bool:
        """Read certificate and key again, for new connections. False: they are unusable, which is logged; the old ones stay."""
        certificate = self.hub.certificate
        if certificate is None:
            return True
        try:
            certificate.reload()
        except OSError as error:
            hubs.log.error("certificate_unusable", reason=str(error))
            return False
        hubs.log.info("certificate_reloaded")
        return True

    def beat(self) -> None:
        """Call whoever is due by the clock. It happens by itself every second."""
        self.hub.wheel.advance(self.hub.clock(), _report)

    def _beat(self) -> None:
        self._beat_timer = self.hub.loop.call_later(hubs.BEAT_S, self._beat)
        self.beat()

    def pause(self) -> None:
        """Take nothing more: no connection, and no command of those that stand. What was taken is still answered, so who
        stops waits for that in between. The operator's port goes on."""
        hub = self.hub
        hub.is_stopping = True
        assert self._server is not None
        self._server.close()
        for pending in list(hub.pending):
            if not isinstance(pending, websocket.Socket):
                pending.give_up()
        for socket in hub.sockets:
            socket.pause()
        for guest in hub.guests:
            guest.pause()

    def cut(self) -> None:
        """End every WebSocket at once, with what is queued for it."""
        for socket in list(self.hub.sockets):
            socket.abort()

    async def stop(self, retry_after_ms: int, timeout_s: float) -> None:
        """Take no more, tell everybody to come back (1012, GoingAway), and wait until what is queued has left.

        Hints lie between `retry_after_ms` and twice that, or as much more as it takes for no more than _RETURNS_PER_S to
        return. After `timeout_s` the rest is cut.
        """
        hub = self.hub
        self.pause()
        everybody = list(hub.sockets)
        spread_ms = max(retry_after_ms, len(everybody) * 1000 // _RETURNS_PER_S)
        for index, socket in enumerate(everybody):
            socket.stop(int(retry_after_ms + hub.jitter(0, spread_ms)))
            if index % _CLOSES_PER_TURN == _CLOSES_PER_TURN - 1:
                await asyncio.sleep(0)
        await self._drained(timeout_s)
        self.cut()
        for guest in list(hub.guests):
            guest.abort()
        await self._close_pages()
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        hub.turns.stop()

    async def _close_pages(self) -> None:
        assert self.hub.site is not None
        await self.hub.site.stop()
        if self._internal is not None:
            await self._internal.stop()

    async def _drained(self, timeout_s: float) -> None:
        """Until no WebSocket is left, or the time is over."""
        hub = self.hub
        empty = asyncio.Event()

        def look() -> None:
            if not hub.sockets:
                empty.set()

        hub.on_left = look
        look()
        try:
            await asyncio.wait_for(empty.wait(), timeout_s)
        except TimeoutError:
            hubs.log.warning("connections_cut", connections=len(hub.sockets))
        finally:
            hub.on_left = None


def _report(entry: Timed, error: Exception) -> None:
    hubs.log.error("due_failed", kind=type(entry).__name__, exc_info=error)
