"""Who checks answers for money: neither offers nor claims choose it, and what a check may cost is bounded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from pytoniq_core import Address

from cocoon_sdk.client.auditing import AuditPolicy, UncheckableError
from cocoon_sdk.client.auditing.case import AuditCase
from cocoon_sdk.client.auditing.examining import ResultExaminer, judged
from cocoon_sdk.client.auditing.lookers import LOOKS, PaidLookers, look_of_worker, most_of_look
from cocoon_sdk.client.auditing.records import Audited, AuditOutcome, AuditSubject
from cocoon_sdk.client.discovery import WorkerList, WorkerOffer
from cocoon_sdk.client.sessions.values import Bill, InferenceRequest
from cocoon_sdk.protocol.pricing import Tariff, Usage
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.commitment import Choice, Commitment, prompt_hash
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.structure import FaultKind
from tests.helpers.audit_town import thresholds
from tests.helpers.scripted_session_worker import DOMAIN, ENTRY, MODEL, ScriptedSessionWorker
from tests.helpers.vllm_double import END, VllmDouble, decoded, logprobs_after, prompt_of

SEED = bytes(16)
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Say something long."}], "temperature": 0}
MUCH = Nano.ton("0.01")


def account(name: str) -> Address:
    return Address((0, hashlib.sha256(name.encode()).digest()))


def offer(name: str, owner: str = "", *, staked: str = "5", price: str = "0.1", **size: Any) -> WorkerOffer:
    made = ScriptedSessionWorker(
        name, port=1, input_price=Nano.ton(price), output_price=Nano.ton(price)
    ).offer
    genuine = replace(made.worker, owner=account(owner or name))
    sold = made.offer.model_copy(update=size)
    return replace(made, worker=genuine, lockable=Nano.ton(staked), offer=sold)


def case_of(*, claimed: int | None = None, text: str = "", limit: int = 8, **changes: Any) -> AuditCase:
    """Return an honest answer of the double's model, but for the prompt tokens that it claims."""
    body = {**BODY, "max_tokens": limit}
    if text:
        body["messages"] = [{"role": "user", "content": text}]
    prompt = prompt_of(body)
    tokens: list[int] = []
    while len(tokens) < limit and END not in tokens:
        tokens.append(int(logprobs_after(prompt + tokens).argmax()))
    finish = "stop" if tokens[-1] == END else "length"
    told = [float(logprobs_after(prompt + tokens[:place])[token]) for place, token in enumerate(tokens)]
    count = len(prompt) if claimed is None else claimed
    shown = decoded([token for token in tokens if token != END])
    commitment = Commitment(
        manifest=None,
        engine="vllm 0.32.0",
        platform="cpu",
        dtype="float32",
        prompt_tokens=count,
        prompt_hash=prompt_hash(prompt),
        sampling=Sampling.of_request(body).to_json(),
        seed=SEED,
        max_tokens=limit,
        choices=(Choice.of(tokens, told, finish),),
    )
    usage = Usage(input_tokens=count, output_tokens=len(tokens))
    response = {
        "choices": [{"message": {"content": shown}, "finish_reason": finish}],
        "usage": {"prompt_tokens": count, "completion_tokens": len(tokens)},
    }
    subject = AuditSubject(
        Audited.REQUEST, DOMAIN, 1, 1, offer("checked").address, ENTRY.model_id, MODEL, Nano(1000)
    )
    terms = offer("checked").terms.model_copy(update={"sampling": SamplingClass.REPLAYABLE})
    case = AuditCase(
        subject=subject,
        kind="chat.completion",
        body=body,
        response=response,
        usage=usage,
        terms=terms,
        calibration=thresholds().digest(),
        owner=account("checked owner"),
        seed=SEED,
        commitment=commitment,
        limits=(256, 4096),
    )
    return replace(case, **changes)


class Market:
    """Who offers, and what they answer: the double's model, for its price."""

    def __init__(self, *offers: WorkerOffer) -> None:
        self.offers = offers
        self.double = VllmDouble()
        self.asked: list[tuple[WorkerOffer, dict[str, Any]]] = []

    async def list(self, model: bytes) -> WorkerList:
        return WorkerList(ENTRY, self.offers, (), 1)

    async def ask(
        self, request: InferenceRequest, *, on_bill: Any = None, among: Any = None
    ) -> tuple[bytes, Bill]:
        (asked,) = [each for each in self.offers if among(each)]
        body = msgspec.json.decode(request.body)
        self.asked.append((asked, body))
        answer = self.double.whole(body)
        usage = answer["usage"]
        cost = Nano(Tariff(asked.terms).price(usage["prompt_tokens"], 0, usage["completion_tokens"]))
        bill = Bill(cost=cost)
        assert request.max_price is not None
        assert cost <= request.max_price
        on_bill(bill)
        return msgspec.json.encode(answer), bill

    def lookers(self, *draws: float, **policy: Any) -> PaidLookers:
        numbers = iter(draws)
        made = AuditPolicy(thresholds=(thresholds(),), draw=lambda: next(numbers, 0.0), **policy)
        return PaidLookers(self.list, self.ask, made)


async def test_honest_answer_is_found_honest_for_its_price() -> None:
    market = Market(offer("bob"))
    case = case_of()
    look = await market.lookers().look(case, ())
    assert (look.other_prompt, len(look.rescorings)) == (None, 1)
    assert judged(case, look, thresholds()).faults == ()
    paid = Tariff(market.offers[0].terms)
    prompt, output = case.usage.input_tokens, case.usage.output_tokens
    assert look.cost == paid.price(prompt, 0, 1) + paid.price(prompt + output, 0, 1)


async def test_one_absurdly_dear_offer_does_not_switch_checks_off() -> None:
    """What a check may cost counted by the dearest offer: one of them made every check too dear."""
    market = Market(offer("bob"), offer("mallory", price="1000000"))
    lookers, case = market.lookers(most_per_check=MUCH), case_of()
    assert await lookers.most_cost(case) <= MUCH
    for _ in range(20):
        assert (await lookers.look(case, ())).verifier.endswith(offer("bob").address.to_str())


async def test_offers_whose_context_is_too_short_are_not_asked() -> None:
    market = Market(offer("short", max_context=16), offer("bob"))
    look = await market.lookers(0.0, 0.0).look(case_of(), ())
    assert look.verifier.endswith(offer("bob").address.to_str())
    with pytest.raises(UncheckableError, match="with the context for it"):
        await Market(offer("short", max_context=16)).lookers().most_cost(case_of())


async def drawn(market: Market, count: int = 200) -> Counter[str]:
    """Return how often each was drawn, over evenly spread draws."""
    names = {each.address.to_str(): each for each in market.offers}
    found: Counter[str] = Counter()
    for number in range(count):
        lookers = market.lookers((number + 0.5) / count, (number * 7 % count) / count)
        offers = await lookers._able(case_of(), ())
        chosen = lookers._drawn(offers).address.to_str()
        assert chosen in names
        found[chosen] += 1
    return found


async def test_many_offers_of_one_owner_do_not_capture_the_draw() -> None:
    sybils = [offer(f"sybil {number}", "mallory", staked="0.05") for number in range(100)]
    market = Market(*sybils, offer("bob", staked="5"))
    found = await drawn(market)
    # A hundred stakes of a hundredth of bob's weigh as much as bob, not a hundred times as much.
    assert found[offer("bob").address.to_str()] == 100


async def test_many_owners_without_collateral_do_not_capture_the_draw() -> None:
    sybils = [offer(f"sybil {number}", f"owner {number}", staked="0.01") for number in range(100)]
    found = await drawn(Market(*sybils, offer("bob", staked="9")))
    assert found[offer("bob").address.to_str()] == 180


async def test_nobody_of_the_checked_owner_looks_whatever_it_calls_itself() -> None:
    market = Market(offer("second", "checked owner"), offer("checked", "somebody else"))
    with pytest.raises(UncheckableError, match="no worker of another owner"):
        await market.lookers().look(case_of(), ())


async def test_second_look_is_of_a_third_owner() -> None:
    market = Market(offer("bob"), offer("also bob's", "bob"), offer("carol"))
    lookers, case = market.lookers(0.0, 0.0, 0.0, 0.0), case_of()
    first = await lookers.look(case, ())
    second = await lookers.look(case, (first,))
    assert first.verifier.endswith(offer("bob").address.to_str())
    assert second.verifier.endswith(offer("carol").address.to_str())


@pytest.mark.parametrize("claimed", [1, 100_000, 3_000_000])
async def test_worker_that_claims_another_input_is_found_out_before_anything_is_too_big(claimed: int) -> None:
    """The claim made the check look too dear and too long, so it was skipped."""
    market = Market(offer("bob"), offer("carol"))
    policy = AuditPolicy(thresholds=(thresholds(),), most_per_check=MUCH, draw=lambda: 0.0)
    examiner = ResultExaminer(policy, PaidLookers(market.list, market.ask, policy))
    case = case_of(claimed=claimed, limits=None)  # what it offers is not known any more
    assert await examiner.most_cost(case) <= MUCH
    found = await examiner.examine(case)
    assert (found.outcome, found.level) == (AuditOutcome.FAILED, "refund")
    assert FaultKind.PROMPT.value in found.why
    # Two owners were asked for the prompt's tokens, and for nothing else.
    assert [each.address for each, _ in market.asked] == [offer("bob").address, offer("carol").address]
    assert all(body["max_tokens"] == 1 and "prompt_logprobs" not in body for _, body in market.asked)


async def test_verifier_that_lies_about_the_prompt_accuses_nobody() -> None:
    market = Market(offer("bob"), offer("carol"))
    policy = AuditPolicy(thresholds=(thresholds(),), draw=lambda: 0.0)
    honest = market.ask

    async def ask(request: InferenceRequest, **options: Any) -> tuple[bytes, Bill]:
        raw, bill = await honest(request, **options)
        answer = msgspec.json.decode(raw)
        if market.asked[-1][0].address == offer("bob").address and "prompt_token_ids" in answer:
            answer["prompt_token_ids"] = answer["prompt_token_ids"][1:]
        return msgspec.json.encode(answer), bill

    found = await ResultExaminer(policy, PaidLookers(market.list, ask, policy)).examine(case_of())
    assert found.outcome is AuditOutcome.PASSED
    assert len(found.verifier.split(", ")) == 2


async def test_answer_of_the_wrong_form_is_found_where_nobody_can_be_asked() -> None:
    """Nobody is needed for it, so that nobody serves the model changes nothing."""
    policy = AuditPolicy(thresholds=(thresholds(),))
    market = Market()
    examiner = ResultExaminer(policy, PaidLookers(market.list, market.ask, policy))
    case = case_of(seed=b"1" * 16)
    assert await examiner.most_cost(case) == 0
    assert (await examiner.examine(case)).outcome is AuditOutcome.FAILED


async def test_look_costs_no_more_than_was_set_aside() -> None:
    market = Market(offer("bob"))
    case = case_of()
    most = Nano(most_of_look(case, market.offers[0]) // 100)
    with pytest.raises(AssertionError):  # the market asks for more than the request allows
        await look_of_worker(market.ask, market.offers[0], case, most=most, timeout_s=5)
    lookers = market.lookers(most_per_check=Nano(LOOKS * most))
    with pytest.raises(UncheckableError, match="at most"):
        await lookers.look(case, ())


def blurred(tokens: Sequence[int]) -> str:
    """Return single tokens as an engine tells them that cannot decode the one for "é" alone."""
    return decoded(list(tokens)).replace("é", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize("honest", [True, False])
async def test_character_in_several_tokens_does_not_switch_the_text_check_off(
    monkeypatch: pytest.MonkeyPatch, honest: bool
) -> None:
    monkeypatch.setattr("tests.helpers.vllm_double.decoded", blurred)
    market = Market(offer("bob"))
    case = next(
        made
        for made in (case_of(text=f"question {number}", limit=32) for number in range(200))
        if "é" in made.response["choices"][0]["message"]["content"][:-8]
    )
    message = case.response["choices"][0]["message"]
    if not honest:  # it shows something else at the other end of the text
        message["content"] = message["content"][:-3] + "spam"
    look = await market.lookers().look(case, ())
    kinds = {fault.kind for fault in judged(case, look, thresholds()).faults}
    assert kinds == (set() if honest else {FaultKind.TEXT})
