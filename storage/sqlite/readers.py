"""The threads that read.

A hop to a thread and back costs 50 to 100 us on one core, many times the query itself. So reads that are asked for in one
tick of the loop travel together: a thread takes what waits, runs it on its own connection inside one read transaction (one
snapshot, one set of locks, one filled cache), and answers with one `call_soon_threadsafe`. A snapshot is opened after its
reads were taken, so a read sees everything that was committed before it was asked for.
"""

from __future__ import annotations

import asyncio
import collections
import pathlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from storage import errors
from storage.sqlite import connection

T = TypeVar("T")
_Job = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]
_Answer = tuple["asyncio.Future[Any]", Any, errors.StorageError | Exception | None]

#: Reads that one hop takes at most: the others stay for the next free thread.
HOP_READS = 64

#: A hop hands over what it has after this long, in seconds, so that a short read never waits for many long ones.
HOP_SECONDS = 0.002


class Readers:
    """A few threads, each with a read-only connection. `damage` may be read from any thread."""

    def __init__(self, path: pathlib.Path, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.damage = connection.Damage()
        self._path = path
        self._loop = loop
        self._waiting: collections.deque[_Job] = collections.deque()
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._scheduled = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"kith-reader-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def read(self, query: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run `query(connection, *args)` on a reader thread. Fails with Unavailable or Damaged."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(errors.Unavailable("the store is closed"))
            return future
        self._waiting.append((future, query, args))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._wake)
        return future

    def close(self) -> list[threading.Thread]:
        """Take no more reads; the threads returned end when they have done what waits. Join them away from the loop."""
        self._closed = True
        for _ in self._threads:
            self._wakes.put(False)
        return self._threads

    def _wake(self) -> None:
        self._scheduled = False
        for _ in range(min(len(self._threads), -(-len(self._waiting) // HOP_READS))):
            self._wakes.put(True)

    def _serve(self) -> None:
        conn: connection.Connection | None = None
        going = True
        while going:
            going = self._wakes.get()
            while jobs := self._take():
                conn = self._hop(conn, jobs)
        if conn is not None:
            conn.close()

    def _take(self) -> list[_Job]:
        jobs: list[_Job] = []
        while len(jobs) < HOP_READS:
            try:
                jobs.append(self._waiting.popleft())
            except IndexError:
                break
        return jobs

    def _hop(self, conn: connection.Connection | None, jobs: list[_Job]) -> connection.Connection | None:
        """Run the jobs in one snapshot; returns the connection to go on with (None: open a new one next time)."""
        answers: list[_Answer] = []
        fault: BaseException | None = None
        began = time.perf_counter()
        try:
            if conn is None:
                conn = connection.connect(self._path, connection.READER_CACHE_KIB, read_only=True)
            conn.execute("BEGIN")
        except connection.Error as error:
            self.damage.notice(error)
            fault = error
        for future, query, args in jobs:
            if fault is not None or conn is None:
                answers.append((future, None, connection.translate(fault or errors.Unavailable("no connection"))))
                continue
            try:
                answers.append((future, query(conn, *args), None))
            except connection.Error as error:
                self.damage.notice(error)
                answers.append((future, None, connection.translate(error)))
                fault = error if connection.of_surroundings(error) else None
            except Exception as error:
                self.damage.notice(error)
                answers.append((future, None, error))
            if time.perf_counter() - began > HOP_SECONDS:
                self._answer(answers)
                answers = []
                began = time.perf_counter()
        if conn is not None:
            try:
                if conn.in_transaction:
                    conn.execute("COMMIT")
            except connection.Error as error:
                fault = error
            if fault is not None:
                conn.close()
                conn = None
        self._answer(answers)
        return conn

    def _answer(self, answers: list[_Answer]) -> None:
        if answers and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(deliver, answers)


def deliver(answers: list[_Answer]) -> None:
    """On the loop: complete the futures of a hop or of a commit. One that was cancelled meanwhile is left alone."""
    for future, result, error in answers:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
