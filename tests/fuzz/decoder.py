"""Coverage-guided fuzzing of what a stranger's bytes reach first: the decoder and the connection's state machine.

``make fuzz`` runs it on Linux until something is found, or for ``ARGS="-max_total_time=60"`` seconds; the other arguments are
libFuzzer's. Inputs that reached new code stay in the corpus folder, the golden vectors are the first of them.

The invariant: whatever comes, a connection answers with effects, every reply can be sent, and a frame that was understood
means the same after it was encoded again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import atheris

# Imported before the hook: these are declarations without branches, and instrumenting them would take minutes.
from protocol import messages  # noqa: F401

with atheris.instrument_imports(include=["protocol.codec", "protocol.connection"]):
    from protocol import codec, connection

VECTORS = Path(__file__).resolve().parent.parent / "vectors"

SEEDS = ("client_frames.json", "batches.json", "refused.json")
"""The golden vectors of what a client may send, and of what it may not: mutations of good frames reach deepest."""


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
    for name in SEEDS:
        for index, vector in enumerate(json.loads((VECTORS / name).read_text(encoding="utf-8"))):
            (corpus / f"{name}-{index}").write_bytes(bytes.fromhex(vector["hex"]))


if __name__ == "__main__":
    plant(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
