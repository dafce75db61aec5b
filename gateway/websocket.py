"""One WebSocket: the shell around `protocol.connection`, `gateway.reader` and `gateway.outbox`.

    gateway.intake      bytes -> reader -> whole messages -> connection -> effects
    gateway.entering    Hello -> the credential checked -> the session
    here                commands -> the session, through the directory
                        frames -> the client, through the outbox; heartbeats, and how it ends
    gateway.toll, gateway.vigil    what is decided on the way: pure

It waits for nothing downstream. Its life after the upgrade:

    hello and credentials   pending, with a deadline counted from the acceptance of TCP; not read while a credential is checked
    open                    commands go to the session, the session speaks through the outbox
                            more frames than one turn takes wait in a backlog; who was refused is not read until it may go on
    closing                 our close frame is out; what comes is read only to see the client's, for at most CLOSE_GRACE_S
    deaf                    the client has closed or broken RFC 6455; what comes is thrown away until TCP ends. Of who flooded,
                            nothing is read any more
    gone                    TCP is over; the session has been told
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actors import commands
from actors.runtime import errors
from gateway import entering, intake, kernel, limits, outbox, reader, toll, vigil
from gateway import hub as hubs
from protocol import codes, connection, messages
from protocol.connection import Admit, Command

if TYPE_CHECKING:
    from gateway.wheel import Bucket

#: What a command costs to repeat when its mailbox was full: a moment of the session's time, in milliseconds.
BUSY_HINT_MS = 200


class Socket(entering.Entering):
    """`raw` is the TCP transport; `transport` the same, or TLS on it. `began`: when TCP was accepted."""

    __slots__ = ("_raw", "_stall", "slot")

    def __init__(
        self,
        hub: hubs.Hub,
        transport: asyncio.Transport,
        raw: asyncio.Transport,
        peer: str,
        address: limits.Address | None,
        began: float,
    ) -> None:
        super().__init__(hub, transport, peer, address, began)
        self.slot: Bucket | None = None
        self._raw: asyncio.Transport | None = raw if raw is not transport else None
        self._stall: vigil.Stall = None
        self.outbox = outbox.Outbox(hub.flusher, transport, self)
        hub.sockets.add(self)
        hub.counters.connections_opened += 1
        hub.wait(self)
        hub.wheel.put(self, began + hub.terms.hello_timeout_s)

    # --- from the transport -------------------------------------------------------------------------------------------

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
        self._ignore()
        self._transport = self._raw = self._stall = self.slot = None
        self._closing = True
        self._leave_session()
        hub = self._hub
        hub.sockets.discard(self)
        hub.pending.pop(self, None)
        hub.leave(self._address)
        self._address = None

    # --- from the client ----------------------------------------------------------------------------------------------

    def command(self, command: Command, now: float) -> None:
        """The hot path: pay, and pass it on."""
        if self._closing:
            return
        hub = self._hub
        hub.counters.frames_in += 1
        limit = self.pay(hub.tariff, now)
        if not limit or self._may_exceed(command.frame, limit, now):
            self.pass_on(command)

    def pass_on(self, command: Command) -> None:
        """To the session."""
        if self._closing:
            return
        hub, frame = self._hub, command.frame
        digest = 0
        if isinstance(frame, messages.Change):
            raw = command.raw
            digest = hub.digest(raw if type(raw) is bytes else bytes(raw))
        try:
            if not hub.directory.tell(("session", self._user), commands.Command(self._device, frame, digest)):
                self.shut_out(codes.SESSION_LOST)
        except errors.MailboxFull:
            hub.counters.mailbox_refusals["session"] += 1
            self._refuse(frame.rid, codes.BUSY, BUSY_HINT_MS)
        except errors.ActorDeadError:
            self.shut_out(codes.SESSION_LOST)

    def _may_exceed(self, frame: messages.ClientFrame, limit: str, now: float) -> bool:
        """Over a rate: refuse, unless it is an acknowledgement, whose loss would stop the flow of events. Then wait."""
        hub = self._hub
        if type(frame) is messages.Ack:
            self._wait(self.overdraw(hub.tariff, now), now)
            return True
        wait_ms = int(self.refuse(hub.tariff, limit, now) * hub.jitter(1.0, intake.REFUSAL_SPREAD))
        hub.counters.limited[limit] += 1
        self._refuse(frame.rid, codes.RATE_LIMITED, wait_ms)
        if limit is toll.CONNECTION:
            self._too_much(wait_ms, now)
        else:
            self._wait(wait_ms, now)
        return False

    def special(self, item: intake.Special, now: float) -> None:
        """What is no binary message came."""
        if type(item) is reader.Ended:
            self._ended(item)
            return
        self._connection.heard = now
        self._charge(now)
        if self._closing:
            return
        if type(item) is reader.Pong:
            self.outbox.pong(item.wire)
        elif item is reader.Mark.TEXT:
            for effect in self._connection.receive_text():
                self.carry_out(effect)

    def carry_out(self, effect: connection.Effect) -> None:
        """What the connection orders."""
        if self._closing:
            return
        if type(effect) is Admit:
            self._begin_admission(effect)
        elif type(effect) is connection.Reply:
            self.send(effect.frame)
        elif type(effect) is connection.Close:
            self.shut_out(effect.close)

    def _refuse(self, rid: int, error: codes.Error, retry_after_ms: int) -> None:
        self.send(connection.error_frame(rid, codes.Refused(error, "", retry_after_ms)))

    # --- from the outbox ----------------------------------------------------------------------------------------------

    def spoke(self, now: float, size: int) -> None:
        """So many bytes are sent."""
        self._connection.spoke = now
        if self._stall is not None:
            self._stall = vigil.added(self._stall, size)

    def hold(self, on: bool) -> None:
        """The outbox is full: no further commands for now."""
        self._hold(intake.FULL, on)

    def stalled(self) -> None:
        """The transport is full; watch that it takes a byte now and then."""
        hub = self._hub
        now = hub.clock()
        self._stall = vigil.observed(self._stall, self._unsent(), now)
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
        self._hold(intake.ADMITTING | intake.BACKLOG | intake.WAITING, on=False)  # to see the client's close frame
        if self._holds & intake.FLOOD and self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()  # it is not seen: the client has to end TCP
        hub.wheel.put(self, hub.clock() + vigil.CLOSE_GRACE_S)

    # --- from the wheel, and from the hub -----------------------------------------------------------------------------

    def due(self, now: float) -> None:
        """Time has passed."""
        if self._transport is None:
            return
        if self._closing:
            self._transport.abort()
            return
        hub = self._hub
        self._stall = vigil.observed(self._stall, self._unsent(), now)
        if vigil.is_slow(self._stall, now, hub.limits.stalled_write_s):
            hub.counters.closes[codes.SLOW.symbol] += 1
            self._transport.abort()
            return
        if self._holds:
            self._connection.heard = now  # it is not read, so its silence is ours
        for effect in self._connection.tick(now):
            if type(effect) is connection.Close:
                self.shut_out(effect.close)
            elif type(effect) is connection.Reply:
                self.send(effect.frame)
        if not self._closing:
            self._look_again(now)

    def opened(self, now: float) -> None:
        """The session has the device: it is no newcomer any more."""
        self._hub.pending.pop(self, None)
        self._look_again(now)

    def give_up(self) -> None:
        """Too many are waiting to be let in, and this one the longest."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """The node is about to stop: read nothing more."""
        if not self._closing:
            self._hold(intake.STOPPING, on=True)

    def stop(self, retry_after_ms: int) -> None:
        """The node stops."""
        self.shut_out(codes.RESTART, retry_after_ms)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _look_again(self, now: float) -> None:
        hub = self._hub
        jitter = hub.jitter(0.0, 1.0)
        when = vigil.next_look(self._connection, hub.terms, now, jitter, self._stall, hub.limits.stalled_write_s)
        hub.wheel.put(self, when)

    def _unsent(self) -> int:
        """Bytes that the client has not taken, once some of them wait here; 0 while the kernel takes them all.

        The kernel asks for more only when a good part of what it holds has left: for minutes, with a slow client. So what it
        holds counts, or a client would be cut that takes bytes all the time."""
        transport, raw = self._transport, self._raw
        assert transport is not None
        waiting = transport.get_write_buffer_size() + (raw.get_write_buffer_size() if raw is not None else 0)
        return waiting + kernel.unacknowledged(raw or transport) if waiting else 0

    def _ended(self, ended: reader.Ended) -> None:
        """The client's close frame, or a breach of RFC 6455: nothing that follows is read."""
        self._ignore()
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
