"""Every workload runs, at sizes that take a moment: it measures, publishes the documented object and has no errors.

How fast anything was is nobody's business here."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

import bench.__main__ as program
from bench import people, process, wire, workload
from tests.bench import test_result

SMALL = {
    "actors": ["--param", "actors=3", "--param", "idle_actors=1000"],
    "direct": ["--param", "pairs=3"],
    "latency": ["--param", "pairs=3", "--param", "rate=100"],
    "group": ["--param", "members=40"],
    "idle": ["--param", "users=20"],
    "storm": ["--param", "users=12", "--param", "conversations=6", "--param", "behind=2", "--param", "events=3"],
    "history": ["--param", "pairs=3", "--param", "messages=120", "--param", "rate=40"],
    "abuse": ["--param", "pairs=2", "--param", "rate=40", "--param", "slow_readers=35", "--param", "flooders=1"],
}


def run(name: str, folder: pathlib.Path, *more: str) -> dict[str, object]:
    """Run the program as its user does; the object it wrote."""
    file = folder / f"{name}.json"
    status = program.main([name, "--seconds", "0.2", "--json", str(file), *SMALL[name], *more])
    found: dict[str, object] = json.loads(file.read_text())
    assert status == 0, found["metrics"]
    return found


def test_every_workload_is_tried_here() -> None:
    assert set(SMALL) == set(program.WORKLOADS)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_workload_measures_and_publishes_the_documented_object_without_errors(name: str, tmp_path: pathlib.Path) -> None:
    usual = os.sched_getaffinity(0)
    found = run(name, tmp_path)
    assert list(found) == test_result.KEYS
    assert found["workload"] == name
    assert found["errors"] == 0
    assert isinstance(found["rate_per_s"], float | int)
    assert found["rate_per_s"] > 0
    assert os.sched_getaffinity(0) == usual


def test_a_running_server_is_measured_with_accounts_by_registration_or_by_jwt(tmp_path: pathlib.Path) -> None:
    secret = "a secret of an issuer, 32 bytes long"
    issuer = [{"issuer": "bench", "audience": "kith", "algorithm": "HS256", "key": secret}]
    server = process.OwnServer(tmp_path, {**process.UNLIMITED, "auth.jwt": json.dumps(issuer)})
    try:
        for more in ([], ["--jwt-secret", secret]):
            found = run("direct", tmp_path, "--url", server.url, "--pid", str(server.pid), *more)
            assert found["errors"] == 0
            assert found["server_cpu_s"] is not None
        assert program.main(["storm", "--url", server.url]) == 2
    finally:
        server.stop()


def test_what_a_server_refuses_is_counted_and_ends_with_status_1(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "direct.json"
    server = process.OwnServer(tmp_path, {"limits.connection_commands_s": "5"})
    try:
        arguments = ["direct", "--seconds", "0.4", "--param", "pairs=1", "--url", server.url, "--json", str(file)]
        assert program.main(arguments) == 1
        found = json.loads(file.read_text())
        assert found["errors"] > 0
        assert "errors: rate_limited" in found["metrics"]
    finally:
        server.stop()


def test_a_server_that_does_not_start_is_told_with_its_own_words(tmp_path: pathlib.Path) -> None:
    with pytest.raises(process.ServerFailed, match=r"no\.such"):
        process.OwnServer(tmp_path, {"no.such": "1"})


def test_a_parameter_that_a_workload_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["direct", "--param", "pears=3"]) == 2
    assert "pears" in capsys.readouterr().err


async def test_a_generator_that_finds_nobody_fails_at_once() -> None:
    connector = wire.Connector("ws://127.0.0.1:1/ws", people.Tokens(), wire.Errors())
    with pytest.raises(OSError, match="111"):
        await connector.open(wire.Client, 0)


def test_no_records_are_written_into_a_remote_server() -> None:
    with workload.surroundings(workload.Remote("ws://127.0.0.1:1/ws", people.Tokens())) as around:
        run = workload.Run(around, "storm", {}, 1.0)
        with pytest.raises(workload.NotPossible), run.server(1, list):
            pass
