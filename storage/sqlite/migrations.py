"""The schema, as numbered steps. `PRAGMA user_version` holds the number of the last one applied; a step, once released, is
never edited: the next change is the next step.

Layout. Streams are numbered (`sid`) so that rows stay small. Events lie clustered by (sid, seq): a page of history is a few
neighbouring pages of the file, and no second index is touched by an append. Memberships, cursors and mentions lie clustered
by user: what one device lacks is one short scan. `commits` has one row per transaction, whose `runs` name the stretches of
streams that it appended (packed by `feed`); a change's position is the row's `position` plus an offset.
"""

from __future__ import annotations

#: "Kith", so that `file` and a curious operator can tell what the file is (sqlite.org/fileformat2.html, section 1.3.14).
APPLICATION_ID = 0x4B697468

_V1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('node_epoch', 0), ('probe', 0), ('unwiped', 0);

CREATE TABLE streams (
    sid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    head INTEGER NOT NULL DEFAULT 0,
    n INTEGER NOT NULL DEFAULT 0,             -- messages so far
    item INTEGER NOT NULL DEFAULT 0,          -- seq of the newest item
    time INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    snapshot_seq INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE events (
    sid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    n INTEGER NOT NULL,                       -- messages up to here, this one included
    item INTEGER NOT NULL,                    -- seq of the newest item up to here: pages jump over changes with it
    epoch INTEGER NOT NULL,
    crc INTEGER NOT NULL,                     -- records.checksum
    expires INTEGER NOT NULL,                 -- 0 never; negative: was to expire then, and its body is gone
    digest INTEGER NOT NULL,                  -- of the command that caused it: what a repeat is told by
    data BLOB NOT NULL,
    PRIMARY KEY (sid, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_expires ON events (expires) WHERE expires > 0;

CREATE TABLE parts (
    sid INTEGER NOT NULL,
    key BLOB NOT NULL,
    crc INTEGER NOT NULL,                     -- records.part_checksum
    data BLOB NOT NULL,
    PRIMARY KEY (sid, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE marks (
    sid INTEGER NOT NULL,
    user INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    read INTEGER NOT NULL,
    PRIMARY KEY (sid, user)
) STRICT, WITHOUT ROWID;

CREATE TABLE memberships (
    user INTEGER NOT NULL,
    sid INTEGER NOT NULL,
    joined INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    PRIMARY KEY (user, sid, joined)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors (
    user INTEGER NOT NULL,
    device INTEGER NOT NULL,
    sid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (user, device, sid)
) STRICT, WITHOUT ROWID;

CREATE TABLE mentions (
    user INTEGER NOT NULL,
    sid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (user, sid, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE commits (
    position INTEGER PRIMARY KEY,             -- of the first change of the transaction
    time INTEGER NOT NULL,                    -- never falls
    count INTEGER NOT NULL,
    runs BLOB NOT NULL
) STRICT;

CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    key TEXT UNIQUE,
    password TEXT,
    issuer TEXT,
    subject TEXT,
    created INTEGER NOT NULL,
    request BLOB,
    last_seen INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0        -- when; 0 while it lives
) STRICT;
CREATE UNIQUE INDEX users_subject ON users (issuer, subject) WHERE subject IS NOT NULL;

CREATE TABLE devices (
    user INTEGER NOT NULL,
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    PRIMARY KEY (user, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    digest BLOB PRIMARY KEY,
    user INTEGER NOT NULL,
    device INTEGER NOT NULL,
    created INTEGER NOT NULL,
    successor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_device ON tokens (user, device);

CREATE TABLE codes (
    digest BLOB PRIMARY KEY,
    purpose TEXT NOT NULL,
    user INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

_V2 = """
ALTER TABLE users ADD COLUMN unfinished INTEGER NOT NULL DEFAULT 0;  -- 1: deleted, and something of them is left
CREATE INDEX users_unfinished ON users (id) WHERE unfinished = 1;
UPDATE users SET unfinished = 1 WHERE deleted > 0;
"""

_V3 = """
INSERT INTO meta VALUES ('incarnation', 1 + abs(random() % 9007199254740991));  -- see folder.begin_anew
"""

_V4 = """
CREATE TABLE takings (
    digest BLOB NOT NULL,                     -- of the code
    request BLOB NOT NULL,                    -- of whoever took it
    note BLOB NOT NULL,
    uses INTEGER NOT NULL,                    -- left behind it
    time INTEGER NOT NULL,
    PRIMARY KEY (digest, request)
) STRICT, WITHOUT ROWID;
DELETE FROM codes WHERE purpose = 'repeated reset';
"""

_V5 = """
DELETE FROM cursors WHERE (user, device) NOT IN (SELECT user, id FROM devices);  -- earlier versions kept them for ever
"""

#: MIGRATIONS[i] takes a database from version i to i + 1.
MIGRATIONS: tuple[str, ...] = (_V1, _V2, _V3, _V4, _V5)
