"""A store that is filled in bulk holds what a node would have written."""

from __future__ import annotations

import pathlib

from actors.state import direct, rules
from bench import archive, people
from protocol import ids
from storage import records
from storage.sqlite import bulk, doctor, store

ONE, OTHER = people.Person(0), people.Person(1)
NOW = 1_800_000_000_000


def test_people_have_ids_that_are_spread_over_the_whole_range_and_never_change() -> None:
    users = {people.Person(index).user for index in range(1000)}
    assert len(users) == 1000
    assert all(1 <= user <= ids.MAX_ID for user in users)
    assert sum(user > ids.MAX_ID // 2 for user in users) > 400
    assert people.Person(7) == people.Person(7)
    assert people.Person(7).user == people.Person(7).user


async def test_a_past_is_found_sound_by_the_doctor_and_loads_as_the_log_machine_expects(tmp_path: pathlib.Path) -> None:
    past = archive.Past(ONE, OTHER)
    population: list[bulk.Record] = [*people.records_of([ONE, OTHER], NOW), *past.say(600, NOW, snapshots=True)]
    population += [*past.say(5, NOW + 10**7, sender=1), past.acknowledged(by=1)]
    assert bulk.populate(tmp_path, population) == len(population)
    assert doctor.doctor(tmp_path) == []

    opened = await store.open_store(tmp_path, readers=1)
    try:
        loaded = await opened.load(past.stream)
        state = direct.Direct(past.stream, rules.Rules())
        state.load(loaded)
        assert (state.head, state.n, state.accepted) == (605, 605, {ONE.user, OTHER.user})
        assert len(loaded.tail) <= archive.CHUNK
        assert await opened.behind(OTHER.user, OTHER.device) == []
        (lacking,) = await opened.behind(ONE.user, ONE.device)
        assert (lacking.stream, lacking.head) == (past.stream, 605)
        page = await opened.page(past.stream, 1, records.OPEN_END, True, 50, 1 << 20)
        assert [item.event.seq for item in page.items] == list(range(605, 555, -1))
    finally:
        await opened.close()
