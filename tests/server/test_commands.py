"""What the operator does: check a configuration, command a running node through its socket, look after its data."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.server.program import (
    BY_PASSWORD,
    BY_REGISTRATION,
    BY_RESET,
    BY_TOKEN,
    ERROR,
    OPEN,
    OPENED,
    PASSWORD,
    SENT,
    WELCOME,
    Device,
    Program,
    command,
    people,
    process,
    running,
)

REVOKED = 4504


# --- check-config -----------------------------------------------------------------------------------------------------


def test_check_config_names_file_key_and_reason_of_everything_that_is_wrong(folder: Path) -> None:
    folder.mkdir()
    file = folder / "kith.toml"
    file.write_text("[listener]\nprt = 1\n[limits]\nheartbeat_s = 0\n[lgo]\n")
    found = command(folder, "check-config", KITH_LOG_LEVEL="loud")
    assert found.returncode == 2
    lines = found.stderr.splitlines()
    assert len(lines) == 4
    assert f"{file}: listener.prt: unknown key; did you mean listener.port?" in found.stderr
    assert f"{file}: limits.heartbeat_s: must be 5 to 600 seconds, is 0" in found.stderr
    assert f"{file}: lgo: unknown key; did you mean log?" in found.stderr
    assert "environment: KITH_LOG_LEVEL: log.level: must be one of" in found.stderr
    assert process(folder, "run").returncode == 2


def test_check_config_shows_what_would_be_in_force_and_no_secret(folder: Path) -> None:
    folder.mkdir()
    secret, shared = "5e" * 32, "a shared text of more than 32 bytes"
    issuer = json.dumps([{"issuer": "shop", "audience": "kith", "algorithm": "HS256", "key": shared}])
    (folder / "kith.toml").write_text(f'[auth]\nsecret = "{secret}"\n[listener]\nport = 1001\nbacklog = 7\n')
    found = command(folder, "check-config", "--set", "listener.port=1003", KITH_LISTENER_BACKLOG="9", KITH_AUTH_JWT=issuer)
    assert found.returncode == 0, found.stderr
    assert "listener.port = 1003" in found.stdout
    assert "listener.backlog = 9" in found.stdout
    assert "issuer='shop'" in found.stdout
    assert secret not in found.stdout
    assert shared not in found.stdout


def test_check_config_finds_what_only_a_start_would_find(folder: Path) -> None:
    issuer = json.dumps([{"issuer": "s", "audience": "k", "algorithm": "EdDSA", "key": "-----BEGIN PUBLIC KEY-----"}])
    found = command(
        folder,
        "check-config",
        *("--set", "listener.tls_certificate=/none.pem", "--set", "listener.tls_key=/none.key"),
        *("--set", "limits.max_connections=10000000", "--set", f"auth.jwt={issuer}", "--set", "internal.host=0.0.0.0"),
    )
    assert found.returncode == 2
    for key in ("/none.pem", "limits.max_connections", "auth.jwt", "internal.host"):
        assert key in found.stderr


def test_help_explains_exit_status_files_and_every_setting() -> None:
    told = process(Path("none"), "--help").stdout
    for word in ("exit status", "kith.toml", "SIGHUP", "KITH_", "restore"):
        assert word in told
    everything = command(Path("none"), "check-config", "--all").stdout
    assert "limits.outbox_bytes = 524288   (16384 to 67108864 bytes)" in everything


# --- people -----------------------------------------------------------------------------------------------------------


def test_an_added_user_logs_in_though_registration_is_closed(folder: Path) -> None:
    with running(folder, "auth.registration=closed") as program, Device(program.url) as device:
        assert process(folder, "user", "add", "asha", stdin=f"{PASSWORD}\n").returncode == 0
        assert device.login("asha")[0] == WELCOME
        with Device(program.url) as stranger:
            refused = stranger.hello(BY_REGISTRATION, "ben", PASSWORD, bytes(16), "phone")
            assert refused[0] == ERROR
            assert refused[3] == "registration_closed"


@pytest.mark.parametrize(
    ("name", "password", "reason"),
    [("asha", PASSWORD, "taken"), ("two words", PASSWORD, "user name"), ("cara", "short", "at least 8")],
)
def test_a_user_that_cannot_be_added_is_refused_with_the_reason(
    program: Program, name: str, password: str, reason: str
) -> None:
    people(program, "asha")
    refused = command(program.folder, "user", "add", name, stdin=password + "\n")
    assert refused.returncode == 1
    assert reason in refused.stderr
    assert password not in refused.stderr


def test_a_reset_code_sets_a_new_password_once(program: Program) -> None:
    people(program, "asha")
    made = command(program.folder, "user", "reset", "asha")
    code = made.stdout.strip()
    assert code
    assert code not in program.log.read_text()
    with Device(program.url) as device:
        assert device.hello(BY_RESET, "asha", code, "another password", bytes(16), "phone")[0] == WELCOME
    with Device(program.url) as device:
        assert device.hello(BY_PASSWORD, "asha", "another password", os.urandom(16), "phone")[0] == WELCOME
    with Device(program.url) as device:
        assert device.hello(BY_RESET, "asha", code, "a third password", os.urandom(16), "phone")[0] == ERROR
    assert command(program.folder, "user", "reset", "nobody").returncode == 1


def test_an_invitation_lets_as_many_register_as_it_says(folder: Path) -> None:
    with running(folder, "auth.registration=invite") as program:
        code = command(folder, "invite", "--uses", "2").stdout.strip()
        answers = []
        for name in ("asha", "ben", "cara"):
            with Device(program.url) as device:
                answers.append(device.hello(BY_REGISTRATION, name, PASSWORD, os.urandom(16), "phone", code)[0])
        assert answers == [WELCOME, WELCOME, ERROR]


def test_a_revoked_device_is_cut_off_for_good_and_the_others_stay(program: Program) -> None:
    people(program, "asha")
    with Device(program.url) as phone, Device(program.url) as laptop:
        phone.login("asha")
        laptop.login("asha")
        listed = command(program.folder, "user", "devices", "asha").stdout.splitlines()
        assert len(listed) == 2
        number = next(line.split("\t")[0] for line in listed)
        gone = command(program.folder, "revoke", "asha", number)
        assert gone.returncode == 0, gone.stderr
        assert len(command(program.folder, "user", "devices", "asha").stdout.splitlines()) == 1
        assert command(program.folder, "revoke", "asha", number).returncode == 1
        assert command(program.folder, "revoke", "asha", "--all").returncode == 0
        for device in (phone, laptop):
            closed = device.closed().rcvd
            assert closed is not None
            assert closed.code == REVOKED
        token = phone.token
    with Device(program.url) as again:
        assert again.hello(BY_TOKEN, token)[0] == ERROR


@pytest.mark.parametrize(
    ("words", "bound"), [(("--days", "36501"), "36500"), (("--uses", "1000001"), "1000000"), (("--uses", "0"), "--uses is 1")]
)
def test_an_invitation_beyond_its_bounds_is_a_wrong_command_line(shared: Program, words: tuple[str, str], bound: str) -> None:
    refused = command(shared.folder, "invite", *words)
    assert refused.returncode == 2
    assert bound in refused.stderr


def test_an_empty_password_is_called_empty(shared: Program) -> None:
    refused = command(shared.folder, "user", "add", "nobody", stdin="\n")
    assert refused.returncode == 1
    assert "the password is empty" in refused.stderr


def test_a_configuration_that_others_may_read_is_warned_of(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    file = folder / "kith.toml"
    file.write_text("")
    file.chmod(0o600)
    assert command(folder, "check-config").stderr == ""
    file.chmod(0o640)
    folder.chmod(0o755)
    told = command(folder, "check-config")
    assert told.returncode == 0
    assert f"chmod 600 {file}" in told.stderr
    assert f"chmod 700 {folder}" in told.stderr


def test_without_a_node_a_command_says_so(folder: Path) -> None:
    for words in (("status",), ("user", "reset", "asha"), ("invite",), ("backup", "/tmp/none.db")):
        refused = command(folder, *words)
        assert refused.returncode == 1
        assert "no node runs on" in refused.stderr
    assert not folder.exists()


def test_status_tells_connections_and_problems(program: Program) -> None:
    people(program, "asha")
    with Device(program.url) as device:
        device.login("asha")
        told = command(program.folder, "status")
    assert told.returncode == 0
    assert "1 connections" in told.stdout
    assert program.url in told.stdout
    assert f"process {program.process.pid}" in told.stdout


# --- the socket itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{}\n", b"not json\n", b'{"command": "status", "more": 1}\n', b'{"command": "halt"}\n', b"x" * 40_000 + b"\n"],
)
def test_what_is_no_command_is_answered_and_the_node_goes_on(shared: Program, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(shared.folder / "kith.sock"))
        raw.sendall(line)
        answer = raw.makefile("rb").readline()
    assert "not a command" in json.loads(answer)["error"]
    assert command(shared.folder, "status").returncode == 0


# --- data -------------------------------------------------------------------------------------------------------------


def test_a_backup_made_while_people_write_holds_all_that_was_answered_before_it_and_can_be_restored(
    program: Program, tmp_path: Path
) -> None:
    people(program, "asha")
    copy, other = tmp_path / "copy.db", tmp_path / "other"
    with Device(program.url) as device:
        device.login("asha")
        answered = 0
        saved: list[int] = []

        def save() -> None:
            saved.append(answered)
            made = command(program.folder, "backup", str(copy))
            assert made.returncode == 0, made.stderr

        saving = threading.Thread(target=save)
        saving.start()
        while saving.is_alive() or answered < 20:
            answered += 1
            device.note(answered, f"note {answered}")
            device.until(SENT)
        saving.join()
        token = device.token
    assert copy.stat().st_mode & 0o777 == 0o600
    assert command(program.folder, "backup", str(copy)).returncode == 1  # never overwritten
    assert command(program.folder, "doctor", str(copy)).returncode == 0
    assert command(other, "restore", str(copy), str(other)).returncode == 0
    (other / "kith.toml").write_bytes((program.folder / "kith.toml").read_bytes())
    with running(other) as restored, Device(restored.url) as device:
        assert device.hello(BY_TOKEN, token)[0] == WELCOME
        device.send(OPEN, 9, device.user)
        assert saved[0] <= device.until(OPENED)[4] <= answered


def test_doctor_and_restore_leave_the_folder_of_a_running_node_alone(program: Program, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    assert command(program.folder, "backup", str(copy)).returncode == 0
    for words in (("doctor",), ("restore", str(copy), str(program.folder))):
        refused = command(program.folder, *words)
        assert refused.returncode == 1
        assert "is in use by another node" in refused.stderr
    assert program.stop() == 0
    assert command(program.folder, "doctor").returncode == 0
    refused = command(program.folder, "restore", str(copy), str(program.folder))
    assert "is not empty" in refused.stderr


def test_doctor_leaves_a_folder_without_a_store_as_it_is(tmp_path: Path) -> None:
    refused = command(tmp_path, "doctor", str(tmp_path))
    assert refused.returncode == 1
    assert "there is no kith.db" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_byte_is_named_in_a_backup_and_can_be_given_up(program: Program, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy.db", tmp_path / "other"
    people(program, "asha")
    with Device(program.url) as device:
        device.login("asha")
        device.note(1, "hi")
        device.until(SENT)
    database = sqlite3.connect(program.folder / "kith.db")
    with database:
        database.execute("UPDATE events SET crc = crc + 1 WHERE kind = 1")
    database.close()
    made = command(program.folder, "backup", str(copy))
    assert made.returncode == 1
    assert "fails its checksum" in made.stdout
    refused = command(other, "restore", str(copy), str(other))
    assert refused.returncode == 1
    assert "--with-damage" in refused.stderr
    taken = command(other, "restore", "--with-damage", str(copy), str(other))
    assert taken.returncode == 0
    assert "fails its checksum" in taken.stdout
    assert command(other, "doctor", "--isolate", str(copy)).returncode == 2  # a copy stays what it is
    given_up = command(other, "doctor", "--isolate")
    assert given_up.returncode == 0, given_up.stderr
    assert re.search(r"given up: .* an event of kind 1", given_up.stdout)
    shutil.copy(program.folder / "kith.toml", other)
    with running(other) as restored, Device(restored.url) as device:
        device.login("asha")
        device.note(2, "the stream goes on")
        assert device.until(SENT)[-1]


def test_doctor_names_a_flipped_byte_and_restore_refuses_such_a_copy(program: Program, tmp_path: Path) -> None:
    people(program, "asha")
    with Device(program.url) as device:
        device.login("asha")
        device.note(1, "hi")
        device.until(SENT)
    assert program.stop() == 0
    database = sqlite3.connect(program.folder / "kith.db")
    with database:
        database.execute("UPDATE events SET crc = crc + 1 WHERE kind = 1")
    database.close()
    found = command(program.folder, "doctor")
    assert found.returncode == 1
    assert re.search(r"fails its checksum", found.stdout)
    refused = command(program.folder, "restore", str(program.folder / "kith.db"), str(tmp_path / "other"))
    assert refused.returncode == 1
    assert "damaged" in refused.stderr
