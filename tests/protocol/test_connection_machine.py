"""The connection against a model of a few lines, over random histories."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol import codec, codes, connection, messages
from protocol.connection import Admit, Command, Connection, State
from tests.protocol import strategies

_HELLO = codec.encode(messages.Hello(1, 1, 1, messages.TokenCredential(bytes(16))))
_COMMANDS = strategies.CLIENT_FRAMES.filter(lambda frame: not isinstance(frame, messages.Hello | messages.ClientHeartbeat))


class Machine(RuleBasedStateMachine):
    """The model: a state, unreadable frames in a row, what is held, and three clocks."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.subject = Connection(self.now)
        self.state = State.HELLO
        self.bad = 0
        self.held: list[bytes] = []
        self.heard = self.spoke = self.asked = 0.0

    def _expect(self, effects: list[connection.Effect], *expected: object) -> None:
        seen: list[object] = []
        for each in effects:
            if isinstance(each, Command):
                seen.append(bytes(each.raw))
            elif isinstance(each, connection.Close):
                seen.append(each.close)
                self.state = State.CLOSED
                self.held = []
            elif isinstance(each, Admit):
                seen.append(Admit)
            elif isinstance(each.frame, messages.Error):
                seen.append(codes.BY_NUMBER[each.frame.number])
            else:
                seen.append(messages.Heartbeat)
        assert seen == list(expected)

    def _receive(self, data: bytes) -> list[connection.Effect]:
        if self.state is not State.CLOSED:
            self.heard = self.now
        return [effect for effects in self.subject.receive(data, self.now) for effect in effects]

    def _fits(self, more: list[bytes]) -> bool:
        held = self.held + more
        return len(held) <= connection.MAX_HELD and sum(map(len, held)) <= connection.MAX_HELD_BYTES

    @rule()
    def hello(self) -> None:
        effects = self._receive(_HELLO)
        match self.state:
            case State.CLOSED:
                self._expect(effects)
            case State.HELLO:
                self._expect(effects, Admit)
                self.state, self.bad = State.ADMITTING, 0
            case _:
                self._expect(effects, codes.NOT_READY, codes.PROTOCOL_ORDER)

    @rule(frames=st.lists(_COMMANDS, min_size=1, max_size=3))
    def commands(self, frames: list[Any]) -> None:
        encoded = [codec.encode(frame) for frame in frames]
        effects = self._receive(codec.batch(encoded))
        match self.state:
            case State.CLOSED:
                self._expect(effects)
            case State.OPEN:
                self._expect(effects, *encoded)
                self.bad = 0
            case State.ADMITTING if self._fits(encoded):
                self._expect(effects)
                self.held += encoded
                self.bad = 0
            case _:
                self._expect(effects, codes.NOT_READY, codes.PROTOCOL_ORDER)

    @rule()
    def heartbeat(self) -> None:
        effects = self._receive(codec.encode(messages.ClientHeartbeat(0)))
        if self.state is State.HELLO:
            self._expect(effects, codes.NOT_READY, codes.PROTOCOL_ORDER)
        else:
            self._expect(effects)
            self.bad = 0

    @rule(data=st.sampled_from([b"", b"\xc1", b"\x90", b"\x92\x01\x01", b"\x91\x91"]))
    def garbage(self, data: bytes) -> None:
        effects = self._receive(data)
        if self.state is State.CLOSED:
            self._expect(effects)
            return
        self.bad += 1
        self._expect(effects, codes.MALFORMED, *([codes.BAD_FRAMES] if self.bad == connection.MAX_BAD_FRAMES else []))

    @rule(number=st.integers(200, 2**53 - 1), rid=st.integers(0, 2**53 - 1))
    def newer(self, number: int, rid: int) -> None:
        effects = self._receive(codec.array_header(2) + _int(number) + _int(rid))
        self._expect(effects, *([] if self.state is State.CLOSED else [codes.UNKNOWN_FRAME]))

    @rule()
    def admitted(self) -> None:
        effects = self.subject.admitted()
        if self.state is State.ADMITTING:
            self._expect(effects, *self.held)
            self.state, self.held = State.OPEN, []
        else:
            self._expect(effects)

    @precondition(lambda self: self.state is not State.HELLO)
    @rule(reason=st.sampled_from(codes.CLOSES))
    def close(self, reason: codes.Close) -> None:
        self._expect(self.subject.close(reason), *([] if self.state is State.CLOSED else [reason]))

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, 9.0, 24.0]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        effects = self.subject.tick(self.now)
        match self.state:
            case State.CLOSED:
                self._expect(effects)
            case State.OPEN if self.now - self.heard >= connection.DEFAULT_TERMS.lost_s:
                self._expect(effects, codes.HEARTBEAT_LOST)
            case State.OPEN:
                quiet, deaf = self.now - self.spoke, self.now - max(self.heard, self.asked)
                if max(quiet, deaf) >= connection.HEARTBEAT_S:
                    self._expect(effects, messages.Heartbeat)
                    self.spoke = self.asked = self.now
                else:
                    self._expect(effects)
            case _:
                late = self.now >= connection.HELLO_TIMEOUT_S
                self._expect(effects, *([codes.HELLO_TIMEOUT] if late else []))

    @invariant()
    def the_states_agree(self) -> None:
        assert self.subject.state is self.state


def _int(number: int) -> bytes:
    return b"\xcf" + number.to_bytes(8, "big")


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
