"""Replayable offers on real vLLM: what a client got is what is committed to, and the noise replays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cocoon_sdk.protocol import JobKind
from cocoon_sdk.protocol.canonical import parse_canonical
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.protocol.vouchers import request_hash
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.verify.commitment import Commitment
from cocoon_sdk.verify.replay import replay
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.seeds import job_seed, request_seed
from cocoon_worker.engine.packaged_model import PACKAGED_MODEL
from tests.e2e.conftest import SharedEngine
from tests.helpers import session_client
from tests.helpers.session_bench import bench, offer, terms
from tests.helpers.session_client import Answer
from tests.helpers.worker_rig import Rig, record

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.xdist_group("vllm")]
OFFER = offer(
    terms(sampling=SamplingClass.REPLAYABLE),
    model=PACKAGED_MODEL,
    engine_model=PACKAGED_MODEL,
    max_context=2048,
    max_output_tokens=2048,
)
TOLD = 20
BODY: dict[str, Any] = {
    "prompt": "Once upon a time",
    "max_tokens": 40,
    "temperature": 0.9,
    "top_p": 0.95,
    "frequency_penalty": 0.3,
    "logprobs": TOLD,
    "return_tokens_as_token_ids": True,
    "return_token_ids": True,
}
_TOLERANCE = 0.001
"""Nat: log-probabilities travel as decimal numbers of single precision."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_client, "WAIT_S", 120.0)


def check_replays(commitment: Commitment, seen: list[dict[str, Any]]) -> None:
    """Draw each choice again out of the likeliest tokens; `seen` are the choices that the client got."""
    (choice,) = commitment.choices
    tokens = [token for part in seen for token in part["token_ids"]]
    tables = [table for part in seen for table in part["logprobs"]["top_logprobs"]]
    assert tokens == list(choice.tokens)
    assert len(tables) == len(tokens)
    assert choice.finish == seen[-1]["finish_reason"]
    prompt = np.array(seen[0]["prompt_token_ids"], dtype=np.int64)
    assert commitment.prompt_tokens == len(prompt)
    sampling = Sampling.from_json(commitment.sampling)
    surprises = 0
    for place, (token, table) in enumerate(zip(tokens, tables, strict=True)):
        told = {int(name.removeprefix("token_id:")): value for name, value in table.items()}
        again = replay(
            sampling,
            commitment.seed,
            place,
            np.array(list(told), dtype=np.int64),
            np.array(list(told.values())),
            prompt=prompt,
            output=np.array(tokens[:place], dtype=np.int64),
            unlisted=sorted(told.values())[-TOLD],
        )
        assert again.regret(token) <= _TOLERANCE
        assert choice.nats[place] == pytest.approx(told[token], abs=1 / 256)
        surprises += told[token] < max(told.values())
    assert surprises, "no choice was anything but the likeliest token"


def proof_of(answer: Answer) -> Commitment:
    assert answer.done is not None, answer.failed
    assert answer.proof is not None
    commitment = Commitment.from_json(parse_canonical(answer.proof.data))
    assert commitment.digest() == answer.done.proof_hash
    assert commitment.output_tokens == answer.done.output_tokens
    return commitment


async def test_client_can_replay_an_answer_of_a_session(vllm_engine: SharedEngine, tmp_path: Path) -> None:
    await vllm_engine.start()
    async with (
        bench(tmp_path, vllm_engine, offers=(OFFER,)) as worker,
        worker.client(proves=True).connected() as client,
    ):
        for stream in (True, False):
            answer = await client.end(await client.ask("completion", stream=stream, **BODY))
            commitment = proof_of(answer)
            events = [msgspec.json.decode(data) for data in answer.data]
            check_replays(commitment, [event["choices"][0] for event in events if event["choices"]])
            asked = request_hash("completion", answer.asked.body)
            assert commitment.seed == request_seed(client.ref, answer.asked.rid, asked)
            assert commitment.engine.startswith("vllm ")
            assert commitment.platform == "cpu"


async def test_client_can_see_nothing_but_its_answer_when_it_asks_for_no_tokens(
    vllm_engine: SharedEngine, tmp_path: Path
) -> None:
    await vllm_engine.start()
    async with (
        bench(tmp_path, vllm_engine, offers=(OFFER,)) as worker,
        worker.client(proves=True).connected() as client,
    ):
        question = [{"role": "user", "content": "What is the capital of France?"}]
        for stream in (True, False):
            answer = await client.end(await client.ask(messages=question, max_tokens=24, stream=stream))
            assert proof_of(answer).output_tokens > 1
            assert all(b'token_ids":[' not in data for data in answer.data)
            assert all(b'logprobs":{' not in data for data in answer.data)
            assert answer.text


async def test_client_can_replay_the_answer_of_a_job(
    vllm_engine: SharedEngine, tmp_path: Path, blockchain: Blockchain
) -> None:
    await vllm_engine.start()
    rig = Rig(tmp_path, blockchain)
    alice = rig.suite.client("alice")
    sold = {"engine_model": PACKAGED_MODEL, "sampling": "replayable", "max_context": 2048}
    nowhere = {"kind": "openai", "url": "http://127.0.0.1:1/v1"}  # the shared engine takes its place
    async with rig.service("bob", engine=vllm_engine, offer=sold, engine_settings=nowhere) as service:
        await service.settle()
        short = {**BODY, "max_tokens": 16}  # its log-probabilities have to fit into the message on chain
        packed = rig.pack(service, request=short, kind=JobKind.COMPLETION)
        job = rig.open_job(alice, service, "bob", packed=packed)
        await service.settle()
        submission = await rig.submitted("bob", job)
        assert submission is not None, record(service, job).reason
        result = job.open(submission[0], submission[1])
        assert result.proof is not None
        commitment = Commitment.from_json(result.proof)
        check_replays(commitment, [result.response["choices"][0]])
        facts = record(service, job).facts
        assert facts is not None
        domain = Domain(service.context.global_id, alice.address, facts.escrow_epoch)
        assert commitment.seed == job_seed(domain, job.id, packed.payload_hash)
