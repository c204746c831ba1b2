"""What the README shows works as it stands there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cocoon_sdk.protocol.job_states import markdown

ROOT = Path(__file__).resolve().parents[2]
COCOON = [sys.executable, "-c", "from cocoon_sdk.cli.main import main; main()"]


def python_example() -> str:
    """Return the README's first Python block."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert found
    return found[1]


async def test_newcomer_can_run_the_example_of_the_readme(tmp_path: Path) -> None:
    network = await asyncio.create_subprocess_exec(
        *COCOON,
        *("sandbox", "up", "--json"),
        stdout=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    )
    try:
        assert network.stdout is not None
        text = ""
        while True:
            text += (await asyncio.wait_for(network.stdout.readline(), 60)).decode()
            try:
                json.loads(text)
                break
            except ValueError:
                continue
        (tmp_path / "network.json").write_text(text, encoding="utf-8")
        example = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", python_example()),
            stdout=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        answer, _ = await asyncio.wait_for(example.communicate(), 120)
        assert example.returncode == 0
        assert "Hello!" in answer.decode()
    finally:
        network.send_signal(signal.SIGINT)
        await asyncio.wait_for(network.wait(), 30)


def test_example_of_the_readme_is_short() -> None:
    assert sum(bool(line.strip()) for line in python_example().splitlines()) <= 10


def test_state_table_in_the_docs_is_the_one_the_contracts_are_checked_against() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- state-table:begin -->\n(.*?)<!-- state-table:end -->", text, re.S)
    assert found
    assert found[1].strip() == markdown().strip()


@pytest.mark.parametrize("page", ["README.md", "docs/testing.md"])
def test_examples_for_testing_ones_own_app_run(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.S)
        if re.search(r"^def test_", block, re.M)
    ]
    assert blocks
    for number, block in enumerate(blocks):
        (tmp_path / f"test_example_{number}.py").write_text(block, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_example_of_the_testing_page_is_a_test() -> None:
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 6
    assert all("def test_" in block for block in blocks)
