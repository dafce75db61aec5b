"""The session: all connected devices of one user.

It checks rate and size of what its devices ask, and tells it to the owner of the stream concerned. What the fan-out brings it
delivers as `actors.delivery` says. It keeps each device's cursors and writes them down in batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from actors import delivery, queries
from actors.commands import Attach, Command, Detach
from actors.delivery import RETRY_MS, Device
from actors.messages import (
    CutOff,
    HasRead,
    Marked,
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
from actors.runtime.errors import ActorDeadError, MailboxFull, PipesFull, Quarantined
from actors.services import Services
from actors.state import bodies, log
from protocol import codec, codes, connection, events, ids, messages
from storage import errors, records

#: Seconds in which acknowledgements and read marks gather before cursors are written and one's other devices are told what was
#: read. What a crash loses of them comes again, and is dropped by the client.
GATHER_S = 1.0
#: Streams whose newest acknowledged seq is remembered, so that only the first device that has a message moves the watermark.
MAX_DELIVERED = 1024
#: Questions of one device that are being looked up at once; a client asks one page after the other.
MAX_QUERIES = 8
#: Commands of a device that wait until the store knows it: as many as a client may send behind its Hello.
MAX_HELD = 64
#: Devices of one user that are connected at once. One more is turned away.
MAX_DEVICES = 32
#: Seconds' worth of commands that an account may send at once; beyond, it is held to its rate.
BURST_S = 4.0
#: What a device beyond MAX_DEVICES is told to wait: another has to leave first.
FULL_RETRY_MS = 60_000


class _Gathered:
    """The time has come to write down what was gathered."""


_GATHERED = _Gathered()


class _Asked:
    """The answer to a question that was looked up: encoded frames, or why there is none."""

    __slots__ = ("device", "result", "rid")

    def __init__(self, device: Device, rid: int, result: Sequence[bytes] | BaseException) -> None:
        self.device = device
        self.rid = rid
        self.result = result


class Session(delivery.Delivery):
    """Temporary: it ends when its last device leaves; when it fails, its devices are closed and come back to a new one."""

    mailbox_limit: ClassVar[int] = 1024
    pipe_limit: ClassVar[int] = MAX_DEVICES * (1 + delivery.MAX_PAGES + MAX_QUERIES)

    __slots__ = (
        "_cursors",
        "_delivered",
        "_own_reads",
        "_paid",
        "_timer",
        "_to_resume",
        "writing",
    )

    def __init__(self, services: Services, user: int) -> None:
        super().__init__(services, user)
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
        try:
            self._HANDLERS[type(message)](self, message)
        except BaseException:
            # Devices that were about to come in: nobody else would tell them.
            for each in (message, *self.actor_ref.waiting()):
                if type(each) is Attach:
                    each.sink.close(codes.SESSION_LOST.code, codes.SESSION_LOST.text, RETRY_MS)
            raise

    # --- devices come and go ------------------------------------------------------------------------------------------

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
            incarnation=services.store.incarnation,
        )
        sink.reply(codec.encode(welcome))
        if self.writing:
            self._to_resume = [*(self._to_resume or ()), device]
        else:
            self._begin_resume(device)

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
            if len(self._delivered) > MAX_DELIVERED:
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
            event = events.OwnRead(*events.UNFILLED, stream, seq)
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
        if device.resuming is None:
            self._hold(device, message)
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
        except ActorDeadError:  # the owner is being stopped
            self._refuse(device, frame.rid, codes.Refused(codes.UNAVAILABLE, retry_after_ms=RETRY_MS))
        except Quarantined as error:
            wait_ms = int(error.retry_after_s * 1000) + 1
            self._refuse(device, frame.rid, codes.Refused(codes.UNAVAILABLE, retry_after_ms=wait_ms))

    def _hold(self, device: Device, message: Command) -> None:
        """Until the store has said that the device (still) exists, and what it lacks."""
        if device.held is None:
            device.held = []
        if len(device.held) < MAX_HELD:
            device.held.append(message)
        elif type(message.frame) is not messages.Ack:  # a later one says the same
            self._refuse(device, message.frame.rid, codes.Refused(codes.BUSY, retry_after_ms=RETRY_MS))

    def resumed(self, device: Device) -> None:
        held, device.held = device.held, None
        for message in held or ():
            self._command(message)

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
        self._services.whereis("presence").tell(Watch(self._user, device.id, frame.add, frame.drop, frame.rid))

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
        # Half of the room that those before it leave: so all that are looked up at once fit into the outlet together. One that
        # is full already gets the shortest answer there is.
        space = max(1, min(self._services.page_bytes, device.sink.spare >> (device.queries + 1)))
        answer: Awaitable[Sequence[bytes]] = queries.answer(self._services, self._user, frame, space)
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

    _HANDLERS: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        **delivery.Delivery.HANDLERS,
        Command: _command,
        HasRead: _has_read,
        Attach: _attach,
        Detach: _detach,
        CutOff: _cut_off,
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
