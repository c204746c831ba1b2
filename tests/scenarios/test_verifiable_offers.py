"""Verifiable offers with the SDK and real workers on one sandbox: what a client got is what is committed to.

The engine behind the worker is a stand-in that speaks vLLM's fields and draws our noise (`vllm_double`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cocoon_sdk.client.sessions import CHAT, Bill, InferenceRequest, Outcome
from cocoon_sdk.errors import CocoonError, ConfigError
from cocoon_sdk.protocol.canonical import parse_canonical
from cocoon_sdk.protocol.session_wire import Proof
from cocoon_sdk.protocol.signing import Domain, account_id
from cocoon_sdk.protocol.vouchers import NO_PROOF, request_hash
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.commitment import Choice, Commitment, prompt_hash
from cocoon_sdk.verify.replay import replay
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.seeds import job_seed, request_seed
from cocoon_worker.main import make_engine
from cocoon_worker.records import JobKey
from cocoon_worker.service import WorkerService
from cocoon_worker.sessions.proving import Proving
from tests.helpers.audit_town import cheap_table
from tests.helpers.sdk import MODEL_NAME, Town, chat
from tests.helpers.vllm_double import MODEL, VllmDouble, vllm_double
from tests.helpers.worker_rig import Rig

PRICES = {"input_price": "0.1", "output_price": "10", "minimum_price": "0"}
HOT: dict[str, Any] = {"temperature": 1.5, "max_tokens": 30}


@pytest.fixture
async def town(blockchain: Blockchain) -> AsyncIterator[Town]:
    made = Town(blockchain)
    yield made
    await made.close()


@pytest.fixture
async def double() -> AsyncIterator[VllmDouble]:
    # Its answers are long: seeds come from fresh keys, and in a short answer the noise may change nothing.
    async with vllm_double(table=cheap_table) as running:
        yield running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Works:
    """Real workers, made of their settings, in front of the double."""

    def __init__(self, town: Town, folder: Path, double: VllmDouble) -> None:
        self.rig = Rig(folder, town.chain, town.adapter)
        self.rig.suite.model_id = town.model.model_id
        self.double = double
        self.stack = AsyncExitStack()

    async def open(self, name: str, sampling: str = "replayable") -> WorkerService:
        rig, port = self.rig, free_port()
        sold = {**PRICES, "model": "small", "engine_model": MODEL, "sampling": sampling}
        engine = {"kind": "openai", "url": self.double.url, "platform": "cpu", "dtype": "float32"}
        config = rig.config(name, endpoint=True, offer=sold, engine_settings=engine)
        assert config.endpoint is not None
        endpoint = {"port": port, "public_url": f"http://127.0.0.1:{port}"}
        config = config.model_copy(update={"endpoint": config.endpoint.model_copy(update=endpoint)})
        service = WorkerService(
            config, rig.chain, make_engine(config), rig.clock, operator=rig.account(name).key
        )
        await self.stack.enter_async_context(service)
        await service.settle()
        return service


@pytest.fixture
async def works(town: Town, tmp_path: Path, double: VllmDouble) -> AsyncIterator[Works]:
    made = Works(town, tmp_path, double)
    async with made.stack:
        yield made


def check_replays(commitment: Commitment, double: VllmDouble) -> None:
    """Draw every choice again from what the model says, and the committed seed and parameters alone."""
    prompt, tokens, best, finish = double.generate(double.bodies[-1])
    (choice,) = commitment.choices
    assert (list(choice.tokens), choice.finish) == (tokens, finish)
    assert (commitment.prompt_tokens, commitment.prompt_hash) == (len(prompt), prompt_hash(prompt))
    assert (commitment.engine, commitment.platform, commitment.dtype) == ("vllm 0.32.0", "cpu", "float32")
    sampling = Sampling.from_json(commitment.sampling)
    for place, token in enumerate(choice.tokens):
        table = double.table(prompt + tokens[:place])
        again = replay(
            sampling,
            commitment.seed,
            place,
            np.arange(len(table)),
            table,
            prompt=np.array(prompt),
            output=np.array(tokens[:place], dtype=np.int64),
        )
        assert again.regret(token) == 0
        assert choice.nats[place] == pytest.approx(table[token], abs=1 / 256)
    assert tokens != best, "the noise changed nothing, so nothing was tested"


@pytest.mark.parametrize("how", ["stream", "whole"])
async def test_client_can_replay_an_answer_of_a_session(
    town: Town, works: Works, tmp_path: Path, how: str
) -> None:
    await works.open("bob")
    cocoon = await town.client(database=tmp_path / "client.sqlite")
    stream = how == "stream"
    body = msgspec.json.encode({"model": MODEL_NAME, "messages": chat("one two three"), **HOT})
    request = InferenceRequest(kind=CHAT, model=MODEL_NAME, body=body, stream=stream)
    if stream:
        async with cocoon.inference.stream(request) as answer:
            text = "".join(said(msgspec.json.decode(event)) for event in [each async for each in answer])
            bill = answer.bill
    else:
        raw, bill = await cocoon.inference.answer(request)
        text = msgspec.json.decode(raw)["choices"][0]["message"]["content"]
    (attempt,) = bill.attempts
    assert attempt.outcome is Outcome.DONE
    assert attempt.receipt is not None
    commitment = attempt.receipt.commitment
    assert commitment is not None
    assert commitment.digest() == attempt.receipt.receipt.proof_hash
    check_replays(commitment, works.double)
    assert text == works.double._text(list(commitment.choices[0].tokens))
    sent = msgspec.json.encode(msgspec.json.decode(body) | {"model": "small"})
    seed = request_seed(
        attempt.receipt.session, attempt.receipt.receipt.rid, attempt.receipt.receipt.request_hash
    )
    assert commitment.seed == seed
    assert attempt.receipt.receipt.request_hash == request_hash(CHAT, sent)
    await cocoon.inference.close()


def said_by_user(text: str) -> Any:
    """Return messages in whatever type the method wants."""
    return chat(text)


def said(event: Any) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])


async def test_client_can_replay_the_answer_of_a_job(town: Town, works: Works) -> None:
    service = await works.open("bob")
    cocoon = await town.client()
    job = await cocoon.jobs.create(
        model=MODEL_NAME, request={"messages": chat("one two three"), **HOT}, kind=CHAT
    )
    await service.settle()
    result = await job.result(timeout=30)
    proof = result.plain.proof
    assert proof is not None
    commitment = Commitment.from_json(proof)
    check_replays(commitment, works.double)
    assert result.text == works.double._text(list(commitment.choices[0].tokens))
    record = service.journal.job(JobKey(account_id(cocoon.escrow.address), job.id))
    assert record is not None
    assert record.facts is not None
    domain = Domain(service.context.global_id, cocoon.escrow.address, record.facts.escrow_epoch)
    paid_for = await job.payload()
    assert commitment.seed == job_seed(domain, job.id, paid_for.payload_hash)
    assert commitment.manifest == town.model.model_id


async def test_client_can_buy_greedy_answers_from_an_engine_without_sampler(
    town: Town, works: Works, tmp_path: Path
) -> None:
    works.double.sampler = False
    await works.open("bob", "greedy")
    cocoon = await town.client(database=tmp_path / "client.sqlite")
    answer = await cocoon.chat.completions.create(
        model=MODEL_NAME, messages=said_by_user("one two three"), temperature=0, max_tokens=30
    )
    _, tokens, best, _ = works.double.generate(works.double.bodies[-1])
    assert tokens == best
    assert answer.choices[0].message.content == works.double._text(tokens)
    await cocoon.inference.close()


async def test_worker_cannot_offer_replayable_answers_of_an_engine_without_sampler(
    works: Works,
) -> None:
    works.double.sampler = False
    with pytest.raises(ConfigError, match="--logits-processors"):
        await works.open("bob")


@pytest.mark.parametrize("lie", ["none", "tokens", "seed", "digest"])
async def test_worker_cannot_be_believed_when_its_commitment_is_not_what_it_signed(
    town: Town, works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    honest = Proving.frame

    def frame(self: Proving) -> Proof | None:
        proof = honest(self)
        assert proof is not None
        if lie == "none":
            return None
        commitment = Commitment.from_json(parse_canonical(proof.data))
        (choice,) = commitment.choices
        if lie == "tokens":
            choice = Choice(tokens=choice.tokens[1:], logprobs=choice.logprobs[1:], finish=choice.finish)
            self._commitment = commitment.model_copy(update={"choices": (choice,)})
        elif lie == "seed":
            self._commitment = commitment.model_copy(update={"seed": bytes(16)})
        else:
            return Proof(proof.rid, commitment.model_copy(update={"platform": "cuda"}).to_bytes())
        return Proof(proof.rid, self._commitment.to_bytes())

    def proof_hash(self: Proving) -> Hash:
        self.frame()
        return NO_PROOF if self._commitment is None else self._commitment.digest()

    monkeypatch.setattr(Proving, "frame", frame)
    monkeypatch.setattr(Proving, "proof_hash", property(proof_hash))
    await works.open("bob")
    cocoon = await town.client(database=tmp_path / "client.sqlite")
    body = msgspec.json.encode({"messages": chat("one two three"), **HOT})
    bill: asyncio.Future[Bill] = asyncio.get_running_loop().create_future()
    request = InferenceRequest(kind=CHAT, model=MODEL_NAME, body=body, stream=False)
    with pytest.raises(CocoonError, match="commit"):
        await cocoon.inference.answer(request, on_bill=bill.set_result)
    (attempt,) = (await bill).attempts
    assert attempt.outcome is Outcome.FAILED
    assert "not honest" in attempt.why
    await cocoon.inference.close()
