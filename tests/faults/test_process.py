"""What befalls a whole node in the middle of traffic: it is killed, restarted, stopped and continued."""

from __future__ import annotations

import asyncio
import pathlib
import signal

from tests.e2e.world import World
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


async def test_a_device_whose_acknowledgements_were_lost_gets_what_it_had_again_and_goes_on(tmp_path: pathlib.Path) -> None:
    """More of them than a window holds: a client that drops what comes twice without a word would wait for ever."""
    async with nodes.process(tmp_path / "data") as node:
        world = World(_url(node))
        asha, ben = await world.people("asha", "ben")
        stream = asha.with_(ben)
        asha.acknowledging = False
        for _ in range(600 // 60):
            for number in range(60):  # as many as may be unanswered
                await ben.start_sending(stream, f"message {number}")
            await ben.until(lambda: not ben.memory.commands)
        await asha.event(stream, 256 - 60)  # what is sent at once may not fit into the rest of the window
        # More than two windows are acknowledged within the second for which the server gathers cursors; then it is killed.
        asha.acknowledging = True
        await asha.tell("Ack", cursors=[(stream, asha.inbox.positions[stream])])
        await asha.event(stream, 600)
        await node.kill()
        await node.start()
        for client in (asha, ben):
            await client.lost()
            client.url = _url(node)
            await client.come_back()
        last = await ben.send(stream, "after")
        await asha.event(stream, last.seq)
        assert [each.seq for each in asha.events(stream)] == list(range(1, last.seq + 1))
        assert asha.inbox.jumps == []
        await world.close()


def _url(node: nodes.Process) -> str:
    host, port = node.target
    return f"ws://{host}:{port}/ws"
