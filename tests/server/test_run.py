"""`server.py run`: the first start, refusals, signals, and what a stop or a kill leaves behind."""

from __future__ import annotations

import datetime as dt
import signal
import socket
import sqlite3
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.server.program import (
    BY_TOKEN,
    GOING_AWAY,
    OPEN,
    OPENED,
    QUICK,
    SENT,
    WELCOME,
    Device,
    Program,
    command,
    people,
    process,
    running,
)

SETS = [word for each in QUICK for word in ("--set", each)]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_run_writes_a_configuration_with_a_fresh_secret_for_its_owner_alone(folder: Path, tmp_path: Path) -> None:
    with running(folder) as program:
        assert any("kith.toml, written just now" in line for line in program.lines)
        assert any("make chat" in line for line in program.lines)
        assert program.lines[-1] == f"ready {program.url}"
        assert program.url.startswith("ws://127.0.0.1:")
        assert program.url.endswith("/ws")
        assert mode(folder) == 0o700
        assert [mode(folder / name) for name in ("kith.toml", "kith.db", "kith.sock", "lock")] == [0o600] * 4
    with running(tmp_path / "other") as other:
        assert (other.folder / "kith.toml").read_text() != (folder / "kith.toml").read_text()


def test_a_later_run_keeps_the_configuration(folder: Path) -> None:
    with running(folder) as program:
        first = (folder / "kith.toml").read_bytes()
        assert program.stop() == 0
    with running(folder) as again:
        assert not any("written just now" in line for line in again.lines)
    assert (folder / "kith.toml").read_bytes() == first


def test_data_without_its_configuration_is_not_given_another_secret(program: Program) -> None:
    assert program.stop() == 0
    (program.folder / "kith.toml").unlink()
    refused = process(program.folder, "run", *SETS)
    assert refused.returncode == 2
    assert "holds data but no kith.toml" in refused.stderr
    assert not (program.folder / "kith.toml").exists()


def one_line(text: str) -> str:
    """The only line, which is no traceback."""
    (line,) = text.strip().splitlines()
    return line


def test_a_second_node_on_the_same_folder_is_refused_in_one_line(program: Program) -> None:
    refused = process(program.folder, "run", *SETS)
    assert refused.returncode == 1
    assert "is in use by another node" in one_line(refused.stderr)
    with Device(program.url) as device:  # and the first one goes on
        assert device.hello(3, "asha", "correct horse", bytes(16), "phone")[0] == WELCOME


def test_a_port_that_is_taken_is_named_in_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        for key in ("listener.port", "internal.port"):
            refused = process(folder, "run", *SETS, "--set", f"{key}={port}")
            assert refused.returncode == 1
            assert f"{key} {port}" in one_line(refused.stderr)
    with running(folder):
        pass  # nothing of the refused ones holds the folder


def test_a_database_that_is_none_and_one_of_a_newer_program_are_refused_in_one_line(program: Program) -> None:
    assert program.stop() == 0
    with sqlite3.connect(program.folder / "kith.db") as database:
        database.execute("PRAGMA user_version = 1000")
    database.close()
    newer = process(program.folder, "run", *SETS)
    assert newer.returncode == 1
    assert "run the newer program" in one_line(newer.stderr)
    (program.folder / "kith.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)
    damaged = process(program.folder, "run", *SETS)
    assert damaged.returncode == 1
    assert "not a database" in one_line(damaged.stderr)


def test_an_address_that_others_reach_is_refused_without_tls(folder: Path) -> None:
    refused = process(folder, "run", *SETS, "--set", "listener.host=0.0.0.0")
    assert refused.returncode == 2
    assert "listener.host" in one_line(refused.stderr)
    assert "tls_certificate" in refused.stderr


def test_the_limit_of_open_files_is_raised_to_the_hard_one(shared: Program) -> None:
    limits = Path(f"/proc/{shared.process.pid}/limits").read_text()
    soft, hard = next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files"))
    assert soft == hard


def test_sigterm_tells_clients_when_to_come_back_and_exits_with_0(program: Program) -> None:
    people(program, "asha")
    with Device(program.url) as device:
        device.login("asha")
        program.signal(signal.SIGTERM)
        assert device.until(GOING_AWAY)[2] >= 2000
        closed = device.closed()
        assert closed.rcvd is not None
        assert closed.rcvd.code == 1012
    assert program.ended() == 0


def test_what_was_stored_was_answered_before_a_stop_and_what_was_answered_is_there_after_it(program: Program) -> None:
    people(program, "asha")
    with Device(program.url) as device:
        device.login("asha")
        for counter in range(1, 61):
            device.note(counter, f"note {counter}")
        answered = [device.until(SENT)[1]]
        program.signal(signal.SIGTERM)
        while (frame := device.until(SENT, GOING_AWAY))[0] == SENT:
            answered.append(frame[1])
        token = device.token
    assert program.ended() == 0
    with running(program.folder) as again, Device(again.url) as device:
        device.hello(BY_TOKEN, token)
        device.send(OPEN, 9, device.user)
        opened = device.until(OPENED)
        assert opened[4] == len(answered)  # n: the messages that are there
        assert answered == list(range(1, len(answered) + 1))


def test_a_second_signal_does_not_wait_for_a_client_that_never_closes(folder: Path) -> None:
    with running(folder, "node.stop_timeout_s=600") as program:
        address = program.url.removeprefix("ws://").removesuffix("/ws").split(":")
        with socket.create_connection((address[0], int(address[1]))) as mute:
            mute.sendall(
                f"GET /ws HTTP/1.1\r\nHost: {address[0]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Protocol: kith.v1.msgpack\r\n\r\n".encode()
            )
            assert mute.recv(4096).startswith(b"HTTP/1.1 101")
            program.signal(signal.SIGTERM)
            program.told("stopping")
            program.signal(signal.SIGTERM)
            assert program.ended() == 0


def test_after_kill_9_in_the_midst_of_writing_the_next_start_is_clean(program: Program) -> None:
    people(program, "asha")
    with Device(program.url) as device:
        device.login("asha")
        token = device.token
        for counter in range(1, 61):
            device.note(counter, f"note {counter}")
        answered = [device.until(SENT)[1] for _ in range(5)]
        program.process.kill()
        program.ended()
    assert (program.folder / "kith.sock").exists()  # nobody has tidied up
    assert command(program.folder, "doctor").returncode == 0
    with running(program.folder) as again, Device(again.url) as device:
        assert device.hello(BY_TOKEN, token)[0] == WELCOME
        device.send(OPEN, 9, device.user)
        assert device.until(OPENED)[4] >= len(answered)
        assert command(again.folder, "status").returncode == 0
        assert again.stop() == 0


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key, in the same files each time."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def shown(program: Program) -> str:
    """The common name of the certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with Device(program.url, context) as device:
        inner = device.socket.socket
        assert isinstance(inner, ssl.SSLSocket)
        der = inner.getpeercert(binary_form=True)
    assert der is not None
    return str(x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_sighup_takes_a_new_certificate_and_keeps_the_old_one_when_the_new_one_is_broken(folder: Path, tmp_path: Path) -> None:
    pem, key = certificate(tmp_path, "first")
    with running(folder, f"listener.tls_certificate={pem}", f"listener.tls_key={key}") as program:
        assert program.url.startswith("wss://")
        assert shown(program) == "first"
        certificate(tmp_path, "second")
        program.signal(signal.SIGHUP)
        program.told("certificate_reloaded")
        assert shown(program) == "second"
        pem.write_text("broken")
        program.signal(signal.SIGHUP)
        program.told("certificate_unusable")
        assert shown(program) == "second"
        assert program.stop() == 0


def test_a_certificate_that_cannot_be_used_refuses_the_start_and_names_its_files(folder: Path, tmp_path: Path) -> None:
    pem, key = certificate(tmp_path, "first")
    pem.write_text("broken")
    refused = process(folder, "run", *SETS, "--set", f"listener.tls_certificate={pem}", "--set", f"listener.tls_key={key}")
    assert refused.returncode == 2
    assert str(pem) in one_line(refused.stderr)


@pytest.mark.parametrize("name", ["kith_storage_healthy 1.0", "kith_writer_queue 0.0", "kith_devices_behind 0.0"])
def test_the_gauges_of_an_idle_node_tell_what_is_so(shared: Program, name: str) -> None:
    assert name in shared.metrics()


def test_commits_and_reads_are_measured(shared: Program) -> None:
    with Device(shared.url) as device:
        device.login("asha")
        device.note(1, "hi")
        device.until(SENT)
    told = shared.metrics()
    for name in ("commit_seconds", "commit_appends", "append_seconds", "read_seconds"):
        count = next(line for line in told.splitlines() if line.startswith(f"kith_{name}_count"))
        assert float(count.split()[1]) >= 1
