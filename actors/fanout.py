"""The fan-out: encodes each event once and hands it to the sessions of those it concerns. Nobody waits for a reader.

Everything that goes to more than one session passes here, in the order it was told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

from actors.messages import Advanced, Burst, CutOff, Deliver, DeliverOwn, Notice, Spread
from actors.runtime.actor import Actor
from actors.runtime.errors import ActorDeadError
from actors.services import Services
from actors.state import log
from protocol import codec, messages


class FanOut(Actor):
    """Permanent."""

    await_limit_s: ClassVar[float | None] = None

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._sessions = services.directory.sessions

    def on_receive(self, message: Any) -> None:
        if type(message) is Burst:
            self._burst(message)
        elif type(message) is Spread:
            self._spread(message.users, message.notice)

    def _burst(self, burst: Burst) -> None:
        stream, accepted = burst.stream, burst.accepted
        encode = codec.event_encoder(stream)
        frames = [encode(each.seq, each.data) for each in accepted]
        deliver = Deliver(stream, accepted[0].seq, accepted[-1].seq, b"".join(frames))
        senders = {each.command.user for each in accepted}
        sessions = self._sessions
        for user in burst.users:
            session = sessions.get(user)
            if session is not None:
                with contextlib.suppress(ActorDeadError):
                    session.tell_committed(deliver if user not in senders else _own(stream, user, accepted, frames))

    def _spread(self, users: Sequence[int], notice: Notice | Advanced | CutOff) -> None:
        sessions = self._sessions
        for user in users:
            session = sessions.get(user)
            if session is not None:
                with contextlib.suppress(ActorDeadError):
                    session.tell_committed(notice)


def _own(stream: bytes, user: int, accepted: Sequence[log.Accepted], frames: Sequence[bytes]) -> DeliverOwn:
    """A burst as the session of one of its senders gets it: with the `Sent` of each event of its own devices."""
    parts = []
    for each, frame in zip(accepted, frames, strict=True):
        command = each.command
        if command.user == user and command.device:
            sent = codec.encode(messages.Sent(command.frame.rid, each.seq, each.n, each.time))  # type: ignore[union-attr]
            parts.append((each.seq, command.device, frame, sent))
        else:
            parts.append((each.seq, 0, frame, b""))
    return DeliverOwn(stream, parts)
