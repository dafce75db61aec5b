"""The generated files are those that the structs give today, and they hold together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from scripts import asyncapi, describe, generate_docs

pytestmark = pytest.mark.source


def test_no_generated_file_is_stale() -> None:
    assert generate_docs.stale(generate_docs.generate()) == [], "run `make docs`"


def test_a_changed_and_a_missing_file_are_found_stale() -> None:
    files = generate_docs.generate()
    path = next(iter(files))
    assert generate_docs.stale({**files, path: files[path] + "x"}) == [path]
    missing = generate_docs.ROOT / "docs" / "no-such-file.md"
    assert generate_docs.stale({**files, missing: ""}) == [missing]


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi.document()
    found = set(_references(document))
    assert found
    for reference in found:
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_the_asyncapi_document_has_every_frame_in_its_direction() -> None:
    document = asyncapi.document()
    assert len(document["components"]["messages"]) == len(describe.CLIENT_FRAMES) + len(describe.SERVER_FRAMES)
    assert len(document["operations"]["receive"]["messages"]) == len(describe.CLIENT_FRAMES)
    assert len(document["operations"]["send"]["messages"]) == len(describe.SERVER_FRAMES)


def test_every_link_in_the_reference_leads_to_one_of_its_headings() -> None:
    text = (generate_docs.ROOT / "docs" / "protocol.md").read_text("utf-8")
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        anchors.add(plain if plain not in anchors else f"{plain}-1")
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links
    assert links <= anchors


def test_the_reference_describes_every_struct() -> None:
    text = (generate_docs.ROOT / "docs" / "protocol.md").read_text("utf-8")
    every = (*describe.CLIENT_FRAMES, *describe.SERVER_FRAMES, *describe.EVENTS, *describe.BODIES, *describe.CREDENTIALS)
    for struct in every:
        assert f"\n### {describe.tag(struct)} {struct.__name__}\n" in text
    for struct in describe.nested(every):
        assert f"### {struct.__name__}\n" in text or f" {struct.__name__}\n" in text
