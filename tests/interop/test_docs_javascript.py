"""The JavaScript in docs/testing.md works as it stands there, beside a sandbox started as the page says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.helpers.local_sandbox import sandbox_up
from tests.interop.ton_sandbox import HERE, node_path

PAGE = HERE.parents[1] / "docs" / "testing.md"


def test_javascript_test_of_the_docs_can_run(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    example = re.search(r"```js\n(.*?)```", page, re.S)
    command = re.search(r"cocoon sandbox up (.*) --json > network.json &", page)
    assert example
    assert command
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    (tmp_path / "example.test.mjs").write_text(example[1], encoding="utf-8")
    with sandbox_up(tmp_path, *command[1].split()) as network:
        (tmp_path / "network.json").write_text(json.dumps(network), encoding="utf-8")
        done = subprocess.run(
            [node_path(), "--test"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 1" in done.stdout
