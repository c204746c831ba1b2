"""`cocoon --help` is fast because nothing heavy is imported before a command runs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

HEAVY = (
    "aiohttp",
    "cocoon_worker",
    "nacl",
    "pydantic",
    "pytoniq",
    "pytoniq_core",
    "rich",
    "structlog",
    "tonpy",
    "tonsdk",
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_command_line_imports_nothing_heavy_before_a_command_runs() -> None:
    done = run(f"import sys, cocoon_sdk.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["job", "create", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = [
        name for name in HEAVY if name != "pydantic"
    ]  # typer itself looks for it when it reads parameters
    code = f"""
import sys
from cocoon_sdk.cli.main import app
app({arguments!r}, standalone_mode=False)
print([m for m in {heavy!r} if m in sys.modules])
"""
    done = run(code)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr


def test_version_is_that_of_the_distribution() -> None:
    done = run("import sys; sys.argv = ['cocoon', '--version']; from cocoon_sdk.cli.main import main; main()")
    assert (done.returncode, done.stdout) == (0, f"cocoon {version('cocoon-sdk')}\n")
