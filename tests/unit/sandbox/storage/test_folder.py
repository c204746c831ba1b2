"""A sandbox's folder: one process at a time, and nobody else reads it."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cocoon_sdk.sandbox.storage import FolderBusyError, SandboxFolder, StorageCorruptError, StorageError
from cocoon_sdk.sandbox.storage.folder import is_claimed, read_document, write_document

HOLD = """
import sys
from pathlib import Path
from cocoon_sdk.sandbox.storage import SandboxFolder
folder = SandboxFolder(Path(sys.argv[1]))
print("mine", flush=True)
sys.stdin.read()
"""


def test_second_process_cannot_have_the_folder_until_the_first_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "sandbox"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        assert is_claimed(place)
        with pytest.raises(FolderBusyError):
            SandboxFolder(place)
    finally:
        holder.kill()
        holder.communicate()
    assert not is_claimed(place)
    with SandboxFolder(place):
        assert is_claimed(place)


def test_folder_and_its_documents_are_private(tmp_path: Path) -> None:
    with SandboxFolder(tmp_path / "sandbox") as folder:
        write_document(folder.path / "a.json", {"one": 1})
        write_document(folder.path / "a.json", {"two": 2})
        assert read_document(folder.path / "a.json") == {"two": 2}
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder.path / "a.json").stat().st_mode) == 0o600
        assert sorted(each.name for each in folder.path.iterdir()) == ["a.json", "lock"]


def test_document_cannot_be_read_when_others_may_have_written_it_or_it_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_document(path) is None
    write_document(path, {})
    path.chmod(0o666)
    with pytest.raises(StorageError, match="private"):
        read_document(path)
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(StorageCorruptError):
        read_document(path)
    (tmp_path / "link.json").symlink_to(path)
    with pytest.raises(StorageError):
        read_document(tmp_path / "link.json")


def test_folder_cannot_be_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        SandboxFolder(tmp_path / "file")
    assert not is_claimed(tmp_path / "nothing")
