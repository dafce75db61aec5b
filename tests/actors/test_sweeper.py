"""The sweeper: what has expired is erased, what is dead is forgotten, and a store that was away is tried again."""

from __future__ import annotations

from actors import sweeper
from protocol import events, messages
from storage import records
from tests.actors.world import ASHA, BEN, World, direct, text

S = direct(ASHA, BEN)


async def test_the_body_of_an_expired_message_is_erased_from_the_store(world: World) -> None:
    asha = await world.known(ASHA)
    await asha.done(messages.SetTimer, S, 10)
    await asha.done(messages.Send, S, text("soon gone"))
    await world.advance(9)
    await world.advance(12 + sweeper.EXPIRE_SLACK_MS / 1000)
    await world.advance(sweeper.EXPIRE_EVERY_S)
    (event,) = [event for event in await world.whole(S) if isinstance(event, events.Message)]
    assert event.body == events.NIL


async def test_owners_sleep_after_two_looks(world: World) -> None:
    asha = await world.known(ASHA)
    await asha.done(messages.Send, S, text("x"))
    await world.quiet()
    for _ in range(2):
        await world.advance(sweeper.SLEEP_EVERY_S)
    assert world.directory.awake(S) is None
    assert world.services.telemetry.actor_sleeps["stream"] >= 1


async def test_a_device_that_stays_away_too_long_is_forgotten(world: World) -> None:
    away, there = await world.device(BEN), await world.known(BEN)
    days = 91 * 86_400
    await world.advance(days)
    await world.advance(sweeper.RETAIN_EVERY_S)
    assert [each.id for each in await world.disk.devices(BEN)] == [there.device]
    assert away != there.device
    assert there.closed is None


async def test_a_store_that_is_away_ends_no_chore(world: World) -> None:
    world.store.away = True
    for _ in range(3):
        await world.advance(sweeper.EXPIRE_EVERY_S)
    assert not world.services.telemetry.restarts
    world.store.away = False
    asha = await world.known(ASHA)
    await asha.done(messages.SetTimer, S, 1)
    await asha.done(messages.Send, S, text("gone"))
    for _ in range(5):
        await world.advance(sweeper.EXPIRE_EVERY_S)
    assert [event.body for event in await world.whole(S) if isinstance(event, events.Message)] == [events.NIL]


async def test_codes_that_are_over_are_forgotten_a_day_later(world: World) -> None:
    code = records.Code(b"c" * 32, "invite", 0, 1, world.services.clock() + 1)
    await world.disk.add_code(code)
    await world.advance(sweeper.RETAIN_EVERY_S)
    await world.advance(86_400)
    await world.disk.add_code(records.Code(code.digest, "invite", 0, 1, 0))  # changes nothing where one is there
    assert (await world.disk.take_code(code.digest, "invite", world.services.clock(), b"r")).code.expires_at == 0
