"""Pykka's future, awaitable on a loop without blocking it.

It may be settled, awaited and waited for from any thread. Waiting with `get()` is for threads that run no loop; on a
thread that does it is refused, since the one that would settle the future may be the one that waits.

A future with a get hook (those of `map`, `filter`, `join` and `reduce` have one) is made by its first reader; who reads
meanwhile waits for that one, and tries for himself if it did not succeed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import pykka

from actors.runtime.errors import BlockingOnLoop

if TYPE_CHECKING:
    from types import TracebackType

    from pykka._future import GetHookFunc
    from pykka._types import OptExcInfo

T = TypeVar("T")
J = TypeVar("J")
M = TypeVar("M")
R = TypeVar("R")


class Cancellable(Protocol):
    def cancel(self) -> object: ...


class _Unset:
    """The value of a future that has none yet."""

    __slots__ = ()


_UNSET: Any = _Unset()

# One lock for all: it is held for a few attribute accesses, and a lock per future would cost more than the future.
_lock = threading.Lock()


class Future(pykka.Future[T]):
    """A value that an actor will give. Settled once; read as often as one likes."""

    __slots__ = ("_await_hook", "_error", "_get_hook", "_making", "_timer", "_traceback", "_value", "_waiters")

    _get_hook: GetHookFunc[T] | None
    _traceback: TracebackType | None  # of the error, as it was when it was set; unset while there is none

    def __init__(self) -> None:
        # Pykka's own initialiser is not called: it would add a dict for what the slots hold.
        self._value: Any = _UNSET
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None] | threading.Event] | None = None
        self._get_hook = None
        self._await_hook: Callable[[], Coroutine[Any, Any, T]] | None = None
        self._making = False
        self._timer: Cancellable | None = None

    def __repr__(self) -> str:
        return f"<Future {'done' if self.done() else 'pending'}>"

    def done(self) -> bool:
        """Whether the value or the exception is there."""
        return self._value is not _UNSET or self._error is not None

    # -- settling

    def set(self, value: T | None = None) -> None:
        """Give the value. Raises InvalidStateError if it was settled or has a get hook."""
        if not self.try_set(value):
            raise asyncio.InvalidStateError("the future is already settled")

    def set_exception(self, exc_info: OptExcInfo | BaseException | None = None) -> None:
        """Give an exception: as Pykka's triple, as the exception itself, or the one being handled."""
        error = exc_info if isinstance(exc_info, BaseException) else _exception_of(exc_info or sys.exc_info())
        if not self.try_set(_UNSET, error):
            raise asyncio.InvalidStateError("the future is already settled")

    def try_set(self, value: Any = None, error: BaseException | None = None) -> bool:
        """Settle unless that has happened (the asker has given up, say). True if this call did it."""
        with _lock:
            if self._value is not _UNSET or self._error is not None or self._get_hook is not None:
                return False
            if error is not None:
                self._traceback = error.__traceback__  # first: who reads the error needs it, and reads without the lock
            self._value = value
            self._error = error
            waiters = self._waiters
            self._waiters = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if waiters is not None:
            _release(waiters)
        return True

    def expire_with(self, timer: Cancellable) -> None:
        """Cancel `timer` once the future is settled; at once if it is."""
        if self.done():
            timer.cancel()
        else:
            self._timer = timer

    def set_get_hook(self, func: GetHookFunc[T]) -> None:
        """Let `func(timeout)` make the value when it is first asked for; it is called again as long as it raises.
        Raises InvalidStateError if settled."""
        with _lock:
            if self.done():
                raise asyncio.InvalidStateError("the future is already settled")
            self._get_hook = func
            waiters, self._waiters = self._waiters, None
        _release(waiters or ())

    # -- reading

    def __await__(self) -> Generator[Any, None, T]:
        while self._value is _UNSET and self._error is None:
            if self._get_hook is not None and self._begin_making():
                try:
                    if self._await_hook is not None:
                        self._value = yield from self._await_hook().__await__()
                    else:
                        self._value = self._get_hook(None)
                finally:
                    self._end_making()
            else:
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                if self._wait_with(waiter):
                    try:
                        yield from waiter
                    except BaseException:  # cancelled
                        self._wait_no_more(waiter)
                        raise
        return self._result()

    __iter__ = __await__

    def get(self, *, timeout: float | None = None) -> T:
        """Block until the value is there, at most `timeout` seconds.

        Raises Timeout, the exception the actor raised, or BlockingOnLoop on a thread that runs an event loop when
        the value is not there yet.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        left = timeout
        while not self.done():
            if self._get_hook is not None and self._begin_making():
                try:
                    self._value = self._get_hook(left)
                finally:
                    self._end_making()
            else:
                refuse_on_loop("wait for an actor's answer")
                event = threading.Event()
                if self._wait_with(event) and not event.wait(left):
                    self._wait_no_more(event)
                    raise pykka.Timeout(f"{timeout} seconds")
                left = None if deadline is None else deadline - time.monotonic()
        return self._result()

    def _begin_making(self) -> bool:
        """Whether this reader is the one to call the get hook now; then it says when it has, by `_end_making`."""
        with _lock:
            if self._making or self._value is not _UNSET:
                return False
            self._making = True
        return True

    def _end_making(self) -> None:
        with _lock:
            self._making = False
            waiters, self._waiters = self._waiters, None
        _release(waiters or ())

    def _wait_with(self, waiter: asyncio.Future[None] | threading.Event) -> bool:
        """Have `waiter` released when it is worth looking again; False if it is now."""
        with _lock:
            if self._value is not _UNSET or self._error is not None or (self._get_hook is not None and not self._making):
                return False
            if self._waiters is None:
                self._waiters = [waiter]
            else:
                self._waiters.append(waiter)
        return True

    def _wait_no_more(self, waiter: asyncio.Future[None] | threading.Event) -> None:
        with _lock:
            if self._waiters is not None and waiter in self._waiters:
                self._waiters.remove(waiter)

    def _result(self) -> T:
        error = self._error
        if error is not None:
            # Each reader's frames would be added to those of all readers before.
            raise error.with_traceback(self._traceback)
        return cast(T, self._value)

    # -- derived futures: as Pykka's, and awaitable

    def filter(self: Future[Iterable[J]], func: Callable[[J], bool]) -> Future[Iterable[J]]:
        return self.map(lambda items: list(filter(func, items)))

    def join(self: Future[Any], *futures: pykka.Future[Any]) -> Future[Iterable[Any]]:
        sources = (self, *futures)

        async def results() -> list[Any]:
            return [await source for source in sources]

        return _derived(lambda timeout: [source.get(timeout=timeout) for source in sources], results)

    def map(self, func: Callable[[T], M]) -> Future[M]:
        async def result() -> M:
            return func(await self)

        return _derived(lambda timeout: func(self.get(timeout=timeout)), result)

    def reduce(self: Future[Iterable[J]], func: Callable[[R, J], R], *args: R) -> Future[R]:
        reducer = cast(Callable[..., R], functools.reduce)
        return self.map(lambda items: reducer(func, items, *args))


def refuse_on_loop(what: str) -> None:
    """Raise BlockingOnLoop if the calling thread runs an event loop."""
    if asyncio._get_running_loop() is not None:
        raise BlockingOnLoop(f"this thread runs an event loop and may not block to {what}: await the future instead")


def _derived(get: Callable[[float | None], M], result: Callable[[], Coroutine[Any, Any, M]]) -> Future[M]:
    future: Future[M] = Future()
    future.set_get_hook(get)
    future._await_hook = result
    return future


def _release(waiters: Iterable[asyncio.Future[None] | threading.Event]) -> None:
    running = asyncio._get_running_loop()
    for waiter in waiters:
        if isinstance(waiter, threading.Event):
            waiter.set()
        elif waiter.get_loop() is running:
            _wake(waiter)
        else:
            with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits there any more
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():  # the awaiting task may have been cancelled
        waiter.set_result(None)


def _exception_of(exc_info: OptExcInfo) -> BaseException:
    exc_type, error, traceback = exc_info
    if error is None:
        if exc_type is None:
            raise TypeError("no exception is given and none is being handled")
        error = exc_type()
    return error.with_traceback(traceback)
