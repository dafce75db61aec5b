"""What Pykka documents of an actor's life and messages, on this runtime and on Pykka's own threads.

Futures, proxies and the registry have a file each beside this one; deviations stand in test_deviations.py.
"""

from __future__ import annotations

import logging
from typing import Any

import pykka
import pytest

from tests.runtime.hosts import Host, Latch, Recorder, failing, of

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


# -- life


async def test_an_actor_has_a_urn_and_a_reference_that_name_it(host: Host) -> None:
    ref = host.start(Recorder)
    actor = of(ref)
    assert actor.actor_urn == ref.actor_urn
    assert ref.actor_urn.startswith("urn:uuid:")
    assert actor.actor_ref.actor_urn == ref.actor_urn
    assert str(actor) == str(ref) == f"Recorder ({ref.actor_urn})"
    assert repr(ref) == f"<ActorRef for {ref}>"


async def test_every_actor_has_a_urn_of_its_own(host: Host) -> None:
    assert host.start(Recorder).actor_urn != host.start(Recorder).actor_urn


async def test_start_passes_its_arguments_to_the_initialiser(host: Host) -> None:
    class Named(pykka.Actor):
        def __init__(self, first: str, *, second: str) -> None:
            super().__init__()
            self.names = (first, second)

    assert await host.get(host.start(Named, "a", second="b").proxy().names) == ("a", "b")


async def test_an_initialiser_that_forgets_its_superclass_is_named(host: Host) -> None:
    class Forgetful(pykka.Actor):
        def __init__(self) -> None:
            pass

    with pytest.raises((AssertionError, AttributeError)):
        host.start(Forgetful)
    assert host.registry.get_all() == []


async def test_an_initialiser_that_raises_leaves_no_actor(host: Host) -> None:
    class Broken(pykka.Actor):
        def __init__(self) -> None:
            super().__init__()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        host.start(Broken)
    assert host.registry.get_all() == []


async def test_on_start_comes_before_the_first_message(host: Host) -> None:
    log: list[Any] = []
    ref = host.start(Recorder, log)
    await host.ask(ref, "first")
    assert log == ["start", "first"]


async def test_an_actor_whose_on_start_raises_is_dead_and_not_asked_on_failure(host: Host) -> None:
    class Unstartable(Recorder):
        def on_start(self) -> None:
            raise ValueError("cannot")

    log: list[Any] = []
    ref = host.start(Unstartable, log)
    with pytest.raises(pykka.ActorDeadError):
        await host.ask(ref, "anything")
    assert not ref.is_alive()
    assert log == []


async def test_on_stop_runs_after_the_last_message_and_the_reference_is_dead(host: Host) -> None:
    log: list[Any] = []
    ref = host.start(Recorder, log)
    ref.tell("a")
    ref.tell("b")
    assert await host.stop(ref) is True
    assert log == ["start", "a", "b", "stop"]
    assert not ref.is_alive()
    assert ref.actor_stopped.is_set()


async def test_an_actor_whose_on_stop_raises_is_stopped_all_the_same(host: Host) -> None:
    class Unstoppable(Recorder):
        def on_stop(self) -> None:
            raise ValueError("cannot")

    ref = host.start(Unstoppable)
    assert await host.stop(ref) is True
    assert not ref.is_alive()


async def test_stopping_a_dead_actor_says_false(host: Host) -> None:
    ref = host.start(Recorder)
    await host.stop(ref)
    assert await host.stop(ref) is False


async def test_two_stops_that_are_both_on_their_way_both_say_true(host: Host) -> None:
    ref = host.start(Recorder)
    hold = Latch()
    ref.tell(lambda: hold.set())
    first, second = ref.stop(block=False), ref.stop(block=False)
    assert (await host.get(first), await host.get(second)) == (True, True)
    assert hold.is_set()


async def test_an_actor_can_stop_itself_and_handles_what_was_queued_before(host: Host) -> None:
    log: list[Any] = []
    ref = host.start(Recorder, log)
    actor = of(ref)

    def stop_and_go_on() -> None:
        ref.tell("queued before")
        actor.stop()
        ref.tell("queued after")

    ref.tell(stop_and_go_on)
    await actor.stopped.wait()
    assert log == ["start", "queued before", "stop"]


async def test_what_stands_behind_a_stop_is_answered_dead_or_forgotten(host: Host) -> None:
    log: list[Any] = []
    ref = host.start(Recorder, log)
    answers: list[Any] = []

    def stop_in_front() -> None:
        answers.append(ref.stop(block=False))
        ref.tell("told behind")
        answers.append(ref.ask("asked behind", block=False))

    ref.tell(stop_in_front)
    await of(ref).stopped.wait()
    assert await host.get(answers[0]) is True
    with pytest.raises(pykka.ActorDeadError, match="stopped before handling the message"):
        await host.get(answers[1])
    assert log == ["start", "stop"]


# -- tell and ask


async def test_messages_of_any_kind_arrive_in_order(host: Host) -> None:
    log: list[Any] = []
    ref = host.start(Recorder, log)
    sent: list[Any] = ["text", 1, None, ("tuple",), {"a": 1}, ["list"]]
    for message in sent:
        ref.tell(message)
    await host.ask(ref, "last")
    assert log == ["start", *sent, "last"]


async def test_telling_a_dead_actor_raises(host: Host) -> None:
    ref = host.start(Recorder)
    await host.stop(ref)
    with pytest.raises(pykka.ActorDeadError, match=r"Recorder \(urn:uuid:.*\) not found"):
        ref.tell("late")


async def test_asking_a_dead_actor_raises_from_the_future(host: Host) -> None:
    ref = host.start(Recorder)
    await host.stop(ref)
    future = ref.ask("late", block=False)
    with pytest.raises(pykka.ActorDeadError, match="not found"):
        await host.get(future)


async def test_an_answer_can_be_read_again(host: Host) -> None:
    future = host.start(Recorder).ask("x", block=False)
    assert (await host.get(future), await host.get(future)) == ("x", "x")


async def test_an_exception_goes_to_the_asker_and_the_actor_goes_on(host: Host, caplog: Any) -> None:
    caplog.set_level(logging.INFO, host.logger)
    ref = host.start(Recorder)
    with pytest.raises(ValueError, match="of its own"):
        await host.ask(ref, failing)
    assert ref.is_alive()
    assert await host.ask(ref, "next") == "next"
    assert not of(ref).failed.is_set()
    records = [r for r in caplog.records if "returned from" in r.getMessage()]
    assert [r.levelname for r in records] == ["INFO"]
    assert records[0].exc_info is not None


async def test_an_exception_nobody_asked_for_ends_the_actor_and_calls_on_failure(host: Host, caplog: Any) -> None:
    log: list[Any] = []
    ref = host.start(Recorder, log)
    actor = of(ref)
    ref.tell(failing)
    await actor.failed.wait()
    assert log == ["start", (ValueError, "of its own", True)]
    assert not ref.is_alive()
    assert host.registry.get_all() == []
    records = [r for r in caplog.records if r.getMessage().startswith("Unhandled exception in Recorder")]
    assert [r.levelname for r in records] == ["ERROR"]
    assert records[0].exc_info is not None


async def test_asks_that_waited_behind_a_failure_are_answered_dead(host: Host) -> None:
    ref = host.start(Recorder)
    answers: list[Any] = []

    def fail_in_front() -> None:
        answers.append(ref.ask("behind", block=False))
        failing()

    actor = of(ref)
    ref.tell(fail_in_front)
    await actor.failed.wait()
    with pytest.raises(pykka.ActorDeadError):
        await host.get(answers[0])


async def test_an_on_failure_that_raises_hurts_nobody(host: Host) -> None:
    class Hopeless(Recorder):
        def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
            self.failed.set()
            raise RuntimeError("even here")

    other = host.start(Recorder)
    ref = host.start(Hopeless)
    actor = of(ref)
    ref.tell(failing)
    await actor.failed.wait()
    assert await host.ask(other, "alive") == "alive"
    assert not ref.is_alive()


async def test_a_message_that_nobody_handles_is_logged_and_answered_none(host: Host, caplog: Any) -> None:
    class Silent(pykka.Actor):
        pass

    assert await host.ask(host.start(Silent), "what?") is None
    assert [r.levelname for r in caplog.records if "Unexpected message" in r.getMessage()] == ["WARNING"]


async def test_an_actor_may_answer_with_a_future_of_another(host: Host) -> None:
    ref = host.start(Recorder)
    other = host.start(Recorder)
    inner = await host.ask(ref, lambda: other.ask("from afar", block=False))
    assert await host.get(inner) == "from afar"


async def test_what_an_initialiser_tells_its_own_actor_comes_after_on_start(host: Host) -> None:
    class Eager(Recorder):
        def __init__(self, log: list[Any]) -> None:
            super().__init__(log)
            self.actor_ref.tell("early")

    log: list[Any] = []
    await host.ask(host.start(Eager, log), "later")
    assert log == ["start", "early", "later"]


async def test_an_actor_may_put_another_function_in_the_place_of_on_receive(host: Host) -> None:
    class Fickle(pykka.Actor):
        def on_receive(self, message: Any) -> Any:
            if callable(message):
                return message()
            log.append(("first", message))
            self.on_receive = self.second  # type: ignore[method-assign]
            return None

        def second(self, message: Any) -> None:
            log.append(("second", message))

    log: list[Any] = []
    ref, release = host.start(Fickle), Latch()
    ref.tell(lambda: host.hold(release))
    for number in range(3):
        ref.tell(number)  # so that all of them are there in one turn
    release.set()
    await host.ask(ref, "last")
    assert log == [("first", 0), ("second", 1), ("second", 2), ("second", "last")]
