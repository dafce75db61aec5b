"""The store contracts. One `typing.Protocol` per store, small enough to be implemented again on another back end.

Rules that hold for all of them:

* No call spans the data of two users or two streams, except where its docstring says so; nothing needs a join across users.
  Such a call need not be atomic then: its docstring says what may show of a half. After `OutcomeUnknown`, or a crash, the same
  call again completes the half.
* A call that returns normally is durable (embedded: committed with `synchronous=FULL`; scaled out: quorum).
* `Unavailable` means nothing changed. `OutcomeUnknown` means repeat the same call; every write here is idempotent.
* Reads never wait for writes to finish and never see half a write.
* An event whose checksum is wrong raises `Damaged`; it is never returned.
* All methods are awaited, called from the node's event loop, and never block it. A back end may give a coroutine, or a future,
  which costs no task.
"""

from __future__ import annotations

import pathlib
from collections.abc import Awaitable, Sequence
from typing import Protocol

from storage import records


class LogStore(Protocol):
    """Streams: ordered logs of events, their parts and their marks."""

    def commit(self, batch: Sequence[records.Write]) -> Awaitable[list[records.Outcome]]:
        """Make a batch durable and say how each write ended, in order.

        Writes of one stream are applied in batch order; order between streams is free. An `Append`
        - with epoch below the stream's is FENCED; a higher one becomes the stream's;
        - whose events already stand at those seqs with equal bytes (as itself erases them) is STORED (a repeat);
        - whose first_seq is not head + 1 otherwise is CONFLICT;
        - behind one of the same stream in the batch that was not stored is CONFLICT: it was decided on top of that;
        - that writes the fold of an event which has expired and been erased meanwhile is STORED without that fold (one that it
          erases itself apart): nothing of it would be found by a later erasure.
        One bad write does not spoil the others: they are tried again apart. Never raises for the store's
        own trouble: that is FAILED (definite) or UNKNOWN.

        A back end without compare-and-set, which finds out afterwards whose write counts, may answer UNKNOWN in the place of
        FENCED and CONFLICT; what readers see once the stream is loaded is the same. It may be called again while a call is
        under way, with writes of other streams: two batches under way hold no write of the same stream."""
        ...

    def load(self, stream: bytes) -> Awaitable[records.Loaded]:
        """Snapshot, events after it (at most 256 in normal running, however many otherwise), and marks. A stream that was
        never written loads as head 0. Raises Damaged, Unavailable.

        A load settles the stream: whatever earlier append of it ended UNKNOWN, by this owner or another, either stands in
        what is returned or will never be seen by any reader. A back end whose writes may arrive late has to seal the stream
        before it answers. `Loaded.epoch` is the epoch that the caller owns the stream by from here on, and appends with: not
        below any that an earlier owner was given, so that these are fenced once the caller has appended."""
        ...

    def head(self, stream: bytes) -> Awaitable[int]:
        """The seq of the stream's newest event; 0 for one that was never written. What is read after it contains it."""
        ...

    def range(self, stream: bytes, first: int, last: int, max_events: int, max_bytes: int) -> Awaitable[list[records.Event]]:
        """Events first..last in order, cut at max_events or when their bytes pass max_bytes (at least one is returned if one
        exists). Expired events are returned as stored or redacted; the caller hides them by `expires_at`."""
        ...

    def item(self, stream: bytes, seq: int) -> Awaitable[records.Item | None]:
        """One event with its fold, or None."""
        ...

    def page(
        self, stream: bytes, first: int, last: int, newest_first: bool, max_items: int, max_bytes: int
    ) -> Awaitable[records.Page]:
        """Items (kind < FIRST_CHANGE_KIND) with first <= seq <= last, from the low or the high end, with their folds."""
        ...

    def parts(self, stream: bytes, prefix: bytes) -> Awaitable[dict[bytes, bytes]]:
        """The current parts whose key starts with `prefix` (a whole key names one). They are as new as the newest append."""
        ...

    def marks(self, stream: bytes) -> Awaitable[list[records.Mark]]:
        """Watermarks of every user in a stream."""
        ...

    async def erase_expired(self, now: int, redact: records.Redact, max_events: int) -> int:
        """Erase events with 0 < expires_at <= now, as `Erasure` says; returns how many. Called until it returns 0. It spans
        streams, and is atomic for each event: body and fold go together, the fold first where that cannot be."""
        ...


class InboxStore(Protocol):
    """What one user's devices have and lack: memberships, cursors, the conversation list."""

    def memberships(self, user: int, stream: bytes) -> Awaitable[tuple[tuple[int, int], ...]]:
        """The intervals (joined, removed) that the user may read, oldest first; empty when never a member. This is what readers
        are admitted by: it follows from stored appends alone (see `records.Append`), and contains all that were answered."""
        ...

    def behind(self, user: int, device: int) -> Awaitable[list[records.Behind]]:
        """Streams whose head (or last readable seq) lies beyond the device's cursor. May name too many, never too few:
        everything committed before the call is taken into account. A stream without a cursor counts from its joined - 1.
        NoSuch when the device is not stored: it was revoked or forgotten, or its account was deleted."""
        ...

    def conversations(self, user: int, after: bytes, limit: int) -> Awaitable[list[records.Summary]]:
        """The user's direct and group streams in order of stream id, beginning after `after` (b"" for the first page)."""
        ...

    async def sweep_mentions(self, limit: int) -> int:
        """Forget at most `limit` mentions that their users have read: only those beyond the read mark are counted. Returns how
        many. (A back end that keeps them elsewise has nothing to do.)"""
        ...


class AccountStore(Protocol):
    """Users, devices, tokens and codes."""

    def create_user(self, user: records.User) -> Awaitable[records.User]:
        """Store a new user, with a membership of the own account stream from seq 1. NameTaken if the key is in use.
        A user with equal key and equal non-None `request`, or equal (issuer, subject), exists already: that one is returned.

        It spans the key (or subject), which is claimed first and for one user only, the user and the membership. Of a half the
        key is taken and nobody is found by it: `user_by_key` and `user_by_subject` are None until the rest is there."""
        ...

    def user(self, user: int) -> Awaitable[records.User | None]: ...

    def user_by_key(self, key: str) -> Awaitable[records.User | None]: ...

    def user_by_subject(self, issuer: str, subject: str) -> Awaitable[records.User | None]: ...

    def find_users(self, prefix: str, limit: int) -> Awaitable[list[records.User]]:
        """Living users whose key starts with `prefix`, in order of key."""
        ...

    def rename(self, user: int, name: str, key: str) -> Awaitable[None]:
        """Claim `key`, then take the name, then release the old key. NameTaken; NoSuch. Of a half both keys find the user,
        under one of both names; never neither, and no key ever finds two."""
        ...

    def set_password(self, user: int, password: str, old: str | None) -> Awaitable[None]:
        """Replace the hash `old`. Nothing is to do when `password` stands there already. NoSuch when there is no such user, or
        another hash by now."""
        ...

    def delete_user(self, user: int, now: int) -> Awaitable[None]:
        """Release the name, drop password, subject, devices, cursors, tokens and codes. The id is never used again. Idempotent.
        The user stands among `unfinished_deletions` from then on: what others hold of them is theirs to see to."""
        ...

    async def unfinished_deletions(self, limit: int) -> list[int]:
        """Deleted users of whom `finish_deletion` was not told. May name one that was finished a moment ago."""
        ...

    async def finish_deletion(self, user: int) -> None:
        """Nothing is left to be done for a deleted user. Idempotent."""
        ...

    def add_device(self, device: records.Device, token: records.Token) -> Awaitable[None]:
        """Store a device and its first token; its cursors start at the heads of the user's streams. Idempotent. The token comes
        last: until it is there nobody can come in with it, and a device of a half is at most listed."""
        ...

    def devices(self, user: int) -> Awaitable[list[records.Device]]: ...

    def rename_device(self, user: int, device: int, name: str) -> Awaitable[None]: ...

    def revoke_device(self, user: int, device: int) -> Awaitable[bool]:
        """Drop a device, its tokens and cursors, the tokens first. False when there was none."""
        ...

    def find_token(self, digest: bytes) -> Awaitable[records.Token | None]: ...

    def add_token(self, token: records.Token) -> Awaitable[None]:
        """Add a successor: it replaces an unused successor; the token in use keeps working until the new one is first used."""
        ...

    def use_token(self, token: records.Token) -> Awaitable[None]:
        """First use of a successor: it becomes the only token of its device. Idempotent; NoSuch when it was replaced or
        revoked meanwhile."""
        ...

    def add_code(self, code: records.Code) -> Awaitable[None]: ...

    def void_codes(self, user: int, purpose: str) -> Awaitable[None]:
        """Nobody may take the codes of this user and purpose any more; who has taken one may repeat it. Idempotent."""
        ...

    def take_code(self, digest: bytes, purpose: str, now: int, request: bytes, note: bytes = b"") -> Awaitable[records.Taken]:
        """Use a code once, atomically. `request` is of the caller's choice: the same again finds what it took, with the note
        that it left then, whatever became of the code. NoSuch when the code is unknown, used up, past its date or of another
        purpose."""
        ...

    def sweep_codes(self, before: int) -> Awaitable[int]:
        """Forget what was taken before a time, codes whose date lay before it, and those used up of which nothing taken is
        left; returns how many codes. (A back end that lets rows expire by themselves has nothing to do.)"""
        ...

    def last_seen(self, user: int) -> Awaitable[int]:
        """When any device of the user was last connected; 0 if never."""
        ...

    def forget_devices(self, silent_since: int, limit: int) -> Awaitable[list[records.Device]]:
        """Drop devices not seen since then, as `revoke_device` does, and name them. It spans users. Of a half a device has lost
        its tokens and still stands, and is named by a later call."""
        ...


class ChangeFeed(Protocol):
    """A durable, resumable tail of committed events, for search, push, counters, webhooks."""

    def changes(self, after: bytes, limit: int) -> Awaitable[list[records.Change]]:
        """At most `limit` changes behind the position `after`; b"" is the beginning of what is kept. Ask on from the last one's
        position; an empty list means that there are no more now.

        Each event comes once, those of a stream in order of seq, and between streams in any order: a back end with many
        partitions has none. Erased events appear redacted. Raises Trimmed when changes behind `after` were forgotten: they are
        never skipped in silence."""
        ...

    def trim_changes(self, before_time: int) -> Awaitable[int]:
        """Forget feed entries committed before a time; the events themselves stay. Returns how many."""
        ...


class Store(LogStore, InboxStore, AccountStore, ChangeFeed, Protocol):
    """All stores of one back end, with its life cycle. (A bundle may mix back ends: see `storage.bundle`.)"""

    @property
    def healthy(self) -> bool:
        """False from the first failed commit until one succeeds again."""
        ...

    @property
    def damaged(self) -> str:
        """The first damage met since the store was opened, in words for the operator; "" while there was none. No success takes
        it back: what is damaged stays so until it is repaired."""
        ...

    @property
    def node_epoch(self) -> int:
        """The fencing number this process holds: strictly greater than that of any earlier process on the same data."""
        ...

    @property
    def incarnation(self) -> int:
        """A random number, 1 .. 2**53 - 1, made with the store and made anew whenever its data are set back to an earlier
        moment (a restore). Clients are told it: where it changes, seqs that they know may be gone, or other events be there."""
        ...

    async def probe(self) -> None:
        """Try a small durable write; raises Unavailable or Damaged. Sets `healthy`."""
        ...

    async def close(self) -> None:
        """Finish what was begun, release files and locks. Idempotent."""
        ...


class Copies(Protocol):
    """The power of a store that lies beside its node to copy itself. Others are backed up by their own means."""

    async def save(self, target: pathlib.Path, now: int, redact: records.Redact) -> list[records.Finding]:
        """Write a copy of all that was committed before the call into the new file `target`, while the node goes on. Bodies of
        what has expired by `now` are erased before. Returns what is wrong with the copy, every row having been read. It appears
        under its name complete and synced, or not at all; closing the store gives it up. Raises Unavailable (the file exists,
        disk full) or Damaged (the store cannot be read)."""
        ...


class CopyingStore(Store, Copies, Protocol):
    """A store with that power."""
