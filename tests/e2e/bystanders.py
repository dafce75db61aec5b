"""Two who talk all the while that somebody else does what nobody should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.e2e.independent.client import Client
from tests.e2e.world import World

STALL_S = 5.0
"""In which a message must be answered and delivered: far above what a busy machine takes, so that only a loop that stands
still, or a lost message, fails."""

PACE_S = 0.01
"""Between one word each way and the next, so that most of the machine is left for what the test is about."""


@asynccontextmanager
async def others_talk(world: World, pace_s: float = PACE_S, pair: Sequence[Client] = ()) -> AsyncIterator[None]:
    """Two who talk before, without an end during, and after, and notice nothing. `pair`: they, where nobody can register."""
    yara, zeno = pair or await world.people("yara", "zeno")
    said: list[str] = []
    over = asyncio.Event()

    async def talk() -> None:
        while not over.is_set():
            await _exchange(yara, zeno, said)
            await asyncio.sleep(pace_s)

    await _exchange(yara, zeno, said)
    talking = asyncio.create_task(talk())
    try:
        yield
    finally:
        over.set()
        await talking
    await _exchange(yara, zeno, said)
    for who, other in ((yara, zeno), (zeno, yara)):
        assert who.texts(who.with_(other)) == said
        assert who.close_code is None


async def _exchange(one: Client, other: Client, said: list[str]) -> None:
    """A word each way."""
    stream = one.with_(other)
    for speaker, hearer in ((one, other), (other, one)):
        said.append(f"word {len(said)}")
        try:
            async with asyncio.timeout(STALL_S):
                sent = await speaker.send(stream, said[-1])
                await hearer.event(stream, sent.seq)
        except TimeoutError:
            raise AssertionError(f"{speaker.label} and {hearer.label} were disturbed\n{hearer.last_words()}") from None
