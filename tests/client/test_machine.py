"""Whatever happens to connections, answers and programs: every command takes effect once, every event comes once, in order.

The machine drives client cores against the model server. Nothing here has a socket, a clock or a thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from client import api, connection
from client.updates import Answer, Numbered, Retry
from protocol import codec, codes, events, ids, messages
from tests.client import model

CLIENTS = 3  # two people, the second with two devices


@dataclass
class Device:
    """One program: its core, its connection, and what its application was given and has taken."""

    core: connection.Connection
    link: model.Link | None = None
    given: list[Any] = field(default_factory=list)
    taken: dict[bytes, list[int]] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)


class Machine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.server = model.Server()
        self.now = 100.0
        self.count = 0
        self.troubled = False
        self.devices = [Device(self.core(credential)) for credential in _credentials()]
        for device in self.devices:
            self.connect(device)
            self.hear(device, 1000, 1)
        self.streams = [ids.direct_stream(1, 2), ids.direct_stream(2, 2)]

    def core(self, credential: messages.Credential | None, **kept: Any) -> connection.Connection:
        return connection.Connection(credential=credential, counter_seed=1000, random=lambda: 0.0, strict=True, **kept)

    def connect(self, device: Device) -> None:
        device.link = self.server.connect()
        device.core.connected(self.now)
        self.speak(device)

    def speak(self, device: Device) -> None:
        """What the client has to say reaches the server."""
        if device.link is not None:
            for data in device.core.outgoing(self.now):
                device.link.receive(data)

    def hear(self, device: Device, frames: int, batch: int) -> None:
        """Some of what the server has said reaches the client."""
        link = device.link
        if link is None:
            return
        frames = min(frames, len(link.out))
        heard, link.out = link.out[:frames], link.out[frames:]
        for at in range(0, len(heard), batch):
            effects = device.core.receive(codec.batch(heard[at : at + batch]), self.now)
            self.carry_out(device, effects)

    def carry_out(self, device: Device, effects: Any) -> None:
        for effect in effects:
            if isinstance(effect, Answer):
                assert isinstance(effect.outcome, messages.Sent), effect
                assert effect.waiter not in device.answers, "answered twice"
                device.answers[effect.waiter] = effect.outcome.seq
            elif isinstance(effect, Numbered):
                device.given.append(effect)

    which = strategies.integers(0, CLIENTS - 1)

    @rule(which=which, stream=strategies.integers(0, 1), number=strategies.integers(1, 80))
    def send(self, which: int, stream: int, number: int) -> None:
        device = self.devices[which]
        if not device.core.identity.device:
            return
        if device.core.identity.user == 1:
            stream = 0
        for _ in range(number):
            self.count += 1
            text = f"message {self.count}"
            device.texts[text] = self.streams[stream]
            body = api.text_body(text)
            device.core.submit(messages.Send(0, 0, self.streams[stream], body), text)

    @rule(which=which, number=strategies.integers(1, 9), frames=strategies.integers(0, 40))
    def chat(self, which: int, number: int, frames: int) -> None:
        """Send, and hear some of what comes of it."""
        self.send(which, 0, number)
        self.speak(self.devices[which])
        for each in range(CLIENTS):
            self.hear(self.devices[each], frames, 3)
            self.take(each, frames // 2)

    @rule(which=which)
    def talk(self, which: int) -> None:
        self.speak(self.devices[which])

    @rule(which=which, frames=strategies.integers(1, 80), batch=strategies.integers(1, 20))
    def listen(self, which: int, frames: int, batch: int) -> None:
        self.hear(self.devices[which], frames, batch)

    @rule(which=which, number=strategies.integers(1, 200))
    def take(self, which: int, number: int) -> None:
        device = self.devices[which]
        for item in device.given[:number]:
            seqs = device.taken.setdefault(item.stream, [])
            assert not seqs or item.seq == seqs[-1] + 1, f"{item.seq} after {seqs[-1]}"
            seqs.append(item.seq)
            device.core.taken(item, self.now)
        del device.given[:number]

    @rule(which=which, behind=strategies.booleans())
    def fall_behind(self, which: int, behind: bool) -> None:
        """A device becomes behind in all streams, or reads on."""
        link, core = self.devices[which].link, self.devices[which].core
        if link is not None and link.user:
            # That it falls behind with the first event of a stream has a test of its own (test_inflow): nobody can tell then.
            link.behind = all(core.inflow.knows(stream) for stream in self.readable(core))
            if not behind:
                link.read_on()

    def readable(self, core: connection.Connection) -> list[bytes]:
        return self.streams if core.identity.user == 2 else self.streams[:1]

    @rule(which=which, spoken=strategies.booleans())
    def cut(self, which: int, spoken: bool) -> None:
        """The connection breaks: what stood in it is lost, in both directions."""
        device = self.devices[which]
        if device.link is not None:
            if spoken:
                device.core.outgoing(self.now)
            device.link.cut()
            device.link = None
            outcome, effects = device.core.disconnected(1006, "", self.now)
            assert isinstance(outcome, Retry)
            self.carry_out(device, effects)

    @rule(which=which)
    def come_back(self, which: int) -> None:
        if self.devices[which].link is None:
            self.connect(self.devices[which])

    @rule(which=which)
    def restart(self, which: int) -> None:
        """The program dies and starts again from what its store kept. Nobody waits for the old answers."""
        self.cut(which, False)
        device = self.devices[which]
        if device.core.identity.token:
            device.core = self.core(
                None,
                identity=device.core.identity,
                cursors=device.core.inflow.cursors(),
                commands=tuple(pending.data for pending in device.core.outflow),
            )
            device.given.clear()

    @rule(error=strategies.sampled_from([codes.BUSY, codes.UNKNOWN, codes.RATE_LIMITED]), wait=strategies.integers(0, 500))
    def trouble(self, error: codes.Error, wait: int) -> None:
        """The server refuses the next command, for a while."""
        self.troubled = True
        self.server.refuse.append(codes.Refused(error, retry_after_ms=wait))

    @rule(seconds=strategies.floats(0.01, 20.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def teardown(self) -> None:
        """All trouble ends: everybody converges."""
        if not hasattr(self, "server"):
            return  # the machine did not even begin
        self.server.refuse.clear()
        for which, device in enumerate(self.devices):
            self.come_back(which)
            self.hear(device, 1000, 1)
            self.fall_behind(which, False)
            while device.core.unanswered or (device.link is not None and device.link.out):
                self.now += 1.0
                self.speak(device)
                self.hear(device, 1000, 7)
        for device in self.devices:
            self.hear(device, 100_000, 100)
        for which, device in enumerate(self.devices):
            self.take(which, len(device.given))
            self.now += 1.0
            self.speak(device)
        logged = [(stream, _text(raw)) for stream in self.streams for raw in self.server.logs[stream].entries]
        wanted = [(stream, text) for device in self.devices for text, stream in device.texts.items()]
        assert sorted(logged) == sorted(wanted), "every command takes effect once"
        for device in [] if self.troubled else self.devices:
            for stream in self.streams:
                mine = [text for text, where in device.texts.items() if where == stream]
                assert [text for where, text in logged if where == stream and text in device.texts] == mine
        for device in self.devices:
            for stream in self.readable(device.core):
                head = len(self.server.logs[stream].entries)
                assert device.taken.get(stream, []) == list(range(1, head + 1)), "every event once, in order"
                assert self.server.cursors.get((device.core.identity.device, stream), 0) == head, "all is acknowledged"
            for text, seq in device.answers.items():
                assert _text(self.server.logs[device.texts[text]].entries[seq - 1]) == text


def _credentials() -> list[messages.Credential]:
    return [
        messages.RegisterCredential("asha", "a good password", b"a" * 16),
        messages.RegisterCredential("ben", "a good password", b"b" * 16),
        messages.PasswordCredential("ben", "a good password", b"c" * 16),
    ]


def _text(raw: bytes) -> str:
    event = events.decode(raw)
    assert isinstance(event, events.Message)
    body = events.decode_body(event.body)
    assert isinstance(body, events.Text)
    return body.text


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
