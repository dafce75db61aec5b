"""Bad lines, slow readers and floods: each hurts itself alone, and nobody loses anything."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from client.client import SUBPROTOCOL
from node import Node
from protocol import codec, codes, ids, messages
from tests.faults import nodes, traffic
from tests.faults.proxy import Proxy
from tests.faults.waiting import DEADLINE_S, until


@pytest.fixture
async def node(tmp_path: pathlib.Path) -> AsyncIterator[Node]:
    async with nodes.inside(tmp_path / "data") as found:
        yield found


async def test_connections_cut_at_any_byte_and_pieces_of_any_size_lose_nothing(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    async with nodes.inside(data) as node, Proxy(nodes.target(node), seed=4) as proxy:
        async with traffic.Traffic(proxy.url, seed=4) as people:
            await people.gather()
            proxy.cut_between, proxy.pieces = (300, 40_000), 2000
            proxy.cut()
            people.begin(commands=90)
            await people.answered(200)
            proxy.stall()
            await asyncio.sleep(0.2)  # how long nothing moves is the fault itself
            proxy.flow()
            await people.answered(100)
            await until(lambda: proxy.cuts >= 12 or people.done, "cuts")
            proxy.cut_between = proxy.pieces = None
            await people.converge()
        assert proxy.cuts >= 8
    await traffic.stored(data, people.seen)
    people.check()


#: Bytes of an outbox: what little the node may hold for who does not read.
OUTBOX = 128 * 1024


async def hello(node: Node, name: str) -> ClientConnection:
    """A raw connection, let in."""
    socket = await connect(node.url, subprotocols=[SUBPROTOCOL], compression=None, max_size=2**24, max_queue=1)
    credential = messages.RegisterCredential(name, traffic.PASSWORD, name.ljust(16, "-").encode())
    await socket.send(codec.encode(messages.Hello(1, 1, 1, credential)))
    first = await socket.recv()
    assert isinstance(first, bytes)
    assert any(isinstance(frame, messages.Welcome) for frame in codec.decode_server_message(first))
    return socket


async def test_who_does_not_read_becomes_behind_and_holds_up_nobody(tmp_path: pathlib.Path) -> None:
    """The reader's own proxy stalls, with all its bytes; when it flows again it gets everything."""
    data = tmp_path / "data"
    async with nodes.inside(data, limits__outbox_bytes=str(OUTBOX)) as node, Proxy(nodes.target(node)) as proxy:
        slow_line = Proxy(nodes.target(node))
        async with slow_line, traffic.Traffic(proxy.url, seed=5) as people:
            await people.gather()
            for person in people.people[-2:]:
                person.client.url = slow_line.url
            proxy.cut()
            await until(lambda: sum(person.tape.connections == 2 for person in people.people) == 5, "all are back")
            slow_line.stall()
            for person in people.people[:-2]:
                people.begin_one(person, commands=400)
            await people.answered(10**6)
            assert people.done
            assert max(socket.outbox._held for socket in node.gateway.hub.sockets) <= OUTBOX
            slow_line.flow()
            await people.converge()
    await traffic.stored(data, people.seen)
    people.check()


async def test_a_flood_is_told_when_to_come_back_and_closed_and_honest_people_do_not_notice(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    limits = {"limits__connection_commands_s": "200", "limits__account_commands_s": "400"}
    async with nodes.inside(data, **limits) as node:
        async with traffic.Traffic(node.url, seed=6) as people:
            await people.gather()
            flooder = await hello(node, "flooder")
            people.begin(commands=100)
            told, closed = await asyncio.wait_for(flood(flooder), DEADLINE_S)
            await people.converge()
            assert not people.refusals.get(codes.RATE_LIMITED.number), "the flood was paid by others"
        assert told
        assert all(error.number == codes.RATE_LIMITED.number and error.retry_after_ms > 0 for error in told)
        assert closed == codes.FLOOD.code
    await traffic.stored(data, people.seen)
    people.check()


async def flood(socket: ClientConnection) -> tuple[list[messages.Error], int]:
    """Ask and ask; the errors that came, and the code of the close."""
    told: list[messages.Error] = []

    async def ask() -> None:
        rid, nowhere = 1, ids.direct_stream(1, 2)
        while True:
            frames = [codec.encode(messages.Read(rid + each, nowhere, 1)) for each in range(64)]
            rid += 64
            await socket.send(codec.batch(frames))

    asking = asyncio.create_task(ask())
    try:
        async for data in socket:
            assert isinstance(data, bytes)
            for frame in codec.decode_server_message(data):
                if isinstance(frame, messages.Error) and frame.number == codes.RATE_LIMITED.number:
                    told.append(frame)
    except ConnectionClosed:
        pass
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert socket.close_code is not None
    return told, socket.close_code
