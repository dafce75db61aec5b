"""THE supervision tree of a node, in dependency order. Started from the top, stopped from the bottom.

    node                rest-for-one: what stands below depends on what stands above, and starts anew with it
    |-- writer          permanent   groups appends into durable commits
    |-- fanout          permanent   hands events to sessions
    |-- presence        permanent   tells who is online to who looks
    |-- receipts        permanent   wakes owners that sleep for receipts, at a bounded pace
    |-- accounts        permanent   host of account owners,         by stream:  transient, quarantined per key
    |-- groups          permanent   host of group owners,           by stream:  transient, quarantined per key
    |-- conversations   permanent   host of conversation owners,    by stream:  transient, quarantined per key
    |-- sessions        permanent   host of sessions,               by user:    temporary (the client comes back)
    `-- sweeper         permanent   puts owners to sleep, erases what has expired, forgets what is dead

The listeners stand outside: last up, first down, in `node.py`. More than 3 restarts in 10 s end the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors import account, conversation, fanout, group, presence, receipts, session, sweeper, writer
from actors.directory import Directory
from actors.runtime.keyed import HOST_SLACK_S, KeyedHost, KeyedSupervisor
from actors.runtime.ref import ActorRef
from actors.runtime.restarts import Intensity, Restart, Strategy
from actors.runtime.supervisor import Child, Supervisor
from actors.services import Services
from protocol import ids
from telemetry import Telemetry

#: Restarts of one of the node's permanent actors before the node gives up and is started anew by its operator's supervisor.
INTENSITY = Intensity(3, 10.0)
#: Seconds that sessions, and owners, may take to stop: time to write down what they hold.
STOP_TIMEOUT_S = 5.0


class Tree:
    """The keyed supervisors and the directory over them; `start` puts all of it under one supervisor.

    Made in two steps because the directory is part of what actors are given: first the tree, then `services`, then `start`."""

    services: Services

    def __init__(self, clock: Callable[[], float], telemetry: Telemetry) -> None:
        def keyed(kind: str, factory: Callable[[Any], ActorRef[Any]], restart: Restart) -> KeyedSupervisor[Any]:
            def started(_key: object, _ref: ActorRef[Any]) -> None:
                telemetry.actor_loads[kind] += 1

            def quarantined(_key: object, _seconds: float) -> None:
                telemetry.quarantines[kind] += 1

            return KeyedSupervisor(factory, restart=restart, clock=clock, started=started, quarantined=quarantined)

        self.accounts = keyed("account", lambda key: account.Account.start(self.services, key), Restart.TRANSIENT)
        self.groups = keyed("group", lambda key: group.Group.start(self.services, key), Restart.TRANSIENT)
        self.conversations = keyed("direct", lambda key: conversation.Conversation.start(self.services, key), Restart.TRANSIENT)
        self.sessions = keyed("session", lambda key: session.Session.start(self.services, key), Restart.TEMPORARY)
        streams = {
            ids.Kind.ACCOUNT: self.accounts,
            ids.Kind.GROUP: self.groups,
            ids.Kind.DIRECT: self.conversations,
        }
        self.directory = Directory(streams, self.sessions)

    def start(self, retention: sweeper.Retention, revoked: Callable[[int, int], None]) -> ActorRef[Any]:
        """Start everything; the reference of the topmost supervisor. Stopping it stops everything, in reverse order."""
        services = self.services

        def host(name: str, keyed: KeyedSupervisor[Any]) -> Child:
            timeout_s = STOP_TIMEOUT_S + HOST_SLACK_S
            return Child(name, lambda: KeyedHost.start(keyed, STOP_TIMEOUT_S), Restart.PERMANENT, timeout_s)

        children = [
            Child("writer", lambda: writer.Writer.start(services), Restart.PERMANENT),
            Child("fanout", lambda: fanout.FanOut.start(services), Restart.PERMANENT),
            Child("presence", lambda: presence.Presence.start(services), Restart.PERMANENT),
            Child("receipts", lambda: receipts.Receipts.start(services), Restart.PERMANENT),
            host("accounts", self.accounts),
            host("groups", self.groups),
            host("conversations", self.conversations),
            host("sessions", self.sessions),
            Child("sweeper", lambda: sweeper.Sweeper.start(services, retention, revoked), Restart.PERMANENT),
        ]
        return Supervisor.start(children, strategy=Strategy.REST_FOR_ONE, intensity=INTENSITY)
