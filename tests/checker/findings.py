"""What a check found, and the history prepared so that every check can look things up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from protocol import events
from tests.checker import history, model


@dataclass(slots=True, frozen=True)
class Finding:
    """One broken promise. `check` is its name: K1 ... K11, as in `checks.py`."""

    check: str
    text: str
    stream: bytes = b""
    seq: int = 0
    device: int = 0

    def __str__(self) -> str:
        where = f" stream {self.stream.hex()}" if self.stream else ""
        where += f" seq {self.seq}" if self.seq else ""
        where += f" device {self.device}" if self.device else ""
        return f"{self.check}{where}: {self.text}"


@dataclass(slots=True, frozen=True)
class Stored:
    """A stored row, decoded."""

    seq: int
    epoch: int
    data: bytes
    event: events.AnyEvent


class Case:
    """A history, indexed. `logs`: rows decoded, in order of seq. `commands`: by (device, counter)."""

    def __init__(self, seen: history.History) -> None:
        self.seen = seen
        self.logs = {
            stream: [Stored(row.seq, row.epoch, row.data, events.decode(row.data)) for row in rows]
            for stream, rows in seen.rows.items()
        }
        self.by_seq = {stream: {row.seq: row for row in log} for stream, log in self.logs.items()}
        self.intervals = {
            stream: model.intervals(stream, [(row.seq, row.event) for row in log]) for stream, log in self.logs.items()
        }
        self.commands = {
            (device.id, counter): command
            for device in seen.devices.values()
            for counter, command in history.commands(device).items()
        }

    def row(self, stream: bytes, seq: int) -> Stored | None:
        return self.by_seq.get(stream, {}).get(seq)

    def may_read(self, user: int, stream: bytes, seq: int) -> bool:
        own = self.intervals.get(stream, {}).get(user, [])
        return model.may_read(own, seq)

    def readable(self, device: history.Device, stream: bytes) -> Iterator[int]:
        """The seqs that the device has to get, in order."""
        since = device.since.get(stream, 0)
        own = self.intervals[stream].get(device.user, [])
        return (row.seq for row in self.logs[stream] if row.seq > since and model.may_read(own, row.seq))


def stream_of_answers(device: history.Device) -> dict[int, bytes]:
    """counter -> the stream that numbers the command."""
    return {entry.counter: entry.stream for entry in device.entries if isinstance(entry, history.Asked)}
