"""Opening connections, and what the driver's errors mean.

Pragmas, with their reasons:

* journal_mode=WAL: readers and the one writer do not wait for each other (sqlite.org/wal.html).
* synchronous=FULL: the log is synced at every commit; in WAL mode NORMAL may lose the newest commits at a power cut.
* wal_autocheckpoint=0: a checkpoint inside a commit would stall it; `checkpoints` does it beside the commits.
* journal_size_limit: the log file keeps the size that it grew to, which saves the file system work at each commit, but for what
  exceeds this: cut at the first commit of a new round, so that a larger file is one that is full again.
* secure_delete=ON: bytes of an erased body are overwritten, not only unlinked.
* temp_store=MEMORY: a sorter or a statement journal never touches the disk (and leaves no body in a temporary file).
* mmap_size=0 (the default): with a mapping an I/O error arrives as SIGBUS and kills the node; as a return code it is an answer.
* cache_size: the writer's cache survives its commits, so it holds the hot tails of streams; a reader's is dropped whenever
  someone commits, so it only serves one hop.
"""

from __future__ import annotations

import pathlib
import sqlite3

from storage import errors

#: The database file inside the data folder. SQLite keeps its log beside it, with the endings -wal and -shm.
FILE = "kith.db"

#: STRICT tables need 3.37 (November 2021).
OLDEST_SQLITE = (3, 37, 0)

#: Page caches, KiB. Two readers, the writer and the checkpointer stay well under the 80 MB of an idle node.
WRITER_CACHE_KIB = 16_384
READER_CACHE_KIB = 4_096

#: The log is copied home when it has grown to this many bytes. Larger means fewer copies of a page that changes often; the
#: whole log is read when a node starts after a crash (0.1 s for this much).
LOG_BYTES = 32 * 1024 * 1024

#: How long a statement waits for a lock that a foreign process holds (an operator's shell, a copy tool), in ms.
BUSY_MS = 1_000

#: Statements kept prepared on one connection; more than all that this package uses.
STATEMENTS = 256

#: Primary result codes that tell of the surroundings (disk, locks, memory) and not of one row: everything in the transaction
#: fails alike, and trying its parts apart would only repeat the fault.
SURROUNDINGS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOTADB,
    }
)
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

Connection = sqlite3.Connection
Error = sqlite3.Error


def log_of(database: pathlib.Path) -> pathlib.Path:
    """The write-ahead log of a database file."""
    return database.with_name(f"{database.name}-wal")


def connect(path: pathlib.Path, cache_kib: int, *, read_only: bool = False) -> Connection:
    """A connection in autocommit mode (transactions are begun by hand), usable from the one thread it is given to."""
    return _set_up(path.absolute().as_uri(), cache_kib, read_only)


def look(path: pathlib.Path) -> Connection:
    """A connection that leaves every file as it is: it may be the last one to close without copying the log home, and stand
    beside a running node. Of a file without a log it takes that nobody writes: a copy, or a folder that was closed."""
    how = "mode=ro" if log_of(path).exists() else "immutable=1"
    return _set_up(f"{path.absolute().as_uri()}?{how}", READER_CACHE_KIB, True)


def scratch() -> Connection:
    """An empty database in memory."""
    return sqlite3.connect(":memory:", isolation_level=None)


def _set_up(uri: str, cache_kib: int, read_only: bool) -> Connection:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise errors.Unavailable(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or newer is needed")
    conn = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS,
        timeout=BUSY_MS / 1000,
    )
    try:
        conn.execute("PRAGMA secure_delete = ON")
        conn.execute("PRAGMA temp_store = MEMORY")
        conn.execute(f"PRAGMA cache_size = -{cache_kib}")
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        conn.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("PRAGMA trusted_schema = OFF")
        if read_only:
            conn.execute("PRAGMA query_only = ON")
    except BaseException:
        conn.close()
        raise
    return conn


def code(error: BaseException) -> int:
    """The primary result code of a driver error; 0 for any other exception."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF if isinstance(error, sqlite3.Error) else 0


def of_surroundings(error: BaseException) -> bool:
    """True when the fault lies with disk, locks or memory, not with what was written."""
    return code(error) in SURROUNDINGS


def translate(error: BaseException) -> errors.StorageError:
    """The contract's error for an exception met inside the store, with the driver's words as its reason."""
    if isinstance(error, errors.StorageError):
        return error
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code(error) in _DAMAGE or isinstance(error, UnicodeDecodeError):
        return errors.Damaged(f"{name}: {error}")
    return errors.Unavailable(f"{name}: {error}")


class Damage:
    """The first damage that a thread has met, in words; "" while there was none. A later success does not take it back."""

    def __init__(self) -> None:
        self.reason = ""

    def notice(self, error: BaseException) -> None:
        found = translate(error)
        if not self.reason and isinstance(found, errors.Damaged):
            self.reason = str(found)


def may_have_happened(error: BaseException) -> bool:
    """True when a COMMIT that failed so may still be found by a recovery: an I/O error, perhaps of the sync."""
    return code(error) == sqlite3.SQLITE_IOERR
