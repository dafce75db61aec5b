"""The demo: its text is read as it says, its comparison finds what is planted, and a whole run leaves nothing behind."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import rich.console
from hypothesis import given
from hypothesis import strategies as st

from bench import demo, demo_compare, demo_script
from bench.demo_compare import Marks, Reading
from bench.demo_readback import Finding
from bench.demo_record import Came, Line, Record
from bench.demo_stage import Stage
from protocol import events

ROOT = Path(__file__).parent.parent.parent
HEADER = "Title: T\nScene: S\nAuthor: A\nRights: public domain\nCast: ANNE, BEN, CAT\nReads nothing: CAT\n\n"
ON = HEADER + "[Enter ANNE and BEN]\n{ANNE and BEN apart}\n"


# --- the text ---------------------------------------------------------------------------------------------------------


WHOLE = (
    ON
    + """\
ANNE: Who's
    there?

BEN (answers ANNE): Me.
{ANNE reacts 👍 to BEN}
{BEN changes "Me" to "I"}
[Thunder]
{ANNE calls everybody together: All}
{BEN's line breaks}
{BEN's line is mended}
{CAT takes another device}
[Re-enter CAT]
{CAT types and says nothing}
{ANNE's answer is lost}
ANNE: Ben!
{ANNE takes back "Ben!"}
[Exeunt]
"""
)
KINDS = """Direction Apart Speech Speech Reaction Change Direction Together LineBreaks LineMended AnotherDevice Direction Types
    AnswerLost Speech TakeBack Direction""".split()


def kinds_of(play: demo_script.Play) -> list[str]:
    return [type(step).__name__ for step in play.steps]


def test_a_text_becomes_the_steps_that_it_says() -> None:
    play = demo_script.parse("# comment\n" + WHOLE)
    assert (play.title, play.cast, play.silent) == ("T", ("ANNE", "BEN", "CAT"), ("CAT",))
    assert [(speech.who, speech.text, speech.answers) for speech in play.speeches] == [
        ("ANNE", "Who's\nthere?", ""),
        ("BEN", "Me.", "ANNE"),
        ("ANNE", "Ben!", ""),
    ]
    assert kinds_of(play) == KINDS
    directions = [step for step in play.steps if isinstance(step, demo_script.Direction)]
    assert [(each.enter, each.leave) for each in directions] == [
        (("ANNE", "BEN"), ()),
        ((), ()),
        (("CAT",), ()),
        ((), ("ANNE", "BEN", "CAT")),
    ]


@pytest.mark.parametrize(
    ("text", "at", "reason"),
    [
        ("Titel: T\n\n", 1, "the header has"),
        ("Cast: ANNE\n\n", 1, "at least two"),
        (HEADER, 1, "nobody says anything"),
        (HEADER + "ANNE: Hello.", 8, "ANNE is not online"),
        (ON + "CAT: Hello.", 10, "CAT is not online"),
        (ON + "[Enter CAT]\nCAT: Hello.", 11, "no part in this conversation"),
        (HEADER + "[Enter ANNE]\nANNE: Hello.", 9, "where?"),
        (ON + "DORA: Hello.", 10, "DORA is not in the Cast"),
        (ON + "ANNE (answers BEN): What?", 10, "BEN has said nothing"),
        (ON + 'ANNE: One.\n{ANNE takes back "Two."}', 11, "ANNE has said nothing of 'Two.'"),
        (ON + 'ANNE: One.\n{ANNE takes back "One."}\n{BEN reacts 👍 to ANNE}', 12, "ANNE has said nothing"),
        (ON + 'ANNE: One.\n{BEN changes "One" to "Two"}', 11, "BEN has said nothing"),
        (ON + "{ANNE dances}", 10, "no such cue"),
        (ON + "hello", 10, "neither a speech"),
        (ON + "    hello", 10, "none before it"),
        (ON + "{BEN's line is mended}", 10, "whole"),
        (ON + "{BEN's line breaks}\nBEN: Hello.", 11, "BEN is not online"),
        (ON + "{BEN's line breaks}\n[Exit BEN]", 11, "mended before the exit"),
        (ON + "{BEN takes another device}", 10, "only when away"),
        (ON + "[Exit BEN]\n{ANNE's answer is lost}", 11, "nobody else"),
        (ON + "{ANNE calls everybody together: A}\n{BEN calls everybody together: B}", 11, "a group already"),
    ],
)
def test_a_text_that_cannot_be_played_is_refused_with_its_line(text: str, at: int, reason: str) -> None:
    with pytest.raises(demo_script.ScriptError, match=rf"^{at}: .*{re.escape(reason)}"):
        demo_script.parse(text)


def test_the_play_that_ships_has_everything_that_the_demo_is_to_show() -> None:
    play = demo_script.read(demo.PLAY)
    assert "public domain" in play.rights
    assert set(kinds_of(play)) == set(KINDS)
    assert any(speech.answers for speech in play.speeches)
    assert any("Horatio" in speech.text and speech.who != "HORATIO" for speech in play.speeches)


@given(st.text(alphabet=st.sampled_from("ANEBC: []{}()\n'\"#xto reacts apart and"), max_size=200))
def test_no_text_is_answered_with_anything_but_a_play_or_a_reason(text: str) -> None:
    reason = ""
    try:
        demo_script.parse(HEADER + text)
    except demo_script.ScriptError as error:
        reason = str(error)
    assert re.match(r"\d+: |$", reason)


# --- the record -------------------------------------------------------------------------------------------------------


def body(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(events.Text(text, (events.Mention(2, 0, 3),))))


def test_a_record_applies_what_later_events_did_to_a_line() -> None:
    record = Record({1: "ANNE", 2: "BEN"})
    record.apply(1, events.Message(1, 0, 1, 7, 1, body("Ben, one")), Came.LIVE)
    record.apply(2, events.Message(2, 0, 2, 8, 1, body("Ben, two"), 1), Came.OWN)
    record.apply(3, events.Edited(2, 0, 1, 7, 2, 1, body("Ben, 1")), Came.LIVE)
    record.apply(4, events.Reacted(2, 0, 2, 8, 2, 1, "👍"), Came.LIVE)
    record.apply(5, events.Reacted(2, 0, 2, 8, 3, 1, "❤️"), Came.LIVE)
    record.apply(6, events.Deleted(2, 0, 2, 8, 4, 2), Came.LIVE)
    assert record.lines == [
        Line(1, "ANNE", "Ben, 1", mentions=("BEN",), edited=True, reactions=(("BEN", "❤️"),)),
        Line(2, "BEN", reply_to=1, deleted=True),
    ]
    assert record.faults == []
    assert record.came == {1: Came.LIVE, 2: Came.OWN}


def test_a_record_names_a_gap_a_repeat_and_a_change_of_nothing() -> None:
    record = Record({1: "ANNE"})
    record.apply(1, events.Message(1, 0, 1, 7, 1, body("one")), Came.LIVE)
    record.apply(3, events.Deleted(2, 0, 1, 7, 4, 2), Came.LIVE)
    record.apply(1, events.Message(1, 0, 1, 7, 1, body("one")), Came.LIVE)
    assert len(record.faults) == 3
    assert [line.seq for line in record.lines] == [1, 1]


# --- the comparison ---------------------------------------------------------------------------------------------------

SAID = [
    Line(1, "ANNE", "one", mentions=("BEN",)),
    Line(2, "BEN", "two", reply_to=1, reactions=(("ANNE", "👍"),)),
    Line(4, "ANNE", "three", edited=True),
    Line(6, "BEN", deleted=True),
]


def found(lines: list[Line], *gone: tuple[int, int]) -> list[tuple[str, int]]:
    reading = Reading("CAT", "history", "all", tuple(lines), gone)
    return [(each.what, each.seq) for each in demo_compare.transcripts(SAID, reading)]


def test_a_faithful_transcript_is_found_faithful() -> None:
    assert found(SAID) == []
    assert found(SAID[:3], (6, 6)) == []  # history may name what was deleted as gone


@pytest.mark.parametrize(
    ("plant", "what"),
    [
        (lambda lines: lines[1:], [("lost", 1)]),
        (lambda lines: lines[:-1], [("lost", 6)]),
        (lambda lines: [], [("lost", 1), ("lost", 2), ("lost", 4), ("lost", 6)]),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], [("twice", 2)]),
        (lambda lines: [*lines, Line(7, "CAT", "never said")], [("extra", 7)]),
        (lambda lines: [lines[1], lines[0], *lines[2:]], [("order", 2)]),
        (lambda lines: [*lines[:2], lines[3], lines[2]], [("order", 6)]),
        (lambda lines: [replace(lines[0], text="One"), *lines[1:]], [("changed", 1)]),
        (lambda lines: [replace(lines[0], who="BEN"), *lines[1:]], [("changed", 1)]),
        (lambda lines: [replace(lines[0], mentions=()), *lines[1:]], [("changed", 1)]),
        (lambda lines: [lines[0], replace(lines[1], reactions=()), *lines[2:]], [("changed", 2)]),
        (lambda lines: [lines[0], replace(lines[1], reply_to=0), *lines[2:]], [("changed", 2)]),
        (lambda lines: [*lines[:2], replace(lines[2], edited=False), lines[3]], [("changed", 4)]),
        (lambda lines: [*lines[:3], Line(6, "BEN", "deleted, yet here")], [("changed", 6), ("changed", 6)]),
    ],
)
def test_a_planted_fault_of_a_transcript_is_found(
    plant: Callable[[list[Line]], list[Line]], what: list[tuple[str, int]]
) -> None:
    assert found(plant(list(SAID))) == what


def test_a_line_that_history_calls_gone_is_lost_unless_it_was_deleted() -> None:
    assert found([SAID[0], SAID[2], SAID[3]], (2, 3)) == [("lost", 2)]


@given(st.lists(st.sampled_from(range(len(SAID))), max_size=8))
def test_only_the_very_transcript_passes(order: list[int]) -> None:
    assert (found([SAID[index] for index in order]) == []) is (order == list(range(len(SAID))))


MARKS = {"ANNE": Marks(6, 6), "BEN": Marks(6, 2)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"ANNE": Marks(6, 6)},
        {"ANNE": Marks(6, 6), "BEN": Marks(6, 0)},
        {"ANNE": Marks(6, 6), "BEN": Marks(4, 2)},
        {"ANNE": Marks(6, 6), "BEN": Marks(6, 6)},
        {**MARKS, "CAT": Marks(1, 1)},
    ],
)
def test_a_missing_or_wrong_receipt_is_found(wrong: dict[str, Marks]) -> None:
    assert demo_compare.receipts("ANNE", "all", "fetched", MARKS, MARKS) == []
    (difference,) = demo_compare.receipts("ANNE", "all", "fetched", MARKS, wrong)
    assert difference.what == "receipt"


def test_marks_beyond_a_message_say_no_more_of_it_than_marks_at_it() -> None:
    assert demo_compare.upto(4, MARKS) == {"ANNE": Marks(4, 4), "BEN": Marks(4, 2)}


def test_a_difference_is_shown_and_makes_the_exit_status() -> None:
    console = rich.console.Console(file=io.StringIO(), width=120)
    stage = Stage(demo_script.parse(WHOLE), "ws://nowhere:1/ws", 0, lambda step: None)
    lost = demo_compare.transcripts(SAID, Reading("CAT", "history", "all", tuple(SAID[1:])))
    assert demo.conclude(console, stage, Finding([], 0, lost), 1) == demo.DISAGREED
    assert "ANNE: one" in console.file.getvalue()  # type: ignore[attr-defined]
    assert demo.conclude(console, stage, Finding([], 0, []), 1) == demo.AGREED


# --- the whole --------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench.demo", "--pace", "0.001", *arguments]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes()
        except OSError:
            continue  # it has ended
        if str(folder).encode() in words:
            found.append(words.decode(errors="replace"))
    return found


def test_the_scene_is_played_everybody_agrees_and_nothing_is_left_behind(tmp_path: Path) -> None:
    done = run(tmp_path, "--each")
    assert done.returncode == demo.AGREED, done.stdout[-4000:] + done.stderr
    assert "All agree." in done.stdout
    assert "2 connections cut, 1 confirmation lost and repeated" in " ".join(done.stdout.split())
    assert "The platform before the castle, as GHOST reads it" in done.stdout
    assert "He smote the sledded Polacks on the ice." in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_a_demo_that_is_ended_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command("--pace", "60"), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as demo_run:
        assert demo_run.stdout is not None
        assert any(b"Enter to him BERNARDO" in line for line in demo_run.stdout)
        assert processes_of(tmp_path)
        demo_run.send_signal(signal.SIGTERM)
        demo_run.communicate(timeout=60)
    assert demo_run.returncode == demo.NOT_PLAYED
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_a_text_that_cannot_be_played_says_why_and_starts_nothing(tmp_path: Path) -> None:
    text = tmp_path / "play.txt"
    text.write_text(ON + "{ANNE dances}\n")
    done = run(tmp_path, "--play", str(text))
    assert done.returncode == demo.NOT_PLAYED
    assert f"{text}:10: no such cue: {{ANNE dances}}" in done.stderr
    assert list(tmp_path.iterdir()) == [text]
