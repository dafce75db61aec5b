"""Each check finds the fault it is there for: one is planted in a history that is correct otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocol import codec, codes, events, messages
from tests.checker import checks, history, model
from tests.checker.simulate import ASHA, BEN, CARA, DIRECT, GROUP, Simulation

T = TypeVar("T")
STREAMS = (DIRECT, GROUP)
STRANGER = 4
#: Of a message that nobody sent.
BODY = msgspec.Raw(msgspec.msgpack.encode(events.Text("?")))


class Garden:
    """A correct history and the hands to plant a fault in it. Where there is nothing to pick from, another one is tried."""

    def __init__(self, seen: history.History, data: st.DataObject) -> None:
        self.seen = seen
        self._data = data

    def pick(self, candidates: Sequence[T]) -> T:
        assume(candidates)
        return self._data.draw(st.sampled_from(range(len(candidates))).map(lambda at: candidates[at]))

    def device(self) -> history.Device:
        return self.pick(list(self.seen.devices.values()))

    def at(self, kind: type[T], where: Callable[[history.Device, T], bool] = lambda _, __: True) -> tuple[history.Device, int]:
        """A place on some tape where an entry of this kind stands."""
        found = [
            (device, index)
            for device in self.seen.devices.values()
            for index, entry in enumerate(device.entries)
            if isinstance(entry, kind) and where(device, entry)
        ]
        return self.pick(found)

    def commands(self) -> list[history.Command]:
        return [each for device in self.seen.devices.values() for each in history.commands(device).values()]

    def row_of(self, command: history.Command) -> history.Row | None:
        for row in self.seen.rows[command.stream]:
            event = events.decode(row.data)
            if (event.device, event.counter) == (command.device, command.counter):
                return row
        return None

    def put(self, stream: bytes, row: history.Row) -> None:
        """Store one more row at the end, with the right n and time."""
        event = events.decode(row.data)
        last = events.decode(self.seen.rows[stream][-1].data)
        event.n = last.n + isinstance(event, events.Message)
        event.time = last.time
        seq = len(self.seen.rows[stream]) + 1
        self.seen.rows[stream].append(history.Row(seq, self.seen.rows[stream][-1].epoch, events.encode(event)))

    def change(self, stream: bytes, index: int, **fields: object) -> None:
        """Change what is stored of an event."""
        row = self.seen.rows[stream][index]
        event = events.decode(row.data)
        for name, value in fields.items():
            setattr(event, name, value)
        self.seen.rows[stream][index] = dataclasses.replace(row, data=events.encode(event))


Plant = Callable[[Garden], None]
PLANTS: dict[str, tuple[str, Plant]] = {}


def finds(check: str) -> Callable[[Plant], Plant]:
    """This fault is found by `check`."""

    def register(plant: Plant) -> Plant:
        PLANTS[plant.__name__] = (check, plant)
        return plant

    return register


@finds("K1")
def the_newest_acknowledged_event_is_lost(garden: Garden) -> None:
    stream = garden.pick(STREAMS)
    assume(any(c.stored and c.stored.seq == len(garden.seen.rows[stream]) and c.stream == stream for c in garden.commands()))
    garden.seen.rows[stream].pop()


@finds("K1")
def an_acknowledged_event_in_the_middle_is_lost_and_the_others_move_up(garden: Garden) -> None:
    stream = garden.pick(STREAMS)
    rows = garden.seen.rows[stream]
    assume(len(rows) > 3)
    lost = garden.pick(range(1, len(rows) - 1))
    garden.seen.rows[stream] = [*rows[:lost], *(dataclasses.replace(row, seq=row.seq - 1) for row in rows[lost + 1 :])]


@finds("K1")
def a_command_takes_effect_twice(garden: Garden) -> None:
    stream = garden.pick(STREAMS)
    garden.put(stream, garden.pick(garden.seen.rows[stream]))


@finds("K1")
def a_stored_body_is_not_what_was_sent(garden: Garden) -> None:
    sent = [c for c in garden.commands() if c.stored and isinstance(codec.decode_client(c.data), messages.Send)]
    command = garden.pick(sent)
    assert command.stored is not None
    garden.change(command.stream, command.stored.seq - 1, body=BODY)


@finds("K1")
def an_event_comes_twice_on_one_connection(garden: Garden) -> None:
    device, at = garden.at(history.Got)
    device.entries.insert(at, device.entries[at])


@finds("K2")
def two_events_come_in_the_wrong_order(garden: Garden) -> None:
    def has_next(device: history.Device, entry: history.Got) -> bool:
        after = device.entries[device.entries.index(entry) + 1 :][:1]
        return bool(after) and isinstance(after[0], history.Got) and after[0].stream == entry.stream

    device, at = garden.at(history.Got, has_next)
    device.entries[at], device.entries[at + 1] = device.entries[at + 1], device.entries[at]


@finds("K2")
def an_event_is_left_out_and_comes_later(garden: Garden) -> None:
    """Also healed by a reconnect, it was a gap."""

    def first_and_not_last(device: history.Device, entry: history.Got) -> bool:
        tape = [each for each in device.entries if isinstance(each, history.Got) and each.stream == entry.stream]
        return sum(each.seq == entry.seq for each in tape) == 1 and tape[-1].seq > entry.seq

    device, at = garden.at(history.Got, first_and_not_last)
    entry = device.entries.pop(at)
    assert isinstance(entry, history.Got)
    own = [c for c in history.commands(device).values() if c.stream == entry.stream and c.stored and c.stored.seq == entry.seq]
    assume(not own)
    device.entries.append(history.Connected(garden.seen.converged))
    device.entries.append(entry)


@finds("K2")
def two_readers_see_different_events_at_one_seq(garden: Garden) -> None:
    device, at = garden.at(history.Got)
    entry = device.entries[at]
    assert isinstance(entry, history.Got)
    event = events.decode(entry.data)
    event.time += 1
    device.entries[at] = dataclasses.replace(entry, data=events.encode(event))


@finds("K2")
def a_seq_is_missing_in_the_store(garden: Garden) -> None:
    stream = garden.pick(STREAMS)
    assume(len(garden.seen.rows[stream]) > 2)
    garden.seen.rows[stream].pop(garden.pick(range(len(garden.seen.rows[stream]) - 1)))


@finds("K2")
def n_counts_wrongly(garden: Garden) -> None:
    stream = garden.pick(STREAMS)
    garden.change(stream, garden.pick(range(len(garden.seen.rows[stream]))), n=9999)


@finds("K2")
def the_time_goes_back(garden: Garden) -> None:
    stream = garden.pick(STREAMS)
    assume(len(garden.seen.rows[stream]) > 1)
    garden.change(stream, garden.pick(range(1, len(garden.seen.rows[stream]))), time=0)


@finds("K2")
def an_event_is_said_to_be_gone_that_is_not(garden: Garden) -> None:
    stream = garden.pick(STREAMS)
    there = [row.seq for row in garden.seen.rows[stream] if isinstance(events.decode(row.data), events.Reacted)]
    seq = garden.pick(there)
    garden.device().entries.append(history.Erased(garden.seen.converged, stream, seq, seq))


@finds("K3")
def two_commands_of_a_device_change_places(garden: Garden) -> None:
    once = [c for c in garden.commands() if c.stored and len(c.tries) == 1]
    pairs = [(a, b) for a in once for b in once if a.device == b.device and a.stream == b.stream and a.counter < b.counter]
    one, other = garden.pick(pairs)
    assert one.stored is not None
    assert other.stored is not None
    garden.change(one.stream, one.stored.seq - 1, counter=other.counter)
    garden.change(one.stream, other.stored.seq - 1, counter=one.counter)


@finds("K4")
def a_refused_command_is_stored_after_all(garden: Garden) -> None:
    refused = garden.pick([c for c in garden.commands() if c.refused_for_good])
    user = garden.seen.devices[refused.device].user
    event = events.Message(0, 0, user, refused.device, refused.counter, BODY)
    garden.put(refused.stream, history.Row(0, 0, events.encode(event)))


@finds("K4")
def a_refused_command_is_seen_by_one_reader(garden: Garden) -> None:
    refused = garden.pick([c for c in garden.commands() if c.refused_for_good])
    user = garden.seen.devices[refused.device].user
    event = events.Message(0, 0, user, refused.device, refused.counter, BODY)
    seq = len(garden.seen.rows[refused.stream]) + 1
    garden.device().entries.append(history.Got(garden.seen.converged, refused.stream, seq, events.encode(event)))


@finds("K4")
def an_event_is_stored_that_nobody_sent(garden: Garden) -> None:
    stream = garden.pick(STREAMS)
    row = garden.pick(garden.seen.rows[stream])
    event = events.decode(row.data)
    event.counter = 10**6
    garden.put(stream, dataclasses.replace(row, data=events.encode(event)))


@finds("K5")
def an_unknown_send_is_seen_by_one_and_stored_for_nobody(garden: Garden) -> None:
    device = garden.device()
    seq = len(garden.seen.rows[DIRECT]) + 1
    frame = messages.Send(999_999, 999_999, DIRECT, BODY)
    device.entries.append(history.Asked(garden.seen.converged, DIRECT, 999_999, codec.encode(frame)))
    device.entries.append(history.Refused(garden.seen.converged, 999_999, codes.UNKNOWN.number))
    event = events.Message(1, 1, device.user, device.id, 999_999, BODY)
    garden.seen.devices[21].entries.append(history.Got(garden.seen.converged, DIRECT, seq, events.encode(event)))


@finds("K5")
def a_repeat_is_answered_with_another_seq(garden: Garden) -> None:
    device, at = garden.at(history.Stored)
    entry = device.entries[at]
    assert isinstance(entry, history.Stored)
    device.entries.append(dataclasses.replace(entry, seq=entry.seq + 1))


@finds("K5")
def a_stored_command_is_refused_afterwards(garden: Garden) -> None:
    device, at = garden.at(history.Stored)
    entry = device.entries[at]
    assert isinstance(entry, history.Stored)
    device.entries.append(history.Refused(entry.time, entry.counter, codes.NOT_ALLOWED.number))


@finds("K6")
def the_newest_event_never_reaches_a_device(garden: Garden) -> None:
    stream = garden.pick(STREAMS)
    last = len(garden.seen.rows[stream])
    device = garden.device()
    got = [each for each in device.entries if isinstance(each, history.Got) and (each.stream, each.seq) == (stream, last)]
    own = [c for c in history.commands(device).values() if c.stored and c.stored.seq == last and c.stream == stream]
    assume(got and not own)
    device.entries = [each for each in device.entries if each not in got]


@finds("K6")
def everybody_has_everything_too_late(garden: Garden) -> None:
    garden.seen.converged = garden.seen.healed + 31


@finds("K7")
def an_older_owner_writes_behind_a_newer_one(garden: Garden) -> None:
    stream = garden.pick(STREAMS)
    rows = garden.seen.rows[stream]
    behind = [at for at in range(1, len(rows)) if rows[at - 1].epoch > 1]
    at = garden.pick(behind)
    rows[at] = dataclasses.replace(rows[at], epoch=rows[at - 1].epoch - 1)


@finds("K7")
def two_owners_acknowledge_one_seq(garden: Garden) -> None:
    device, at = garden.at(history.Stored)
    entry = device.entries[at]
    assert isinstance(entry, history.Stored)
    stream = history.commands(device)[entry.counter].stream
    others = [c for c in garden.commands() if c.stream == stream and (c.device, c.counter) != (device.id, entry.counter)]
    other = garden.pick(others)
    garden.seen.devices[other.device].entries.append(dataclasses.replace(entry, counter=other.counter))


@finds("K7")
def an_owner_takes_a_command_before_what_another_one_acknowledged_already(garden: Garden) -> None:
    stored = [c for c in garden.commands() if c.stored]
    pairs = [
        (one, other)
        for one in stored
        for other in stored
        if one.stream == other.stream and one.stored and other.stored and one.stored.time < other.tries[0]
    ]
    one, other = garden.pick(pairs)
    for command, seq in ((one, other.stored.seq if other.stored else 0), (other, one.stored.seq if one.stored else 0)):
        device = garden.seen.devices[command.device]
        device.entries = [
            dataclasses.replace(each, seq=seq) if isinstance(each, history.Stored) and each.counter == command.counter else each
            for each in device.entries
        ]


@finds("K8")
def a_watermark_goes_back(garden: Garden) -> None:
    device, at = garden.at(history.Receipt, lambda _, entry: entry.delivered > 1)
    entry = device.entries[at]
    assert isinstance(entry, history.Receipt)
    device.entries.insert(at + 1, dataclasses.replace(entry, delivered=entry.delivered - 1))


@finds("K8")
def a_watermark_is_beyond_what_was_acknowledged(garden: Garden) -> None:
    device, at = garden.at(history.Receipt)
    entry = device.entries[at]
    assert isinstance(entry, history.Receipt)
    device.entries.append(dataclasses.replace(entry, delivered=10**6))


@finds("K8")
def what_was_read_was_not_delivered(garden: Garden) -> None:
    device, at = garden.at(history.Receipt)
    entry = device.entries[at]
    assert isinstance(entry, history.Receipt)
    device.entries.append(dataclasses.replace(entry, read=entry.delivered + 1))


@finds("K8")
def a_watermark_that_was_told_is_not_stored(garden: Garden) -> None:
    device, at = garden.at(history.Receipt)
    entry = device.entries[at]
    assert isinstance(entry, history.Receipt)
    garden.seen.marks[entry.stream, entry.user] = (entry.delivered - 1, 0)


@finds("K8")
def what_was_acknowledged_is_not_stored(garden: Garden) -> None:
    log = [(row.seq, events.decode(row.data)) for row in garden.seen.rows[GROUP]]
    intervals = {GROUP: model.intervals(GROUP, log), DIRECT: model.intervals(DIRECT, ())}
    found = []
    for device in garden.seen.devices.values():
        *_, last = history.connections(device)
        for entry in last:
            if isinstance(entry, history.Marked) and entry.time <= garden.seen.healed and entry.stream in intervals:
                own = intervals[entry.stream].get(device.user, [])
                if own and own[-1][1] == model.OPEN and entry.seq >= own[-1][0]:
                    found.append((device, entry))
    device, entry = garden.pick(found)
    garden.seen.marks[entry.stream, device.user] = (entry.seq - 1, 0)


def _account(garden: Garden, **changes: object) -> None:
    """Fetch another account than the events say."""
    at = garden.pick(range(len(garden.seen.accounts)))
    view = garden.seen.accounts[at]
    garden.seen.accounts[at] = dataclasses.replace(view, state=msgspec.structs.replace(view.state, **changes))


@finds("K10")
def an_account_lacks_a_device_that_was_announced(garden: Garden) -> None:
    _account(garden, devices=())


@finds("K10")
def an_account_has_a_device_that_nobody_was_told_of(garden: Garden) -> None:
    at = garden.pick(range(len(garden.seen.accounts)))
    view = garden.seen.accounts[at]
    more = (*view.state.devices, messages.DeviceInfo(999, "", 1, 1))
    garden.seen.accounts[at] = dataclasses.replace(view, state=msgspec.structs.replace(view.state, devices=more))


@finds("K10")
def an_account_blocks_somebody_without_an_event(garden: Garden) -> None:
    _account(garden, blocked=(STRANGER,))


@finds("K10")
def a_contact_is_fetched_under_another_label(garden: Garden) -> None:
    at = garden.pick(range(len(garden.seen.accounts)))
    view = garden.seen.accounts[at]
    (contact,) = view.contacts
    garden.seen.accounts[at] = dataclasses.replace(view, contacts=(messages.Contact(contact.user, "another"),))


def _row(garden: Garden, **changes: object) -> None:
    """Fetch another row of the conversation list than the events say."""
    at = garden.pick(range(len(garden.seen.accounts)))
    view = garden.seen.accounts[at]
    rows = tuple(msgspec.structs.replace(row, **changes) for row in view.rows)
    garden.seen.accounts[at] = dataclasses.replace(view, rows=rows)


@finds("K10")
def a_row_shows_a_draft_that_is_not_the_newest(garden: Garden) -> None:
    _row(garden, settings=messages.Settings(pinned=True, draft="draft 0"))


@finds("K10")
def a_row_has_less_read_than_the_other_devices_were_told(garden: Garden) -> None:
    _row(garden, read=0)


def _view(garden: Garden) -> tuple[int, history.View]:
    """A view of somebody who was never out."""
    views = [(at, view) for at, view in enumerate(garden.seen.views) if view.items and view.user == ASHA]
    return garden.pick(views)


@finds("K10")
def history_lacks_an_item(garden: Garden) -> None:
    at, view = _view(garden)
    lost = garden.pick(view.items)
    garden.seen.views[at] = dataclasses.replace(view, items=tuple(item for item in view.items if item != lost))


@finds("K10")
def history_shows_a_reaction_that_nobody_gave(garden: Garden) -> None:
    at, view = _view(garden)
    seq, _, fold = garden.pick(view.items)
    changed = events.decode_fold(fold)
    changed.reactions = {**changed.reactions, STRANGER: "!"}
    items = tuple((s, d, events.encode_fold(changed) if s == seq else f) for s, d, f in view.items)
    garden.seen.views[at] = dataclasses.replace(view, items=items)


@finds("K10")
def history_shows_an_edit_that_is_not_the_newest(garden: Garden) -> None:
    at, view = _view(garden)
    seq = garden.pick([seq for seq, _, fold in view.items if events.decode_fold(fold).edits])
    items = tuple((s, d, events.encode_fold(events.Fold()) if s == seq else f) for s, d, f in view.items)
    garden.seen.views[at] = dataclasses.replace(view, items=items)


@finds("K10")
def a_group_has_a_member_whom_nobody_let_in(garden: Garden) -> None:
    views = [(at, view) for at, view in enumerate(garden.seen.views) if view.group and view.user == ASHA]
    at, view = garden.pick(views)
    more = (*view.members, messages.Member(STRANGER, events.Role.MEMBER, 1))
    garden.seen.views[at] = dataclasses.replace(view, members=more)


@finds("K11")
def a_stranger_is_given_an_event(garden: Garden) -> None:
    row = garden.pick(garden.seen.rows[DIRECT])
    garden.seen.devices[31].entries.append(history.Got(garden.seen.converged, DIRECT, row.seq, row.data))


def _outside(garden: Garden) -> tuple[int, history.Row]:
    """A user and a row of the group between two of the user's intervals, or behind them."""
    log = [(row.seq, events.decode(row.data)) for row in garden.seen.rows[GROUP]]
    intervals = model.intervals(GROUP, log)
    found = [
        (user, row)
        for user in (BEN, CARA)
        for row in garden.seen.rows[GROUP]
        if not model.may_read(intervals.get(user, []), row.seq)
    ]
    return garden.pick(found)


@finds("K11")
def who_was_removed_is_given_an_event(garden: Garden) -> None:
    user, row = _outside(garden)
    device = garden.pick([device for device in garden.seen.devices.values() if device.user == user])
    device.entries.append(history.Got(garden.seen.converged, GROUP, row.seq, row.data))


@finds("K11")
def history_shows_what_was_said_while_its_reader_was_out(garden: Garden) -> None:
    user, row = _outside(garden)
    items = ((row.seq, row.data, events.encode_fold(events.Fold())),)
    garden.seen.views.append(history.View(user, GROUP, len(garden.seen.rows[GROUP]), items))


@finds("K11")
def the_store_lets_somebody_read_more_than_the_events_do(garden: Garden) -> None:
    stream, user = garden.pick([key for key in garden.seen.intervals if key[0] == GROUP])
    garden.seen.intervals[stream, user] = ((0, model.OPEN),)


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_found(name: str) -> None:
    check, plant = PLANTS[name]

    @given(st.integers(0, 2**32), st.data())
    @settings(max_examples=6)
    def planted(seed: int, data: st.DataObject) -> None:
        garden = Garden(Simulation(seed).seen, data)
        plant(garden)
        findings = checks.check(garden.seen)
        assert check in {finding.check for finding in findings}, checks.report(findings) or "nothing was found"

    planted()
