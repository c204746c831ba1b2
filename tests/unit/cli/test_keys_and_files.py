"""Key files and other private files, through the command line."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cocoon_sdk.cli.files import read_private, write_private
from cocoon_sdk.cli.main import app
from cocoon_sdk.crypto import parse_mnemonic, read_box_key_file, read_signing_key_file
from cocoon_sdk.errors import ConfigError

runner = CliRunner()


def test_person_can_make_and_show_a_key(tmp_path: Path) -> None:
    path = tmp_path / "hot.key"
    made = runner.invoke(app, ["key", "new", str(path), "--json"])
    assert made.exit_code == 0
    key = read_signing_key_file(path)
    assert json.loads(made.stdout)["public"] == key.verify_key.hex
    shown = runner.invoke(app, ["key", "show", str(path)])
    assert key.verify_key.hex in shown.stdout
    assert key.reveal().hex() not in made.output + shown.output


def test_person_can_make_a_box_key(tmp_path: Path) -> None:
    made = runner.invoke(app, ["key", "new", str(tmp_path / "box.key"), "--box", "--json"])
    assert json.loads(made.stdout)["public"] == read_box_key_file(tmp_path / "box.key").public_key.hex


def test_person_can_make_a_wallet_whose_words_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "words"
    made = runner.invoke(app, ["key", "new", str(path), "--mnemonic", "--json"])
    words = parse_mnemonic(read_private(path))
    assert json.loads(made.stdout)["wallet"].startswith("UQ")
    assert " ".join(words) not in made.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_person_cannot_overwrite_a_key(tmp_path: Path) -> None:
    path = tmp_path / "hot.key"
    assert runner.invoke(app, ["key", "new", str(path)]).exit_code == 0
    before = path.read_bytes()
    for arguments in (["key", "new", str(path)], ["key", "new", str(path), "--mnemonic"]):
        refused = runner.invoke(app, arguments)
        assert refused.exit_code == 1
        assert "exists" in refused.output
    assert path.read_bytes() == before


def test_private_file_is_refused_when_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "words"
    write_private(path, "secret")
    assert read_private(path) == "secret"
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="0640") as refused:
        read_private(path)
    assert "secret" not in str(refused.value).replace("replace the secret", "")


def test_private_file_is_refused_when_it_is_a_link_or_no_file(tmp_path: Path) -> None:
    write_private(tmp_path / "words", "secret")
    (tmp_path / "link").symlink_to(tmp_path / "words")
    for path in (tmp_path / "link", tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError):
            read_private(path)
