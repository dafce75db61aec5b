"""What Pykka documents of its registry, on this runtime's and on Pykka's own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.hosts import Host, Recorder

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


class Tagged(Recorder):
    pass


async def test_the_registry_lists_running_actors_in_the_order_of_starting(host: Host) -> None:
    refs = [host.start(Recorder) for _ in range(3)]
    assert host.registry.get_all() == refs
    await host.stop(refs[1])
    assert host.registry.get_all() == [refs[0], refs[2]]


async def test_the_registry_finds_actors_by_class_superclass_and_class_name(host: Host) -> None:
    plain_class, tagged_class = host.hosted(Recorder), host.hosted(Tagged)
    plain, tagged = plain_class.start(), tagged_class.start()
    assert host.registry.get_by_class(plain_class) == [plain]
    assert host.registry.get_by_class(tagged_class) == [tagged]
    assert host.registry.get_by_class(Recorder) == [plain, tagged]
    assert host.registry.get_by_class_name("Tagged") == [tagged]
    assert host.registry.get_by_class_name("Nobody") == []


async def test_the_registry_finds_an_actor_by_its_urn_while_it_lives(host: Host) -> None:
    ref = host.start(Recorder)
    urn = ref.actor_urn
    assert host.registry.get_by_urn(urn) is ref
    assert host.registry.get_by_urn("urn:uuid:of-nobody") is None
    await host.stop(ref)
    assert host.registry.get_by_urn(urn) is None


async def test_a_broadcast_reaches_all_or_those_of_a_class(host: Host) -> None:
    recorder, tagged = host.hosted(Recorder), host.hosted(Tagged)
    logs: list[list[Any]] = [[], []]
    refs = [recorder.start(logs[0]), tagged.start(logs[1])]
    host.registry.broadcast("all")
    host.registry.broadcast("by class", target_class=tagged)
    host.registry.broadcast("by name", target_class="Recorder")
    for ref in refs:
        await host.ask(ref, "end")
    assert logs == [["start", "all", "by name", "end"], ["start", "all", "by class", "end"]]


async def test_stop_all_stops_everybody(host: Host) -> None:
    refs = [host.start(Recorder) for _ in range(3)]
    assert await host.stop_all() == [True, True, True]
    assert host.registry.get_all() == []
    assert not any(ref.is_alive() for ref in refs)


async def test_an_actor_leaves_the_registry_before_its_on_stop(host: Host) -> None:
    seen: list[Any] = []

    class Curious(Recorder):
        def on_stop(self) -> None:
            seen.append(list(host.registry.get_all()))

    await host.stop(host.start(Curious))
    assert seen == [[]]


async def test_unregistering_a_stranger_is_ignored(host: Host) -> None:
    ref = host.start(Recorder)
    await host.stop(ref)
    host.registry.unregister(ref)
    assert host.registry.get_all() == []
