"""What the terminal chat shows, as lines of styled text: a function of the state and of what the person looks at.

No terminal in here: a line is a list of (style, text), and the caller says how many columns and rows there are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.cells import cell_len, chop_cells, set_cell_size

from client import wording
from client.state import State
from client.streams import Item, Mark, Stream
from protocol import events, ids, messages

Line = list[tuple[str, str]]

#: Columns that the words of a message need beside the name before them; with fewer they begin on the next line.
MIN_ROOM = 12
#: Lines that are shown of a text which the server has not answered: enough to know which one it is.
WAITING_LINES = 3
#: Columns of the reason why there is no connection.
REASON_COLUMNS = 60
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
    `selected`: the stream on the screen, b"" for none. `unsent`: what was typed there and not sent. `scroll`: lines above the
    newest. `panel`: shown in place of the messages until it is closed. `status`: one line for what just happened.

    `connection`: connecting, online, offline or over; offline: why, and when the next try comes (monotonic seconds).
    `titles`: of groups, also when one is no member any more. `reached`: up to which own message all others had, and had read,
    everything: what was said of a message once is not taken back when somebody comes or goes."""

    state: State
    names: dict[int, str] = field(default_factory=dict)
    typing: dict[bytes, dict[int, float]] = field(default_factory=dict)
    presence: dict[int, messages.Presence] = field(default_factory=dict)
    counts: dict[bytes, messages.ReceiptCount] = field(default_factory=dict)
    waiting: dict[bytes, list[Waiting]] = field(default_factory=dict)
    titles: dict[bytes, str] = field(default_factory=dict)
    reached: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    unsent: dict[bytes, str] = field(default_factory=dict)
    selected: bytes = b""
    scroll: int = 0
    panel: list[str] = field(default_factory=list)
    status: str = ""
    connection: str = "connecting"
    reason: str = ""
    again_at: float = 0.0
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
        if group is not None:
            self.titles[stream] = group.title
        return wording.one_line(self.titles.get(stream, "")) or "a group"

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
        shown = [found for found in self.state.streams.values() if self._is_shown(found)]
        return sorted(shown, key=lambda found: (not found.settings.pinned, -found.time, found.stream))

    def _is_shown(self, found: Stream) -> bool:
        if found.stream == self.selected or self.unsent.get(found.stream):
            return True
        return found.listed and (found.settings.archived == self.archived or found.unread > 0)

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
        draft = " ✎" if (found.settings.draft or self.unsent.get(found.stream)) and not count else ""
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
            lines += _waiting_lines(waiting, width)
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
            quoted = self._quote(found, event.reply_to, max(width - len(head) - 2, 1))
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
            before: Line = [("class:dim", " " * (len(head) + 2))]
            lines += _hanging(before, "class:reactions", self._reactions(item.fold.reactions), width)
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
        marks = self._marks_of_others(found)
        delivered, read = self.reached.get(found.stream, (0, 0))
        if marks:
            delivered = max(delivered, min(mark.delivered for mark in marks))
            read = max(read, min(mark.read for mark in marks))
            self.reached[found.stream] = delivered, read
        return READ if read >= item.seq else DELIVERED if delivered >= item.seq else STORED

    def _marks_of_others(self, found: Stream) -> list[Mark]:
        if found.stream[0] == ids.Kind.DIRECT:
            return [found.marks.get(self.other(found.stream), Mark())]
        members = (found.group.members if found.group is not None else None) or {}
        marks = []
        for user, member in members.items():
            if user != self.state.user:
                # What was before somebody joined is not theirs to get.
                mark = found.marks.get(user, Mark())
                marks.append(Mark(max(mark.delivered, member.joined), max(mark.read, member.joined)))
        return marks

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
                parts.append(f"{len(members)} member{'s' if len(members) != 1 else ''}")
        elif (presence := self.presence.get(self.other(self.selected))) is not None:
            parts.append("online" if presence.online else wording.last_seen(presence.last_seen, now_ms))
        if found.timer:
            parts.append(f"messages disappear after {wording.span(found.timer)}")
        if found.request_for == self.state.user:
            parts.append("a message request: /accept, or answer, or /block")
        elif found.request_for:
            parts.append("waits for your message request to be accepted")
        return " · ".join(part for part in parts if part)

    def connection_line(self, now: float) -> str:
        """How the connection is. `now`: monotonic seconds."""
        if self.connection != "offline":
            return self.connection
        wait = self.again_at - now
        when = f"again in {wait:.0f} s" if wait >= 0.5 else "trying again"
        reason = wording.one_line(self.reason).partition(";")[0]  # what follows is for programs
        if cell_len(reason) > REASON_COLUMNS:
            reason = set_cell_size(reason, REASON_COLUMNS - 1) + "…"
        return f"offline, {when} ({reason})"

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


def wrap(text: str, width: int, first: int = 0) -> list[str]:
    """Text -> lines of at most `width` columns, broken between words where that is possible. `first`: columns of the first
    line, where it has fewer. A character may be two columns wide: no line has room for less."""
    width = max(width, 2)
    room = max(first, 2) if first else width
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            joined = f"{line} {word}" if line else word
            if cell_len(joined) <= room:
                line = joined
                continue
            if line:
                lines.append(line)
                room = width
            rest = word
            while cell_len(rest) > room:
                piece = chop_cells(rest, room)[0]
                lines.append(piece)
                rest = rest[len(piece) :]
                room = width
            line = rest
        lines.append(line)
        room = width
    return lines


def _hanging(start: Line, style: str, text: str, width: int, tail: str = "") -> list[Line]:
    """`start`, then the text, its further lines indented; `tail` behind the last word."""
    used = sum(cell_len(part) for _, part in start)
    indent = min(cell_len(start[0][1]), width // 2)
    if width - used >= MIN_ROOM:
        first, *rest = wrap(text, width - indent, width - used)
        lines: list[Line] = [[*start, (style, first)]]
    else:
        rest = wrap(text, width - indent)
        lines = [_cut(start, width)]
    lines += [[("", " " * indent), (style, part)] for part in rest]
    if tail:
        if sum(cell_len(part) for _, part in lines[-1]) + cell_len(tail) <= width:
            lines[-1].append(("class:tick", tail))
        else:
            lines.append([("class:tick", " " * indent + tail)])
    return lines


def _cut(line: Line, width: int) -> Line:
    """As much of a line as there is room for."""
    cut: Line = []
    for style, part in line:
        if cell_len(part) > width:
            part = set_cell_size(part, max(width - 1, 0)) + "…" if width else ""
        cut.append((style, part))
        width -= cell_len(part)
    return cut


def _waiting_lines(waiting: Waiting, width: int) -> list[Line]:
    """The beginning of a text that waits, and how it is."""
    style = "class:error" if waiting.failed else "class:dim"
    mark = f"✗ {waiting.failed} (Esc drops it)" if waiting.failed else WAITING
    # No more of it is looked at than could be shown: it may be a book.
    shown = waiting.text[: WAITING_LINES * width]
    parts = wrap(f"you: {wording.safe(shown)}", width)
    if len(parts) > WAITING_LINES or len(shown) < len(waiting.text):
        parts = [*parts[: WAITING_LINES - 1], f"… {len(waiting.text)} characters {mark}"]
    else:
        parts = [*parts[:-1], f"{parts[-1]} {mark}"]
    return [[(style, line)] for part in parts for line in wrap(part, width)]
