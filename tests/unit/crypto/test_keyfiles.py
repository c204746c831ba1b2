"""Key files: written whole and private, read only when nobody else could have."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.crypto import (
    BoxKey,
    SigningKey,
    keyfiles,
    read_box_key_file,
    read_key_file,
    read_signing_key_file,
    write_key_file,
)
from cocoon_sdk.errors import KeyMaterialError

KEY = SigningKey(bytes(range(32)))
BOX = BoxKey(bytes(range(32)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operator.key"


def _rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_owner_can_read_back_both_types(path: Path, tmp_path: Path) -> None:
    write_key_file(path, KEY)
    write_key_file(tmp_path / "box.key", BOX)
    assert read_signing_key_file(path) == KEY
    assert read_box_key_file(tmp_path / "box.key") == BOX
    with pytest.raises(KeyMaterialError, match="no X25519"):
        read_box_key_file(path)
    with pytest.raises(KeyMaterialError, match="no ed25519"):
        read_signing_key_file(tmp_path / "box.key")


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_key_file_is_private_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_key_file(path, KEY)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_owner_cannot_overwrite_a_key_when_not_asked_to(path: Path) -> None:
    write_key_file(path, KEY)
    other = SigningKey.generate()
    with pytest.raises(KeyMaterialError, match="exists"):
        write_key_file(path, other)
    assert read_key_file(path) == KEY
    write_key_file(path, other, overwrite=True)
    assert read_key_file(path) == other
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_old_key_stays_when_writing_fails_half_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key_file(path, KEY)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyMaterialError, match="No space left"):
        write_key_file(path, SigningKey.generate(), overwrite=True)
    assert read_key_file(path) == KEY
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700, 0o4600, 0o777])
def test_owner_cannot_read_a_key_when_the_mode_is_wider_than_0600(path: Path, mode: int) -> None:
    write_key_file(path, KEY)
    path.chmod(mode)
    with pytest.raises(KeyMaterialError, match="wider than 0600"):
        read_key_file(path)


def test_owner_can_read_a_key_when_the_mode_is_narrower(path: Path) -> None:
    write_key_file(path, KEY)
    path.chmod(0o400)
    assert read_key_file(path) == KEY


def test_owner_cannot_read_a_key_when_it_belongs_to_someone_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key_file(path, KEY)
    someone_else = path.stat().st_uid + 1
    monkeypatch.setattr(os, "geteuid", lambda: someone_else)
    with pytest.raises(KeyMaterialError, match="belongs to user"):
        read_key_file(path)


def test_owner_cannot_read_a_key_when_the_path_is_no_plain_file(path: Path, tmp_path: Path) -> None:
    write_key_file(path, KEY)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("link", "fifo", "missing", "."):
        with pytest.raises(KeyMaterialError, match="cannot use the key file"):
            read_key_file(tmp_path / name)
    with pytest.raises(KeyMaterialError):
        read_key_file("nul\0byte")


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": True},
        {"version": "1"},
        {"type": "rsa"},
        {"type": "x25519"},
        {"type": []},
        {"public": "00" * 32},
        {"public": None},
        {"secret": 7},
        {"secret": "zz" * 32},
        {"note": "x"},
        {"note": "x" * 5000},
    ],
)
def test_owner_cannot_read_a_key_when_the_content_is_off(path: Path, changes: dict[str, object]) -> None:
    write_key_file(path, KEY)
    _rewrite(path, **changes)
    with pytest.raises(KeyMaterialError) as caught:
        read_key_file(path)
    assert KEY.reveal().hex() not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@given(st.binary(max_size=300))
def test_garbage_files_raise_named_errors_only(data: bytes) -> None:
    with pytest.raises(KeyMaterialError):
        keyfiles._parse(data, "cannot use the key file")


def test_deeply_nested_files_raise_named_errors_only() -> None:
    with pytest.raises(KeyMaterialError):
        keyfiles._parse(b"[" * 4000, "cannot use the key file")
