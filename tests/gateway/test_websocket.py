"""The WebSocket through real sockets."""

from __future__ import annotations

from actors import commands
from protocol import codec, messages
from tests.gateway import world


async def test_a_command_reaches_the_session_with_the_digest_of_its_bytes_and_the_answer_comes_back() -> None:
    async with world.running() as node:
        node.sessions.on_command = lambda sink, command: sink.reply(codec.encode(messages.Sent(command.frame.rid, 1, 1, 1)))
        async with node.client() as client:
            raw = world.send(7, rid=3)
            await client.send(raw)
            (sent,) = await world.received(client)
        key, command = node.sessions.told[1]
        assert sent == messages.Sent(3, 1, 1, 1)
        assert key == ("session", 1)
        assert command == commands.Command(1001, codec.decode_client(raw), world.digest(raw))
