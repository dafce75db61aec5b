"""The writer: one commit for what comes together, few steps for many rows, and a way back after every fault."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from protocol import ids
from storage import errors, records
from storage.sqlite import checkpoints, connection
from storage.sqlite import store as sqlite
from tests.storage import make
from tests.storage.make import DIRECT, GROUP, append, event

STORED, FAILED, UNKNOWN = records.Result.STORED, records.Result.FAILED, records.Result.UNKNOWN


@pytest_asyncio.fixture
async def store(tmp_path: pathlib.Path) -> AsyncIterator[sqlite.SQLiteStore]:
    opened = await sqlite.open_store(tmp_path)
    yield opened
    await opened.close()


class Recording:
    """The writer's connection, with a list of what it is asked to execute and faults for some of it."""

    def __init__(self, inner: connection.Connection) -> None:
        self.inner = inner
        self.asked: list[str] = []
        self.faults: dict[str, BaseException] = {}

    def execute(self, sql: str, *args: Any) -> Any:
        self.asked.append(sql)
        for start, fault in list(self.faults.items()):
            if sql.startswith(start):
                del self.faults[start]
                raise fault
        return self.inner.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def record(store: sqlite.SQLiteStore) -> Recording:
    """Stand between the writer, which is idle now, and its connection."""
    book = store._writer._book
    assert book is not None
    recording = Recording(book.conn)
    book.conn = recording  # type: ignore[assignment]
    return recording


def fault(code: int) -> BaseException:
    """A driver's error with this result code."""
    error = connection.Error("injected")
    error.sqlite_errorcode = code
    error.sqlite_errorname = f"SQLITE_{code}"
    return error


FULL, IOERR_FSYNC, CORRUPT, BUSY = 13, 10 | 4 << 8, 11, 5


async def test_a_hundred_appends_cost_a_handful_of_statements(store: sqlite.SQLiteStore) -> None:
    streams = [ids.direct_stream(1, other) for other in range(2, 52)]
    await make.stored(store, *[append(stream, 1, event()) for stream in streams])
    recording = record(store)
    await make.stored(store, *[append(stream, seq, event()) for seq in (2, 3) for stream in streams])
    assert len(recording.asked) <= 12
    assert not [sql for sql in recording.asked if sql.startswith("SELECT") and "commits" not in sql]


async def test_what_waits_together_is_committed_together(store: sqlite.SQLiteStore) -> None:
    recording = record(store)
    gate = store._writer.call(lambda _: store._writer.thread.is_alive())  # keeps the thread busy while the rest queues
    work = [store.commit([append(ids.direct_stream(1, other), 1, event())]) for other in range(2, 42)]
    users = [store.create_user(make.user(number, f"user {number}")) for number in range(1, 11)]
    await asyncio.gather(gate, *work, *users)
    assert recording.asked.count("COMMIT") < 10


async def test_a_refused_account_change_leaves_its_neighbours_alone(store: sqlite.SQLiteStore) -> None:
    await store.create_user(make.user(1, "asha"))
    answers = await asyncio.gather(
        store.create_user(make.user(2, "ben")),
        store.create_user(make.user(3, "asha")),
        store.commit([append(DIRECT, 1, event())]),
        return_exceptions=True,
    )
    assert isinstance(answers[1], errors.NameTaken)
    assert answers[2] == [records.STORED]
    assert await store.user(2) == make.user(2, "ben")
    assert await store.user(3) is None


@pytest.mark.parametrize("statement", ["INSERT OR FAIL INTO events", "COMMIT"])
async def test_a_full_disk_is_a_definite_no_and_the_writer_goes_on(store: sqlite.SQLiteStore, statement: str) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"a")))
    record(store).faults[statement] = fault(FULL)
    assert await make.results(store, append(DIRECT, 2, event(b"b")), append(GROUP, 1, event(b"x"))) == [FAILED] * 2
    assert not make.healthy(store)
    assert await make.whole(store, DIRECT) == [(1, b"a")]
    await make.stored(store, append(DIRECT, 2, event(b"c")))
    assert make.healthy(store)
    assert await make.whole(store, DIRECT) == [(1, b"a"), (2, b"c")]


async def test_a_failed_sync_is_unknown_until_the_same_bytes_come_again(store: sqlite.SQLiteStore) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"a")))
    record(store).faults["COMMIT"] = fault(IOERR_FSYNC)
    assert await make.results(store, append(DIRECT, 2, event(b"b"))) == [UNKNOWN]
    await make.stored(store, append(DIRECT, 2, event(b"b")))
    assert await make.whole(store, DIRECT) == [(1, b"a"), (2, b"b")]
    record(store).faults["COMMIT"] = fault(IOERR_FSYNC)
    with pytest.raises(errors.OutcomeUnknown):
        await store.create_user(make.user(1, "asha"))
    assert await store.create_user(make.user(1, "asha")) == make.user(1, "asha")


async def test_probe_brings_an_idle_store_back_to_health(store: sqlite.SQLiteStore) -> None:
    record(store).faults["BEGIN"] = fault(BUSY)
    with pytest.raises(errors.Unavailable):
        await store.probe()
    assert not make.healthy(store)
    await store.probe()
    assert make.healthy(store)


async def test_damage_met_by_one_stream_does_not_stop_the_others(store: sqlite.SQLiteStore) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"a")), append(GROUP, 1, event(b"x")))
    recording = record(store)
    recording.faults["INSERT OR FAIL INTO events"] = fault(CORRUPT)
    batch = [append(DIRECT, 2, event(b"b")), append(GROUP, 2, event(b"y"))]
    assert await make.results(store, *batch) == [STORED, STORED]
    store._writer._book.forget()  # type: ignore[union-attr]
    recording.faults["SELECT sid, head"] = fault(CORRUPT)
    recording.faults["SAVEPOINT stream"] = fault(CORRUPT)
    batch = [append(DIRECT, 3, event(b"c")), append(GROUP, 3, event(b"z"))]
    assert FAILED in await make.results(store, *batch)
    assert await make.results(store, *batch) == [STORED, STORED]


async def test_a_batch_that_makes_no_sense_leaves_no_trace(store: sqlite.SQLiteStore) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"a")))
    nonsense: Any = object()
    outcomes = await asyncio.gather(
        store.commit([append(DIRECT, 2, event(b"lost")), nonsense]), store.commit([append(GROUP, 1, event(b"x"))])
    )
    assert [[outcome.result for outcome in each] for each in outcomes] == [[FAILED, FAILED], [STORED]]
    await make.stored(store, append(DIRECT, 2, event(b"b")), append(GROUP, 2, event(b"y")))
    assert await make.whole(store, DIRECT) == [(1, b"a"), (2, b"b")]


async def test_a_number_that_no_column_holds_fails_its_stream_alone(store: sqlite.SQLiteStore) -> None:
    batch = [append(DIRECT, 1, event(b"a"), n=2**70), append(GROUP, 1, event(b"x"))]
    assert await make.results(store, *batch) == [FAILED, STORED]
    await make.stored(store, append(DIRECT, 1, event(b"a")), append(GROUP, 2, event(b"y")))


async def test_a_lock_held_by_somebody_else_is_waited_for_and_then_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_MS", 1)
    store = await sqlite.open_store(tmp_path)
    shell = connection.connect(tmp_path / connection.FILE, 100)
    shell.execute("BEGIN IMMEDIATE")
    assert await make.results(store, append(DIRECT, 1, event())) == [FAILED]
    assert (await store.load(DIRECT)).head == 0
    assert not make.healthy(store)
    shell.execute("ROLLBACK")
    shell.close()
    await make.stored(store, append(DIRECT, 1, event()))
    assert make.healthy(store)
    await store.close()


async def test_a_closed_store_says_so(store: sqlite.SQLiteStore) -> None:
    waiting = asyncio.ensure_future(store.commit([append(DIRECT, 1, event())]))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert await waiting == [records.STORED]
    assert await make.results(store, append(DIRECT, 2, event())) == [FAILED]
    for call in (store.load(DIRECT), store.probe(), store.create_user(make.user(1, "asha"))):
        with pytest.raises(errors.Unavailable):
            await call


async def test_more_streams_than_are_remembered_keep_their_heads(
    store: sqlite.SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sqlite.ledger.MOST_HEADS", 3)
    streams = [ids.direct_stream(1, other) for other in range(2, 12)]
    for seq in (1, 2, 3):
        await make.stored(store, *[append(stream, seq, event()) for stream in streams])
    assert store._writer._book is not None
    assert len(store._writer._book._heads) == 3
    assert [(await store.load(stream)).head for stream in streams] == [3] * 10


async def test_the_log_does_not_grow_without_end(store: sqlite.SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.sqlite.connection.LOG_BYTES", 200_000)
    monkeypatch.setattr("storage.sqlite.checkpoints.LOOK_EVERY", 1)
    written = 0
    for seq in range(1, 301):
        await make.stored(store, append(DIRECT, seq, event(bytes(20_000))))
        written += 20_000
    log = (store.folder / f"{connection.FILE}-wal").stat().st_size
    assert log < written / 3
    assert (await store.load(DIRECT)).head == 300


async def test_reads_of_one_tick_share_a_hop(store: sqlite.SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await make.stored(store, append(DIRECT, 1, event()))
    hops: list[int] = []
    hop = store._readers._hop

    def counted(conn: connection.Connection | None, jobs: list[Any]) -> connection.Connection | None:
        hops.append(len(jobs))
        return hop(conn, jobs)

    monkeypatch.setattr(store._readers, "_hop", counted)
    found = await asyncio.gather(*[store.range(DIRECT, 1, 1, 1, 1) for _ in range(60)])
    assert [len(each) for each in found] == [1] * 60
    assert hops == [60]


async def test_a_read_that_is_given_up_disturbs_nobody(store: sqlite.SQLiteStore) -> None:
    reads = [asyncio.ensure_future(store.load(DIRECT)) for _ in range(3)]
    await asyncio.sleep(0)
    reads[1].cancel()
    found = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(each) for each in found] == [records.Loaded, asyncio.CancelledError, records.Loaded]


async def test_a_log_that_has_grown_once_is_copied_only_when_it_is_full_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOG_BYTES", 2 * 1024 * 1024)
    copies: list[int] = []
    copy = checkpoints._copy

    def counted(conn: connection.Connection) -> None:
        copies.append(head)
        copy(conn)

    monkeypatch.setattr(checkpoints, "_copy", counted)
    store = await sqlite.open_store(tmp_path)
    head = 0

    async def commit() -> None:
        nonlocal head
        head += 1
        await make.stored(store, append(DIRECT, head, event(b"x" * 500)))

    def is_copying() -> bool:
        return store._checkpoints._wanted

    async def fill() -> int:
        """Commits until the log has been copied home."""
        begun = head
        while not is_copying():
            await commit()
        while is_copying():  # noqa: ASYNC110
            await asyncio.sleep(0)
        return head - begun

    first = await fill()
    assert first > checkpoints.LOOK_EVERY
    second = await fill()
    assert len(copies) == 4  # each time the bulk, then the rest
    assert second > first / 2
    await store.close()


async def test_a_refusal_is_definite(store: sqlite.SQLiteStore) -> None:
    """Where the contract leaves room for not knowing."""
    await make.stored(store, append(DIRECT, 1, event(), epoch=5))
    refused = [append(DIRECT, 2, event(), epoch=4), append(DIRECT, 9, event(), epoch=5)]
    assert await make.results(store, refused[0]) == [records.Result.FENCED]
    assert await make.results(store, refused[1]) == [records.Result.CONFLICT]


async def test_commits_of_one_stream_that_are_under_way_together_keep_their_order(store: sqlite.SQLiteStore) -> None:
    """More than the contract asks for."""
    commits = [store.commit([append(DIRECT, seq, event(b"%d" % seq))]) for seq in range(1, 151)]
    assert await asyncio.gather(*commits) == [[records.STORED]] * 150
    assert await make.whole(store, DIRECT) == [(seq, b"%d" % seq) for seq in range(1, 151)]
