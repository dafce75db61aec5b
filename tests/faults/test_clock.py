"""The wall clock is set while people write: by an hour forward, then by two hours back."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import time
from collections.abc import AsyncIterator, Mapping

from websockets.asyncio.client import connect

import config
import server
from client.api import text_body
from client.client import SUBPROTOCOL, Client
from node import Node
from protocol import codec, codes, events, ids, messages
from tests.faults import nodes, traffic
from tests.faults.proxy import Proxy
from tests.faults.waiting import DEADLINE_S, until

HOUR_MS = 3_600_000


class Clock:
    """The time of day, as somebody has set it: `ahead` ms before the right one."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead


@contextlib.asynccontextmanager
async def node_by(clock: Clock, folder: pathlib.Path, settings: Mapping[str, str]) -> AsyncIterator[Node]:
    """As `nodes.inside`, with this clock."""
    found = Node(config.load(None, {}, nodes.flags(folder, settings)), server.open_store, clock)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


async def test_a_clock_that_is_set_forward_and_back_turns_no_streams_time_back(tmp_path: pathlib.Path) -> None:
    data, clock = tmp_path / "data", Clock()
    async with Proxy(("127.0.0.1", 0)) as proxy, contextlib.AsyncExitStack() as running:
        async with traffic.Traffic(proxy.url, seed=13) as people:
            async with node_by(clock, data, {}) as node:
                proxy.target = nodes.target(node)
                await people.gather()
                people.begin(commands=120)
                await people.answered(100)
                clock.ahead = HOUR_MS
                await people.answered(150)
                clock.ahead = -HOUR_MS
                await people.answered(150)
                assert not people.done
            node = await running.enter_async_context(node_by(clock, data, {}))
            proxy.target = nodes.target(node)
            await people.converge()
        assert not node.failure
    await traffic.stored(data, people.seen)
    people.check()
    times = {stream: [events.decode(row.data).time for row in rows] for stream, rows in people.seen.rows.items()}
    assert any(each[-1] - each[0] > HOUR_MS // 2 for each in times.values()), "no stream has met the set clock"


async def test_who_sends_too_fast_is_slowed_by_the_rate_whatever_the_clock_says(tmp_path: pathlib.Path) -> None:
    clock = Clock()
    credential = messages.RegisterCredential("asha", traffic.PASSWORD, b"asha".ljust(16))
    async with (
        node_by(clock, tmp_path / "data", {"limits.account_commands_s": "100"}) as node,
        Client(node.url, credential, strict=True, listen=False) as asha,
        asyncio.timeout(DEADLINE_S),
    ):
        note = ids.direct_stream(asha.identity.user, asha.identity.user)
        sending = [asha.submit(messages.Send(0, 0, note, text_body(str(each)))) for each in range(600)]
        for ahead in (HOUR_MS, -HOUR_MS):
            await limited(node)
            clock.ahead = ahead
        assert sorted([(await each).seq for each in sending]) == list(range(1, 601))


async def test_a_clock_that_is_set_gives_no_more_guesses_and_keeps_nobody_out_for_longer(tmp_path: pathlib.Path) -> None:
    clock, window_s = Clock(), 300
    settings = {"auth.attempts": "3", "auth.attempts_window_s": str(window_s)}
    async with node_by(clock, tmp_path / "data", settings) as node:
        refused = await guess(node.url)
        while refused.number == codes.BAD_CREDENTIALS.number:
            refused = await guess(node.url)
        for ahead in (0, HOUR_MS, -HOUR_MS):
            clock.ahead = ahead
            refused = await guess(node.url)
            assert refused.number == codes.RATE_LIMITED.number
            assert 0 < refused.retry_after_ms <= window_s * 1000


async def limited(node: Node) -> None:
    """Wait until an account is told once more that it is too fast."""
    before = node.telemetry.limited["account"]
    await until(lambda: node.telemetry.limited["account"] > before, "the account is limited")


async def guess(url: str) -> messages.Error:
    """Try to log in with a wrong password; what the server says."""
    async with connect(url, subprotocols=[SUBPROTOCOL], compression=None) as socket:
        credential = messages.PasswordCredential("asha", "a wrong password", b"guess".ljust(16), "phone")
        await socket.send(codec.encode(messages.Hello(1, 1, 1, credential)))
        data = await socket.recv()
        assert isinstance(data, bytes)
        answer = next(iter(codec.decode_server_message(data)))
        assert isinstance(answer, messages.Error)
        return answer
