"""Re-scoring over HTTP: what is asked of vLLM, what is believed of its answers, and every way it fails."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_sdk.verify.commitment import Choice, Commitment, prompt_hash
from cocoon_sdk.verify.endpoint import (
    EndpointLimits,
    VerifierAnswerError,
    VerifierRefusedError,
    VerifierTimeoutError,
    VerifierUnavailableError,
)
from cocoon_sdk.verify.rescoring import (
    MAX_TOKENS,
    TooManyTokensError,
    UnknownTokenError,
    Verifier,
    together,
    tokenizer_question,
)

KEY = "a-secret-key"
CHAT_BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


class FakeVllm:
    """Answers as vLLM does; `answers` override a path's answer, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.keys: list[str | None] = []
        self.answers: dict[str, list[Any]] = {}
        self.change: Callable[[dict[str, Any]], None] = lambda answer: None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append((request.path, body))
        self.keys.append(request.headers.get("Authorization"))
        if waiting := self.answers.get(request.path):
            answer = waiting.pop(0)
            if isinstance(answer, web.StreamResponse):
                return answer
            if callable(answer):
                made: web.StreamResponse = await answer(request)
                return made
        elif request.path == "/tokenize":
            answer = {"count": 3, "max_model_len": 64, "tokens": [5, 6, 7]}
        elif request.path == "/detokenize":
            answer = {"prompt": "".join(f" w{token}" for token in body["tokens"])}
        else:
            answer = completion(body)
            self.change(answer)
        return web.json_response(answer)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


def completion(body: dict[str, Any]) -> dict[str, Any]:
    rows: list[Any] = [None]
    for token in body["prompt"][1:]:
        row: dict[str, Any] = {str(rank): {"logprob": -0.5 * rank, "rank": rank} for rank in range(1, 4)}
        row.setdefault(str(token), {"logprob": -7.0, "rank": 50, "decoded_token": "x"})
        rows.append(row)
    return {"choices": [{"text": "y", "prompt_logprobs": rows, "finish_reason": "length"}]}


def commitment_of(*choices: Choice) -> Commitment:
    return Commitment(
        manifest=None,
        engine="vllm",
        platform="cpu",
        dtype="float32",
        prompt_tokens=1,
        prompt_hash=prompt_hash([1]),  # what the worker says about the prompt is not used
        max_tokens=5,
        sampling={},
        seed=bytes(16),
        choices=choices,
    )


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[FakeVllm, Verifier]]:
    fake = FakeVllm()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/{path:.*}", fake.handle)
    limits = EndpointLimits(timeout_s=options.pop("timeout_s", 10.0), attempts=3)
    top = options.pop("top", 3)
    async with TestServer(app) as server:
        url = str(server.make_url("/v1"))
        async with Verifier(
            url, KEY, "m", top=top, limits=limits, clock=ManualClock(0), **options
        ) as verifier:
            yield fake, verifier


async def test_verifier_asks_for_one_prefill_over_prompt_and_output() -> None:
    async with serving() as (fake, verifier):
        scored = await verifier.rescore([5, 6, 7], [2, 9])
    ((path, body),) = fake.asked
    assert path == "/v1/completions"
    assert body["prompt"] == [5, 6, 7, 2, 9]
    assert (body["max_tokens"], body["temperature"], body["prompt_logprobs"]) == (1, 0, 3)
    assert fake.keys == [f"Bearer {KEY}"]
    assert scored.tokens.tolist() == [2, 9]
    assert scored.logprobs.tolist() == [-1.0, -7.0]
    assert scored.ranks.tolist() == [2, 50]
    assert scored.top_tokens.tolist() == [[1, 2, 3], [1, 2, 3]]
    assert scored.top_logprobs.tolist() == [[-0.5, -1.0, -1.5]] * 2


async def test_verifier_asks_for_the_tokens_that_the_sampling_leaves_in_question() -> None:
    hot, cold, greedy = (CHAT_BODY | {"temperature": each} for each in (1.0, 0.3, 0))
    choice = Choice.of([9], [-1.0], "length")
    async with serving(top=40) as (fake, verifier):
        for body in (hot, cold, greedy):
            await verifier.examine("chat.completion", body, commitment_of(choice))
    assert [body["prompt_logprobs"] for path, body in fake.asked if "completions" in path] == [40, 15, 5]


async def test_verifier_examines_every_choice_under_the_question_itself() -> None:
    choices = tuple(Choice.of(tokens, [-1.0] * len(tokens), "length") for tokens in ([1, 2], [3], []))
    async with serving(end_tokens=[2]) as (fake, verifier):
        found = await verifier.examine("chat.completion", CHAT_BODY, commitment_of(*choices))
    assert found.prompt == (5, 6, 7)
    assert [len(choice.tokens) for choice in found.choices] == [2, 1, 0]
    assert found.texts == (" w1 w2", " w3", "")
    assert found.bodies == (" w1", "", "")
    assert found.end_tokens == frozenset({2})
    assert fake.paths.count("/v1/completions") == 2  # nothing to score of an empty choice


def test_tokenizer_is_asked_for_what_shapes_a_chat_prompt() -> None:
    body = {
        **CHAT_BODY,
        "temperature": 1,
        "tools": [{"type": "function"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "chat_template_kwargs": {"enable_thinking": False},
        "reasoning_effort": "low",
    }
    assert tokenizer_question("chat.completion", body) == {
        "messages": CHAT_BODY["messages"],
        "tools": [{"type": "function"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "chat_template_kwargs": {"enable_thinking": False, "reasoning_effort": "low"},
    }
    assert tokenizer_question("completion", {"prompt": "x"}) == {"prompt": "x", "add_special_tokens": True}
    assert tokenizer_question("completion", {"prompt": [4, 5]}) == (4, 5)


@pytest.mark.parametrize(
    ("kind", "body"),
    [("embedding", {"input": "x"}), ("completion", {"prompt": ["a", "b"]}), ("completion", {"prompt": []})],
)
def test_prompt_cannot_be_asked_for_when_the_request_has_none(kind: str, body: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        tokenizer_question(kind, body)


async def test_impossible_tokens_have_minus_infinity() -> None:
    async with serving() as (fake, verifier):
        fake.change = lambda answer: answer["choices"][0]["prompt_logprobs"][1]["9"].update(logprob=-9999.0)
        scored = await verifier.rescore([5], [9])
    assert scored.logprobs.tolist() == [-math.inf]


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer["choices"].append(answer["choices"][0]),
        lambda answer: answer["choices"][0].update(prompt_logprobs=None),
        lambda answer: answer["choices"][0]["prompt_logprobs"].pop(),
        lambda answer: answer["choices"][0]["prompt_logprobs"][1].pop("9"),
        lambda answer: answer["choices"][0]["prompt_logprobs"][1]["9"].update(logprob=1.0),
        lambda answer: answer["choices"][0]["prompt_logprobs"][1]["9"].update(logprob="x"),
        lambda answer: answer["choices"][0]["prompt_logprobs"][1]["9"].update(rank=0),
        lambda answer: answer["choices"][0]["prompt_logprobs"][1]["9"].update(rank=1 << 70),
        lambda answer: answer["choices"][0]["prompt_logprobs"][1].update({str(1 << 70): {"logprob": -1}}),
        lambda answer: answer["choices"][0]["prompt_logprobs"][1].update(x={"logprob": -1}),
        lambda answer: answer["choices"][0]["prompt_logprobs"][1].update(
            {str(n): {"logprob": -1} for n in range(20)}
        ),
        lambda answer: answer.update(choices={}),
        lambda answer: answer.update(padding="x" * (3 << 20)),
    ],
)
async def test_answer_is_refused_when_it_is_not_what_was_asked_for(
    change: Callable[[dict[str, Any]], None],
) -> None:
    async with serving() as (fake, verifier):
        fake.change = change
        with pytest.raises(VerifierAnswerError):
            await verifier.rescore([5], [9])


@pytest.mark.parametrize("tokens", [[], [-1], ["x"], None])
async def test_prompt_tokens_are_refused_when_they_are_none(tokens: Any) -> None:
    async with serving() as (fake, verifier):
        fake.answers["/tokenize"] = [{"tokens": tokens}]
        with pytest.raises(VerifierAnswerError):
            await verifier.prompt_tokens("completion", {"prompt": "x"})


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": {"message": text}}, status=status)


async def test_verifier_asks_again_only_while_the_endpoint_is_busy() -> None:
    async with serving() as (fake, verifier):
        fake.answers["/v1/completions"] = [_error(503, "starting"), _error(429, "busy")]
        assert (await verifier.rescore([5], [9])).ranks.tolist() == [50]
        assert len(fake.asked) == 3
        fake.answers["/v1/completions"] = [_error(503, "no") for _ in range(3)]
        with pytest.raises(VerifierUnavailableError, match="503"):
            await verifier.rescore([5], [9])


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (400, "maximum context length is 64", VerifierRefusedError),
        (404, "no such model", VerifierRefusedError),
        (400, "Token id 9 is out of vocabulary", UnknownTokenError),
        (401, "no", VerifierUnavailableError),
        (500, "broken", VerifierUnavailableError),
    ],
)
async def test_failure_has_a_name_and_is_not_repeated(status: int, text: str, error: type[Exception]) -> None:
    async with serving() as (fake, verifier):
        fake.answers["/v1/completions"] = [_error(status, f"{text} {KEY}")]
        with pytest.raises(error) as raised:
            await verifier.rescore([5], [9])
        assert len(fake.asked) == 1
        assert KEY not in str(raised.value)


async def test_verifier_gives_up_when_the_answer_takes_too_long() -> None:
    never = asyncio.Event()

    async def stall(request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with serving(timeout_s=0.2) as (fake, verifier):
        fake.answers["/v1/completions"] = [stall]
        with pytest.raises(VerifierTimeoutError):
            await verifier.rescore([5], [9])
        never.set()


async def test_broken_connection_is_not_tried_again_when_something_may_have_been_computed() -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with serving() as (fake, verifier):
        fake.answers["/v1/completions"] = [breaks]
        with pytest.raises(VerifierUnavailableError, match="broke"):
            await verifier.rescore([5], [9])
        assert len(fake.asked) == 1


async def test_connection_that_the_endpoint_may_be_closing_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports: list[int] = []

    async def noted(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        return web.json_response(completion(await request.json()))

    ahead = 0.0
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: time.monotonic() + ahead)
    async with serving() as (fake, verifier):
        fake.answers["/v1/completions"] = [noted] * 3
        await verifier.rescore([5], [9])
        await verifier.rescore([5], [9])
        ahead = 4.0  # vLLM closes after 5 s
        await verifier.rescore([5], [9])
    assert ports[0] == ports[1] != ports[2]


async def test_worker_cannot_switch_the_text_check_off_for_others_when_its_own_text_is_refused() -> None:
    async with serving() as (fake, verifier):
        fake.answers["/detokenize"] = [_error(400, "no such text")]
        assert await verifier.text([1]) is None
        assert await verifier.text([2]) == " w2"


async def test_verifier_cannot_flood_its_endpoint_when_an_answer_has_many_choices() -> None:
    arrived: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def slow(request: web.Request) -> web.StreamResponse:
        body, go = await request.json(), asyncio.Event()
        arrived.put_nowait(go)
        await go.wait()
        return web.json_response(completion(body))

    async with serving(at_once=2) as (fake, verifier):
        fake.answers["/v1/completions"] = [slow] * 5
        asked = [asyncio.ensure_future(verifier.rescore([5], [token])) for token in range(5)]
        for _ in range(2):
            pair = [await arrived.get(), await arrived.get()]
            assert fake.paths.count("/v1/completions") <= 4
            assert arrived.empty()
            for go in pair:
                go.set()
        (await arrived.get()).set()
        assert [int(each.tokens[0]) for each in await asyncio.gather(*asked)] == list(range(5))


async def test_prefills_end_when_one_of_them_fails() -> None:
    ended: list[int] = []

    async def one(number: int) -> None:
        if number == 1:
            raise VerifierUnavailableError("the endpoint is gone")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(VerifierUnavailableError):
        await together(one(number) for number in range(3))
    assert sorted(ended) == [0, 2]


async def test_time_does_not_run_for_a_prefill_that_waits_for_its_turn() -> None:
    async with serving(at_once=1) as (_, verifier):
        begun: list[bool] = []
        post = verifier._endpoint.post

        async def noted(path: str, body: dict[str, Any], *, max_bytes: int) -> bytes:
            begun.append(True)  # the time of a request begins here
            return await post(path, body, max_bytes=max_bytes)

        verifier._endpoint.post = noted  # type: ignore[method-assign]
        await verifier._places.acquire()
        waiting = asyncio.ensure_future(verifier.rescore([5], [9]))
        await asyncio.sleep(0)
        assert not begun
        verifier._places.release()
        await waiting
        assert begun


async def test_answer_beyond_every_endpoint_says_nothing_about_the_request() -> None:
    async with serving() as (fake, verifier):
        with pytest.raises(TooManyTokensError):
            await verifier.rescore([5] * MAX_TOKENS, [9])
        assert not fake.asked


async def test_verifier_is_unavailable_when_nobody_listens() -> None:
    async with serving() as (_, verifier):
        pass
    with pytest.raises(VerifierUnavailableError, match="cannot connect"):
        await verifier.rescore([5], [9])
    await verifier.close()


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("ftp://host/v1", None),
        ("http:///v1", None),
        ("http://user:word@host/v1", None),
        ("http://host/v1?key=1", None),
        ("http://host.example/v1", KEY),
        ("https://host.example/v1", "a\nb"),
    ],
)
def test_verifier_cannot_be_made_with_an_unusable_url_or_key(url: str, key: str | None) -> None:
    with pytest.raises(ConfigError):
        Verifier(url, key, "m")


async def test_key_is_not_shown() -> None:
    async with serving() as (_, verifier):
        assert KEY not in repr(verifier)


async def test_long_prompts_rows_are_not_built() -> None:
    # Rows of the prompt may hold anything that is JSON: only those of the output are read.
    async with serving() as (fake, verifier):

        def spoil(answer: dict[str, Any]) -> None:
            answer["choices"][0]["prompt_logprobs"][1] = json.loads('{"1": "not an entry"}')

        fake.change = spoil
        assert (await verifier.rescore([5, 6], [9])).ranks.tolist() == [50]
