"""Large populations, for benches and tests: a million messages in some ten seconds.

Everything goes through the ledger, so what stands in the file is exactly what a node would have written. It is fast because
nothing is synced until the end: a machine that dies meanwhile leaves a folder to be thrown away.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from storage import errors, records
from storage.sqlite import accounts, connection, folder, ledger

#: Records in one transaction; also the progress step.
CHUNK = 5_000

#: Page cache while loading, KiB.
_CACHE_KIB = 131_072

#: Log size at which it is copied home, in chunks.
_CHECKPOINT_CHUNKS = 20


@dataclass(slots=True, frozen=True)
class Login:
    """A device with its token; its cursors start where the heads stand when its turn comes."""

    device: records.Device
    token: records.Token


Record = records.User | Login | records.Write


def populate(path: pathlib.Path, population: Iterable[Record], progress: Callable[[int], None] = lambda _done: None) -> int:
    """Write records into the store in the folder `path` (made if it is not there), in order; returns how many.

    Durable when it returns. Blocks; no node may hold the folder. `progress` hears how many are written. Raises StorageError
    when a record is refused: a name that is taken, an append that does not fit (first_seq must be head + 1)."""
    lock = folder.Lock(path)
    try:
        conn = folder.open_database(path)
        try:
            return _write(conn, population, progress)
        except connection.Error as error:
            raise connection.translate(error) from error
        finally:
            conn.close()
    finally:
        lock.release()


def _write(conn: connection.Connection, population: Iterable[Record], progress: Callable[[int], None]) -> int:
    conn.execute("PRAGMA synchronous = OFF")
    conn.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    book = ledger.Ledger(conn)
    writes: list[records.Write] = []
    done = 0

    def flush() -> None:
        for outcome in book.commit(writes):
            if outcome.result is not records.Result.STORED:
                raise errors.StorageError(f"refused: {outcome.result.value}, {outcome.reason}")
        writes.clear()

    conn.execute("BEGIN IMMEDIATE")
    for record in population:
        if isinstance(record, (records.User, Login)):
            flush()
            if isinstance(record, Login):
                accounts.add_device(book, record.device, record.token)
            else:
                accounts.create(book, record)
        else:
            writes.append(record)
        done += 1
        if done % CHUNK == 0:
            flush()
            conn.execute("COMMIT")
            book.ended()
            if done % (CHUNK * _CHECKPOINT_CHUNKS) == 0:
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            conn.execute("BEGIN IMMEDIATE")
            progress(done)
    flush()
    conn.execute("COMMIT")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    progress(done)
    return done
