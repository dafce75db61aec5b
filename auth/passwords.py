"""Argon2id (RFC 9106) in a small pool of threads, away from the loop.

A hash takes tens of milliseconds and as much memory as configured, on purpose. So hashes run on a few threads, a stated
number of them waits, and whoever comes beyond that is answered *busy* at once: people who log in never cost those who talk.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import secrets
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import TypeVar

import argon2
from argon2 import exceptions

import telemetry
from protocol import codes

T = TypeVar("T")

#: Bytes of salt and of hash (RFC 9106 section 4).
SALT = 16
HASH = 32
#: Lanes of one hash. One, because hashes run beside each other already.
LANES = 1
#: Milliseconds after which one who was answered *busy* may come again: a full queue of 64 at 25 ms, two at a time, is gone.
BUSY_RETRY = 1000

_log = telemetry.logger("auth.passwords")


@dataclass(slots=True, frozen=True)
class Cost:
    """What one hash costs: memory in KiB, and passes over it (OWASP: 19 MiB, 2 passes)."""

    memory_kib: int = 19 * 1024
    passes: int = 2


class Passwords:
    """Hashes and verifies prepared passwords (`names.new_password`, `names.password`). Of one event loop; `close` it."""

    def __init__(self, cost: Cost, threads: int, queue: int, counts: telemetry.Telemetry | None = None) -> None:
        self._hasher = argon2.PasswordHasher(
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=LANES,
            hash_len=HASH,
            salt_len=SALT,
            type=argon2.Type.ID,
        )
        self._nobody = _of_nobody(cost)
        self._counts = counts
        self._threads = threads
        self._limit = threads + queue
        self._lock = threading.Lock()
        self._taken = 0  # hashes that run or wait; under the lock, because jobs end on their threads
        self._pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        if counts is not None:
            counts.argon2_queue = lambda: float(self.waiting)

    @property
    def waiting(self) -> int:
        """Hashes that wait for a thread."""
        return max(0, self._taken - self._threads)

    async def hash(self, password: str) -> str:
        """The encoded hash, parameters and salt in it. Refused: BUSY, RESTARTING, UNAVAILABLE (out of memory)."""
        return await self._run(functools.partial(self._hasher.hash, password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether it is the password. With None, for an unknown user or one without a password, the same work is done in
        vain, so that the time taken tells nothing. (It does while users have hashes of another cost than is configured now;
        each is replaced when its owner logs in.) Refused as `hash`."""
        return await self._run(functools.partial(self._verify, hashed or self._nobody, password))

    def outdated(self, hashed: str) -> bool:
        """Whether a stored hash was made with other parameters than those of now."""
        return self._hasher.check_needs_rehash(hashed)

    def close(self) -> None:
        """Take no more. What waits is finished; nobody is kept waiting here."""
        self._pool.shutdown(wait=False)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except exceptions.VerifyMismatchError:
            return False
        except exceptions.InvalidHashError:
            _log.error("stored_hash_unreadable")
            return False

    async def _run(self, job: Callable[[], T]) -> T:
        with self._lock:
            if self._taken >= self._limit:
                if self._counts is not None:
                    self._counts.argon2_refusals += 1
                raise codes.Refused(codes.BUSY, retry_after_ms=BUSY_RETRY)
            self._taken += 1
        try:
            running = self._pool.submit(job)
        except RuntimeError:  # after `close`
            self._done()
            raise codes.Refused(codes.RESTARTING, retry_after_ms=BUSY_RETRY) from None
        running.add_done_callback(self._done)  # also when the caller is cancelled before the job has begun
        try:
            return await asyncio.wrap_future(running)
        except (exceptions.HashingError, exceptions.VerificationError) as error:
            _log.error("argon2_failed", reason=str(error))
        raise codes.Refused(codes.UNAVAILABLE, retry_after_ms=BUSY_RETRY)

    def _done(self, _job: futures.Future[T] | None = None) -> None:
        with self._lock:
            self._taken -= 1


def _of_nobody(cost: Cost) -> str:
    """A well-formed hash that no password has: its 32 bytes are random. Verifying against it costs what any other does."""
    salt, tag = (base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (SALT, HASH))
    return f"$argon2id$v=19$m={cost.memory_kib},t={cost.passes},p={LANES}${salt}${tag}"
