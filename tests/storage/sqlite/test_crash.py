"""Faults of the machine: a process killed in the middle of commits, a disk without room."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from storage import records
from storage.sqlite import doctor
from storage.sqlite import store as sqlite
from tests import conftest
from tests.storage import make
from tests.storage.make import append, event

ROOT = pathlib.Path(__file__).parents[3]

#: Commits for ever, in batches over many streams, and says of each batch which (stream, seq) are acknowledged.
CHILD = """
import asyncio, itertools, os, pathlib, sys
from protocol import ids
from storage import records
from storage.sqlite import store as sqlite

async def main():
    store = await sqlite.open_store(pathlib.Path(sys.argv[1]))
    streams = [ids.direct_stream(1, other) for other in range(2, 12)]
    heads = {stream: (await store.load(stream)).head for stream in streams}

    async def work(mine):
        for turn in itertools.count():
            batch = []
            for stream in mine:
                heads[stream] += 1
                seq = heads[stream]
                data = stream + seq.to_bytes(7, "big") + bytes(turn % 3000)
                batch.append(records.Append(stream, store.node_epoch, seq, seq, seq, [records.NewEvent(1, data)]))
            outcomes = await store.commit(batch)
            assert all(outcome is records.STORED for outcome in outcomes), outcomes
            os.write(1, b"".join(b"%s %d\\n" % (write.stream.hex().encode(), write.first_seq) for write in batch))

    await asyncio.gather(work(streams[:3]), work(streams[3:]))

asyncio.run(main())
"""


def killed(data: pathlib.Path, lines: int) -> list[tuple[bytes, int]]:
    """Run the child until it has acknowledged so many events, kill it with -9, and say all that it acknowledged."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(data)], stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    with child.stdout as out:
        heard = [out.readline() for _ in range(lines)]
        child.kill()
        heard += out.readlines()
    child.wait()
    acknowledged = [line.split() for line in heard if line.endswith(b"\n")]
    return [(bytes.fromhex(stream.decode()), int(seq)) for stream, seq in acknowledged]


async def test_what_was_acknowledged_survives_kill_9_once_and_without_gaps(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    acknowledged: set[tuple[bytes, int]] = set()
    epochs = []
    for lines in (30, 300, 90):
        acknowledged.update(killed(data, lines))
        store = await sqlite.open_store(data)
        epochs.append(store.node_epoch)
        for stream in {stream for stream, _ in acknowledged}:
            found = await make.whole(store, stream)
            assert [seq for seq, _ in found] == list(range(1, len(found) + 1))
            assert all(body.startswith(stream + seq.to_bytes(7, "big")) for seq, body in found)
            assert {(stream, seq) for seq, _ in found} >= {each for each in acknowledged if each[0] == stream}
        changes = await store.changes(b"", 10**6)
        assert len({(change.stream, change.seq) for change in changes}) == len(changes)
        assert {(change.stream, change.seq) for change in changes} >= acknowledged
        await store.close()
        assert doctor.doctor(data) == []
    assert epochs == sorted(set(epochs))


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 3 MiB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        conftest.require_or_skip("mounting a small tmpfs needs root")
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        conftest.require_or_skip(f"mounting a small tmpfs must be allowed: {mount.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_loses_nothing_and_needs_no_restart(small_disk: pathlib.Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1024 * 1024))
    store = await sqlite.open_store(small_disk / "data")
    head = 0

    async def send() -> records.Result:
        return (await make.results(store, append(make.DIRECT, head + 1, event(b"%d" % (head + 1) + bytes(8_000)))))[0]

    while await send() is records.Result.STORED:
        head += 1
        assert head < 1_000
    assert not make.healthy(store)
    for _ in range(20):
        assert await send() is records.Result.FAILED
    assert [seq for seq, _ in await make.whole(store, make.DIRECT)] == list(range(1, head + 1))
    ballast.unlink()
    await store.probe()
    assert make.healthy(store)
    for _ in range(20):
        assert await send() is records.Result.STORED
        head += 1
    found = await make.whole(store, make.DIRECT)
    assert [(seq, int(body.rstrip(b"\0"))) for seq, body in found] == [(seq, seq) for seq in range(1, head + 1)]
    await store.close()
    assert doctor.doctor(small_disk / "data") == []
