"""How an actor ends: by a stop or by a failure, in Pykka's order.

The reference is dead first, so that nothing comes in any more. Then the registry forgets it, its timers and piped
awaitables are cancelled, `on_stop` or `on_failure` runs, whoever asked for the stop or still waits for an answer
gets it, and last the watcher is told. An async hook is awaited in its place in this order, under the same limit as a
handler; one that is given up holds up nobody any more.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from pykka import messages

from actors.runtime import callbacks, errors, mailbox
from actors.runtime.future import Future

if TYPE_CHECKING:
    from actors.runtime.actor import Actor
    from actors.runtime.ref import ActorRef

logger = logging.getLogger("actors.runtime")

KILL_GRACE_S = 1.0
"""Seconds a cancelled handler or hook gets for its `finally` clauses before it is left to itself."""

KILL_S = 2 * KILL_GRACE_S
"""Seconds that `stop_or_kill` may take beyond its timeout: a grace for the handler, and one for the last hook."""


def end(ref: ActorRef[Any], error: BaseException | None, reply: Future[Any] | None = None, *, hook: bool = True) -> None:
    """End an actor: `error` None is a stop (`on_stop`), otherwise a failure (`on_failure`). Without `hook` neither is
    called: it never started.

    `reply` hears when it is over. An actor that is dead already is left alone.
    """
    actor = ref._actor
    if actor is not None:
        ref._actor = None
        finish(ref, actor, error, reply, hook=hook)


def finish(
    ref: ActorRef[Any],
    actor: Actor,
    error: BaseException | None,
    reply: Future[Any] | None = None,
    *,
    hook: bool = True,
) -> None:
    """All of `end` after the reference is dead."""
    runtime = ref._runtime
    asked = () if reply is None else (mailbox.Ask(messages._ActorStop(), reply),)
    waiting = [*asked, *(ref._system or ()), *(ref._queue or ())]
    ref._system = None
    ref._queue = None
    runtime.registry.unregister(ref)
    pending, ref._pending = ref._pending, None
    for work in pending or ():
        work.cancel()
    if error is not None:
        runtime.failed += 1
        logger.error("Unhandled exception in %s:", ref, exc_info=error)
        callbacks.notify("the hook for failures", runtime.hooks.failed, ref, error)
    on_stop: Callable[[], Any] = actor.on_stop  # Pykka declares None; an override may be async
    on_failure: Callable[..., Any] = actor.on_failure
    result: Any = None
    try:
        if hook:
            result = on_stop() if error is None else on_failure(type(error), error, error.__traceback__)
    except BaseException:
        logger.exception("Unhandled exception in the last hook of %s:", ref)
    if result.__class__ is CoroutineType:
        runtime.ending[ref] = waiting
        runtime.suspended.begin(ref, result, functools.partial(_hook_ended, ref, error))
    else:
        _tell_of_end(ref, error, waiting)


def _hook_ended(
    ref: ActorRef[Any],
    error: BaseException | None,
    _result: Any,
    raised: BaseException | None,
    fault: BaseException | None,
) -> None:
    if raised is not None or fault is not None:
        logger.error("Unhandled exception in the last hook of %s:", ref, exc_info=fault or raised)
    _tell_of_end(ref, error, ref._runtime.ending.pop(ref))


def _tell_of_end(ref: ActorRef[Any], error: BaseException | None, waiting: list[Any]) -> None:
    for message in waiting:
        refuse(ref, message)
    watcher, key = ref._watcher, ref._key
    ref.unwatch()
    if watcher is not None:
        callbacks.notify("a watcher", watcher.actor_ended, ref, key, error)


def refuse(ref: ActorRef[Any], message: Any) -> None:
    """Answer a message that a dead actor will not handle."""
    if message.__class__ is not mailbox.Ask:
        return
    if isinstance(message.message, messages._ActorStop):
        message.reply.try_set(True)
    else:
        message.reply.try_set(error=errors.ActorDeadError(f"{ref} stopped before handling the message"))


def answer_error(ref: ActorRef[Any], reply: Future[Any] | None, error: BaseException) -> bool:
    """Give a handler's exception to the asker, if there is one. False when the actor has to fail of it."""
    if reply is None:
        return False
    if isinstance(error, Exception):
        logger.info("Exception returned from %s to caller:", ref, exc_info=error)
        reply.try_set(error=error)
        return True
    answer_dead(ref, reply, error)  # CancelledError and its like would end the asker as well
    return False


def answer_dead(ref: ActorRef[Any], reply: Future[Any] | None, cause: BaseException) -> None:
    """Tell an asker that the actor failed while it handled the message."""
    if reply is not None:
        dead = errors.ActorDeadError(f"{ref} failed while handling the message")
        dead.__cause__ = cause
        reply.try_set(error=dead)


def _stopped(ref: ActorRef[Any], timeout_s: float) -> Future[bool]:
    """Ask an actor to stop; settled when it has, its last hook included, also if it was about to already."""
    waiting = ref._runtime.ending.get(ref)
    if waiting is None:
        return ref.stop(timeout=timeout_s)
    reply: Future[bool] = Future()
    waiting.append(mailbox.Ask(messages._ActorStop(), reply))
    ref._runtime.expire(reply, timeout_s)
    return reply


async def stop_or_kill(ref: ActorRef[Any], timeout_s: float) -> bool:
    """Stop an actor as `ref.stop()`, and kill it when that takes longer than `timeout_s` seconds.

    When this returns, KILL_S later at the latest, the actor is dead, its last hook has run or is given up, and who
    waited for that has been told. True if it stopped by itself.
    """
    try:
        await _stopped(ref, timeout_s)
    except errors.Timeout:
        logger.warning("%s did not stop within %s s and is killed", ref, timeout_s)
    else:
        return True
    ref.kill()
    suspended = ref._runtime.suspended
    for _ in ("its handler", "its last hook"):
        awaited = suspended.awaited(ref)
        try:
            await _stopped(ref, KILL_GRACE_S)
        except errors.Timeout:
            suspended.give_up(ref, awaited)
        else:
            break
    return False
