"""How an actor ends: by a stop or by a failure, in Pykka's order.

The reference is dead first, so that nothing comes in any more. Then the registry forgets it, its timers and piped
awaitables are cancelled, `on_stop` or `on_failure` runs, whoever asked for the stop or still waits for an answer
gets it, and last the watcher is told. An async hook is awaited in its place in this order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from pykka import messages

from actors.runtime import errors, mailbox

if TYPE_CHECKING:
    from actors.runtime.actor import Actor
    from actors.runtime.future import Future
    from actors.runtime.ref import ActorRef

logger = logging.getLogger("actors.runtime")

KILL_GRACE_S = 1.0
"""Seconds a cancelled handler or hook gets for its `finally` clauses before it is left to itself."""


def end(ref: ActorRef[Any], error: BaseException | None, reply: Future[Any] | None = None, *, hook: bool = True) -> None:
    """End an actor: `error` None is a stop (`on_stop`), otherwise a failure (`on_failure`, if `hook`).

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
    waiting = [*(ref._system or ()), *(ref._queue or ())]
    ref._system = None
    ref._queue = None
    runtime.registry.unregister(ref)
    pending, ref._pending = ref._pending, None
    for work in pending or ():
        work.cancel()
    if error is not None:
        runtime.failed += 1
        logger.error("Unhandled exception in %s:", ref, exc_info=error)
        if runtime.hooks.failed is not None:
            runtime.hooks.failed(ref, error)
    on_stop: Callable[[], Any] = actor.on_stop  # Pykka declares None; an override may be async
    on_failure: Callable[..., Any] = actor.on_failure
    result: Any = None
    try:
        if error is None:
            result = on_stop()
        elif hook:
            result = on_failure(type(error), error, error.__traceback__)
    except BaseException:
        logger.exception("Unhandled exception in the last hook of %s:", ref)
    if result.__class__ is CoroutineType:
        runtime.last_hooks[ref] = runtime.loop.create_task(_await_hook(ref, result, error, reply, waiting))
    else:
        _tell_of_end(ref, error, reply, waiting)


async def _await_hook(
    ref: ActorRef[Any],
    hook: Coroutine[Any, Any, Any],
    error: BaseException | None,
    reply: Future[Any] | None,
    waiting: list[Any],
) -> None:
    try:
        await hook
    except GeneratorExit:  # the loop is gone
        raise
    except BaseException:
        logger.exception("Unhandled exception in the last hook of %s:", ref)
    ref._runtime.last_hooks.pop(ref, None)
    _tell_of_end(ref, error, reply, waiting)


def _tell_of_end(ref: ActorRef[Any], error: BaseException | None, reply: Future[Any] | None, waiting: list[Any]) -> None:
    if reply is not None:
        reply.try_set(True)
    for message in waiting:
        refuse(ref, message)
    watcher, key = ref._watcher, ref._key
    ref.unwatch()
    if watcher is not None:
        try:
            watcher.actor_ended(ref, key, error)
        except Exception:
            logger.exception("the watcher of %s raised", ref)


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


async def stop_or_kill(ref: ActorRef[Any], timeout_s: float) -> bool:
    """Stop an actor as `ref.stop()`, and kill it when that takes longer than `timeout_s` seconds.

    When this returns the actor is dead and its last hook has run, was cancelled, or is left to itself after
    KILL_GRACE_S. True if it stopped by itself.
    """
    runtime = ref._runtime
    try:
        await ref.stop(timeout=timeout_s)
    except errors.Timeout:
        logger.warning("%s did not stop within %s s and is killed", ref, timeout_s)
    else:
        hook = runtime.last_hooks.get(ref)
        if hook is not None:  # it was dead already, but is not done with that
            await asyncio.wait([hook], timeout=timeout_s)
            hook.cancel()
        return True
    ref.kill()
    try:
        await ref.stop(timeout=KILL_GRACE_S)
    except errors.Timeout:
        runtime.suspended.give_up(ref)
    hook = runtime.last_hooks.get(ref)
    if hook is not None:
        hook.cancel()
        await asyncio.wait([hook], timeout=KILL_GRACE_S)
    return False
