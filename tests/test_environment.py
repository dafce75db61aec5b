"""The environment: what the lock files promise to whoever installs them, and that setting up says what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def pinned(lock: Path) -> dict[str, str]:
    """Name and version of each package of a lock file."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE))


def asked(requirements: Path) -> set[str]:
    """Names that a requirements file asks for."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    found = (re.match(r"[A-Za-z][\w-]*", line) for line in lines)
    return {match.group().lower().replace("_", "-") for match in found if match}


@pytest.mark.source
@pytest.mark.parametrize("lock", LOCKS, ids=[lock.name for lock in LOCKS])
def test_a_lock_pins_everything_asked_for_by_hash_and_names_no_place_to_get_it_from(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert asked(lock.with_suffix(".in")) <= set(pinned(lock))
    for entry in re.split(r"\n(?=\S)", text):
        assert entry.count("--hash=sha256:") >= 1, f"no hash: {entry.splitlines()[0]}"
    assert not re.search(r"https?:|--(extra-)?index|--find-links|\bfile:", text)


@pytest.mark.source
def test_tests_run_with_the_very_versions_that_a_node_runs_with() -> None:
    node, tests = pinned(ROOT / "requirements.lock"), pinned(ROOT / "requirements-dev.lock")
    assert {name: tests.get(name) for name in node} == node


def bare_checkout(folder: Path) -> Path:
    """A checkout with the setup script and a lock file without packages, so that nothing is fetched."""
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", folder / "scripts")
    (folder / "empty.lock").write_text("# nothing\n", encoding="utf-8")
    return folder


def set_up(folder: Path, python: str, lock: str = "empty.lock") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "scripts" / "setup.sh", lock],
        env={"PATH": os.environ["PATH"], "PYTHON": python},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def interpreter(folder: Path, script: str) -> str:
    """A stand-in for an interpreter: a shell script that is given the arguments python3 would be given."""
    path = folder / "python-stand-in"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose environment was made where one with a vanished interpreter had been."""
    folder = bare_checkout(tmp_path_factory.mktemp("checkout"))
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to("/nowhere/python")
    done = set_up(folder, sys.executable)
    assert done.returncode == 0, done.stderr
    assert "Making .venv" in done.stdout
    return folder


def test_an_environment_is_left_alone_while_the_lock_stays_the_same(made: Path) -> None:
    again = set_up(made, "/nowhere/python")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    (made / "empty.lock").write_text("# still nothing\n", encoding="utf-8")
    assert set_up(made, "/nowhere/python").stdout == "Installing empty.lock\n"


def test_a_lock_that_cannot_be_installed_is_not_taken_for_installed(made: Path) -> None:
    (made / "broken.lock").write_text("pykka==4.5.0\n", encoding="utf-8")  # no hash: refused before anything is fetched
    for _ in range(2):
        refused = set_up(made, sys.executable, "broken.lock")
        assert refused.returncode != 0
        assert "hash" in refused.stderr


@pytest.mark.parametrize("python", ["/nowhere/python3", None], ids=["missing", "too old"])
def test_without_a_new_enough_python_it_says_what_to_install(tmp_path: Path, python: str | None) -> None:
    old = python or interpreter(tmp_path, '[ "$1" = --version ] && echo Python 3.9.2 && exit; exit 1')
    refused = set_up(bare_checkout(tmp_path), old)
    assert refused.returncode != 0
    assert "Kith needs Python 3.11 or newer" in refused.stderr
    assert "sudo apt install python3 python3-venv" in refused.stderr
    if python is None:
        assert "Python 3.9.2" in refused.stderr
    assert not (tmp_path / ".venv").exists()


def test_without_venv_it_says_what_to_install(tmp_path: Path) -> None:
    script = f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"'
    refused = set_up(bare_checkout(tmp_path), interpreter(tmp_path, script))
    assert refused.returncode != 0
    assert "sudo apt install python3-venv" in refused.stderr
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}-venv" in refused.stderr
    assert not (tmp_path / ".venv").exists()
