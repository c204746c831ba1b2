"""What docs/worker.md says about the settings of sessions is what they are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from cocoon_worker.config import ServingConfig, SessionsConfig

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "worker.md"


def test_documented_settings_of_sessions_are_the_defaults() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "[sessions]" in block]
    told = tomllib.loads(block)["sessions"]
    assert SessionsConfig(**{**told, "serving": ServingConfig()}) == SessionsConfig()
    named = set(SessionsConfig.model_fields) - {"serving"}
    assert named == set(told) | {"voucher_dir"}
    assert "# voucher_dir = " in block
