"""What no client should send, while two others go on talking undisturbed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.bystanders import others_talk
from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.independent.line import Lost
from tests.e2e.process import Server
from tests.e2e.world import World

HALF_OPEN = 700
"""Sockets of each of three kinds: far below the files of a process, and enough to see what one costs."""

MOST_A_SOCKET = 16 * 1024
"""Bytes of memory that one of them may cost, the allocator's and the loop's share included."""

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "refused.json").read_text())


async def errors(client: Client, *messages: bytes) -> list[tuple[int, str]]:
    """Send these, one after the other, each answered by an Error: its rid and symbol."""
    found = []
    for message in messages:
        count = len(client.all("Error"))
        await client.send_bytes(message)
        await client.until(lambda count=count: len(client.all("Error")) > count)  # type: ignore[misc]
        error = client.all("Error")[-1]
        found.append((error.rid, error.symbol))
    return found


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_a_frame_that_cannot_be_read_is_answered(world: World, vector: dict[str, str]) -> None:
    asha = await world.person("asha")
    async with others_talk(world):
        assert await errors(asha, bytes.fromhex(vector["hex"])) == [(int(vector["rid"]), vector["symbol"])]
        assert (await asha.ask("FetchAccount")).kind == "PageEnd", "the connection stays open"


@pytest.mark.usefixtures("bystanders")
async def test_the_error_names_the_field(world: World) -> None:
    asha = await world.person("asha")
    stream = wire.direct(asha.user, asha.user)
    for array, field in (
        ([18, 7, "text", 1], "stream"),
        ([18, 7, stream, "one"], "target"),
        ([18, 7, stream, 0], "target"),
        ([11, 0, asha.counter(), stream, [1, "hi"]], "rid"),
        ([49, 7, asha.counter(), stream, 5], "text"),
        ([62, 7, stream, 0, True, 1000], "limit"),
    ):
        before = len(asha.all("Error"))
        await asha.send_array(array)
        await asha.until(lambda before=before: len(asha.all("Error")) > before)  # type: ignore[misc]
        error = asha.all("Error")[-1]
        assert (error.symbol, error.text.partition(":")[0]) == ("malformed", field)
        await asha.ask("FetchAccount")
    assert not asha.all("Sent"), "with rid 0 nobody could tell whose answer it is"


@pytest.mark.usefixtures("bystanders")
async def test_what_a_person_typed_too_long_or_left_out_is_named_with_its_limit_and_never_closes(world: World) -> None:
    asha = await world.person("asha")
    stream = wire.direct(asha.user, asha.user)
    for fields, symbol, text in (
        ([20, 7, 1, "a" * 101], "too_long", "title: at most 100 characters"),
        ([20, 7, 1, ""], "empty", "title: empty"),
        ([20, 7, 1, "a", list(range(1, 1026))], "too_many", "members: at most 1024 entries"),
        ([49, 7, 1, stream, "a" * 4097], "too_long", "text: at most 4096 characters"),
        ([40, 7, 1, ["a" * 65]], "too_long", "profile[0]: at most 64 characters"),
        ([11, 7, 1, stream, [1, "a" * 16384]], "too_long", "body: at most 16384 bytes"),
        ([11, 7, 1, stream, [2, b""]], "empty", "body[1]: empty"),
    ):
        assert await errors(asha, *[wire.pack(fields)] * 4) == [(7, symbol)] * 4
        assert asha.all("Error")[-1].text == text
    await asha.ask("FetchAccount")


async def test_three_unreadable_frames_in_a_row_end_the_connection(world: World) -> None:
    asha = await world.person("asha")
    async with others_talk(world):
        await errors(asha, b"\xc1", b"\xc1")
        await asha.ask("FetchAccount")
        await errors(asha, b"\xc1", b"\xc1")
        await asha.send_bytes(b"\xc1")
        assert await asha.lost() == 4500


@pytest.mark.parametrize("body", [[1, 5], [1], "text", {"text": 1}], ids=str)
@pytest.mark.usefixtures("bystanders")
async def test_the_third_body_of_the_wrong_shape_ends_the_connection(world: World, body: object) -> None:
    asha, ben = await world.people("asha", "ben")
    data = wire.pack([11, 7, 1, asha.with_(ben), body])
    assert await errors(asha, data, data) == [(7, "malformed")] * 2
    await asha.send_bytes(data)
    assert await asha.lost() == 4500


@pytest.mark.usefixtures("bystanders")
async def test_keys_whose_hash_can_be_foreseen_cost_nothing(world: World) -> None:
    """Arrays as keys of a map are refused, and before Hello nothing of it is read."""
    asha, stranger = await world.person("asha"), world.client("stranger")
    stream = wire.direct(asha.user, asha.user)
    data = wire.pack([11, 7, 1, stream, [1, "a", [], {(number, number): 0 for number in range(500)}]])
    assert await errors(asha, data) == [(7, "malformed")]
    await stranger.open()
    await stranger.send_bytes(data)
    assert await stranger.lost() == 4508
    assert [(each.rid, each.symbol) for each in stranger.received] == [(7, "not_ready")]


@pytest.mark.usefixtures("bystanders")
async def test_unknown_frames_are_not_counted(world: World) -> None:
    asha = await world.person("asha")
    unknown = wire.pack([5000, 9, "later"])
    assert await errors(asha, *[unknown] * 10) == [(9, "unknown_frame")] * 10
    assert (await asha.ask("FetchAccount")).kind == "PageEnd"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\x93" + b"\x00" * 65536, 4501),
        (wire.pack([11, 1, 1, b"d" * 15, [1, "a" * 66000]]), 4501),
        ("text", 4502),
    ],
    ids=["65537 bytes", "a long text", "a text message"],
)
async def test_messages_that_end_the_connection(world: World, message: bytes | str, code: int) -> None:
    asha = await world.person("asha")
    async with others_talk(world):
        await asha.send_bytes(message)
        assert await asha.lost() == code
        await asha.come_back()


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x91" * 60_000,
        b"\x92\x0b" + b"\x91" * 60_000,
        b"\x81\x01" * 30_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff" * 20_000,
        b"\xdf\xff\xff\xff\xff",
        b"\x93\x12\x07\xc6\xff\xff\xff\xff",
        b"\x93\x12\x07\xdb\xff\xff\xff\xff",
        b"\x95\x0b\x07\x01\xdd\xff\xff\xff\xff",
        b"\x95\x0b\x07\x01\xc4\x0f" + wire.direct(1, 2) + b"\x92\x01\xdb\xff\xff\xff\xff",
        b"\x91\x93\x12\x07\xc6\xff\xff\xff\xff",
    ],
    ids=[
        "arrays",
        "arrays in a frame",
        "maps",
        "array 32",
        "arrays 16",
        "map 32",
        "bin 32",
        "str 32",
        "as stream",
        "in a body",
        "in a batch",
    ],
)
async def test_a_bomb_ends_the_connection_and_hurts_nobody(world: World, bomb: bytes) -> None:
    asha = await world.person("asha")
    async with others_talk(world):
        await asha.send_bytes(bomb)
        assert await asha.lost() == 4501
        await asha.come_back()


@pytest.mark.parametrize("data", [b"", b"\x92\x12", b"\x93\x12\x07\xc5\xff\x00"], ids=["nothing", "an array", "bin 16"])
async def test_what_breaks_off_is_malformed(world: World, data: bytes) -> None:
    asha = await world.person("asha")
    async with others_talk(world):
        assert [symbol for _, symbol in await errors(asha, data)] == ["malformed"]
        await asha.ask("FetchAccount")


@pytest.mark.usefixtures("bystanders")
async def test_a_body_may_be_nested_16_deep_and_no_deeper(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    for depth, is_accepted in ((15, True), (16, False), (5000, False)):
        command, data = asha.command("Send", stream=asha.with_(ben), body=[1, "deep", []])
        body = wire.pack([1, "deep", []])
        deeper = b"\x94" + body[1:] + b"\x91" * (depth - 1) + b"\x90"
        assert body in data
        if is_accepted:
            sent = (await asha.answer_to("Send", command.rid, data.replace(body, deeper)))[0]
            assert wire.pack((await ben.event(asha.with_(ben), sent.seq)).body) == deeper
        else:
            await asha.send_bytes(data.replace(body, deeper))
            assert await asha.lost() == 4501
            await asha.come_back()


@pytest.mark.usefixtures("bystanders")
async def test_hello_comes_first_and_once(world: World) -> None:
    stranger = world.client("stranger")
    await stranger.open()
    await stranger.send_array([60, 7])
    assert await stranger.lost() == 4508
    assert [(each.rid, each.symbol) for each in stranger.received] == [(7, "not_ready")]
    asha = await world.person("asha")
    await asha.send_array([1, 9, 1, 1, [1, asha.memory.token]])
    assert await asha.lost() == 4508


async def test_hello_comes_in_time(start: Callable[[dict[str, str]], Awaitable[World]]) -> None:
    world = await start({"limits.hello_timeout_s": "2"})  # time enough for the others to be let in
    async with others_talk(world):
        silent = world.client("silent")
        await silent.open()
        assert await silent.lost() == 4002


async def test_half_open_sockets_by_the_thousand_cost_little_and_disturb_nobody(
    serve: Callable[[dict[str, str]], Awaitable[Server]],
) -> None:
    server = await serve({"limits.hello_timeout_s": "120", "limits.connections_per_address": "10000"})
    address = urlsplit(server.world.url)
    request = (
        f"GET /ws HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {wire.SUBPROTOCOL}\r\n\r\n"
    ).encode()
    async with AsyncExitStack() as stack, others_talk(server.world):

        async def half_open(sent: bytes) -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            stack.callback(lambda: writer.transport.abort())  # holds the writer, without which the socket is closed
            writer.write(sent)
            return reader

        before = server.resident()
        # Silent; in the middle of the upgrade; upgraded, and in the middle of Hello.
        for sent in (b"", request[:-2], request + b"\x82\xfe\x01\x00\x00\x00\x00\x00\x95\x01"):
            readers = [await half_open(sent) for _ in range(HALF_OPEN)]
        for reader in readers:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        grown = server.resident() - before
        newcomer = await server.world.person("asha")
        await newcomer.ask("FetchAccount")
    assert grown < 3 * HALF_OPEN * MOST_A_SOCKET


@pytest.mark.usefixtures("bystanders")
async def test_too_much_behind_hello_is_refused(world: World) -> None:
    asha = await world.person("asha")
    await asha.close()
    await asha.open()
    hello = wire.pack([1, 1, 1, 1, [1, asha.memory.token]])
    await asha.send_bytes(wire.batch([hello, *[wire.pack([60, number]) for number in range(2, 300)]]))
    await asha.until(lambda: asha.close_code is not None or asha.last("CaughtUp") is not None)
    assert await asha.lost() == 4508


async def test_who_goes_on_after_being_told_is_flooding(start: Callable[[dict[str, str]], Awaitable[World]]) -> None:
    world = await start({"limits.connection_commands_s": "10"})
    asha, ben = await world.people("asha", "ben")
    assert (asha.limits().commands_per_s, asha.limits().burst) == (10, 10)
    for number in range(40):
        await asha.send_array([10, 1000 + number, ben.user])
    error = await asha.frame("Error", symbol="rate_limited")
    assert error.temporary
    assert error.retry_after_ms > 0
    async with others_talk(world, pace_s=1.0):  # they have to keep to the rate as well
        with pytest.raises(Lost):
            await _insist(asha, wire.batch([wire.pack([10, 7, ben.user])] * 100))
        assert await asha.lost() == 4004


async def _insist(client: Client, message: bytes) -> None:
    for _ in range(10_000):  # far more than anybody has patience for
        await client.send_bytes(message)
