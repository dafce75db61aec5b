"""What Pykka documents of proxies, on this runtime and on Pykka's own threads."""

from __future__ import annotations

from typing import Any

import pykka
import pytest
from pykka import messages

from tests.runtime.hosts import Host, Latch, of

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


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


@pykka.traversable
class Radio:
    """Traversable, with a traversable part."""

    def __init__(self) -> None:
        self.tuner = Tuner()

    def play(self) -> str:
        return "plays"


class Tuner:
    pykka_traversable = True

    def __init__(self) -> None:
        self.station = 3

    def up(self) -> int:
        self.station += 1
        return self.station


class Car(pykka.Actor):
    def __init__(self) -> None:
        super().__init__()
        self.radio = Radio()


async def test_a_class_may_be_marked_as_traversable_by_decorator_or_attribute_and_traversed_deeply(host: Host) -> None:
    proxy = host.start(Car).proxy()
    assert await host.get(proxy.radio.play()) == "plays"
    assert await host.get(proxy.radio.tuner.up()) == 4
    assert await host.get(proxy.radio.tuner.station) == 4


async def test_an_actor_that_shows_a_proxy_to_itself_is_warned_of(host: Host, caplog: Any) -> None:
    class Selfish(pykka.Actor):
        def __init__(self) -> None:
            super().__init__()
            self.me: Any = self.actor_ref.proxy()
            self.value = 1

    proxy = host.start(Selfish).proxy()
    assert await host.get(proxy.value) == 1
    assert "WARNING" in [r.levelname for r in caplog.records if "'me' is a proxy to itself" in r.getMessage()]
