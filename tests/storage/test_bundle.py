"""A bundle of stores, whatever stands behind them."""

from __future__ import annotations

import pathlib
from typing import Any, cast

import pytest

from storage import bundle, errors, interfaces
from tests.storage import backends, faults


class Stub:
    """A back end's life cycle, and nothing else."""

    def __init__(self, name: str, log: list[str], epoch: int, fails: bool = False) -> None:
        self.name, self.log, self.node_epoch, self.fails = name, log, epoch, fails
        self.healthy = not fails
        self.damaged = f"a row of {name} has rotted" if fails else ""

    async def probe(self) -> None:
        if self.fails:
            raise errors.Unavailable(self.name)

    async def close(self) -> None:
        self.log.append(self.name)
        if self.fails:
            raise errors.Unavailable(self.name)


def mixed(*owners: Stub) -> bundle.Bundle:
    unused = cast(Any, None)
    return bundle.Bundle(unused, unused, unused, unused, cast(list[interfaces.Store], list(owners)))


async def test_one_back_end_serves_every_contract(backend: backends.Backend, tmp_path: pathlib.Path) -> None:
    store = await backend.open(tmp_path)
    whole = bundle.single(store)
    served: list[object] = [whole.log, whole.inbox, whole.accounts, whole.feed]
    assert all(each is store for each in served)
    assert (whole.healthy, whole.node_epoch, whole.incarnation) == (True, store.node_epoch, store.incarnation)
    await whole.probe()
    await whole.close()
    await whole.close()


async def test_all_are_closed_last_opened_first_even_when_one_fails() -> None:
    log: list[str] = []
    whole = mixed(Stub("log", log, 7), Stub("accounts", log, 3, fails=True), Stub("feed", log, 1))
    assert not whole.healthy
    assert whole.damaged == "a row of accounts has rotted"
    assert whole.node_epoch == 7
    with pytest.raises(errors.Unavailable, match="accounts"):
        await whole.probe()
    with pytest.raises(errors.Unavailable, match="accounts"):
        await whole.close()
    assert log == ["feed", "accounts", "log"]


async def test_a_store_that_is_away_makes_the_bundle_unwell(backend: backends.Backend, tmp_path: pathlib.Path) -> None:
    faulty = faults.FaultyStore(await backend.open(tmp_path))
    whole = bundle.single(faulty.store)
    faulty.away = True
    assert not whole.healthy
    with pytest.raises(errors.Unavailable):
        await whole.probe()
    await whole.close()
