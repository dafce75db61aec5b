"""Every workload runs, at sizes that take a moment: it measures, publishes the documented object and has no errors.

How fast anything was is nobody's business here."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import pathlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import bench.__main__ as program
from bench import people, process, wire, workload
from tests.bench import test_result

SMALL = {
    "actors": ["--param", "actors=3", "--param", "idle_actors=1000"],
    "direct": ["--param", "pairs=3"],
    "latency": ["--param", "pairs=3", "--param", "rate=100"],
    "maximum": ["--param", "pairs=3", "--param", "first=400", "--param", "precision_percent=50"],
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


def certified(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A certificate of 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


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
            assert (found["url"], found["durable"], found["commit"]) == (server.url, None, None)
        assert program.main(["storm", "--url", server.url]) == 2
        assert program.main(["actors", "--url", server.url]) == 2
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


def test_a_server_behind_tls_is_measured_when_its_authority_is_known(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = certified(tmp_path)
    settings = {"listener.tls_certificate": str(certificate), "listener.tls_key": str(key)}
    server = process.OwnServer(tmp_path, {**process.UNLIMITED, **settings})
    try:
        assert server.url.startswith("wss://")
        assert program.main(["direct", "--seconds", "0.2", "--param", "pairs=1", "--url", server.url]) == 2
        assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err.replace(" ", "_").upper()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert run("direct", tmp_path, "--url", server.url)["errors"] == 0
    finally:
        server.stop()


@pytest.mark.parametrize("url", ["http://x/ws", "ws://x", "ws://x/ws?token=1", "x", "ws://x:99999/ws", "ws://a@x/ws"])
def test_a_url_that_is_no_kith_server_is_refused_in_a_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["direct", "--url", url])
    assert ended.value.code == 2
    assert f"error: --url {url}: " in capsys.readouterr().err


def test_a_server_that_is_not_there_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["direct", "--url", "ws://127.0.0.1:1/ws"]) == 2
    assert capsys.readouterr().err.startswith("no connection to 127.0.0.1:1: ")


def test_help_names_every_limit_that_another_server_has_to_raise(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--help"])
    shown = capsys.readouterr().out
    assert [key for key in (*process.UNLIMITED, "limits.max_connections", "auth.registration") if key not in shown] == []


@pytest.mark.parametrize(
    ("more", "full"),
    [
        ([], True),
        (["--runs", "5"], True),
        (["--runs", "1"], False),
        (["--seconds", "1"], False),
        (["--profile", "calls"], False),
        (["--url", "ws://127.0.0.1:1/ws"], False),
    ],
)
def test_only_full_runs_on_a_node_of_its_own_are_for_the_readme(more: list[str], full: bool) -> None:
    assert program.is_full(program.options_of(["all", *more])) is full
    assert not program.is_full(program.options_of(["direct"]))


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
