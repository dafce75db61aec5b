"""All running actors of one runtime: Pykka's registry, with a dict in place of its list.

`register`, `unregister` and `get_by_urn` take constant time. A URN is made when somebody asks for it, and an actor
whose URN nobody has asked for cannot be looked for by it, so only those stand in the second dict.
"""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

from actors.runtime import errors, future

if TYPE_CHECKING:
    from actors.runtime.actor import Actor
    from actors.runtime.future import Future
    from actors.runtime.ref import ActorRef

A = TypeVar("A", bound="Actor")


class Registry:
    """Callable from any thread: each listing is one copy, each change one dict operation, or done under the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refs: dict[ActorRef[Any], None] = {}  # in the order of starting
        self._by_urn: dict[str, ActorRef[Any]] = {}
        self._by_name: dict[str, ActorRef[Any]] = {}

    def __len__(self) -> int:
        return len(self._refs)

    def register(self, ref: ActorRef[Any]) -> None:
        self._refs[ref] = None

    def unregister(self, ref: ActorRef[Any]) -> None:
        """Forget an actor; one that is not registered is ignored."""
        self._refs.pop(ref, None)
        with self._lock:  # another thread may just be asking for the URN
            if ref._urn is not None:
                self._by_urn.pop(ref._urn, None)

    def name(self, ref: ActorRef[Any]) -> str:
        """The URN of `ref`, made if it has none, and a live actor found by it from then on."""
        with self._lock:
            if ref._urn is None:
                ref._urn = uuid.uuid4().urn
                if ref.is_alive():  # otherwise nobody would take it out again
                    self._by_urn[ref._urn] = ref
            return ref._urn

    def bind(self, name: str, ref: ActorRef[Any]) -> None:
        """Have `ref` found as `name`, as a supervisor does with its children; the newest holds the name."""
        self._by_name[name] = ref

    def unbind(self, name: str, ref: ActorRef[Any]) -> None:
        """Give the name back, unless another actor holds it by now."""
        if self._by_name.get(name) is ref:
            del self._by_name[name]

    def whereis(self, name: str) -> ActorRef[Any] | None:
        return self._by_name.get(name)

    def get_all(self) -> list[ActorRef[Any]]:
        """All running actors, in the order they were started."""
        return list(self._refs)

    def get_by_class(self, actor_class: type[A]) -> list[ActorRef[A]]:
        """All running actors of the class or a subclass."""
        return [ref for ref in self.get_all() if issubclass(ref.actor_class, actor_class)]

    def get_by_class_name(self, actor_class_name: str) -> list[ActorRef[Any]]:
        return [ref for ref in self.get_all() if ref.actor_class.__name__ == actor_class_name]

    def get_by_urn(self, actor_urn: str) -> ActorRef[Any] | None:
        return self._by_urn.get(actor_urn)

    def broadcast(self, message: Any, target_class: str | type[Actor] | None = None) -> None:
        """Tell `message` to all actors of a class (or class name), or to all. It is a bounded tell: those that have no
        room do not get it, and MailboxFull is raised when all others have. Actors that end meanwhile are passed over."""
        if isinstance(target_class, str):
            targets = self.get_by_class_name(target_class)
        elif target_class is not None:
            targets = self.get_by_class(target_class)
        else:
            targets = self.get_all()
        full: list[str] = []
        for ref in targets:
            try:
                ref.tell(message)
            except errors.MailboxFull as error:
                full.append(str(error))
            except errors.ActorDeadError:
                pass
        if full:
            raise errors.MailboxFull(f"{len(full)} of {len(targets)} actors have no room, the first is {full[0]}")

    def stop_all(self, *, block: bool = False, timeout: float | None = None) -> list[bool] | list[Future[bool]]:
        """Ask all actors to stop, last started first.

        Returns one future each, like `ActorRef.stop`; each is settled when its actor has stopped. With `block`, for
        threads without a loop, the results, each waited for at most `timeout` seconds before the next is asked.
        """
        if block:
            future.refuse_on_loop("stop all actors")
            return [ref.stop(block=False).get(timeout=timeout) for ref in reversed(self.get_all())]
        return [ref.stop(timeout=timeout) for ref in reversed(self.get_all())]
