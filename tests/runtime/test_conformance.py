"""What Pykka documents, on this runtime and on Pykka's own threads. Deviations stand in test_deviations.py."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pykka
import pytest
from pykka import messages

from tests.runtime.hosts import HOSTS, Host, Latch

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(params=HOSTS, ids=lambda host: host.name)
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    hosted: Host = request.param()
    await hosted.open()
    yield hosted
    await hosted.close()


class Recorder(pykka.Actor):
    """Writes down what happens to it. A callable message is called, and what it returns is the answer."""

    def __init__(self, log: list[Any] | None = None) -> None:
        super().__init__()
        self.log = [] if log is None else log
        self.failed = Latch()
        self.stopped = Latch()

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message()
        self.log.append(message)
        return message

    def on_start(self) -> None:
        self.log.append("start")

    def on_stop(self) -> None:
        self.log.append("stop")
        self.stopped.set()

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.log.append((exception_type, str(exception_value), traceback is not None))
        self.failed.set()


def failing() -> None:
    raise ValueError("of its own")


def of(ref: Any) -> Any:
    """The actor behind a reference."""
    actor = ref._actor_weakref()
    assert actor is not None
    return actor


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


async def test_futures_can_be_mapped_filtered_joined_and_reduced(host: Host) -> None:
    ref = host.start(Recorder)
    one = ref.ask(lambda: [1, 2, 3], block=False)
    two = ref.ask(lambda: "x", block=False)
    assert await host.get(one.map(len)) == 3
    assert await host.get(one.filter(lambda item: item > 1)) == [2, 3]
    assert await host.get(two.join(one)) == ["x", [1, 2, 3]]
    assert await host.get(one.reduce(lambda a, b: a + b)) == 6
    assert await host.get(one.reduce(lambda a, b: a + b, 10)) == 16


async def test_a_future_is_settled_once(host: Host) -> None:
    future = host.base._create_future()
    future.set(1)
    with pytest.raises(host.already_settled):
        future.set(2)
    with pytest.raises(host.already_settled):
        future.set_exception((ValueError, ValueError(), None))
    with pytest.raises(host.already_settled):
        future.set_get_hook(lambda timeout: 3)
    assert await host.get(future) == 1


async def test_a_get_hook_makes_the_value_once(host: Host) -> None:
    future = host.base._create_future()
    made: list[Any] = []

    def make(timeout: float | None) -> str:
        made.append(timeout)
        return "made"

    future.set_get_hook(make)
    assert [await host.get(future), await host.get(future)] == ["made", "made"]
    assert len(made) == 1


async def test_a_future_takes_the_exception_that_is_being_handled(host: Host) -> None:
    future = host.base._create_future()
    try:
        raise KeyError("handled")
    except KeyError:
        future.set_exception()
    with pytest.raises(KeyError, match="handled"):
        await host.get(future)


# -- proxies


class Box:
    def __init__(self) -> None:
        self.content = "nothing"

    def fill(self, content: str) -> str:
        self.content = content
        return f"filled with {content}"


class Shown(pykka.Actor):
    constant = "of the class"

    def __init__(self) -> None:
        super().__init__()
        self.field = "of the instance"
        self._hidden = "private"
        self.box = pykka.traversable(Box())
        self.plain = Box()
        self.failed = Latch()

    @property
    def upper(self) -> str:
        return self.field.upper()

    def join(self, *words: str, glue: str = " ") -> str:
        return glue.join(words)

    def fail(self) -> None:
        raise ValueError("through a proxy")

    def grow(self) -> None:
        self.grown = lambda: "grown"

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.failed.set()


async def test_a_proxy_reads_attributes_of_instance_class_and_properties(host: Host) -> None:
    proxy = host.start(Shown).proxy()
    assert await host.get(proxy.field) == "of the instance"
    assert await host.get(proxy.constant) == "of the class"
    assert await host.get(proxy.upper) == "OF THE INSTANCE"


async def test_a_proxy_calls_methods_with_all_kinds_of_arguments(host: Host) -> None:
    proxy = host.start(Shown).proxy()
    assert await host.get(proxy.join("a", "b")) == "a b"
    assert await host.get(proxy.join("a", "b", glue="-")) == "a-b"


async def test_a_proxy_sets_attributes(host: Host) -> None:
    proxy = host.start(Shown).proxy()
    await host.assign(proxy, "field", "new")
    assert await host.get(proxy.field) == "new"


async def test_a_failed_assignment_raises_where_it_was_made(host: Host) -> None:
    ref = host.start(Shown)
    with pytest.raises(AttributeError):
        await host.assign(ref.proxy(), "upper", "a property without a setter")
    assert ref.is_alive()


async def test_a_proxy_hides_what_is_private_and_what_is_not_there(host: Host) -> None:
    proxy = host.start(Shown).proxy()
    with pytest.raises(AttributeError):
        proxy.nothing_of_the_kind()
    assert "_hidden" not in dir(proxy)
    assert "field" in dir(proxy)


async def test_a_proxy_finds_methods_made_after_it(host: Host) -> None:
    proxy = host.start(Shown).proxy()
    await host.get(proxy.grow())
    assert await host.get(proxy.grown()) == "grown"


async def test_a_proxy_reaches_into_traversable_attributes(host: Host) -> None:
    proxy = host.start(Shown).proxy()
    assert await host.get(proxy.box.content) == "nothing"
    assert await host.get(proxy.box.fill("sand")) == "filled with sand"
    assert await host.get(proxy.box.content) == "sand"
    await host.assign(proxy.box, "content", "water")
    assert await host.get(proxy.box.content) == "water"


async def test_what_is_not_traversable_comes_back_as_it_is(host: Host) -> None:
    proxy = host.start(Shown).proxy()
    assert isinstance(await host.get(proxy.plain), Box)


async def test_an_exception_in_a_proxied_method_goes_to_the_caller(host: Host) -> None:
    ref = host.start(Shown)
    with pytest.raises(ValueError, match="through a proxy"):
        await host.get(ref.proxy().fail())
    assert ref.is_alive()


async def test_a_deferred_call_has_tell_semantics(host: Host) -> None:
    ref = host.start(Shown)
    actor, proxy = of(ref), ref.proxy()
    proxy.fail.defer()
    await actor.failed.wait()
    assert not ref.is_alive()
    with pytest.raises(pykka.ActorDeadError):
        proxy.join.defer("late")


async def test_a_dead_actor_has_no_proxy_and_an_old_proxy_says_so(host: Host) -> None:
    ref = host.start(Shown)
    proxy = ref.proxy()
    await host.stop(ref)
    with pytest.raises(pykka.ActorDeadError):
        await host.get(proxy.join("a"))
    with pytest.raises(pykka.ActorDeadError):
        ref.proxy()


async def test_an_actor_can_be_stopped_through_its_proxy(host: Host) -> None:
    ref = host.start(Shown)
    await host.get(ref.proxy().stop())
    await host.stop(ref)
    assert not ref.is_alive()


async def test_proxies_of_one_actor_are_equal(host: Host) -> None:
    ref = host.start(Shown)
    assert ref.proxy() == ref.proxy()
    assert len({ref.proxy(), ref.proxy()}) == 1
    assert ref.proxy() != host.start(Shown).proxy()


async def test_proxy_messages_can_be_sent_by_hand(host: Host) -> None:
    ref = host.start(Shown)
    call = messages.ProxyCall(attr_path=("join",), args=("a", "b"), kwargs={"glue": "+"})
    assert await host.ask(ref, call) == "a+b"
    assert await host.ask(ref, messages.ProxyGetAttr(attr_path=("field",))) == "of the instance"


async def test_an_actor_can_call_itself_later_through_a_proxy(host: Host) -> None:
    class Countdown(pykka.Actor):
        def __init__(self) -> None:
            super().__init__()
            self._later: Any = self.actor_ref.proxy()
            self.done = Latch()

        def count(self, left: int) -> None:
            if left:
                self._later.count(left - 1)
            else:
                self.done.set()

    ref = host.start(Countdown)
    ref.proxy().count(5)
    await of(ref).done.wait()


# -- registry


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
