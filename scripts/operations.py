"""The generated part of docs/operations.md: every setting, from where it is declared."""

from __future__ import annotations

import config
import settings

BEGIN = "<!-- settings: written by `make docs` -->"
END = "<!-- end of settings -->"


def document(text: str) -> str:
    """The document, with what stands between the two marks written anew. ValueError when the marks are not there."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/operations.md has to hold {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{reference()}\n{END}{tail}"


def reference() -> str:
    """A table for each section."""
    blocks = []
    for name, schema in config.SECTIONS.items():
        lines = [f"### [{name}]", "", " ".join((schema.__doc__ or "").split()), ""]
        lines += ["| key | default | allowed | what for, and why so |", "| --- | --- | --- | --- |"]
        lines += [_row(each) for each in config.describe() if each.section == name]
        blocks.append("\n".join(lines) + "\n")
    blocks.append("\n".join(_issuer()) + "\n")
    return "\n".join(blocks)


def _issuer() -> list[str]:
    lines = ["### [[auth.jwt]]", "", " ".join((config.JwtIssuer.__doc__ or "").split()), ""]
    lines += ["| key | default | allowed | what for, and why so |", "| --- | --- | --- | --- |"]
    return lines + [_row(each) for each in settings.declared(config.JwtIssuer, "auth.jwt")]


def _row(each: settings.Setting) -> str:
    allowed = each.allowed or each.unit
    return f"| `{each.name}` | {_default(each)} | {allowed} | {each.why} |"


def _default(each: settings.Setting) -> str:
    if each.secret:
        return "(fresh, in a first configuration)" if each.section == "auth" else "(none)"
    if each.default in (None, "", ()):
        return "(none)"
    return f"`{each.default}`"
