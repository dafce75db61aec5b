"""What comes from one client, up to the point where it is a frame: when it is read, and how much of it is handled in one turn.

    bytes -> reader -> whole messages -> connection -> effects, for whoever is built on this

More frames than one turn takes wait in a backlog (`gateway.turns`), and nothing is read meanwhile. There are other reasons to
read nothing; they are kept together here, so that one of them does not end another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import cast

from gateway import hub as hubs
from gateway import limits, reader, toll, turns
from protocol import codes, connection
from protocol.connection import Admit, Command

#: The wait after a refusal is up to so many times what it would have to be. Those who were refused together are not to come
#: back together: each does little, and all of it in one moment much.
REFUSAL_SPREAD = 1.5
#: How long a flooder is asked to stay away, in milliseconds. Its device is refused as long if it comes back before.
FLOOD_HINT_MS = 30_000

#: Why nothing is read at the moment.
ADMITTING = 1
FULL = 2
STOPPING = 4
REFUSED = 8
BACKLOG = 16
FLOOD = 32
#: Those for which nothing is handled either.
WAITING = FULL | STOPPING | REFUSED

#: No frames.
_NONE: Iterator[list[connection.Effect]] = iter(())

Special = reader.Pong | reader.Ended | reader.Mark


class Intake(toll.Payer, asyncio.Protocol):
    """The reading half of a connection."""

    __slots__ = ("_backlog", "_closing", "_connection", "_deaf", "_device", "_holds", "_hub", "_reader", "_transport")

    def __init__(self, hub: hubs.Hub, transport: asyncio.Transport, address: limits.Address | None, began: float) -> None:
        toll.Payer.__init__(self, address, began)
        self._hub = hub
        #: None: TCP is over.
        self._transport: asyncio.Transport | None = transport
        self._connection = connection.Connection(began, hub.terms)
        #: Only while a message is incomplete; else the hub's is borrowed.
        self._reader: reader.Reader | None = None
        #: What was read and has to wait its turn, or until something else is over.
        self._backlog: turns.Backlog | None = None
        self._holds = 0
        #: Our close frame is out, or TCP is over.
        self._closing = False
        #: What comes is thrown away.
        self._deaf = False
        #: 0: nobody was let in, or the session knows that it is over.
        self._device = 0

    # --- for whoever is built on this ---------------------------------------------------------------------------------

    def command(self, command: Command, now: float) -> None:
        """A command came; it is not paid for yet."""
        raise NotImplementedError

    def pass_on(self, command: Command) -> None:
        """A command that is paid for."""
        raise NotImplementedError

    def carry_out(self, effect: connection.Effect) -> None:
        """What else the connection orders."""
        raise NotImplementedError

    def special(self, item: Special, now: float) -> None:
        """What is no binary message came."""
        raise NotImplementedError

    def shut_out(self, close: codes.Close, retry_after_ms: int = 0) -> None:
        """Send what is waiting, then close with this code."""
        raise NotImplementedError

    # --- reading ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of frames, cut anywhere."""
        self._hub.counters.bytes_in += len(data)
        if self._deaf:
            return
        try:
            self._received(data)
        except Exception:
            hubs.log.exception("receive_failed")
            self.abort()

    def _received(self, data: bytes) -> None:
        if self._backlog is not None:
            self._backlog.add(data)
        elif len(data) <= turns.SLICE:
            rest, _ = self._handle(self._feed(data), turns.FRAMES_A_TURN, self._hub.clock())
            if rest:
                self._keep(turns.Backlog(b"", rest))
        else:
            self._keep(turns.Backlog(data, []))

    def turn(self) -> None:
        """Work at the backlog, for one turn."""
        backlog = self._backlog
        if backlog is None:
            return
        backlog.is_queued = False
        now = self._hub.clock()
        left, size = turns.FRAMES_A_TURN, 0
        while backlog and not self._holds & WAITING and left > 0 and size < turns.BYTES_A_TURN:
            entries = backlog.entries
            if not entries:
                data = backlog.slice()
                size += len(data)
                entries = cast("list[object]", self._feed(data))
            backlog.entries, left = self._handle(entries, left, now)
            if self._deaf:
                break
        if self._backlog is None:
            return  # TCP ended meanwhile
        if not backlog or self._deaf:
            self._backlog = None
            self._hold(BACKLOG, on=False)
            return
        self._hold(BACKLOG, on=True)
        self._queue()

    def abort(self) -> None:
        """Cut TCP, with what is unsent, and hear nothing more."""
        self._ignore()
        if self._transport is not None:
            self._transport.abort()

    def _ignore(self) -> None:
        """Throw away what comes, and what came and was not looked at."""
        self._deaf = True
        self._backlog = self._reader = None

    def _keep(self, backlog: turns.Backlog) -> None:
        """Handle it in turns: the first one now, if nobody else is waiting."""
        self._backlog = backlog
        if not backlog.entries and self._hub.turns.is_idle:
            self.turn()
        else:
            self._hold(BACKLOG, on=True)
            self._queue()

    def _queue(self) -> None:
        backlog = self._backlog
        if backlog is not None and not backlog.is_queued and not self._holds & WAITING:
            backlog.is_queued = True
            self._hub.turns.add(self)

    def _feed(self, data: bytes) -> list[reader.Incoming]:
        hub = self._hub
        source = self._reader or hub.readers.borrow()
        self._reader = source
        incoming = source.feed(data)
        if source.clean:
            self._reader = None
            hub.readers.give_back(source)
        return incoming

    def _first(self, held: list[connection.Effect]) -> None:
        """Handle these before everything that waits."""
        if self._backlog is not None:
            self._backlog.entries[:0] = held
        elif held:
            self._keep(turns.Backlog(b"", [*held]))

    def _handle(self, entries: Iterable[object], left: int, now: float) -> tuple[list[object], int]:
        """`left` frames, or as many as there are, or until nothing may be handled. (What remains, how many are left.)

        An entry is reader.Incoming, the frames of a message that were not read yet, or a command that was held."""
        remaining = iter(entries)
        for entry in remaining:
            if type(entry) is bytes:
                frames = iter(self._connection.receive(entry, now))
            elif isinstance(entry, Iterator):
                frames = entry
            else:
                frames = _NONE
                left -= 1
                if type(entry) is Command:
                    self.pass_on(entry)  # paid for when it was read
                else:
                    self.special(cast("Special", entry), now)
            for effects in frames:
                first = effects[0] if effects else None
                if type(first) is Command:
                    self.command(first, now)
                else:
                    self._other(effects, now)
                left -= 1
                if left <= 0 or self._holds & WAITING:
                    # A look at whether that was all: nearly always it was, and there is nothing to wait a turn for.
                    following = next(frames, None)
                    return [*(() if following is None else (chain((following,), frames),)), *remaining], left
            if left <= 0 or self._holds & WAITING:
                return list(remaining), left
        return [], left

    def _other(self, effects: list[connection.Effect], now: float) -> None:
        """A frame that is no command now: a heartbeat, one that is held or cannot be read, Hello. (That is paid for by
        connecting.)"""
        if not effects or type(effects[0]) is not Admit:
            self._charge(now)
        for effect in effects:
            self.carry_out(effect)

    # --- paying -------------------------------------------------------------------------------------------------------

    def _charge(self, now: float) -> None:
        """What is no command costs as much: a ping, a fragment, a heartbeat, a frame that cannot be read."""
        if self._closing:
            return
        tariff = self._hub.tariff
        limit = self.pay(tariff, now)
        if limit is toll.CONNECTION:
            self._too_much(self.refuse(tariff, limit, now), now)
        elif limit:
            self._wait(self.overdraw(tariff, now), now)

    def _too_much(self, wait_ms: int, now: float) -> None:
        """Something was refused: wait, or go, if that did not help before."""
        if not self.is_flood:
            self._wait(wait_ms, now)
            return
        self._paid = now + FLOOD_HINT_MS / 1000
        # Megabytes of small frames may be on their way. To take them apart for the close frame behind them would be the flood;
        # even to read them, and throw them away, takes time from everybody else.
        self._hold(FLOOD, on=True)
        self.shut_out(codes.FLOOD, FLOOD_HINT_MS)
        self._ignore()

    def _wait(self, wait_ms: int, now: float) -> None:
        """Read nothing for so long."""
        hub = self._hub
        if self._device:
            hub.debts.note(self._device, self._paid, now)
        self._resumed = now + wait_ms / 1000
        self._hold(REFUSED, on=True)
        hub.turns.wait(self, self._resumed)

    def resume(self) -> None:
        """The wait is over."""
        self._hold(REFUSED, on=False)

    # --- why nothing is read ------------------------------------------------------------------------------------------

    def _hold(self, why: int, on: bool) -> None:
        before, self._holds = self._holds, self._holds | why if on else self._holds & ~why
        if before & WAITING and not self._holds & WAITING:
            self._queue()
        transport = self._transport
        if transport is None or transport.is_closing() or bool(before) == bool(self._holds):
            return
        if self._holds:
            transport.pause_reading()
        else:
            transport.resume_reading()
