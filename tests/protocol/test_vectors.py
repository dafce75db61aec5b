"""The golden vectors mean the same to this codec, to an independent msgpack implementation, and to the generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest

from protocol import codec, codes, events, ids, messages
from scripts import describe
from tests.protocol import golden

_FILES = ("client_frames.json", "server_frames.json", "events.json", "bodies.json", "credentials.json", "folds.json")
_ALL = golden.read(*_FILES)
_credential: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(messages.Credential)
_DECODE = {
    "client_frames.json": codec.decode_client,
    "server_frames.json": codec.decode_server,
    "events.json": events.decode,
    "bodies.json": events.decode_body,
    "credentials.json": _credential.decode,
    "folds.json": events.decode_fold,
}
_CASES = [pytest.param(file, each, id=each["name"]) for file in _FILES for each in golden.read(file)]
_CANONICAL = [pytest.param(file, each, id=each["name"]) for file in _FILES for each in golden.read(file) if "only" not in each]


@pytest.mark.parametrize(("file", "vector"), _CASES)
def test_the_codec_reads_what_the_vector_says(file: str, vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    decoded = _DECODE[file](data)
    assert type(decoded).__name__ == vector["struct"]
    tag = describe.tag(type(decoded))
    items = golden.native(vector["value"])
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(decoded))
    assert tag is None or items[0] == tag
    if "only" not in vector:
        assert again == items
    shared = min(len(again), len(items))
    assert again[:shared] == items[:shared]


@pytest.mark.parametrize(("file", "vector"), _CANONICAL)
def test_the_codec_writes_the_bytes_of_the_vector(file: str, vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    assert msgspec.msgpack.encode(_DECODE[file](data)) == data


@pytest.mark.parametrize("vector", _ALL, ids=lambda each: each["name"])
def test_an_independent_msgpack_reads_and_writes_the_same_bytes(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    value = msgpack.unpackb(data, strict_map_key=False)
    assert value == golden.native(vector["value"])
    assert msgpack.packb(value) == data


@pytest.mark.parametrize("vector", golden.read("streams.json"), ids=lambda each: each["name"])
def test_stream_ids_are_computed_as_the_vector_says(vector: dict[str, Any]) -> None:
    make: dict[str, Callable[..., bytes]] = {
        "direct": ids.direct_stream,
        "group": ids.group_stream,
        "account": ids.account_stream,
    }
    stream = bytes.fromhex(vector["hex"])
    assert make[vector["kind"]](*vector["numbers"]) == stream
    assert ids.kind(stream) is ids.Kind[vector["kind"].upper()]


@pytest.mark.parametrize("vector", golden.read("batches.json"), ids=lambda each: each["name"])
def test_batches_are_told_from_frames_as_the_vector_says(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    assert codec.is_batch(data) is vector["batch"]
    parts = codec.split(data) if codec.is_batch(data) else [data]
    assert [bytes(part).hex() for part in parts] == vector["frames"]


@pytest.mark.parametrize("vector", golden.read("refused.json"), ids=lambda each: each["name"])
def test_what_the_vector_calls_unreadable_is_refused_with_its_request_id(vector: dict[str, Any]) -> None:
    with pytest.raises(codec.Problem) as caught:
        codec.decode_client(bytes.fromhex(vector["hex"]))
    assert caught.value.rid == vector["rid"]
    assert caught.value.error is codes.BY_SYMBOL[vector["symbol"]]
