"""The history checker: the promises of the contract, over one history.

K1   what was acknowledged is stored, once
K2   a stream has one order and no gap, the same for all who read it, and its time never goes back
K3   what one device sends stays in its order (what is refused and sent again takes its new place)
K4   what was refused for good is nowhere
K5   a command of unknown outcome ends one way, the same for everybody
K6   everybody has everything within 30 s of the last fault's end
K7   no two owners of a stream acknowledge in the same epoch
K8   watermarks (delivered, read) never go back
K9   a feed holds every visible post once (the feed's own: no check here)
K10  what was fetched before, with the events since, is what is fetched after
K11  nobody reads outside the intervals of their membership

    findings = checks.check(seen)
    assert not findings, checks.report(findings)

Each check is a pure function of the history, and is proven on planted faults (`test_planted.py`) and on correct histories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.checker import delivery, owners, state
from tests.checker.findings import Case, Finding
from tests.checker.history import History

CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    delivery.acknowledged,
    delivery.once,
    delivery.numbered,
    delivery.same_for_all,
    delivery.gapless,
    delivery.order_kept,
    delivery.refused_stays_refused,
    delivery.resolved_one_way,
    owners.one_owner,
    owners.watermarks,
    owners.marks_kept,
    state.fetched,
    state.accounts,
    state.inside_intervals,
)

#: Findings that a report names one by one.
SHOWN = 20


def check(seen: History) -> list[Finding]:
    """Everything that is wrong with a history; empty: it keeps all promises."""
    case = Case(seen)
    return [finding for each in CHECKS for finding in each(case)]


def report(findings: Sequence[Finding]) -> str:
    """The findings for people, the first SHOWN of them."""
    lines = [str(finding) for finding in findings[:SHOWN]]
    if len(findings) > SHOWN:
        lines.append(f"... and {len(findings) - SHOWN} more")
    return "\n".join(lines)
