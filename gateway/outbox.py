"""What waits for one device, and the single flush per loop tick that sends it.

A frame goes this way: `offer`, `reply` ... put it into the outbox; the outbox stands in the flusher's list; the flusher, called
once per tick, joins what each outbox holds into WebSocket messages and hands them to its transport in one write. While the
transport is full (`pause_writing`) everything stays here, where it still can be refused, replaced or dropped:

    durable        counted against the limit; over it, `offer` refuses, and the device becomes behind
    replies        always taken; over the limit no further commands are read, so they are as many as those already read
    collapsible    one per key, sent after what is durable, so that a receipt never comes before the event it speaks of
    ephemeral      dropped as soon as the transport is full

The limit holds for the sum of what waits here and in the transport: the transport's share (of the flusher) is set aside while
it takes bytes, and known exactly once it does not. Each frame counts with what it costs to hold it, not its length alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import telemetry
from gateway import frames
from gateway.flusher import Flusher, join
from protocol import codec, codes, messages

#: Bytes of memory that a waiting frame takes beside its own: the object's header, its place in the list.
FRAME_OVERHEAD = 48
#: Codes after which the client is told when to come back (docs/protocol.md, Closing and coming back).
_HINTED = (codes.RESTART.code, codes.FULL.code)

_log = telemetry.logger("gateway")


class Owner(Protocol):
    """The connection that an outbox belongs to."""

    def spoke(self, now: float, size: int) -> None:
        """So many bytes are about to be sent."""
        ...

    def hold(self, on: bool) -> None:
        """Stop reading commands, or go on."""
        ...

    def stalled(self) -> None:
        """The transport is full from now on."""
        ...

    def closing(self, code: int) -> None:
        """The close frame has been written."""
        ...

    def abort(self) -> None:
        """Cut the connection: something of what it was to get is lost."""
        ...


class Outbox:
    """Implements actors.sink.Sink for one connection."""

    __slots__ = (
        "_count",
        "_flusher",
        "_full",
        "_held",
        "_is_stuck",
        "_latest",
        "_owner",
        "_plural",
        "_pong",
        "_queue",
        "_refused",
        "_room",
        "_transport",
        "on_drained",
    )

    def __init__(self, flusher: Flusher, transport: asyncio.WriteTransport, owner: Owner) -> None:
        self.on_drained: Callable[[], None] | None = None
        self._flusher = flusher
        self._owner: Owner | None = owner
        #: None: closed.
        self._transport: asyncio.WriteTransport | None = transport
        # Containers are made when something waits: an idle connection has none.
        self._queue: list[bytes] | None = None
        self._plural: dict[int, int] | None = None
        self._latest: dict[object, bytes] | None = None
        self._pong: bytes | None = None
        self._count = 0
        #: What waits here, with FRAME_OVERHEAD for each.
        self._held = 0
        #: Whether the transport is full, and how many bytes may wait here: exact while it is, as nothing is added to it then.
        self._is_stuck = False
        self._room = flusher.high
        self._refused = False
        self._full = False
        transport.set_write_buffer_limits(flusher.transport_share)

    # --- what the session calls ---------------------------------------------------------------------------------------

    def offer(self, frames: bytes, count: int) -> bool:
        """Durable; see actors.sink.Sink. At most codec.MAX_BATCH frames in a call. False too when the connection is over.

        An empty outbox takes whatever comes: one offer over the limit would otherwise be refused for ever.
        """
        held = self._held + len(frames) + FRAME_OVERHEAD
        flusher = self._flusher
        if held > self._room and (self._held or self._is_stuck):
            self._refused = True
            flusher.counters.outbox_refusals += 1
            return False
        queue = self._queue
        if count != 1:
            self._several(count, 0 if queue is None else len(queue))
        if queue is None:
            if self._transport is None:
                return False
            self._queue = [frames]
            flusher.add(self)
        else:
            queue.append(frames)
        self._held = held
        self._count += count
        return True

    @property
    def spare(self) -> int:
        """Bytes that may wait in addition; see actors.sink.Sink."""
        return max(0, self._room - self._held)

    def reply(self, frame: bytes) -> None:
        """The answer to a command; see actors.sink.Sink."""
        if self._transport is None:
            return
        self._push(frame)
        if self._held > self._room and not self._full:
            self._full = True
            assert self._owner is not None
            self._owner.hold(True)

    def offer_latest(self, key: object, frame: bytes) -> None:
        """Collapsible; see actors.sink.Sink. Sent after the durable frames that wait at the same time."""
        if self._transport is None:
            return
        latest = self._latest
        if latest is None:
            latest = self._latest = {}
        older = latest.pop(key, None)
        held = self._held + len(frame) + FRAME_OVERHEAD
        if older is not None:
            held -= len(older) + FRAME_OVERHEAD
        elif held > self._room:
            return
        elif self._queue is None and len(latest) == 0:
            self._flusher.add(self)
        latest[key] = frame
        self._held = held

    def offer_ephemeral(self, frame: bytes) -> None:
        """The first to be dropped; see actors.sink.Sink."""
        if self._transport is None:
            return
        if self._is_stuck or self._held > self._flusher.low:
            self._flusher.counters.ephemeral_dropped += 1
            return
        self._push(frame)

    def close(self, code: int, reason: str, retry_after_ms: int = 0) -> None:
        """Send what is waiting, then the close frame; the connection is dropped when the client answers or after a grace."""
        transport, owner = self._transport, self._owner
        if transport is None:
            return
        assert owner is not None
        if code in _HINTED or retry_after_ms:
            self._push(codec.encode(messages.GoingAway(0, retry_after_ms)))
        self._is_stuck = False
        taken = self.take()
        last = frames.close(code, reason)
        wire = join(*taken) + last if taken else last
        transport.write(wire)
        counters = self._flusher.counters
        counters.frames_out += taken[1] if taken else 0
        counters.bytes_out += len(wire)
        counters.writes += 1
        self.shut()
        owner.closing(code)

    def pong(self, wire: bytes) -> None:
        """The answer to a ping, as a frame of RFC 6455. It leaves before what waits. The newest stands for all, and while the
        transport is full there is none: answers may be left out when a later one is to come (section 5.5.3)."""
        if self._transport is None or self._is_stuck:
            return
        if self._pong is None and self._queue is None and self._latest is None:
            self._flusher.add(self)
        self._pong = wire

    # --- what the connection calls ------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Bytes that wait here and in the transport."""
        transport = self._transport
        return self._held + (transport.get_write_buffer_size() if transport is not None else 0)

    def pause_writing(self) -> None:
        """The transport is full."""
        if self._transport is not None:
            self._is_stuck = True
            self._room = self._flusher.limit - self._transport.get_write_buffer_size()
            assert self._owner is not None
            self._owner.stalled()

    def resume_writing(self) -> None:
        """The transport takes bytes again."""
        self._is_stuck = False
        self._room = self._flusher.high
        if self._queue is not None or self._latest is not None or self._pong is not None:
            self._flusher.add(self)
        else:
            self._sink_below()

    def shut(self) -> None:
        """The connection is over: forget everything. Nothing is called afterwards."""
        self._transport = None
        self._owner = None
        self._queue = self._plural = self._latest = self._pong = self.on_drained = None
        self._count = self._held = 0
        self._refused = self._full = False

    # --- what the flusher calls ---------------------------------------------------------------------------------------

    def take(self) -> tuple[list[bytes], int, dict[int, int] | None] | None:
        """All that waits, as the arguments of `join`; None if nothing does, or nothing can leave."""
        if self._is_stuck:
            return None
        queue, count = self._queue, self._count
        latest = self._latest
        if latest is not None:
            self._latest = None
            queue = [*(queue or ()), *latest.values()]
            count += len(latest)
        if not queue:
            if self._pong is not None:
                assert self._transport is not None
                wire, self._pong = self._pong, None
                self._transport.write(wire)
            return None
        plural = self._plural
        self._queue = self._plural = None
        self._count = self._held = 0
        return queue, count, plural

    def write(self, wire: bytes, now: float) -> None:
        """Hand what was taken to the transport, and let in what was kept out."""
        assert self._transport is not None
        assert self._owner is not None
        if self._pong is not None:
            wire, self._pong = self._pong + wire, None
        self._owner.spoke(now, len(wire))
        self._transport.write(wire)
        if self._refused or self._full:
            self._sink_below()

    def abort(self) -> None:
        """Something that was taken did not leave."""
        owner = self._owner
        self.shut()
        if owner is not None:
            owner.abort()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _push(self, frame: bytes) -> None:
        queue = self._queue
        if queue is None:
            self._queue = [frame]
            self._flusher.add(self)
        else:
            queue.append(frame)
        self._held += len(frame) + FRAME_OVERHEAD
        self._count += 1

    def _several(self, count: int, index: int) -> None:
        if not 0 < count <= codec.MAX_BATCH:
            raise ValueError(f"{count} frames in one offer; 1 to {codec.MAX_BATCH}")
        if self._plural is None:
            self._plural = {}
        self._plural[index] = count

    def _sink_below(self) -> None:
        """Open again what was shut while the outbox was over its limit, once it is well below."""
        if self._is_stuck or self._held > self._flusher.low:
            return
        if self._full:
            self._full = False
            assert self._owner is not None
            self._owner.hold(False)
        if self._refused:
            self._refused = False
            if self.on_drained is not None:
                try:
                    self.on_drained()
                except Exception:
                    # The session is gone. Whoever noticed first closes; the other outboxes of this flush must not suffer.
                    _log.exception("drained_failed")
