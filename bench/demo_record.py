"""What a device knows of a conversation: one list of lines, built from history, from events as they came, or from both.

It is the demo's own reading of the protocol (edits, deletions and reactions are applied here, not by the server), so that what
the server folds into history can be compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

import msgspec

from protocol import events, messages


class Came(Enum):
    """How a line reached a device."""

    OWN = "said it"
    LIVE = "live"
    CAUGHT_UP = "caught up on return"
    HISTORY = "fetched by a new device"


@dataclass(slots=True, frozen=True)
class Line:
    """One item of a conversation, in its current state. Of a deleted one only who, where and when are left.

    `reactions`: pairs of name and emoji, in order of name. `notice`: it is no message, and counts as none."""

    seq: int
    who: str
    text: str = ""
    reply_to: int = 0
    mentions: tuple[str, ...] = ()
    edited: bool = False
    deleted: bool = False
    reactions: tuple[tuple[str, str], ...] = ()
    notice: bool = False

    def reacted(self, who: str, emoji: str) -> Line:
        found = {**dict(self.reactions), who: emoji}
        return replace(self, reactions=tuple(sorted((name, each) for name, each in found.items() if each)))

    def changed(self, text: str, mentions: tuple[str, ...]) -> Line:
        return replace(self, text=text, mentions=mentions, edited=True)

    def erased(self) -> Line:
        return Line(self.seq, self.who, reply_to=self.reply_to, deleted=True)


class Record:
    """One conversation on one device. `lines` as they came: a line that came twice stands there twice. `faults`: what came
    in a way that the protocol excludes. `gone`: runs of seqs of which history had nothing to show any more. `names`: user id
    -> name."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self.lines: list[Line] = []
        self.gone: tuple[tuple[int, int], ...] = ()
        self.came: dict[int, Came] = {}
        self.head = 0
        self._begun = 0
        self.faults: list[str] = []

    def begin(self, items: Iterable[messages.HistoryItem], gone: Iterable[messages.Gone], head: int) -> None:
        """A new device: what history tells, as of `head`."""
        self.lines = [self.of_history(item) for item in items]
        self.gone = runs(gone)
        self.came = {line.seq: Came.HISTORY for line in self.lines}
        self.head = self._begun = head

    def apply(self, seq: int, event: events.AnyEvent | None, came: Came) -> None:
        """Event `seq` came."""
        if seq <= self._begun:
            return  # history has it already
        if seq != self.head + 1:
            self.faults.append(f"event {seq} came after event {self.head}")
        self.head = max(self.head, seq)
        match event:
            case events.Message() | events.GroupCreated():
                self.lines.append(self._line(seq, event))
                self.came.setdefault(seq, came)
            case events.Edited(target=target, body=body):
                text, mentions = self._words(body)
                self._change(target, lambda line: line.changed(text, mentions))
            case events.Deleted(target=target):
                self._change(target, Line.erased)
            case events.Reacted(target=target, emoji=emoji, sender=sender):
                self._change(target, lambda line: line.reacted(self._name(sender), emoji))
            case _:
                self.faults.append(f"event {seq} is nothing that was done here: {event}")

    def of_history(self, item: messages.HistoryItem) -> Line:
        """An item of a history page."""
        event = events.decode(item.event)
        line = self._line(item.seq, event)
        fold = events.Fold() if bytes(item.fold) == bytes(events.NIL) else events.decode_fold(item.fold)
        if fold.deleted:
            return line.erased()
        if bytes(fold.body) != bytes(events.NIL):
            line = line.changed(*self._words(fold.body))
        for user, emoji in fold.reactions.items():
            line = line.reacted(self._name(user), emoji)
        return line

    def _change(self, target: int, change: Callable[[Line], Line]) -> None:
        found = [index for index, line in enumerate(self.lines) if line.seq == target]
        if not found:
            self.faults.append(f"there is no line {target} to change")
        for index in found:
            self.lines[index] = change(self.lines[index])

    def _line(self, seq: int, event: events.AnyEvent) -> Line:
        who = self._name(event.sender)
        if isinstance(event, events.GroupCreated):
            return Line(seq, who, created(event.title), notice=True)
        if not isinstance(event, events.Message):
            return Line(seq, who, f"({type(event).__name__})", notice=True)
        text, mentions = self._words(event.body)
        return Line(seq, who, text, event.reply_to, mentions)

    def _words(self, body: msgspec.Raw) -> tuple[str, tuple[str, ...]]:
        """The text of a body, and whom it mentions."""
        if bytes(body) == bytes(events.NIL):
            return "", ()
        decoded = events.decode_body(body)
        if not isinstance(decoded, events.Text):
            return f"({type(decoded).__name__})", ()
        return decoded.text, tuple(self._name(mention.user) for mention in decoded.mentions)

    def _name(self, user: int) -> str:
        return self._names.get(user, f"user {user}")


def runs(gone: Iterable[messages.Gone]) -> tuple[tuple[int, int], ...]:
    """The seqs, first and last of each run, that a history page says are gone."""
    return tuple((each.first, each.last) for each in gone)


def created(title: str) -> str:
    """How the making of a group reads in a transcript."""
    return f"(calls everybody together: {title})"
