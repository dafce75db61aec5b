"""The directory: key -> the actor that owns it. Others hold keys, never references.

A key is a stream id (conversation, group, account), or ("session", user). Streams are started, or woken, by the first message
told to them; sessions exist while a device is connected. On one node every owner is local; the same `tell` reaches a remote
owner once there are several.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from actors.commands import Attach, Command
from actors.runtime.actor import Actor
from actors.runtime.errors import ActorDeadError, Quarantined
from actors.runtime.keyed import KeyedSupervisor
from actors.runtime.ref import ActorRef
from protocol import ids

SessionKey = tuple[str, int]
Key = bytes | SessionKey


def session_key(user: int) -> SessionKey:
    return ("session", user)


class Directory:
    """For the loop's thread. `streams` maps each kind of stream to its supervisor; `sessions` supervises sessions by user."""

    def __init__(self, streams: dict[ids.Kind, KeyedSupervisor[bytes]], sessions: KeyedSupervisor[int]) -> None:
        self._streams = {int(kind): supervisor for kind, supervisor in streams.items()}  # by the first byte of the id
        self._sessions = sessions
        #: The sessions by user; one that is about to end may be dead. To be read only.
        self.sessions: dict[int, ActorRef[Any]] = sessions.children
        #: Streams of which events may be stored that their owner never released, and the first of them. The owner's next load
        #: takes it out.
        self.unreleased: dict[bytes, int] = {}

    def tell(self, key: Key, message: Any) -> bool:
        """A client's command for the owner of `key`, or news of its connection for its session. False: no such session (an
        Attach starts it).

        A stream id has been checked (`ids.kind`) by who took it from a client. Raises MailboxFull (commands alone);
        Quarantined, while the owner cannot be loaded; ActorDeadError."""
        if type(key) is not tuple:
            self._owner(key).tell(message)  # type: ignore[arg-type]  # a key that is no tuple is a stream id
            return True
        kind = type(message)
        session = self._sessions.living(key[1])
        if session is None:
            if kind is not Attach:
                return False
            session = self._sessions.start(key[1])
        if kind is Command:
            session.tell(message)
        else:
            session.tell_committed(message)
        return True

    def tell_committed(self, key: Key, message: Any) -> bool:
        """Something that has happened, for the owner of `key`; never refused for lack of room. False: no such session, or the
        owner cannot be loaded now."""
        try:
            if type(key) is tuple:
                session = self.sessions.get(key[1])
                if session is None:
                    return False
                session.tell_committed(message)
            else:
                self._owner(key).tell_committed(message)  # type: ignore[arg-type]
        except (ActorDeadError, Quarantined):
            return False
        return True

    def tell_awake(self, stream: bytes, message: Any) -> bool:
        """Something that is of interest only if the owner is awake. Wakes nothing."""
        owner = self.awake(stream)
        if owner is None:
            return False
        with contextlib.suppress(ActorDeadError):
            owner.tell_committed(message)
            return True
        return False

    def awake(self, stream: bytes) -> ActorRef[Any] | None:
        """The owner of a stream, if it is loaded."""
        return self._streams[stream[0]].living(stream)

    def _owner(self, stream: bytes) -> ActorRef[Any]:
        supervisor = self._streams[stream[0]]
        return supervisor.start(stream)

    def retire(self, user: int) -> None:
        """End the session of a user whose last device has left, unless something is under way; then the next sweep sees to it.

        To be called outside of actors' turns. The check and the end happen in one call, so a device that comes back finds
        either the session or none, and no message is lost."""
        session = self.sessions.get(user)
        actor = session._actor_weakref() if session is not None else None
        if session is not None and actor is not None and not actor.devices and not actor.writing:
            session.stop_now()

    def sweep(self, may_sleep: Callable[[Actor], bool]) -> int:
        """Put idle owners of streams to sleep, and end sessions without a device; returns how many slept.

        An actor that is idle has an empty mailbox, no append under way and no timer; asking it, and stopping it, happen in this
        one call, so no message can be lost between."""
        slept = 0
        for supervisor in self._streams.values():
            for child in list(supervisor.children.values()):
                actor = child._actor_weakref()
                if actor is not None and child.is_idle() and may_sleep(actor) and child.stop_now():
                    slept += 1
        for user in list(self.sessions):
            self.retire(user)
        return slept

    def counts(self) -> dict[str, float]:
        """Actors that are loaded, by kind."""
        loaded = {ids.Kind(kind).name.lower(): float(len(owner.children)) for kind, owner in self._streams.items()}
        return {**loaded, "session": float(len(self.sessions))}
