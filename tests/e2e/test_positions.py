"""The rules of docs/protocol.md about positions, held by the independent client: one list of frames each, and what is taken."""

from __future__ import annotations

from tests.e2e.independent import wire
from tests.e2e.independent.inbox import Inbox
from tests.e2e.independent.tables import Record
from tests.e2e.world import World

ME, BEN = 7, 8
GROUP = wire.group(80, 1)


def event(kind: str, **fields: object) -> Record:
    """An event of Ben's, as far as positions look at it."""
    return Record(kind, {"sender": BEN} | fields)


TEXT = event("Message")
MINE = event("Message", sender=ME)
REMOVED = event("MemberRemoved", user=ME)
LEFT = event("MemberLeft", sender=ME)
CAME_BACK = event("MemberJoined", user=ME)
JOIN = event("MemberJoined", user=0)


def inbox(position: int | None = None) -> tuple[Inbox, list[int]]:
    """An inbox that stands at `position` of the group, and the seqs it takes."""
    taken: list[int] = []
    found = Inbox(lambda applied: taken.append(applied.seq), lambda *_: None, user=ME)
    if position is not None:
        found.positions[GROUP] = position
    return found, taken


def test_an_answer_that_overtakes_what_was_missed_does_not_skip_it() -> None:
    found, taken = inbox()
    found.sent(GROUP, 9, MINE)
    for seq in (7, 8, 9, 10):
        found.event(GROUP, seq, TEXT)
    found.caught_up()
    assert (taken, found.jumps) == ([7, 8, 9, 10], [])


def test_where_nothing_was_missed_the_own_event_begins_the_stream() -> None:
    found, taken = inbox()
    found.sent(GROUP, 9, MINE)
    assert taken == []
    found.caught_up()
    found.sent(GROUP, 10, MINE)
    assert taken == [9, 10]


def test_what_comes_after_all_before_an_own_event_that_began_the_stream_is_taken() -> None:
    found, taken = inbox()
    found.caught_up()
    found.sent(GROUP, 3, MINE)
    for seq in (1, 2, 3, 4):
        found.event(GROUP, seq, TEXT)
    assert (taken, found.jumps) == ([3, 1, 2, 4], [])


def test_a_gone_sets_a_first_position_too() -> None:
    found, taken = inbox()
    found.gone(GROUP, 3, 8)
    found.event(GROUP, 9, TEXT)
    assert (taken, found.positions[GROUP], found.jumps) == ([9], 9, [])


def test_what_comes_twice_is_to_be_acknowledged_again() -> None:
    found, taken = inbox(5)
    found.event(GROUP, 5, TEXT)
    assert (taken, found.again) == ([], {GROUP})


def test_after_a_removal_the_stream_goes_on_where_one_is_let_in() -> None:
    found, taken = inbox(5)
    found.event(GROUP, 6, REMOVED)
    found.event(GROUP, 12, CAME_BACK)
    found.event(GROUP, 13, TEXT)
    assert (taken, found.jumps) == ([6, 12, 13], [])


def test_after_leaving_the_stream_goes_on_with_the_answer_to_a_join() -> None:
    found, taken = inbox(5)
    found.sent(GROUP, 6, LEFT)
    found.sent(GROUP, 12, JOIN)
    found.event(GROUP, 13, TEXT)
    assert (taken, found.jumps) == ([6, 12, 13], [])


def test_the_answer_to_a_join_waits_for_the_removal_that_it_has_overtaken() -> None:
    found, taken = inbox(5)
    found.joined(GROUP, 12)
    found.sent(GROUP, 12, JOIN)
    found.sent(GROUP, 13, MINE)
    assert taken == []
    found.event(GROUP, 6, TEXT)
    found.event(GROUP, 7, REMOVED)
    assert (taken, found.jumps) == ([6, 7, 12, 13], [])


def test_word_of_coming_back_does_not_skip_what_is_left_of_the_earlier_membership() -> None:
    found, taken = inbox(5)
    found.joined(GROUP, 12)
    for seq, each in ((6, TEXT), (7, REMOVED), (12, CAME_BACK), (13, TEXT)):
        found.event(GROUP, seq, each)
    assert (taken, found.jumps) == ([6, 7, 12, 13], [])


def test_who_has_only_asked_to_join_is_not_in() -> None:
    found, taken = inbox(5)
    found.sent(GROUP, 6, LEFT)
    found.sent(GROUP, 12, JOIN)
    found.event(GROUP, 15, CAME_BACK)
    assert (taken, found.jumps) == ([6, 12, 15], [])


def test_a_gap_that_nothing_explains_is_a_fault() -> None:
    found, _ = inbox(5)
    found.event(GROUP, 9, TEXT)
    assert found.jumps == [(GROUP, 9)]


async def test_leaving_and_coming_back_on_a_device_that_was_away(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    second = await world.device("ben")
    await asha.change("CreateGroup", title="Verona", members=[ben.user])
    stream = wire.group(asha.device, asha.memory.counter)
    await second.event(stream, 1)
    await asha.change("CreateInvite", stream=stream)
    code = (await asha.ask("FetchGroupAdmin", stream=stream)).invites[0][1]
    await second.close()
    await ben.change("Leave", stream=stream)
    for number in range(3):
        await asha.send(stream, f"while he is away {number}")
    await ben.change("Join", stream=stream, code=code)
    await asha.send(stream, "welcome back")
    await second.come_back()
    for device in (ben, second):
        await device.event(stream, 8)
        assert [each.seq for each in device.events(stream)] == [1, 2, 3, 7, 8]
        assert device.inbox.jumps == []


async def test_more_unanswered_commands_than_may_stand_behind_hello_are_repeated(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    await asha.close()
    streams = [asha.with_(ben), wire.direct(asha.user, asha.user)]
    for number in range(100):
        command, data = asha.command("Send", stream=streams[number % 2], body=wire.text("x" * 1500))
        asha.memory.commands[command.rid] = command, data
    await asha.come_back()
    await asha.until(lambda: not asha.memory.commands)
    assert [len(asha.events(stream, "Message")) for stream in streams] == [50, 50]
