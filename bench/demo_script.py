"""A scene of a play as text -> what its people do, step by step. The format is told at the top of bench/data/hamlet_1_1.txt.

A play that was read can be played: names, presence and what a cue refers to are checked here, with the line's number.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass


class ScriptError(Exception):
    """The text cannot be played. It says where, and why."""


@dataclass(slots=True, frozen=True)
class Step:
    """`at`: the line of the text."""

    at: int


@dataclass(slots=True, frozen=True)
class Speech(Step):
    """`answers`: whose last message this replies to, or ""."""

    who: str
    text: str
    answers: str = ""


@dataclass(slots=True, frozen=True)
class Direction(Step):
    """A stage direction, and who comes and goes with it."""

    text: str
    enter: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class Apart(Step):
    people: tuple[str, str]


@dataclass(slots=True, frozen=True)
class Together(Step):
    who: str
    title: str


@dataclass(slots=True, frozen=True)
class Reaction(Step):
    who: str
    emoji: str
    to: str


@dataclass(slots=True, frozen=True)
class Change(Step):
    who: str
    old: str
    new: str


@dataclass(slots=True, frozen=True)
class TakeBack(Step):
    who: str
    text: str


@dataclass(slots=True, frozen=True)
class Types(Step):
    who: str


@dataclass(slots=True, frozen=True)
class AnotherDevice(Step):
    who: str


@dataclass(slots=True, frozen=True)
class AnswerLost(Step):
    who: str


@dataclass(slots=True, frozen=True)
class LineBreaks(Step):
    who: str


@dataclass(slots=True, frozen=True)
class LineMended(Step):
    who: str


@dataclass(slots=True, frozen=True)
class Play:
    """`silent`: those who never read a message."""

    title: str
    scene: str
    author: str
    rights: str
    cast: tuple[str, ...]
    silent: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def speeches(self) -> list[Speech]:
        return [step for step in self.steps if isinstance(step, Speech)]


_NAME = r"([A-Z]+)"
_SPEECH = re.compile(rf"{_NAME}(?: \(answers {_NAME}\))?: (.+)")
#: What the play itself does not say, and what becomes of it.
_CUES: tuple[tuple[re.Pattern[str], Callable[..., Step]], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (rf"{_NAME} and {_NAME} apart", lambda at, one, other: Apart(at, (one, other))),
        (rf"{_NAME} calls everybody together: (.+)", Together),
        (rf"{_NAME} reacts (\S+) to {_NAME}", Reaction),
        (rf'{_NAME} changes "([^"]+)" to "([^"]+)"', Change),
        (rf'{_NAME} takes back "([^"]+)"', TakeBack),
        (rf"{_NAME} types and says nothing", Types),
        (rf"{_NAME} takes another device", AnotherDevice),
        (rf"{_NAME}'s answer is lost", AnswerLost),
        (rf"{_NAME}'s line breaks", LineBreaks),
        (rf"{_NAME}'s line is mended", LineMended),
    )
)
_HEADER = ("Title", "Scene", "Author", "Rights", "Cast", "Reads nothing")


def read(path: pathlib.Path) -> Play:
    """The play in a file. ScriptError if it cannot be read, or not be played."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path}: {error}") from None
    try:
        return parse(text)
    except ScriptError as error:
        raise ScriptError(f"{path}:{error}") from None


def parse(text: str) -> Play:
    """The text of a play -> the play. ScriptError names the line."""
    lines = [(at, line.rstrip()) for at, line in enumerate(text.splitlines(), 1) if not line.startswith("#")]
    while lines and not lines[0][1]:
        del lines[0]
    end = next((index for index, (_, line) in enumerate(lines) if not line), len(lines))
    header = _header(lines[:end])
    cast = _names(header.get("Cast", ""))
    if len(cast) < 2 or len(set(cast)) < len(cast):
        raise ScriptError("1: the header needs a Cast of at least two different names")
    silent = _names(header.get("Reads nothing", ""))
    if not set(silent) <= set(cast):
        raise ScriptError("1: who reads nothing is not in the Cast")
    steps = tuple(_checked(cast, _steps(cast, lines[end:])))
    title, scene, author, rights = (header.get(key, "") for key in _HEADER[:4])
    play = Play(title, scene, author, rights, cast, silent, steps)
    if not play.speeches:
        raise ScriptError("1: nobody says anything")
    return play


def _header(lines: list[tuple[int, str]]) -> dict[str, str]:
    header: dict[str, str] = {}
    for at, line in lines:
        key, colon, value = line.partition(": ")
        if not colon or key not in _HEADER:
            raise ScriptError(f"{at}: the header has {', '.join(_HEADER)}, and no {line!r}")
        header[key] = value.strip()
    return header


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _steps(cast: tuple[str, ...], lines: list[tuple[int, str]]) -> Iterator[Step]:
    """The steps as they stand there."""
    speech: Speech | None = None
    for at, line in lines:
        if line.startswith(" ") and line.strip():
            if speech is None:
                raise ScriptError(f"{at}: an indented line goes on with a speech, and there is none before it")
            speech = Speech(speech.at, speech.who, f"{speech.text}\n{line.strip()}", speech.answers)
            continue
        if speech is not None:
            yield speech
            speech = None
        if line.startswith("[") and line.endswith("]"):
            yield _direction(cast, at, line[1:-1])
        elif line.startswith("{") and line.endswith("}"):
            yield _cue(at, line[1:-1])
        elif line:
            found = _SPEECH.fullmatch(line)
            if found is None:
                raise ScriptError(f"{at}: neither a speech, a [direction] nor a {{cue}}: {line!r}")
            speech = Speech(at, found[1], found[3], found[2] or "")
    if speech is not None:
        yield speech


def _direction(cast: tuple[str, ...], at: int, text: str) -> Direction:
    words = re.findall(r"[\w-]+", text)
    named = tuple(name for name in cast if name in words)
    if "Enter" in words or "Re-enter" in words:
        return Direction(at, text, enter=named)
    if "Exit" in words or "Exeunt" in words:
        return Direction(at, text, leave=named or cast)
    return Direction(at, text)


def _cue(at: int, text: str) -> Step:
    for pattern, make in _CUES:
        found = pattern.fullmatch(text)
        if found is not None:
            return make(at, *found.groups())
    raise ScriptError(f"{at}: no such cue: {{{text}}}")


class _Stage:
    """Who is there, and what was said, for the check."""

    def __init__(self, cast: tuple[str, ...]) -> None:
        self.cast = cast
        self.here: set[str] = set()
        self.cut: set[str] = set()
        self.group = ""
        self.place: tuple[str, ...] = ()
        self.said: dict[tuple[str, ...], list[tuple[str, str]]] = {}

    def last(self, step: Step, who: str, words: str = "") -> int:
        """Where the last message of `who`, with `words` in it, stands among those of the place. ScriptError: nowhere."""
        said = self.said.get(self.place, [])
        for index in range(len(said) - 1, -1, -1):
            if said[index][0] == who and words in said[index][1]:
                return index
        raise ScriptError(f"{step.at}: {who} has said nothing{f' of {words!r}' if words else ''} here")

    def follow(self, step: Step) -> None:
        """ScriptError if the step cannot be played here and now."""
        for name in _people(step):
            if name not in self.cast:
                raise ScriptError(f"{step.at}: {name} is not in the Cast")
        match step:
            case Direction():
                stuck = sorted(self.cut & set(step.leave))
                if stuck:
                    raise ScriptError(f"{step.at}: {stuck[0]}'s line is to be mended before the exit")
                self.here |= set(step.enter)
                self.here -= set(step.leave)
            case AnotherDevice(who=who):
                if who in self.here:
                    raise ScriptError(f"{step.at}: {who} is online, and takes another device only when away")
            case LineMended(who=who):
                if who not in self.cut:
                    raise ScriptError(f"{step.at}: {who}'s line is whole")
                self.cut.discard(who)
            case _:
                self._act(step)

    def _act(self, step: Step) -> None:
        """What only those do who are online."""
        actor = _people(step)[0]
        if actor not in self.here or actor in self.cut:
            raise ScriptError(f"{step.at}: {actor} is not online")
        match step:
            case LineBreaks():
                self.cut.add(actor)
                return
            case Apart(people=(one, other)):
                if one == other:
                    raise ScriptError(f"{step.at}: two different people are needed")
                self.place = tuple(sorted((one, other)))
                return
            case Together(title=title):
                if self.group:
                    raise ScriptError(f"{step.at}: there is a group already")
                self.group = title
                self.place = self.cast
                return
            case AnswerLost() if (self.here - self.cut) & set(self.place) <= {actor}:
                raise ScriptError(f"{step.at}: nobody else is online, who would tell that the message was stored")
        if actor not in self.place:
            raise ScriptError(f"{step.at}: {actor} has no part in this conversation" if self.place else f"{step.at}: where?")
        self._say(step)

    def _say(self, step: Step) -> None:
        said = self.said.setdefault(self.place, [])
        match step:
            case Speech(who=who, text=text, answers=answers):
                if answers:
                    self.last(step, answers)
                said.append((who, text))
            case Reaction(to=to):
                self.last(step, to)
            case Change(who=who, old=old, new=new):
                index = self.last(step, who, old)
                said[index] = (who, said[index][1].replace(old, new))
            case TakeBack(who=who, text=text):
                del said[self.last(step, who, text)]


def _people(step: Step) -> tuple[str, ...]:
    """Everybody a step names; first who acts."""
    match step:
        case Direction(enter=enter, leave=leave):
            return (*enter, *leave)
        case Apart(people=people):
            return people
        case Speech(who=who, answers=answers):
            return (who, answers) if answers else (who,)
        case Reaction(who=who, to=to):
            return who, to
    name: str = getattr(step, "who")  # noqa: B009 - every other step has it, the base class has not
    return (name,)


def _checked(cast: tuple[str, ...], steps: Iterator[Step]) -> Iterator[Step]:
    stage = _Stage(cast)
    for step in steps:
        stage.follow(step)
        yield step
