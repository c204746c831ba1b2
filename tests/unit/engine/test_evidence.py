"""Evidence out of a vLLM's answers: complete, and what is left is the answer asked for, to the byte."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.errors import ConfigError, EngineError
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_worker.engine.answers import parse_version
from cocoon_worker.engine.base import (
    EngineAnswerError,
    EngineChunk,
    EngineIdentity,
    EngineKind,
    EngineRequest,
    Evidence,
)
from cocoon_worker.engine.evidence import EvidenceTaker
from cocoon_worker.engine.openai import OpenAIEngine
from tests.helpers.vllm_double import END, MODEL, VllmDouble, logprobs_after, vllm_double

CHAT = EngineRequest(EngineKind.CHAT, {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 40})
COMPLETION = EngineRequest(EngineKind.COMPLETION, {"prompt": "hello", "max_tokens": 40})
ASKED: list[dict[str, Any]] = [
    {},
    {"logprobs": True, "top_logprobs": 3},
    {"return_token_ids": True},
    {"logprobs": True, "return_token_ids": True},
]


@asynccontextmanager
async def engine_of(double: VllmDouble, **options: Any) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(double.url, **options)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def chunks_of(engine: OpenAIEngine, request: EngineRequest) -> list[EngineChunk]:
    async with aclosing(engine.stream(request, deadline_s=10)) as chunks:
        return [chunk async for chunk in chunks]


def with_fields(request: EngineRequest, fields: dict[str, Any]) -> EngineRequest:
    fields = dict(fields)
    if request.kind is EngineKind.COMPLETION:
        fields.pop("top_logprobs", None)
        fields |= {"logprobs": 2} if fields.pop("logprobs", False) else {}
    return replace(request, body={**request.body, **fields})


def proving(request: EngineRequest) -> EngineRequest:
    return replace(request, evidence=True)


def check(evidence: Evidence | None, double: VllmDouble) -> Evidence:
    """Compare evidence with what the double generates for its last body."""
    assert evidence is not None
    prompt, tokens, _, finish = double.generate(double.bodies[-1])
    assert (evidence.prompt, evidence.tokens, evidence.finish) == (prompt, tokens, finish)
    expected = [logprobs_after(prompt + tokens[:place])[token] for place, token in enumerate(tokens)]
    assert evidence.logprobs == pytest.approx(expected)
    return evidence


@pytest.mark.parametrize("fields", ASKED)
@pytest.mark.parametrize("request_", [CHAT, COMPLETION], ids=["chat", "completion"])
async def test_client_can_read_the_same_bytes_when_evidence_is_taken(
    request_: EngineRequest, fields: dict[str, Any]
) -> None:
    request = with_fields(request_, fields)
    async with vllm_double() as double, engine_of(double) as engine:
        plain, whole = await chunks_of(engine, request), await engine.run(request, deadline_s=10)
        proved = await chunks_of(engine, proving(request))
        assert [chunk._replace(evidence=None) for chunk in proved] == plain
        evidence = check(proved[-1].evidence, double)
        assert all(chunk.evidence is evidence for chunk in proved)
        assert END in evidence.tokens or evidence.finish == "length"
        proved_whole = await engine.run(proving(request), deadline_s=10)
        assert (proved_whole.raw, proved_whole.usage) == (whole.raw, whole.usage)
        check(proved_whole.evidence, double)
        assert (whole.evidence, plain[-1].evidence) == (None, None)


@pytest.mark.parametrize("request_", [CHAT, COMPLETION], ids=["chat", "completion"])
async def test_client_can_read_the_same_answer_when_the_engine_spaces_its_json(
    request_: EngineRequest,
) -> None:
    async with vllm_double(spaced=True) as double, engine_of(double) as engine:
        plain = await chunks_of(engine, request_)
        proved = await chunks_of(engine, proving(request_))
        assert [json.loads(chunk.data) for chunk in proved] == [json.loads(chunk.data) for chunk in plain]
        check(proved[-1].evidence, double)
        whole = await engine.run(proving(request_), deadline_s=10)
        assert whole.response == (await engine.run(request_, deadline_s=10)).response


async def test_client_can_read_the_same_events_when_some_came_for_their_tokens_alone() -> None:
    async with vllm_double(hidden=lambda place: place % 3 == 1) as double, engine_of(double) as engine:
        plain = await chunks_of(engine, CHAT)
        proved = await chunks_of(engine, proving(CHAT))
        assert [chunk.data for chunk in proved] == [chunk.data for chunk in plain]
        check(proved[-1].evidence, double)
        assert len(plain) < len(double.events(double.bodies[-1]))
        # Who asks for tokens gets their events.
        asking = with_fields(CHAT, {"return_token_ids": True})
        assert [chunk.data for chunk in await chunks_of(engine, proving(asking))] == [
            chunk.data for chunk in await chunks_of(engine, asking)
        ]


async def test_reader_can_have_the_evidence_so_far_when_it_stops_early() -> None:
    async with vllm_double() as double, engine_of(double) as engine:
        request = proving(with_fields(COMPLETION, {"ignore_eos": True}))
        async with aclosing(engine.stream(request, deadline_s=10)) as chunks:
            async for chunk in chunks:
                if chunk.completion_tokens == 5:
                    break
        assert chunk.evidence is not None
        assert chunk.evidence.tokens[:5] == double.generate(double.bodies[-1])[1][:5]
        assert len(chunk.evidence.logprobs) >= 5


@pytest.mark.parametrize("request_", [CHAT, COMPLETION], ids=["chat", "completion"])
async def test_engine_cannot_answer_when_it_tells_no_tokens(request_: EngineRequest) -> None:
    async with vllm_double(evidence=False) as double, engine_of(double) as engine:
        with pytest.raises(EngineAnswerError, match="names 0 and 0 with 0"):
            await engine.run(proving(request_), deadline_s=10)
        with pytest.raises(EngineAnswerError, match="names 0 and 0 with 0"):
            await chunks_of(engine, proving(request_))


async def test_engine_cannot_answer_when_its_tokens_are_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VllmDouble, "_ids", lambda self, body, tokens: ["x"])
    async with vllm_double() as double, engine_of(double) as engine:
        with pytest.raises(EngineAnswerError, match="token ids have another form"):
            await engine.run(proving(CHAT), deadline_s=10)


async def test_embeddings_cannot_have_evidence_since_they_have_no_tokens() -> None:
    async with vllm_double() as double, engine_of(double) as engine:
        with pytest.raises(EngineError):  # the double embeds nothing; what it was asked counts
            await engine.run(
                EngineRequest(EngineKind.EMBEDDING, {"input": [1]}, evidence=True), deadline_s=10
            )
        assert "return_token_ids" not in double.bodies[-1]


_texts = st.text(max_size=30) | st.sampled_from(
    [
        '"token_ids":[1]',
        '\\"token_ids\\":[1],',
        '"logprobs":{},"finish_reason":',
        ',"finish_reason":',
        '"delta":{},',
        "}]",
    ]
)
_ids = st.lists(st.integers(0, (1 << 31) - 1), min_size=1, max_size=4)


@given(text=_texts, tokens=_ids, prompt=st.none() | _ids, chat=st.booleans(), spaced=st.booleans())
def test_no_text_can_change_what_is_left_of_an_event(
    text: str, tokens: list[int], prompt: list[int] | None, chat: bool, spaced: bool
) -> None:
    entry = {
        "token": text,
        "logprob": -0.5,
        "bytes": list(text.encode("utf-8", "replace")),
        "top_logprobs": [],
    }
    told: dict[str, Any] = {"content": [entry] * len(tokens)}
    if not chat:
        told = {
            "token_logprobs": [-0.5] * len(tokens),
            "tokens": [text] * len(tokens),
            "top_logprobs": [{text: -1}],
        }

    def event(logprobs: Any, ids: Any, prompt_ids: Any) -> bytes:
        choice: dict[str, Any] = {"index": 0} | ({"delta": {"content": text}} if chat else {"text": text})
        choice |= {"logprobs": logprobs, "finish_reason": None, "token_ids": ids}
        beside = {"prompt_token_ids": prompt_ids}
        value = {"model": text, "choices": [choice if chat else choice | beside], **(beside if chat else {})}
        if spaced:
            return json.dumps(value).encode()
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")

    kind = EngineKind.CHAT if chat else EngineKind.COMPLETION
    taker = EvidenceTaker(kind, {}, EngineIdentity())
    chunk = taker.step(EngineChunk(event(told, tokens, prompt), 1, None, 1, False))
    assert chunk is not None
    plain = event(None, None, None)
    assert json.loads(chunk.data) == json.loads(plain)
    if not spaced:
        assert chunk.data == plain
    assert chunk.evidence is not None
    assert (chunk.evidence.tokens, chunk.evidence.prompt) == (tokens, prompt or [])
    assert chunk.evidence.logprobs == [-0.5] * len(tokens)


# -- what an endpoint can promise ------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [SamplingClass.GREEDY, SamplingClass.REPLAYABLE])
async def test_endpoint_can_be_offered_when_it_keeps_the_promise(sampling: SamplingClass) -> None:
    told = EngineIdentity(platform="cpu", dtype="bfloat16")
    async with vllm_double() as double, engine_of(double, sampling=sampling, identity=told) as engine:
        assert len(double.bodies) == 1
        assert double.bodies[0]["model"] == MODEL
        result = await engine.run(proving(CHAT), deadline_s=10)
        assert result.evidence is not None
        assert result.evidence.maker == EngineIdentity("vllm 0.32.0", "cpu", "bfloat16")


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"version": 1}', '{"version": "é"}'.encode(), b"\xff"])
def test_version_in_another_form_is_no_version(answer: bytes) -> None:
    assert parse_version(answer) == ""
    assert parse_version(b'{"version": "0.32.0"}') == "vllm 0.32.0"


async def test_endpoint_is_not_probed_when_nothing_is_promised() -> None:
    async with vllm_double(sampler=False) as double, engine_of(double):
        assert double.bodies == []


async def test_endpoint_cannot_be_offered_as_replayable_when_it_has_no_sampler() -> None:
    async with vllm_double(sampler=False) as double:
        engine = OpenAIEngine(double.url, sampling=SamplingClass.REPLAYABLE)
        with pytest.raises(ConfigError, match=r"--logits-processors cocoon_worker\.engine\.sampler"):
            await engine.start()
        assert engine.models() == ()
        async with engine_of(double, sampling=SamplingClass.GREEDY):
            pass


async def test_endpoint_cannot_be_offered_as_replayable_when_it_draws_other_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.helpers import vllm_double as module

    async with vllm_double() as double:
        monkeypatch.setattr(module, "NOISE_UNIT", module.NOISE_UNIT * 1.5)
        with pytest.raises(ConfigError, match="our sampler"):
            await OpenAIEngine(double.url, sampling=SamplingClass.REPLAYABLE).start()


@pytest.mark.parametrize("sampling", [SamplingClass.GREEDY, SamplingClass.REPLAYABLE])
async def test_endpoint_cannot_be_offered_when_it_tells_no_tokens(sampling: SamplingClass) -> None:
    async with vllm_double(evidence=False) as double:
        with pytest.raises(ConfigError, match="does not tell how it chose"):
            await OpenAIEngine(double.url, sampling=sampling).start()
