"""One WebSocket: the shell around `protocol.connection`, `gateway.reader` and `gateway.outbox`.

    bytes -> reader -> whole messages -> connection -> effects -> the session, through the directory
                                                               -> frames, through the outbox

It waits for nothing downstream. Its life after the upgrade:

    hello and credentials   pending, with a deadline counted from the acceptance of TCP; not read while a credential is checked
    open                    commands go to the session, the session speaks through the outbox
                            more frames than one turn takes wait in a backlog; who was refused is not read until it may go on
    closing                 our close frame is out; what comes is read only to see the client's, for at most CLOSE_GRACE_S
    deaf                    the client has closed, broken RFC 6455 or flooded; what comes is thrown away until TCP ends
    gone                    TCP is over; the session has been told
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from actors import commands
from actors.runtime import errors
from gateway import hub as hubs
from gateway import limits, outbox, reader, turns
from protocol import codec, codes, connection, messages
from protocol.connection import Admit, Command, State

if TYPE_CHECKING:
    from gateway.wheel import Bucket

#: Seconds that a client has to answer our close frame before TCP is cut.
CLOSE_GRACE_S = 5.0
#: Spread of heartbeats as a part of the silence before them, so that those who came together are not asked together. With the
#: lateness of the wheel it stays below the half of it after which clients give up, and the 30 s after which routers forget.
HEARTBEAT_JITTER = 0.1
#: When to come back if the node is full or could not check a credential: spread over these milliseconds.
FULL_HINT_MS = (5_000, 15_000)
#: What a command costs to repeat when its mailbox was full: a moment of the session's time, in milliseconds.
BUSY_HINT_MS = 200
#: The wait after a refusal is up to so many times what it would have to be.
REFUSAL_SPREAD = 1.5
#: How long a flooder is asked to stay away, in milliseconds. Its device is refused as long if it comes back before.
FLOOD_HINT_MS = 30_000

Special = reader.Pong | reader.Ended | reader.Mark
#: Why nothing is read at the moment.
_ADMITTING = 1
_FULL = 2
_STOPPING = 4
_REFUSED = 8
_BACKLOG = 16
#: Those for which nothing is handled either.
_WAITING = _FULL | _STOPPING | _REFUSED


class Socket(asyncio.Protocol):
    """`raw` is the TCP transport; `transport` the same, or TLS on it. `began`: when TCP was accepted."""

    __slots__ = (
        "_address",
        "_backlog",
        "_closing",
        "_connection",
        "_deaf",
        "_device",
        "_holds",
        "_hub",
        "_paid",
        "_peer",
        "_raw",
        "_reader",
        "_refusals",
        "_resumed",
        "_stall",
        "_task",
        "_transport",
        "_user",
        "outbox",
        "slot",
    )

    def __init__(
        self,
        hub: hubs.Hub,
        transport: asyncio.Transport,
        raw: asyncio.Transport,
        peer: str,
        address: limits.Address | None,
        began: float,
    ) -> None:
        self.slot: Bucket | None = None
        self._hub = hub
        self._transport: asyncio.Transport | None = transport
        self._raw: asyncio.Transport | None = raw if raw is not transport else None
        self._peer = peer
        self._address = address
        self._connection = connection.Connection(began, hub.terms)
        #: Only while a message is incomplete; else the hub's is borrowed.
        self._reader: reader.Reader | None = None
        self._user = 0
        #: 0: nobody was let in, or the session knows that it is over.
        self._device = 0
        #: Paid-off time of the rate of commands.
        self._paid = began
        #: Refusals in a row, and when the wait after the last one was over.
        self._refusals = 0
        self._resumed = began
        #: What was read and has to wait its turn, or until something else is over.
        self._backlog: turns.Backlog | None = None
        #: (bytes that could not be sent, since when) while the transport is full.
        self._stall: tuple[int, float] | None = None
        self._holds = 0
        self._closing = False
        self._deaf = False
        self._task: asyncio.Task[None] | None = None
        self.outbox = outbox.Outbox(hub.flusher, transport, self)
        hub.sockets.add(self)
        hub.counters.connections_opened += 1
        hub.wait(self)
        hub.wheel.put(self, began + hub.terms.hello_timeout_s)

    # --- from the transport -------------------------------------------------------------------------------------------

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
        hub = self._hub
        if self._backlog is not None:
            self._backlog.add(data)
        elif len(data) <= turns.SLICE:
            rest = self._handle(self._feed(data), hub.clock())
            if rest:
                self._keep(turns.Backlog(b"", rest))
        else:
            self._keep(turns.Backlog(data, []))

    def eof_received(self) -> None:
        """The client will send no more; the transport closes itself."""

    def pause_writing(self) -> None:
        """The transport is full."""
        self.outbox.pause_writing()

    def resume_writing(self) -> None:
        """The transport takes bytes again."""
        self._stall = None
        self.outbox.resume_writing()

    def connection_lost(self, _error: Exception | None) -> None:
        """TCP is over, whoever ended it."""
        self.outbox.shut()
        self._connection.close(codes.NORMAL)
        self._transport = self._raw = self._reader = self._stall = self.slot = self._backlog = None
        self._closing = self._deaf = True
        self._leave_session()
        hub = self._hub
        hub.sockets.discard(self)
        hub.pending.pop(self, None)
        hub.leave(self._address)
        self._address = None

    # --- from the client ----------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Work at the backlog, for one turn."""
        backlog = self._backlog
        if backlog is None:
            return
        backlog.is_queued = False
        now = self._hub.clock()
        frames, size = 0, 0
        while backlog and not self._holds & _WAITING and frames < turns.FRAMES_A_TURN and size < turns.BYTES_A_TURN:
            entries = backlog.entries
            if not entries:
                data = backlog.slice()
                size += len(data)
                entries = cast("list[object]", self._feed(data))
            # Each slice may give a whole turn's frames: then it is the last one of this turn.
            rest = self._handle(entries, now)
            frames += turns.FRAMES_A_TURN if rest else len(entries)
            backlog.entries = rest
            if self._deaf:
                break
        if self._backlog is None:
            return  # TCP ended meanwhile
        if not backlog or self._deaf:
            self._backlog = None
            self._hold(_BACKLOG, on=False)
            return
        self._hold(_BACKLOG, on=True)
        self._queue()

    def _keep(self, backlog: turns.Backlog) -> None:
        """Handle it in turns: the first one now, if nobody else is waiting."""
        self._backlog = backlog
        if not backlog.entries and self._hub.turns.is_idle:
            self.turn()
        else:
            self._hold(_BACKLOG, on=True)
            self._queue()

    def _queue(self) -> None:
        backlog = self._backlog
        if backlog is not None and not backlog.is_queued and not self._holds & _WAITING:
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

    def _handle(self, entries: Iterable[object], now: float) -> list[object]:
        """As many as one turn takes, or until nothing may be handled. What is left.

        An entry is reader.Incoming, or an effect of a message of which the others were carried out already.
        """
        left = turns.FRAMES_A_TURN
        remaining = iter(entries)
        for entry in remaining:
            if type(entry) is bytes:
                effects = self._connection.receive(entry, now)
                if not effects:
                    self._charge(now)
                rest = iter(effects)
                for effect in rest:
                    if type(effect) is Command:
                        self._command(effect, now)
                    else:
                        self._carry_out(effect, now)
                    left -= 1
                    if left <= 0 or self._holds & _WAITING:
                        return [*rest, *remaining]
            elif isinstance(entry, connection.Effect):
                self._carry_out(entry, now)
            else:
                self._special(cast("Special", entry), now)
            left -= 1
            if left <= 0 or self._holds & _WAITING:
                return list(remaining)
        return []

    def _command(self, command: Command, now: float) -> None:
        """The hot path: pay, and pass it on."""
        if self._closing:
            return
        hub = self._hub
        hub.counters.frames_in += 1
        frame = command.frame
        paid = hub.rate.after(self._paid, now)
        if paid - now > hub.rate.burst_s and not self._may_exceed(frame, paid, now):
            return
        self._paid = paid
        address = self._address
        if address is not None:
            rate = hub.addresses.commands
            paid = rate.after(address.commands, now)
            if paid - now > rate.burst_s:
                if type(frame) is not messages.Ack:
                    # Others of the same address may have used it up: that is no flood of this connection's.
                    wait_ms = rate.wait_ms(address.commands, now)
                    self._refuse(frame.rid, codes.RATE_LIMITED, wait_ms, "address")
                    self._wait(now + wait_ms / 1000)
                    return
                self._wait(now + rate.wait_ms(paid, now) / 1000)
            address.commands = paid
        digest = 0
        if isinstance(frame, messages.Change):
            raw = command.raw
            digest = hub.digest(raw if type(raw) is bytes else bytes(raw))
        try:
            if not hub.directory.tell(("session", self._user), commands.Command(self._device, frame, digest)):
                self._close(codes.SESSION_LOST)
        except errors.MailboxFull:
            hub.counters.mailbox_refusals["session"] += 1
            self._refuse(frame.rid, codes.BUSY, BUSY_HINT_MS)
        except errors.ActorDeadError:
            self._close(codes.SESSION_LOST)

    def _may_exceed(self, frame: messages.ClientFrame, paid: float, now: float) -> bool:
        """Over the rate: refuse, unless it is an acknowledgement, whose loss would stop the flow of events. Then wait."""
        rate = self._hub.rate
        if type(frame) is messages.Ack:
            self._wait(now + rate.wait_ms(paid, now) / 1000)
            return True
        self._paid, wait_ms = rate.refused(self._paid, now)
        # Those who were refused together are not to come back together: each does little, and all of it in one moment much.
        wait_ms = int(wait_ms * self._hub.jitter(1.0, REFUSAL_SPREAD))
        self._refuse(frame.rid, codes.RATE_LIMITED, wait_ms, "connection")
        self._too_much(now + wait_ms / 1000, now)
        return False

    def _charge(self, now: float) -> None:
        """What is no command costs as much: a ping, a fragment, a heartbeat, a frame that cannot be read."""
        if self._closing:
            return
        rate = self._hub.rate
        self._paid = rate.after(self._paid, now)
        if self._paid - now > rate.burst_s and not self._holds & _REFUSED:
            self._paid, wait_ms = rate.refused(self._paid, now)
            self._too_much(now + wait_ms / 1000, now)

    def _too_much(self, until: float, now: float) -> None:
        """More than the rate: wait, or go, if that did not help before."""
        self._refusals = self._hub.rate.in_a_row(self._refusals, self._resumed, now)
        if self._refusals < limits.FLOOD_REFUSALS:
            self._wait(until)
            return
        self._paid = now + FLOOD_HINT_MS / 1000
        self._close(codes.FLOOD, FLOOD_HINT_MS)
        # Megabytes of small frames may be on their way: to take them apart for the close frame behind them would be the flood.
        self._deaf = True
        self._backlog = self._reader = None
        self._hold(_BACKLOG, on=False)

    def _wait(self, until: float) -> None:
        """Read nothing before."""
        if self._holds & _REFUSED:
            return
        hub = self._hub
        if self._device:
            hub.debts.note(self._device, self._paid, hub.clock())
        self._resumed = until
        self._hold(_REFUSED, on=True)
        hub.turns.wait(self, until)

    def resume(self) -> None:
        """The wait is over."""
        self._hold(_REFUSED, on=False)

    def _refuse(self, rid: int, error: codes.Error, retry_after_ms: int, limit: str = "") -> None:
        if limit:
            self._hub.counters.limited[limit] += 1
        self._send(connection.error_frame(rid, codes.Refused(error, "", retry_after_ms)))

    def _send(self, frame: messages.Frame) -> None:
        if type(frame) is messages.Error:
            self._hub.counters.errors[frame.symbol] += 1
        self.outbox.reply(codec.encode(frame))

    def _special(self, item: Special, now: float) -> None:
        """What is no binary message."""
        if type(item) is reader.Ended:
            self._ended(item)
            return
        self._connection.heard = now
        self._charge(now)
        if self._closing:
            return
        if type(item) is reader.Pong:
            self.outbox.control(item.wire)
        elif item is reader.Mark.TEXT:
            for effect in self._connection.receive_text():
                self._carry_out(effect, now)

    def _carry_out(self, effect: connection.Effect, now: float) -> None:
        if self._closing:
            return
        if type(effect) is Admit:
            self._hub.counters.frames_in += 1
            self._hold(_ADMITTING, on=True)
            self._task = self._hub.loop.create_task(self._admit(effect))
        elif type(effect) is connection.Reply:
            self._charge(now)
            self._send(effect.frame)
        elif type(effect) is connection.Close:
            self._close(effect.close)
        elif type(effect) is Command:
            self._command(effect, now)

    # --- being let in -------------------------------------------------------------------------------------------------

    async def _admit(self, effect: Admit) -> None:
        """Have the credential checked. Cancelled when the connection ends first."""
        rid = effect.hello.rid
        try:
            admission = await self._hub.admit(effect.hello, effect.version, self._peer)
        except codes.Refused as refused:
            self._turn_away(rid, refused)
        except Exception:
            hubs.log.exception("admit_failed")
            self._turn_away(rid, codes.Refused(codes.UNAVAILABLE))
        else:
            self._let_in(commands.Attach(admission, self.outbox, rid, effect.version))
        finally:
            self._task = None

    def _turn_away(self, rid: int, refused: codes.Refused) -> None:
        if self._closing:
            return
        self._send(connection.error_frame(rid, refused))
        if refused.error.temporary:
            self._close(codes.FULL, refused.retry_after_ms or self._full_hint())
        else:
            self._close(codes.REFUSED)

    def _let_in(self, attach: commands.Attach) -> None:
        if self._closing:
            return
        hub = self._hub
        now = hub.clock()
        held = self._connection.admitted()
        try:
            told = hub.directory.tell(("session", attach.admission.user), attach)
        except errors.ActorDeadError:
            told = False
        except errors.Quarantined as quarantined:
            self._close(codes.FULL, int(quarantined.retry_after_s * 1000))
            return
        if not told:
            self._close(codes.SESSION_LOST)
            return
        self._user = attach.admission.user
        self._device = attach.admission.device
        self._paid = hub.debts.collect(self._device, self._paid)
        hub.pending.pop(self, None)
        hub.wheel.put(self, self._next_look(now))
        for effect in held:
            self._carry_out(effect, now)
        self._hold(_ADMITTING, on=False)

    def turn_away_full(self) -> None:
        """The node is full: say so, after the handshake, because a refused handshake tells a browser nothing."""
        self._hub.refused("full")
        self._close(codes.FULL, self._full_hint())

    def _full_hint(self) -> int:
        return int(self._hub.jitter(*FULL_HINT_MS))

    # --- from the outbox ----------------------------------------------------------------------------------------------

    def spoke(self, now: float) -> None:
        """Something was sent."""
        self._connection.spoke = now

    def hold(self, on: bool) -> None:
        """The outbox is full: no further commands for now."""
        self._hold(_FULL, on)

    def stalled(self) -> None:
        """The transport is full; watch that it takes a byte now and then."""
        hub = self._hub
        now = hub.clock()
        self._stall = (self._unsent(), now)
        hub.wheel.hasten(self, now + hub.limits.stalled_write_s)

    def closing(self, code: int) -> None:
        """The close frame is out: the session need not wait for the client's."""
        close = codes.CLOSE_BY_CODE.get(code)
        hub = self._hub
        hub.counters.closes[close.symbol if close is not None else str(code)] += 1
        self._closing = True
        self._connection.close(codes.NORMAL)
        self._leave_session()
        hub.pending.pop(self, None)
        self._hold(_ADMITTING | _WAITING, on=False)  # to see the client's close frame
        hub.wheel.put(self, hub.clock() + CLOSE_GRACE_S)

    # --- from the wheel, and from the hub -----------------------------------------------------------------------------

    def due(self, now: float) -> None:
        """Time has passed."""
        if self._transport is None:
            return
        if self._closing:
            self._transport.abort()
            return
        if self._has_stalled(now):
            self._hub.counters.closes[codes.SLOW.symbol] += 1
            self._transport.abort()
            return
        if self._holds & (_REFUSED | _BACKLOG):
            self._connection.heard = now  # its silence is ours
        for effect in self._connection.tick(now):
            if type(effect) is connection.Close:
                self._close(effect.close)
            elif type(effect) is connection.Reply:
                self._send(effect.frame)
        if not self._closing:
            self._hub.wheel.put(self, self._next_look(now))

    def give_up(self) -> None:
        """Too many are waiting to be let in, and this one the longest."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """The node is about to stop: read nothing more."""
        if not self._closing:
            self._hold(_STOPPING, on=True)

    def stop(self, retry_after_ms: int) -> None:
        """The node stops."""
        self._close(codes.RESTART, retry_after_ms)

    def abort(self) -> None:
        """Cut TCP, with what is unsent, and hear nothing more."""
        self._deaf = True
        self._backlog = self._reader = None
        if self._transport is not None:
            self._transport.abort()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _next_look(self, now: float) -> float:
        """When something may be due next."""
        terms = self._hub.terms
        state = self._connection
        if state.state is not State.OPEN:
            return now + 1.0
        when = min(state.heard, state.spoke) + terms.heartbeat_s
        if when <= now:  # asked, and not answered yet
            when = min(now + terms.heartbeat_s, state.heard + terms.lost_s)
        else:
            when += self._hub.jitter(0.0, HEARTBEAT_JITTER * terms.heartbeat_s)
        if self._stall is not None:
            when = min(when, self._stall[1] + self._hub.limits.stalled_write_s)
        return when

    def _unsent(self) -> int:
        assert self._transport is not None
        unsent = self._transport.get_write_buffer_size()
        return unsent + self._raw.get_write_buffer_size() if self._raw is not None else unsent

    def _has_stalled(self, now: float) -> bool:
        """Whether the socket took no byte for so long. What it took meanwhile starts the time anew."""
        if self._stall is None:
            return False
        size, since = self._stall
        unsent = self._unsent()
        if unsent < size:
            self._stall = (unsent, now)
            return False
        return now - since >= self._hub.limits.stalled_write_s

    def _hold(self, why: int, on: bool) -> None:
        before, self._holds = self._holds, self._holds | why if on else self._holds & ~why
        if before & _WAITING and not self._holds & _WAITING:
            self._queue()
        transport = self._transport
        if transport is None or transport.is_closing() or bool(before) == bool(self._holds):
            return
        if self._holds:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _close(self, close: codes.Close, retry_after_ms: int = 0) -> None:
        self.outbox.close(close.code, close.text, retry_after_ms)

    def _ended(self, ended: reader.Ended) -> None:
        """The client's close frame, or a breach of RFC 6455: nothing that follows is read."""
        self._deaf = True
        self._reader = None
        transport = self._transport
        if transport is None:
            return
        if not self._closing:
            self.outbox.shut()
            transport.write(ended.wire)
            if ended.close is codes.NORMAL:
                self._closing = True
                self._connection.close(codes.NORMAL)
                self._leave_session()
            else:
                self.closing(ended.close.code)
        if ended.has_closed:
            transport.close()  # both close frames are exchanged: the server ends TCP (RFC 6455 section 7.1.1)
        elif transport.can_write_eof():
            # Much may be on its way that is not read; a reset of TCP now would take our close frame with it.
            transport.write_eof()

    def _leave_session(self) -> None:
        """Tell the session, once, that this outlet is over. (A Detach is not refused for lack of room.)"""
        if self._task is not None:
            self._task.cancel()
        if self._device:
            with contextlib.suppress(errors.ActorDeadError):
                self._hub.directory.tell(("session", self._user), commands.Detach(self._device, self.outbox))
            self._hub.debts.note(self._device, self._paid, self._hub.clock())
            self._device = 0
