"""K1 to K6: what was acknowledged is there, in one order, once, for everybody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from protocol import codec, events, messages
from tests.checker import history, model
from tests.checker.findings import Case, Finding, Stored, stream_of_answers

#: Seconds from the end of the last fault in which everybody has everything (K6).
CONVERGENCE_S = 30.0


def acknowledged(case: Case) -> Iterator[Finding]:
    """K1: every acknowledged event is present, as it was asked for and answered, once."""
    for (device, counter), command in case.commands.items():
        for answer in command.answers:
            if not isinstance(answer, history.Stored):
                continue
            row = case.row(command.stream, answer.seq)
            if row is None:
                yield Finding("K1", f"acknowledged (counter {counter}) and lost", command.stream, answer.seq, device)
            elif (row.event.device, row.event.counter) != (device, counter):
                text = f"acknowledged to counter {counter}, but device {row.event.device}'s {row.event.counter} stands there"
                yield Finding("K1", text, command.stream, answer.seq, device)
            elif (row.event.n, row.event.time) != (answer.n, answer.at):
                yield Finding("K1", "Sent told another n or time than is stored", command.stream, answer.seq, device)
            elif not _is_what_was_asked(command.data, row.event):
                yield Finding("K1", f"stored is not what counter {counter} asked for", command.stream, answer.seq, device)


def _is_what_was_asked(data: bytes, event: events.AnyEvent) -> bool:
    """Whether a message or an edit has the body that was sent (or none any more)."""
    frame = command_of(data)
    if isinstance(frame, messages.Send):
        return isinstance(event, events.Message) and event.body in (frame.body, events.NIL)
    if isinstance(frame, messages.Edit):
        return isinstance(event, events.Edited) and event.target == frame.target and event.body in (frame.body, events.NIL)
    return True


def command_of(data: bytes) -> messages.Change:
    """The command in these bytes."""
    frame = codec.decode_client(data)
    assert isinstance(frame, messages.Change)
    return frame


def once(case: Case) -> Iterator[Finding]:
    """K1: no command takes effect twice; no connection brings an event twice."""
    for stream, log in case.logs.items():
        first: dict[tuple[int, int], int] = {}
        for row in log:
            key = (row.event.device, row.event.counter)
            if row.event.device and first.setdefault(key, row.seq) != row.seq:
                yield Finding("K1", f"counter {key[1]} took effect at seq {first[key]} already", stream, row.seq, key[0])
    for device in case.seen.devices.values():
        for entries in history.connections(device):
            last: dict[bytes, int] = {}
            for entry in entries:
                if isinstance(entry, history.Got):
                    if entry.seq == last.get(entry.stream):
                        yield Finding("K1", "the same event twice on one connection", entry.stream, entry.seq, device.id)
                    elif entry.seq < last.get(entry.stream, 0):
                        text = f"came after seq {last[entry.stream]} on one connection"
                        yield Finding("K2", text, entry.stream, entry.seq, device.id)
                    last[entry.stream] = entry.seq


def numbered(case: Case) -> Iterator[Finding]:
    """K2: the rows of a stream are 1, 2, 3, ...; n counts messages; time never goes back."""
    for stream, log in case.logs.items():
        n = time = 0
        for expected, row in enumerate(log, start=1):
            if row.seq != expected:
                yield Finding("K2", f"seq {expected} should stand there", stream, row.seq)
                break
            n += isinstance(row.event, events.Message)
            if row.event.n != n:
                yield Finding("K2", f"n is {row.event.n} where {n} messages stand", stream, row.seq)
                break
            if row.event.time < time:
                yield Finding("K2", "the server's time goes back", stream, row.seq)
            time = row.event.time


def same_for_all(case: Case) -> Iterator[Finding]:
    """K2: every reader sees at a seq what is stored there. K5: also of a command whose outcome its sender was not told."""
    for device in case.seen.devices.values():
        for entry in device.entries:
            if not isinstance(entry, history.Got):
                continue
            row = case.row(entry.stream, entry.seq)
            if row is None or not same_event(row.data, entry.data):
                event = events.decode(entry.data)
                command = case.commands.get((event.device, event.counter))
                unresolved = command is not None and command.stored is None
                text = "seen, and not what is stored there" if row else "seen, and not stored"
                yield Finding("K5" if unresolved else "K2", text, entry.stream, entry.seq, device.id)


def same_event(one: bytes, other: bytes) -> bool:
    """Whether two readers had the same event; either may have read it after its body was erased."""
    return one == other or (
        history.without_body(one) == history.without_body(other) and history.without_body(one) in (one, other)
    )


def gapless(case: Case) -> Iterator[Finding]:
    """K2: no reader is given an event before all that stand before it. K6: in the end who is present has everything."""
    for device in case.seen.devices.values():
        streams = stream_of_answers(device)
        have: dict[bytes, set[int]] = {stream: set() for stream in case.logs}
        due = {stream: list(case.readable(device, stream)) for stream in case.logs}
        position = dict.fromkeys(case.logs, 0)  # index into `due`
        for entry in device.entries:
            if isinstance(entry, history.Stored):
                if streams[entry.counter] in have:
                    have[streams[entry.counter]].add(entry.seq)
            elif isinstance(entry, history.Erased) and entry.stream in have:
                yield from _erased(case, entry, device.id)
                have[entry.stream].update(range(entry.first, entry.last + 1))
            elif isinstance(entry, history.Got) and entry.stream in have:
                at = _next(due[entry.stream], position[entry.stream], have[entry.stream])
                if at < len(due[entry.stream]) and due[entry.stream][at] < entry.seq:
                    yield Finding("K2", f"seq {due[entry.stream][at]} was left out", entry.stream, entry.seq, device.id)
                    have[entry.stream].update(range(1, entry.seq))
                have[entry.stream].add(entry.seq)
                position[entry.stream] = at
        for stream in case.logs if device.present else ():
            end = case.seen.due.get(stream, model.OPEN)
            missing = [seq for seq in due[stream] if seq not in have[stream] and seq <= end]
            if missing:
                text = f"{len(missing)} events never came, the first is this one"
                yield Finding("K6", text, stream, missing[0], device.id)
    late = case.seen.converged - case.seen.healed
    if late > CONVERGENCE_S:
        yield Finding("K6", f"everybody had everything {late:.1f} s after the last fault's end")


def _next(due: Sequence[int], at: int, have: set[int]) -> int:
    while at < len(due) and due[at] in have:
        at += 1
    return at


def _erased(case: Case, entry: history.Erased, device: int) -> Iterator[Finding]:
    for seq in range(entry.first, entry.last + 1):
        row = case.row(entry.stream, seq)
        if row is not None and not _may_be_gone(row):
            yield Finding("K2", "said to be gone, and it is not", entry.stream, seq, device)


def _may_be_gone(row: Stored) -> bool:
    event = row.event
    if isinstance(event, events.Message):
        return event.expires_at > 0 or event.body == events.NIL
    return isinstance(event, events.Edited)


def order_kept(case: Case) -> Iterator[Finding]:
    """K3: a device's commands stand in the order of their counters, unless an earlier one was sent again after a later one: a
    command that was refused and is sent again takes its new place."""
    for stream, log in case.logs.items():
        highest: dict[int, tuple[int, int]] = {}
        for row in log:
            device, counter = row.event.device, row.event.counter
            if not device:
                continue
            above, above_seq = highest.get(device, (0, 0))
            if counter > above:
                highest[device] = (counter, row.seq)
            elif counter < above and not _was_sent_again(case, device, counter, above):
                text = f"counter {counter} stands after counter {above} (seq {above_seq})"
                yield Finding("K3", text, stream, row.seq, device)


def _was_sent_again(case: Case, device: int, counter: int, above: int) -> bool:
    earlier, later = case.commands.get((device, counter)), case.commands.get((device, above))
    return earlier is not None and later is not None and len(earlier.tries) > 1 and earlier.tries[-1] >= later.tries[0]


def refused_stays_refused(case: Case) -> Iterator[Finding]:
    """K4: what was definitely refused is nowhere; and nothing is stored that nobody sent."""
    for stream, log in case.logs.items():
        for row in log:
            device = row.event.device
            if device not in case.seen.devices:
                continue
            command = case.commands.get((device, row.event.counter))
            if command is None or command.stream != stream:
                yield Finding("K4", f"counter {row.event.counter} was never sent to this stream", stream, row.seq, device)
            elif command.refused_for_good:
                yield Finding("K4", f"counter {row.event.counter} was refused, and stands there", stream, row.seq, device)
    for device_id, device_ in case.seen.devices.items():
        for entry in device_.entries:
            if isinstance(entry, history.Got):
                event = events.decode(entry.data)
                command = case.commands.get((event.device, event.counter))
                if command is not None and command.refused_for_good:
                    text = f"counter {event.counter} of device {event.device} was refused, and is seen"
                    yield Finding("K4", text, entry.stream, entry.seq, device_id)


def resolved_one_way(case: Case) -> Iterator[Finding]:
    """K5: all answers to the tries of one command agree; a command that was never resolved is in the log, or nowhere
    (the second half is `same_for_all` and `gapless`)."""
    for (device, counter), command in case.commands.items():
        stored = command.stored
        if stored is None:
            continue
        for answer in command.answers[command.answers.index(stored) + 1 :]:
            if isinstance(answer, history.Stored):
                if (answer.seq, answer.n, answer.at) != (stored.seq, stored.n, stored.at):
                    text = f"counter {counter} was stored at seq {stored.seq}, and again at {answer.seq}"
                    yield Finding("K5", text, command.stream, answer.seq, device)
            elif answer.number < 400 and answer.number not in (e.number for e in history.INDEFINITE):
                text = f"counter {counter} was stored, and then refused with {answer.number}"
                yield Finding("K5", text, command.stream, stored.seq, device)
