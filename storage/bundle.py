"""The stores that a node was given, whatever back ends they come from.

The rooms above ask for one contract (`interfaces.LogStore`, `interfaces.InboxStore`, ...); only the composition root knows
the back ends. A single back end serves everything by itself (`single`); scaled out, each field may be another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage import interfaces


@dataclass(slots=True, frozen=True)
class Bundle:
    """One store per contract. `owners` are the back ends that stand behind them, each once, in the order of their opening;
    the first is the one that holds the log and gives the node its epoch."""

    log: interfaces.LogStore
    inbox: interfaces.InboxStore
    accounts: interfaces.AccountStore
    feed: interfaces.ChangeFeed
    owners: Sequence[interfaces.Store]

    @property
    def healthy(self) -> bool:
        """False as soon as one back end is not."""
        return all(owner.healthy for owner in self.owners)

    @property
    def damaged(self) -> str:
        """The first damage that any back end has met; "": none."""
        return next(filter(None, (owner.damaged for owner in self.owners)), "")

    @property
    def node_epoch(self) -> int:
        """The fencing number of this process in the log; see `interfaces.Store.node_epoch`."""
        return self.owners[0].node_epoch

    @property
    def incarnation(self) -> int:
        """That of the log; see `interfaces.Store.incarnation`."""
        return self.owners[0].incarnation

    async def probe(self) -> None:
        """Try every back end; the first error goes on."""
        for owner in self.owners:
            await owner.probe()

    async def close(self) -> None:
        """Close all, last opened first, even when one fails; the first error goes on. Idempotent."""
        failures: list[BaseException] = []
        for owner in reversed(self.owners):
            try:
                await owner.close()
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]


def single(store: interfaces.Store) -> Bundle:
    """A bundle in which one back end serves every contract."""
    return Bundle(store, store, store, store, (store,))
