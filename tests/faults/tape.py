"""Records what a device of the Python client sends and receives, at the seam where whole messages come and go."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from client import own
from client.client import Client
from protocol import codec, events, messages
from tests.checker import history

#: The clock of every tape.
now: Callable[[], float] = time.monotonic


class Tape:
    """`reached`: the highest seq per stream that came, as a frame or as an answer. `device` is part of `seen` from the first
    Welcome on."""

    def __init__(self, client: Client, seen: history.History) -> None:
        self.device = history.Device(0, 0)
        self.reached: dict[bytes, int] = {}
        self.answers = 0
        self.connections = 0
        self.refusals: dict[int, int] = {}
        self._seen = seen
        self._streams: dict[int, tuple[bytes, int]] = {}  # rid -> stream, counter
        core: Any = client._core
        receive, outgoing, closing, disconnected = core.receive, core.outgoing, core.closing, core.disconnected

        def tapped_receive(data: bytes, at: float) -> Any:
            for frame in codec.decode_server_message(data):
                self._came(frame)
            return receive(data, at)

        def tapped_outgoing(at: float) -> Any:
            return self._went(outgoing(at))

        def tapped_closing(at: float) -> Any:
            return self._went(closing(at))

        def tapped_disconnected(code: int, reason: str, at: float) -> Any:
            self.device.entries.append(history.Disconnected(now()))
            return disconnected(code, reason, at)

        core.receive, core.outgoing, core.closing = tapped_receive, tapped_outgoing, tapped_closing
        core.disconnected = tapped_disconnected

    def _went(self, out: list[bytes]) -> list[bytes]:
        for data in out:
            for raw in codec.split(data) if codec.is_batch(data) else (data,):
                self._sent(bytes(raw))
        return out

    def _sent(self, raw: bytes) -> None:
        frame = codec.decode_client(raw)
        put = self.device.entries.append
        if isinstance(frame, messages.Ack):
            for stream, seq in frame.cursors:
                put(history.Marked(now(), stream, seq))
        elif isinstance(frame, messages.Read):
            put(history.Marked(now(), frame.stream, frame.seq))
        elif isinstance(frame, messages.Change) and not getattr(frame, "flags", 0) & events.Flag.EPHEMERAL:
            stream = own.stream_of(frame, self.device.user, self.device.id)
            self._streams[frame.rid] = (stream, frame.counter)
            put(history.Asked(now(), stream, frame.counter, raw))

    def _came(self, frame: messages.ServerFrame) -> None:
        put = self.device.entries.append
        match frame:
            case messages.Welcome():
                self.device.user, self.device.id = frame.user, frame.device
                self._seen.devices[frame.device] = self.device
                self.connections += 1
                put(history.Connected(now()))
            case messages.Event():
                put(history.Got(now(), frame.stream, frame.seq, bytes(frame.event)))
                self._reach(frame.stream, frame.seq)
            case messages.Gone() if not frame.rid:
                put(history.Erased(now(), frame.stream, frame.first, frame.last))
                self._reach(frame.stream, frame.last)
            case messages.Sent() if frame.rid in self._streams:
                stream, counter = self._streams[frame.rid]
                put(history.Stored(now(), counter, frame.seq, frame.n, frame.time))
                self._reach(stream, frame.seq)
                self.answers += 1
            case messages.Error() if frame.rid in self._streams:
                self.refusals[frame.number] = self.refusals.get(frame.number, 0) + 1
                put(history.Refused(now(), self._streams[frame.rid][1], frame.number))
                self.answers += 1
            case messages.Receipt():
                put(history.Receipt(now(), frame.stream, frame.user, frame.delivered, frame.read))
            case _:
                pass

    def _reach(self, stream: bytes, seq: int) -> None:
        self.reached[stream] = max(self.reached.get(stream, 0), seq)
