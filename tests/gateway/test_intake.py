"""How much of one client is handled, and when: rates, waits and turns, through real sockets."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.frames import BINARY, CONT, PING, Frame, Opcode

from actors import commands
from gateway import limits as flood_limits
from gateway import turns, vigil
from protocol import codec, codes, messages
from tests.gateway import world


async def test_who_sends_too_much_is_told_when_to_go_on_and_in_the_end_closed_with_a_hint() -> None:
    limits = {"connection_commands_s": 10.0}
    clock = world.Clock()
    async with world.running(clock=clock, limit_options=limits) as node, node.client() as client, node.client(2) as other:
        node.sessions.on_command = world.answer_sent
        for counter in range(1, 201):
            await client.send(world.send(counter, rid=counter))
        waiting = asyncio.create_task(world.remainder(client))
        refused = node.counters.errors
        for refusals in range(1, flood_limits.FLOOD_REFUSALS):
            await node.settled(lambda count=refusals: refused["rate_limited"] == count)  # type: ignore[misc]
            node.pass_time(1.6)
        await node.settled(lambda: node.counters.closes[codes.FLOOD.symbol])
        node.pass_time(vigil.CLOSE_GRACE_S + 1)
        code, answers = await waiting
        assert code == codes.FLOOD.code
        assert [type(answer) for answer in answers[:9]] == [messages.Sent] * 9  # hello was the tenth
        refusals_told = [answer for answer in answers if isinstance(answer, messages.Error)]
        assert len(refusals_told) == flood_limits.FLOOD_REFUSALS
        assert {world.error_of(answer) for answer in refusals_told} == {codes.RATE_LIMITED}
        assert all(answer.retry_after_ms > 0 for answer in refusals_told)
        assert isinstance(answers[-1], messages.GoingAway)
        assert answers[-1].retry_after_ms > 0
        await other.send(world.send(1, rid=1))
        assert (await world.received(other))[0].rid == 1


async def refused_once(client: ClientConnection) -> messages.Error:
    """Send until the first refusal."""
    counter = 0
    while True:
        counter += 1
        await client.send(world.send(counter, rid=counter))
        (answer,) = await world.received(client)
        if isinstance(answer, messages.Error):
            return answer


async def test_who_waits_as_told_goes_on() -> None:
    clock = world.Clock()
    async with world.running(clock=clock, limit_options={"connection_commands_s": 10.0}) as node, node.client() as client:
        node.sessions.on_command = world.answer_sent
        answer = await refused_once(client)
        node.pass_time(answer.retry_after_ms / 1000)
        await client.send(world.send(answer.rid, rid=answer.rid))
        assert (await world.received(client)) == [messages.Sent(answer.rid, 1, 1, 1)]


async def test_who_was_refused_is_not_read_until_the_time_it_was_told_and_nothing_of_it_is_lost() -> None:
    clock = world.Clock()
    async with world.running(clock=clock, limit_options={"connection_commands_s": 10.0}) as node, node.client() as client:
        node.sessions.on_command = world.answer_sent
        answer = await refused_once(client)
        served = len(node.sessions.frames)
        taken = node.counters.bytes_in
        await client.send(world.send(100, rid=100))
        node.pass_time((answer.retry_after_ms - 1) / 1000)
        for _ in range(50):
            await asyncio.sleep(0)
        assert node.counters.bytes_in == taken
        assert len(node.sessions.frames) == served
        node.pass_time(0.002)  # a sum of floats may fall short of the millisecond
        assert (await world.received(client))[0].rid == 100


async def test_a_flooder_that_comes_back_before_its_time_has_no_new_burst_and_is_told_how_long() -> None:
    clock = world.Clock()
    async with world.running(clock=clock, limit_options={"connection_commands_s": 10.0}) as node:
        async with node.client() as client:
            client.transport.write(Frame(BINARY, world.send(1)).serialize(mask=True) * 200)
            for refusals in range(1, flood_limits.FLOOD_REFUSALS):
                await node.settled(lambda count=refusals: node.counters.errors["rate_limited"] == count)  # type: ignore[misc]
                node.pass_time(1.6)
            await node.settled(lambda: node.counters.closes[codes.FLOOD.symbol])
            node.pass_time(vigil.CLOSE_GRACE_S + 1)
            assert await world.closed(client) == codes.FLOOD.code
        served = len(node.sessions.frames)
        async with node.client() as client:
            await client.send(world.send(1, rid=1))
            (answer,) = await world.received(client)
            assert world.error_of(answer) is codes.RATE_LIMITED
            assert isinstance(answer, messages.Error)
            assert answer.retry_after_ms > 23_000  # of 30,000, 6,000 of which have passed
            assert len(node.sessions.frames) == served
            node.pass_time(answer.retry_after_ms / 1000)


async def test_acknowledgements_over_the_rate_still_count_or_the_flow_of_events_would_stop() -> None:
    clock = world.Clock()
    limits = {"connection_commands_s": 10.0, "address_commands_s": 8.0}
    async with world.running(clock=clock, limit_options=limits) as node, node.client() as client:
        ack = codec.encode(messages.Ack(0, ((b"d" + bytes(14), 1),)))
        client.transport.write(Frame(BINARY, ack).serialize(mask=True) * 60)
        for _ in range(60):
            for _ in range(20):
                await asyncio.sleep(0)
            node.pass_time(1.6)
        await node.sessions.until(lambda: len(node.sessions.frames) == 60)
        assert not node.counters.errors


@pytest.mark.parametrize("opcode", [PING, CONT])
async def test_a_flood_of_pings_or_of_empty_fragments_is_closed(opcode: Opcode) -> None:
    clock = world.Clock()
    async with world.running(clock=clock, limit_options={"connection_commands_s": 10.0}) as node, node.client() as client:
        if opcode is CONT:
            client.transport.write(Frame(BINARY, b"", fin=False).serialize(mask=True))
        client.transport.write(Frame(opcode, b"", fin=opcode is PING).serialize(mask=True) * 500)
        waiting = asyncio.create_task(world.closed(client))
        while not waiting.done():
            for _ in range(20):
                await asyncio.sleep(0)
            node.pass_time(1.6)
        assert await waiting == codes.FLOOD.code


async def test_the_commands_of_one_address_are_limited_together_and_that_is_no_flood_of_one_connection() -> None:
    clock = world.Clock()
    limits = {"address_commands_s": 8.0}  # an eighth of a second is exact in binary
    async with world.running(clock=clock, limit_options=limits) as node, node.client(1) as one, node.client(2) as two:
        node.sessions.on_command = world.answer_sent
        for counter in range(1, 5):
            for client in (one, two):
                await client.send(world.send(counter, rid=counter))
                assert isinstance((await world.received(client))[0], messages.Sent)
        for _ in range(2 * flood_limits.FLOOD_REFUSALS):
            answer = await refused_once(one)
            assert world.error_of(answer) is codes.RATE_LIMITED
            node.pass_time(answer.retry_after_ms / 1000)
        assert not node.counters.closes


async def test_what_one_client_sends_at_once_is_handled_in_turns_between_those_of_others() -> None:
    options = {"connection_commands_s": 1e6, "address_commands_s": 1e6}
    async with world.running(limit_options=options) as node, node.client(1) as one, node.client(2) as two:
        order: list[int] = []
        node.sessions.on_command = lambda _sink, command: order.append(command.device)
        sockets = {socket._device: socket for socket in node.sockets}
        many, few = (Frame(BINARY, world.send(1)).serialize(mask=True) * count for count in (2000, 1))
        sockets[1001].data_received(many)
        assert len(order) <= turns.FRAMES_A_TURN
        sockets[1002].data_received(few)  # a little is handled at once
        assert order[-1] == 1002
        sockets[1002].data_received(many)  # much takes turns with the other
        await node.sessions.until(lambda: len(order) == 4001)
        runs = [len(list(run)) for device, run in itertools.groupby(order) if device == 1001]
        assert max(runs[:-1]) <= 2 * turns.FRAMES_A_TURN
        assert order.count(1001) == 2000
        assert one.close_code is two.close_code is None


@pytest.mark.parametrize("as_batch", [True, False])
async def test_a_large_batch_below_the_rate_is_served_whole_in_its_order_and_read_on(as_batch: bool) -> None:
    async with world.running() as node, node.client() as client:
        raws = [world.send(counter) for counter in range(1, 151)]
        if as_batch:
            await client.send(codec.batch(raws))
        else:
            client.transport.write(b"".join(Frame(BINARY, raw).serialize(mask=True) for raw in raws))
        await client.send(world.send(151))
        await node.sessions.until(lambda: len(node.sessions.frames) == 151)
        assert [frame.counter for frame in node.sessions.frames if isinstance(frame, messages.Send)] == [*range(1, 152)]
        assert not node.counters.errors


@pytest.mark.parametrize("is_much", [True, False])
async def test_what_makes_the_node_fail_ends_the_connection_that_sent_it_and_everybody_elses_backlog_goes_on(
    is_much: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"connection_commands_s": 1e6, "address_commands_s": 1e6}
    async with world.running(limit_options=options) as node, node.client(1) as bad, node.client(2) as good:
        decode = codec.decode_client

        def fail(data: bytes) -> messages.ClientFrame:
            if bytes(data) == world.send(666):
                raise RecursionError
            return decode(data)

        monkeypatch.setattr(codec, "decode_client", fail)
        poison = Frame(BINARY, world.send(666)).serialize(mask=True)
        harmless = Frame(BINARY, world.send(1)).serialize(mask=True)
        bad.transport.write(harmless * (100 if is_much else 0) + poison + harmless)
        assert await world.closed(bad) == 1006
        assert node.sessions.detached == [1001]
        good.transport.write(harmless * 100)
        await node.sessions.until(
            lambda: (
                [message.device for _, message in node.sessions.told if isinstance(message, commands.Command)].count(1002)
                == 100
            )
        )


async def test_nothing_that_a_read_brings_raises_out_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.running() as node, node.client():
        (socket,) = node.sockets

        def fail(_data: bytes) -> messages.ClientFrame:
            raise RecursionError

        monkeypatch.setattr(codec, "decode_client", fail)
        socket.data_received(Frame(BINARY, world.send(1)).serialize(mask=True))
        await node.settled(lambda: not node.sockets)
        assert node.sessions.detached == [1001]


async def test_no_more_of_a_batch_is_read_in_one_go_than_one_turn_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.running() as node, node.client():
        read: list[bytes] = []
        decode = codec.decode_client

        def reading(data: bytes) -> messages.ClientFrame:
            read.append(bytes(data))
            return decode(data)

        (socket,) = node.sockets
        monkeypatch.setattr(codec, "decode_client", reading)
        batch = codec.batch([codec.encode(messages.ClientHeartbeat(0))] * 100)
        socket.data_received(Frame(BINARY, batch).serialize(mask=True))
        assert len(read) == turns.FRAMES_A_TURN + 1  # and a look at whether there is more
        await node.settled(lambda: len(read) == 100)


async def test_a_batch_of_as_many_frames_as_a_turn_takes_stops_no_reading() -> None:
    async with world.running() as node, node.client():
        (socket,) = node.sockets
        batch = codec.batch([codec.encode(messages.ClientHeartbeat(0))] * turns.FRAMES_A_TURN)
        socket.data_received(Frame(BINARY, batch).serialize(mask=True))
        assert socket._backlog is None
        assert not socket._holds


async def test_nothing_more_is_read_of_who_flooded_and_tcp_ends_all_the_same() -> None:
    clock = world.Clock()
    async with world.running(clock=clock, limit_options={"connection_commands_s": 10.0}) as node, node.client() as client:
        client.transport.write(Frame(BINARY, world.send(1)).serialize(mask=True) * 200)
        for refusals in range(1, flood_limits.FLOOD_REFUSALS):
            await node.settled(lambda count=refusals: node.counters.errors["rate_limited"] == count)  # type: ignore[misc]
            node.pass_time(1.6)
        await node.settled(lambda: node.counters.closes[codes.FLOOD.symbol])
        before = node.counters.bytes_in
        client.transport.write(bytes(100_000))
        for _ in range(100):
            await asyncio.sleep(0)
        assert node.counters.bytes_in == before
        node.pass_time(vigil.CLOSE_GRACE_S + 1)
        await node.settled(lambda: not node.sockets)
        assert await world.closed(client) == codes.FLOOD.code


async def test_what_is_no_command_is_paid_by_the_address_whoever_brings_it_and_before_hello_too() -> None:
    clock = world.Clock()
    unknown = Frame(BINARY, b"\x92\x5e\x07").serialize(mask=True)
    async with world.running(clock=clock, limit_options={"address_commands_s": 8.0}) as node, node.client() as client:
        node.sessions.on_command = world.answer_sent
        _, stranger = await world.raw_client(node)
        stranger.write(unknown * 8)
        await node.settled(lambda: node.counters.errors["unknown_frame"] == 8)
        assert world.error_of(await refused_once(client)) is codes.RATE_LIMITED
        assert node.counters.limited == {"address": 1}
        for _ in range(20):  # a new connection brings no new burst
            _, another = await world.raw_client(node)
            another.write(unknown * 2)
            await node.settled(lambda: any(each._resumed > clock.now for each in node.sockets if each._address))
            another.close()
        assert node.counters.errors["unknown_frame"] <= 8 + 20
        assert not node.counters.closes
        stranger.close()
        node.pass_time(60)  # it is read again, and so can say goodbye


async def test_more_than_may_follow_hello_in_one_batch_before_it_closes_and_nothing_of_it_is_read() -> None:
    async with world.running(clock=world.Clock()) as node:
        source, sink = await world.raw_client(node)
        sink.write(Frame(BINARY, codec.batch([b"\x92\x5e\x07"] * 1000)).serialize(mask=True))
        await node.settled(lambda: node.counters.closes["protocol_order"])
        assert node.counters.errors == {"not_ready": 1}
        node.pass_time(vigil.CLOSE_GRACE_S + 1)
        assert await world.close_code(source) == codes.PROTOCOL_ORDER.code
        sink.close()


async def test_commands_that_were_held_are_paid_once_and_keep_to_the_rate_as_any() -> None:
    clock = world.Clock()
    async with world.running(clock=clock, limit_options={"connection_commands_s": 10.0}) as node, node.connect() as client:
        await client.send(codec.batch([world.hello(), *(world.send(n, rid=n) for n in range(1, 31))]))
        await node.sessions.until(lambda: len(node.sessions.frames) == 10)
        for _ in range(50):
            await asyncio.sleep(0)
        assert [frame.rid for frame in node.sessions.frames] == list(range(1, 11))
        assert not node.counters.closes
        client.transport.abort()
