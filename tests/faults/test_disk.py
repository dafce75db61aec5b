"""Trouble with the disk: no room, a lock that somebody else holds, and bytes that rotted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import connect

import server
from client.client import SUBPROTOCOL, Client
from node import Node
from protocol import codec, codes, ids, messages
from storage import errors, records
from storage.sqlite import bulk, doctor, folder, isolate
from storage.sqlite import store as sqlite
from tests import conftest
from tests.faults import nodes, traffic
from tests.faults.waiting import DEADLINE_S, until, until_true


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 6 MiB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        conftest.require_or_skip("mounting a small tmpfs needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        conftest.require_or_skip(f"mounting a small tmpfs must be allowed: {mount.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def health(node: Node, name: str = "healthz") -> int:
    """The HTTP status of a page on the operator's port."""

    def ask() -> int:
        try:
            with urllib.request.urlopen(f"{node.internal_url}/{name}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    return await asyncio.to_thread(ask)


async def turns(node: Node, status: int) -> None:
    """Wait until /healthz has this HTTP status."""

    async def turned() -> bool:
        return await health(node) == status

    await until_true(turned, f"health turns {status}")


async def test_a_full_disk_is_told_loses_nothing_and_needs_no_restart(small_disk: pathlib.Path) -> None:
    data = small_disk / "data"
    ballast = small_disk / "ballast"
    async with nodes.inside(data) as node:
        async with traffic.Traffic(node.url, seed=9, users=3) as people:
            await people.gather()
            assert await health(node) == 200
            free = os.statvfs(small_disk)
            ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - 64 * 1024)))
            people.begin(commands=120)
            await until(lambda: people.refusals.get(codes.UNAVAILABLE.number, 0) > 20 or people.done, "the disk is full")
            people.fail_fast()
            assert not people.done, "the disk was never full"
            await turns(node, 503)
            stored = people.seen_stored()
            ballast.unlink()
            await turns(node, 200)
            await people.converge()
            assert people.seen_stored() > stored
        assert not node.failure
    await traffic.stored(data, people.seen)
    people.check()


async def test_a_database_that_somebody_locks_is_told_loses_nothing_and_needs_no_restart(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    async with nodes.inside(data) as node:
        async with traffic.Traffic(node.url, seed=12, users=3) as people:
            await people.gather()
            assert await health(node) == 200
            people.begin(commands=120)
            await people.answered(60)
            shell = sqlite3.connect(data / "kith.db", timeout=DEADLINE_S, isolation_level=None, check_same_thread=False)
            with contextlib.closing(shell):
                await asyncio.to_thread(shell.execute, "BEGIN IMMEDIATE")
                await until(lambda: people.refusals.get(codes.UNAVAILABLE.number, 0) > 5 or people.done, "it is locked")
                people.fail_fast()
                assert not people.done, "it was never locked"
                await turns(node, 503)
                stored = people.seen_stored()
                shell.execute("ROLLBACK")
            await turns(node, 200)
            await people.converge()
            assert people.seen_stored() > stored
        assert not node.failure
    await traffic.stored(data, people.seen)
    people.check()


async def test_a_damaged_row_is_never_served_and_all_others_are(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    credentials = [messages.RegisterCredential(name, traffic.PASSWORD, name.ljust(16).encode()) for name in ("asha", "ben")]
    async with nodes.inside(data) as node, Client(node.url, credentials[0]) as asha, Client(node.url, credentials[1]) as ben:
        users, tokens = [asha.identity.user, ben.identity.user], [asha.identity.token, ben.identity.token]
        damaged = ids.direct_stream(users[0], users[1])
        whole = ids.direct_stream(users[0], users[0])
        for number in range(20):
            await asha.send_text(damaged, f"text number {number}")
            await asha.send_text(whole, f"note number {number}")
    # What was written last is checked when the store is opened: let the damage lie further back.
    bulk.populate(data, (later(number) for number in range(1, folder.TAIL_EVENTS + 1)))
    flip(data / "kith.db", b"text number 7")
    assert any("checksum" in finding.what for finding in doctor.doctor(data))
    async with nodes.inside(data) as node, Client(node.url, messages.TokenCredential(tokens[0]), strict=True) as asha:
        assert (await asha.history(whole, limit=50)).items[-1].seq == 1
        after = await asha.history(damaged, 9, newest_first=False)
        assert [item.seq for item in after.items] == list(range(9, 21))
        async with asyncio.timeout(30):
            refused = await first_answer(node.url, tokens[1], messages.FetchHistory(5, damaged, 0, False, 20))
            assert isinstance(refused, messages.Error)
            assert codes.BY_NUMBER[refused.number].temporary
            assert isinstance((await asha.send_text(whole, "and on")).seq, int)
        assert node.telemetry.checksum_errors > 0
        assert await health(node) == 503
        assert await health(node, "readyz") == 200  # new people may come: they are served
        assert [problem for problem in node.problems() if "fails its checksum" in problem]
    store = await sqlite.open_store(data)
    with pytest.raises(errors.Damaged):
        await store.range(damaged, 1, 20, 99, 10**6)
    assert [row.seq for row in await store.range(damaged, 9, 20, 99, 10**6)] == list(range(9, 21))
    await store.close()
    assert len(isolate.isolate(data, server.lost_event)) == 1
    async with nodes.inside(data) as node, Client(node.url, messages.TokenCredential(tokens[1]), strict=True) as ben:
        page = await ben.history(damaged, limit=50)
        assert sorted(item.seq for item in page.items) == [seq for seq in range(1, 21) if seq != 8]
        assert [(gone.first, gone.last) for gone in page.gone] == [(8, 8)]
        assert (await ben.send_text(damaged, "and on")).seq == 21
        assert await health(node) == 200


async def first_answer(url: str, token: bytes, frame: messages.Frame) -> messages.ServerFrame:
    """Ask by hand: the Python client would go on asking."""
    async with connect(url, subprotocols=[SUBPROTOCOL], compression=None) as socket:
        hello = messages.Hello(1, 1, 1, messages.TokenCredential(token))
        await socket.send(codec.batch([codec.encode(hello), codec.encode(frame)]))
        async for data in socket:
            assert isinstance(data, bytes)
            for each in codec.decode_server_message(data):
                if each.rid == frame.rid:
                    return each
    raise AssertionError("closed without an answer")


def later(seq: int) -> records.Append:
    """An event of some other stream."""
    return records.Append(ids.direct_stream(1, 2), 1, seq, 0, seq, [records.NewEvent(33, b"later")])


def flip(file: pathlib.Path, near: bytes) -> None:
    """Flip one bit of a stored body, in the file, beside the database's back."""
    data = bytearray(file.read_bytes())
    at = data.find(near)
    assert at > 0
    assert data.find(near + b"\x90", at) >= 0
    data[data.find(near + b"\x90", at) + 2] ^= 0x01
    file.write_bytes(data)
