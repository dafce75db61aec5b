"""Any history of writes against a model in plain Python: what is read back is what the contract says, at every step."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from storage import interfaces, records
from tests.storage import backends, faults, make

T = TypeVar("T")
STREAMS = st.sampled_from([make.DIRECT, make.GROUP])
KINDS = st.sampled_from([make.MESSAGE, make.ADDED, make.EDITED])
EVENTS = st.lists(st.tuples(KINDS, st.binary(max_size=8), st.sampled_from([0, 50, 60])), max_size=4)
KEYS = st.sampled_from([b"a", b"ab", b"b", records.fold_key(1), records.fold_key(2)])
PARTS = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=4)), max_size=3)
FAULTS = st.sampled_from([faults.Fault.LOST, faults.Fault.UNANSWERED, faults.Fault.LATE, faults.Fault.REFUSED])
APPENDS: dict[str, st.SearchStrategy[Any]] = {
    "events": EVENTS,
    "parts": PARTS,
    "erase": st.lists(st.integers(1, 6), max_size=2),
    "snapshot": st.booleans(),
    "newer": st.sampled_from([0, 0, 0, 1]),
}


@dataclass
class Stream:
    """The model of one stream: what its owner knows to be stored."""

    epoch: int = 0
    snapshot_seq: int = 0
    events: list[records.Event] = field(default_factory=list)
    parts: dict[bytes, bytes] = field(default_factory=dict)
    marks: dict[int, tuple[int, int]] = field(default_factory=dict)
    appends: list[records.Append] = field(default_factory=list)

    @property
    def head(self) -> int:
        return len(self.events)

    @property
    def n(self) -> int:
        return sum(event.kind == make.MESSAGE for event in self.events)

    def erase(self, seq: int) -> None:
        if 0 < seq <= self.head:
            old = self.events[seq - 1]
            self.events[seq - 1] = records.Event(seq, old.kind, old.epoch, make.redact(old.data), old.expires_at)
        self.parts.pop(records.fold_key(seq), None)

    def take(self, write: records.Append) -> None:
        for event in write.events:
            self.events.append(records.Event(self.head + 1, event.kind, write.epoch, event.data, event.expires_at))
        own = {erasure.seq for erasure in write.erase}
        late = {records.fold_key(each.seq) for each in self.events if each.expires_at and each.data.startswith(make.GONE)}
        late -= {records.fold_key(seq) for seq in own}
        for seq in own:
            self.erase(seq)
        for key, data in write.parts:
            self.parts.pop(key, None)
            if data is not None and key not in late:
                self.parts[key] = data
        self.epoch = write.epoch
        self.snapshot_seq = self.snapshot_seq if write.snapshot_seq is None else write.snapshot_seq
        self.appends.append(write)


def erased_by_itself(write: records.Append) -> list[bytes]:
    """What an append's events look like once it is applied."""
    own = {erasure.seq for erasure in write.erase}
    return [make.redact(each.data) if seq in own else each.data for seq, each in enumerate(write.events, write.first_seq)]


class Machine(RuleBasedStateMachine):
    backend: backends.Backend

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.streams = {make.DIRECT: Stream(), make.GROUP: Stream()}
        self.expired: set[tuple[bytes, int]] = set()
        self.open()

    def open(self) -> None:
        self.inner: interfaces.Store = self.run(self.backend.open(pathlib.Path(self.folder.name)))
        self.faulty = faults.FaultyStore(self.inner)
        self.store = self.faulty.store

    def run(self, work: Awaitable[T]) -> T:
        async def whole() -> T:
            return await work

        return self.runner.run(whole())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.inner.close())
            self.runner.close()
            self.folder.cleanup()

    def results(self, *writes: records.Write) -> list[records.Result]:
        return self.run(make.results(self.store, *writes))

    def next_append(
        self,
        stream: bytes,
        events: list[tuple[int, bytes, int]],
        parts: list[tuple[bytes, bytes | None]],
        erase: list[int],
        snapshot: bool,
        newer: int,
    ) -> records.Append:
        model = self.streams[stream]
        added = [records.NewEvent(*each) for each in events]
        last = model.head + len(added)
        n = model.n + sum(each.kind == make.MESSAGE for each in added)
        return records.Append(
            stream,
            max(model.epoch, 1) + newer,
            model.head + 1,
            n,
            last,
            added,
            parts,
            last if snapshot else None,
            [records.Erasure(seq, make.redact) for seq in erase],
        )

    @rule(stream=STREAMS, how=st.fixed_dictionaries(APPENDS))
    def append(self, stream: bytes, how: dict[str, Any]) -> None:
        write = self.next_append(stream, **how)
        assert self.results(write) == [records.Result.STORED]
        self.streams[stream].take(write)

    @rule(first=STREAMS, second=STREAMS, one=st.fixed_dictionaries(APPENDS), two=st.fixed_dictionaries(APPENDS))
    def append_two_in_a_batch(self, first: bytes, second: bytes, one: dict[str, Any], two: dict[str, Any]) -> None:
        writes = [self.next_append(first, **one)]
        before = self.streams[first]
        kept = Stream(before.epoch, before.snapshot_seq, list(before.events), dict(before.parts))
        before.take(writes[0])
        writes.append(self.next_append(second, **two))
        self.streams[second].take(writes[1])
        assert self.results(*writes) == [records.Result.STORED] * 2
        assert kept.head <= before.head

    @rule(stream=STREAMS, fault=FAULTS, how=st.fixed_dictionaries(APPENDS))
    def append_with_a_fault(self, stream: bytes, fault: faults.Fault, how: dict[str, Any]) -> None:
        write = self.next_append(stream, **how)
        self.faulty.faults.append(fault)
        expected = records.Result.FAILED if fault is faults.Fault.REFUSED else records.Result.UNKNOWN
        assert self.results(write) == [expected]
        if write.events or fault in (faults.Fault.LOST, faults.Fault.REFUSED):
            assert self.results(write) == [records.Result.STORED]
        else:
            self.results(records.Mark(stream, 9, 0, 0))  # lets a late one arrive; without events it needs no repeat
            self.streams[stream].marks.setdefault(9, (0, 0))
        self.streams[stream].take(write)

    @rule(stream=STREAMS, pick=st.integers(0, 99))
    def repeat(self, stream: bytes, pick: int) -> None:
        model = self.streams[stream]
        sent = [write for write in model.appends if write.events]
        if not sent:
            return
        write = sent[pick % len(sent)]
        stands = model.events[write.first_seq - 1 : write.first_seq - 1 + len(write.events)]
        if write.epoch < model.epoch:
            expected = records.Result.FENCED
        elif [event.data for event in stands] == erased_by_itself(write):
            expected = records.Result.STORED
        else:
            expected = records.Result.CONFLICT  # erased meanwhile: other bytes stand there now
        self.run(make.answers(self.store, [expected], write))

    @rule(stream=STREAMS, away=st.sampled_from([-3, -2, 1, 2, 5]))
    def append_elsewhere(self, stream: bytes, away: int) -> None:
        model = self.streams[stream]
        write = records.Append(stream, max(model.epoch, 1), model.head + 1 + away, 0, 0, [make.event(b"never before")])
        self.run(make.answers(self.store, [records.Result.CONFLICT], write))

    @rule(stream=STREAMS)
    def append_as_an_old_owner(self, stream: bytes) -> None:
        model = self.streams[stream]
        if model.epoch:
            write = records.Append(stream, model.epoch - 1, model.head + 1, 0, 0, [make.event(b"never before")])
            self.run(make.answers(self.store, [records.Result.FENCED], write))

    @rule(stream=STREAMS, user=st.integers(1, 2), delivered=st.integers(0, 9), read=st.integers(0, 9))
    def mark(self, stream: bytes, user: int, delivered: int, read: int) -> None:
        marks = self.streams[stream].marks
        old = marks.get(user, (0, 0))
        marks[user] = (max(old[0], delivered), max(old[1], read))
        assert self.results(records.Mark(stream, user, delivered, read)) == [records.Result.STORED]

    @rule(now=st.sampled_from([49, 50, 60]))
    def expire(self, now: int) -> None:
        while self.run(self.store.erase_expired(now, make.redact, 2)):
            pass
        for stream, model in self.streams.items():
            for event in list(model.events):
                done = (stream, event.seq) in self.expired or event.data.startswith(make.GONE)
                if 0 < event.expires_at <= now and not done:
                    self.expired.add((stream, event.seq))
                    model.erase(event.seq)

    @rule()
    def reopen(self) -> None:
        self.run(self.inner.close())
        self.open()

    @invariant()
    def streams_agree(self) -> None:
        if not hasattr(self, "runner"):
            return
        for stream, model in self.streams.items():
            loaded = self.run(self.store.load(stream))
            assert (loaded.head, loaded.n, loaded.epoch, loaded.snapshot_seq) == (
                model.head,
                model.n,
                max(model.epoch, self.store.node_epoch),
                model.snapshot_seq,
            )
            assert loaded.tail == model.events[model.snapshot_seq :]
            folds = {key: data for key, data in model.parts.items() if key.startswith(records.FOLD_PREFIX)}
            assert loaded.parts == {key: data for key, data in model.parts.items() if key not in folds}
            assert {mark.user: (mark.delivered, mark.read) for mark in loaded.marks} == model.marks
            assert self.run(self.store.range(stream, 1, 10**6, 10**6, 10**9)) == model.events
            items = [
                records.Item(event, folds.get(records.fold_key(event.seq)))
                for event in model.events
                if event.kind < records.FIRST_CHANGE_KIND
            ]
            assert self.run(self.store.page(stream, 1, 10**6, False, 3, 10**9)) == records.Page(items[:3], len(items) > 3)
            down = items[::-1]
            assert self.run(self.store.page(stream, 1, 10**6, True, 3, 10**9)) == records.Page(down[:3], len(items) > 3)

    @invariant()
    def the_feed_tells_everything_once(self) -> None:
        if not hasattr(self, "runner"):
            return
        found = self.run(self.store.changes(b"", 10**6))
        for stream, model in self.streams.items():
            told = [(change.seq, change.data) for change in found if change.stream == stream]
            assert told == [(event.seq, event.data) for event in model.events]


@pytest.mark.parametrize("backend", backends.BACKENDS, ids=lambda backend: backend.name)
def test_any_history_reads_back_as_the_contract_says(backend: backends.Backend) -> None:
    machine = type("Machine", (Machine,), {"backend": backend})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None))
