"""How somebody is let in: the credential is checked elsewhere, and the session is told of the device."""

from __future__ import annotations

import asyncio
import contextlib

from actors import commands
from actors.runtime import errors
from gateway import hub as hubs
from gateway import intake, limits, outbox
from protocol import codec, codes, connection, messages
from protocol.connection import Admit

#: When to come back if the node is full or could not check a credential: spread over these milliseconds.
FULL_HINT_MS = (5_000, 15_000)


class Entering(intake.Intake):
    """A connection from the upgrade to the session, and out of it again."""

    __slots__ = ("_peer", "_task", "_user", "outbox")

    outbox: outbox.Outbox

    def __init__(
        self, hub: hubs.Hub, transport: asyncio.Transport, peer: str, address: limits.Address | None, began: float
    ) -> None:
        super().__init__(hub, transport, address, began)
        self._peer = peer
        self._user = 0
        self._task: asyncio.Task[None] | None = None

    def opened(self, now: float) -> None:
        """The session has the device: it is no newcomer any more."""
        raise NotImplementedError

    def send(self, frame: messages.Frame) -> None:
        """Answer with a frame."""
        if type(frame) is messages.Error:
            self._hub.counters.errors[frame.symbol] += 1
        self.outbox.reply(codec.encode(frame))

    def shut_out(self, close: codes.Close, retry_after_ms: int = 0) -> None:
        """Send what is waiting, then close with this code."""
        self.outbox.close(close.code, close.text, retry_after_ms)

    def turn_away_full(self) -> None:
        """The node is full: say so, after the handshake, because a refused handshake tells a browser nothing."""
        self._hub.refused("full")
        self.shut_out(codes.FULL, self._full_hint())

    def turn_away_stopping(self) -> None:
        """The node is about to stop: nobody is let in any more."""
        self.shut_out(codes.RESTART, self._full_hint())

    def _begin_admission(self, effect: Admit) -> None:
        self._hub.counters.frames_in += 1
        self._hold(intake.ADMITTING, on=True)
        self._task = self._hub.loop.create_task(self._admit(effect))

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
        self.send(connection.error_frame(rid, refused))
        if refused.error.temporary:
            self.shut_out(codes.FULL, refused.retry_after_ms or self._full_hint())
        else:
            self.shut_out(codes.REFUSED)

    def _let_in(self, attach: commands.Attach) -> None:
        if self._closing:
            return
        hub = self._hub
        if hub.is_stopping:
            self.turn_away_stopping()
            return
        now = hub.clock()
        held = self._connection.admitted()
        try:
            told = hub.directory.tell(("session", attach.admission.user), attach)
        except errors.ActorDeadError:
            told = False
        except errors.Quarantined as quarantined:
            self.shut_out(codes.FULL, int(quarantined.retry_after_s * 1000))
            return
        if not told:
            self.shut_out(codes.SESSION_LOST)
            return
        self._user = attach.admission.user
        self._device = attach.admission.device
        self._paid = hub.debts.collect(self._device, self._paid)
        self.opened(now)
        self._first(held)
        self._hold(intake.ADMITTING, on=False)

    def _full_hint(self) -> int:
        return int(self._hub.jitter(*FULL_HINT_MS))

    def _leave_session(self) -> None:
        """Tell the session, once, that this outlet is over. (A Detach is not refused for lack of room.)"""
        if self._task is not None:
            self._task.cancel()
        if self._device:
            hub = self._hub
            with contextlib.suppress(errors.ActorDeadError):
                hub.directory.tell(("session", self._user), commands.Detach(self._device, self.outbox))
            hub.debts.note(self._device, self._paid, hub.clock())
            self._device = 0
