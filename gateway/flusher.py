"""The single flush per loop tick: every outbox that holds something, joined into WebSocket messages, one write each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import telemetry
from gateway import frames
from protocol import codec

if TYPE_CHECKING:
    from gateway.outbox import Outbox

_log = telemetry.logger("gateway")

#: Part of the limit that the transport may buffer before it says that it is full. At most this, and a quarter of the limit.
_TRANSPORT_SHARE = 64 * 1024
#: Bytes of frames that are joined into one WebSocket message; a longer frame goes alone. A client has nothing of a message
#: until all of it is there: where the line breaks every few kilobytes, a long one would be sent for ever and never arrive.
JOIN_BYTES = 8 * 1024


class Flusher:
    """The outboxes of one loop that hold something. `limit`: bytes of one outbox, the transport's share included."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit: int,
        counters: telemetry.Telemetry,
        clock: Callable[[], float],
    ) -> None:
        self.counters = counters
        self.transport_share = min(_TRANSPORT_SHARE, limit // 4)
        #: Bytes that may wait here while the transport still takes some, and down to where a full outbox has to sink.
        self.limit = limit
        self.high = limit - self.transport_share
        self.low = self.high // 2
        self._loop = loop
        self._clock = clock
        self._waiting: list[Outbox] = []

    def add(self, outbox: Outbox) -> None:
        """Flush `outbox` at the end of this tick."""
        waiting = self._waiting
        if not waiting:
            self._loop.call_soon(self.flush)
        waiting.append(outbox)

    def flush(self) -> None:
        """Write out what every outbox holds that can."""
        waiting, self._waiting = self._waiting, []
        now = self._clock()
        # Members of a group get the same frames in the same tick: what was joined for one serves for the next.
        last: list[bytes] = []
        last_count = 0
        wire = b""
        frames_out = bytes_out = writes = 0
        for outbox in waiting:
            try:
                taken = outbox.take()
                if taken is None:
                    continue
                queue, count, plural = taken
                if count != last_count or queue != last:
                    wire = join(queue, count, plural)
                    last, last_count = queue, count
                outbox.write(wire, now)
            except Exception:
                # What was taken of it is lost, so it has to come back; the other outboxes of this flush must not suffer.
                _log.exception("flush_failed")
                outbox.abort()
                last_count = 0
                continue
            frames_out += count
            bytes_out += len(wire)
            writes += 1
        counters = self.counters
        counters.frames_out += frames_out
        counters.bytes_out += bytes_out
        counters.writes += writes


def join(queue: list[bytes], count: int, plural: dict[int, int] | None) -> bytes:
    """Encoded frames -> WebSocket messages, one after the other. `plural`: how many frames `queue[i]` is, if not one."""
    if len(queue) == 1 == count:
        return frames.binary(queue[0])
    payload = b"".join(queue)
    if count <= codec.MAX_BATCH and len(payload) <= JOIN_BYTES:
        return frames.binary(codec.array_header(count) + payload)
    out: list[bytes] = []
    batch: list[bytes] = []
    size = batched = 0
    for frame, number in _pieces(queue, plural or {}):
        if batch and (size + len(frame) > JOIN_BYTES or batched + number > codec.MAX_BATCH):
            out.append(_message(batch, batched))
            batch, size, batched = [], 0, 0
        batch.append(frame)
        size += len(frame)
        batched += number
    out.append(_message(batch, batched))
    return b"".join(out)


def _message(batch: list[bytes], count: int) -> bytes:
    payload = b"".join(batch)
    return frames.binary(payload if count == 1 else codec.array_header(count) + payload)


def _pieces(queue: list[bytes], plural: dict[int, int]) -> list[tuple[bytes, int]]:
    """The queue in pieces that fit into a message each: (bytes, frames)."""
    pieces: list[tuple[bytes, int]] = []
    for index, item in enumerate(queue):
        count = plural.get(index, 1)
        if count > 1 and len(item) > JOIN_BYTES:
            pieces += [(bytes(frame), 1) for frame in codec.split(codec.array_header(count) + item)]
        else:
            pieces.append((item, count))
    return pieces
