"""Users, devices, tokens and codes. Functions that take a connection read; those that take a ledger run on the writer, look
before they write, and raise before they have written."""

from __future__ import annotations

from typing import Any

from storage import errors, records
from storage.sqlite import connection, ledger

_USER = "SELECT id, name, key, password, issuer, subject, created, request FROM users"

#: Above every character that a name may begin with (U+10FFFF is no character), so [prefix, prefix + it) holds all that begin
#: with the prefix. SQLite compares text by its UTF-8 bytes, which sort as the code points do.
_LAST_CHARACTER = "\U0010ffff"


def _user(row: tuple[Any, ...] | None) -> records.User | None:
    return records.User(*row) if row else None


def by_id(conn: connection.Connection, user: int) -> records.User | None:
    return _user(conn.execute(f"{_USER} WHERE id = ?", (user,)).fetchone())


def by_key(conn: connection.Connection, key: str) -> records.User | None:
    return _user(conn.execute(f"{_USER} WHERE key = ?", (key,)).fetchone())


def by_subject(conn: connection.Connection, issuer: str, subject: str) -> records.User | None:
    return _user(conn.execute(f"{_USER} WHERE issuer = ? AND subject = ?", (issuer, subject)).fetchone())


def find(conn: connection.Connection, prefix: str, limit: int) -> list[records.User]:
    found = conn.execute(f"{_USER} WHERE key >= ? AND key < ? ORDER BY key LIMIT ?", (prefix, prefix + _LAST_CHARACTER, limit))
    return [records.User(*row) for row in found.fetchall()]


def create(book: ledger.Ledger, user: records.User) -> records.User:
    """See `interfaces.AccountStore.create_user`. The same id with the same key is a repeat too (an operator's, say)."""
    conn = book.conn
    if user.issuer is not None and user.subject is not None:
        known = by_subject(conn, user.issuer, user.subject)
        if known:
            return known
    if user.key is not None:
        known = by_key(conn, user.key)
        if known and (known.id == user.id or (user.request is not None and known.request == user.request)):
            return known
        if known:
            raise errors.NameTaken(f"the name {user.name!r} is taken")
    if by_id(conn, user.id):
        raise errors.NameTaken(f"the user id {user.id} is taken")
    conn.execute(
        "INSERT INTO users (id, name, key, password, issuer, subject, created, request) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (user.id, user.name, user.key, user.password, user.issuer, user.subject, user.created, user.request),
    )
    conn.execute(
        "INSERT OR IGNORE INTO memberships (user, sid, joined, removed) VALUES (?, ?, 1, ?)",
        (user.id, book.head(records.account_stream(user.id)).sid, records.OPEN_END),
    )
    return user


def _living(conn: connection.Connection, user: int) -> None:
    if conn.execute("SELECT 1 FROM users WHERE id = ? AND deleted = 0", (user,)).fetchone() is None:
        raise errors.NoSuch(f"no user {user}")


def rename(book: ledger.Ledger, user: int, name: str, key: str) -> None:
    _living(book.conn, user)
    holder = by_key(book.conn, key)
    if holder and holder.id != user:
        raise errors.NameTaken(f"the name {name!r} is taken")
    book.conn.execute("UPDATE users SET name = ?, key = ? WHERE id = ?", (name, key, user))


def set_password(book: ledger.Ledger, user: int, password: str, old: str | None) -> None:
    """See `interfaces.AccountStore.set_password`."""
    _living(book.conn, user)
    stands = book.conn.execute("SELECT password FROM users WHERE id = ?", (user,)).fetchone()[0]
    if stands == password:
        return
    if stands != old:
        raise errors.NoSuch(f"user {user} has another password by now")
    book.conn.execute("UPDATE users SET password = ? WHERE id = ?", (password, user))


def delete(book: ledger.Ledger, user: int, now: int) -> None:
    """See `interfaces.AccountStore.delete_user`. The row stays, without a name, so that the id stays used."""
    conn = book.conn
    conn.execute(
        "UPDATE users SET name = '', key = NULL, password = NULL, issuer = NULL, subject = NULL, request = NULL, deleted = ?,"
        " unfinished = 1 WHERE id = ? AND deleted = 0",
        (now, user),
    )
    for statement in (
        "DELETE FROM tokens WHERE user = ?",
        "DELETE FROM cursors WHERE user = ?",
        "DELETE FROM devices WHERE user = ?",
        "DELETE FROM takings WHERE digest IN (SELECT digest FROM codes WHERE purpose = 'reset' AND user = ?)",
        "DELETE FROM codes WHERE purpose = 'reset' AND user = ?",
    ):
        conn.execute(statement, (user,))


def unfinished_deletions(conn: connection.Connection, limit: int) -> list[int]:
    return [row[0] for row in conn.execute("SELECT id FROM users WHERE unfinished = 1 LIMIT ?", (limit,)).fetchall()]


def finish_deletion(book: ledger.Ledger, user: int) -> None:
    book.conn.execute("UPDATE users SET unfinished = 0 WHERE id = ?", (user,))


def add_device(book: ledger.Ledger, device: records.Device, token: records.Token) -> None:
    """See `interfaces.AccountStore.add_device`."""
    conn = book.conn
    _living(conn, device.user)
    added = conn.execute(
        "INSERT OR IGNORE INTO devices (user, id, name, created, last_seen) VALUES (?, ?, ?, ?, ?)",
        (device.user, device.id, device.name, device.created, device.last_seen),
    ).rowcount
    if not added:
        return
    _insert_token(conn, token)
    conn.execute(
        "INSERT OR IGNORE INTO cursors (user, device, sid, seq)"
        " SELECT m.user, ?, m.sid, max(min(s.head, m.removed)) FROM memberships AS m JOIN streams AS s ON s.sid = m.sid"
        " WHERE m.user = ? GROUP BY m.sid",
        (device.id, device.user),
    )


def _insert_token(conn: connection.Connection, token: records.Token) -> None:
    conn.execute(
        "INSERT OR IGNORE INTO tokens (digest, user, device, created, successor) VALUES (?, ?, ?, ?, ?)",
        (token.digest, token.user, token.device, token.created, token.successor),
    )


def devices(conn: connection.Connection, user: int) -> list[records.Device]:
    found = conn.execute("SELECT id, user, name, created, last_seen FROM devices WHERE user = ? ORDER BY created, id", (user,))
    return [records.Device(*row) for row in found.fetchall()]


def rename_device(book: ledger.Ledger, user: int, device: int, name: str) -> None:
    changed = book.conn.execute("UPDATE devices SET name = ? WHERE user = ? AND id = ?", (name, user, device)).rowcount
    if not changed:
        raise errors.NoSuch(f"user {user} has no device {device}")


def revoke(book: ledger.Ledger, user: int, device: int) -> bool:
    conn = book.conn
    conn.execute("DELETE FROM tokens WHERE user = ? AND device = ?", (user, device))
    conn.execute("DELETE FROM cursors WHERE user = ? AND device = ?", (user, device))
    return conn.execute("DELETE FROM devices WHERE user = ? AND id = ?", (user, device)).rowcount > 0


def forget_silent(book: ledger.Ledger, silent_since: int, limit: int) -> list[records.Device]:
    """See `interfaces.AccountStore.forget_devices`. A device that never connected is as old as its making."""
    found = book.conn.execute(
        "SELECT id, user, name, created, last_seen FROM devices WHERE max(last_seen, created) < ? LIMIT ?",
        (silent_since, limit),
    ).fetchall()
    forgotten = [records.Device(*row) for row in found]
    for device in forgotten:
        revoke(book, device.user, device.id)
    return forgotten


def find_token(conn: connection.Connection, digest: bytes) -> records.Token | None:
    row = conn.execute("SELECT digest, user, device, created, successor FROM tokens WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        return None
    owner, device, created, successor = row[1:]
    return records.Token(digest, owner, device, created, bool(successor))


def add_token(book: ledger.Ledger, token: records.Token) -> None:
    """See `interfaces.AccountStore.add_token`. NoSuch when the device is gone."""
    conn = book.conn
    if conn.execute("SELECT 1 FROM devices WHERE user = ? AND id = ?", (token.user, token.device)).fetchone() is None:
        raise errors.NoSuch(f"user {token.user} has no device {token.device}")
    conn.execute(
        "DELETE FROM tokens WHERE user = ? AND device = ? AND successor = 1 AND digest <> ?",
        (token.user, token.device, token.digest),
    )
    _insert_token(conn, token)


def use_token(book: ledger.Ledger, token: records.Token) -> None:
    """See `interfaces.AccountStore.use_token`. NoSuch when a newer successor or a revocation has removed it."""
    conn = book.conn
    known = find_token(conn, token.digest)
    if known is None:
        raise errors.NoSuch("the token is not known")
    if known.successor:
        conn.execute("UPDATE tokens SET successor = 0 WHERE digest = ?", (token.digest,))
        conn.execute(
            "DELETE FROM tokens WHERE user = ? AND device = ? AND digest <> ?", (known.user, known.device, token.digest)
        )


def add_code(book: ledger.Ledger, code: records.Code) -> None:
    book.conn.execute(
        "INSERT OR IGNORE INTO codes (digest, purpose, user, uses, expires_at) VALUES (?, ?, ?, ?, ?)",
        (code.digest, code.purpose, code.user, code.uses, code.expires_at),
    )


def take_code(book: ledger.Ledger, digest: bytes, purpose: str, now: int, request: bytes, note: bytes) -> records.Taken:
    """See `interfaces.AccountStore.take_code`. A code without uses stays until it is swept: its takers may come again."""
    conn = book.conn
    row = conn.execute(
        "SELECT digest, purpose, user, uses, expires_at FROM codes WHERE digest = ? AND purpose = ?", (digest, purpose)
    ).fetchone()
    if row is None:
        raise errors.NoSuch("the code is not known")
    code = records.Code(*row)
    earlier = conn.execute("SELECT uses, note FROM takings WHERE digest = ? AND request = ?", (digest, request)).fetchone()
    if earlier is not None:
        return records.Taken(records.Code(digest, purpose, code.user, earlier[0], code.expires_at), earlier[1])
    if code.uses < 1 or 0 < code.expires_at <= now:
        raise errors.NoSuch("the code is used up or past its date")
    conn.execute("UPDATE codes SET uses = uses - 1 WHERE digest = ?", (digest,))
    conn.execute(
        "INSERT INTO takings (digest, request, note, uses, time) VALUES (?, ?, ?, ?, ?)",
        (digest, request, note, code.uses - 1, now),
    )
    return records.Taken(records.Code(digest, purpose, code.user, code.uses - 1, code.expires_at), note)


def void_codes(book: ledger.Ledger, user: int, purpose: str) -> None:
    """See `interfaces.AccountStore.void_codes`."""
    book.conn.execute("UPDATE codes SET uses = 0 WHERE user = ? AND purpose = ?", (user, purpose))


def sweep_codes(book: ledger.Ledger, before: int) -> int:
    """See `interfaces.AccountStore.sweep_codes`. Both tables are small: codes are made by hand, or one for each reset."""
    conn = book.conn
    conn.execute("DELETE FROM takings WHERE time < ?", (before,))
    return conn.execute(
        "DELETE FROM codes WHERE (expires_at > 0 AND expires_at < ?1)"
        " OR (uses = 0 AND digest NOT IN (SELECT digest FROM takings))",
        (before,),
    ).rowcount


def last_seen(conn: connection.Connection, user: int) -> int:
    row = conn.execute("SELECT last_seen FROM users WHERE id = ?", (user,)).fetchone()
    return int(row[0]) if row else 0
