"""Owners sleep and are woken by the first message, and none is lost between."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from actors import sweeper
from protocol import messages
from tests.actors.world import ASHA, BEN, CARA, World, direct, living, text

STREAMS = [direct(ASHA, BEN), direct(ASHA, ASHA), direct(ASHA, CARA)]
STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 2)),
    st.tuples(st.just("send"), st.integers(0, 2)),
    st.tuples(st.just("sweep"), st.just(0)),
    st.tuples(st.just("tick"), st.integers(1, 20)),
    st.tuples(st.just("quiet"), st.just(0)),
)


@settings(max_examples=25)
@given(st.lists(STEPS, min_size=5, max_size=60))
def test_whatever_the_moment_of_sleep_every_command_is_carried_out_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with living(pathlib.Path(folder) / "data") as world:
                asha = await world.known(ASHA)
                sent: list[list[int]] = [[], [], []]
                for what, number in steps:
                    if what == "send":
                        sent[number].append(asha.say(messages.Send, STREAMS[number], text(str(asha.rid))))
                    elif what == "sweep":
                        world.directory.sweep(sweeper._is_tired)
                    elif what == "quiet":
                        await world.quiet()
                    else:
                        for _ in range(number):
                            await asyncio.sleep(0)
                for rids in sent:
                    answers = [await asha.answer(rid) for rid in rids]
                    assert [each.seq for each in answers if isinstance(each, messages.Sent)] == list(range(1, len(rids) + 1))
                await world.sleep()
                assert not any(world.directory.awake(stream) for stream in STREAMS)

    asyncio.run(play())


async def test_an_owner_that_was_touched_since_the_last_look_stays(world: World) -> None:
    asha = await world.known(ASHA)
    await asha.done(messages.Send, STREAMS[1], text("x"))
    await world.quiet()
    world.directory.sweep(sweeper._is_tired)
    await asha.done(messages.Send, STREAMS[1], text("y"))
    await world.quiet()
    world.directory.sweep(sweeper._is_tired)
    assert world.directory.awake(STREAMS[1]) is not None
    world.directory.sweep(sweeper._is_tired)
    assert world.directory.awake(STREAMS[1]) is None


async def test_typing_wakes_nothing(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    asha.say(messages.Typing, STREAMS[0])
    await world.quiet()
    assert world.directory.awake(STREAMS[0]) is None
    assert ben.all(messages.MemberTyping) == []


async def test_typing_is_for_devices_that_look_and_not_across_a_block(world: World) -> None:
    asha, ben, laptop = await world.known(ASHA), await world.known(BEN), await world.known(BEN)
    await asha.done(messages.Send, STREAMS[0], text("x"))
    await ben.done(messages.Send, STREAMS[0], text("y"))
    ben.say(messages.Look, STREAMS[0])
    asha.say(messages.Typing, STREAMS[0])
    await world.quiet()
    assert [each.user for each in ben.all(messages.MemberTyping)] == [ASHA]
    assert laptop.all(messages.MemberTyping) == []
    await asha.done(messages.SetBlock, BEN, True)
    await world.quiet()
    asha.say(messages.Typing, STREAMS[0])
    await world.quiet()
    assert len(ben.all(messages.MemberTyping)) == 1
