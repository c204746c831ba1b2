"""LiteLLM, LangChain and an older openai client, all unmodified, against a gateway with real parts behind it.

They run in an environment of their own (`make interop`), as programs, since they pin what we do not.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from cocoon_sdk.sandbox import Blockchain
from cocoon_worker.engine.echo import ECHO_LABEL
from tests.helpers.gateway_rig import GatewayTown, RunningGateway
from tests.helpers.sdk import MODEL_NAME, Town

HERE: Final = Path(__file__).parent
PYTHON: Final = HERE.parents[1] / os.environ.get("COCOON_INTEROP_VENV", ".venv-interop") / "bin" / "python"
PATIENCE_S: Final = 120
SAID: Final = f"{ECHO_LABEL} one two three"


@pytest.fixture
async def gateway(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    made = Town(blockchain)
    place = GatewayTown(made, tmp_path)
    async with place.stack:
        await place.worker("anna")
        gateway = await place.gateway()
        _, text = await place.key(gateway)
        gateway.clients.clear()
        gateway.key = text  # type: ignore[attr-defined]
        yield gateway
    await made.close()


async def answers_of(script: str, gateway: RunningGateway) -> dict[str, Any]:
    """Run a foreign program against the gateway and return what it printed."""
    assert PYTHON.exists(), "the interop environment is missing: run `make interop`"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LITELLM_"))}
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        HERE / script,
        gateway.server.url,
        gateway.key,  # type: ignore[attr-defined]
        MODEL_NAME,
        env={**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-4000:]
    document: dict[str, Any] = json.loads(out.decode().strip().splitlines()[-1])
    return document


async def test_litellm_can_use_the_gateway_unmodified(gateway: RunningGateway) -> None:
    answer = await answers_of("gateway_litellm.py", gateway)
    assert answer["whole"] == answer["streamed"] == SAID
    assert answer["usage"] == answer["streamed_usage"] == [3, 7]
    assert answer["pieces"] >= 7
    assert answer["tool"] == "weather"
    assert set(answer["arguments"]) == {"city"}
    first, second = answer["embeddings"]
    assert first == second > 0
    assert answer["errors"] == {
        "key": "AuthenticationError",
        "model": "NotFoundError",
        "request": "BadRequestError",
    }


async def test_langchain_can_use_the_gateway_unmodified(gateway: RunningGateway) -> None:
    answer = await answers_of("gateway_langchain.py", gateway)
    assert answer["whole"] == answer["streamed"] == SAID
    assert answer["usage"] == answer["streamed_usage"]
    assert answer["usage"][1] == 7
    assert answer["pieces"] >= 7
    assert answer["blocking"] == f"{ECHO_LABEL} four five"
    assert answer["batch"] == [f"{ECHO_LABEL} number {number}" for number in range(5)]
    assert answer["chain"] == f"{ECHO_LABEL} six seven"
    assert answer["tool"] == ["weather"]
    assert set(answer["structured"]) == {"name", "people"}
    assert answer["embeddings"][0] == answer["embeddings"][1] > 0
    assert "BadRequestError" in answer["refused"]


async def test_an_older_openai_client_can_use_the_gateway_unmodified(gateway: RunningGateway) -> None:
    answer = await answers_of("gateway_openai.py", gateway)
    assert int(answer["version"].split(".")[0]) >= 2
    assert answer["whole"] == answer["streamed"] == answer["response"] == SAID
    assert answer["completion"].endswith("one two three")
    assert answer["models"] == [MODEL_NAME]
    assert answer["embedding"] > 0
    assert answer["concurrent"] == [f"{ECHO_LABEL} number {number}" for number in range(8)]
    assert answer["refused"] == "AuthenticationError 401"
