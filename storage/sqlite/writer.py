"""The one thread that writes.

Everything that waits when the thread comes round becomes one transaction and one sync of the log: batches of the writer
actor and account changes alike. The first try is without savepoints (they cost a copy of every page); an account change looks
before it writes, so that a refusal leaves nothing behind. When something unforeseen is raised, all is rolled back and each
job is tried by itself, a batch stream by stream.

What a failed COMMIT means: before the last frame of the log is written the transaction is void, and rolling back settles it
(disk full, lock). An I/O error may have come after that frame, from the sync; the frames may yet be found by a recovery. That
outcome is *unknown*, until the next commit has overwritten them: hence a new connection begins with a small write of its own.
"""

from __future__ import annotations

import asyncio
import pathlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from storage import errors, records
from storage.sqlite import connection, ledger, readers

#: Jobs joined into one transaction. A batch carries up to hundreds of appends, so this bounds the wait, not the gain.
MOST_JOBS = 64

Work = Callable[[ledger.Ledger], Any]


class Job:
    """One piece of work and the future that waits for it. A batch answers trouble with outcomes, other work raises it."""

    __slots__ = ("batch", "future", "outside", "work")

    def __init__(
        self,
        future: asyncio.Future[Any],
        work: Work | None,
        batch: Sequence[records.Write] | None = None,
        outside: bool = False,
    ) -> None:
        self.future = future
        self.work = work
        self.batch = batch
        self.outside = outside  # runs between transactions (a checkpoint cannot run inside one)

    def run(self, book: ledger.Ledger) -> Any:
        if self.batch is not None:
            return book.commit(self.batch)
        assert self.work is not None
        return self.work(book)

    def run_apart(self, book: ledger.Ledger) -> Any:
        return book.commit_apart(self.batch) if self.batch is not None else self.run(book)

    def failed(self, error: errors.StorageError) -> tuple[asyncio.Future[Any], Any, Exception | None]:
        if self.batch is None:
            return self.future, None, error
        unknown = isinstance(error, errors.OutcomeUnknown)
        result = records.Result.UNKNOWN if unknown else records.Result.FAILED
        return self.future, [records.Outcome(result, str(error))] * len(self.batch), None


_Answer = tuple["asyncio.Future[Any]", Any, Exception | None]


class Writer:
    """Owner of the only connection that writes. `healthy` and `damage` may be read from any thread.

    `committed(erased)` is called on the writer's thread after each commit and must be quick; `erased`: bodies were."""

    def __init__(self, path: pathlib.Path, conn: connection.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self.healthy = True
        self.damage = connection.Damage()
        self.committed: Callable[[bool], None] = lambda _: None
        self._path = path
        self._loop = loop
        self._book: ledger.Ledger | None = ledger.Ledger(conn)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed = False
        self.thread = threading.Thread(target=self._serve, name="kith-writer", daemon=True)
        self.thread.start()

    def commit(self, batch: Sequence[records.Write]) -> asyncio.Future[list[records.Outcome]]:
        """Hand a batch to the thread."""
        return self._submit(Job(self._loop.create_future(), None, batch))

    def call(self, work: Work) -> asyncio.Future[Any]:
        """Run `work` inside a transaction. A StorageError that it raises must come before its first write."""
        return self._submit(Job(self._loop.create_future(), work))

    def between(self, work: Work) -> asyncio.Future[Any]:
        """Run `work` between two transactions."""
        return self._submit(Job(self._loop.create_future(), work, outside=True))

    def _submit(self, job: Job) -> asyncio.Future[Any]:
        if self._closed:
            future, result, error = job.failed(errors.Unavailable("the store is closed"))
            readers.deliver([(future, result, error)])
        else:
            self._jobs.put(job)
        return job.future

    def close(self) -> threading.Thread:
        """Take no more work; the thread returned ends when all that waits is done. Join it away from the loop."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        return self.thread

    def _serve(self) -> None:
        going = True
        while going:
            group: list[Job] = []
            job = self._jobs.get()
            while True:
                if job is None:
                    going = False
                    break
                group.append(job)
                if job.outside or len(group) == MOST_JOBS:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            if group:
                outside = group.pop() if group[-1].outside else None
                answers = self._transact(group) if group else []
                if outside is not None:
                    answers.append(self._between(outside))
                if not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(readers.deliver, answers)
        if self._book is not None:
            self._book.conn.close()

    def _transact(self, group: list[Job]) -> list[_Answer]:
        try:
            book = self._open()
            answers = self._together(book, group)
        except Exception as error:
            return self._lost(group, error)
        if answers is not None:
            return answers
        answers = []
        for place, job in enumerate(group):
            try:
                answers.append(self._alone(self._open(), job))
            except Exception as error:
                answers += self._lost([job], error)
                if connection.of_surroundings(error):
                    return answers + [rest.failed(connection.translate(error)) for rest in group[place + 1 :]]
        return answers

    def _together(self, book: ledger.Ledger, group: list[Job]) -> list[_Answer] | None:
        """All in one transaction, or None: nothing was written, try them one by one."""
        answers: list[_Answer] = []
        book.conn.execute("BEGIN IMMEDIATE")
        for job in group:
            try:
                answers.append((job.future, job.run(book), None))
            except Exception as error:
                self.damage.notice(error)
                if connection.of_surroundings(error):
                    raise
                if job.batch is not None or not isinstance(error, errors.StorageError):
                    self._roll_back(book)
                    return None
                answers.append((job.future, None, error))  # refused before its first write
        self._end(book)
        return answers

    def _alone(self, book: ledger.Ledger, job: Job) -> _Answer:
        book.conn.execute("BEGIN IMMEDIATE")
        try:
            answer = job.future, job.run_apart(book), None
        except Exception as error:
            self.damage.notice(error)
            if connection.of_surroundings(error):
                raise
            self._roll_back(book)
            return job.failed(connection.translate(error))
        self._end(book)
        return answer

    def _between(self, job: Job) -> _Answer:
        try:
            return job.future, job.run(self._open()), None
        except connection.Error as error:
            self.damage.notice(error)
            return job.failed(connection.translate(error))
        except Exception as error:
            return job.future, None, error

    def _end(self, book: ledger.Ledger) -> None:
        try:
            book.conn.execute("COMMIT")
        except connection.Error as error:
            if connection.may_have_happened(error):
                raise errors.OutcomeUnknown(str(connection.translate(error))) from error
            raise
        self.healthy = True
        self.committed(book.ended())

    @staticmethod
    def _roll_back(book: ledger.Ledger) -> None:
        book.forget()
        if book.conn.in_transaction:
            book.conn.execute("ROLLBACK")

    def _lost(self, group: list[Job], error: Exception) -> list[_Answer]:
        """The connection is given up with whatever it had begun; the next group opens another."""
        self.healthy = False
        self.damage.notice(error)
        book, self._book = self._book, None
        if book is not None:
            book.conn.close()
        return [job.failed(connection.translate(error)) for job in group]

    def _open(self) -> ledger.Ledger:
        """The ledger; after a fault a new one on a new connection, whose first commit seals what the lost one left."""
        if self._book is None:
            conn = connection.connect(self._path, connection.WRITER_CACHE_KIB)
            try:
                touch(conn)
            except BaseException:
                conn.close()
                raise
            self._book = ledger.Ledger(conn)
        return self._book


def touch(conn: connection.Connection) -> None:
    """The smallest durable write."""
    conn.execute("UPDATE meta SET value = value + 1 WHERE key = 'probe'")
