"""Presence: who is online, told to the few who look. Nothing here is durable, except last seen, which sessions write down."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

from actors.messages import Answer, FactsChanged, Notice, Offline, Online, Unwatch, Watch
from actors.runtime.actor import Actor
from actors.services import Services
from auth import policy
from protocol import codec, codes, connection, messages
from storage import errors

#: Seconds by which a change is held back, so that a phone in a tunnel does not flicker (docs/protocol.md, Typing and presence).
DAMP_S = 5.0
#: Users who are being looked up at once. When thousands of devices come back and subscribe, the others wait for their turn.
MAX_LOOKUPS = 64

Watcher = tuple[int, int]  # (user, device)


class _Settle:
    """The damping of one user's change is over."""

    __slots__ = ("user",)

    def __init__(self, user: int) -> None:
        self.user = user


class _Shown:
    """What is to be known of a user has been looked up."""

    __slots__ = ("result", "user", "watchers")

    def __init__(self, user: int, watchers: set[Watcher], result: Any) -> None:
        self.user = user
        self.watchers = watchers
        self.result = result


class Presence(Actor):
    """Permanent. `_settling` holds users whose change is being held back; what is told then is how things stand then.
    `_wanted` holds who is to be told of users that have yet to be looked up."""

    pipe_limit: ClassVar[int] = MAX_LOOKUPS
    await_limit_s: ClassVar[float | None] = None

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._online: set[int] = set(services.directory.sessions)
        self._watchers: dict[int, set[Watcher]] = {}
        #: Whom each watcher watches, and whether the watcher was shown anything of them.
        self._watched: dict[Watcher, dict[int, bool]] = {}
        #: The devices of each user that watch somebody.
        self._watching: dict[int, set[int]] = {}
        self._last_seen: dict[int, int] = {}
        self._settling: set[int] = set()
        self._wanted: dict[int, set[Watcher]] = {}
        self._lookups = 0

    def on_receive(self, message: Any) -> None:
        match message:
            case Online():
                self._online.add(message.user)
                self._last_seen.pop(message.user, None)
                self._changed(message.user)
            case Offline():
                self._online.discard(message.user)
                if message.user in self._watchers:
                    self._last_seen[message.user] = message.time  # it may not be stored yet
                self._changed(message.user)
            case Watch():
                self._watch(message)
            case Unwatch():
                self._drop((message.user, message.device), set(self._watched.get((message.user, message.device), ())))
            case _Settle():
                self._settling.discard(message.user)
                self._show(message.user, self._watchers.get(message.user, ()))
            case FactsChanged():
                self._changed(message.user)
                self._looks_anew(message.user)
            case _Shown():
                self._shown(message)

    def _looks_anew(self, user: int) -> None:
        """A block hides both ways: who sets one, or takes it back, sees less, or more, of whom their devices watch."""
        for watcher in [(user, device) for device in self._watching.get(user, ())]:
            for watched in list(self._watched[watcher]):
                self._show(watched, [watcher])

    def _changed(self, user: int) -> None:
        if user in self._watchers and user not in self._settling:
            self._settling.add(user)
            self.schedule(DAMP_S, _Settle(user))

    def _watch(self, message: Watch) -> None:
        watcher = (message.user, message.device)
        self._drop(watcher, set(message.drop))
        watched = self._watched.setdefault(watcher, {})
        added = set(message.add) - watched.keys()
        limit = self._services.limits.subscriptions
        if len(watched) + len(added) > limit:
            refused = codes.Refused(codes.TOO_MANY, f"a device watches at most {limit} users")
            self._answer(watcher, connection.error_frame(message.rid, refused))
            return
        if watched or added:
            self._watching.setdefault(message.user, set()).add(message.device)
        for user in added:
            watched[user] = False
            self._watchers.setdefault(user, set()).add(watcher)
        if message.rid:
            self._answer(watcher, messages.Done(message.rid))
        for user in added:
            self._show(user, [watcher])

    def _answer(self, watcher: Watcher, frame: messages.Frame) -> None:
        answer = Answer(watcher[1], codec.encode(frame))
        self._services.directory.tell_committed(("session", watcher[0]), answer)

    def _drop(self, watcher: Watcher, users: set[int]) -> None:
        watched = self._watched.get(watcher, {})
        for user in users & watched.keys():
            del watched[user]
            others = self._watchers[user]
            others.discard(watcher)
            if not others:
                del self._watchers[user]
                self._last_seen.pop(user, None)
        if not watched:
            self._watched.pop(watcher, None)
            devices = self._watching.get(watcher[0], set())
            devices.discard(watcher[1])
            if not devices:
                self._watching.pop(watcher[0], None)

    def _show(self, user: int, watchers: Iterable[Watcher]) -> None:
        """Tell these watchers how a user stands, once all that this takes is known."""
        if watchers:
            self._wanted.setdefault(user, set()).update(watchers)
            self._look_up()

    def _look_up(self) -> None:
        """Begin with whom others have waited for longest."""
        while self._wanted and self._lookups < MAX_LOOKUPS:
            user = next(iter(self._wanted))
            watchers = self._wanted.pop(user)
            if self._is_known(user, watchers):
                self._tell(user, watchers, self._last_seen.get(user, 0))
            else:
                self._lookups += 1
                self.pipe(self._find(user, watchers), partial(_Shown, user, watchers))

    def _is_known(self, user: int, watchers: set[Watcher]) -> bool:
        knows = self._services.people.knows
        seen = user in self._online or user in self._last_seen
        return seen and knows(user) and all(knows(viewer) for viewer, _ in watchers)

    async def _find(self, user: int, watchers: set[Watcher]) -> int:
        """Have the facts of a user at hand (and, that blocks hide both ways, those of who looks); when they were last seen."""
        people = self._services.people
        await people.load(user)
        for viewer, _ in watchers:
            await people.load(viewer)
        return self._last_seen.get(user) or await self._services.store.last_seen(user)

    def _shown(self, message: _Shown) -> None:
        self._lookups -= 1
        if isinstance(message.result, int):
            self._tell(message.user, message.watchers, message.result)
        elif not isinstance(message.result, errors.StorageError):
            raise message.result
        # else: the store does not answer. Presence is not worth an error, and the next change tells again.
        self._look_up()

    def _tell(self, user: int, watchers: set[Watcher], last_seen: int) -> None:
        people = self._services.people
        facts = people.peek(user) if people.knows(user) else None
        online = user in self._online
        for watcher in watchers:
            viewer = watcher[0]
            mine = people.peek(viewer) if people.knows(viewer) else None
            watched = self._watched.get(watcher, {})
            if user not in watched:
                continue
            sees = facts is not None and mine is not None and self._sees(viewer, mine, user, facts)
            if not sees and not watched[user]:
                continue  # one who hides, one who is blocked either way and one who does not exist look the same
            watched[user] = sees
            frame = messages.Presence(0, user, sees and online, 0 if online or not sees else last_seen)
            notice = Notice(codec.encode(frame), ("presence", user), device=watcher[1])
            self._services.directory.tell_committed(("session", viewer), notice)

    @staticmethod
    def _sees(viewer: int, mine: policy.Facts, user: int, facts: policy.Facts) -> bool:
        if viewer == user:
            return True
        return policy.sees_last_seen(viewer, facts) and not policy.blocked_between(viewer, mine, user, facts)
