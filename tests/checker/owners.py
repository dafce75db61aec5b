"""K7 and K8: one owner at a time, and watermarks that never go back."""

from __future__ import annotations

from collections.abc import Iterator

from protocol import events, ids
from tests.checker import history, model
from tests.checker.findings import Case, Finding


def one_owner(case: Case) -> Iterator[Finding]:
    """K7: epochs only rise along a stream; no seq is acknowledged to two commands; and what was sent only after something was
    acknowledged stands behind it, whichever owners answered."""
    for stream, log in case.logs.items():
        epoch = 0
        for row in log:
            if row.epoch < epoch:
                yield Finding("K7", f"epoch {row.epoch} stands behind epoch {epoch}", stream, row.seq)
            epoch = max(epoch, row.epoch)
    holders: dict[tuple[bytes, int], tuple[int, int]] = {}
    acknowledged: dict[bytes, list[tuple[float, float, int, int]]] = {}
    for key, command in case.commands.items():
        for seq in {answer.seq for answer in command.answers if isinstance(answer, history.Stored)}:
            if holders.setdefault((command.stream, seq), key) != key:
                text = f"acknowledged to two commands: {holders[command.stream, seq]} and {key}"
                yield Finding("K7", text, command.stream, seq, key[0])
        if command.stored is not None:
            each = (command.tries[0], command.stored.time, command.stored.seq, key[0])
            acknowledged.setdefault(command.stream, []).append(each)
    for stream, answers in acknowledged.items():
        yield from _real_time(stream, answers)


def _real_time(stream: bytes, answers: list[tuple[float, float, int, int]]) -> Iterator[Finding]:
    """`answers`: (first sent, first acknowledged, seq, device) of each command."""
    by_answer = sorted(answers, key=lambda each: each[1])
    highest = at = 0
    for asked, _, seq, device in sorted(answers):
        while at < len(by_answer) and by_answer[at][1] < asked:
            highest = max(highest, by_answer[at][2])
            at += 1
        if seq < highest:
            text = f"sent after seq {highest} had been acknowledged, and stands before it"
            yield Finding("K7", text, stream, seq, device)


def watermarks(case: Case) -> Iterator[Finding]:
    """K8: for every observer the marks of a user only rise; read implies delivered; none is beyond what the user's devices
    acknowledged (or wrote), and what was told once is stored."""
    reached = _reached(case)
    for device in case.seen.devices.values():
        told: dict[tuple[bytes, int], tuple[int, int]] = {}
        for entry in device.entries:
            if not isinstance(entry, history.Receipt):
                continue
            key = (entry.stream, entry.user)
            delivered, read = told.get(key, (0, 0))
            if entry.delivered < delivered or entry.read < read:
                text = f"user {entry.user} stood at {delivered}, {read} and goes back to {entry.delivered}, {entry.read}"
                yield Finding("K8", text, entry.stream, 0, device.id)
            if entry.read > entry.delivered:
                text = f"user {entry.user} has read {entry.read} and has but {entry.delivered}"
                yield Finding("K8", text, entry.stream, 0, device.id)
            if key in reached and entry.delivered > reached[key]:
                text = f"user {entry.user} is said to have {entry.delivered}, and acknowledged {reached[key]}"
                yield Finding("K8", text, entry.stream, 0, device.id)
            told[key] = (max(delivered, entry.delivered), max(read, entry.read))
        for key, (delivered, read) in told.items():
            if key in case.seen.marks and (case.seen.marks[key][0] < delivered or case.seen.marks[key][1] < read):
                text = f"user {key[1]} was told to stand at {delivered}, {read}; stored is {case.seen.marks[key]}"
                yield Finding("K8", text, key[0], 0, device.id)


def marks_kept(case: Case) -> Iterator[Finding]:
    """K8 from below: what a device acknowledged is stored of its user in the end. Of its last connection, and before the faults
    were over: what came later, or was cut, may not have reached the server; and only while the user is in."""
    for device in case.seen.devices.values():
        if not device.present:
            continue
        *_, last = history.connections(device) if device.entries else [[]]
        acknowledged: dict[bytes, int] = {}
        for entry in last:
            if isinstance(entry, history.Marked) and entry.time <= case.seen.healed:
                acknowledged[entry.stream] = max(entry.seq, acknowledged.get(entry.stream, 0))
        for stream, seq in acknowledged.items():
            own = case.intervals.get(stream, {}).get(device.user, [])
            if ids.kind(stream) is ids.Kind.ACCOUNT or not own or own[-1][1] != model.OPEN or seq < own[-1][0]:
                continue
            # Who comes in stands at that seq, whatever was stored of an earlier time.
            stored = max(own[-1][0], case.seen.marks.get((stream, device.user), (0, 0))[0])
            if stored < seq:
                text = f"user {device.user} acknowledged {seq}, and is stored to have {stored}"
                yield Finding("K8", text, stream, seq, device.id)


def _reached(case: Case) -> dict[tuple[bytes, int], int]:
    """How far each user of a recorded device can stand: by acknowledging, reading, writing, or coming in."""
    reached: dict[tuple[bytes, int], int] = {}

    def raise_to(stream: bytes, user: int, seq: int) -> None:
        reached[stream, user] = max(reached.get((stream, user), 0), seq)

    users = {device.user for device in case.seen.devices.values()}
    for device in case.seen.devices.values():
        for entry in device.entries:
            if isinstance(entry, history.Marked):
                raise_to(entry.stream, device.user, entry.seq)
    for stream, log in case.logs.items():
        for user in users:
            raise_to(stream, user, 0)
        for row in log:
            if isinstance(row.event, events.Message):
                raise_to(stream, row.event.sender, row.seq)
            for user in model.moves(row.event)[0]:
                raise_to(stream, user, row.seq)
    return reached
