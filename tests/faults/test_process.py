"""What befalls a whole node in the middle of traffic: it is killed, restarted, stopped and continued."""

from __future__ import annotations

import asyncio
import pathlib
import signal

from tests.faults import nodes, traffic
from tests.faults.proxy import Proxy


async def test_kill_9_in_the_middle_of_traffic_loses_nothing_that_was_acknowledged(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    async with nodes.process(data) as node, Proxy(node.target) as proxy:
        async with traffic.Traffic(proxy.url, seed=1) as people:
            await people.gather()
            people.begin(commands=250)
            for _ in range(4):
                await people.answered(150)
                await node.kill()
                await node.start()
                proxy.target = node.target
            await people.converge()
        await node.stop()
        await traffic.stored(data, people.seen)
        people.check()
        epochs = {row.epoch for rows in people.seen.rows.values() for row in rows}
        assert len(epochs) == 5, "traffic went on after each restart"


async def test_a_rolling_restart_is_a_short_pause(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    async with nodes.process(data) as node, Proxy(node.target) as proxy:
        async with traffic.Traffic(proxy.url, seed=2) as people:
            await people.gather()
            people.begin(commands=200)
            await people.answered(300)
            await node.stop()
            await node.start()
            proxy.target = node.target
            await people.converge()
        await node.stop()
        await traffic.stored(data, people.seen)
        people.check()
        assert all(person.tape.connections == 2 for person in people.people)


async def test_a_stopped_process_goes_on_where_it_was(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    async with nodes.process(data) as node, Proxy(node.target) as proxy:
        async with traffic.Traffic(proxy.url, seed=3) as people:
            await people.gather()
            people.begin(commands=200)
            for _ in range(3):
                await people.answered(150)
                node.signal(signal.SIGSTOP)
                proxy.cut()
                await asyncio.sleep(0.3)  # how long it stands still is the fault itself
                node.signal(signal.SIGCONT)
            await people.converge()
        await node.stop()
        await traffic.stored(data, people.seen)
        people.check()
