"""The account: its own devices in step, and what becomes of it when it is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from actors import sweeper
from actors.owner import LOAD_AGAIN_S
from actors.state import log
from auth import attempts
from protocol import codes, events, ids, messages
from protocol.events import Profile
from storage import errors, records
from tests.actors.world import ASHA, BEN, CARA, PASSWORD, PEOPLE, World, direct, text
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


@pytest.mark.parametrize("error", [errors.Unavailable("planted"), errors.OutcomeUnknown("planted")])
async def test_a_deletion_that_the_store_does_not_take_is_not_answered_as_done(
    world: World, error: errors.StorageError
) -> None:
    asha = await world.known(ASHA)
    inner = world.store.inner.delete_user

    async def fails(*args: Any) -> None:
        if isinstance(error, errors.OutcomeUnknown):
            await inner(*args)
        raise error

    world.store.delete_user = fails  # type: ignore[attr-defined]
    rid = asha.say(messages.DeleteAccount, PASSWORD)
    assert isinstance(await asha.answer(rid), messages.Error)
    assert asha.closed is None
    world.store.delete_user = inner  # type: ignore[attr-defined]
    asha.frames.clear()
    asha.tell(messages.DeleteAccount(rid, asha.counter, PASSWORD))
    assert isinstance(await asha.answer(rid), messages.Sent)
    await world.until(lambda: asha.closed)


@pytest.mark.parametrize("where", ["group", "account"])
async def test_a_deletion_is_finished_after_a_crash_whatever_was_not_done(world: World, where: str) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.CreateGroup, "g", (BEN,))
    group = ids.group_stream(asha.device, asha.counter)
    await world.quiet()
    if where == "group":
        commit = world.store.commit
        world.store.commit = refusing(commit)  # type: ignore[method-assign]
        assert await asha.refused(messages.DeleteAccount, PASSWORD) is codes.UNAVAILABLE
        world.store.commit = commit  # type: ignore[method-assign]
    else:
        await world.disk.delete_user(ASHA, 1)
    assert await world.disk.unfinished_deletions(9) == [ASHA]
    for stream in (MINE, group):  # the node, as far as they are concerned
        owner = world.directory.awake(stream)
        if owner is not None:
            owner.kill()
    await world.advance(sweeper.FINISH_EVERY_S)
    await world.until(lambda: asha.closed)
    await world.quiet()
    assert [type(event) for _, event in ben.events(group)][-1:] == [events.MemberLeft]
    assert await world.disk.unfinished_deletions(9) == []


async def test_nothing_that_tells_of_the_person_outlasts_the_account(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.SetProfile, Profile("SECRET", "SECRET", "SECRET"))
    await asha.done(messages.Rename, "secret")
    await asha.done(messages.SetContact, BEN, True, "SECRET")
    await asha.done(messages.SetBlock, CARA, True)
    await asha.done(messages.Send, S, text("hi"))
    await asha.done(messages.SetDraft, S, "SECRET")
    await asha.done(messages.RenameDevice, asha.device, "SECRET")
    await entered(world, ASHA, "SECRET", "secret")
    await asha.done(messages.DeleteAccount, PASSWORD)
    await world.until(lambda: asha.closed)
    await world.quiet()
    rows = await world.disk.range(MINE, 1, records.OPEN_END, 999, 2**30)
    assert len(rows) >= 8
    assert not [row for row in rows if b"secret" in row.data.lower()]
    told = [events.decode(row.data) for row in rows]
    assert {each.user for each in told if isinstance(each, events.ContactSet | events.BlockSet)} == {ASHA}
    assert await world.disk.parts(MINE, b"") == {}
    assert ben.texts(S) == ["hi"]


async def entered(world: World, user: int, name: str = "laptop", of: str = "") -> int:
    """A device that came in by the password; not connected."""
    credential = messages.PasswordCredential(of or PEOPLE[user], PASSWORD, name.encode().ljust(16, b"."), name)
    return (await world.services.admitter.admit(messages.Hello(1, 1, 1, credential), "192.0.2.1")).device


def refusing(commit: Callable[..., Any]) -> Callable[..., Any]:
    """A store that takes no events, whatever else it takes."""

    async def commits(batch: Sequence[records.Write]) -> list[records.Outcome]:
        if any(isinstance(write, records.Append) for write in batch):
            return [records.Outcome(records.Result.FAILED, "planted")] * len(batch)
        found: list[records.Outcome] = await commit(batch)
        return found

    return commits


@pytest.mark.parametrize("again", ["awake", "after a restart"])
async def test_a_revocation_that_could_not_be_told_is_told_by_the_same_bytes_and_no_stranger_is_revoked(
    world: World, again: str
) -> None:
    phone, laptop = await world.known(ASHA), world.phone(ASHA, await entered(world, ASHA))
    await laptop.caught_up()
    commit = world.store.commit
    world.store.commit = refusing(commit)  # type: ignore[method-assign]
    rid = phone.say(messages.RevokeDevice, laptop.device)
    answer = await phone.answer(rid)
    world.store.commit = commit  # type: ignore[method-assign]
    assert isinstance(answer, messages.Error)
    assert answer.number == codes.UNAVAILABLE.number
    assert laptop.closed is not None
    assert laptop.closed[0] == codes.REVOKED.code
    await world.quiet()
    if again == "after a restart":
        await world.sleep()
        await world.sleep()
        assert world.directory.awake(MINE) is None
    phone.frames.clear()
    phone.tell(messages.RevokeDevice(rid, phone.counter, laptop.device))
    assert isinstance(await phone.answer(rid), messages.Sent)
    await world.quiet()
    assert [event.revoked for event in await world.whole(MINE) if isinstance(event, events.DeviceRevoked)] == [laptop.device]
    assert await phone.refused(messages.RevokeDevice, laptop.device) is codes.NOT_ALLOWED
    assert await phone.refused(messages.RevokeDevice, 4711) is codes.NOT_ALLOWED


async def test_a_revocation_of_which_the_store_cannot_tell_cuts_the_device_off_and_can_be_repeated(world: World) -> None:
    phone, laptop = await world.known(ASHA), world.phone(ASHA, await entered(world, ASHA))
    await laptop.caught_up()
    inner = world.store.inner.revoke_device

    async def unknown(*args: Any) -> bool:
        world.store.revoke_device = inner  # type: ignore[attr-defined]
        await inner(*args)
        raise errors.OutcomeUnknown("planted")

    world.store.revoke_device = unknown  # type: ignore[attr-defined]
    rid = phone.say(messages.RevokeDevice, laptop.device)
    assert isinstance(await phone.answer(rid), messages.Error)
    await world.until(lambda: laptop.closed)
    phone.frames.clear()
    phone.tell(messages.RevokeDevice(rid, phone.counter, laptop.device))
    assert isinstance(await phone.answer(rid), messages.Sent)


async def test_a_name_that_was_taken_and_not_told_is_told_without_a_repeat(world: World) -> None:
    asha, laptop = await world.known(ASHA), await world.known(ASHA)
    await asha.done(messages.SetProfile, Profile("A"))
    world.store.faults.append(Fault.REFUSED)
    assert await asha.refused(messages.Rename, "usha") is codes.UNAVAILABLE
    await world.quiet()
    assert [event.name for _, event in laptop.events(MINE) if isinstance(event, events.Renamed)] == ["usha"]
    facts = world.services.people.peek(ASHA)
    assert facts is not None
    assert facts.name == "usha"


async def test_a_device_that_comes_in_is_announced_once_however_often_its_line_is_cut(world: World) -> None:
    phone = await world.known(ASHA)
    first = await entered(world, ASHA)
    world.store.faults.append(Fault.UNANSWERED)
    second = asyncio.ensure_future(entered(world, ASHA, "tablet"))
    await world.quiet()
    await world.advance(LOAD_AGAIN_S)
    assert await entered(world, ASHA) == first
    assert await entered(world, ASHA, "tablet") == await second
    await world.quiet()
    added = [event.added for event in await world.whole(MINE) if isinstance(event, events.DeviceAdded)]
    assert added == [first, await second]
    assert [event.added for _, event in phone.events(MINE) if isinstance(event, events.DeviceAdded)] == added


async def test_the_other_devices_hear_of_one_that_the_server_logged_out(world: World) -> None:
    phone, laptop = await world.known(ASHA), await world.known(ASHA)
    event = events.DeviceRevoked(*events.UNFILLED, laptop.device)
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


async def test_looking_for_names_by_renaming_is_limited_as_guessing_is(world: World) -> None:
    asha = await world.known(ASHA)
    world.services.admitter._attempts = attempts.Attempts(2, 100, 60_000)
    for _ in range(2):
        assert await asha.refused(messages.Rename, "ben") is codes.NAME_TAKEN
    assert await asha.refused(messages.Rename, "cara") is codes.RATE_LIMITED
    assert await (await world.known(BEN)).refused(messages.Rename, "cara") is codes.NAME_TAKEN
