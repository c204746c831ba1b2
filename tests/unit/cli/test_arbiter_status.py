"""What `cocoon arbiter status` tells of an arbiter: a double answers in its place."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from cocoon_sdk.cli.main import app
from cocoon_sdk.client.arbiter_endpoints import ArbiterEndpoints, Overview
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import MalformedError

KEY = SigningKey(bytes(range(32))).verify_key
URL = "http://127.0.0.1:9"
DISPUTE: dict[str, Any] = {"digest": "ab" * 32, "kind": 1, "escrow": "0:" + "cd" * 32, "id": 7, "needed": 2}


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("disputes", [(), (DISPUTE,)], ids=["none", "one"])
def test_party_sees_whether_an_arbiter_takes_evidence_now(
    monkeypatch: pytest.MonkeyPatch, accepts: bool, disputes: tuple[dict[str, Any], ...]
) -> None:
    async def info(*_: object) -> Any:
        return SimpleNamespace(key=KEY)

    async def overview(*_: object) -> Overview:
        return Overview(accepts, disputes)

    monkeypatch.setattr(ArbiterEndpoints, "info", info)
    monkeypatch.setattr(ArbiterEndpoints, "overview", overview)
    done = CliRunner().invoke(app, ["arbiter", "status", URL, "--json"])
    assert done.exit_code == 0, done.output
    expected = {"key": KEY.hex, "accepts_evidence": accepts, "disputes": list(disputes)}
    assert json.loads(done.stdout) == expected
    shown = CliRunner().invoke(app, ["arbiter", "status", URL])
    assert ("accepts no evidence" in shown.stdout) is not accepts
    assert ("accepts evidence" in shown.stdout) is accepts


@pytest.mark.parametrize(
    "answer", [{"disputes": []}, {"disputes": [], "accepts_evidence": 1}, {"accepts_evidence": True}], ids=str
)
async def test_arbiter_that_does_not_say_it_is_not_understood(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    async def asked(*_: object, **__: object) -> bytes:
        return json.dumps(answer).encode()

    monkeypatch.setattr(ArbiterEndpoints, "_ask", asked)
    with pytest.raises(MalformedError, match="not in form"):
        await ArbiterEndpoints().overview(URL)
