"""What stands in the data folder: who may open it, what damage does, what erasure leaves, copies."""

# ruff: noqa: ASYNC240 (small files of a test, and nothing else runs on its loop)
from __future__ import annotations

import pathlib
import random
import stat

import pytest

from protocol import ids
from storage import errors, records
from storage.sqlite import backup, bulk, connection, doctor, erasures, folder, migrations
from storage.sqlite import store as sqlite
from tests.storage import make
from tests.storage.make import ASHA, BEN, DIRECT, GROUP, PHONE, append, event, member

OLD_BODY = b"the body that will rot " * 4
FILLER = 200


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "data"


async def filled(data: pathlib.Path) -> None:
    """A user with a device and two streams; DIRECT's first event stands in the file once, and is older than the tail."""
    store = await sqlite.open_store(data)
    await store.create_user(make.user(ASHA, "asha"))
    await store.add_device(make.device(ASHA, PHONE), make.token(ASHA, PHONE, b"t"))
    members = [member(ASHA, DIRECT), member(BEN, DIRECT)]
    await make.stored(
        store,
        append(DIRECT, 1, event(OLD_BODY), event(b"b"), parts=[(b"part", b"state of the stream")], members=members),
        append(GROUP, 1, *[event(b"filler")] * FILLER, members=[member(ASHA, GROUP)]),
        records.Cursor(ASHA, PHONE, DIRECT, 1),
    )
    await store.close()


def flip(file: pathlib.Path, found: bytes) -> None:
    """Turn one bit over in the middle of some bytes that stand in the file once."""
    content = bytearray(file.read_bytes())
    assert content.count(found) == 1
    content[content.index(found) + len(found) // 2] ^= 0x10
    file.write_bytes(content)


async def test_the_folder_is_for_its_owner_alone(data: pathlib.Path) -> None:
    store = await sqlite.open_store(data)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in data.iterdir()}
    await store.close()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert {mode & 0o077 for mode in modes.values()} == {0}


async def test_a_second_node_is_refused(data: pathlib.Path) -> None:
    store = await sqlite.open_store(data)
    with pytest.raises(errors.Unavailable, match="in use by another node"):
        await sqlite.open_store(data)
    with pytest.raises(errors.Unavailable, match="in use by another node"):
        bulk.populate(data, [])
    await store.close()
    await (await sqlite.open_store(data)).close()


async def test_a_newer_schema_is_refused_with_its_number(data: pathlib.Path) -> None:
    await filled(data)
    conn = connection.connect(data / connection.FILE, 100)
    conn.execute("PRAGMA user_version = 999")
    conn.close()
    with pytest.raises(errors.Damaged, match="schema version 999"):
        await sqlite.open_store(data)
    assert any("schema version 999" in finding.what for finding in doctor.doctor(data))


async def test_a_file_of_some_other_program_is_refused(data: pathlib.Path) -> None:
    data.mkdir()
    conn = connection.connect(data / connection.FILE, 100)
    conn.execute("CREATE TABLE recipes (name)")
    conn.close()
    with pytest.raises(errors.Damaged, match="some other program"):
        await sqlite.open_store(data)
    (data / connection.FILE).write_bytes(b"no database at all " * 100)
    with pytest.raises(errors.Damaged):
        await sqlite.open_store(data)
    assert doctor.doctor(data)


async def test_a_migration_that_fails_leaves_the_older_version_whole(
    data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(data)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, "CREATE TABLE extra (x); SELECT no_such_thing;"))
        with pytest.raises(errors.StorageError):
            await sqlite.open_store(data)
    assert doctor.doctor(data) == []
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, "CREATE TABLE extra (x INT) STRICT;"))
        store = await sqlite.open_store(data)
        assert (await store.load(DIRECT)).head == 2
        await store.close()


async def test_a_sound_store_has_no_findings(data: pathlib.Path) -> None:
    await filled(data)
    seen: list[tuple[int, int]] = []
    assert doctor.doctor(data, lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (3, 3)


async def test_damage_that_was_met_is_not_forgotten_when_commits_succeed(
    data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "TAIL_EVENTS", FILLER)
    await filled(data)
    flip(data / connection.FILE, OLD_BODY)
    store = await sqlite.open_store(data)
    assert (make.healthy(store), store.damaged) == (True, "")
    with pytest.raises(errors.Damaged):
        await store.load(DIRECT)
    await make.stored(store, append(GROUP, FILLER + 1, event()))
    await store.probe()
    assert (make.healthy(store), store.damaged) == (True, f"event 1 of stream {DIRECT.hex()} fails its checksum")
    await store.close()


async def test_damage_that_a_write_meets_is_not_forgotten_when_others_succeed(data: pathlib.Path) -> None:
    await filled(data)
    conn = connection.connect(data / connection.FILE, 100)
    (page,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'marks'").fetchone()
    conn.close()
    with (data / connection.FILE).open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(random.Random(1).randbytes(4096))
    store = await sqlite.open_store(data)
    assert await make.results(store, records.Mark(DIRECT, ASHA, 1, 1)) == [records.Result.FAILED]
    await make.stored(store, append(GROUP, FILLER + 1, event()))
    assert "malformed" in store.damaged
    await store.close()


async def test_a_damaged_event_is_never_served_and_others_are(data: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "TAIL_EVENTS", FILLER)
    await filled(data)
    flip(data / connection.FILE, OLD_BODY)
    findings = doctor.doctor(data)
    assert [(finding.where, finding.what) for finding in findings] == [(f"{DIRECT.hex()} 1", "the event fails its checksum")]
    store = await sqlite.open_store(data)
    for read in (
        store.load(DIRECT),
        store.range(DIRECT, 1, 1, 1, 1),
        store.item(DIRECT, 1),
        store.page(DIRECT, 1, 9, True, 9, 999),
        store.changes(b"", 9),
    ):
        with pytest.raises(errors.Damaged):
            await read
    assert (await store.range(DIRECT, 2, 2, 1, 1))[0].data == b"b"
    assert len(await make.whole(store, GROUP)) == FILLER
    await make.stored(store, append(GROUP, FILLER + 1, event()))
    await store.close()


async def test_erasing_a_damaged_event_drops_its_bytes_and_it_stays_damaged(
    data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "TAIL_EVENTS", FILLER)
    await filled(data)
    flip(data / connection.FILE, OLD_BODY)
    store = await sqlite.open_store(data)
    await make.stored(store, append(DIRECT, 3, event(b"d", 33), n=2, erase=[1]))
    with pytest.raises(errors.Damaged):
        await store.item(DIRECT, 1)
    await store.close()
    assert OLD_BODY[:20] not in (data / connection.FILE).read_bytes()


async def test_damage_in_the_newest_events_stops_the_start(data: pathlib.Path) -> None:
    await filled(data)
    flip(data / connection.FILE, OLD_BODY)
    with pytest.raises(errors.Damaged, match="event 1 of stream"):
        await sqlite.open_store(data)


async def test_a_damaged_part_is_never_served(data: pathlib.Path) -> None:
    await filled(data)
    flip(data / connection.FILE, b"state of the stream")
    store = await sqlite.open_store(data)
    for read in (store.load(DIRECT), store.parts(DIRECT, b"part")):
        with pytest.raises(errors.Damaged):
            await read
    await store.close()
    assert [finding.what for finding in doctor.doctor(data)] == ["the part fails its checksum"]


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("DELETE FROM events WHERE sid = 3 AND seq = 5", "events 5..5 are missing"),
        ("DELETE FROM events WHERE sid = 3 AND seq = 200", "the head says"),
        ("UPDATE events SET seq = 300 WHERE sid = 3 AND seq = 200", "fails its checksum"),
        ("UPDATE streams SET head = 9 WHERE sid = 2", "the head says"),
        ("UPDATE events SET n = 999 WHERE sid = 3 AND seq = 7", "the count of messages falls"),
        ("UPDATE events SET item = 1 WHERE sid = 3 AND seq = 7", "the newest item"),
        ("UPDATE streams SET snapshot_seq = 9 WHERE sid = 2", "beyond the head"),
        ("DELETE FROM streams WHERE sid = 2", "does not exist"),
        ("UPDATE memberships SET removed = 1, joined = 5 WHERE sid = 3", "no such interval"),
        ("DELETE FROM users", "does not exist"),
        ("DELETE FROM devices", "a token of device"),
        ("DELETE FROM memberships WHERE sid = 1", "own account stream"),
        ("UPDATE cursors SET device = 999", "cursors of device 999"),
        ("UPDATE cursors SET seq = 999", "beyond the head"),
        ("UPDATE commits SET position = position + 5 WHERE position = 1; UPDATE commits SET count = 1", "do not add up"),
    ],
)
async def test_doctor_finds_what_does_not_hold_together(data: pathlib.Path, sql: str, where: str) -> None:
    await filled(data)
    conn = connection.connect(data / connection.FILE, 100)
    conn.executescript(sql)
    conn.close()
    assert any(where in finding.what for finding in doctor.doctor(data))


@pytest.mark.parametrize("seed", range(6))
async def test_torn_pages_are_found_and_raise_nothing_but_the_contracts_errors(data: pathlib.Path, seed: int) -> None:
    await filled(data)
    file = data / connection.FILE
    chance = random.Random(seed)
    pages = file.stat().st_size // 4096
    with file.open("r+b") as opened:
        for page in chance.sample(range(1, pages), pages // 2):
            opened.seek(page * 4096)
            opened.write(chance.randbytes(4096))
    assert doctor.doctor(data)
    try:
        store = await sqlite.open_store(data)
    except errors.StorageError:
        return
    for stream, expected in ((DIRECT, [OLD_BODY, b"b"]), (GROUP, [b"filler"] * FILLER)):
        try:
            found = [data for _, data in await make.whole(store, stream)]
        except errors.StorageError:
            continue
        assert found in (expected, expected[: len(found)])
    await store.close()


async def test_an_erased_body_stands_in_no_file(data: pathlib.Path) -> None:
    store = await sqlite.open_store(data)
    streams = [ids.direct_stream(1, other) for other in range(2, 22)]
    chance = random.Random(7)
    heads = dict.fromkeys(streams, 0)
    for _ in range(60):
        batch = []
        for stream in chance.choices(streams, k=20):
            heads[stream] += 1
            body = b"SECRET" + bytes(chance.choices(range(65, 91), k=chance.choice([10, 150, 6_000])))
            expires = chance.choice([0, 100])
            fold = (records.fold_key(heads[stream]), b"SECRET edit")
            batch.append(append(stream, heads[stream], event(body, expires_at=expires), parts=[fold]))
        await make.stored(store, *batch)
    while await store.erase_expired(100, make.redact, 100):
        pass
    for stream in streams:
        head = heads[stream]
        await make.stored(store, append(stream, head + 1, event(b"d", 33), n=head, erase=range(1, head + 1)))
    copy = data.parent / "copy"
    await store.save(copy, 100, make.redact)
    await store.settle()
    assert [file for file in (*data.iterdir(), copy) if b"SECRET" in file.read_bytes()] == []
    await make.stored(store, *[append(stream, heads[stream] + 2, event(b"next")) for stream in streams])
    await store.close()
    assert [file for file in data.iterdir() if b"SECRET" in file.read_bytes()] == []
    assert doctor.doctor(data) == []


async def test_the_log_is_cut_and_pages_are_wiped_without_being_asked(
    data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sqlite.erasures.CUT_SECONDS", 0.0)
    monkeypatch.setattr("storage.sqlite.erasures.WIPE_SECONDS", 0.0)
    store = await sqlite.open_store(data)
    await make.stored(store, *[append(DIRECT, seq, event(b"SECRET %d" % seq + bytes(300))) for seq in range(1, 100)])
    await make.stored(store, append(DIRECT, 100, event(b"d", 33), n=99, erase=range(1, 100)))
    while await store._writer.between(erasures._unwiped):
        pass
    assert [file for file in data.iterdir() if b"SECRET" in file.read_bytes()] == []
    await store.close()


async def test_a_restart_does_not_forget_to_wipe(data: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await sqlite.open_store(data)
    await make.stored(store, append(DIRECT, 1, event(b"SECRET")), append(DIRECT, 2, event(b"d", 33), n=1, erase=[1]))
    assert await store._writer.between(erasures._unwiped) == 1
    await store.close()
    monkeypatch.setattr("storage.sqlite.erasures.CUT_SECONDS", 0.0)
    monkeypatch.setattr("storage.sqlite.erasures.WIPE_SECONDS", 0.0)
    store = await sqlite.open_store(data)
    while await store._writer.between(erasures._unwiped):
        pass
    await store.close()


async def test_a_copy_made_beside_a_running_node_restores_to_the_same(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    await filled(data)
    store = await sqlite.open_store(data)
    await make.stored(store, append(DIRECT, 3, event(b"epoch", expires_at=500), epoch=40))
    copy, again = tmp_path / "copy", tmp_path / "again"
    await store.save(copy, 400, make.redact)
    await make.stored(store, append(DIRECT, 4, event(b"later"), epoch=40))
    with pytest.raises(errors.Unavailable, match="not overwritten"):
        await store.save(copy, 400, make.redact)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy", "data"]
    backup.restore(copy, again)
    restored = await sqlite.open_store(again)
    assert restored.node_epoch > max(store.node_epoch, 40)
    assert restored.incarnation != store.incarnation
    assert await make.whole(restored, DIRECT) == (await make.whole(store, DIRECT))[:3]
    assert await make.whole(restored, GROUP) == await make.whole(store, GROUP)
    assert await restored.user(ASHA) == await store.user(ASHA)
    assert {each.stream: each.cursor for each in await restored.behind(ASHA, PHONE)} == {DIRECT: 1, GROUP: 0}
    await make.stored(restored, append(DIRECT, 4, event(b"goes on"), epoch=restored.node_epoch))
    await store.close()
    await restored.close()
    assert doctor.doctor(again) == []


async def test_a_restore_refuses_what_it_would_spoil(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    await filled(data)
    store = await sqlite.open_store(data)
    copy = tmp_path / "copy"
    await store.save(copy, 0, make.redact)
    with pytest.raises(errors.Unavailable, match="in use"):
        backup.restore(copy, data)
    await store.close()
    with pytest.raises(errors.Unavailable, match="not empty"):
        backup.restore(copy, data)
    flip(copy, OLD_BODY)
    empty = tmp_path / "empty"
    with pytest.raises(errors.Damaged):
        backup.restore(copy, empty)
    assert [entry.name for entry in empty.iterdir()] == [folder.LOCK]
    with pytest.raises(errors.StorageError):
        backup.restore(tmp_path / "no such file", empty)


async def test_a_copy_never_holds_what_should_have_expired(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = await sqlite.open_store(data)
    await make.stored(store, append(DIRECT, 1, event(b"secret", expires_at=100), event(b"b", expires_at=300)))
    await store.save(tmp_path / "copy", 200, make.redact)
    assert await make.whole(store, DIRECT) == [(1, b"gones"), (2, b"b")]
    with pytest.raises(errors.Unavailable, match="expired"):
        backup.Save(data / connection.FILE, tmp_path / "other", 300).run()
    assert not (tmp_path / "other").exists()
    await store.close()


async def test_a_population_is_what_a_node_would_have_written(data: pathlib.Path) -> None:
    users = [make.user(number, f"user {number}") for number in range(1, 11)]
    logins = [
        bulk.Login(make.device(each.id, 100 + each.id), make.token(each.id, 100 + each.id, b"%d" % each.id)) for each in users
    ]
    stream = ids.direct_stream(1, 2)
    writes = [append(stream, seq, event(b"%d" % seq), members=[member(1, stream)] if seq == 1 else ()) for seq in range(1, 51)]
    done: list[int] = []
    assert bulk.populate(data, [*users, *logins, *writes], done.append) == 70
    assert done == [70]
    assert doctor.doctor(data) == []
    store = await sqlite.open_store(data)
    assert len(await make.whole(store, stream)) == 50
    assert [each.stream for each in await store.behind(1, 101)] == [stream]
    await store.close()
    with pytest.raises(errors.StorageError, match="conflict"):
        bulk.populate(data, [append(stream, 99, event())])
    with pytest.raises(errors.NameTaken):
        bulk.populate(data, [make.user(77, "user 1")])
    assert {entry.name for entry in data.iterdir()} == {folder.LOCK, connection.FILE}
