"""The server's side of one connection, as a state machine without I/O.

    HELLO      nothing but a Hello is read, and it must come in time
    ADMITTING  the credential is being checked elsewhere; frames that come meanwhile are held, a few of them
    OPEN       commands flow; heartbeats keep watch
    CLOSED     nothing is read or sent any more

Bytes and times go in, effects come out: a command for the session, a frame to send, a reason to close. Time is a monotonic
clock in seconds, given with each call. The table below is every transition there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from msgspec import Raw

from protocol import codec, codes, messages, scan

#: Seconds from the WebSocket handshake to Hello.
HELLO_TIMEOUT_S = 10.0
#: Seconds of silence after which the server speaks.
HEARTBEAT_S = 25.0
#: Unreadable frames in a row after which the connection is closed.
MAX_BAD_FRAMES = 3
#: Commands, and their bytes, held while the credential is checked: what a client may send along with Hello to save a round
#: trip. Strangers get no more memory than this.
MAX_HELD = 64
MAX_HELD_BYTES = codec.MAX_MESSAGE
#: The versions that this server speaks.
LOWEST_VERSION = 1
HIGHEST_VERSION = 1


@dataclass(slots=True, frozen=True)
class Terms:
    """What an operator may set. One object serves all connections. `lost_s` allows two heartbeats and time to answer."""

    max_message: int = codec.MAX_MESSAGE
    hello_timeout_s: float = HELLO_TIMEOUT_S
    heartbeat_s: float = HEARTBEAT_S

    @property
    def lost_s(self) -> float:
        return 2 * self.heartbeat_s + 10.0


DEFAULT_TERMS = Terms()


class State(Enum):
    HELLO = "hello"
    ADMITTING = "admitting"
    OPEN = "open"
    CLOSED = "closed"


class Input(Enum):
    HELLO = "a Hello with a version in common"
    COMMAND = "any other frame"
    ADMITTED = "the credential is good"
    CLOSE = "a reason to close"


#: (state, input) -> next state. A pair that is not here is a breach of order by the client.
TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.HELLO, Input.HELLO): State.ADMITTING,
    (State.HELLO, Input.CLOSE): State.CLOSED,
    (State.ADMITTING, Input.COMMAND): State.ADMITTING,
    (State.ADMITTING, Input.ADMITTED): State.OPEN,
    (State.ADMITTING, Input.CLOSE): State.CLOSED,
    (State.OPEN, Input.COMMAND): State.OPEN,
    (State.OPEN, Input.CLOSE): State.CLOSED,
}


@dataclass(slots=True, frozen=True)
class Admit:
    """Check this credential, then call `admitted` or `refuse`."""

    hello: messages.Hello
    version: int


@dataclass(slots=True)  # not frozen: made for every message
class Command:
    """A readable command, and its bytes as sent (for the digest that makes repeats recognisable)."""

    frame: messages.ClientFrame
    raw: bytes | Raw


@dataclass(slots=True, frozen=True)
class Reply:
    """Send this frame."""

    frame: messages.Frame


@dataclass(slots=True, frozen=True)
class Close:
    """Send what is waiting, then close with this code."""

    close: codes.Close


Effect = Admit | Command | Reply | Close


_HELLO = messages.number_of(messages.Hello)


class Connection:
    """One connection. `heard` is when the client last sent anything, `spoke` when the server last did, `_asked` when it last
    sent a Heartbeat; all in seconds. Who sends frames sets `spoke`."""

    __slots__ = ("_asked", "_bad", "_began", "_held", "_terms", "heard", "spoke", "state")

    def __init__(self, now: float, terms: Terms = DEFAULT_TERMS) -> None:
        self.state = State.HELLO
        self.heard = now
        self.spoke = now
        self._began = now
        self._asked = now
        self._bad = 0
        self._held: list[Command] | None = None
        self._terms = terms

    def _move(self, event: Input) -> bool:
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            return False
        self.state = after
        return True

    def receive(self, data: bytes, now: float) -> Iterable[list[Effect]]:
        """One whole binary WebSocket message: the effects of each frame in it, in turn; none for a heartbeat.

        A frame of a batch is read when it is asked for: so whoever asks decides how much is worked at in one go. What one
        message gave is asked for to its end before the next one is received."""
        if self.state is State.CLOSED:
            return ()
        self.heard = now
        if len(data) > self._terms.max_message:
            return (self.close(codes.TOO_BIG),)
        return self._batch(data) if codec.is_batch(data) else (self._one(data),)

    def _batch(self, data: bytes) -> Iterator[list[Effect]]:
        effects: list[Effect] = []
        parts: Sequence[bytes | Raw] = ()
        try:
            parts = codec.split(data)
        except codec.Problem as problem:
            self._complain(problem, effects)
        except scan.TooBig:
            effects += self.close(codes.TOO_BIG)
        if self.state is State.HELLO and len(parts) > 1 + MAX_HELD:  # whatever stands in it: a stranger gets no more turns
            effects.append(_error(0, codes.NOT_READY, f"more than {MAX_HELD} commands before Welcome"))
            effects += self.close(codes.PROTOCOL_ORDER)
        if effects:
            yield effects
        for part in parts:
            if self.state is State.CLOSED:
                return
            yield self._one(part)

    def receive_text(self) -> list[Effect]:
        """A text message: this protocol has none."""
        return self.close(codes.NOT_BINARY)

    def _one(self, data: bytes | Raw) -> list[Effect]:
        """One frame."""
        effects: list[Effect] = []
        if self.state is State.HELLO:
            number, rid = codec.leading(bytes(data))
            if number != _HELLO and codec.is_known(number):  # a stranger's: not worth reading
                effects.append(_error(rid, codes.NOT_READY))
                return effects + self.close(codes.PROTOCOL_ORDER)
        try:
            if not data:
                raise codec.Problem(0, codes.MALFORMED, "an empty message")
            frame = codec.decode_client(data)
        except codec.Problem as problem:
            self._complain(problem, effects)
            return effects
        except scan.TooBig:
            return self.close(codes.TOO_BIG)
        self._bad = 0
        if self.state is State.OPEN:
            if type(frame) is messages.Hello:
                effects.append(_error(frame.rid, codes.NOT_READY, "Hello comes once"))
                effects += self.close(codes.PROTOCOL_ORDER)
            elif type(frame) is not messages.ClientHeartbeat:
                effects.append(Command(frame, data))
        elif type(frame) is not messages.Hello:
            self._hold(Command(frame, bytes(data)), effects)
        elif self.state is State.HELLO:
            self._hello(frame, effects)
        else:
            effects.append(_error(frame.rid, codes.NOT_READY))
            effects += self.close(codes.PROTOCOL_ORDER)
        return effects

    def _hold(self, command: Command, effects: list[Effect]) -> None:
        if type(command.frame) is messages.ClientHeartbeat:
            return
        held = self._held = self._held or []
        size = sum(len(each.raw) for each in held) + len(command.raw)
        if len(held) < MAX_HELD and size <= MAX_HELD_BYTES:
            held.append(command)
            return
        text = f"more than {MAX_HELD} commands or {MAX_HELD_BYTES} bytes before Welcome"
        effects.append(_error(command.frame.rid, codes.NOT_READY, text))
        effects += self.close(codes.PROTOCOL_ORDER)

    def _hello(self, hello: messages.Hello, effects: list[Effect]) -> None:
        version = min(hello.highest_version, HIGHEST_VERSION)
        if version < max(hello.lowest_version, LOWEST_VERSION):
            text = f"this server speaks {LOWEST_VERSION} to {HIGHEST_VERSION}"
            effects.append(_error(hello.rid, codes.UNSUPPORTED_VERSION, text))
            effects += self.close(codes.NO_VERSION)
            return
        self._move(Input.HELLO)
        effects.append(Admit(hello, version))

    def _complain(self, problem: codec.Problem, effects: list[Effect]) -> None:
        effects.append(_error(problem.rid, problem.error, problem.text))
        if problem.error is not codes.MALFORMED:
            return
        self._bad += 1
        if self._bad >= MAX_BAD_FRAMES:
            effects += self.close(codes.BAD_FRAMES)

    def admitted(self) -> list[Effect]:
        """The credential is good: the commands that were held."""
        if not self._move(Input.ADMITTED):
            return []
        held, self._held = self._held, None
        return [*held] if held else []

    def close(self, reason: codes.Close) -> list[Effect]:
        """End it from this side. Nothing is read afterwards; the second call does nothing."""
        self._held = None
        return [Close(reason)] if self._move(Input.CLOSE) else []

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: see to the hello deadline and the heartbeat."""
        if self.state is State.CLOSED:
            return []
        if self.state is not State.OPEN:
            return self.close(codes.HELLO_TIMEOUT) if now - self._began >= self._terms.hello_timeout_s else []
        if now - self.heard >= self._terms.lost_s:
            return self.close(codes.HEARTBEAT_LOST)
        # A client that only listens is asked as well, once per heartbeat, or it would look lost while it reads.
        if now - min(self.spoke, max(self.heard, self._asked)) >= self._terms.heartbeat_s:
            self.spoke = self._asked = now
            return [Reply(messages.Heartbeat(0))]
        return []


def _error(rid: int, error: codes.Error, text: str = "") -> Reply:
    return Reply(error_frame(rid, codes.Refused(error, text)))


def error_frame(rid: int, refused: codes.Refused) -> messages.Error:
    """A refusal as the frame that tells it."""
    error = refused.error
    return messages.Error(rid, error.number, error.symbol, refused.text, error.temporary, refused.retry_after_ms)
