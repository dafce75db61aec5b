"""Delivery: what reaches the devices of one user, and how each of them stands in each stream.

A device that is live is offered events as they commit; one that is behind has pages read for it from the store, as it
acknowledges, a few streams at a time, until it meets the head (`actors.state.reader`). A device that comes back is behind in
what the store names, and has caught up when it has met all those heads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from actors.commands import Command
from actors.messages import Advanced, Answer, Deliver, DeliverOwn, Notice
from actors.runtime.actor import Actor
from actors.runtime.errors import ActorDeadError, PipesFull
from actors.services import Services
from actors.sink import Sink
from actors.state import reader
from protocol import codec, codes, connection, messages
from storage import errors, records

#: Streams a device's position is remembered in, before those without anything unacknowledged are forgotten.
MAX_READERS = 1024
#: Pages of one device that are being read at once: enough to keep a disk busy, and the memory of a resume small. The streams
#: beyond take turns.
MAX_PAGES = 4
#: What a client is told to wait before it comes back, or repeats what could not be taken.
RETRY_MS = 500


class _Resume:
    """What the store says a device is behind in, or why it does not say."""

    __slots__ = ("behind", "device")

    def __init__(self, device: Device, behind: Sequence[records.Behind] | BaseException) -> None:
        self.device = device
        self.behind = behind


class _PageRead:
    """For a device that is behind: events (a list), the intervals that may be read (a tuple), or why there is neither."""

    __slots__ = ("device", "found", "stream")

    def __init__(self, device: Device, stream: bytes, found: Any) -> None:
        self.device = device
        self.stream = stream
        self.found = found


class _Drained:
    """A device's outlet has room again."""

    __slots__ = ("device",)

    def __init__(self, device: Device) -> None:
        self.device = device


class Device:
    """One connected device. `readers` holds where it stands in each stream it was offered something of; `resuming` the streams
    that it has to reach the head of before it has caught up (None: the store has not said yet, and its commands are `held`);
    `pages` counts those being read, `waiting` the streams that want one, in order."""

    __slots__ = (
        "held",
        "id",
        "looking",
        "most_readers",
        "pages",
        "queries",
        "readers",
        "resuming",
        "sink",
        "told_caught_up",
        "waiting",
        "watching",
    )

    def __init__(self, device: int, sink: Sink) -> None:
        self.id = device
        self.sink = sink
        self.held: list[Command] | None = None
        self.readers: dict[bytes, reader.Reader] | None = None
        self.most_readers = MAX_READERS
        self.resuming: dict[bytes, int] | None = None
        self.told_caught_up = False
        self.looking = b""
        self.queries = 0
        self.pages = 0
        self.waiting: dict[bytes, None] | None = None
        self.watching = False

    def reader(self, stream: bytes, position: int) -> reader.Reader:
        """Where the device stands in a stream; at `position` if nothing is known."""
        readers = self.readers
        if readers is None:
            readers = self.readers = {}
        found = readers.get(stream)
        if found is None:
            if self.resuming is not None and len(readers) >= self.most_readers:
                self._forget()
            found = readers[stream] = reader.Reader(position)
            if self.resuming is None:
                found.live = False  # the store has yet to say whether the device lacks what stands before
        return found

    def _forget(self) -> None:
        """Drop positions that the next event tells anew: nothing unacknowledged, nothing to be read. When there are few of
        them, look again only when there are twice as many: a device may be behind in any number of streams."""
        readers = self.readers
        assert readers is not None
        for stream, each in list(readers.items()):
            if each.live and each.acked == each.offered == each.head:
                del readers[stream]
        self.most_readers = max(MAX_READERS, 2 * len(readers))


class Delivery(Actor):
    """The part of a session that looks outwards. `devices` are those connected now."""

    __slots__ = ("_services", "_user", "devices")

    def __init__(self, services: Services, user: int) -> None:
        super().__init__()
        self._services = services
        self._user = user
        self.devices: list[Device] = []

    def _device(self, device: int) -> Device | None:
        for each in self.devices:
            if each.id == device:
                return each
        return None

    # --- resume -------------------------------------------------------------------------------------------------------

    def _begin_resume(self, device: Device) -> None:
        try:
            self.pipe(self._services.store.behind(self._user, device.id), lambda behind: _Resume(device, behind))
        except PipesFull:
            device.sink.close(codes.SESSION_LOST.code, codes.SESSION_LOST.text, RETRY_MS)

    def _tell_self(self, message: Any) -> None:
        with contextlib.suppress(ActorDeadError):
            self.actor_ref.tell_committed(message)

    def _resume(self, message: _Resume) -> None:
        device, behind = message.device, message.behind
        if device not in self.devices:
            return
        if isinstance(behind, errors.NoSuch):
            # It was revoked after its token had been checked, and cut off before it was here.
            device.sink.close(codes.REVOKED.code, codes.REVOKED.text)
            return
        if isinstance(behind, BaseException):
            if not isinstance(behind, errors.StorageError):
                raise behind
            device.sink.close(codes.SESSION_LOST.code, "the store does not answer", RETRY_MS)
            return
        device.resuming = {each.stream: each.head for each in behind}
        for each in behind:
            device.reader(each.stream, each.cursor).become_behind(each.cursor, each.head, each.intervals)
        for stream in list(device.readers or ()):
            self._read_on(device, stream)
        self._caught_up(device)
        self.resumed(device)

    def resumed(self, device: Device) -> None:
        """The store knows the device, and has said what it lacks."""
        raise NotImplementedError

    def _caught_up(self, device: Device) -> None:
        if not device.told_caught_up and device.resuming is not None and not device.resuming:
            device.told_caught_up = True
            device.sink.reply(codec.encode(messages.CaughtUp(0)))
            self._services.telemetry.resumes += 1

    def _deliver(self, message: Deliver) -> None:
        size = len(message.frames)
        count = message.last - message.first + 1
        for device in self.devices:
            place = device.reader(message.stream, message.first - 1)
            if place.committed(message.first, message.last, size):
                if device.sink.offer(message.frames, count):
                    place.offered_to(message.last, size)
                    self._services.telemetry.deliveries += count
                else:
                    self._refused(device, place)
            elif not place.live:
                self._read_on(device, message.stream)

    def _refused(self, device: Device, place: reader.Reader) -> None:
        """The device's outlet is full; it says so once when it has room again."""
        place.refused()
        device.sink.on_drained = lambda: self._tell_self(_Drained(device))

    def _advanced(self, message: Advanced) -> None:
        """Events were stored without having been delivered."""
        for device in self.devices:
            place = device.reader(message.stream, message.first - 1)
            if place.has_more(message.last):
                self._read_on(device, message.stream)

    def _deliver_own(self, message: DeliverOwn) -> None:
        """A burst with events of this user: the device that sent one gets `Sent` in its place."""
        parts = message.parts
        first, last = parts[0][0], parts[-1][0]
        for device in self.devices:
            place = device.reader(message.stream, first - 1)
            frames = b"".join([sent if sender == device.id else frame for _, sender, frame, sent in parts])
            if place.committed(first, last, len(frames)):
                if device.sink.offer(frames, len(parts)):
                    place.offered_to(last, len(frames))
                    self._services.telemetry.deliveries += len(parts)
                    continue
                self._refused(device, place)
            # The events come from the store later, in order; what the device waits for is told at once.
            for _, sender, _, sent in parts:
                if sender == device.id:
                    device.sink.reply(sent)
            self._read_on(device, message.stream)

    def _read_on(self, device: Device, stream: bytes) -> None:
        """Let a device that is behind in a stream have its next page, if there is one and it has room."""
        if device.resuming is None or device.readers is None:
            return
        place = device.readers.get(stream)
        if place is None:
            return
        room = place.room()
        if room is None:
            if place.live and stream in device.resuming:
                del device.resuming[stream]
                self._caught_up(device)
        elif device.pages >= MAX_PAGES:
            if device.waiting is None:
                device.waiting = {}
            device.waiting[stream] = None
        else:
            try:
                self._begin_page(device, stream, place, *room)
            except PipesFull:
                self._lose(device, "too much is being read")

    def _lose(self, device: Device, why: str) -> None:
        """Nothing more can be read for a device now. It comes back, and hears then of what it lacks."""
        device.sink.close(codes.SESSION_LOST.code, why, RETRY_MS)

    def _next_page(self, device: Device) -> None:
        """Let the stream that has waited longest read on."""
        while device.waiting and device.pages < MAX_PAGES:
            stream = next(iter(device.waiting))
            del device.waiting[stream]
            self._read_on(device, stream)

    def _begin_page(self, device: Device, stream: bytes, place: reader.Reader, max_events: int, max_bytes: int) -> None:
        """Read what comes next of what the user may read; first, which that is, where it is not known."""
        store = self._services.store
        if place.intervals is None:
            place.known = place.head
            self.pipe(store.memberships(self._user, stream), lambda found: _PageRead(device, stream, found))
        else:
            stretch = place.stretch()
            if stretch is None:
                self._read_on(device, stream)  # nothing up to the head: it has met it
                return
            rows = store.range(stream, *stretch, max_events, max_bytes)
            self.pipe(rows, lambda found: _PageRead(device, stream, found))
        device.pages += 1
        place.reading = True

    def _page_read(self, message: _PageRead) -> None:
        device, stream, found = message.device, message.stream, message.found
        device.pages -= 1
        if device not in self.devices or device.readers is None:
            return
        place = device.readers[stream]
        place.reading = False
        if isinstance(found, errors.Damaged):
            # The operator is told by the store. Until it is repaired this stream stands still, and the device is told so; the
            # others need not.
            text = f"stream {stream.hex()} cannot be read"
            device.sink.reply(codec.encode(connection.error_frame(0, codes.Refused(codes.UNAVAILABLE, text))))
            if device.resuming is not None and device.resuming.pop(stream, None) is not None:
                self._caught_up(device)
        elif isinstance(found, errors.StorageError):
            self._lose(device, "the store does not answer")
            return
        elif isinstance(found, BaseException):
            raise found
        elif type(found) is tuple:
            place.intervals = found
            self._read_on(device, stream)
        elif not found:
            self._lose(device, "the store lacks what was told")
        elif self._offer_page(device, stream, place, found):
            if device.waiting and place.room() is not None:
                device.waiting[stream] = None
            else:
                self._read_on(device, stream)
        self._next_page(device)

    def _offer_page(self, device: Device, stream: bytes, place: reader.Reader, rows: Sequence[records.Event]) -> bool:
        """Whether the outlet took it; if not, it goes on when it has drained."""
        place.intervals = None  # they may change while the device reads on
        encoded, last = _encode(stream, rows, self._services.clock(), place.space())
        frames = b"".join(encoded)
        if not device.sink.offer(frames, len(encoded)):
            self._refused(device, place)
            return False
        place.offered_to(last, len(frames))
        self._services.telemetry.deliveries += len(rows)
        return True

    def _drained(self, message: _Drained) -> None:
        if message.device in self.devices:
            for stream in list(message.device.readers or ()):
                self._read_on(message.device, stream)

    def _notice(self, message: Notice) -> None:
        for device in self.devices:
            if message.device not in (0, device.id) or (message.looking and device.looking != message.looking):
                continue
            if message.key is None:
                device.sink.offer_ephemeral(message.frame)
            else:
                device.sink.offer_latest(message.key, message.frame)

    def _answer(self, message: Answer) -> None:
        device = self._device(message.device)
        if device is not None:
            device.sink.reply(message.frame)

    HANDLERS: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        Deliver: _deliver,
        Advanced: _advanced,
        DeliverOwn: _deliver_own,
        Answer: _answer,
        Notice: _notice,
        _Resume: _resume,
        _PageRead: _page_read,
        _Drained: _drained,
    }


def _encode(stream: bytes, rows: Sequence[records.Event], now: int, space: int) -> tuple[list[bytes], int]:
    """Stored events as frames, as many as fit into `space` bytes and at least one, and the seq of the last. Runs of expired
    ones, swept or not, are joined into one Gone."""
    frames: list[bytes] = []
    encode = codec.event_encoder(stream)
    gone = last = size = 0  # gone: the first seq of the run
    for row in rows:
        if 0 < row.expires_at <= now:
            gone = gone or row.seq
            last = row.seq
            continue
        frame = encode(row.seq, row.data)
        size += len(frame)
        if last and size > space:
            break
        if gone:
            frames.append(codec.encode(messages.Gone(0, stream, gone, last)))
            gone = 0
        frames.append(frame)
        last = row.seq
    if gone:
        frames.append(codec.encode(messages.Gone(0, stream, gone, last)))
    return frames, last
