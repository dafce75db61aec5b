"""People for end-to-end tests: a running node, and devices that talk to it by the independent client."""

from __future__ import annotations

from itertools import count
from typing import Any

from scripts import meanings
from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.independent.tables import Record

PASSWORD = "correct horse battery"

QUICK: dict[str, str] = {
    "listener.port": "0",
    "internal.port": "0",
    "auth.secret": "ab" * 32,
    "auth.argon2_memory_kib": "8",
    "auth.argon2_passes": "1",
    "limits.connects_per_address_s": "100000",
    "limits.connection_commands_s": "100000",
    "limits.account_commands_s": "100000",
    "limits.address_commands_s": "1000000",
    "log.level": "warning",
}
"""Settings under which tests are not slowed down by what protects a node from strangers."""


class World:
    """Makes devices of one node, and says goodbye for them at the end. `ahead_ms`: how far the clock of a node inside the test
    is set forward; the devices' own is not."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ahead_ms = 0
        self.clients: list[Client] = []
        self._numbers = count(1)

    def client(self, label: str) -> Client:
        """A device that has not connected yet."""
        client = Client(self.url, label)
        self.clients.append(client)
        return client

    async def person(self, name: str, **fields: Any) -> Client:
        """A new account, and its first device, which is connected."""
        client = self.client(name)
        values = {"name": name, "password": PASSWORD, "request": wire.request(), "device_name": f"{name}'s phone"}
        await client.enter(wire.credential("RegisterCredential", **(values | fields)))
        return client

    async def people(self, *names: str) -> list[Client]:
        """Several new accounts."""
        return [await self.person(name) for name in names]

    async def device(self, name: str, password: str = PASSWORD) -> Client:
        """One more device of an account, by password."""
        client = self.client(f"{name}/{next(self._numbers)}")
        await client.enter(
            wire.credential("PasswordCredential", name=name, password=password, request=wire.request(), device_name="another")
        )
        return client

    async def close(self) -> None:
        """Disconnect everybody. What they were refused with has to stand in the reference."""
        for client in self.clients:
            await client.close()
        unsaid = {f"{name}: {error}" for client in self.clients for name, error in client.refused if not _is_said(name, error)}
        assert not unsaid, "scripts/meanings.py, REFUSALS: what comes of these commands is not said"

    def logs(self) -> str:
        """What everybody said and heard."""
        return "\n".join(f"--- {client.label}\n{client.last_words(80)}" for client in self.clients)


def _is_said(name: str, error: Record) -> bool:
    """Whether the reference says that this may come of the command, or of any: by its fields, by a repeat, by the load."""
    anywhere = error.number < 200 or error.number >= 400 or error.symbol in ("empty", "too_long", "too_many", "already")
    return anywhere or error.symbol in meanings.REFUSALS[name].split()
