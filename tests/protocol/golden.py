"""Reads the golden vectors, and says what msgpack decodes in the way they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


def read(*names: str) -> list[dict[str, Any]]:
    """The vectors of the files, in order."""
    found: list[dict[str, Any]] = []
    for name in names:
        found += json.loads((VECTORS / name).read_text("utf-8"))
    return found


def native(value: Any) -> Any:
    """A vector's value as msgpack's own types: bytes and maps back in place."""
    if isinstance(value, dict):
        if "hex" in value:
            return bytes.fromhex(value["hex"])
        return {native(key): native(each) for key, each in value["map"]}
    if isinstance(value, list):
        return [native(each) for each in value]
    return value
