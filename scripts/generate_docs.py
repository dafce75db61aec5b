"""Write docs/protocol.md, docs/asyncapi.json and tests/vectors/ from the structs of the protocol, and the settings in
docs/operations.md from where they are declared.

python -m scripts.generate_docs           write what has changed
python -m scripts.generate_docs --check   write nothing; exit with 1 when a file is stale, missing or left over
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from scripts import asyncapi, meanings, operations, reference, vectors

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "docs" / "protocol.in.md"
OPERATIONS = ROOT / "docs" / "operations.md"
VECTORS = ROOT / "tests" / "vectors"


def _lines(entries: list[vectors.Vector]) -> str:
    """A JSON array with one entry a line, so that a change shows as the lines it touches."""
    return "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]\n"


def _pretty(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def generate() -> dict[Path, str]:
    """Every generated file and what it must hold."""
    files = {
        ROOT / "docs" / "protocol.md": reference.document(TEMPLATE.read_text("utf-8")),
        ROOT / "docs" / "asyncapi.json": _pretty(asyncapi.document()),
        OPERATIONS: operations.document(OPERATIONS.read_text("utf-8")),
        **{VECTORS / name: _lines(entries) for name, entries in vectors.files().items()},
    }
    if unused := meanings.unused():
        raise ValueError(f"scripts/meanings.py explains what no struct has: {sorted(unused)}")
    return files


def stale(files: dict[Path, str]) -> list[Path]:
    """The files that differ from what they must hold, and vectors that nothing generates any more."""
    changed = [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    return changed + [path for path in VECTORS.glob("*.json") if path not in files]


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the protocol reference, the AsyncAPI document and the vectors.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is stale")
    check = parser.parse_args().check
    files = generate()
    for path in stale(files):
        print(("stale: " if check else "wrote: ") + str(path.relative_to(ROOT)))
        if check:
            continue
        if path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], "utf-8")
        else:
            path.unlink()
    return int(check and bool(stale(files)))


if __name__ == "__main__":
    raise SystemExit(main())
