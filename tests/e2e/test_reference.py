"""The tables that the client was written with say what docs/asyncapi.json and the vectors say."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import config
from scripts import reference
from tests.e2e.independent import wire
from tests.e2e.independent.tables import ANSWERS, COMMANDS, CREDENTIALS, EVENTS, ROWS, Table
from tests.e2e.world import QUICK, World

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
SORTS = {"client_frames": COMMANDS, "server_frames": ANSWERS, "events": EVENTS, "credentials": CREDENTIALS}


def plain(value: Any) -> Any:
    """A value of the vectors, where JSON has no bytes and no maps with numbers as keys."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        if "hex" in value:
            return bytes.fromhex(value["hex"])
        return {plain(key): plain(item) for key, item in value["map"]}
    return value


def load(name: str) -> list[dict[str, Any]]:
    """The vectors of one file."""
    vectors: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())
    return vectors


@pytest.mark.parametrize(("name", "table"), SORTS.items(), ids=SORTS)
def test_every_vector_is_read_and_written(name: str, table: Table) -> None:
    seen = set()
    for vector in load(name):
        array, value = wire.unpack(bytes.fromhex(vector["hex"])), plain(vector["value"])
        seen.add(vector["struct"])
        record = table.read(array)
        assert record is not None, vector["name"]
        known = table.by_name[record.kind]
        assert record.kind == vector["struct"]
        whole = [known.number, *(record.fields[field] for field in known.fields), *record.rest]
        assert whole[: len(value)] == value, vector["name"]
        if "only" not in vector:
            assert wire.pack(table.write(record.kind, record.fields)).hex() == vector["hex"], vector["name"]
    assert seen == set(table.by_name)


@pytest.mark.parametrize("name", ["bodies", "folds"])
def test_bodies_and_folds_are_read(name: str) -> None:
    for vector in load(name):
        array, value = wire.unpack(bytes.fromhex(vector["hex"])), plain(vector["value"])
        assert value[: len(array)] == array, vector["name"]


def test_batches_are_told_from_frames() -> None:
    for vector in load("batches"):
        data = bytes.fromhex(vector["hex"])
        assert [wire.unpack(bytes.fromhex(each)) for each in vector["frames"]] == wire.frames_of(data)


def test_stream_ids_are_computed() -> None:
    make: dict[str, Callable[..., bytes]] = {"direct": wire.direct, "group": wire.group, "account": wire.account}
    for vector in load("streams"):
        if vector.get("kind") in make:
            assert make[vector["kind"]](*vector["numbers"]).hex() == vector["hex"]


def test_the_schemas_have_the_same_fields() -> None:
    schemas = json.loads((ROOT / "docs" / "asyncapi.json").read_text())["components"]["schemas"]
    sorts = (
        (COMMANDS, "Frame", True),
        (ANSWERS, "Frame", True),
        (EVENTS, "Event", True),
        (CREDENTIALS, "", True),
        (ROWS, "", False),
    )
    for table, suffix, numbered in sorts:
        for shape in table.by_number.values():
            schema = schemas[shape.name + suffix]["schema"]
            items = schema["prefixItems"][1:] if numbered else schema["prefixItems"]
            assert [each.get("title") for each in items] == list(shape.fields), shape.name
            assert schema["minItems"] == len(shape.fields) - len(shape.defaults) + numbered, shape.name
            assert not numbered or schema["prefixItems"][0]["const"] == shape.number
    known = {shape.name + suffix for table, suffix, _ in sorts for shape in table.by_number.values()}
    assert set(schemas) - known <= {"Text", "Media", "Encrypted", "AnyEvent", "Body"}


async def test_the_usual_limits_are_those_of_an_untouched_node(start: Callable[[dict[str, str]], Awaitable[World]]) -> None:
    usual = {each.key: str(each.default) for each in config.describe() if each.key in QUICK and each.key.startswith("limits.")}
    asha = await (await start(usual)).person("asha")
    assert asha.limits().fields == msgspec.structs.asdict(reference.USUAL)
