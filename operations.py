"""What an operator may ask of a running node, by the command socket (`control.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import control
import telemetry
from auth import accounts, names
from protocol import codes, events
from storage import errors, records

if TYPE_CHECKING:
    from node import Node

#: Findings in a backup that are named in the answer: some 100 bytes each, of control.MAX_ANSWER.
MAX_FINDINGS = 1_000

log = telemetry.logger("operations")


class Operations:
    """Carries requests out on the node's loop. Everything that changes something is logged, without secrets."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._since = time.monotonic()

    async def handle(self, request: control.AnyRequest) -> dict[str, Any]:
        """The answer to a request. control.Failed with a text for the operator."""
        with _reasons():
            match request:
                case control.Status():
                    return self._status()
                case control.AddUser(name, password):
                    return await self._add_user(name, password)
                case control.ResetUser(name):
                    return await self._reset_user(name)
                case control.ListDevices(name):
                    user = await self._user(name)
                    return {"name": user.name, "devices": [_shown(each) for each in await self._node.store.devices(user.id)]}
                case control.Revoke(name, device):
                    return await self._revoke(name, device)
                case control.Invite(uses, days):
                    return await self._invite(uses, days)
                case control.Backup(path):
                    return await self._backup(Path(path))

    def _status(self) -> dict[str, Any]:
        node = self._node
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._since),
            "epoch": node.store.node_epoch,
            "url": node.url,
            "internal": node.internal_url,
            "problems": list(node.problems()),
            "connections": len(node.gateway.hub.sockets),
            "actors": {kind: int(count) for kind, count in node.directory.counts().items()},
            "messages_committed": node.telemetry.messages_committed,
            "events_committed": node.telemetry.events_committed,
            "restarts": sum(node.telemetry.restarts.values()),
        }

    async def _add_user(self, name: str, password: str) -> dict[str, Any]:
        user = await self._node.admitter.add_user(name, password)
        log.info("user_added", user=user.id, name=user.name)
        return {"id": user.id, "name": user.name}

    async def _reset_user(self, name: str) -> dict[str, Any]:
        code = await self._node.admitter.issue_reset(name)
        log.info("reset_issued", name=name)
        return {"code": code, "minutes": self._node.settings.auth.reset_code_minutes}

    async def _invite(self, uses: int, days: int) -> dict[str, Any]:
        node = self._node
        expires_at = node.clock() + days * accounts.DAY if days else records.OPEN_END
        code = await node.admitter.issue_invitation(uses, expires_at)
        log.info("invitation_issued", uses=uses, days=days)
        return {"code": code, "uses": uses, "days": days, "registration": node.settings.auth.registration}

    async def _revoke(self, name: str, device: int) -> dict[str, Any]:
        """In the store first, so that it holds whatever happens next; then the connection is cut, and the account stream tells
        the user's other devices."""
        node = self._node
        user = await self._user(name)
        devices = await node.store.devices(user.id)
        chosen = [each for each in devices if device in (0, each.id)]
        if device and not chosen:
            raise control.Failed(f"{user.name} has no device {device}")
        for each in chosen:
            if await node.store.revoke_device(user.id, each.id):  # else it has just logged out, and was told of
                node.revoked(user.id, each.id)
                log.info("device_revoked", user=user.id, device=each.id)
        return {"name": user.name, "devices": [_shown(each) for each in chosen]}

    async def _backup(self, path: Path) -> dict[str, Any]:
        if not path.is_absolute():
            raise control.Failed(f"{path}: must be an absolute path")
        began = time.monotonic()
        findings = await self._node.saver.save(path, self._node.clock(), events.redact)
        size = (await asyncio.to_thread(path.stat)).st_size
        found = {"path": str(path), "bytes": size, "seconds": round(time.monotonic() - began, 1)}
        log.info("backup_written", findings=len(findings), **found)
        # All of them might not fit into an answer; `doctor` on the copy names the others.
        return {**found, "findings": [f"{each.where}: {each.what}" for each in findings[:MAX_FINDINGS]], "wrong": len(findings)}

    async def _user(self, name: str) -> records.User:
        key = names.key(name)
        user = await self._node.store.user_by_key(key) if key is not None else None
        if user is None:
            raise control.Failed(f"there is no user {name!r}")
        return user


def _shown(device: records.Device) -> dict[str, Any]:
    return {"id": device.id, "name": device.name, "created": device.created, "last_seen": device.last_seen}


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Refusals and the store's trouble, as texts for the operator."""
    try:
        yield
    except codes.Refused as refused:
        raise control.Failed(refused.text) from None
    except errors.OutcomeUnknown as unknown:
        raise control.Failed(f"the store cannot tell whether it was done: {unknown}; do it again") from unknown
    except (errors.StorageError, OSError) as error:
        raise control.Failed(str(error)) from error
