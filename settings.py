"""Settings declared as fields of dataclasses: found in a file, the environment and flags, checked, described.

A leaf of the standard library that knows nothing of Kith: `config` declares what there is to set.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import textwrap
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMENT_WIDTH = 100
"""Characters of a line of comment in a written file."""


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line for each reason: place, key, reason."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def setting(
    default: Any,
    why: str,
    unit: str = "",
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    one_of: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field of a section: its default, what it is for and why it has this value, its unit and its bounds.

    A secret shows neither in the `repr` of its section nor in an error.
    """
    facts = {
        "why": why,
        "unit": unit,
        "at_least": at_least,
        "at_most": at_most,
        "one_of": one_of,
        "secret": secret,
    }
    return field(default=default, metadata=facts, repr=not secret)


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting, as documents and `--help` show it."""

    section: str
    name: str
    kind: Any
    default: Any
    why: str
    unit: str
    at_least: float | None
    at_most: float | None
    one_of: tuple[str, ...]
    secret: bool

    @property
    def key(self) -> str:
        """As flags and errors name it: ``listener.port``."""
        return f"{self.section}.{self.name}"

    @property
    def allowed(self) -> str:
        """What values are possible, for people: ``0 to 65535 bytes``; empty when any of its type is."""
        if self.one_of:
            return ", ".join(self.one_of)
        ends = {
            (True, True): f"{self.at_least} to {self.at_most}",
            (True, False): f"{self.at_least} or more",
            (False, True): f"{self.at_most} or less",
            (False, False): "",
        }
        return f"{ends[self.at_least is not None, self.at_most is not None]} {self.unit}".strip()


def declared(schema: type, section: str) -> Iterator[Setting]:
    """The settings of one section, in the order they are declared in."""
    kinds = typing.get_type_hints(schema)
    for each in dataclasses.fields(schema):
        yield Setting(section, each.name, kinds[each.name], each.default, **each.metadata)


class Settings:
    """Values for the sections of a schema, gathered source after source, the later overriding the earlier.

    Problems are collected, not raised, so that an operator sees all of them at once.
    """

    def __init__(self, sections: Mapping[str, type]) -> None:
        self.sections = sections
        self.problems: list[str] = []
        self._known = {each.key: each for name, schema in sections.items() for each in declared(schema, name)}
        self._values: dict[str, Any] = {}
        self._places: dict[str, str] = {}

    def read_file(self, path: Path) -> None:
        """Take a TOML file. Its relative paths start at its folder."""
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            self.problems.append(f"{path}: cannot be read: {error.strerror}")
            return
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self.problems.append(f"{path}: is not TOML: {error}")
            return
        for section, table in document.items():
            if section not in self.sections:
                self._unknown(str(path), section, list(self.sections))
            elif not isinstance(table, dict):
                self.problems.append(f"{path}: {section}: must be a table, as [{section}]")
            else:
                for name, value in table.items():
                    self._take(str(path), f"{section}.{name}", value, is_text=False, folder=path.parent)

    def read_environment(self, environ: Mapping[str, str], prefix: str) -> None:
        """Take every variable that starts with the prefix: ``KITH_LISTENER_PORT`` is ``listener.port``."""
        for variable, text in environ.items():
            if variable.startswith(prefix):
                section, _, name = variable.removeprefix(prefix).lower().partition("_")
                self._take(f"environment: {variable}", f"{section}.{name}", text, is_text=True, folder=Path())

    def read_flags(self, flags: Mapping[str, Any]) -> None:
        """Take values by key. Text is read as from the environment; other values must have the right type."""
        for key, value in flags.items():
            self._take("--set", key, value, is_text=isinstance(value, str), folder=Path())

    def section(self, name: str) -> Any:
        """The section's dataclass with what was gathered and the defaults of the rest."""
        chosen = {each.name: self._values[each.key] for each in self._of(name) if each.key in self._values}
        return self.sections[name](**chosen)

    def blame(self, keys: Sequence[str], reason: str) -> None:
        """Note that values, each possible alone, do not go together. The first that was set is blamed."""
        key = next((each for each in keys if each in self._places), keys[0])
        self.problems.append(f"{self._places.get(key, 'default')}: {key}: {reason}")

    def _of(self, section: str) -> Iterator[Setting]:
        return (each for each in self._known.values() if each.section == section)

    def _unknown(self, place: str, key: str, known: Sequence[str]) -> None:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        self.problems.append(f"{place}: {key}: unknown key{hint}")

    def _take(self, place: str, key: str, raw: Any, *, is_text: bool, folder: Path) -> None:
        known = self._known.get(key)
        if known is None:
            self._unknown(place, key, list(self._known))
            return
        try:
            self._values[key] = _value(known, raw, is_text=is_text, folder=folder)
            self._places[key] = place
        except ValueError as error:
            self.problems.append(f"{place}: {key}: {error}")


def _value(known: Setting, raw: Any, *, is_text: bool, folder: Path) -> Any:
    """The checked value of a setting; `ValueError` with the reason where it is impossible."""
    value = _parsed(known.kind, raw) if is_text else raw
    shown = "" if known.secret else f", is {raw!r}"
    if typing.get_origin(known.kind) is tuple:
        return _tuple(known, value)
    if known.kind is Path or known.kind == Path | None:
        return _path(known.kind, value, folder)
    if known.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not known.kind:
        raise ValueError(f"must be {_kind_name(known.kind)}{shown}")
    if known.one_of and value not in known.one_of:
        raise ValueError(f"must be one of {known.allowed}{shown}")
    too_small = known.at_least is not None and value < known.at_least
    too_large = known.at_most is not None and value > known.at_most
    if too_small or too_large or (known.kind is float and not math.isfinite(value)):
        raise ValueError(f"must be {known.allowed or 'a finite number'}{shown}")
    return value


def _kind_name(kind: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return names.get(kind, "a list")


def _parsed(kind: Any, text: str) -> Any:
    """Text of the environment or of a flag, as the type it stands for; as it is where it cannot be one."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    if typing.get_origin(kind) is tuple:
        if typing.get_args(kind)[0] is str:
            return [item.strip() for item in text.split(",") if item.strip()]
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"is not JSON: {error}") from None
    return text


def _path(kind: Any, value: Any, folder: Path) -> Path | None:
    if not isinstance(value, str | Path):
        raise ValueError(f"must be a path, is {value!r}")  # noqa: TRY004 (one kind of error for a bad value)
    if not str(value):
        if isinstance(kind, types.UnionType):
            return None
        raise ValueError("must be a path, is empty")
    return folder / Path(value).expanduser()


def _tuple(known: Setting, value: Any) -> tuple[Any, ...]:
    item_kind = typing.get_args(known.kind)[0]
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list")  # noqa: TRY004
    if item_kind is str:
        if not all(isinstance(item, str) for item in value):
            raise ValueError(f"must be a list of texts, is {value!r}")
        return tuple(value)
    return tuple(_record(item_kind, item, index) for index, item in enumerate(value))


def _record(schema: type, table: Any, index: int) -> Any:
    """One table of a list of tables. Its fields are checked as settings; their names stand in the reason."""
    if isinstance(table, schema):
        return table
    if not isinstance(table, dict):
        raise ValueError(f"[{index}]: must be a table")  # noqa: TRY004
    known = {each.name: each for each in declared(schema, f"[{index}]")}
    for name in table:
        if name not in known:
            raise ValueError(f"[{index}].{name}: unknown key; there are {', '.join(known)}")
    values = {}
    for name, raw in table.items():
        try:
            values[name] = _value(known[name], raw, is_text=False, folder=Path())
        except ValueError as error:
            raise ValueError(f"[{index}].{name}: {error}") from None
    return schema(**values)


def as_toml(sections: Mapping[str, type], chosen: Mapping[str, Any]) -> str:
    """A TOML file that shows every setting: the chosen ones set, the others as comments with defaults."""
    blocks = []
    for name, schema in sections.items():
        lines = [*_comment((schema.__doc__ or "").partition("\n")[0]), f"[{name}]"]
        for each in declared(schema, name):
            lines += ["", *_comment(" ".join(filter(None, [each.why, each.allowed and f"({each.allowed})"])))]
            value = chosen.get(each.key, each.default)
            lines.append(f"{'' if each.key in chosen else '# '}{each.name} = {_toml(value)}")
        blocks.append("\n".join(lines))
    return "\n\n\n".join(blocks) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, COMMENT_WIDTH, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)
