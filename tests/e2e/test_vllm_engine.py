"""Real vLLM with the packaged model: answers, counts, bounds, sudden death and restart."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from cocoon_sdk.errors import EngineInterruptedError, EngineUnavailableError
from cocoon_worker.engine.base import (
    EngineKind,
    EngineRequest,
    EngineRequestError,
    EngineState,
    EngineTimeoutError,
)
from cocoon_worker.engine.packaged_model import PACKAGED_MODEL
from tests.e2e.conftest import SharedEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.xdist_group("vllm")]
_DEADLINE_S = 120.0


def _chat(text: str, **fields: object) -> EngineRequest:
    return EngineRequest(
        EngineKind.CHAT, {"messages": [{"role": "user", "content": text}], "temperature": 0, **fields}
    )


async def test_client_can_ask_for_a_capital_when_vllm_serves_the_packaged_model(
    vllm_engine: SharedEngine,
) -> None:
    result = await vllm_engine.run(
        _chat("What is the capital of France?", max_tokens=24), deadline_s=_DEADLINE_S
    )

    assert "Paris" in result.response["choices"][0]["message"]["content"]
    assert result.response["model"] == PACKAGED_MODEL
    assert result.response["usage"]["prompt_tokens"] == result.usage.prompt_tokens > 10
    assert 0 < result.usage.completion_tokens <= 24
    assert (await vllm_engine.health()).ready


async def test_client_can_see_cached_tokens_when_a_long_prompt_is_repeated(vllm_engine: SharedEngine) -> None:
    request = _chat("Count the words. " + "one two three four " * 100, max_tokens=1)
    first = await vllm_engine.run(request, deadline_s=_DEADLINE_S)
    second = await vllm_engine.run(request, deadline_s=_DEADLINE_S)

    assert first.usage.cached_tokens < second.usage.cached_tokens <= second.usage.prompt_tokens


async def test_verifier_can_score_token_ids_when_it_asks_for_prompt_logprobs(
    vllm_engine: SharedEngine,
) -> None:
    answer = await vllm_engine.run(
        _chat("Say hello.", max_tokens=8, return_token_ids=True, logprobs=True), deadline_s=_DEADLINE_S
    )
    prompt, output = answer.response["prompt_token_ids"], answer.response["choices"][0]["token_ids"]
    scored = await vllm_engine.run(
        EngineRequest(
            EngineKind.COMPLETION,
            {"prompt": prompt + output, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1},
        ),
        deadline_s=_DEADLINE_S,
    )

    claimed = [entry["logprob"] for entry in answer.response["choices"][0]["logprobs"]["content"]]
    table = scored.response["choices"][0]["prompt_logprobs"][len(prompt) :]
    recomputed = [row[str(token)]["logprob"] for row, token in zip(table, output, strict=True)]
    assert recomputed == pytest.approx(claimed, abs=0.5)


async def test_client_cannot_name_another_model_when_vllm_serves_one(vllm_engine: SharedEngine) -> None:
    with pytest.raises(EngineRequestError, match=PACKAGED_MODEL):
        await vllm_engine.run(_chat("hello", model="another"), deadline_s=_DEADLINE_S)


async def test_client_cannot_exceed_the_context_when_the_prompt_is_too_long(
    vllm_engine: SharedEngine,
) -> None:
    with pytest.raises(EngineRequestError, match="HTTP 400"):
        await vllm_engine.run(_chat("word " * 4000), deadline_s=_DEADLINE_S)


async def test_client_cannot_wait_beyond_the_deadline_when_the_answer_is_long(
    vllm_engine: SharedEngine,
) -> None:
    with pytest.raises(EngineTimeoutError):
        await vllm_engine.run(_chat("Tell a story.", max_tokens=1500, ignore_eos=True), deadline_s=0.5)
    assert (await vllm_engine.health()).ready


@pytest.mark.parametrize("victim", ["api server", "engine core"])
async def test_client_can_go_on_after_a_restart_when_vllm_is_killed_mid_answer(
    vllm_engine: SharedEngine, victim: str
) -> None:
    await vllm_engine.start()
    restarts = (await vllm_engine.health()).restarts
    group = vllm_engine.engine.process_group
    assert group is not None
    long = _chat("Tell a very long story.", max_tokens=1500, ignore_eos=True)
    running = asyncio.create_task(vllm_engine.run(long, deadline_s=_DEADLINE_S))
    await _until_generating(vllm_engine)

    target = group if victim == "api server" else _engine_core(group)
    os.kill(target, signal.SIGKILL)

    with pytest.raises(EngineInterruptedError):
        await running
    with pytest.raises((EngineUnavailableError, EngineInterruptedError)):
        await vllm_engine.run(_chat("hello", max_tokens=1), deadline_s=5)
    await _until_left(vllm_engine, EngineState.READY)
    assert _members(group) == []
    await vllm_engine.start()
    health = await vllm_engine.health()
    assert (health.ready, health.restarts) == (True, restarts + 1)
    again = await vllm_engine.run(
        _chat("What is the capital of France?", max_tokens=24), deadline_s=_DEADLINE_S
    )
    assert "Paris" in again.response["choices"][0]["message"]["content"]


async def _until_generating(shared: SharedEngine) -> None:
    """Wait until vLLM itself counts a running request."""
    while (await shared.call(shared.engine.load())).running < 1:  # noqa: ASYNC110 - vLLM tells nobody
        await asyncio.sleep(0.02)


async def _until_left(shared: SharedEngine, state: EngineState) -> None:
    while (await shared.health()).state is state:  # noqa: ASYNC110 - the state of another thread's loop
        await asyncio.sleep(0.05)


def _members(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def _engine_core(group: int) -> int:
    for pid in _members(group):
        title = (Path("/proc") / str(pid) / "cmdline").read_bytes()
        if b"EngineCore" in title:
            return pid
    raise AssertionError(f"no engine core among {_members(group)}")
