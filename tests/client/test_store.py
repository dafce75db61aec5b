"""What survives a restart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from client import errors, store

SAVED = store.Saved(7, 70, "asha", b"\x00token\xff", 123456, {"6400": 9}, (b"\x96one", b"two"))


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    assert store.FileStore(tmp_path / "none" / "a.json").load() == store.Saved()


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    kept = store.FileStore(tmp_path / "deep" / "a.json")
    kept.save(store.Saved())
    kept.save(SAVED)
    assert kept.load() == SAVED


def test_nobody_else_may_read_the_token(tmp_path: Path) -> None:
    path = tmp_path / "own" / "a.json"
    store.FileStore(path).save(SAVED)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_save_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store.FileStore(tmp_path / "a.json")
    kept.save(SAVED)

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        kept.save(store.Saved())
    assert kept.load() == SAVED
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(errors.DamagedState, match=r"a\.json"):
        store.FileStore(path).load()
