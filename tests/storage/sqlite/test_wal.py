"""What a killed node leaves in its log: a torn last transaction is nothing, anything else that cannot be read is damage."""

# ruff: noqa: ASYNC221, ASYNC240 (small files of a test, and nothing else runs on its loop)
from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable

import pytest

from storage import errors
from storage.sqlite import connection, doctor, isolate, wal
from storage.sqlite import store as sqlite
from tests import conftest
from tests.storage import make
from tests.storage.make import DIRECT, append, event

EVENTS = 40
PAGE = 4096
HEADER, FRAME = 32, PAGE + 24


@pytest.fixture
async def killed(tmp_path: pathlib.Path) -> pathlib.Path:
    """The folder of a node that acknowledged EVENTS appends and was killed: nothing of them is in the database file yet."""
    data, image = tmp_path / "data", tmp_path / "image"
    store = await sqlite.open_store(data)
    for seq in range(1, EVENTS + 1):
        await make.stored(store, append(DIRECT, seq, event(b"acknowledged %04d" % seq)))
    shutil.copytree(data, image)
    await store.close()
    return image


def log(folder: pathlib.Path) -> pathlib.Path:
    return connection.log_of(folder / connection.FILE)


def change(file: pathlib.Path, how: Callable[[bytearray], object]) -> None:
    content = bytearray(file.read_bytes())
    how(content)
    file.write_bytes(content)


def digests(folder: pathlib.Path) -> dict[str, str]:
    """Of everything but the index, which every recovery makes anew."""
    return {
        entry.name: hashlib.sha256(entry.read_bytes()).hexdigest()
        for entry in folder.iterdir()
        if not entry.name.endswith("-shm")
    }


async def head(folder: pathlib.Path) -> int:
    store = await sqlite.open_store(folder)
    found = await store.head(DIRECT)
    await store.close()
    return found


def last_transaction(content: bytes | bytearray) -> int:
    """Where the last transaction begins: behind the last but one frame that ends one."""
    ends = [at for at in range(HEADER, len(content), FRAME) if content[at + 4 : at + 8] != bytes(4)]
    return ends[-2] + FRAME


def flip_event_20(content: bytearray) -> None:
    content[content.index(b"acknowledged 0020") + 15] ^= 1


def flip_a_salt(content: bytearray) -> None:
    content[HEADER + FRAME + 9] ^= 1


def flip_the_header(content: bytearray) -> None:
    content[20] ^= 1


async def test_all_that_was_acknowledged_is_found_in_a_sound_log(killed: pathlib.Path) -> None:
    before = digests(killed)
    assert doctor.doctor(killed) == []
    assert digests(killed) == before
    assert await head(killed) == EVENTS


@pytest.mark.parametrize("how", [flip_event_20, flip_a_salt, flip_the_header])
async def test_damage_to_what_was_acknowledged_is_told_and_nothing_is_thrown_away(
    killed: pathlib.Path, how: Callable[[bytearray], None]
) -> None:
    change(log(killed), how)
    before = digests(killed)
    assert [finding.where for finding in doctor.doctor(killed)][:1] == [log(killed).name]
    with pytest.raises(errors.Damaged, match=r"kith\.db-wal is damaged"):
        await sqlite.open_store(killed)
    assert digests(killed) == before


async def test_a_log_whose_database_is_gone_is_damage(killed: pathlib.Path) -> None:
    """SQLite would remove it unread."""
    (killed / connection.FILE).unlink()
    before = digests(killed)
    with pytest.raises(errors.Damaged):
        await sqlite.open_store(killed)
    (killed / connection.FILE).touch()
    with pytest.raises(errors.Damaged):
        await sqlite.open_store(killed)
    (killed / connection.FILE).unlink()
    assert digests(killed) == before


@pytest.mark.parametrize("kept", [0, 1, FRAME, FRAME + 100])
async def test_a_transaction_that_was_cut_off_is_no_damage(killed: pathlib.Path, kept: int) -> None:
    content = log(killed).read_bytes()
    os.truncate(log(killed), last_transaction(content) + kept)
    assert doctor.doctor(killed) == []
    assert await head(killed) == EVENTS - 1


async def test_a_transaction_whose_pages_came_to_the_disk_in_another_order_is_no_damage(killed: pathlib.Path) -> None:
    """A power cut may leave the frame that ends it, and not one before."""

    def tear(content: bytearray) -> None:
        at = last_transaction(content)
        content[at : at + FRAME] = bytes(FRAME)

    change(log(killed), tear)
    assert doctor.doctor(killed) == []
    assert await head(killed) == EVENTS - 1


async def test_frames_of_an_earlier_round_of_the_log_are_no_damage(killed: pathlib.Path) -> None:
    """A log that begins anew overwrites the old frames from the front; the rest of them stays."""
    conn = connection.connect(killed / connection.FILE, 100)
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    conn.execute("PRAGMA wal_checkpoint(PASSIVE)")
    conn.execute("UPDATE meta SET value = value + 1 WHERE key = 'probe'")
    again = killed.parent / "again"
    shutil.copytree(killed, again)
    conn.close()
    assert log(again).stat().st_size > 10 * FRAME
    assert doctor.doctor(again) == []
    assert await head(again) == EVENTS


@pytest.mark.parametrize("damaged", [False, True])
async def test_a_folder_that_cannot_be_written_is_examined_all_the_same(killed: pathlib.Path, damaged: bool) -> None:
    if damaged:
        change(log(killed), flip_event_20)
    if os.geteuid() != 0:
        conftest.require_or_skip("mounting read-only needs root")
    for options in (["--bind", str(killed), str(killed)], ["-o", "remount,ro,bind", str(killed)]):
        mount = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if mount.returncode:
            conftest.require_or_skip(f"mounting must be allowed: {mount.stderr.strip()}")
    try:
        found = doctor.doctor(killed)
    finally:
        subprocess.run(["umount", str(killed)], check=True)
    assert [finding.where for finding in found][:1] == ([log(killed).name] if damaged else [])


async def test_a_folder_without_a_store_is_refused_and_stays_as_it_is(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.Unavailable, match=r"no kith\.db"):
        doctor.doctor(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_examining_makes_no_file_in_a_folder_that_was_closed(killed: pathlib.Path) -> None:
    assert await head(killed) == EVENTS
    (killed / "lock").unlink()
    assert doctor.doctor(killed) == []
    assert doctor.examine(killed / connection.FILE) == []
    assert [entry.name for entry in killed.iterdir()] == [connection.FILE]
    assert wal.acknowledged_beyond(killed / connection.FILE) == 0


async def test_what_lies_beyond_damage_in_the_log_can_be_given_up(killed: pathlib.Path) -> None:
    change(log(killed), flip_event_20)
    damaged = log(killed).read_bytes()
    (line,) = isolate.isolate(killed, lambda _n, _before: b"")
    assert line.startswith("kith.db-wal: 20 or more acknowledged transactions")
    assert (killed / "kith.db-wal.damaged").read_bytes() == damaged
    assert doctor.doctor(killed) == []
    assert await head(killed) == 19
