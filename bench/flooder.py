"""Those who send as fast as they can, and come back when they are closed: used by `abuse`."""

from __future__ import annotations

import asyncio
import struct

from bench import wire
from protocol import codec, ids, messages

#: Frames of one flooder in one write, and seconds between two: 20,000 frames a second of each flooder, a hundred times what it
#: may. Seconds until it comes back when it was closed.
VOLLEY = 100
VOLLEY_EVERY_S = 0.005
BACK_AFTER_S = 0.2
#: A counter of today's clock as msgpack has it: a uint 64, big-endian.
_COUNTER = struct.Struct(">Q")


class Flooder(wire.Client):
    """Sends without end to the note to itself. A volley is one buffer in which only the counters change: making messages must
    not take the generator's time."""

    __slots__ = ("_counters_at", "_volley", "over")

    _volley: bytearray
    _counters_at: range
    over: asyncio.Future[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.over = asyncio.get_running_loop().create_future()
        super().connection_made(transport)

    def closed(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def load(self) -> None:
        """Make the volley."""
        stream = ids.direct_stream(self.user, self.user)
        message = wire.masked(codec.encode(messages.Send(1, self.counter, stream, wire.body())))
        self._volley = bytearray(message * VOLLEY)
        at = message.index(_COUNTER.pack(self.counter))
        self._counters_at = range(at, len(self._volley), len(message))

    def shoot(self) -> bool:
        """One volley, unless the socket takes no more: a flooder's own memory is not what is measured."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size() > 1 << 16:
            return False
        for at in self._counters_at:
            self.counter += 1
            _COUNTER.pack_into(self._volley, at, self.counter)
        self.transport.write(bytes(self._volley))
        return True


async def flood(connector: wire.Connector, index: int, sent: list[int]) -> None:
    """One flooder, until cancelled."""
    while True:
        try:
            flooder = await connector.open(Flooder, index)
        except (OSError, TimeoutError):
            await asyncio.sleep(BACK_AFTER_S)
            continue
        try:
            flooder.load()
            while not flooder.over.done():
                if flooder.shoot():
                    sent[0] += VOLLEY
                await asyncio.sleep(VOLLEY_EVERY_S)
        finally:
            flooder.end()
        await asyncio.sleep(BACK_AFTER_S)
