"""Being let in, or not, through real sockets."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import InvalidStatus

from actors import commands
from auth.identity import Admission
from protocol import codec, codes, messages
from tests.gateway import world


async def test_who_offers_another_subprotocol_or_none_is_refused_before_the_upgrade() -> None:
    async with world.running() as node:
        for subprotocols in (None, ["other"]):
            with pytest.raises(InvalidStatus) as raised:
                await node.connect(subprotocols=subprotocols)
            assert raised.value.response.status_code == 400
        async with node.connect() as client:
            assert client.subprotocol == world.SUBPROTOCOL
            assert not client.protocol.extensions


async def test_refused_credentials_get_the_error_and_a_final_close() -> None:
    async def refuse(_hello: messages.Hello, _version: int, _peer: str) -> Admission:
        raise codes.Refused(codes.BAD_CREDENTIALS)

    async with world.running(admit=refuse) as node, node.connect() as client:
        await client.send(world.hello(rid=4))
        (refused,) = await world.received(client)
        assert refused.rid == 4
        assert world.error_of(refused) is codes.BAD_CREDENTIALS
        assert await world.closed(client) == codes.REFUSED.code


async def test_a_busy_check_of_credentials_asks_to_come_back_when_it_says() -> None:
    async def busy(_hello: messages.Hello, _version: int, _peer: str) -> Admission:
        raise codes.Refused(codes.BUSY, retry_after_ms=1234)

    async with world.running(admit=busy) as node, node.connect() as client:
        await client.send(world.hello())
        refused, going = await world.received(client)
        assert world.error_of(refused) is codes.BUSY
        assert going == messages.GoingAway(0, 1234)
        close = codes.CLOSE_BY_CODE[await world.closed(client)]
        assert close.reconnect


async def test_a_check_that_crashes_is_answered_as_unavailable_and_others_go_on() -> None:
    async def crash(hello: messages.Hello, version: int, peer: str) -> Admission:
        if hello.rid == 666:
            raise ZeroDivisionError
        return await world.admit_all(hello, version, peer)

    async with world.running(admit=crash) as node, node.client(2) as other:
        async with node.connect() as client:
            await client.send(world.hello(rid=666))
            refused, _ = await world.received(client)
            assert world.error_of(refused) is codes.UNAVAILABLE
            assert codes.CLOSE_BY_CODE[await world.closed(client)].reconnect
        node.sessions.on_command = world.answer_sent
        await other.send(world.send(1, rid=1))
        assert (await world.received(other))[0].rid == 1


async def test_commands_sent_along_with_hello_arrive_after_the_attach() -> None:
    async with world.running() as node, node.connect() as client:
        await client.send(codec.batch([world.hello(), world.send(1), world.send(2)]))
        await node.sessions.until(lambda: len(node.sessions.frames) == 2)
        kinds = [type(message) for _, message in node.sessions.told]
        assert kinds == [commands.Attach, commands.Command, commands.Command]


async def test_no_hello_in_time_closes_with_its_own_code() -> None:
    clock = world.Clock()
    async with world.running(clock=clock) as node, node.connect() as client, node.client(2) as other:
        clock.now += 9
        node.gateway.beat()
        clock.now += 2
        node.gateway.beat()
        assert await world.closed(client) == codes.HELLO_TIMEOUT.code
        assert other.state.name == "OPEN"


async def test_a_check_that_takes_too_long_is_cancelled_and_the_connection_closed() -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def slow(_hello: messages.Hello, _version: int, _peer: str) -> Admission:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    clock = world.Clock()
    async with world.running(clock=clock, admit=slow) as node, node.connect() as client:
        await client.send(world.hello())
        await began.wait()
        clock.now += 11
        node.gateway.beat()
        await cancelled.wait()
        assert await world.closed(client) == codes.HELLO_TIMEOUT.code
        assert not node.sessions.told
