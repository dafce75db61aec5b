"""Presence: told to the few who look, damped, and to nobody whom it is not for."""

from __future__ import annotations

import pytest

from actors import presence
from protocol import codes, messages
from protocol.events import Audience, Privacy
from tests.actors.world import ASHA, BEN, CARA, Phone, World


def seen(phone: Phone, user: int) -> list[tuple[bool, int]]:
    return [(each.online, each.last_seen) for each in phone.all(messages.Presence) if each.user == user]


async def test_a_change_is_told_once_after_it_has_settled(world: World) -> None:
    asha = await world.known(ASHA)
    await asha.ask(messages.WatchPresence, (BEN,))
    await world.quiet()
    assert seen(asha, BEN) == [(False, 0)]
    ben = await world.known(BEN)
    ben.leave()
    ben = await world.known(BEN)
    await world.quiet()
    assert len(seen(asha, BEN)) == 1
    await world.advance(presence.DAMP_S)
    assert seen(asha, BEN) == [(False, 0), (True, 0)]
    ben.leave()
    left = world.services.clock()
    await world.quiet()
    await world.advance(presence.DAMP_S)
    assert seen(asha, BEN)[-1] == (False, left)


async def test_who_gives_no_request_id_is_shown_whom_it_watches_and_told_nothing_but_errors(world: World) -> None:
    asha = await world.known(ASHA)
    asha.tell(messages.WatchPresence(0, (BEN,)))
    await world.quiet()
    assert seen(asha, BEN) == [(False, 0)]
    assert not asha.all(messages.Done)
    asha.tell(messages.WatchPresence(0, tuple(range(1000, 2000))))
    await world.quiet()
    assert [each.number for each in asha.all(messages.Error)] == [codes.TOO_MANY.number]


@pytest.mark.parametrize("blocker", [ASHA, BEN])
async def test_a_block_hides_both_ways(world: World, blocker: int) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    by, other = (asha, BEN) if blocker == ASHA else (ben, ASHA)
    await by.done(messages.SetBlock, other, True)
    await world.quiet()
    await asha.ask(messages.WatchPresence, (BEN,))
    await ben.ask(messages.WatchPresence, (ASHA,))
    await world.quiet()
    assert seen(asha, BEN) == seen(ben, ASHA) == []


async def test_who_blocks_somebody_they_watch_sees_them_go_and_come_back_when_they_unblock(world: World) -> None:
    asha, _ben = await world.known(ASHA), await world.known(BEN)
    await asha.ask(messages.WatchPresence, (BEN,))
    await world.quiet()
    for on in (True, False):
        await asha.done(messages.SetBlock, BEN, on)
        await world.quiet()
        await world.advance(presence.DAMP_S)
    assert seen(asha, BEN) == [(True, 0), (False, 0), (True, 0)]
    asha.leave()
    await world.quiet()
    assert not world.permanent("presence")._watching


async def test_who_begins_to_hide_is_shown_as_gone_once(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.ask(messages.WatchPresence, (BEN,))
    await world.quiet()
    for audience in (Audience.NOBODY, Audience.CONTACTS):
        await ben.done(messages.SetPrivacy, Privacy(last_seen=audience))
        await world.quiet()
        await world.advance(presence.DAMP_S)
    assert seen(asha, BEN) == [(True, 0), (False, 0)]


async def test_who_hides_and_who_does_not_exist_look_the_same(world: World) -> None:
    asha, ben, cara = [await world.known(user) for user in (ASHA, BEN, CARA)]
    await ben.done(messages.SetPrivacy, Privacy(last_seen=Audience.NOBODY))
    await cara.done(messages.SetBlock, ASHA, True)
    await world.quiet()
    await asha.ask(messages.WatchPresence, (BEN, CARA, 999_999))
    await world.quiet()
    assert seen(asha, BEN) == seen(asha, CARA) == seen(asha, 999_999) == []


async def test_thousands_of_subscriptions_at_once_wait_their_turn(world: World) -> None:
    watchers = [await world.known(ASHA), await world.known(CARA)]
    strangers = tuple(range(1000, 1256))
    for phone in watchers:
        await phone.ask(messages.WatchPresence, strangers)
    await world.quiet()
    found = world.permanent("presence")
    assert len(found._watchers) == 256
    assert not found._wanted
    assert found._lookups == 0
    assert not world.services.telemetry.restarts


async def test_one_subscription_too_many_is_refused_whole(world: World) -> None:
    asha = await world.known(ASHA)
    await asha.ask(messages.WatchPresence, tuple(range(1000, 1255)))
    assert await asha.refused(messages.WatchPresence, (1, 2)) is codes.TOO_MANY
    assert isinstance(await asha.ask(messages.WatchPresence, (1, 2), (1000,)), messages.Done)


async def test_nothing_is_kept_of_who_left(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.ask(messages.WatchPresence, (BEN, CARA))
    ben.leave()
    await world.quiet()
    await world.advance(presence.DAMP_S)
    asha.leave()
    await world.quiet()
    await world.advance(presence.DAMP_S)
    found = world.permanent("presence")
    left = (found._watched, found._watchers, found._last_seen, found._settling, found._wanted, found._online)
    assert not any(left)


async def test_a_store_that_is_away_costs_no_restart(world: World) -> None:
    asha = await world.known(ASHA)
    world.store.away = True
    await asha.ask(messages.WatchPresence, (BEN,))
    await world.quiet()
    world.store.away = False
    await world.known(BEN)
    await world.advance(presence.DAMP_S)
    assert seen(asha, BEN)[-1] == (True, 0)
