"""A session served by real vLLM: the stream, its counts, and a client that goes away in the middle."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from cocoon_sdk.protocol import session_wire as wire
from cocoon_worker.engine.base import EngineKind, EngineRequest
from cocoon_worker.engine.packaged_model import PACKAGED_MODEL
from tests.e2e.conftest import SharedEngine
from tests.helpers import session_client
from tests.helpers.session_bench import Bench, bench, offer, terms

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.xdist_group("vllm")]
OFFER = offer(
    terms(), model=PACKAGED_MODEL, engine_model=PACKAGED_MODEL, max_context=2048, max_output_tokens=2048
)
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_client, "WAIT_S", 120.0)


async def load(worker: Bench) -> tuple[int, int]:
    assert isinstance(worker.engine, SharedEngine)
    found = await worker.engine.call(worker.engine.engine.load())
    return found.running, found.waiting


async def test_client_can_stream_and_is_charged_by_vllms_own_counts(
    vllm_engine: SharedEngine, tmp_path: Path
) -> None:
    await vllm_engine.start()
    body = {"messages": QUESTION, "temperature": 0, "max_tokens": 24}
    whole = await vllm_engine.run(EngineRequest(EngineKind.CHAT, body), deadline_s=120)
    counted = await vllm_engine.count_tokens(EngineRequest(EngineKind.CHAT, body))
    async with bench(tmp_path, vllm_engine, offers=(OFFER,)) as worker, worker.client().connected() as client:
        answer = await client.end(await client.ask(**body))

        assert answer.text == whole.response["choices"][0]["message"]["content"]
        assert "Paris" in answer.text
        assert answer.done is not None
        assert answer.done.input_tokens == whole.usage.prompt_tokens == counted
        assert answer.done.output_tokens == whole.usage.completion_tokens
        # One token for each piece; the role and the last counts come in pieces of their own.
        tokens = [delta.output_tokens for delta in answer.deltas]
        assert tokens == sorted(tokens)
        usage = msgspec.json.decode(answer.data[-1])["usage"]
        assert usage["completion_tokens"] == answer.done.output_tokens
        unstreamed = await client.end(await client.ask(stream=False, **body))
        assert unstreamed.text == answer.text
        structured = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}}
        number = await client.end(await client.ask(**{**body, "response_format": structured}))
        assert number.text.strip("-").isdigit()


async def test_client_can_continue_an_answer_from_its_text(vllm_engine: SharedEngine, tmp_path: Path) -> None:
    await vllm_engine.start()
    async with bench(tmp_path, vllm_engine, offers=(OFFER,)) as worker, worker.client().connected() as client:
        messages = [*QUESTION, {"role": "assistant", "content": "The capital of France is"}]
        flags = {"continue_final_message": True, "add_generation_prompt": False}
        answer = await client.end(await client.ask(messages=messages, temperature=0, max_tokens=4, **flags))
        assert answer.text.lstrip().startswith("Paris")


@pytest.mark.parametrize("how", ["cancel", "cut"])
async def test_vllm_stops_when_the_client_goes_away(
    vllm_engine: SharedEngine, tmp_path: Path, how: str
) -> None:
    await vllm_engine.start()
    async with bench(tmp_path, vllm_engine, offers=(OFFER,)) as worker, worker.client().connected() as client:
        answer = await client.ask(messages=QUESTION, max_tokens=2000, ignore_eos=True)
        async with asyncio.timeout(120):
            while len(answer.deltas) < 3:
                answer.moved.clear()
                await answer.moved.wait()
        assert await load(worker) == (1, 0)
        if how == "cancel":
            await client.send(wire.Cancel(answer.asked.rid))
            await client.end(answer)
            assert answer.done is not None
            assert answer.done.cancelled
            assert 2 <= answer.done.output_tokens < 500
        else:
            await client.cut()
        for _ in range(100):
            if await load(worker) == (0, 0):
                return
            await asyncio.sleep(0.1)
        pytest.fail("vLLM goes on for nobody")
