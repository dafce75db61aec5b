"""The WebSocket through real sockets: what clients do, right and wrong, and what they are answered."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import socket
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.frames import BINARY, CLOSE, CONT, PING, Frame

from actors import commands
from gateway import kernel, vigil
from protocol import codec, codes, messages
from tests.gateway import world

# --- commands and answers ---------------------------------------------------------------------------------------------


async def test_a_command_reaches_the_session_with_the_digest_of_its_bytes_and_the_answer_comes_back() -> None:
    async with world.running() as node:
        node.sessions.on_command = world.answer_sent
        async with node.client() as client:
            raw = world.send(7, rid=3)
            await client.send(raw)
            (sent,) = await world.received(client)
        key, command = node.sessions.told[1]
        assert sent == messages.Sent(3, 1, 1, 1)
        assert key == ("session", 1)
        assert command == commands.Command(1001, codec.decode_client(raw), world.digest(raw))


async def test_a_batch_is_taken_apart_each_command_with_its_own_digest_and_the_answers_are_joined() -> None:
    async with world.running() as node:
        node.sessions.on_command = world.answer_sent
        async with node.client() as client:
            raws = [world.send(counter, rid=counter) for counter in (1, 2, 3)]
            look = codec.encode(messages.Look(9))
            await client.send(codec.batch([*raws, look]))
            answers = await world.received(client)
        assert [answer.rid for answer in answers] == [1, 2, 3, 9]
        digests = [message.digest for _, message in node.sessions.told if isinstance(message, commands.Command)]
        assert digests == [*map(world.digest, raws), 0]


async def test_a_device_is_detached_once_when_its_connection_ends() -> None:
    async with world.running() as node:
        async with node.client():
            sink = node.sink()
        await node.sessions.until(lambda: node.sessions.detached)
        await node.settled(lambda: not node.sockets)
        assert node.sessions.told[-1] == (("session", 1), commands.Detach(1001, sink))
        assert node.sessions.detached == [1001]
        assert not sink.offer(b"\x91\x65", 1)


async def test_a_full_session_answers_busy_with_the_rid_and_a_dead_one_closes() -> None:
    async with world.running() as node, node.client() as client:
        node.sessions.is_full = True
        await client.send(world.send(1, rid=5))
        (busy,) = await world.received(client)
        assert busy.rid == 5
        assert world.error_of(busy) is codes.BUSY
        node.sessions.is_full = False
        node.sessions.sinks.clear()
        await client.send(world.send(2))
        assert await world.closed(client) == codes.SESSION_LOST.code


async def test_a_session_that_died_closes_the_connection_of_who_commands_it() -> None:
    async with world.running() as node, node.client() as client:
        node.sessions.is_dead = True
        await client.send(world.send(1))
        assert await world.closed(client) == codes.SESSION_LOST.code


# --- heartbeats -------------------------------------------------------------------------------------------------------


async def test_a_silent_connection_is_asked_and_lives_as_long_as_it_answers() -> None:
    clock = world.Clock()
    async with world.running(clock=clock) as node, node.client() as client:
        for _ in range(5):
            for _ in range(29):
                clock.now += 1
                node.gateway.beat()
            (asked,) = await world.received(client)
            assert asked == messages.Heartbeat(0)
            frames_in = node.counters.bytes_in
            await client.send(codec.encode(messages.ClientHeartbeat(0)))
            await node.settled(lambda before=frames_in: node.counters.bytes_in > before)  # type: ignore[misc]


async def test_a_connection_that_answers_no_heartbeat_is_closed() -> None:
    clock = world.Clock()
    async with world.running(clock=clock) as node, node.client() as client:
        for _ in range(70):
            clock.now += 1
            node.gateway.beat()
        assert await world.closed(client) == codes.HEARTBEAT_LOST.code
        assert node.sessions.detached == [1001]


async def test_a_ping_is_answered_and_counts_as_a_sign_of_life() -> None:
    clock = world.Clock()
    async with world.running(clock=clock) as node, node.client() as client:
        for _ in range(10):
            clock.now += 20
            await (await client.ping())
            node.gateway.beat()
        assert client.state.name == "OPEN"


# --- bad input --------------------------------------------------------------------------------------------------------


async def test_text_is_refused_with_its_own_code() -> None:
    async with world.running() as node, node.client() as client:
        await client.send("text")
        assert await world.closed(client) == codes.NOT_BINARY.code


async def test_three_unreadable_frames_in_a_row_close_and_two_with_a_good_one_between_do_not() -> None:
    async with world.running() as node, node.client() as client:
        node.sessions.on_command = world.answer_sent
        for data in (b"\xc1", b"\xc1", world.send(1, rid=1), b"\xc1", b"\xc1", world.send(2, rid=2)):
            await client.send(data)
        answers: list[messages.ServerFrame] = []
        while len(answers) < 6:
            answers += await world.received(client)
        assert [type(answer) for answer in answers].count(messages.Error) == 4
        await client.send(b"\xc1")
        await client.send(b"\x90")
        await client.send(b"")
        assert await world.closed(client) == codes.BAD_FRAMES.code == 4500


async def test_an_unknown_frame_number_is_answered_and_never_counted() -> None:
    async with world.running() as node, node.client() as client:
        for rid in range(1, 6):
            await client.send(bytes((0x92, 95, rid)))
            (answer,) = await world.received(client)
            assert answer.rid == rid
            assert world.error_of(answer) is codes.UNKNOWN_FRAME
        assert node.counters.errors["unknown_frame"] == 5


async def test_a_frame_over_the_limit_a_nesting_bomb_and_fragments_over_the_limit_close_as_too_big() -> None:
    async def fragments(client: ClientConnection) -> None:
        await client.send([bytes(30_000)] * 3)

    async def large(client: ClientConnection) -> None:
        await client.send(bytes(65_537))

    async def nested(client: ClientConnection) -> None:
        await client.send(b"\x91" * 60_000)

    async with world.running() as node, node.client(2) as other:
        for bomb in (fragments, large, nested):
            async with node.client() as client:
                await bomb(client)
                assert await world.closed(client) == codes.TOO_BIG.code, bomb
        node.sessions.on_command = world.answer_sent
        await other.send(world.send(1, rid=1))
        assert (await world.received(other))[0].rid == 1


async def test_a_message_of_exactly_the_limit_in_fragments_is_read() -> None:
    async with world.running() as node, node.client() as client:
        sends = [world.send(n, body=b"\x92\x03\xc5" + struct.pack("!H", 16_000) + bytes(16_000)) for n in (1, 2, 3, 4)]
        room = codec.MAX_MESSAGE - len(codec.batch([*sends, world.send(5, body=b"\x92\x03\xc5\0\0")]))
        sends.append(world.send(5, body=b"\x92\x03\xc5" + struct.pack("!H", room) + bytes(room)))
        batch = codec.batch(sends)
        assert len(batch) == codec.MAX_MESSAGE
        await client.send([batch[:1], batch[1:30_000], batch[30_000:]])
        await node.sessions.until(lambda: len(node.sessions.frames) == 5)


async def test_a_second_hello_and_a_command_before_hello_break_the_order() -> None:
    async with world.running() as node:
        async with node.client() as client:
            await client.send(world.hello())
            assert await world.closed(client) == codes.PROTOCOL_ORDER.code
        async with node.connect() as client:
            await client.send(world.send(1))
            assert await world.closed(client) == codes.PROTOCOL_ORDER.code


# --- raw bytes --------------------------------------------------------------------------------------------------------


async def test_a_length_of_a_terabyte_is_answered_before_it_is_believed() -> None:
    async with world.running(clock=(clock := world.Clock())) as node:
        source, sink = await world.raw_client(node)
        sink.write(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))
        await node.settled(lambda: node.counters.closes["too_big"])
        clock.now += 10
        node.gateway.beat()
        assert await world.close_code(source) == codes.TOO_BIG.code
        sink.close()


@pytest.mark.parametrize("data", [b"\x82\x02hi", b"\x83\x80\0\0\0\0", b"\xc2\x80\0\0\0\0", b"\x09\x80\0\0\0\0"])
async def test_a_breach_of_rfc_6455_is_closed_with_1002(data: bytes) -> None:
    async with world.running(clock=(clock := world.Clock())) as node:
        source, sink = await world.raw_client(node)
        sink.write(data)
        await node.settled(lambda: node.counters.closes)
        clock.now += 10
        node.gateway.beat()
        assert await world.close_code(source) == 1002
        sink.close()


async def test_a_client_that_never_answers_our_close_frame_is_cut_off() -> None:
    async with world.running(clock=(clock := world.Clock())) as node:
        source, sink = await world.raw_client(node)
        sink.write(Frame(BINARY, world.hello()).serialize(mask=True))
        await node.sessions.until(lambda: node.sessions.sinks)
        node.sink().close(codes.REVOKED.code, codes.REVOKED.text)
        await node.settled(lambda: node.counters.closes["revoked"])
        assert node.sessions.detached == [1001]
        clock.now += 10
        node.gateway.beat()
        assert await world.close_code(source) == codes.REVOKED.code
        await node.settled(lambda: not node.sockets)
        sink.close()


async def test_a_client_that_closes_is_answered_and_tcp_ends() -> None:
    async with world.running() as node:
        source, sink = await world.raw_client(node)
        sink.write(Frame(CLOSE, struct.pack("!H", 1000)).serialize(mask=True))
        assert await world.close_code(source) == 1000
        await node.settled(lambda: not node.sockets)
        sink.close()


@settings(max_examples=30)
@given(data=st.binary(max_size=400), places=st.lists(st.integers(0, 400), max_size=5))
def test_no_bytes_after_the_upgrade_raise_out_of_the_protocol_object(data: bytes, places: list[int]) -> None:
    async def play() -> None:
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
        async with world.running(clock=world.Clock()) as node:
            _, sink = await world.raw_client(node)
            (socket,) = node.sockets
            edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
            for begin, end in itertools.pairwise(edges):
                socket.data_received(data[begin:end])
            sink.close()
        assert not failures

    asyncio.run(play())


@settings(max_examples=30)
@given(st.lists(st.integers(1, 400), max_size=60), st.lists(st.integers(1, 300), min_size=1, max_size=4))
def test_any_cutting_of_a_valid_session_has_the_same_effects(sizes: list[int], bodies: list[int]) -> None:
    opaque = [b"\x92\x03\xc5" + struct.pack("!H", size) + bytes(size) for size in bodies]
    raws = [world.send(n, rid=n, body=body) for n, body in enumerate(opaque, 1)]
    half = len(raws[-1]) // 2
    wire = b"".join(
        [
            world.UPGRADE,
            Frame(BINARY, world.hello()).serialize(mask=True),
            Frame(PING, b"x").serialize(mask=True),
            *(Frame(BINARY, raw).serialize(mask=True) for raw in raws[:-1]),
            Frame(BINARY, raws[-1][:half], fin=False).serialize(mask=True),
            Frame(PING, b"y").serialize(mask=True),
            Frame(CONT, raws[-1][half:]).serialize(mask=True),
        ]
    )

    async def play() -> None:
        async with world.running(clock=world.Clock()) as node:
            source, sink = await asyncio.open_connection("127.0.0.1", node.port)
            rest = wire
            for size in sizes:
                piece, rest = rest[:size], rest[size:]
                sink.write(piece)
                await asyncio.sleep(0)
            sink.write(rest)
            await node.sessions.until(lambda: len(node.sessions.frames) == len(raws))
            told = [message for _, message in node.sessions.told if isinstance(message, commands.Command)]
            assert [(each.frame, each.digest) for each in told] == [
                (codec.decode_client(raw), world.digest(raw)) for raw in raws
            ]
            sink.close()
            source.feed_eof()

    asyncio.run(play())


# --- slow readers -----------------------------------------------------------------------------------------------------


async def test_a_client_that_does_not_read_holds_a_bounded_outbox_others_go_on_and_it_is_heard_when_it_reads_again() -> None:
    limit = 128 * 1024
    async with world.running(limit_options={"outbox_bytes": limit}) as node, node.client(2) as other:
        source, sink = await world.raw_client(node)
        sink.write(Frame(BINARY, world.hello()).serialize(mask=True))
        await node.sessions.until(lambda: 1001 in node.sessions.sinks)
        slow = node.sink()
        sink.transport.pause_reading()  # type: ignore[attr-defined]
        drained = asyncio.Event()
        slow.on_drained = drained.set
        frame = codec.encode(messages.Error(1, 1, "x" * 8000, "", False))
        offered = 0
        while slow.offer(frame, 1):
            offered += 1
            assert max(socket.outbox.held for socket in node.sockets) <= limit
            await asyncio.sleep(0)
        assert node.counters.outbox_refusals == 1
        assert node.sink(2).offer(frame, 1)
        assert len(await world.received(other)) == 1
        sink.transport.resume_reading()  # type: ignore[attr-defined]
        data = bytearray()
        while data.count(b"x" * 8000) < offered:
            data += await source.read(2**20)
        await drained.wait()
        assert slow.offer(frame, 1)
        sink.close()


async def test_a_socket_that_takes_no_byte_for_30_seconds_is_cut_and_one_that_takes_some_is_not() -> None:
    clock = world.Clock()
    async with world.running(clock=clock, limit_options={"outbox_bytes": 128 * 1024}) as node:
        source, sink = await world.raw_client(node)
        sink.write(Frame(BINARY, world.hello()).serialize(mask=True))
        await node.sessions.until(lambda: 1001 in node.sessions.sinks)
        slow = node.sink()
        sink.transport.pause_reading()  # type: ignore[attr-defined]
        frame = codec.encode(messages.Error(1, 1, "x" * 8000, "", False))
        await node.settled(lambda: not slow.offer(frame, 1))
        for _ in range(29):
            clock.now += 1
            node.gateway.beat()
        assert node.sockets
        for _ in range(3):
            clock.now += 1
            node.gateway.beat()
        await node.settled(lambda: not node.sockets)
        assert node.counters.closes["slow"] == 1
        assert node.sessions.detached == [1001]
        sink.close()
        assert source is not None


async def slow_client(node: world.World) -> tuple[socket.socket, Any]:
    """A welcomed client with hardly a buffer of its own, that reads when a test says so; and its outlet."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", node.port))
    await loop.sock_sendall(client, world.UPGRADE + Frame(BINARY, world.hello()).serialize(mask=True))
    await node.sessions.until(lambda: 1001 in node.sessions.sinks)
    return client, node.sink()


async def test_a_socket_that_takes_few_bytes_is_not_cut_although_nothing_leaves_the_node_for_a_while() -> None:
    clock, loop = world.Clock(), asyncio.get_running_loop()
    async with world.running(clock=clock, limit_options={"outbox_bytes": 128 * 1024}) as node:
        client, outlet = await slow_client(node)
        frame = codec.encode(messages.Error(1, 1, "x" * 8000, "", False))
        await node.settled(lambda: not outlet.offer(frame, 1))
        (connection,) = node.sockets
        for _ in range(6):
            node.pass_time(20)
            client.send(Frame(BINARY, codec.encode(messages.ClientHeartbeat(0))).serialize(mask=True))
            await node.settled(lambda: connection._connection.heard == clock.now)
            left = connection._unsent()
            while connection._unsent() >= left:
                await loop.sock_recv(client, 1024)
        assert not node.counters.closes
        client.close()


async def test_a_little_that_is_never_taken_is_as_slow_as_much() -> None:
    clock = world.Clock()
    async with world.running(clock=clock) as node:
        client, outlet = await slow_client(node)
        (connection,) = node.sockets
        assert connection._transport is not None
        frame = codec.encode(messages.Error(1, 1, "x" * 8000, "", False))

        def some_waits() -> bool:
            assert connection._transport is not None
            return connection._transport.get_write_buffer_size() > 0 or not outlet.offer(frame, 1)

        await node.settled(some_waits)
        assert not connection.outbox._is_stuck  # less waits than what the transport calls full
        for _ in range(61):
            node.pass_time(1)
            connection._connection.heard = clock.now  # it goes on speaking
        await node.settled(lambda: not node.sockets)
        assert node.counters.closes == {"slow": 1}
        client.close()


async def test_a_client_that_the_node_does_not_read_is_not_taken_for_lost() -> None:
    clock = world.Clock()
    async with world.running(clock=clock) as node, node.client() as client:
        (connection,) = node.sockets
        connection.hold(on=True)
        for _ in range(200):
            node.pass_time(1)
        connection.hold(on=False)
        await client.send(world.send(1))
        await node.sessions.until(lambda: node.sessions.frames)
        assert not node.counters.closes


async def test_the_kernel_holds_little_of_what_a_client_does_not_take() -> None:
    async with world.running() as node, node.client():
        (connection,) = node.sockets
        assert connection._transport is not None
        with socket.socket(fileno=os.dup(connection._transport.get_extra_info("socket").fileno())) as own:
            assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == kernel.UNSENT
            assert own.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * kernel.UNREAD


async def test_answers_over_the_limit_stop_the_reading_of_commands_until_they_have_left() -> None:
    frame = codec.encode(messages.Error(1, 1, "x" * 16_000, "", False))
    async with world.running(limit_options={"outbox_bytes": 128 * 1024, "connection_commands_s": 1e6}) as node:
        node.sessions.on_command = lambda sink, _command: sink.reply(frame)
        source, sink = await world.raw_client(node)
        sink.write(Frame(BINARY, world.hello()).serialize(mask=True))
        await node.sessions.until(lambda: 1001 in node.sessions.sinks)
        sink.transport.pause_reading()  # type: ignore[attr-defined]
        (socket,) = node.sockets
        command = Frame(BINARY, world.send(1)).serialize(mask=True)
        sent = 0
        while socket.outbox.held < 128 * 1024:
            sink.write(command)
            sent += 1
            await asyncio.sleep(0)
        sink.write(command * 1000)
        for _ in range(50):
            await asyncio.sleep(0)
        assert socket.outbox.held < 128 * 1024 + 70 * 16_100
        sink.transport.resume_reading()  # type: ignore[attr-defined]
        data = bytearray()
        while data.count(b"x" * 16_000) < sent + 1000:
            data += await source.read(2**20)
        assert len(node.sessions.frames) == sent + 1000
        sink.close()


@pytest.mark.parametrize(
    ("heartbeat_s", "given_up_s"), [(5.0, 7.5), (25.0, 30.0), (600.0, 900.0)], ids=["shortest", "usual", "longest"]
)
async def test_a_heartbeat_comes_before_clients_give_up_and_routers_forget(heartbeat_s: float, given_up_s: float) -> None:
    clock = world.Clock()
    async with world.running(clock=clock, limit_options={"heartbeat_s": heartbeat_s}) as node:
        node.gateway.hub.jitter = lambda _least, most: most  # type: ignore[assignment,method-assign]
        # The latest of all: due just after a second of the wheel's, and the node looks just before each.
        clock.now += (0.01 - heartbeat_s * (1 + vigil.HEARTBEAT_JITTER)) % 1
        async with node.client() as client:
            last_s, clock.now = clock.now, math.floor(clock.now) + 0.99
            while clock.now + 1 < last_s + given_up_s:
                clock.now += 1
                node.gateway.beat()
            assert await asyncio.wait_for(world.received(client), 10) == [messages.Heartbeat(0)]
