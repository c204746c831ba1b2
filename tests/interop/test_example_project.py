"""The example project of the docs is somebody else's; it runs on the installed package alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "savings"
TESTS = 5


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy that is no part of this repository."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "savings", ignore=shutil.ignore_patterns("__pycache__")))


def run(project: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_outsider_can_test_a_contract_and_an_app_with_the_plugin(
    project: Path, options: tuple[str, ...]
) -> None:
    shown = run(project, *options)
    assert f"{TESTS} passed" in shown, shown


def test_outsider_can_read_what_happened_when_a_test_fails(project: Path) -> None:
    path = project / "tests" / "test_contract.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"StillClosed (8486)"', '"fine"'), encoding="utf-8")
    shown = run(project, "tests/test_contract.py")
    assert "1 failed, 2 passed" in shown, shown
    assert "blockchain: newest transactions" in shown
    assert "Withdraw  0.1 TON  StillClosed (8486), bounced" in shown
