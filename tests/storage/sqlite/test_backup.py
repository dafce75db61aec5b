"""Copies of what is damaged or old, and copies that are given up. (What a sound one holds: see `test_files`.)"""

# ruff: noqa: ASYNC240 (small files of a test, and nothing else runs on its loop)
from __future__ import annotations

import asyncio
import pathlib
import threading
from typing import Any

import pytest

from storage import errors, records
from storage.sqlite import backup, connection, doctor, folder, isolate, migrations
from storage.sqlite import store as sqlite
from tests.storage import make
from tests.storage.make import ASHA, DIRECT, GROUP, append, event, member

ROTTEN = b"a message that will rot"
PART = b"a part that will rot"


@pytest.fixture
async def rotten(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder in which one event has rotted, older than those that a start reads."""
    monkeypatch.setattr(folder, "TAIL_EVENTS", 2)
    data = tmp_path / "data"
    store = await sqlite.open_store(data)
    await make.stored(
        store,
        append(DIRECT, 1, event(b"before"), event(ROTTEN), event(b"after"), members=[member(ASHA, DIRECT)]),
        append(DIRECT, 4, event(b"d"), n=4, parts=[(b"s", PART), (records.fold_key(3), b"fold"), (records.fold_key(2), b"f")]),
        append(GROUP, 1, event(b"x"), event(b"y")),
    )
    await store.close()
    flip(data, ROTTEN)
    return data


def flip(folder: pathlib.Path, found: bytes) -> None:
    file = folder / connection.FILE
    content = bytearray(file.read_bytes())
    content[content.index(found) + 3] ^= 0x10
    file.write_bytes(content)


def placeholder(n: int, before: bytes | None) -> bytes:
    return b"lost %d after %s" % (n, before)


async def test_a_backup_names_every_row_that_has_rotted_and_restore_wants_to_be_told_to_take_it(
    rotten: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    store = await sqlite.open_store(rotten)
    found = await store.save(tmp_path / "copy", 0, make.redact)
    await store.close()
    assert [(each.where, each.what) for each in found] == [(f"{DIRECT.hex()} 2", "the event fails its checksum")]
    with pytest.raises(errors.Damaged, match="with-damage"):
        backup.restore(tmp_path / "copy", tmp_path / "again")
    assert backup.restore(tmp_path / "copy", tmp_path / "again", with_damage=True) == found
    restored = await sqlite.open_store(tmp_path / "again")
    assert await make.whole(restored, GROUP) == [(1, b"x"), (2, b"y")]
    await restored.close()


async def test_a_damaged_event_is_given_up_and_its_stream_lives_on(rotten: pathlib.Path) -> None:
    before = doctor.doctor(rotten)
    assert len(before) == 1
    lost = isolate.isolate(rotten, placeholder)
    assert lost == [f"{DIRECT.hex()} 2: an event of kind 1, with what it changed and what was done to it"]
    assert doctor.doctor(rotten) == []
    assert isolate.isolate(rotten, placeholder) == []
    store = await sqlite.open_store(rotten)
    found = await store.range(DIRECT, 1, 9, 9, 999)
    assert [(each.seq, each.kind, each.data) for each in found][:3] == [
        (1, 1, b"before"),
        (2, 1, b"lost 2 after before"),
        (3, 1, b"after"),
    ]
    assert [each.expires_at for each in found] == [0, 1, 0, 0]  # long gone, so readers are shown that it is
    assert set(await store.parts(DIRECT, b"")) == {b"s", records.fold_key(3)}
    assert await store.erase_expired(2**52, make.redact, 9) == 0
    await make.stored(store, append(DIRECT, 5, event(b"goes on")))
    await store.close()


async def test_damage_among_the_newest_events_stops_the_start_with_the_row_and_the_remedy(
    rotten: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "TAIL_EVENTS", 99)
    with pytest.raises(errors.Damaged, match=rf"event 2 of stream {DIRECT.hex()} .*doctor --isolate"):
        await sqlite.open_store(rotten)
    isolate.isolate(rotten, placeholder)
    await (await sqlite.open_store(rotten)).close()


async def test_a_damaged_fold_is_dropped_and_a_damaged_snapshot_is_made_from_the_events_again(rotten: pathlib.Path) -> None:
    isolate.isolate(rotten, placeholder)
    store = await sqlite.open_store(rotten)
    await make.stored(store, append(DIRECT, 5, n=4, parts=[(b"t", b"kept")], snapshot_seq=4))
    await store.close()
    flip(rotten, PART)
    flip(rotten, b"fold")
    lost = isolate.isolate(rotten, placeholder)
    assert [line.partition(":")[0] for line in lost] == [f"{DIRECT.hex()} 3", DIRECT.hex()]
    store = await sqlite.open_store(rotten)
    loaded = await store.load(DIRECT)
    assert (loaded.snapshot_seq, loaded.parts, [each.seq for each in loaded.tail]) == (0, {}, [1, 2, 3, 4])
    await store.close()
    assert doctor.doctor(rotten) == []


async def test_a_folder_in_use_or_without_a_store_is_not_touched(rotten: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = await sqlite.open_store(rotten)
    with pytest.raises(errors.Unavailable, match="in use"):
        isolate.isolate(rotten, placeholder)
    await store.close()
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.Unavailable, match=r"no kith\.db"):
        isolate.isolate(tmp_path / "empty", placeholder)
    assert list((tmp_path / "empty").iterdir()) == []


async def test_a_copy_that_an_older_program_made_is_migrated_before_it_is_examined(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    store = await sqlite.open_store(data)
    await make.stored(store, append(DIRECT, 1, event(b"a")))
    await store.save(copy, 0, make.redact)
    await store.close()
    steps = (*migrations.MIGRATIONS, "ALTER TABLE events ADD COLUMN added INTEGER NOT NULL DEFAULT 7;")
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    assert ["older program" in each.what for each in doctor.examine(copy)] == [True]
    assert backup.restore(copy, tmp_path / "again") == []
    assert doctor.doctor(tmp_path / "again") == []


async def test_a_file_out_of_a_folder_with_its_log_beside_it_is_no_copy(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    store = await sqlite.open_store(data)
    await make.stored(store, append(DIRECT, 1, event(b"only in the log")))
    with pytest.raises(errors.Unavailable, match="belongs to a folder"):
        backup.restore(data / connection.FILE, tmp_path / "again")
    await store.close()


def endless_query(save: backup.Save, started: threading.Event) -> None:
    conn = connection.connect(save._source, 100)
    try:
        save._work_on(conn)
        started.set()
        conn.execute("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n").fetchone()
    finally:
        conn.close()


@pytest.mark.parametrize("where", ["in a statement", "between statements"])
async def test_a_store_that_closes_gives_up_its_copies_before_it_lets_go_of_the_folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    started = threading.Event()

    def endless_examination(_file: pathlib.Path, progress: doctor.Progress, _opened: Any) -> list[records.Finding]:
        started.set()
        while True:
            progress(0, 1)

    if where == "in a statement":
        monkeypatch.setattr(backup.Save, "_copy", lambda save, _unfinished: endless_query(save, started))
    else:
        monkeypatch.setattr(doctor, "examine", endless_examination)
    store = await sqlite.open_store(tmp_path / "data")
    copying = asyncio.create_task(store.save(tmp_path / "copy", 0, make.redact))
    await asyncio.to_thread(started.wait)
    await store.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
    with pytest.raises(errors.Unavailable):
        await copying
    await (await sqlite.open_store(tmp_path / "data")).close()


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("DROP TABLE marks", "marks"),
        ("DROP INDEX events_expires", "events_expires"),
        ("CREATE TABLE recipes (name)", "recipes"),
        ("DELETE FROM meta WHERE key = 'unwiped'", r"meta\.unwiped"),
    ],
)
async def test_a_schema_that_is_not_the_programs_own_is_damage(tmp_path: pathlib.Path, sql: str, named: str) -> None:
    data = tmp_path / "data"
    await (await sqlite.open_store(data)).close()
    conn = connection.connect(data / connection.FILE, 100)
    conn.execute(sql)
    conn.close()
    assert [each.what for each in doctor.doctor(data) if each.where == "schema"] == [
        named.replace("\\", "") + " is not as this program makes it"
    ]
    with pytest.raises(errors.Damaged, match=f"schema.*{named}"):
        await sqlite.open_store(data)
