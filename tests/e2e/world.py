"""People for end-to-end tests: a running node, and devices that talk to it by the independent client."""

from __future__ import annotations

from itertools import count
from typing import Any

from tests.e2e.independent import wire
from tests.e2e.independent.client import Client

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
    """Makes devices of one node, and says goodbye for them at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
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
        """Disconnect everybody."""
        for client in self.clients:
            await client.close()

    def logs(self) -> str:
        """What everybody said and heard."""
        return "\n".join(f"--- {client.label}\n{client.last_words(80)}" for client in self.clients)
