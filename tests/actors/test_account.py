"""The account: its own devices in step, and what becomes of it when it is deleted."""

from __future__ import annotations

from typing import Any

from actors import account
from actors.state import log
from protocol import codes, events, ids, messages
from protocol.events import Profile
from storage import errors
from tests.actors.world import ASHA, BEN, CARA, PASSWORD, World, direct, text
from tests.storage.faults import Fault

S = direct(ASHA, BEN)
MINE = ids.account_stream(ASHA)


async def test_a_device_that_was_away_hears_of_what_the_other_set(world: World) -> None:
    phone, laptop = await world.known(ASHA), await world.device(ASHA)
    await phone.done(messages.SetProfile, Profile("Asha"))
    await phone.done(messages.SetContact, BEN, True, "Benny")
    await world.quiet()
    away = world.phone(ASHA, laptop)
    await away.caught_up()
    assert [type(event) for _, event in away.events(MINE)] == [events.ProfileChanged, events.ContactSet]


async def test_the_name_that_is_told_is_the_one_that_was_taken(world: World) -> None:
    asha, laptop = await world.known(ASHA), await world.known(ASHA)
    await asha.done(messages.Rename, "\uff21sha2")  # a full-width letter
    await world.quiet()
    (event,) = [event for _, event in laptop.events(MINE) if isinstance(event, events.Renamed)]
    row = await world.disk.user(ASHA)
    assert row is not None
    assert event.name == row.name == world.services.people.peek(ASHA).name == "Asha2"  # type: ignore[union-attr]
    assert await (await world.known(BEN)).refused(messages.Rename, "asha2") is codes.NAME_TAKEN


async def test_nobody_keeps_settings_of_a_conversation_they_were_never_in(world: World) -> None:
    asha, cara = await world.known(ASHA), await world.known(CARA)
    await asha.done(messages.CreateGroup, "g", ())
    group = ids.group_stream(asha.device, asha.counter)
    for stream in (group, ids.group_stream(9, 9), S):
        for kind, fields in (
            (messages.SetConversation, (True,)),
            (messages.SetDraft, ("x",)),
            (messages.Clear, (5,)),
            (messages.Keep, (1, True)),
            (messages.Hide, ((1,),)),
        ):
            assert await cara.refused(kind, stream, *fields) is codes.NOT_ALLOWED


async def test_a_deleted_account_leaves_its_groups_frees_its_name_and_is_nobody_from_then_on(world: World) -> None:
    asha, laptop, ben = await world.known(ASHA), await world.known(ASHA), await world.known(BEN)
    await ben.done(messages.Send, S, text("hi"))
    await asha.done(messages.CreateGroup, "g", (BEN,))
    group = ids.group_stream(asha.device, asha.counter)
    await world.quiet()
    assert await asha.refused(messages.DeleteAccount, "not the password") is codes.BAD_CREDENTIALS
    await asha.done(messages.DeleteAccount, PASSWORD)
    await world.until(lambda: asha.closed and laptop.closed)
    await world.quiet()
    assert asha.closed is not None
    assert asha.closed[0] == codes.ACCOUNT_DELETED.code
    assert any(isinstance(event, events.MemberLeft) for _, event in ben.events(group))
    assert await ben.refused(messages.Send, S, text("gone?")) is codes.NOT_ALLOWED
    assert await ben.refused(messages.Open, ASHA) is codes.NOT_ALLOWED
    await ben.done(messages.Rename, "asha")
    profiles = await ben.ask(messages.FetchProfiles, (ASHA,))
    assert isinstance(profiles, messages.Profiles)
    assert profiles.profiles == ()
    # Nor does it come back when its owner is woken once more.
    await world.sleep()
    await world.sleep()
    world.directory.tell_committed(MINE, None)
    await world.quiet()
    assert await ben.refused(messages.Send, S, text("gone?")) is codes.NOT_ALLOWED


async def test_a_deletion_that_was_cut_short_is_finished_by_the_same_bytes(world: World) -> None:
    asha = await world.known(ASHA)
    inner = world.store.inner.delete_user
    calls = []

    async def fails(*args: Any) -> None:
        calls.append(args)
        raise errors.Unavailable("planted")

    world.store.delete_user = fails  # type: ignore[attr-defined]
    rid = asha.say(messages.DeleteAccount, PASSWORD)
    await asha.answer(rid)
    await world.quiet()
    assert calls
    assert asha.closed is None
    owner = world.directory.awake(MINE)
    assert owner is not None
    owner.kill()  # the node, as far as this account is concerned
    await world.until(lambda: world.directory.awake(MINE) is not owner)
    world.store.delete_user = inner  # type: ignore[attr-defined]
    asha.tell(messages.DeleteAccount(rid, asha.counter, PASSWORD))
    await world.until(lambda: asha.closed)
    row = await world.disk.user(ASHA)
    assert row is not None
    assert row.key is None


async def test_a_store_that_is_away_when_an_account_ends_is_asked_again(world: World) -> None:
    asha = await world.known(ASHA)
    inner = world.store.inner.delete_user
    left = [errors.Unavailable("planted"), errors.OutcomeUnknown("planted")]

    async def fails_twice(*args: Any) -> None:
        if left:
            raise left.pop()
        await inner(*args)

    world.store.delete_user = fails_twice  # type: ignore[attr-defined]
    await asha.done(messages.DeleteAccount, PASSWORD)
    for _ in range(2):
        await world.quiet()
        assert asha.closed is None
        await world.advance(account.END_AGAIN_S)
    assert asha.closed is not None


async def test_a_revocation_that_could_not_be_told_is_told_by_the_same_bytes_and_no_stranger_is_revoked(world: World) -> None:
    phone, laptop = await world.known(ASHA), await world.known(ASHA)
    world.store.faults.append(Fault.REFUSED)
    rid = phone.say(messages.RevokeDevice, laptop.device)
    answer = await phone.answer(rid)
    assert isinstance(answer, messages.Error)
    assert answer.number == codes.UNAVAILABLE.number
    await world.quiet()
    phone.tell(messages.RevokeDevice(rid, phone.counter, laptop.device))
    await world.until(lambda: laptop.closed)
    assert await phone.refused(messages.RevokeDevice, laptop.device) is codes.NOT_ALLOWED
    assert await phone.refused(messages.RevokeDevice, 4711) is codes.NOT_ALLOWED


async def test_the_other_devices_hear_of_one_that_the_server_logged_out(world: World) -> None:
    phone, laptop = await world.known(ASHA), await world.known(ASHA)
    event = events.DeviceRevoked(0, 0, 0, 0, 0, laptop.device)
    world.directory.tell_committed(MINE, log.Command(ASHA, 0, event, 0))
    await world.until(lambda: laptop.closed)
    await world.quiet()
    assert [each.revoked for _, each in phone.events(MINE) if isinstance(each, events.DeviceRevoked)] == [laptop.device]


async def test_one_who_is_gone_can_be_taken_off_the_lists(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.SetBlock, BEN, True)
    await asha.done(messages.SetContact, BEN, True, "b")
    await ben.done(messages.DeleteAccount, PASSWORD)
    await world.until(lambda: ben.closed)
    await asha.done(messages.SetBlock, BEN, False)
    await asha.done(messages.SetContact, BEN, False)
    assert await asha.refused(messages.SetBlock, BEN, True) is codes.NOT_ALLOWED


async def test_a_change_that_was_not_stored_is_not_believed_by_others(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("hi"))
    await world.quiet()
    world.store.faults.append(Fault.REFUSED)
    assert await asha.refused(messages.SetBlock, BEN, True) is codes.UNAVAILABLE
    await world.quiet()
    assert isinstance(await ben.ask(messages.Send, S, text("still open")), messages.Sent)


async def test_what_is_cleared_ends_at_what_there_is(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("old"))
    await ben.done(messages.Clear, S, 2**53 - 1)
    await asha.done(messages.Send, S, text("new"))
    await world.quiet()
    await ben.ask(messages.FetchHistory, S)
    assert [item.seq for item in ben.all(messages.HistoryItem)] == [2]
