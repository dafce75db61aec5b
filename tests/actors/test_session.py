"""The session: devices come, fall behind, are replaced and cut off, and nobody's memory of it grows."""

from __future__ import annotations

from typing import Any

import pytest

from actors import delivery, session
from actors.commands import Detach
from actors.messages import CutOff
from protocol import codes, events, ids, messages
from storage import errors, records
from tests.actors.world import ASHA, BEN, CARA, PASSWORD, Phone, World, direct, text

S = direct(ASHA, BEN)
KEY = ("session", BEN)


async def spread(world: World, count: int, each: int = 1) -> list[bytes]:
    """Groups of Asha and Ben, each with some messages, as they stand in the store."""
    streams = [ids.group_stream(77, number) for number in range(1, count + 1)]
    for stream in streams:
        rows = [
            records.NewEvent(1, events.encode(events.Message(seq, 1, ASHA, 77, seq, text(f"m{seq}"))))
            for seq in range(1, each + 1)
        ]
        members = [records.Membership(user, stream, 1) for user in (ASHA, BEN)]
        outcome = await world.disk.commit([records.Append(stream, 1, 1, each, 1, rows, members=members)])
        assert outcome[0].result is records.Result.STORED
    return streams


async def test_a_device_behind_in_very_many_streams_reads_them_in_turns(world: World) -> None:
    device = await world.device(BEN)
    streams = await spread(world, 600, 2)  # more than one actor may have under way at once
    ben = world.phone(BEN, device)
    await ben.caught_up()
    assert ben.closed is None
    assert all(ben.seqs(stream) == [1, 2] for stream in streams)
    assert isinstance(
        [frame for frame in ben.frames if isinstance(frame, messages.Event | messages.CaughtUp)][-1], messages.CaughtUp
    )
    assert not world.services.telemetry.restarts


def test_positions_in_very_many_streams_are_looked_through_a_few_times_and_not_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def forget(device: delivery.Device) -> None:
        nonlocal looked
        looked += 1
        original(device)

    original = delivery.Device._forget
    monkeypatch.setattr(delivery.Device, "_forget", forget)
    device = delivery.Device(1, sink=None)  # type: ignore[arg-type]
    device.resuming = {}
    for number in range(8 * delivery.MAX_READERS):
        device.reader(ids.group_stream(1, number + 1), 0).become_behind(0, 1, None)
    assert looked <= 4
    assert device.readers is not None
    assert len(device.readers) == 8 * delivery.MAX_READERS


async def test_pages_of_a_device_that_acknowledges_nothing_stop_at_the_window(world: World) -> None:
    device = await world.device(BEN)
    (stream,) = await spread(world, 1, 700)
    ben = world.phone(BEN, device, acks=False)
    await world.until(lambda: ben.seqs(stream))
    await world.quiet()
    assert ben.seqs(stream) == list(range(1, 257))
    assert not ben.all(messages.CaughtUp)
    for upto in (256, 512):
        ben.tell(messages.Ack(0, ((stream, upto),)))
        await world.quiet()
    assert ben.seqs(stream) == list(range(1, 701))
    await ben.caught_up()


async def test_an_outlet_that_is_full_loses_nothing_and_goes_on_when_it_has_drained(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    ben.room = 100
    for number in range(20):
        await asha.done(messages.Send, S, text(f"{number}"))
    await world.quiet()
    assert 0 < len(ben.texts(S)) < 20
    ben.drain()
    await world.quiet()
    assert ben.seqs(S) == list(range(1, 21))


async def test_a_device_gets_what_committed_while_the_store_was_asked_what_it_lacks(world: World) -> None:
    asha = await world.known(ASHA)
    device = await world.device(BEN)
    await asha.done(messages.Send, S, text("before"))
    ben = world.phone(BEN, device)
    await asha.done(messages.Send, S, text("while"))
    await ben.caught_up()
    await world.quiet()
    assert ben.texts(S) == ["before", "while"]


async def test_the_connection_that_takes_over_closes_the_old_one_whose_end_comes_too_late_to_matter(world: World) -> None:
    asha, old = await world.known(ASHA), await world.known(BEN)
    old.say(messages.WatchPresence, (ASHA,))
    await world.quiet()
    new = world.phone(BEN, old.device)
    await new.caught_up()
    assert old.closed is not None
    assert old.closed[0] == codes.REPLACED.code
    world.directory.tell(KEY, Detach(old.device, old))
    await asha.done(messages.Send, S, text("to the new one"))
    await world.quiet()
    assert (old.texts(S), new.texts(S)) == ([], ["to the new one"])
    presence = world.permanent("presence")
    assert not presence._watched
    assert not presence._watchers


async def test_a_revoked_device_is_cut_off_and_heard_no_more(world: World) -> None:
    phone, laptop, asha = await world.known(BEN), await world.known(BEN), await world.known(ASHA)
    await asha.done(messages.Send, S, text("one"))
    await world.quiet()
    phone.say(messages.RevokeDevice, laptop.device)
    await world.until(lambda: laptop.closed)
    assert laptop.closed is not None
    assert laptop.closed[0] == codes.REVOKED.code
    laptop.tell(messages.Send(99, 1, S, text("from beyond")))
    await world.advance(session.GATHER_S)
    assert phone.closed is None
    assert asha.texts(S) == []
    assert [each.id for each in await world.disk.devices(BEN)] == [phone.device]
    with pytest.raises(errors.NoSuch):
        await world.disk.behind(BEN, laptop.device)


async def test_a_device_that_was_revoked_while_it_came_in_is_told_so_and_neither_heard_nor_served(world: World) -> None:
    asha = await world.known(ASHA)
    await asha.done(messages.Send, S, text("not for a thief"))
    thief = world.phone(BEN, 9999)  # its token was checked before the store let go of it
    thief.say(messages.Send, S, text("from a thief"))
    await world.until(lambda: thief.closed)
    assert thief.closed is not None
    assert thief.closed[0] == codes.REVOKED.code
    await world.quiet()
    assert asha.texts(S) == []
    assert not thief.all(messages.Event)


async def test_what_a_device_says_behind_its_hello_is_heard_in_order_once_the_store_knows_it(world: World) -> None:
    asha = await world.known(ASHA)
    ben = world.phone(BEN, await world.device(BEN))
    rids = [ben.say(messages.Send, S, text(str(number))) for number in range(session.MAX_HELD + 1)]
    answers = [await ben.answer(rid) for rid in rids]
    assert [type(answer) for answer in answers] == [messages.Sent] * session.MAX_HELD + [messages.Error]
    await world.until(lambda: asha.texts(S) == [str(number) for number in range(session.MAX_HELD)])


async def test_logging_out_cuts_this_device_alone(world: World) -> None:
    phone, laptop = await world.known(BEN), await world.known(BEN)
    phone.say(messages.Logout)
    await world.until(lambda: phone.closed)
    await world.quiet()
    assert laptop.closed is None
    assert [each.id for each in await world.disk.devices(BEN)] == [laptop.device]


async def test_a_new_password_cuts_the_other_devices(world: World) -> None:
    phone, laptop = await world.known(BEN), await world.known(BEN)
    await phone.done(messages.ChangePassword, PASSWORD, "another good one", True)
    await world.until(lambda: laptop.closed)
    await world.quiet()
    assert phone.closed is None


async def test_one_device_too_many_is_turned_away_and_harms_no_other(world: World) -> None:
    phones = [world.phone(BEN, await world.device(BEN)) for _ in range(session.MAX_DEVICES + 1)]
    await world.quiet()
    assert [phone.closed is None for phone in phones] == [True] * session.MAX_DEVICES + [False]
    assert phones[-1].closed is not None
    assert phones[-1].closed[0] == codes.FULL.code


async def test_nobody_has_read_beyond_the_end(world: World) -> None:
    asha, ben, laptop = await world.known(ASHA), await world.known(BEN), await world.known(BEN)
    await asha.done(messages.Send, S, text("one"))
    await world.quiet()
    ben.say(messages.Read, S, 2**53 - 1)
    await world.quiet()
    assert asha.all(messages.Receipt)[-1].read == 1
    await world.advance(session.GATHER_S)
    assert [event.seq for _, event in laptop.events(ids.account_stream(BEN)) if isinstance(event, events.OwnRead)] == [1]
    assert [mark.read for mark in await world.disk.marks(S) if mark.user == BEN] == [1]


async def test_who_is_no_member_reads_nothing_and_leaves_no_trace(world: World) -> None:
    asha, cara = await world.known(ASHA), await world.known(CARA)
    await asha.done(messages.CreateGroup, "g", ())
    group = ids.group_stream(asha.device, asha.counter)
    for stream in (group, ids.group_stream(5, 5)):
        assert await cara.refused(messages.Read, stream, 7) is codes.NOT_ALLOWED
    await world.advance(session.GATHER_S)
    assert await world.whole(ids.account_stream(CARA)) == []
    assert [mark.user for mark in await world.disk.marks(group)] in ([], [ASHA])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (messages.FetchHistory, (b"x" * 8,)),
        (messages.FetchHistory, (b"g" + bytes(14),)),
        (messages.Send, (b"d" + b"\xff" * 14, text("x"))),
        (messages.FetchGroup, (b"a" + (1).to_bytes(7, "big"),)),
        (messages.Export, (b"\xff" * 64,)),
        (messages.Export, (ids.group_stream(1, 1) + bytes(6) + b"\x01",)),
        (messages.Export, (b"g" * 22,)),
        (messages.FetchConversations, (b"\xff" * 15,)),
        (messages.FindUsers, ("\x00",)),
        (messages.FetchProfiles, ((2**53 - 1,),)),
        (messages.Forward, (S, b"x" * 15, 1)),
        (messages.SetDraft, (b"q" * 15, "x")),
        (messages.Keep, (ids.account_stream(BEN), 1)),
        (messages.Info, (S, 2**53 - 1)),
        (messages.Join, (ids.group_stream(1, 1), b"code")),
    ],
)
async def test_nonsense_is_answered_and_the_session_lives(world: World, kind: Any, fields: tuple[Any, ...]) -> None:
    ben = await world.known(BEN)
    answer = await ben.ask(kind, *fields)
    assert isinstance(answer, messages.Error | messages.PageEnd | messages.Profiles)
    assert ben.closed is None
    assert not world.services.telemetry.restarts


async def test_a_damaged_stream_stands_still_and_the_others_go_on(world: World) -> None:
    device = await world.device(BEN)
    bad, good = await spread(world, 2)
    inner = world.store.inner.range

    async def read(stream: bytes, *args: Any) -> Any:
        if stream == bad:
            raise errors.Damaged("planted")
        return await inner(stream, *args)

    world.store.range = read  # type: ignore[attr-defined]
    ben = world.phone(BEN, device)
    await ben.caught_up()
    assert (ben.seqs(bad), ben.seqs(good)) == ([], [1])
    (told,) = ben.all(messages.Error)
    assert (told.symbol, bad.hex() in told.text) == ("unavailable", True)


async def test_when_the_store_is_away_a_device_is_told_to_come_back(world: World) -> None:
    device = await world.device(BEN)
    world.store.away = True
    ben = world.phone(BEN, device)
    await world.until(lambda: ben.closed)
    assert ben.closed is not None
    assert ben.closed[0] == codes.SESSION_LOST.code


async def test_a_session_that_raises_closes_its_devices_and_is_forgotten_by_presence(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.ask(messages.WatchPresence, (BEN,))
    await ben.ask(messages.WatchPresence, (ASHA,))
    world.directory.tell(KEY, object())
    await world.until(lambda: ben.closed)
    assert ben.closed is not None
    assert ben.closed[0] == codes.SESSION_LOST.code
    await world.advance(5.0)
    assert asha.all(messages.Presence)[-1].online is False
    assert BEN not in {user for user, _ in world.permanent("presence")._watched}
    again = world.phone(BEN, ben.device)
    await again.caught_up()


async def test_a_session_that_raises_closes_who_was_about_to_come_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ben = await world.known(BEN)
    world.directory.tell(KEY, object())
    behind = world.phone(BEN)
    await world.until(lambda: ben.closed and behind.closed)

    def whereis(name: str) -> None:
        raise LookupError(f"{name} is being restarted")

    monkeypatch.setattr(world.services, "whereis", whereis)
    failing = world.phone(BEN)
    await world.until(lambda: failing.closed)
    monkeypatch.undo()
    for phone in (behind, failing):
        assert phone.closed is not None
        assert phone.closed[0] == codes.SESSION_LOST.code
    again = world.phone(BEN, ben.device)
    await again.caught_up()


async def test_the_session_ends_with_its_last_device_and_what_came_late_finds_a_new_one(world: World) -> None:
    ben = await world.known(BEN)
    ben.leave()
    await world.quiet()
    assert BEN not in world.directory.sessions
    first, second = await world.known(BEN), await world.known(BEN)
    first.leave()
    second.leave()
    third = await world.known(BEN)
    assert third.closed is None


async def test_acknowledgements_are_written_once_a_second_and_at_the_end(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("one"))
    await world.quiet()
    assert [each.cursor for each in await world.disk.behind(BEN, ben.device) if each.stream == S] == [0]
    await world.advance(session.GATHER_S)
    assert S not in {each.stream for each in await world.disk.behind(BEN, ben.device)}
    await asha.done(messages.Send, S, text("two"))
    await world.quiet()
    ben.leave()
    await world.quiet()
    assert S not in {each.stream for each in await world.disk.behind(BEN, ben.device)}


async def test_what_a_dependency_takes_down_is_closed_and_can_come_back(world: World) -> None:
    phones: list[Phone] = [await world.known(ASHA), await world.known(BEN)]
    await phones[0].done(messages.Send, S, text("one"))
    await world.quiet()
    writer = world.runtime.registry.whereis("writer")
    assert writer is not None
    writer.tell(None)  # it cannot handle that
    await world.until(lambda: all(phone.closed for phone in phones))
    await world.until(
        lambda: world.runtime.registry.whereis("sweeper") and world.runtime.registry.whereis("writer") is not writer
    )
    await world.quiet()
    asha, ben = [world.phone(phone.user, phone.device) for phone in phones]
    await ben.caught_up()
    assert isinstance(await asha.ask(messages.Send, S, text("two")), messages.Sent | messages.Error)
    await world.quiet()


async def test_an_account_is_held_to_its_rate_over_all_devices(world: World) -> None:
    world.services.commands_per_s = 1.0
    phone, laptop = await world.known(BEN), await world.known(BEN)
    answers = [await (phone, laptop)[number % 2].ask(messages.Read, S, 1) for number in range(6)]
    assert [isinstance(answer, messages.Done) for answer in answers] == [True] * 4 + [False] * 2
    assert isinstance(answers[-1], messages.Error)
    assert answers[-1].symbol == "rate_limited"
    world.seconds.now += answers[-1].retry_after_ms / 1000
    assert isinstance(await phone.ask(messages.Read, S, 1), messages.Done)


async def test_cutting_off_one_who_is_not_there_is_nothing(world: World) -> None:
    ben = await world.known(BEN)
    world.directory.tell_committed(KEY, CutOff(12345, codes.REVOKED))
    assert not world.directory.tell_committed(("session", 999), CutOff(0, codes.REVOKED))
    await world.quiet()
    assert ben.closed is None
