"""The demo on the screen: the scene as it is played, the transcript with its receipts, and what the comparison found."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterable, Sequence

import rich.box
import rich.console
import rich.panel
import rich.progress
import rich.table
import rich.text

from bench import demo_script
from bench.demo_compare import Difference, Marks, Reading
from bench.demo_readback import Finding, Version
from bench.demo_record import Came, Line

#: Verses shown of a speech; the rest is counted.
VERSES = 2
#: Differences shown; the rest is counted.
SHOWN = 40
CAME = {Came.OWN: "", Came.LIVE: "", Came.CAUGHT_UP: "↻", Came.HISTORY: "⇩"}
LEGEND = (
    "✎ said it   [dim]✓✓[/] delivered   [cyan]✔✔[/] read   ↻ caught up on return   ⇩ fetched by a new device   "
    "↪ reply   [underline]name[/] mention"
)


class Playing:
    """A bar, and above it each step when it was played. Where nobody looks (no terminal) the steps alone."""

    def __init__(self, console: rich.console.Console, total: int) -> None:
        self._progress = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=total)
        self._console = console

    def __enter__(self) -> Playing:
        self._progress.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | types.TracebackType | None) -> None:
        self._progress.stop()

    def phase(self, text: str) -> None:
        self._progress.update(self._task, description=text)
        if not self._console.is_terminal:
            self._console.print(text, style="dim")

    def step(self, step: demo_script.Step) -> None:
        self._console.print(_step(step))
        self._progress.advance(self._task)


def _step(step: demo_script.Step) -> rich.text.Text:
    match step:
        case demo_script.Speech(who=who, text=text, answers=answers):
            speech = rich.text.Text.assemble((f"{who:>10}  ", "bold"))
            return speech.append(f"↪ {answers.title()}: " if answers else "", "dim").append(_cut(text, " " * 12))
        case demo_script.Direction(text=text):
            return rich.text.Text(f"{'':10}  [{text}]", "italic yellow")
        case demo_script.Apart(people=(one, other)):
            told = f"{one} and {other} speak apart"
        case demo_script.Together(who=who, title=title):
            told = f"{who} calls everybody together: {title}"
        case demo_script.Reaction(who=who, emoji=emoji, to=to):
            told = f"{who} reacts {emoji} to {to}"
        case demo_script.Change(who=who, old=old, new=new):
            told = f"{who} changes “{old}” to “{new}”"
        case demo_script.TakeBack(who=who, text=text):
            told = f"{who} takes back “{text}”"
        case demo_script.Types(who=who):
            told = f"{who} types, and says nothing"
        case demo_script.AnswerLost(who=who):
            told = f"{who}'s line will break before the next message is confirmed"
        case demo_script.LineBreaks(who=who):
            told = f"{who}'s line breaks"
        case demo_script.LineMended(who=who):
            told = f"{who}'s line is mended; {who} has what was missed"
        case demo_script.AnotherDevice(who=who):
            told = f"{who} takes another device"
        case _:
            raise AssertionError(step)
    return rich.text.Text(f"{'':10}  {told}", "dim magenta")


def _cut(text: str, indent: str, verses: int = VERSES) -> str:
    lines = text.split("\n")
    more = len(lines) - verses
    shown = lines[:verses] + ([f"… {more} more verses"] if more > 1 else lines[verses:])
    return f"\n{indent}".join(shown)


def transcripts(console: rich.console.Console, finding: Finding, *, each: bool) -> None:
    """The conversations with everybody's receipts; with `each`, every reader's own copy in full as well."""
    titles = list(dict.fromkeys(version.conversation.title for version in finding.versions))
    for title in titles:
        versions = [version for version in finding.versions if version.conversation.title == title]
        console.print(_transcript(versions))
        if each:
            for version in versions:
                console.print(rich.panel.Panel(_whole(version.history.lines), title=f"{title}, as {version.who} reads it"))
    console.print(LEGEND, style="dim")


def _transcript(versions: Sequence[Version]) -> rich.table.Table:
    """One row per line as the first reader has it, one column per reader: how and when it came to them. The receipts are
    those that who said the line was told."""
    by_name = {version.who: version for version in versions}
    table = rich.table.Table(
        title=versions[0].conversation.title,
        title_style="bold",
        expand=True,
        box=rich.box.SIMPLE_HEAD,
        padding=0,
        collapse_padding=True,
    )
    table.add_column("#", justify="right", style="dim")
    table.add_column("who", style="bold")
    table.add_column("as read back", ratio=1)
    for name in by_name:
        table.add_column(name.title()[:4], justify="center", no_wrap=True, width=5)
    for line in _rows(versions[0]):
        marks = by_name[line.who].marks if line.who in by_name else {}
        cells = [_cell(line, version, marks.get(name)) for name, version in by_name.items()]
        table.add_row(str(line.seq), line.who.title(), _line(line, VERSES), *cells)
    return table


def _rows(version: Version) -> list[Line]:
    """The lines of history, and what is left of the deleted ones that it names as gone."""
    read = version.history
    gone = [line for line in version.conversation.said if line.deleted and read.lacks(line.seq)]
    return sorted((*read.lines, *gone), key=lambda line: line.seq) if gone else list(read.lines)


def _cell(line: Line, version: Version, marks: Marks | None) -> rich.text.Text:
    if line.who == version.who:
        return rich.text.Text("✎", "dim")
    if marks is None or marks.delivered < line.seq:
        return rich.text.Text("✓", "dim")
    came = version.came.get(line.seq)
    ticks = rich.text.Text("✔✔", "cyan") if marks.read >= line.seq else rich.text.Text("✓✓", "dim")
    return ticks.append(CAME[came] if came else "?", "yellow")


def _line(line: Line, verses: int) -> rich.text.Text:
    if line.deleted:
        return rich.text.Text("deleted", "dim italic")
    text = rich.text.Text(_cut(line.text, "", verses), "italic" if line.notice else "")
    for name in line.mentions:
        text.highlight_words([name.title()], "underline")
    told = rich.text.Text(f"↪{line.reply_to} " if line.reply_to else "", "dim") + text
    if line.edited:
        told.append(" (edited)", "dim")
    for name, emoji in line.reactions:
        told.append(f"  {emoji} {name.title()}", "magenta")
    return told


def _whole(lines: Iterable[Line]) -> rich.text.Text:
    whole = [rich.text.Text(f"{line.seq:>3} {line.who.title()}: ", "bold") + _line(line, 1000) for line in lines]
    return rich.text.Text("\n").join(whole)


def readings(console: rich.console.Console, finding: Finding) -> None:
    """Who read what from where, each with a digest: equal digests, equal transcripts."""
    table = rich.table.Table(title="What was compared", title_style="bold", box=rich.box.SIMPLE_HEAD)
    for heading in ("reader", "conversation", "history", "live record", "digest", "unread"):
        table.add_column(heading, justify="right" if heading in ("history", "live record", "unread") else "left")
    for version in finding.versions:
        records = ", ".join(str(len(record.lines)) for record in version.records)
        digests = " ".join(dict.fromkeys(_digest(version, reading) for reading in (version.history, *version.records)))
        title, count = version.conversation.title, len(version.history.lines)
        table.add_row(version.who.title(), title, f"{count} lines", f"{records} lines", digests, str(version.unread))
    console.print(table)


def _digest(version: Version, reading: Reading) -> str:
    """Of the lines in the order in which they were read; of what is deleted nothing counts."""
    gone = {line.seq for line in version.conversation.said if line.deleted}
    lines = [line for line in reading.lines if line.seq not in gone]
    return hashlib.sha256(repr(lines).encode()).hexdigest()[:12]


def differences(console: rich.console.Console, found: Sequence[Difference]) -> None:
    """What disagrees, one row each."""
    table = rich.table.Table(title=f"{len(found)} differences", title_style="bold red", pad_edge=False)
    for heading in ("reader", "from", "conversation", "#", "what", "expected", "found"):
        table.add_column(heading, overflow="fold")
    for each in found[:SHOWN]:
        cells = (each.who, each.how, each.conversation, str(each.seq), each.what, each.expected, each.found)
        table.add_row(*(rich.text.Text(cell) for cell in cells))
    console.print(table)
    if len(found) > SHOWN:
        console.print(f"and {len(found) - SHOWN} more")
