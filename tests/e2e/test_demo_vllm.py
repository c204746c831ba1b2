"""`cocoon demo` with real vLLM: a true answer, balanced books, and no process left behind by Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.local_sandbox import cocoon

pytestmark = pytest.mark.vllm
_PATIENCE_S = 280


def processes_with(mark: str) -> list[int]:
    """Return the ids of processes whose environment names `mark`."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_demo_answers_with_a_real_model_and_accounts_for_every_nanoton() -> None:
    prompt = "--prompt=What is the capital of France?"
    process = cocoon("demo", "--engine", "vllm", prompt, "--json", err=subprocess.PIPE)
    out, err = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    assert "Paris" in report["answer"]
    assert report["balanced"] is True
    assert report["usage"]["output_tokens"] > 0


def test_demo_leaves_no_vllm_behind_when_it_is_interrupted_while_loading(tmp_path: Path) -> None:
    mark = f"DEMO_MARK={tmp_path}"
    name, _, value = mark.partition("=")
    process = cocoon("demo", "--engine", "vllm", env={**os.environ, name: value}, err=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if "starting the engine process" in line or "reading the model" in line:
            break
    assert len(processes_with(mark)) > 1
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 130, err
    assert processes_with(mark) == []
