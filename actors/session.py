"""The session: all connected devices of one user.

It checks rate and size of what its devices ask, and tells it to the owner of the stream concerned. It takes what the fan-out
brings and offers it to each device, as that device stands in the stream: live or behind (`actors.state.reader`). It keeps each
device's cursors and writes them down in batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from actors import queries
from actors.commands import Attach, Command, Detach
from actors.messages import (
    Advanced,
    Answer,
    CutOff,
    Deliver,
    DeliverOwn,
    HasRead,
    Marked,
    Notice,
    Offline,
    Online,
    Persist,
    Persisted,
    Query,
    Typed,
    Unwatch,
    Watch,
)
from actors.receipts import Postponed
from actors.runtime import timers
from actors.runtime.actor import Actor
from actors.runtime.errors import ActorDeadError, MailboxFull, PipesFull, Quarantined
from actors.services import Services
from actors.sink import Sink
from actors.state import bodies, log, reader
from protocol import codec, codes, connection, events, ids, messages
from storage import errors, records

#: Seconds in which acknowledgements and read marks gather before cursors are written and one's other devices are told what was
#: read. What a crash loses of them comes again, and is dropped by the client.
GATHER_S = 1.0
#: Streams a device's position is remembered in without anything unacknowledged, before the oldest are forgotten.
MAX_READERS = 1024
#: Questions of one device that are being looked up at once; a client asks one page after the other.
MAX_QUERIES = 8
#: Pages of one device that are being read at once: enough to keep a disk busy, and the memory of a resume small. The streams
#: beyond take turns.
MAX_PAGES = 4
#: Devices of one user that are connected at once. One more is turned away.
MAX_DEVICES = 32
#: Seconds' worth of commands that an account may send at once; beyond, it is held to its rate.
BURST_S = 4.0
#: What a client is told to wait before it repeats what could not be taken.
RETRY_MS = 500
#: What a device beyond MAX_DEVICES is told to wait: another has to leave first.
FULL_RETRY_MS = 60_000


class _Gathered:
    """The time has come to write down what was gathered."""


_GATHERED = _Gathered()


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


class _Asked:
    """The answer to a question that was looked up: encoded frames, or why there is none."""

    __slots__ = ("device", "result", "rid")

    def __init__(self, device: Device, rid: int, result: Sequence[bytes] | BaseException) -> None:
        self.device = device
        self.rid = rid
        self.result = result


class Device:
    """One connected device. `readers` holds where it stands in each stream it was offered something of; `resuming` the streams
    that it has to reach the head of before it has caught up (None: the store has not said yet); `pages` counts those being
    read, `waiting` the streams that want one, in order."""

    __slots__ = ("id", "looking", "pages", "queries", "readers", "resuming", "sink", "told_caught_up", "waiting", "watching")

    def __init__(self, device: int, sink: Sink) -> None:
        self.id = device
        self.sink = sink
        self.readers: dict[bytes, reader.Reader] | None = None
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
            found = readers[stream] = reader.Reader(position)
            if self.resuming is None:
                found.live = False  # the store has yet to say whether the device lacks what stands before
            elif len(readers) > MAX_READERS:
                self._forget()
        return found

    def _forget(self) -> None:
        """Drop positions that the next event tells anew: nothing unacknowledged, nothing to be read."""
        readers = self.readers
        assert readers is not None
        for stream, each in list(readers.items())[: MAX_READERS // 2]:
            if each.live and each.acked == each.offered == each.head:
                del readers[stream]


class Session(Actor):
    """Temporary: it ends when its last device leaves; when it fails, its devices are closed and come back to a new one."""

    mailbox_limit: ClassVar[int] = 1024
    pipe_limit: ClassVar[int] = MAX_DEVICES * (1 + MAX_PAGES + MAX_QUERIES)

    __slots__ = (
        "_cursors",
        "_delivered",
        "_own_reads",
        "_paid",
        "_services",
        "_timer",
        "_to_resume",
        "_user",
        "devices",
        "writing",
    )

    def __init__(self, services: Services, user: int) -> None:
        super().__init__()
        self._services = services
        self._user = user
        self.devices: list[Device] = []
        self._cursors: dict[tuple[int, bytes], int] | None = None
        self._delivered: dict[bytes, int] | None = None
        self._own_reads: dict[bytes, int] | None = None
        self._timer: timers.Timer | None = None
        #: Writes that are under way, and devices that wait for them: what a device has acknowledged is not sent to it again.
        self.writing = 0
        self._to_resume: list[Device] | None = None
        #: When all that the account has asked so far is paid off at its rate (the generic cell rate algorithm).
        self._paid = 0.0

    def on_receive(self, message: Any) -> None:
        self._HANDLERS[type(message)](self, message)

    # --- devices come and go ------------------------------------------------------------------------------------------

    def _device(self, device: int) -> Device | None:
        for each in self.devices:
            if each.id == device:
                return each
        return None

    def _attach(self, message: Attach) -> None:
        services, admission, sink = self._services, message.admission, message.sink
        old = self._device(admission.device)
        if old is not None:
            self._let_go(old)
            old.sink.close(codes.REPLACED.code, codes.REPLACED.text)
            self._flush()
        elif len(self.devices) >= MAX_DEVICES:
            sink.close(codes.FULL.code, f"more than {MAX_DEVICES} devices of one account", FULL_RETRY_MS)
            return
        device = Device(admission.device, sink)
        if not self.devices:
            services.whereis("presence").tell_committed(Online(self._user))
        self.devices.append(device)
        welcome = messages.Welcome(
            message.rid,
            message.version,
            self._user.to_bytes(7, "big") + admission.device.to_bytes(7, "big"),
            self._user,
            admission.device,
            admission.name,
            admission.token,
            services.heartbeat_s,
            services.limits,
            services.clock(),
        )
        sink.reply(codec.encode(welcome))
        if admission.new_device:
            event = events.DeviceAdded(0, 0, 0, 0, 0, admission.device, admission.device_name)
            services.directory.tell_committed(ids.account_stream(self._user), log.Command(self._user, 0, event, 0))
        if self.writing:
            self._to_resume = [*(self._to_resume or ()), device]
        else:
            self._begin_resume(device)

    def _begin_resume(self, device: Device) -> None:
        try:
            self.pipe(self._services.store.behind(self._user, device.id), lambda behind: _Resume(device, behind))
        except PipesFull:
            device.sink.close(codes.SESSION_LOST.code, codes.SESSION_LOST.text, RETRY_MS)

    def _tell_self(self, message: Any) -> None:
        with contextlib.suppress(ActorDeadError):
            self.actor_ref.tell_committed(message)

    def _let_go(self, device: Device) -> None:
        """The device is gone from here; what its connection watched is forgotten with it."""
        self.devices.remove(device)
        if device.watching:
            self._services.whereis("presence").tell_committed(Unwatch(self._user, device.id))

    def _detach(self, message: Detach) -> None:
        device = self._device(message.device)
        if device is not None and device.sink is message.sink:
            self._leave(device)

    def _leave(self, device: Device) -> None:
        self._let_go(device)
        self._write_down([device])
        if not self.devices:
            services = self._services
            services.whereis("presence").tell_committed(Offline(self._user, services.clock()))
            self._retire()

    def _retire(self) -> None:
        self.actor_ref.runtime.loop.call_soon(self._services.directory.retire, self._user)

    def _write_down(self, leaving: Sequence[Device]) -> None:
        """What is known of devices that leave, and what was gathered so far."""
        now = self._services.clock()
        self._flush()
        self._persist([records.LastSeen(self._user, device.id, now) for device in leaving])

    def on_stop(self) -> None:
        if not self.devices:
            return
        # The node stops, or what this depends on is started anew.
        for device in self.devices:
            device.sink.close(codes.SESSION_LOST.code, codes.SESSION_LOST.text, RETRY_MS)
        with contextlib.suppress(ActorDeadError, LookupError):
            self._write_down(self.devices)

    def _cut_off(self, message: CutOff) -> None:
        """For good: what these devices ask from now on is not heard, and nothing of them is written down any more."""
        for device in list(self.devices):
            if message.device in (0, device.id) and device.id != message.except_device:
                device.sink.close(message.close.code, message.close.text)
                if device in self.devices:  # closing may have told of the end already
                    self._cursors = {key: seq for key, seq in (self._cursors or {}).items() if key[0] != device.id} or None
                    self._leave(device)

    def on_failure(self, *_: Any) -> None:
        for device in self.devices:
            device.sink.close(codes.SESSION_LOST.code, codes.SESSION_LOST.text, RETRY_MS)
        with contextlib.suppress(ActorDeadError, LookupError):
            presence = self._services.whereis("presence")
            for device in self.devices:
                if device.watching:
                    presence.tell_committed(Unwatch(self._user, device.id))
            if self.devices:
                presence.tell_committed(Offline(self._user, self._services.clock()))

    # --- resume and delivery ------------------------------------------------------------------------------------------

    def _resume(self, message: _Resume) -> None:
        device, behind = message.device, message.behind
        if device not in self.devices:
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
            # The operator is told by the store. Until it is repaired this stream stands still; the others need not.
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

    # --- acknowledgements ---------------------------------------------------------------------------------------------

    def _ack(self, device: Device, frame: messages.Ack) -> None:
        for stream, seq in frame.cursors:
            place = device.readers.get(stream) if device.readers is not None else None
            if place is None or not place.acknowledge(seq):
                continue
            self._gather()
            if self._cursors is None:
                self._cursors = {}
            self._cursors[device.id, stream] = place.acked
            if stream[0] != ids.Kind.ACCOUNT:
                self._has(stream, place.acked)
            if not place.live:
                self._read_on(device, stream)

    def _has(self, stream: bytes, seq: int) -> None:
        """The first of the user's devices that has a message moves the user's watermark."""
        if self._delivered is None:
            self._delivered = {}
        if seq > self._delivered.get(stream, 0):
            self._delivered[stream] = seq
            if len(self._delivered) > MAX_READERS:
                del self._delivered[next(iter(self._delivered))]
            self._mark_delivered(stream, seq)

    def _mark_delivered(self, stream: bytes, seq: int) -> None:
        """Tell the stream. One that sleeps is woken later, if somebody is there to hear of it; the mark is stored."""
        services, user = self._services, self._user
        if services.directory.tell_awake(stream, Marked(user, seq, 0)):
            return
        self._persist([records.Mark(stream, user, seq, 0)])
        others = ids.parties(stream) if stream[0] == ids.Kind.DIRECT else ()
        if not others or any(other != user and other in services.directory.sessions for other in others):
            services.whereis("receipts").tell_committed(Postponed(stream, user, seq))

    def _gather(self) -> None:
        if self._timer is None:
            self._timer = self.schedule(GATHER_S, _GATHERED)

    def _flush(self, _: _Gathered = _GATHERED) -> None:
        """Write the cursors that moved, and tell one's other devices what was read."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        cursors, self._cursors = self._cursors, None
        if cursors:
            self._persist([records.Cursor(self._user, device, stream, seq) for (device, stream), seq in cursors.items()])
        reads, self._own_reads = self._own_reads, None
        for stream, seq in (reads or {}).items():
            event = events.OwnRead(0, 0, 0, 0, 0, stream, seq)
            account = ids.account_stream(self._user)
            self._services.directory.tell_committed(account, log.Command(self._user, 0, event, 0))

    def _persist(self, writes: Sequence[records.Write]) -> None:
        self.writing += 1
        self._services.whereis("writer").tell_committed(Persist(writes, self.actor_ref))

    def _persisted(self, _: Persisted) -> None:
        """Written, or not: cursors that are lost cost a repeat."""
        self.writing -= 1
        if self.writing:
            return
        waiting, self._to_resume = self._to_resume, None
        for device in waiting or ():
            if device in self.devices:
                self._begin_resume(device)
        if not self.devices:
            self._retire()

    # --- commands -----------------------------------------------------------------------------------------------------

    def _command(self, message: Command) -> None:
        device = self._device(message.device)
        if device is None:
            return
        frame = message.frame
        if type(frame) is messages.Ack:
            self._ack(device, frame)
            return
        try:
            self._pay()
            if isinstance(frame, messages.Change):
                self._change(device, frame, message.digest)
            else:
                handler = self._FRAMES.get(type(frame))
                if handler is not None:
                    handler(self, device, frame)
                else:
                    self._ask(device, frame)
        except codes.Refused as refused:
            self._refuse(device, frame.rid, refused)
        except ids.BadStream as error:
            self._refuse(device, frame.rid, _not_a_stream(error))
        except (MailboxFull, PipesFull):
            self._refuse(device, frame.rid, codes.Refused(codes.BUSY, retry_after_ms=RETRY_MS))
        except Quarantined as error:
            wait_ms = int(error.retry_after_s * 1000) + 1
            self._refuse(device, frame.rid, codes.Refused(codes.UNAVAILABLE, retry_after_ms=wait_ms))

    def _pay(self) -> None:
        """Hold the account, all its devices together, to its rate."""
        now = self.actor_ref.runtime.clock()
        paid = max(self._paid, now) + 1.0 / self._services.commands_per_s
        if paid - now > BURST_S:
            self._services.telemetry.limited["account"] += 1
            raise codes.Refused(codes.RATE_LIMITED, retry_after_ms=int((paid - now - BURST_S) * 1000) + 1)
        self._paid = paid

    def _refuse(self, device: Device, rid: int, refused: codes.Refused) -> None:
        self._services.telemetry.errors[refused.error.symbol] += 1
        device.sink.reply(codec.encode(connection.error_frame(rid, refused)))

    def _change(self, device: Device, frame: messages.Change, digest: int) -> None:
        """A state-changing command: to the owner of its stream."""
        mentions: tuple[int, ...] = ()
        kind = type(frame)
        if kind is messages.Send or kind is messages.Edit:
            mentions = bodies.check(frame.body, self._services.limits.body)  # type: ignore[attr-defined]
        stream = self._stream_of(device, frame)
        self._services.directory.tell(stream, log.Command(self._user, device.id, frame, digest, mentions))

    def _stream_of(self, device: Device, frame: messages.Change) -> bytes:
        if type(frame) is messages.CreateGroup:
            if frame.counter < 1:
                raise codes.Refused(codes.COUNTER_MISSING)
            return ids.group_stream(device.id, frame.counter)
        if type(frame) in _OF_ACCOUNT:
            return ids.account_stream(self._user)
        stream: bytes = frame.stream  # type: ignore[attr-defined]
        self._check_stream(stream)
        return stream

    def _check_stream(self, stream: bytes) -> None:
        """A client names conversations and groups; of conversations, its own (others' are not even woken)."""
        kind = ids.kind(stream)
        if kind is ids.Kind.ACCOUNT or (kind is ids.Kind.DIRECT and self._user not in ids.parties(stream)):
            raise codes.Refused(codes.NOT_ALLOWED)

    def _read(self, device: Device, frame: messages.Read) -> None:
        """To the owner, which alone knows whether the user is a member and where the stream ends."""
        self._check_stream(frame.stream)
        self._services.directory.tell(frame.stream, Marked(self._user, 0, frame.seq, device.id, frame.rid))

    def _has_read(self, message: HasRead) -> None:
        """The own read mark has moved; the other devices are told once in a while."""
        self._gather()
        if self._own_reads is None:
            self._own_reads = {}
        self._own_reads[message.stream] = max(message.seq, self._own_reads.get(message.stream, 0))

    def _typing(self, device: Device, frame: messages.Typing) -> None:
        self._check_stream(frame.stream)
        self._services.directory.tell_awake(frame.stream, Typed(self._user, frame.on))

    def _look(self, device: Device, frame: messages.Look) -> None:
        if frame.stream:
            self._check_stream(frame.stream)
        device.looking = frame.stream

    def _watch(self, device: Device, frame: messages.WatchPresence) -> None:
        device.watching = True
        presence = self._services.whereis("presence")
        presence.tell_committed(Watch(self._user, device.id, frame.add, frame.drop, frame.rid))

    def _open(self, device: Device, frame: messages.Open) -> None:
        stream = ids.direct_stream(self._user, frame.user)
        self._services.directory.tell(stream, Query(self._user, device.id, frame))

    def _of_stream(self, device: Device, frame: Any) -> None:
        self._check_stream(frame.stream)
        self._services.directory.tell(frame.stream, Query(self._user, device.id, frame))

    def _logout(self, device: Device, frame: messages.Logout) -> None:
        command = log.Command(self._user, 0, messages.RevokeDevice(0, 0, device.id), 0)
        self._services.directory.tell(ids.account_stream(self._user), command)

    def _ask(self, device: Device, frame: messages.ClientFrame) -> None:
        """A question that the store answers."""
        if device.queries >= MAX_QUERIES:
            text = f"more than {MAX_QUERIES} questions at once"
            raise codes.Refused(codes.RATE_LIMITED, text, RETRY_MS)
        answer: Awaitable[Sequence[bytes]] = queries.answer(self._services, self._user, frame)
        self.pipe(answer, lambda result: _Asked(device, frame.rid, result))
        device.queries += 1

    def _asked(self, message: _Asked) -> None:
        device, result = message.device, message.result
        device.queries -= 1
        if device not in self.devices:
            return
        if isinstance(result, codes.Refused):
            self._refuse(device, message.rid, result)
        elif isinstance(result, ids.BadStream):
            self._refuse(device, message.rid, _not_a_stream(result))
        elif isinstance(result, errors.StorageError):
            self._refuse(device, message.rid, codes.Refused(codes.UNAVAILABLE, retry_after_ms=RETRY_MS))
        elif isinstance(result, BaseException):
            raise result
        else:
            for frame in result:
                device.sink.reply(frame)

    _HANDLERS: ClassVar[dict[type, Callable[[Session, Any], None]]] = {
        Command: _command,
        Deliver: _deliver,
        Advanced: _advanced,
        HasRead: _has_read,
        DeliverOwn: _deliver_own,
        Answer: _answer,
        Notice: _notice,
        Attach: _attach,
        Detach: _detach,
        CutOff: _cut_off,
        _Resume: _resume,
        _PageRead: _page_read,
        _Drained: _drained,
        _Asked: _asked,
        _Gathered: _flush,
        Persisted: _persisted,
    }
    _FRAMES: ClassVar[dict[type, Callable[[Session, Device, Any], None]]] = {
        messages.Read: _read,
        messages.Typing: _typing,
        messages.Look: _look,
        messages.WatchPresence: _watch,
        messages.Open: _open,
        messages.Info: _of_stream,
        messages.FetchGroup: _of_stream,
        messages.FetchMembers: _of_stream,
        messages.FetchGroupAdmin: _of_stream,
        messages.Logout: _logout,
    }


#: Commands that become events of the account stream: all from SetProfile on (see `protocol.messages`).
_OF_ACCOUNT = frozenset(
    kind
    for kind in messages.ClientFrame.__args__
    if issubclass(kind, messages.Change) and messages.number_of(kind) >= messages.number_of(messages.SetProfile)
)


def _not_a_stream(error: ids.BadStream) -> codes.Refused:
    return codes.Refused(codes.NOT_ALLOWED, f"stream: {error}")


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
