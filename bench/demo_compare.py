"""Whether everybody tells the same story: two transcripts, or two sets of receipts, compared. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from bench.demo_record import Line


@dataclass(slots=True, frozen=True)
class Reading:
    """`who` read `conversation`; `how` says from where: history, or the record of a device. `gone`: the runs of seqs, first and
    last, that history names in place of what was deleted."""

    who: str
    how: str
    conversation: str
    lines: tuple[Line, ...]
    gone: tuple[tuple[int, int], ...] = ()

    def lacks(self, seq: int) -> bool:
        return any(first <= seq <= last for first, last in self.gone)


@dataclass(slots=True, frozen=True)
class Marks:
    """Up to which seq a member has the messages of a conversation, and has read them."""

    delivered: int
    read: int


@dataclass(slots=True, frozen=True)
class Difference:
    """`what`: lost, twice, extra, order, changed, receipt or fault. `expected` and `found` as people read them."""

    who: str
    how: str
    conversation: str
    what: str
    seq: int
    expected: str
    found: str


def transcripts(said: Sequence[Line], reading: Reading) -> list[Difference]:
    """What `reading` has otherwise than it was `said` (as the senders' confirmations told): nothing, if all is well."""

    def differs(what: str, seq: int, expected: str, found: str) -> Difference:
        return Difference(reading.who, reading.how, reading.conversation, what, seq, expected, found)

    expected = {line.seq: line for line in said}
    times = Counter(line.seq for line in reading.lines)
    lost = [line for line in said if line.seq not in times and not (line.deleted and reading.lacks(line.seq))]
    found = [differs("lost", line.seq, brief(line), "nothing") for line in lost]
    found += [differs("twice", seq, "once", f"{count} times") for seq, count in sorted(times.items()) if count > 1]
    found += [differs("extra", x.seq, "nothing", brief(x)) for x in reading.lines if x.seq not in expected]
    for line in reading.lines:
        wanted = expected.get(line.seq)
        if wanted is not None and wanted != line:
            found += [differs("changed", line.seq, *each) for each in _fields(wanted, line)]
    order = list(dict.fromkeys(line.seq for line in reading.lines if line.seq in expected))
    right = [line.seq for line in said if line.seq in times]
    for is_, should_be in zip(order, right, strict=True):
        if is_ != should_be:
            found.append(differs("order", is_, f"{should_be} in this place", str(is_)))
            break  # one line out of place moves all behind it
    return found


def receipts(
    who: str, conversation: str, how: str, expected: Mapping[str, Marks], found: Mapping[str, Marks]
) -> list[Difference]:
    """The marks of the other members as `who` knows them, and as they are: name -> marks."""
    differences = []
    for name in sorted(expected.keys() | found.keys()):
        right, is_ = expected.get(name), found.get(name)
        if right != is_:
            seq = min((marks.delivered for marks in (right, is_) if marks is not None), default=0)
            differences.append(Difference(who, how, conversation, "receipt", seq, _marks(name, right), _marks(name, is_)))
    return differences


def upto(seq: int, marks: Mapping[str, Marks]) -> dict[str, Marks]:
    """The marks as far as they say something about messages up to `seq`."""
    return {name: Marks(min(each.delivered, seq), min(each.read, seq)) for name, each in marks.items()}


def _marks(name: str, marks: Marks | None) -> str:
    return f"{name}: nothing" if marks is None else f"{name}: delivered to {marks.delivered}, read to {marks.read}"


def _fields(expected: Line, found: Line) -> list[tuple[str, str]]:
    pairs = [(field.name, getattr(expected, field.name), getattr(found, field.name)) for field in fields(Line)]
    return [(f"{name} {right!r}", f"{name} {is_!r}") for name, right, is_ in pairs if right != is_]


def brief(line: Line) -> str:
    """A line in one line."""
    text = "(deleted)" if line.deleted else line.text.partition("\n")[0]
    return f"{line.who}: {text if len(text) <= 50 else text[:49] + '…'}"
