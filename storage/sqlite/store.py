"""`SQLiteStore`: the contracts of `storage.interfaces` on one database file."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Sequence

from storage import records
from storage.sqlite import (
    accounts,
    backup,
    checkpoints,
    connection,
    erasures,
    feed,
    folder,
    inbox,
    logs,
    readers,
    writer,
)

#: Reader threads of a store: the second keeps short reads going while the first is busy with a long one.
READERS = 2

#: Events erased in one transaction before a copy is made, so that commits get their turn in between.
SAVE_ERASES = 256

#: Until a copy that does not stop is told again, in seconds: it may have been between two statements.
STOP_AGAIN_SECONDS = 0.05


async def open_store(path: pathlib.Path, *, readers: int = READERS) -> SQLiteStore:
    """Open the store in the folder `path`, making it if it is not there.

    Raises Unavailable (in use by another node, disk full) or Damaged (not a Kith database, newer schema, torn tail)."""
    lock, conn, epoch, incarnation = await asyncio.to_thread(_open, path)
    return SQLiteStore(path, lock, conn, epoch, incarnation, readers)


def _open(path: pathlib.Path) -> tuple[folder.Lock, connection.Connection, int, int]:
    lock = folder.Lock(path)
    try:
        conn = folder.open_database(path)
        try:
            return lock, conn, folder.raise_epoch(conn), folder.incarnation(conn)
        except connection.Error as error:
            conn.close()
            raise connection.translate(error) from error
    except BaseException:
        lock.release()
        raise


class SQLiteStore:
    """All stores in one. Made by `open_store`; its methods are called from the event loop that opened it."""

    def __init__(
        self,
        path: pathlib.Path,
        lock: folder.Lock,
        conn: connection.Connection,
        epoch: int,
        incarnation: int,
        reader_count: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.folder = path
        self._lock = lock
        self._epoch = epoch
        self.incarnation = incarnation
        database = path / connection.FILE
        self._writer = writer.Writer(database, conn, loop)
        self._readers = readers.Readers(database, reader_count, loop)
        self._checkpoints = checkpoints.Checkpoints(database, self._writer, loop)
        self._erasures = erasures.Erasures(database, self._writer, loop)
        self._writer.committed = self._committed
        self._saves: dict[asyncio.Future[list[records.Finding]], backup.Save] = {}
        self._closing: asyncio.Task[None] | None = None

    # --- LogStore

    def commit(self, batch: Sequence[records.Write]) -> Awaitable[list[records.Outcome]]:
        return self._writer.commit(batch)

    def load(self, stream: bytes) -> Awaitable[records.Loaded]:
        return self._readers.read(logs.load, stream, self._epoch)

    def head(self, stream: bytes) -> Awaitable[int]:
        return self._readers.read(logs.head, stream)

    def range(self, stream: bytes, first: int, last: int, max_events: int, max_bytes: int) -> Awaitable[list[records.Event]]:
        return self._readers.read(logs.events, stream, first, last, max_events, max_bytes)

    def item(self, stream: bytes, seq: int) -> Awaitable[records.Item | None]:
        return self._readers.read(logs.item, stream, seq)

    def page(
        self, stream: bytes, first: int, last: int, newest_first: bool, max_items: int, max_bytes: int
    ) -> Awaitable[records.Page]:
        return self._readers.read(logs.page, stream, first, last, newest_first, max_items, max_bytes)

    def parts(self, stream: bytes, prefix: bytes) -> Awaitable[dict[bytes, bytes]]:
        return self._readers.read(logs.parts, stream, prefix)

    def marks(self, stream: bytes) -> Awaitable[list[records.Mark]]:
        return self._readers.read(logs.marks, stream)

    async def erase_expired(self, now: int, redact: records.Redact, max_events: int) -> int:
        erased: int = await self._writer.call(lambda book: book.erase_expired(now, redact, max_events))
        return erased

    # --- InboxStore

    def memberships(self, user: int, stream: bytes) -> Awaitable[tuple[tuple[int, int], ...]]:
        return self._readers.read(inbox.memberships, user, stream)

    def behind(self, user: int, device: int) -> Awaitable[list[records.Behind]]:
        return self._readers.read(inbox.behind, user, device)

    def conversations(self, user: int, after: bytes, limit: int) -> Awaitable[list[records.Summary]]:
        return self._readers.read(inbox.conversations, user, after, limit)

    async def sweep_mentions(self, limit: int) -> int:
        read = await self._readers.read(inbox.read_mentions, limit)
        if read:
            await self._writer.call(lambda book: inbox.drop_mentions(book, read))
        return len(read)

    # --- AccountStore

    async def create_user(self, user: records.User) -> records.User:
        created: records.User = await self._writer.call(lambda book: accounts.create(book, user))
        return created

    def user(self, user: int) -> Awaitable[records.User | None]:
        return self._readers.read(accounts.by_id, user)

    def user_by_key(self, key: str) -> Awaitable[records.User | None]:
        return self._readers.read(accounts.by_key, key)

    def user_by_subject(self, issuer: str, subject: str) -> Awaitable[records.User | None]:
        return self._readers.read(accounts.by_subject, issuer, subject)

    def find_users(self, prefix: str, limit: int) -> Awaitable[list[records.User]]:
        return self._readers.read(accounts.find, prefix, limit)

    async def rename(self, user: int, name: str, key: str) -> None:
        await self._writer.call(lambda book: accounts.rename(book, user, name, key))

    async def set_password(self, user: int, password: str, old: str | None) -> None:
        await self._writer.call(lambda book: accounts.set_password(book, user, password, old))

    async def delete_user(self, user: int, now: int) -> None:
        await self._writer.call(lambda book: accounts.delete(book, user, now))

    async def unfinished_deletions(self, limit: int) -> list[int]:
        return await self._readers.read(accounts.unfinished_deletions, limit)

    async def finish_deletion(self, user: int) -> None:
        await self._writer.call(lambda book: accounts.finish_deletion(book, user))

    async def add_device(self, device: records.Device, token: records.Token) -> None:
        await self._writer.call(lambda book: accounts.add_device(book, device, token))

    def devices(self, user: int) -> Awaitable[list[records.Device]]:
        return self._readers.read(accounts.devices, user)

    async def rename_device(self, user: int, device: int, name: str) -> None:
        await self._writer.call(lambda book: accounts.rename_device(book, user, device, name))

    async def revoke_device(self, user: int, device: int) -> bool:
        revoked: bool = await self._writer.call(lambda book: accounts.revoke(book, user, device))
        return revoked

    def find_token(self, digest: bytes) -> Awaitable[records.Token | None]:
        return self._readers.read(accounts.find_token, digest)

    async def add_token(self, token: records.Token) -> None:
        await self._writer.call(lambda book: accounts.add_token(book, token))

    async def use_token(self, token: records.Token) -> None:
        await self._writer.call(lambda book: accounts.use_token(book, token))

    async def add_code(self, code: records.Code) -> None:
        await self._writer.call(lambda book: accounts.add_code(book, code))

    async def void_codes(self, user: int, purpose: str) -> None:
        await self._writer.call(lambda book: accounts.void_codes(book, user, purpose))

    async def take_code(self, digest: bytes, purpose: str, now: int, request: bytes, note: bytes = b"") -> records.Taken:
        taken: records.Taken = await self._writer.call(
            lambda book: accounts.take_code(book, digest, purpose, now, request, note)
        )
        return taken

    async def sweep_codes(self, before: int) -> int:
        swept: int = await self._writer.call(lambda book: accounts.sweep_codes(book, before))
        return swept

    def last_seen(self, user: int) -> Awaitable[int]:
        return self._readers.read(accounts.last_seen, user)

    async def forget_devices(self, silent_since: int, limit: int) -> list[records.Device]:
        forgotten: list[records.Device] = await self._writer.call(
            lambda book: accounts.forget_silent(book, silent_since, limit)
        )
        return forgotten

    # --- ChangeFeed

    def changes(self, after: bytes, limit: int) -> Awaitable[list[records.Change]]:
        return self._readers.read(feed.changes, after, limit, self.incarnation)

    async def trim_changes(self, before_time: int) -> int:
        total = 0
        while trimmed := await self._writer.call(lambda book: feed.trim(book.conn, before_time)):
            total += trimmed
        return total

    # --- life cycle

    @property
    def healthy(self) -> bool:
        return self._writer.healthy

    @property
    def damaged(self) -> str:
        return self._writer.damage.reason or self._readers.damage.reason

    @property
    def node_epoch(self) -> int:
        return self._epoch

    async def probe(self) -> None:
        await self._writer.call(lambda book: writer.touch(book.conn))

    async def settle(self) -> None:
        """See to it now, and not a little later, that what was erased stands in no file of the folder. Raises Unavailable when
        readers never leave the log alone."""
        await self._erasures.settle()

    async def save(self, target: pathlib.Path, now: int, redact: records.Redact) -> list[records.Finding]:
        """See `interfaces.Copies.save`."""
        while await self.erase_expired(now, redact, SAVE_ERASES):
            pass
        save = backup.Save(self.folder / connection.FILE, target, now)
        work = asyncio.get_running_loop().run_in_executor(None, save.run)
        self._saves[work] = save
        work.add_done_callback(self._saved)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:  # nobody waits for the copy any more
            save.stop()
            raise

    def _saved(self, work: asyncio.Future[list[records.Finding]]) -> None:
        del self._saves[work]
        if not work.cancelled():
            work.exception()  # told to who waits, if anybody does

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    def _committed(self, erased: bool) -> None:
        """On the writer's thread, after every commit."""
        self._checkpoints.committed()
        if erased:
            self._erasures.committed()

    async def _close(self) -> None:
        while self._saves:
            for save in self._saves.values():
                save.stop()
            await asyncio.wait(self._saves, timeout=STOP_AGAIN_SECONDS)
        await self._erasures.stop()
        for thread in (*self._readers.close(), self._checkpoints.close()):
            await asyncio.to_thread(thread.join)
        # The writer's connection goes last: SQLite then copies the log home and removes it.
        await asyncio.to_thread(self._writer.close().join)
        self._erasures.close()
        self._lock.release()
