"""Coverage-guided fuzzing of what a stranger's bytes reach first: the decoder and the connection's state machine.

``make fuzz`` runs it on Linux until something is found, or for ``ARGS="-max_total_time=60"`` seconds; the other arguments are
libFuzzer's. Inputs that reached new code stay in the corpus folder, the golden vectors are the first of them.

The invariant: whatever comes, a connection answers with effects, every reply can be sent, and a frame that was understood
means the same after it was encoded again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

# Imported before the hook: these are declarations without branches, and instrumenting them would take minutes.
from protocol import messages  # noqa: F401

with atheris.instrument_imports(include=["protocol.codec", "protocol.connection"]):
    from protocol import codec, connection

VECTORS = Path(__file__).resolve().parent.parent / "vectors"

SHAPES = (b"\x90", b"\x91\x90", b"\x92\x01\x01", b"\x92\x92\x01\x01\x92\x02\x02")
"""Shapes to start from where there are no vectors: an empty array, batches, a frame of two items."""


def one_input(data: bytes) -> None:
    """Feed one WebSocket message to an open connection, and to one that still waits for its hello."""
    for state in (connection.State.OPEN, connection.State.HELLO):
        subject = connection.Connection(0.0)
        subject.state = state
        for effect in subject.receive(data, 1.0):
            if isinstance(effect, connection.Reply):
                codec.encode(effect.frame)
            elif isinstance(effect, connection.Command):
                assert codec.decode_client(codec.encode(effect.frame)) == effect.frame


def plant(corpus: Path) -> None:
    """Give an empty corpus its first inputs."""
    if any(corpus.iterdir()):
        return
    for index, data in enumerate([*SHAPES, *(path.read_bytes() for path in VECTORS.rglob("*.bin"))]):
        (corpus / f"first-{index}").write_bytes(data)


if __name__ == "__main__":
    plant(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
