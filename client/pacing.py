"""What goes out and when: the order of outgoing frames, how many fit the server's rate, and when there is something to send.

First what answers the server (Hello, heartbeats, acknowledgements), which is sent in any case; then signs (typing, looking),
questions and commands, as far as the rate allows. Everything is charged, because the server charges everything. Time is a
monotonic clock in seconds, given with each call.
"""

from __future__ import annotations

from client import inflow, outflow, requests
from protocol import codec, messages

#: Bytes that a batch of commands may reach; a single larger frame goes alone. Of a message that a cut interrupts nothing is
#: carried out: on a line that breaks after every few kilobytes, larger ones would never arrive.
BATCH_BYTES = 4 * 1024
#: Bytes of the header of a batch, at most.
HEADER_BYTES = 5
#: Parts of the server's rate and burst that are used. The rest is for what the server charges and cannot be counted here:
#: WebSocket control frames, and frames that were held up on the way and arrive as one.
RATE_PART = 0.9
BURST_PART = 0.8
#: Part of the burst with which a connection begins; the rest gathers. Another program of this device, or its last run, may have
#: used up what there was: the server serves so much in any case after one refusal, and takes more of them for a flood.
FRESH_PART = 0.04
#: Part of a token that sums of floating-point numbers may lack.
ROUNDING = 1e-6


class Pace:
    """The server's rate limits kept from this side: a bucket of tokens, one for each frame."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self) -> None:
        self._rate = self._burst = self._tokens = 0.0
        self._at = 0.0

    def limit(self, rate: float, burst: float, now: float) -> None:
        """A connection begins, and the server allows `rate` a second, and `burst` at once; 0: no limit."""
        fresh = max(1.0, burst * FRESH_PART)
        self._tokens = fresh if self._rate <= 0 else min(self._tokens, fresh)
        self._rate, self._burst = rate * RATE_PART, max(1.0, burst * BURST_PART)
        self._at = max(self._at, now)

    def has(self, now: float) -> bool:
        """Whether a frame may go out now."""
        if self._rate <= 0:
            return True
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        return self._tokens >= 1.0 - ROUNDING

    def take(self, count: int = 1) -> None:
        """So many frames go out; without asking `has` too, and then later ones wait the longer."""
        if self._rate > 0:
            self._tokens -= count

    def empty(self, until: float) -> None:
        """The server refused: it has nothing left for us, and only begins to gather again at `until`."""
        self._tokens = min(0.0, self._tokens)
        self._at = max(self._at, until)

    def ready_at(self) -> float:
        """When the next token is there."""
        return self._at + max(0.0, 1.0 - self._tokens) / self._rate if self._rate > 0 else self._at


class Pacing:
    """Draws from the three: acknowledgements, questions, commands. `frame`: bytes of one WebSocket message at most."""

    def __init__(self, coming: inflow.Inflow, asked: requests.Requests, commands: outflow.Outflow) -> None:
        self.pace = Pace()
        self.frame = codec.MAX_MESSAGE
        self._coming = coming
        self._asked = asked
        self._commands = commands
        self._first: list[bytes] = []
        #: The newest of each kind and stream: an older one that still waits is of no use.
        self._signs: dict[tuple[type, bytes], bytes] = {}
        self._spoke = 0.0
        self._hold = 0.0
        self._paced = False

    def begin(self, now: float) -> None:
        """A new connection: what was to be sent on the last one is forgotten."""
        self._first.clear()
        self._signs.clear()
        self._spoke = now
        self._hold = 0.0

    def first(self, frame: messages.Frame) -> None:
        """To be sent before anything else, in any case."""
        self._first.append(codec.encode(frame))

    def sign(self, frame: messages.Typing | messages.Look) -> None:
        """To be sent soon, if nothing newer of its kind comes before."""
        stream = frame.stream if isinstance(frame, messages.Typing) else b""
        self._signs[type(frame), stream] = codec.encode(frame)

    def refused(self, until: float) -> None:
        """The server said that this was too much: nothing more before `until`, and then no burst."""
        self._hold = max(self._hold, until)
        self.pace.empty(until)

    def hello(self, now: float) -> list[bytes]:
        """The messages to send before Welcome."""
        return self._joined(self._taken(), now)

    def outgoing(self, now: float, heartbeat_s: float) -> list[bytes]:
        """The messages to send now, on an open connection that may not be silent for longer than `heartbeat_s`."""
        frames = self._taken() + [codec.encode(ack) for ack in self._coming.acks(now)]
        self.pace.take(len(frames))
        self._paced = False
        if now >= self._hold:
            self._as_paced(frames, now)
        if not frames and now - self._spoke >= heartbeat_s:
            frames.append(codec.encode(messages.ClientHeartbeat(0)))
            self.pace.take()
        return self._joined(frames, now)

    def closing(self, now: float) -> list[bytes]:
        """The last messages before an orderly close: acknowledgements."""
        return self._joined([codec.encode(ack) for ack in self._coming.acks(now, closing=True)], now)

    def deadline(self, heartbeat_s: float) -> float:
        """When `outgoing` has something again without anything happening."""
        times = [self._spoke + heartbeat_s]
        acks = self._coming.deadline()
        if acks is not None:
            times.append(acks)
        paced = (*self._asked.deadline(), self._commands.deadline(), 0.0 if self._signs else None)
        unsent = [time for time in paced if time is not None]
        if unsent:
            times.append(max(min(unsent), self._hold, self.pace.ready_at() if self._paced else 0.0))
        return min(times)

    def _taken(self) -> list[bytes]:
        frames, self._first = self._first, []
        return frames

    def _as_paced(self, frames: list[bytes], now: float) -> None:
        while self.pace.has(now):
            if self._signs:
                frames.append(self._signs.pop(next(iter(self._signs))))
            elif (request := self._asked.next(now)) is not None:
                frames.append(codec.encode(request.frame))
            elif (pending := self._commands.next(now)) is not None:
                frames.append(pending.data)
            else:
                return
            self.pace.take()
        self._paced = True

    def _joined(self, frames: list[bytes], now: float) -> list[bytes]:
        """Frames -> messages: batches within the limits of size and count."""
        if not frames:
            return []
        self._spoke = now
        most = min(BATCH_BYTES, self.frame - HEADER_BYTES)
        joined: list[bytes] = []
        start = size = 0
        for at, frame in enumerate(frames):
            if at > start and (size + len(frame) > most or at - start == codec.MAX_BATCH):
                joined.append(codec.batch(frames[start:at]))
                start, size = at, 0
            size += len(frame)
        joined.append(codec.batch(frames[start:]))
        return joined
