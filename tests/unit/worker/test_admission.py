"""Admission: every reason to refuse, by table; and what an acceptance promises, by property."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.protocol import JobKind
from cocoon_sdk.types import Nano
from cocoon_worker.admission import (
    Accept,
    EscrowFacts,
    JobView,
    NeedPayload,
    PayloadFacts,
    Plan,
    Refusal,
    Refuse,
    Situation,
    StakeFacts,
    admit,
    build_request,
)
from cocoon_worker.config import Policy
from tests.unit.worker.samples import (
    FULL,
    GENUINE,
    NOW,
    job_view,
    offer,
    payload,
    situation,
    stake_facts,
)

POLICY = Policy()
MARGIN = POLICY.confirmation_s + POLICY.safety_s


def test_worker_can_accept_a_directed_job_without_claim_when_all_is_well() -> None:
    assert isinstance(admit(job_view(), GENUINE, stake_facts(), situation()), NeedPayload)
    decision = admit(job_view(), GENUINE, stake_facts(), situation(), payload())
    assert isinstance(decision, Accept)
    assert decision.plan is Plan.SUBMIT
    assert decision.request.output_tokens == 16
    assert decision.request.engine.body["model"] == "model-x"


def test_worker_can_claim_with_the_last_of_its_gas_and_submit_without_any_bond() -> None:
    """Bond, and what claim and submission cost, to the nanoTON; a directed job needs none of it."""
    most = {"claim_gas": Nano.ton("0.1"), "committed_gas": Nano.ton("0.3"), "gas": Nano.ton(1)}
    for more, fits in ((0, True), (1, False)):
        job = job_view(worker=0, bond=Nano.ton("0.6") + more)
        decision = admit(job, GENUINE, stake_facts(**most), situation(), payload())
        assert isinstance(decision, Accept) is fits
        assert fits or (isinstance(decision, Refuse) and decision.retry)
    directed = admit(job_view(bond=Nano.ton(9)), GENUINE, stake_facts(**most), situation(), payload())
    assert isinstance(directed, Accept)


FREE = {"input_price": "0", "output_price": "0", "minimum_price": "0"}
REFUSED: list[tuple[str, Refusal, dict[str, Any]]] = [
    ("forged escrow", Refusal.FORGED_ESCROW, {"escrow": EscrowFacts(genuine=False)}),
    ("no entry", Refusal.NO_SUCH_JOB, {"job": None}),
    ("claimed by another", Refusal.TAKEN, {"job": {"status": 1}}),
    ("for another worker", Refusal.NOT_FOR_US, {"job": {"worker": 78}}),
    ("old operator key", Refusal.KEY, {"job": {"operator_key": 1}}),
    ("other parameters", Refusal.PARAMS, {"job": {"params_hash": bytes(32)}}),
    ("a batch", Refusal.BATCH, {"job": {"items": 2}}),
    ("a batch of nothing", Refusal.BATCH, {"job": {"items": 0}}),
    ("no pay", Refusal.PRICE, {"job": {"price": Nano(0)}, "offer": FREE}),
    ("no time to claim", Refusal.LATE, {"job": {"deadline": NOW}}),
    ("no time to work", Refusal.WORK_PERIOD, {"job": {"work_period": 0}}),
    ("stake pending", Refusal.STAKE, {"stake": {"active": False}}),
    ("stake's key changed", Refusal.STAKE, {"stake": {"operator_key": 1}}),
    ("low gas", Refusal.GAS, {"stake": {"gas": Nano.ton("0.19")}}),
    ("engine down", Refusal.ENGINE, {"situation": {"engine_ready": False}}),
    ("busy", Refusal.BUSY, {"situation": {"jobs": POLICY.max_accepted}}),
    ("not lockable", Refusal.COLLATERAL, {"stake": {"lockable": Nano.ton("1.9")}}),
    ("promised already", Refusal.COLLATERAL, {"stake": {"committed": Nano.ton("8.1")}}),
    ("over max_locked", Refusal.COLLATERAL, {"stake": {"locked": Nano.ton(9)}}),
    ("daily lock used", Refusal.DAILY_LOCK, {"stake": {"bucket": Nano.ton("1.9")}}),
    ("locks full", Refusal.LOCKS, {"stake": {"locks": FULL}}),
    ("locks promised", Refusal.LOCKS, {"stake": {"locks": FULL - 1, "committed_locks": 1}}),
    ("unknown model", Refusal.MODEL, {"job": {"model_id": bytes(32)}}),
    ("old terms", Refusal.TERMS, {"job": {"terms_hash": bytes(32)}}),
    ("open jobs off", Refusal.OPEN_JOBS, {"job": {"worker": 0}, "offer": {"open_jobs": False}}),
    ("below our minimum", Refusal.PRICE, {"job": {"price": Nano.ton("0.009")}}),
    (
        "worst case over maximum",
        Refusal.PRICE,
        {"job": {"price": Nano.ton("0.0105")}, "payload": {"max_tokens": 600}},
    ),
    ("deadline near", Refusal.LATE, {"job": {"deadline": NOW + MARGIN - 1}}),
    (
        "work too long, not claimable",
        Refusal.LATE,
        {"job": {"deadline": NOW + 70, "collateral": Nano(0)}, "payload": {"max_tokens": 1000}},
    ),
    ("work period short", Refusal.WORK_PERIOD, {"job": {"worker": 0, "work_period": MARGIN}}),
    (
        "no gas for bond and submission",
        Refusal.GAS,
        {"job": {"worker": 0, "bond": Nano.ton("0.91")}, "stake": {"claim_gas": Nano.ton("0.1")}},
    ),
    (
        "gas promised to other claims",
        Refusal.GAS,
        {"job": {"worker": 0}, "stake": {"committed_gas": Nano.ton("0.99")}},
    ),
    (
        "escrow of another code",
        Refusal.ESCROW_PEERS,
        {"job": {"worker": 0}, "escrow": EscrowFacts(True, accepts_us=False)},
    ),
    ("other model in payload", Refusal.MODEL, {"payload": {"model": "model-y"}}),
    ("transcription", Refusal.KIND, {"payload": {"kind": JobKind.TRANSCRIPTION}}),
    ("batch kind", Refusal.KIND, {"payload": {"kind": JobKind.BATCH}}),
    ("forbidden field", Refusal.REQUEST, {"payload": {"n": 2}}),
    (
        "image part",
        Refusal.REQUEST,
        {"payload": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}},
    ),
    (
        "prompt beyond context",
        Refusal.CONTEXT,
        {"payload": {"messages": [{"role": "user", "content": "x" * 9000}]}},
    ),
]


def _case(changes: dict[str, Any]) -> tuple[JobView | None, EscrowFacts, StakeFacts, Situation, PayloadFacts]:
    selling = offer(**changes.get("offer", {}))
    job = changes.get("job", {})
    return (
        None if job is None else job_view(**job),
        changes.get("escrow", GENUINE),
        stake_facts(**changes.get("stake", {})),
        situation(**{"offers": [selling], **changes.get("situation", {})}),
        payload(**changes.get("payload", {})),
    )


@pytest.mark.parametrize(("reason", "changes"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_worker_cannot_accept_when_one_fact_speaks_against_it(
    reason: Refusal, changes: dict[str, Any]
) -> None:
    decision = admit(*_case(changes))
    assert isinstance(decision, Refuse)
    assert decision.reason is reason
    assert decision.why


def test_every_refusal_but_unreadable_payloads_has_a_row() -> None:
    elsewhere = {Refusal.NO_PAYLOAD, Refusal.PAYLOAD}
    assert {row[1] for row in REFUSED} == set(Refusal) - elsewhere


@pytest.mark.parametrize("reason", [Refusal.NO_PAYLOAD, Refusal.PAYLOAD])
def test_worker_cannot_accept_when_the_payload_could_not_be_opened(reason: Refusal) -> None:
    decision = admit(job_view(), GENUINE, stake_facts(), situation(), PayloadFacts(None, reason, "because"))
    assert decision == Refuse(reason, "because")


def test_worker_can_claim_first_when_the_work_does_not_fit_the_claim_deadline() -> None:
    job = job_view(deadline=NOW + MARGIN + 20)
    decision = admit(job, GENUINE, stake_facts(), situation(), payload(max_tokens=1000))
    assert isinstance(decision, Accept)
    assert decision.plan is Plan.CLAIM


def test_worker_can_claim_an_open_job_when_its_payload_is_at_hand() -> None:
    job = job_view(worker=0, operator_key=0)
    decision = admit(job, GENUINE, stake_facts(), situation(), payload())
    assert isinstance(decision, Accept)
    assert decision.plan is Plan.OPEN_CLAIM


@pytest.mark.parametrize("temperature", [None, 0, 0.0])
def test_greedy_offer_can_serve_when_no_other_temperature_is_asked(temperature: float | None) -> None:
    greedy = offer(sampling="greedy")
    asked: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    request = build_request(greedy, payload(**asked))
    assert not isinstance(request, Refuse)
    assert request.engine.body["temperature"] == 0
    refused = build_request(greedy, payload(temperature=0.7))
    assert isinstance(refused, Refuse)
    assert refused.reason is Refusal.REQUEST


@pytest.mark.parametrize("sampling", ["greedy", "replayable"])
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"include_reasoning": False}, "include_reasoning"),
        ({"vllm_xargs": {"cocoon_seed": "0" * 32}}, "vllm_xargs"),
        ({"top_p": 0}, "top_p"),
    ],
)
def test_worker_cannot_accept_what_its_commitment_would_not_show(
    sampling: str, fields: dict[str, Any], named: str
) -> None:
    refused = build_request(offer(sampling=sampling), payload(**fields))
    assert isinstance(refused, Refuse)
    assert refused.reason is Refusal.REQUEST
    assert named in refused.why


def test_worker_can_serve_hidden_reasoning_when_nothing_is_promised() -> None:
    assert not isinstance(build_request(offer(), payload(include_reasoning=False)), Refuse)
    assert not isinstance(build_request(offer(), payload(vllm_xargs={"other": 1})), Refuse)
    assert isinstance(build_request(offer(), payload(vllm_xargs={"cocoon_seed": "0" * 32})), Refuse)
    assert isinstance(build_request(offer(sampling="replayable"), payload(vllm_xargs={"other": 1})), Refuse)


def test_completion_cannot_echo_its_prompt_when_tokens_are_told() -> None:
    plain = payload(JobKind.COMPLETION).plain
    assert plain is not None
    echoing = plain.model_copy(update={"request": {"prompt": "x", "echo": True, "max_tokens": 4}})
    assert not isinstance(build_request(offer(), PayloadFacts(echoing)), Refuse)
    assert isinstance(build_request(offer(sampling="greedy"), PayloadFacts(echoing)), Refuse)


def test_token_bound_can_count_token_ids_and_embeddings() -> None:
    ids = build_request(offer(), PayloadFacts(payload(JobKind.COMPLETION, prompt=[1, 2, 3]).plain))
    assert isinstance(ids, Refuse)  # a completion has no `messages`
    plain = payload(JobKind.COMPLETION).plain
    assert plain is not None
    completion = plain.model_copy(update={"request": {"prompt": [1, 2, 3], "max_tokens": 4}})
    request = build_request(offer(), PayloadFacts(completion))
    assert not isinstance(request, Refuse)
    assert request.input_tokens >= 3
    embedding = plain.model_copy(update={"kind": JobKind.EMBEDDING, "request": {"input": ["ab", "cdef"]}})
    request = build_request(offer(), PayloadFacts(embedding))
    assert not isinstance(request, Refuse)
    assert (request.output_tokens, request.input_tokens >= 3) == (0, True)


@given(
    deadline=st.integers(-100, 5000),
    work_period=st.integers(1, 5000),
    price=st.integers(0, 10**9),
    collateral=st.integers(0, 3 * 10**9),
    lockable=st.integers(0, 3 * 10**9),
    committed=st.integers(0, 3 * 10**9),
    bucket=st.integers(0, 3 * 10**9),
    queue_s=st.integers(0, 4000),
    max_tokens=st.integers(1, 1024),
    directed=st.booleans(),
)
def test_acceptance_can_be_kept_when_estimates_hold(
    deadline: int,
    work_period: int,
    price: int,
    collateral: int,
    lockable: int,
    committed: int,
    bucket: int,
    queue_s: int,
    max_tokens: int,
    directed: bool,
) -> None:
    job = job_view(
        deadline=NOW + deadline,
        work_period=work_period,
        price=Nano(price),
        collateral=Nano(collateral),
        worker=77 if directed else 0,
    )
    stake = stake_facts(lockable=Nano(lockable), committed=Nano(committed), bucket=Nano(bucket))
    now = situation(queue_s=queue_s)
    decision = admit(job, GENUINE, stake, now, payload(max_tokens=max_tokens))
    assert isinstance(decision, Accept | Refuse)
    if isinstance(decision, Refuse):
        assert decision.why
        return
    busy_s = queue_s + decision.request.run_s + MARGIN
    assert decision.request.worst_price <= price
    if decision.plan is Plan.SUBMIT:
        assert directed
        assert busy_s <= deadline
    else:
        assert collateral > 0
        assert deadline >= MARGIN
        assert busy_s <= work_period
    if collateral:
        assert collateral + committed <= min(lockable, bucket)


@given(st.text(max_size=200), st.integers(1, 1024))
def test_worst_price_can_never_be_below_the_true_price(text: str, output: int) -> None:
    facts = payload(messages=[{"role": "user", "content": text}], max_tokens=output)
    request = build_request(replace(offer(), bytes_per_token=1.0), facts)
    if isinstance(request, Refuse):
        assert request.reason is Refusal.CONTEXT
        return
    # One token per byte is the most that any byte-level tokenizer makes.
    assert request.input_tokens >= len(text.encode("utf-8", "surrogatepass"))
    assert request.output_tokens == output
