"""Who checks answers for money: neither offers nor claims choose it, and what a check may cost is bounded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pytest
from pytoniq_core import Address

from cocoon_sdk.client.auditing import AuditPolicy, UncheckableError
from cocoon_sdk.client.auditing.beginnings import LEAST_TOP, holds_for_all, tokens_that_fit
from cocoon_sdk.client.auditing.case import AuditCase
from cocoon_sdk.client.auditing.examining import ResultExaminer, judged, judgement, told
from cocoon_sdk.client.auditing.lookers import LOOKS, PaidLookers, look_of_worker, most_of_look
from cocoon_sdk.client.auditing.paid import top_that_fits
from cocoon_sdk.client.auditing.records import Audited, AuditOutcome, AuditSubject, DisputeStep
from cocoon_sdk.client.discovery import WorkerList, WorkerOffer
from cocoon_sdk.client.sessions.values import Bill, InferenceRequest
from cocoon_sdk.protocol.pricing import Tariff, Usage
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.checking import Findings
from cocoon_sdk.verify.commitment import Choice, Commitment, prompt_hash
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.structure import Fault, FaultKind, Level
from cocoon_sdk.verify.thresholds import SamplingKind
from tests.helpers.audit_town import thresholds
from tests.helpers.scripted_session_worker import DOMAIN, ENTRY, MODEL, ScriptedSessionWorker
from tests.helpers.vllm_double import END, VllmDouble, decoded, logprobs_after, prompt_of

SEED = bytes(16)
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Say something long."}], "temperature": 0}
MUCH = Nano.ton("0.01")
Table: TypeAlias = Callable[[list[int]], np.ndarray[Any, np.dtype[np.float64]]]


def account(name: str) -> Address:
    return Address((0, hashlib.sha256(name.encode()).digest()))


def offer(name: str, owner: str = "", *, staked: str = "5", price: str = "0.1", **size: Any) -> WorkerOffer:
    made = ScriptedSessionWorker(
        name, port=1, input_price=Nano.ton(price), output_price=Nano.ton(price)
    ).offer
    genuine = replace(made.worker, owner=account(owner or name))
    sold = made.offer.model_copy(update=size)
    return replace(made, worker=genuine, lockable=Nano.ton(staked), offer=sold)


def case_of(
    *,
    claimed: int | None = None,
    text: str = "",
    limit: int = 8,
    table: Table = logprobs_after,
    **changes: Any,
) -> AuditCase:
    """Return an honest answer of the model `table`, but for the prompt tokens that it claims."""
    body = {**BODY, "max_tokens": limit}
    if text:
        body["messages"] = [{"role": "user", "content": text}]
    prompt = prompt_of(body)
    tokens: list[int] = []
    while len(tokens) < limit and END not in tokens:
        tokens.append(int(table(prompt + tokens).argmax()))
    finish = "stop" if tokens[-1] == END else "length"
    told = [float(table(prompt + tokens[:place])[token]) for place, token in enumerate(tokens)]
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


# -- answers that are too long for a paid look ---------------------------------------------------------------


def endless(tokens: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what a model that never ends says."""
    return _unending(b"honest", tokens)


def cheap(tokens: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what another model makes of it."""
    return _unending(b"cheap", tokens)


def _unending(name: bytes, tokens: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    seed = hashlib.sha256(name + ",".join(map(str, tokens[-3:])).encode()).digest()
    logits = np.array([each / 64 for each in seed[: END + 1]])
    logits[END] = -30.0
    found: np.ndarray[Any, np.dtype[np.float64]] = logits - np.log(np.exp(logits).sum())
    return found


def long_case(table: Table = endless, limit: int = 400, **changes: Any) -> AuditCase:
    return case_of(table=table, limit=limit, limits=(4096, 1 << 16), **changes)


def small_market(*names: str, **size: Any) -> Market:
    """Return workers whose context holds the prompt and about 150 tokens."""
    context = len(prompt_of(BODY)) + 150
    market = Market(*(offer(name, **{"max_context": context, **size}) for name in names))
    market.double = VllmDouble(table=endless)
    return market


def examiner_of(market: Market, **policy: Any) -> ResultExaminer:
    made = AuditPolicy(thresholds=(thresholds(),), draw=lambda: 0.0, **policy)
    return ResultExaminer(made, PaidLookers(market.list, market.ask, made))


async def test_beginning_of_an_honest_answer_that_nobody_can_carry_is_honest() -> None:
    market, case = small_market("bob"), long_case()
    examiner = examiner_of(market)
    assert 0 < await examiner.most_cost(case) <= MUCH
    found = await examiner.examine(case)
    assert (found.outcome, found.why) == (
        AuditOutcome.PASSED,
        "as the named model answers (in the first 149 of 400 tokens)",
    )
    assert len(found.evidence.tokens) == 149
    assert found.evidence.faults == ()
    (_, scored) = market.asked[-1]
    assert len(scored["prompt"]) == len(prompt_of(BODY)) + 149


async def test_worker_cannot_escape_its_check_by_answers_that_nobody_can_carry() -> None:
    """Its answer was too long for everybody's context, so it was not checked."""
    market = small_market("bob", "carol")
    found = await examiner_of(market).examine(long_case(cheap))
    assert (found.outcome, found.level) == (AuditOutcome.FAILED, "slash")
    assert len(found.verifier.split(", ")) == 2
    judged = judgement({}, long_case(cheap).subject, found, dispute=True)
    assert judged.leave


async def test_worker_cannot_escape_its_check_by_answers_that_are_too_dear() -> None:
    market, case = small_market("bob", max_context=1 << 16), long_case(cheap)
    half = Nano(most_of_look(case, market.offers[0]))
    found = examiner_of(market, most_per_check=half)
    assert await found.most_cost(case) <= half
    (look,) = [await market.lookers(most_per_check=half).look(case, ())]
    assert look.tokens is not None
    assert 64 <= look.tokens < 400
    assert look.cost <= half // LOOKS
    assert judged(case, look, thresholds()).level is Level.SLASH


async def test_offers_that_carry_all_of_an_answer_come_before_those_that_carry_its_beginning() -> None:
    market = small_market("short")
    market.offers = (offer("short", max_context=len(prompt_of(BODY)) + 150), offer("long", staked="0.01"))
    look = await market.lookers().look(long_case(limit=200), ())
    assert (look.verifier, look.tokens) == (f"worker {offer('long').address.to_str()}", None)


async def test_who_needs_an_opinion_on_all_of_an_answer_gets_none_on_its_beginning() -> None:
    """Several workers that check each other's answers: nobody is paid for what nobody saw."""
    market, case = small_market("bob", max_context=1 << 16), long_case(limit=400)
    tight = Nano(most_of_look(case, market.offers[0]) // 3)
    with pytest.raises(AssertionError):  # the market asks for more than the request allows
        await look_of_worker(market.ask, market.offers[0], case, most=tight, timeout_s=5)


async def test_too_short_a_beginning_is_not_worth_its_price() -> None:
    with pytest.raises(UncheckableError, match="with the context for it"):
        await small_market("bob", max_context=len(prompt_of(BODY)) + 60).lookers().most_cost(long_case())


@pytest.mark.parametrize(
    ("prompt", "longest", "context", "tokens"),
    [
        (100, 4000, 1 << 20, 4000),  # one message holds it, with one word at each place
        (100, 9000, 1 << 20, 1620),  # as far as one holds it with five
        (100, 9000, 1001, 900),
        (1700, 9000, 1 << 20, 0),
        (100, 9000, 164, 0),
    ],
)
def test_beginning_is_as_long_as_one_message_holds(
    prompt: int, longest: int, context: int, tokens: int
) -> None:
    case = long_case(limit=1)
    choice = Choice(tokens=(1,) * longest, logprobs=(0,) * longest, finish="length")
    assert case.commitment is not None
    case = replace(case, commitment=case.commitment.model_copy(update={"choices": (choice,)}))
    assert tokens_that_fit(case, offer("bob", max_context=context), prompt, MUCH) == tokens
    if tokens > 0:
        assert top_that_fits(prompt + tokens) >= (LEAST_TOP if tokens < longest else 1)


def with_text(case: AuditCase, **message: Any) -> AuditCase:
    (choice,) = case.response["choices"]
    return replace(case, response={**case.response, "choices": [{**choice, "message": message}]})


async def test_worker_cannot_show_another_text_than_the_beginning_of_its_tokens() -> None:
    market, case = small_market("bob", "carol"), long_case()
    text = case.response["choices"][0]["message"]["content"]
    for shown in (text[:200], text, text + " and more that is not looked at"):
        found = await examiner_of(market).examine(with_text(case, content=shown))
        assert found.outcome is AuditOutcome.PASSED, shown
    for shown in ("x" + text, text[:100] + "x" + text[100:], "something else " * 500):
        found = await examiner_of(market).examine(with_text(case, content=shown))
        # Far more than the tokens say would cost collateral; here nobody knows what all of them say.
        assert (found.outcome, found.level) == (AuditOutcome.FAILED, "refund"), shown
    called = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]
    found = await examiner_of(market).examine(with_text(case, content=text[:500], tool_calls=called))
    assert found.outcome is AuditOutcome.PASSED, "what was called stands at the end"


@pytest.mark.parametrize("thought", [10, 300, 395])
async def test_parsed_answer_counts_as_far_as_its_beginning_reaches(thought: int) -> None:
    """Reasoning and content: the beginning may end in either."""
    market, case = small_market("bob", "carol"), long_case()
    assert case.commitment is not None
    tokens = case.commitment.choices[0].tokens
    shown = {"reasoning": decoded([*tokens[:thought]]), "content": decoded([*tokens[thought:]])}
    found = await examiner_of(market).examine(with_text(case, **shown))
    assert found.outcome is AuditOutcome.PASSED
    wrong = {**shown, "reasoning": "x" + shown["reasoning"]}
    found = await examiner_of(market).examine(with_text(case, **wrong))
    assert found.outcome is AuditOutcome.FAILED


@pytest.mark.parametrize("end", ["", "<|end|><|start|>assistant<|channel|>fi", "<|end|>"])
async def test_beginning_that_ends_in_what_stands_between_thought_and_answer_accuses_nobody(end: str) -> None:
    """The form has words of its own there, which nobody shows."""
    market, case = small_market("bob"), long_case()
    look = await market.lookers().look(case, ())
    said = "<|channel|>analysis<|message|>What is asked is easy." + end
    (scored,) = look.rescorings
    look = replace(look, rescorings=(replace(scored, texts=(said,), bodies=(said,)),))
    shown = with_text(case, reasoning="What is asked is easy.", content="Yes, it is easy.")
    assert judged(shown, look, thresholds()).faults == ()
    wrong = with_text(case, reasoning="Buy this now.", content="Yes, it is easy.")
    assert [each.kind for each in judged(wrong, look, thresholds()).faults] == [FaultKind.TEXT]


@pytest.mark.parametrize("honest", [True, False])
async def test_character_in_several_tokens_hides_nothing_in_a_beginning(
    monkeypatch: pytest.MonkeyPatch, honest: bool
) -> None:
    monkeypatch.setattr("tests.helpers.vllm_double.decoded", blurred)
    market, case = small_market("bob", "carol"), long_case()
    text = case.response["choices"][0]["message"]["content"]
    at = text.index("é", 50)
    shown = text if honest else f"{text[: at + 4]}spam{text[at + 4 :]}"
    found = await examiner_of(market).examine(with_text(case, content=shown))
    assert found.outcome is (AuditOutcome.PASSED if honest else AuditOutcome.FAILED)


async def test_nothing_is_disputed_that_the_rest_of_an_answer_could_make_good() -> None:
    """Arbiters look at all of it: a mean over the beginning may be lower there, the largest value may not."""
    limits = thresholds().greedy
    assert limits is not None
    case, odd, fine = long_case(), 1.0, 0.0
    for numbers, holds in (
        (Numbers(odd, fine, None, None), False),
        (Numbers(fine, fine, odd, fine), False),
        (Numbers(fine, odd, None, None), True),
        (Numbers(odd, fine, fine, odd), True),
    ):
        found = Findings(Level.SLASH, ("off",), (), SamplingKind.GREEDY, numbers, (), limits)
        assert holds_for_all(found, Level.SLASH) is holds
        part = replace(told(found), holds=holds)
        for what in (Audited.REQUEST, Audited.JOB):
            wanted = judgement({}, replace(case.subject, what=what), part, dispute=True)
            assert (wanted.dispute is DisputeStep.WANTED) is holds
            assert wanted.leave
    fault = Fault(FaultKind.TEXT, Level.REFUND, "another")
    found = Findings(Level.REFUND, (), (fault,), SamplingKind.GREEDY, None, (), limits)
    assert holds_for_all(found, Level.REFUND)
    assert not holds_for_all(found, Level.SLASH)
