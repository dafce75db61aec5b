"""Coverage-guided fuzzing of what a stranger's bytes reach first: the decoder and the connection's state machine.

``make fuzz`` runs it on Linux until something is found, or for ``ARGS="-max_total_time=60"`` seconds; the other arguments are
libFuzzer's. Inputs that reached new code stay in the corpus folder, the golden vectors are the first of them.

What must hold stands in `tests.fuzz.invariants`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

# Imported before the hook: these are declarations without branches, and instrumenting them would take minutes.
from protocol import messages  # noqa: F401

with atheris.instrument_imports(include=["protocol.codec", "protocol.connection", "protocol.scan"]):
    from protocol import codec, connection, scan  # noqa: F401

from tests.fuzz import invariants
from tests.protocol import golden

SHAPES = (b"\x90", b"\x91\x90", b"\x92\x01\x01", b"\x92\x92\x01\x01\x92\x02\x02")
"""Shapes to start from besides the vectors: an empty array, batches, a frame of two items."""


def one_input(data: bytes) -> None:
    """Hold every invariant against one input."""
    for invariant in invariants.ALL:
        invariant(data)


def plant(corpus: Path) -> None:
    """Give an empty corpus its first inputs."""
    if any(corpus.iterdir()):
        return
    names = [path.name for path in sorted(golden.VECTORS.glob("*.json"))]
    vectors = [bytes.fromhex(vector["hex"]) for vector in golden.read(*names)]
    for index, data in enumerate([*SHAPES, *vectors]):
        (corpus / f"first-{index}").write_bytes(data)


if __name__ == "__main__":
    plant(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
