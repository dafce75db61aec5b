"""The incoming half: which events the application gets, in which order, and what is acknowledged when.

Per stream the seqs given out rise by one. What arrives again is dropped by its seq. Own events (made from `Sent`) take
their place among the others; one that comes early waits for those before it, and so does everything behind an own event
that is still being fetched. Time is a monotonic clock in seconds, given with each call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from client import errors, own
from client.updates import Numbered, StreamEvent, StreamGone
from protocol import events, ids, messages

#: Seconds between two acknowledgements of a stream (docs/protocol.md, Acknowledging), and in groups above LARGE members.
ACK_S = 0.1
ACK_LARGE_S = 1.0
LARGE = 32
#: Streams named by one Ack frame: the limit of `messages.Ack.cursors`.
MAX_CURSORS = 256
#: Breaches of the contract that are remembered, the newest: enough to see what is wrong.
VIOLATIONS = 100


class _Stream:
    """`high`: highest seq given out. `sure`: the next one must be high + 1; not so before the first one of this run (a new
    device begins at the head, a stored cursor may be older than the server's). `taken`, `acked`: by the application, to the
    server. `early`: what waits for seqs before it, or for the fields that are being fetched. `begun`: the own
    event that the stream began with, if it did; `late`: the highest seq of those before it that came after all. `inside`: by
    what was given out, this user is a member; who is not, is told nothing until an own event or an entrance."""

    __slots__ = ("acked", "begun", "bytes", "early", "high", "inside", "late", "n", "sure", "taken", "time")

    def __init__(self, high: int = 0) -> None:
        self.high = high
        self.sure = False
        self.taken = high
        self.acked = high
        self.bytes = 0
        self.begun = 0
        self.late = 0
        self.inside = True
        self.n = -1
        self.time = 0
        self.early: dict[int, StreamEvent] | None = None


class Inflow:
    """`strict`: raise ProtocolViolation where the server breaks the contract; otherwise `violations` collects the texts.
    `unsized`: groups from which something came and of which nobody knows how large they are; whoever asks takes them out."""

    def __init__(self, strict: bool = False) -> None:
        self.user = 0
        self.violations: deque[str] = deque(maxlen=VIOLATIONS)
        self.window_events = 256
        self.window_bytes = 256 * 1024
        self._strict = strict
        self._caught_up = False
        self._streams: dict[bytes, _Stream] = {}
        self._sizes: dict[bytes, int] = {}
        self.unsized: list[bytes] = []
        self._fetching: set[tuple[bytes, int]] = set()
        self._dirty: dict[bytes, _Stream] = {}
        self._due: float | None = None
        self._void = 0

    def restore(self, cursors: Iterable[tuple[bytes, int]]) -> None:
        """What the application had taken in an earlier run."""
        self._streams = {stream: _Stream(seq) for stream, seq in cursors}

    def begin_anew(self) -> None:
        """The server was set back to an earlier moment, so what is known of seqs is void. What the application takes is from
        before that, and nothing to acknowledge, until `begun_anew`."""
        self._void += 1
        self._streams.clear()
        self._fetching.clear()
        self._dirty.clear()
        self._due = None

    def begun_anew(self) -> None:
        """What the application takes from now on came after a `begin_anew` (the first that was not answered so)."""
        self._void -= 1

    # --- events -----------------------------------------------------------------------------------------------------

    def event(self, item: StreamEvent, now: float) -> Sequence[Numbered]:
        """An Event frame came: what the application gets now, in order."""
        stream = self._stream(item.stream)
        seq = item.seq
        if seq == stream.high + 1 and stream.sure and stream.early is None:
            stream.begun = 0
            return (self._give(stream, item),)
        if seq <= stream.high:
            return self._repeated(stream, item, now)
        stream.begun = 0
        expected = self._expected(stream, seq)
        if seq > expected:
            if not own.lets_in(item.event, self.user):
                self._violation(f"gap in stream {item.stream.hex()}: expected seq {expected}, got {seq}")
            return self._leap(stream, item)
        self._hold(stream, item)
        return self._flush(stream)

    def gone(self, item: StreamGone, now: float) -> Sequence[Numbered]:
        """A Gone frame came in the place of events that expired."""
        stream = self._stream(item.stream)
        if item.seq <= stream.high:
            return self._repeated(stream, item, now)
        expected = self._expected(stream, item.first)
        if item.first > expected:
            self._violation(f"gap in stream {item.stream.hex()}: expected seq {expected}, got {item.first}")
        return self._leap(stream, item)

    def sent(self, item: StreamEvent, complete: bool) -> Sequence[Numbered]:
        """An own command became `item`. `complete` False: hold its place; `completed` follows."""
        stream = self._stream(item.stream)
        if item.seq <= stream.high or (stream.early is not None and item.seq in stream.early):
            return ()
        early = self._hold(stream, item)
        if not complete:
            self._fetching.add((item.stream, item.seq))
        if not stream.sure and (self._caught_up or item.seq == 1):
            # Sent comes in seq order, so nothing before it is under way. Before caught_up that cannot be told; and a device
            # that fell behind with the very first event of a stream hears of its own before those: `_repeated` lets them in.
            first = min(early)
            stream.begun = first if first > stream.high + 1 else 0
            self._begin(stream, first)
        return self._flush(stream)

    def completed(self, item: StreamEvent) -> Sequence[Numbered]:
        """The own event whose place was held is known now."""
        if (item.stream, item.seq) not in self._fetching:
            return ()  # it came as an Event frame meanwhile, or all began anew
        stream = self._streams[item.stream]
        self._hold(stream, item)
        return self._flush(stream)

    def caught_up(self) -> Sequence[Numbered]:
        """CaughtUp came: own events of streams from which nothing else came stand at their heads."""
        self._caught_up = True
        given: list[Numbered] = []
        for stream in self._streams.values():
            if stream.early and not stream.sure:
                self._begin(stream, min(stream.early))
                given += self._flush(stream)
        return given

    def disconnected(self) -> None:
        """The connection is over: the next one catches up anew."""
        self._caught_up = False

    def _stream(self, name: bytes) -> _Stream:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = _Stream()
        return stream

    def _hold(self, stream: _Stream, item: StreamEvent) -> dict[int, StreamEvent]:
        """`item` is whole, and waits for its turn."""
        if stream.early is None:
            stream.early = {}
        stream.early[item.seq] = item
        self._fetching.discard((item.stream, item.seq))
        return stream.early

    def _expected(self, stream: _Stream, first: int) -> int:
        """The seq after all that is here without a gap, where `first` comes now."""
        early = stream.early or {}
        if not stream.sure:
            self._begin(stream, min((first, *early)))
        expected = stream.high + 1
        inside = stream.inside
        for seq in sorted(early):
            if seq == expected or not inside:
                expected = seq + 1
                inside = self._inside(early[seq])
        return expected

    def _repeated(self, stream: _Stream, item: Numbered, now: float) -> Sequence[Numbered]:
        """It comes again, or it is from before the own event that this stream began with."""
        if stream.late < item.seq < stream.begun:
            stream.late = item.seq
            return (item,)
        if item.seq >= stream.begun:
            stream.begun = 0
        if item.seq <= stream.taken:
            # The server's cursor is behind: the last acknowledgement was lost with its connection. Say it again, and at once:
            # on a line that breaks again and again, later may be never.
            self._mark(item.stream, stream, now, at_once=True)
        return ()

    @staticmethod
    def _begin(stream: _Stream, seq: int) -> None:
        """Go on at `seq`, wherever the stream stood before."""
        stream.late = stream.high
        stream.high = seq - 1
        stream.acked = max(stream.acked, stream.high)
        stream.sure = True
        stream.n = -1

    def _leap(self, stream: _Stream, item: Numbered) -> Sequence[Numbered]:
        """Give out what waits before `item`, and go on there."""
        early = stream.early or {}
        first = item.first if isinstance(item, StreamGone) else item.seq
        self._fetching -= {(item.stream, seq) for seq in early if seq <= item.seq}
        before = [waiting for _, waiting in sorted(early.items()) if waiting.seq < first]
        given: list[Numbered] = [self._give(stream, waiting) for waiting in before]
        stream.early = {seq: waiting for seq, waiting in early.items() if seq > item.seq}
        if isinstance(item, StreamGone):
            stream.high = item.seq
            stream.n = -1
            given.append(item)
        else:
            self._begin(stream, item.seq)
            given.append(self._give(stream, item))
        return [*given, *self._flush(stream)]

    def _flush(self, stream: _Stream) -> Sequence[Numbered]:
        given: list[Numbered] = []
        early = stream.early
        assert early is not None
        while early:
            item = early.get(stream.high + 1)
            if item is None and stream.sure and not stream.inside:
                # Between leaving and coming back (by an own command: `Sent` comes in order) there is nothing to wait for.
                self._begin(stream, min(early))
                continue
            if item is None or (item.stream, item.seq) in self._fetching:
                break
            del early[item.seq]
            given.append(self._give(stream, item))
        if not early:
            stream.early = None
        return given

    def _give(self, stream: _Stream, item: StreamEvent) -> StreamEvent:
        event = item.event
        if event is not None:
            if stream.n >= 0:
                n = stream.n + (type(event) is events.Message)
                if event.n != n or event.time < stream.time:
                    self._violation(
                        f"stream {item.stream.hex()} seq {item.seq}: n {event.n} and time {event.time} after "
                        f"n {stream.n} and time {stream.time}"
                    )
            stream.n = event.n
            stream.time = event.time
            if item.stream[0] == ids.Kind.GROUP:
                self._count(item.stream, event)
        else:
            stream.n = -1
        stream.high = item.seq
        stream.inside = self._inside(item)
        return item

    def _inside(self, item: StreamEvent) -> bool:
        """Whether this user is a member after an event that is shown to it."""
        return item.event is None or not own.keeps_out(item.event, self.user)

    def _violation(self, text: str) -> None:
        if self._strict:
            raise errors.ProtocolViolation(text)
        self.violations.append(text)

    # --- acknowledgements -------------------------------------------------------------------------------------------

    def taken(self, item: Numbered, now: float) -> None:
        """The application has taken `item` (and everything before it in its stream)."""
        stream = self._streams.get(item.stream)
        if self._void or stream is None or item.seq > stream.high:
            return  # from before a `begin_anew`
        if isinstance(item, StreamEvent) and "kind" in item.missing:
            return  # a request to join, in a stream that is not read (yet)
        stream.taken = max(stream.taken, item.seq)
        stream.bytes += item.size
        full = (stream.taken - stream.acked) * 2 >= self.window_events or stream.bytes * 2 >= self.window_bytes
        self._mark(item.stream, stream, now, at_once=full)

    def _mark(self, name: bytes, stream: _Stream, now: float, at_once: bool = False) -> None:
        self._dirty[name] = stream
        due = now if at_once else now + (ACK_LARGE_S if self._is_large(name) else ACK_S)
        if self._due is None or due < self._due:
            self._due = due

    def deadline(self) -> float | None:
        """When `acks` has something to send, or None."""
        return self._due

    def acks(self, now: float, closing: bool = False) -> list[messages.Ack]:
        """The Ack frames that are due: one with every dirty stream (more only beyond MAX_CURSORS)."""
        if self._due is None or (now < self._due and not closing):
            return []
        cursors = [(name, stream.taken) for name, stream in self._dirty.items() if stream.taken > 0]
        for stream in self._dirty.values():
            stream.acked = stream.taken
            stream.bytes = 0
        self._dirty.clear()
        self._due = None
        return [messages.Ack(0, tuple(cursors[at : at + MAX_CURSORS])) for at in range(0, len(cursors), MAX_CURSORS)]

    def knows(self, stream: bytes) -> bool:
        """Whether something came of `stream` in this run, so that the next seq is known."""
        return stream in self._streams and self._streams[stream].sure

    def cursors(self) -> dict[bytes, int]:
        """What the application has taken: stream -> seq. What a store keeps. Not of streams that began with an own event and
        of which nothing else came: what may stand before that would be taken for known."""
        return {name: stream.taken for name, stream in self._streams.items() if stream.taken and not stream.begun}

    # --- group sizes, for the pace of acknowledgements ----------------------------------------------------------------

    def group_size(self, stream: bytes, members: int, now: float) -> None:
        """A GroupState told how many members a group has."""
        self._sizes[stream] = members
        if stream in self._dirty:
            self._mark(stream, self._dirty[stream], now)

    def _is_large(self, stream: bytes) -> bool:
        """Whether it is a group above LARGE; one whose size is still asked for counts as such."""
        return stream[0] == ids.Kind.GROUP and (self._sizes.get(stream) or LARGE + 1) > LARGE

    def _count(self, stream: bytes, event: events.AnyEvent) -> None:
        """Keep the size of a group, or ask for it, once. 0: it is being asked for."""
        size = self._sizes.get(stream)
        if isinstance(event, events.GroupCreated):
            self._sizes[stream] = len(event.members) + 1
        elif size is None:
            if not own.keeps_out(event, self.user):
                self._sizes[stream] = 0
                self.unsized.append(stream)
        elif size:
            self._sizes[stream] = size + _joined(event)


def _joined(event: events.AnyEvent) -> int:
    """By how many members a group grows."""
    if isinstance(event, events.MembersAdded):
        return len(event.users)
    if isinstance(event, events.MemberJoined):
        return 1
    return -1 if isinstance(event, events.MemberRemoved | events.MemberLeft) else 0
