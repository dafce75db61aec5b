"""What a store may raise. Everything else that leaves a store is a defect."""

from __future__ import annotations


class StorageError(Exception):
    """Base of all errors that a store raises."""


class Unavailable(StorageError):
    """The store cannot answer now (disk full, locked, reopening, out of reach). Nothing was changed; ask again later."""


class OutcomeUnknown(StorageError):
    """The store cannot tell whether the change took effect. Repeating the same idempotent call resolves it."""


class Damaged(StorageError):
    """Stored bytes fail their checksum, or the schema is not one this program knows. Never served, never repaired silently."""


class NameTaken(StorageError):
    """The user name belongs to somebody else."""


class NoSuch(StorageError):
    """The user, device, token, invitation or code does not exist, is used up, or is past its date."""


class Trimmed(StorageError):
    """What follows this position of the change feed is not kept any more, or not known to this store, which was set back. Who
    follows has lost touch: read what is wanted of the streams themselves, and begin anew."""
