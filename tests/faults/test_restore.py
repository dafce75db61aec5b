"""A backup is restored while people are connected: what comes after reaches everybody, also who was ahead of it."""

from __future__ import annotations

import asyncio
import pathlib

from client.client import Client
from client.updates import Connected, StreamEvent
from protocol import events, ids, messages
from storage.sqlite import backup
from tests.faults import nodes, traffic


async def heard(client: Client, last: str) -> tuple[list[str], bool]:
    """The texts that come up to this one, and whether the client was told to begin anew meanwhile."""
    texts: list[str] = []
    anew = False
    async with asyncio.timeout(60):
        while last not in texts:
            update = await client.receive()
            if isinstance(update, Connected):
                anew = anew or update.anew
            elif isinstance(update, StreamEvent) and isinstance(update.event, events.Message):
                texts.append(update.text)
    return texts, anew


async def test_who_was_ahead_of_a_restored_backup_gets_what_is_sent_after_it(tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "copy"
    credentials = [messages.RegisterCredential(name, traffic.PASSWORD, name.ljust(16).encode()) for name in ("asha", "ben")]
    async with nodes.inside(tmp_path / "data") as node:
        port = str(nodes.target(node)[1])
        asha, ben = (Client(node.url, credential) for credential in credentials)
        await asha.start()
        await ben.start()
        stream = ids.direct_stream(asha.identity.user, ben.identity.user)
        for number in range(3):
            await asha.send_text(stream, f"before {number}")
        await heard(ben, "before 2")
        await node.saver.save(copy, node.clock(), events.redact)
        for number in range(5):
            await asha.send_text(stream, f"lost {number}")
        await heard(ben, "lost 4")
    backup.restore(copy, tmp_path / "restored")
    async with nodes.inside(tmp_path / "restored", listener__port=port):
        sent = [(await asha.send_text(stream, f"new {number}")).seq for number in range(3)]
        assert sent == [4, 5, 6]
        texts, anew = await heard(ben, "new 2")
        assert [text for text in texts if text.startswith("new")] == ["new 0", "new 1", "new 2"]
        assert anew
        await asha.close()
        await ben.close()
