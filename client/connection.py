"""The client's side of the protocol, without I/O: what to send, what to keep, what to drop.

    IDLE    no connection
    HELLO   connected; the credential is out, Welcome is awaited
    OPEN    commands flow
    ENDED   for good: closed by the application, or by the server with a code of the final range

Whole WebSocket messages and times go in; `receive` gives effects for the shell, in order, and `outgoing` gives the messages
to send now. `deadline` says when to ask again. Time is a monotonic clock in seconds. Commands live in `outflow`, events in
`inflow`, what changes nothing in `requests`; `pacing` says which of it goes out when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from client import checking, errors, inflow, outflow, own, pacing, requests
from client.backoff import SETTLED_S, Backoff
from client.updates import Answer, Connected, Disconnected, Effect, End, Notice, Numbered, Retry, StreamEvent, StreamGone
from protocol import codec, codes, events, ids, messages, scan

VERSION = 1
#: Seconds from the opening handshake to Welcome. The server gives 10 s for Hello, and checking a password takes a moment.
WELCOME_S = 20.0
#: Seconds of grace beyond two heartbeats of silence, after which the connection counts as dead.
GRACE_S = 10.0
#: Bytes of a Gone frame, about.
GONE_BYTES = 32


class State(Enum):
    IDLE = "idle"
    HELLO = "hello"
    OPEN = "open"
    ENDED = "ended"


class _Inner(Enum):
    """Waiters of what this core asks for itself: how large a group is, and whom one watched before."""

    SIZE = 0
    WATCH = 1


@dataclass(slots=True, frozen=True)
class _Completion:
    """The waiter of a history request that this core made itself, for an own event of which it lacks fields."""

    item: StreamEvent


@dataclass(slots=True)
class Identity:
    """Who this device is; 0, "" and b"" until the first Welcome. `counter`: the highest one used so far. `incarnation`: that of
    the server when it last let this device in."""

    user: int = 0
    device: int = 0
    name: str = ""
    token: bytes = b""
    counter: int = 0
    incarnation: int = 0


class Connection:
    """All connections of one device, one after the other.

    `credential`: how to get in while there is no token. `counter_seed`: the wall clock in microseconds, so that counters rise
    also when nothing was kept of an earlier run. `strict`: see `inflow.Inflow`. For the others see `restore`.

    `revoked`: the server knows this device no more; nothing of it is worth keeping."""

    def __init__(
        self,
        *,
        credential: messages.Credential | None,
        counter_seed: int,
        random: Callable[[], float],
        agent: str = "",
        identity: Identity | None = None,
        cursors: dict[bytes, int] | None = None,
        commands: tuple[bytes, ...] = (),
        strict: bool = False,
    ) -> None:
        self.identity = Identity()
        self.state = State.IDLE
        self.welcome: messages.Welcome | None = None
        self.revoked = False
        self.last_rid = 0
        self.inflow = inflow.Inflow(strict)
        self.outflow = outflow.Outflow()
        self.requests = requests.Requests(self._new_rid)
        self.backoff = Backoff(random)
        self._pacing = pacing.Pacing(self.inflow, self.requests, self.outflow)
        self._credential = credential
        self._agent = agent
        self._counter = counter_seed
        self._watched: dict[int, None] = {}  # in the order in which they were added
        self._looking = b""
        self._hello_rid = 0
        self._refusal: codes.Refused | None = None
        self._going: messages.GoingAway | None = None
        self._began = self._heard = 0.0
        self.restore(identity or Identity(), cursors or {}, commands)

    def restore(self, identity: Identity, cursors: dict[bytes, int], commands: tuple[bytes, ...]) -> list[str]:
        """Go on where an earlier run ended, before the first connection. `commands`: encoded, unanswered, oldest first; they
        are sent again. What no server would read is left out: of each such command, what is wrong with it."""
        self.identity = identity
        self.inflow.user = identity.user
        self.inflow.restore(cursors.items())
        self._counter = max(self._counter, identity.counter)
        left_out = []
        for data in commands:
            try:
                frame = checking.readable(data)
            except codes.Refused as refused:
                left_out.append(f"{len(data)} bytes: {refused}")
                continue
            assert isinstance(frame, messages.Change)
            self.last_rid = max(self.last_rid, frame.rid)
            self._counter = max(self._counter, frame.counter)
            self.outflow.submit(frame, data, own.stream_of(frame, identity.user, identity.device), None)
        return left_out

    def _new_rid(self) -> int:
        self.last_rid += 1
        return self.last_rid

    # --- what the application asks ------------------------------------------------------------------------------------

    def submit(self, frame: messages.Frame, waiter: Any) -> None:
        """Take a command; `Answer(waiter, ...)` follows once. Sets its rid and counter. For state-changing ones user and
        device must be known: ValueError before the first Welcome.

        What cannot be sent is refused here, and nothing is kept of it: codes.Refused for what the server would not read, and
        what the encoder raises (ValueError, TypeError, OverflowError)."""
        limits = self.welcome.limits if self.welcome is not None else None
        bounds = (limits.frame, limits.body) if limits is not None else (codec.MAX_MESSAGE, codec.MAX_BODY)
        if not isinstance(frame, messages.Change):
            frame.rid = ids.MAX_ID  # the longest: every try has another one
            checking.readable(codec.encode(frame), *bounds)
            self.requests.ask(frame, waiter, once=isinstance(frame, messages.Logout))
            return
        if not self.identity.device:
            raise ValueError("no command before the first Welcome")
        self._counter += 1
        frame.counter = self.identity.counter = self._counter
        frame.rid = self._new_rid()
        data = codec.encode(frame)
        checking.readable(data, *bounds)
        if isinstance(frame, messages.Send) and frame.flags & events.Flag.EPHEMERAL:
            self.requests.ask(frame, waiter, once=True)
            return
        self.outflow.submit(frame, data, own.stream_of(frame, self.identity.user, self.identity.device), waiter)

    @property
    def unanswered(self) -> int:
        """Commands and requests without an answer."""
        return len(self.outflow) + len(self.requests)

    def tell(self, frame: messages.Typing | messages.Look) -> None:
        """Send something that has no answer; dropped while there is no connection (what one looks at is told anew)."""
        if isinstance(frame, messages.Look):
            self._looking = frame.stream
        if self.state is State.OPEN:
            self._pacing.sign(frame)

    def taken(self, item: Numbered | Connected, now: float) -> None:
        """The application has taken an event: it will be acknowledged. Of Connected, only one that is `anew` matters."""
        if isinstance(item, Connected):
            self.inflow.begun_anew()
            return
        self.inflow.taken(item, now)

    # --- connections --------------------------------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """A WebSocket is open: say hello."""
        credential = messages.TokenCredential(self.identity.token) if self.identity.token else self._credential
        if credential is None:
            raise ValueError("neither a token nor another credential")
        self.state = State.HELLO
        self._began = self._heard = now
        self._refusal = self._going = None
        self._hello_rid = self._new_rid()
        self._pacing.begin(now)
        self._pacing.first(messages.Hello(self._hello_rid, VERSION, VERSION, credential, self._agent))

    def disconnected(self, code: int, reason: str, now: float) -> tuple[Retry | End, list[Effect]]:
        """The connection ended (RFC 6455 code; 1006 where none came), or could not be made: come back, or not."""
        effects: list[Effect] = []
        if self.state is State.OPEN and now - self._began >= SETTLED_S:
            self.backoff.settled()
        going, refusal = self._going, self._refusal
        self._going = self._refusal = None
        self.state = State.IDLE
        self.inflow.disconnected()
        close = codes.CLOSE_BY_CODE.get(code)
        if close in (codes.REVOKED, codes.ACCOUNT_DELETED):
            self.revoked = True
        for request in self.requests.disconnected():
            if isinstance(request.frame, messages.Logout) and close in (codes.REVOKED, codes.NORMAL):
                effects.append(Answer(request.waiter, None))
                self.revoked = True
                return End(errors.Closed("logged out", codes.REVOKED)), effects
            effects.append(Answer(request.waiter, errors.Lost("the connection was lost before the answer")))
        if refusal is not None and not refusal.error.temporary:
            self.revoked = bool(self.identity.token) and refusal.error is codes.BAD_CREDENTIALS
            return End(refusal), effects
        if 4500 <= code < 5000 or code == 1002:
            if close is codes.ACCOUNT_DELETED:
                effects += self._deleted()
            return End(errors.Closed(f"closed by the server: {code} {reason or (close.text if close else '')}", close)), effects
        hint = going.retry_after_ms / 1000 if going else refusal.retry_after_ms / 1000 if refusal else 0.0
        retry = Retry(self.backoff.delay(hint), going.url if going else "")
        text = str(refusal.text) if refusal else reason or (close.text if close else "the connection was lost")
        effects.append(Disconnected(text, retry.delay_s))
        return retry, effects

    def _deleted(self) -> list[Effect]:
        """The close that says the account is deleted answers the command that asked for it."""
        found = [p for p in self.outflow if isinstance(p.frame, messages.DeleteAccount)]
        return [Answer(p.waiter, messages.Done(p.rid)) for p in found if self.outflow.answered(p.rid)]

    def end(self, error: Exception) -> list[Effect]:
        """It is over for good: everybody who waits gets `error`."""
        self.state = State.ENDED
        waiters = [p.waiter for p in self.outflow] + [r.waiter for r in self.requests.clear()]
        return [
            Answer(waiter, error) for waiter in waiters if waiter is not None and not isinstance(waiter, _Completion | _Inner)
        ]

    # --- what the server says -----------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Effect]:
        """One whole WebSocket message. ProtocolViolation if it cannot be read."""
        self._heard = now
        effects: list[Effect] = []
        try:
            for frame in codec.decode_server_message(data):
                if type(frame) is messages.Event:
                    self._event(frame, effects, now)
                elif type(frame) is messages.Sent:
                    self._sent(frame, effects)
                else:
                    self._frame(frame, effects, now)
        except (codec.Problem, scan.TooBig) as problem:
            raise errors.ProtocolViolation(f"a frame that cannot be read: {problem}") from None
        while self.inflow.unsized:
            self.requests.ask(messages.FetchGroup(0, self.inflow.unsized.pop()), _Inner.SIZE)
        return effects

    def _event(self, frame: messages.Event, effects: list[Effect], now: float) -> None:
        data = bytes(frame.event)  # a copy: a body that is kept must not keep its whole batch
        try:
            event: events.AnyEvent | None = events.decode(data)
        except msgspec.ValidationError:
            event = None  # a kind of a newer protocol: kept and skipped
        item = StreamEvent(frame.stream, frame.seq, event, len(data))
        if event is not None and event.device == self.identity.device:
            pending = self.outflow.with_counter(event.counter)
            if pending is not None and pending.lane.stream == frame.stream:
                # The answer was lost with its connection, and the event came before the answer to the repeat.
                self.outflow.answered(pending.rid)
                self._answer(effects, pending.waiter, messages.Sent(pending.rid, frame.seq, event.n, event.time))
        effects += self.inflow.event(item, now)

    def _sent(self, frame: messages.Sent, effects: list[Effect]) -> None:
        pending = self.outflow.answered(frame.rid)
        if pending is None:
            return  # the answer to a repeat, after the answer
        self._answer(effects, pending.waiter, frame)
        mine = own.event_of(pending.frame, frame, self.identity.user, self.identity.device)
        if mine is None:
            return
        item = StreamEvent(pending.lane.stream, frame.seq, mine.event, len(pending.data), True, mine.missing)
        whole = mine.fetch is own.Fetch.NOWHERE
        effects += self.inflow.sent(item, whole)
        if not whole:
            self.requests.ask(own.question(item, mine.fetch, self.identity.user), _Completion(item))

    def _frame(self, frame: messages.ServerFrame, effects: list[Effect], now: float) -> None:
        if isinstance(frame, messages.Welcome):
            self._welcome(frame, effects, now)
        elif isinstance(frame, messages.Error):
            self._error(frame, effects, now)
        elif isinstance(frame, messages.Heartbeat):
            self._pacing.first(messages.ClientHeartbeat(0))
        elif isinstance(frame, messages.GoingAway):
            self._going = frame
        elif isinstance(frame, messages.Gone) and frame.rid == 0:
            effects += self.inflow.gone(StreamGone(frame.stream, frame.first, frame.last, GONE_BYTES), now)
        elif isinstance(frame, Notice):
            effects += [*self.inflow.caught_up(), frame] if isinstance(frame, messages.CaughtUp) else [frame]
        else:
            if isinstance(frame, messages.GroupState):
                self.inflow.group_size(frame.stream, frame.member_count, now)
            self._reply(frame, effects)

    def _welcome(self, frame: messages.Welcome, effects: list[Effect], now: float) -> None:
        if self.state is not State.HELLO or frame.rid != self._hello_rid:
            return
        self.state = State.OPEN
        self.welcome = frame
        self.identity.user, self.identity.device, self.identity.name = frame.user, frame.device, frame.name
        if frame.token:
            self.identity.token = frame.token
        limits = frame.limits
        # Set back to an earlier moment, the server may have other events at the seqs that were given out.
        anew = 0 < self.identity.incarnation != frame.incarnation
        self.identity.incarnation = frame.incarnation
        if anew:
            self.inflow.begin_anew()
        self.inflow.user = frame.user
        self.inflow.window_events, self.inflow.window_bytes = limits.window_events, limits.window_bytes
        self.outflow.window = max(1, min(outflow.WINDOW, limits.unanswered))
        self._pacing.frame = limits.frame
        self._pacing.pace.limit(limits.commands_per_s, limits.burst, now)
        self._pacing.pace.take()  # Hello
        self._refuse_too_large(effects, limits)
        self.outflow.connected()
        self.requests.connected()
        self._watch_again(limits.subscriptions)
        if self._looking:
            self._pacing.sign(messages.Look(0, self._looking))
        effects.append(Connected(frame, anew))

    def _refuse_too_large(self, effects: list[Effect], limits: messages.Limits) -> None:
        """Commands that were taken before this server told its limits: with one over them it would close for good."""
        for pending in list(self.outflow):
            try:
                checking.within(pending.frame, pending.data, limits.frame, limits.body)
            except codes.Refused as refused:
                self.outflow.answered(pending.rid)
                self._answer(effects, pending.waiter, refused)

    def _watch_again(self, most: int) -> None:
        """Presence is followed by a connection, not by a device. No more than allowed: for one too many all are refused."""
        self._watched = dict.fromkeys(list(self._watched)[:most])
        self.requests.withdraw(_Inner.WATCH)  # what the last connection did not answer
        if self._watched:
            self.requests.ask(messages.WatchPresence(0, tuple(sorted(self._watched))), _Inner.WATCH)

    def _error(self, frame: messages.Error, effects: list[Effect], now: float) -> None:
        error = codes.BY_NUMBER.get(frame.number) or codes.Error(frame.number, frame.symbol, frame.text)
        refused = codes.Refused(error, frame.text, frame.retry_after_ms)
        if frame.rid == self._hello_rid and self.state is State.HELLO:
            self._refusal = refused
            return
        retry_after = frame.retry_after_ms / 1000
        if error is codes.RATE_LIMITED:
            self._pacing.refused(now + retry_after)
        if error.temporary and (
            self.outflow.later(frame.rid, retry_after, now) or self.requests.later(frame.rid, retry_after, now)
        ):
            return
        pending = self.outflow.answered(frame.rid)
        if pending is not None:
            self._answer(effects, pending.waiter, refused)
        elif (request := self.requests.refused(frame.rid)) is not None:
            self._resolve(request, refused, effects)

    def _reply(self, frame: messages.ServerFrame, effects: list[Effect]) -> None:
        """(Part of) an answer that is neither Sent nor Error."""
        if (pending := self.outflow.answered(frame.rid)) is not None:
            self._answer(effects, pending.waiter, frame)
        elif (found := self.requests.answer(frame)) is not None:
            self._resolve(*found, effects)

    def _resolve(self, request: requests.Request, outcome: Any, effects: list[Effect]) -> None:
        waiter, frame = request.waiter, request.frame
        if isinstance(waiter, _Completion):
            effects += self.inflow.completed(own.completed(waiter.item, outcome))
            return
        if isinstance(waiter, _Inner):
            return
        if isinstance(frame, messages.WatchPresence) and isinstance(outcome, messages.Done):
            self._watched.update(dict.fromkeys(frame.add))
            for user in frame.drop:
                self._watched.pop(user, None)
        self._answer(effects, waiter, outcome)

    @staticmethod
    def _answer(effects: list[Effect], waiter: Any, outcome: Any) -> None:
        if waiter is not None:
            effects.append(Answer(waiter, outcome))

    # --- what to send -------------------------------------------------------------------------------------------------

    def outgoing(self, now: float) -> list[bytes]:
        """The WebSocket messages to send now. Call again after every input, and at `deadline`."""
        if self.state is State.OPEN:
            assert self.welcome is not None
            return self._pacing.outgoing(now, self.welcome.heartbeat_s)
        return self._pacing.hello(now) if self.state is State.HELLO else []

    def closing(self, now: float) -> list[bytes]:
        """The last messages before an orderly close: what the application has taken."""
        return self._pacing.closing(now) if self.state is State.OPEN else []

    def dead(self, now: float) -> bool:
        """Whether the server was silent for so long that the connection counts as lost."""
        if self.state is State.HELLO:
            return now - self._began >= WELCOME_S
        return self.state is State.OPEN and now >= self._silence_ends()

    def not_read(self, now: float) -> None:
        """The socket was not read until now, so that silence says nothing about the server."""
        self._heard = now

    def _silence_ends(self) -> float:
        assert self.welcome is not None
        return self._heard + 2 * self.welcome.heartbeat_s + GRACE_S

    def deadline(self, now: float) -> float | None:
        """When `outgoing` or `dead` has news without anything coming in; None without a connection."""
        if self.state is State.HELLO:
            return self._began + WELCOME_S
        if self.state is not State.OPEN:
            return None
        assert self.welcome is not None
        return max(now, min(self._pacing.deadline(self.welcome.heartbeat_s), self._silence_ends()))
