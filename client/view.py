"""What the terminal chat shows, as lines of styled text: a function of the state and of what the person looks at.

No terminal in here: a line is a list of (style, text), and the caller says how many columns and rows there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.cells import cell_len, chop_cells, set_cell_size

from client import wording
from client.state import State
from client.streams import Item, Mark, Stream
from protocol import events, ids, messages

Line = list[tuple[str, str]]

#: Seconds after which a typing notice is forgotten without another one (`messages.MemberTyping`).
TYPING_S = 6.0
#: Marks behind an own message: on its way, stored, with everybody, read by everybody.
WAITING, STORED, DELIVERED, READ = "…", "✓", "✓✓", "✔✔"


@dataclass(slots=True)
class Waiting:
    """An own text that the server has not answered yet."""

    text: str
    failed: str = ""


@dataclass
class View:
    """`names`: user -> name. `typing`: stream -> user -> until when (monotonic seconds). `counts`: receipts of large groups.
    `selected`: the stream on the screen, b"" for none. `scroll`: lines above the newest. `panel`: shown in place of the
    messages until it is closed. `status`: one line for what just happened."""

    state: State
    names: dict[int, str] = field(default_factory=dict)
    typing: dict[bytes, dict[int, float]] = field(default_factory=dict)
    presence: dict[int, messages.Presence] = field(default_factory=dict)
    counts: dict[bytes, messages.ReceiptCount] = field(default_factory=dict)
    waiting: dict[bytes, list[Waiting]] = field(default_factory=dict)
    selected: bytes = b""
    scroll: int = 0
    panel: list[str] = field(default_factory=list)
    status: str = ""
    connection: str = "connecting"
    archived: bool = False

    # --- names --------------------------------------------------------------------------------------------------------

    def name(self, user: int) -> str:
        """How a user is called here: the own label, else the name."""
        if user == self.state.user:
            return "you"
        known = self.state.account.contacts.get(user) or self.names.get(user)
        return wording.one_line(known) if known else f"user {user % 10000:04d}"

    def title(self, stream: bytes) -> str:
        if stream[0] == ids.Kind.DIRECT:
            other = self.other(stream)
            return "note to self" if other == self.state.user else self.name(other)
        group = self.state.stream(stream).group
        return wording.one_line(group.title) if group is not None and group.title else "a group"

    def other(self, stream: bytes) -> int:
        """The other party of a direct conversation; oneself in the note to self."""
        one, two = ids.parties(stream)
        return two if one == self.state.user else one

    def strangers(self) -> set[int]:
        """Users who are shown and whose names are not known yet."""
        users: set[int] = set()
        for stream, found in self.state.streams.items():
            if stream[0] == ids.Kind.DIRECT:
                users.add(self.other(stream))
            newest = max(found.items, default=0)
            if newest:
                users |= set(wording.people(found.items[newest].event))
        if self.selected:
            found = self.state.stream(self.selected)
            for item in found.items.values():
                users |= set(wording.people(item.event)) | set(item.fold.reactions)
            if found.group is not None:
                users |= set(found.group.members or ())
        return users - set(self.names) - {self.state.user, 0}

    # --- conversation list --------------------------------------------------------------------------------------------

    def conversations(self) -> list[Stream]:
        """Those on the list: pinned ones first, then by the newest event."""
        shown = [
            found
            for found in self.state.streams.values()
            if found.stream == self.selected or (found.listed and (found.settings.archived == self.archived or found.unread))
        ]
        return sorted(shown, key=lambda found: (not found.settings.pinned, -found.time, found.stream))

    def move(self, step: int) -> bytes:
        """The stream `step` places below the selected one, going round; b"" if there is none."""
        streams = [found.stream for found in self.conversations()]
        if not streams:
            return b""
        at = streams.index(self.selected) if self.selected in streams else (-1 if step > 0 else 0)
        return streams[(at + step) % len(streams)]

    def list_lines(self, width: int, height: int) -> list[Line]:
        """The left column: one line per conversation, the selected one in sight."""
        found = self.conversations()
        at = next((index for index, each in enumerate(found) if each.stream == self.selected), 0)
        first = max(0, min(at - height // 2, len(found) - height))
        return [self._list_line(each, width) for each in found[first : first + height]]

    def _list_line(self, found: Stream, width: int) -> Line:
        chosen = " class:chosen" if found.stream == self.selected else ""
        count = f" {'@' if found.mentions else ''}{found.unread}" if found.unread else ""
        sign = "*" if found.settings.pinned else "~" if found.settings.muted_until else "#" if self._is_group(found) else " "
        if not self._is_group(found) and self._online(self.other(found.stream)):
            sign = "●"
        draft = " ✎" if found.settings.draft and not count else ""
        room = width - cell_len(sign) - cell_len(count) - cell_len(draft) - 1
        title = set_cell_size(self.title(found.stream), max(room, 1))
        return [
            (f"class:sign{chosen}", f"{sign} "),
            (f"{'class:unread' if found.unread else 'class:title'}{chosen}", title),
            (f"class:count{chosen}", count + draft),
        ]

    @staticmethod
    def _is_group(found: Stream) -> bool:
        return found.stream[0] == ids.Kind.GROUP

    def _online(self, user: int) -> bool:
        presence = self.presence.get(user)
        return presence is not None and presence.online

    # --- messages -----------------------------------------------------------------------------------------------------

    def message_lines(self, width: int, now_ms: int) -> list[Line]:
        """Everything that is loaded of the selected conversation, oldest first, and what waits for the server."""
        if self.panel:
            return [[("", part)] for text in self.panel for part in wrap(text, width)]
        if not self.selected:
            hint = "Down opens a conversation." if self.conversations() else "No conversation yet: /open NAME, or /help."
            return [[("class:dim", part)] for part in wrap(hint, width)]
        found = self.state.stream(self.selected)
        lines: list[Line] = []
        day = ""
        for item in found.visible(now_ms):
            date = time.strftime("%A, %d %B %Y", time.localtime(item.event.time / 1000))
            if date != day:
                lines.append([("class:dim", f"— {date} —")])
                day = date
            lines += self._item_lines(found, item, width)
        for waiting in self.waiting.get(self.selected, ()):
            mark = f"✗ {waiting.failed}" if waiting.failed else WAITING
            style = "class:error" if waiting.failed else "class:dim"
            lines += [[(style, part)] for part in wrap(f"you: {waiting.text} {mark}", width)]
        return lines

    def _item_lines(self, found: Stream, item: Item, width: int) -> list[Line]:
        event = item.event
        clock = time.strftime("%H:%M", time.localtime(event.time / 1000))
        head = f"{item.seq:>4} {clock} "
        if not isinstance(event, events.Message):
            text = wording.change(event, self.name)
            return _hanging([("class:dim", head)], "class:dim", text, width)
        mine = event.sender == self.state.user
        lines: list[Line] = []
        if event.reply_to:
            quoted = self._quote(found, event.reply_to, width - len(head) - 2)
            lines.append([("class:dim", " " * len(head) + "┌ " + quoted)])
        forwarded = "forwarded: " if event.hops else ""
        signs = " (edited)" if item.fold.edits else ""
        if event.expires_at:
            signs += " ⏱"
        if found.settings.kept.get(item.seq):
            signs += " ★"
        start: Line = [("class:dim", head), ("class:me" if mine else "class:them", self.name(event.sender) + ": ")]
        text = forwarded + wording.body(item.body) + signs
        tick = f" {self.tick(found, item)}" if mine else ""
        lines += _hanging(start, "class:mention" if self._named(item) else "", text, width, tick)
        if item.fold.reactions:
            lines.append([("class:reactions", " " * len(head) + "  " + self._reactions(item.fold.reactions))])
        return lines

    def _named(self, item: Item) -> bool:
        return any(each.user == self.state.user for each in wording.mentions(item.body))

    def _reactions(self, reactions: dict[int, str]) -> str:
        by_emoji: dict[str, list[str]] = {}
        for user, emoji in reactions.items():
            by_emoji.setdefault(emoji, []).append(self.name(user))
        return "  ".join(f"{emoji} {', '.join(names)}" for emoji, names in by_emoji.items())

    def _quote(self, found: Stream, seq: int, room: int) -> str:
        item = found.items.get(seq)
        if item is None or item.fold.deleted or not isinstance(item.event, events.Message):
            return f"#{seq}"
        text = f"{self.name(item.event.sender)}: {wording.body(item.body)}".replace("\n", " ")
        return text if cell_len(text) <= room else set_cell_size(text, max(room - 1, 1)) + "…"

    def tick(self, found: Stream, item: Item) -> str:
        """How far an own message is."""
        if found.stream[0] == ids.Kind.DIRECT and self.other(found.stream) == self.state.user:
            return STORED
        count = self.counts.get(found.stream)
        if count is not None and count.seq >= item.seq:
            return f"✓{count.delivered} ✔{count.read}"
        marks = list(self._marks_of_others(found))
        if marks and all(mark.read >= item.seq for mark in marks):
            return READ
        if marks and all(mark.delivered >= item.seq for mark in marks):
            return DELIVERED
        return STORED

    def _marks_of_others(self, found: Stream) -> Iterable[Mark]:
        if found.stream[0] == ids.Kind.DIRECT:
            users = {self.other(found.stream)}
        else:
            users = set(found.group.members or ()) if found.group is not None else set()
        return [found.marks.get(user, Mark()) for user in users - {self.state.user}]

    # --- lines around -------------------------------------------------------------------------------------------------

    def header(self, now_ms: int) -> str:
        """Who one talks to, and how they are."""
        if not self.selected:
            return "Kith"
        found = self.state.stream(self.selected)
        parts = [self.title(self.selected)]
        if self._is_group(found):
            members = found.group.members if found.group is not None else None
            if not found.member:
                parts.append("waiting to be let in" if found.asked else "you are no member")
            elif members is not None:
                parts.append(f"{len(members)} members")
        elif (presence := self.presence.get(self.other(self.selected))) is not None:
            parts.append("online" if presence.online else wording.last_seen(presence.last_seen, now_ms))
        if found.timer:
            parts.append(f"messages disappear after {wording.span(found.timer)}")
        if found.request_for == self.state.user:
            parts.append("a message request: /accept, or answer, or /block")
        elif found.request_for:
            parts.append("waits for your message request to be accepted")
        return " · ".join(part for part in parts if part)

    def typing_line(self, now: float) -> str:
        """Who types in the selected conversation. `now`: monotonic seconds."""
        typing = self.typing.get(self.selected, {})
        names = [self.name(user) for user, until in typing.items() if until > now]
        if not names:
            return ""
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} typing …"

    def typed(self, notice: messages.MemberTyping, now: float) -> None:
        users = self.typing.setdefault(notice.stream, {})
        if notice.on:
            users[notice.user] = now + TYPING_S
        else:
            users.pop(notice.user, None)


def wrap(text: str, width: int) -> list[str]:
    """Text -> lines of at most `width` columns, broken between words where that is possible."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            joined = f"{line} {word}" if line else word
            if cell_len(joined) <= width:
                line = joined
                continue
            if line:
                lines.append(line)
            pieces = chop_cells(word, max(width, 1)) or [""]
            lines += pieces[:-1]
            line = pieces[-1]
        lines.append(line)
    return lines


def _hanging(start: Line, style: str, text: str, width: int, tail: str = "") -> list[Line]:
    """`start`, then the text, its further lines indented; `tail` behind the last word."""
    used = sum(cell_len(part) for _, part in start)
    indent = min(cell_len(start[0][1]), width // 2)
    room = max(width - used, 8)
    first, *rest = wrap(text, room)
    lines: list[Line] = [[*start, (style, first)]]
    if rest:
        later = wrap(" ".join(rest) if "\n" not in text else "\n".join(rest), max(width - indent, 8))
        lines += [[("", " " * indent), (style, part)] for part in later]
    if tail:
        if sum(cell_len(part) for _, part in lines[-1]) + cell_len(tail) <= width:
            lines[-1].append(("class:tick", tail))
        else:
            lines.append([("class:tick", " " * indent + tail)])
    return lines
