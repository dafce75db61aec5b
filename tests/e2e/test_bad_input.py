"""What no client should send, while two others go on talking undisturbed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.independent.line import Lost
from tests.e2e.world import World

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "refused.json").read_text())


@asynccontextmanager
async def others_talk(world: World) -> AsyncIterator[None]:
    """Two who talk before, during and after, and notice nothing."""
    cleo, dora = await world.people("cleo", "dora")
    stream = cleo.with_(dora)
    for number in range(3):
        await cleo.send(stream, f"before {number}")
    yield
    for number in range(3):
        await dora.send(stream, f"after {number}")
    for who in (cleo, dora):
        await who.event(stream, 6)
        assert who.texts(stream) == [*(f"before {number}" for number in range(3)), *(f"after {number}" for number in range(3))]
        assert who.close_code is None


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


async def test_the_error_names_the_field(world: World) -> None:
    asha = await world.person("asha")
    stream = wire.direct(asha.user, asha.user)
    for array, field in (
        ([18, 7, "text", 1], "stream"),
        ([18, 7, stream, "one"], "target"),
        ([18, 7, stream, 0], "target"),
        ([49, 7, asha.counter(), stream, "a" * 5000], "text"),
        ([62, 7, stream, 0, True, 1000], "limit"),
    ):
        before = len(asha.all("Error"))
        await asha.send_array(array)
        await asha.until(lambda before=before: len(asha.all("Error")) > before)  # type: ignore[misc]
        assert field in asha.all("Error")[-1].text
        await asha.ask("FetchAccount")


async def test_three_unreadable_frames_in_a_row_end_the_connection(world: World) -> None:
    asha = await world.person("asha")
    async with others_talk(world):
        await errors(asha, b"\xc1", b"\xc1")
        await asha.ask("FetchAccount")
        await errors(asha, b"\xc1", b"\xc1")
        await asha.send_bytes(b"\xc1")
        assert await asha.lost() == 4500


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
        b"",
    ],
    ids=["arrays", "arrays in a frame", "maps", "array 32", "arrays 16", "map 32", "bin 32", "str 32", "as stream", "nothing"],
)
async def test_a_bomb_hurts_nobody(world: World, bomb: bytes) -> None:
    asha = await world.person("asha")
    async with others_talk(world):
        before = len(asha.all("Error"))
        await asha.send_bytes(bomb)
        await asha.until(lambda: len(asha.all("Error")) > before or asha.close_code is not None)
        if asha.close_code is None:
            assert asha.all("Error")[-1].symbol == "malformed"
            await asha.ask("FetchAccount")
        else:
            assert asha.close_code in (4500, 4501)


async def test_a_body_may_be_nested_16_deep_and_no_deeper(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    async with others_talk(world):
        for depth, symbol in ((15, None), (16, "malformed"), (5000, "malformed")):
            nested = b"\x91" * (depth - 1) + b"\x90"
            command, data = asha.command("Send", stream=asha.with_(ben), body=[1, "deep", []])
            body = wire.pack([1, "deep", []])
            deeper = b"\x94" + body[1:] + nested
            assert body in data
            if symbol is None:
                sent = (await asha.answer_to("Send", command.rid, data.replace(body, deeper)))[0]
                assert wire.pack((await ben.event(asha.with_(ben), sent.seq)).body) == deeper
                continue
            await asha.send_bytes(data.replace(body, deeper))
            await asha.until(lambda: bool(asha.all("Error")) or asha.close_code is not None)
            if asha.close_code is None:
                assert asha.all("Error")[-1].symbol in (symbol, "too_long", "too_many")
            else:
                assert asha.close_code == 4501
                await asha.come_back()


async def test_hello_comes_first_and_once(world: World) -> None:
    stranger = world.client("stranger")
    async with others_talk(world):
        await stranger.open()
        await stranger.send_array([60, 7])
        assert await stranger.lost() == 4508
        assert not [each for each in stranger.received if each.kind != "Error"]
    asha = await world.person("asha")
    await asha.send_array([1, 9, 1, 1, [1, asha.memory.token]])
    assert await asha.lost() == 4508


async def test_hello_comes_in_time(start: Callable[[dict[str, str]], Awaitable[World]]) -> None:
    world = await start({"limits.hello_timeout_s": "0.2"})
    silent = world.client("silent")
    await silent.open()
    assert await silent.lost() == 4002


async def test_too_much_behind_hello_is_refused(world: World) -> None:
    asha = await world.person("asha")
    await asha.close()
    await asha.open()
    hello = wire.pack([1, 1, 1, 1, [1, asha.memory.token]])
    await asha.send_bytes(wire.batch([hello, *[wire.pack([60, number]) for number in range(2, 300)]]))
    await asha.until(lambda: asha.close_code is not None or asha.last("CaughtUp") is not None)
    assert await asha.lost() == 4508


async def test_who_goes_on_after_being_told_is_flooding(start: Callable[[dict[str, str]], Awaitable[World]]) -> None:
    world = await start({"limits.connection_commands_s": "5"})
    asha, ben = await world.people("asha", "ben")
    assert (asha.limits().commands_per_s, asha.limits().burst) == (5, 5)
    for number in range(40):
        await asha.send_array([10, 1000 + number, ben.user])
    error = await asha.frame("Error", symbol="rate_limited")
    assert error.temporary
    assert error.retry_after_ms > 0
    async with others_talk(world):
        with pytest.raises(Lost):
            await _insist(asha, wire.batch([wire.pack([10, 7, ben.user])] * 100))
        assert await asha.lost() == 4004


async def _insist(client: Client, message: bytes) -> None:
    for _ in range(10_000):  # far more than anybody has patience for
        await client.send_bytes(message)
