"""The client at a node with the limits that it has by default: it keeps within them by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

from client.api import text_body
from client.client import Client
from client.updates import Connected, Disconnected, StreamEvent
from config import Limits
from protocol import messages
from tests.faults import nodes

#: Three times what a node takes at once.
COMMANDS = 600


async def test_more_commands_at_once_than_a_burst_are_neither_refused_nor_a_flood(tmp_path: Path) -> None:
    defaults = {f"limits__{name}": str(getattr(Limits(), name)) for name in ("connection_commands_s", "account_commands_s")}
    hello = messages.RegisterCredential("asha", "correct horse battery", b"a" * 16)
    async with nodes.inside(tmp_path / "data", **defaults) as node, Client(node.url, hello) as asha:
        assert asha.limits is not None
        assert asha.limits.burst < COMMANDS / 2
        stream = (await asha.open(asha.identity.user)).stream
        futures = [asha.submit(messages.Send(0, 0, stream, text_body(str(number)))) for number in range(COMMANDS)]
        taken = 0
        connections = 0
        while taken < COMMANDS:
            update = await asha.receive()
            assert not isinstance(update, Disconnected)
            connections += isinstance(update, Connected)
            taken += isinstance(update, StreamEvent) and update.stream == stream
        await asyncio.gather(*futures)
        assert connections == 1
        assert sum(node.gateway.hub.counters.limited.values()) == 0
