"""Whether to take a job, and how: a pure function from facts to a decision with a reason.

Owns every rule of acceptance (docs/protocol.md 3, "Directed job" and "Open job"). Must not read chains, keys,
files or clocks: all facts are handed in. Refusing costs nothing, so every doubt refuses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

from cocoon_sdk.protocol import JobKind, PayloadPlain, SamplingClass, max_price
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol.job_states import EntryStatus
from cocoon_sdk.types import Nano
from cocoon_worker.catalogue import OwnOffer
from cocoon_worker.config import Policy
from cocoon_worker.engine.base import EngineKind, EngineLimits, EngineRequest, EngineRequestError
from cocoon_worker.engine.request import checked_body
from cocoon_worker.promises import check_promise

_TOKENS_PER_MESSAGE: Final = 8
"""What chat templates add around a message, and around the whole."""
_PREFILL_SPEEDUP: Final = 50
"""Reading a prompt token is at least this much faster than writing one."""
_START_S: Final = 1


class Refusal(StrEnum):
    """Why a job is declined; the value goes into logs, metrics and answers to the client."""

    FORGED_ESCROW = "forged-escrow"
    ESCROW_PEERS = "escrow-does-not-accept-this-stake"
    NO_SUCH_JOB = "no-such-job"
    TAKEN = "already-taken"
    NOT_FOR_US = "for-another-worker"
    PARAMS = "other-parameters"
    KEY = "other-operator-key"
    MODEL = "model-not-offered"
    TERMS = "other-terms"
    OPEN_JOBS = "open-jobs-not-served"
    BATCH = "batches-not-served"
    PRICE = "price-too-low"
    LATE = "deadline-too-near"
    WORK_PERIOD = "work-period-too-short"
    STAKE = "stake-not-ready"
    COLLATERAL = "not-enough-stake"
    DAILY_LOCK = "daily-lock-used-up"
    LOCKS = "too-many-locks"
    GAS = "not-enough-gas"
    BUSY = "busy"
    ENGINE = "engine-not-ready"
    NO_PAYLOAD = "payload-unavailable"
    PAYLOAD = "payload-unreadable"
    KIND = "kind-not-served"
    REQUEST = "request-refused"
    CONTEXT = "prompt-too-long"


class Plan(StrEnum):
    """How an accepted job is served."""

    SUBMIT = "submit"
    """Directed: work, then submit; the submission locks by itself."""
    CLAIM = "claim"
    """Directed, but long work: claim first, with a bond."""
    OPEN_CLAIM = "open-claim"
    """Open: claim with a bond, and only then work."""


@dataclass(frozen=True, slots=True)
class EscrowFacts:
    """The offering account. `genuine` means: its address derives from a code that our stake deals with."""

    genuine: bool
    accepts_us: bool = True
    """Our stake's address derives from a code that the escrow deals with; submissions on claims need that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """The entry as the escrow holds it now. Account ids and hashes as contracts store them."""

    status: int
    worker: int
    operator_key: int
    deadline: int
    price: Nano
    window: int
    collateral: Nano
    bond: Nano
    """What a claim takes along."""
    params_hash: bytes
    model_id: bytes
    terms_hash: bytes
    items: int
    work_period: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StakeFacts:
    """Our stake. `committed` is collateral of accepted jobs that is not locked yet, in nanoTON."""

    account: int
    active: bool
    operator_key: int
    params_hash: bytes
    lockable: Nano
    locked: Nano
    max_locked: Nano
    bucket: Nano
    locks: int
    gas: Nano
    committed: Nano = field(default_factory=lambda: Nano(0))
    committed_locks: int = 0
    claim_gas: Nano = field(default_factory=lambda: Nano(0))
    """What a claim and its submission take out of gas, the bond aside."""
    committed_gas: Nano = field(default_factory=lambda: Nano(0))
    """Gas and bonds that claims of accepted jobs still take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """This worker at this moment. `queue_s`: until the engine could start; `now` in unix seconds."""

    now: int
    operator_key: int
    offers: Sequence[OwnOffer]
    policy: Policy
    jobs: int
    queue_s: int
    engine_ready: bool = True


@dataclass(frozen=True, slots=True)
class PayloadFacts:
    """The payload: opened and checked against the job's hash, or why it could not be."""

    plain: PayloadPlain | None
    failure: Refusal | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What the engine will be asked, and the most it can take: tokens, seconds, nanoTON."""

    engine: EngineRequest
    input_tokens: int
    output_tokens: int
    run_s: int
    worst_price: Nano


@dataclass(frozen=True, slots=True)
class Accept:
    """Take the job."""

    plan: Plan
    offer: OwnOffer
    request: Request


@dataclass(frozen=True, slots=True)
class Refuse:
    """Decline the job, or try later when `retry` (the reason may pass while the deadline has not)."""

    reason: Refusal
    why: str
    retry: bool = False

    def __str__(self) -> str:
        return f"{self.reason}: {self.why}" if self.why else str(self.reason)


@dataclass(frozen=True, slots=True)
class NeedPayload:
    """Nothing speaks against the job so far: fetch and open its payload, then ask again."""

    offer: OwnOffer


Decision: TypeAlias = Accept | Refuse | NeedPayload


def admit(
    job: JobView | None,
    escrow: EscrowFacts,
    stake: StakeFacts,
    situation: Situation,
    payload: PayloadFacts | None = None,
) -> Decision:
    """Decide about one job; without its payload the answer is `Refuse` or `NeedPayload`."""
    if not escrow.genuine:
        return Refuse(Refusal.FORGED_ESCROW, "its address derives from no code that our stake deals with")
    if job is None:
        return Refuse(Refusal.NO_SUCH_JOB, "the escrow holds no such entry (any more)")
    refusal = _identity(job, stake, situation) or _own_state(stake, situation) or _funds(job, stake)
    if refusal is not None:
        return refusal
    offer = _offer(job, situation.offers)
    if isinstance(offer, Refuse):
        return offer
    if job.price < offer.terms.minimum_price:
        return Refuse(Refusal.PRICE, f"the maximum is {job.price}, our minimum {offer.terms.minimum_price}")
    plan = _plan(job, escrow, situation, _START_S)
    if isinstance(plan, Refuse):
        return plan
    if payload is None:
        return NeedPayload(offer)
    request = build_request(offer, payload)
    if isinstance(request, Refuse):
        return request
    if request.worst_price > job.price:
        return Refuse(
            Refusal.PRICE, f"the request may cost {request.worst_price}, the maximum is {job.price}"
        )
    plan = _plan(job, escrow, situation, request.run_s)
    if isinstance(plan, Refuse):
        return plan
    short = None if plan is Plan.SUBMIT else _claim_gas(job, stake)
    return short or Accept(plan, offer, request)


def _identity(job: JobView, stake: StakeFacts, situation: Situation) -> Refuse | None:
    if job.status != EntryStatus.OPEN:
        return Refuse(Refusal.TAKEN, "the entry is not open any more")
    if job.worker not in (0, stake.account):
        return Refuse(Refusal.NOT_FOR_US, "it names another worker")
    if job.worker and job.operator_key != situation.operator_key:
        return Refuse(Refusal.KEY, "the client saw another operator key than the current one")
    if job.params_hash != stake.params_hash:
        return Refuse(
            Refusal.PARAMS, "escrow and stake hold different network parameters: send SyncParams to the older"
        )
    if job.items != 1:
        return Refuse(Refusal.BATCH, f"a batch of {job.items} items; this version serves single requests")
    # The escrow takes any terms: what makes no sense harms the client alone, unless a worker follows it.
    if job.price == 0:
        return Refuse(Refusal.PRICE, "it pays nothing")
    if job.work_period == 0:
        return Refuse(Refusal.WORK_PERIOD, "it leaves no time to work")
    return None


def _own_state(stake: StakeFacts, situation: Situation) -> Refuse | None:
    if not stake.active or stake.operator_key != situation.operator_key:
        return Refuse(Refusal.STAKE, "the stake is pending or holds another operator key", retry=True)
    if stake.gas < situation.policy.min_gas:
        why = f"the stake has {stake.gas} of spare gas, at least {situation.policy.min_gas} is kept"
        return Refuse(Refusal.GAS, why, retry=True)
    if not situation.engine_ready:
        return Refuse(Refusal.ENGINE, "the engine takes no requests now", retry=True)
    if situation.jobs >= situation.policy.max_accepted:
        return Refuse(Refusal.BUSY, f"{situation.jobs} jobs are in progress", retry=True)
    return None


def _funds(job: JobView, stake: StakeFacts) -> Refuse | None:
    if job.collateral == 0:
        return None
    needed = job.collateral + stake.committed
    # What other jobs hold comes back; what was never there does not.
    later = job.collateral <= min(stake.lockable + stake.locked, stake.max_locked)
    if needed > stake.lockable:
        why = f"{job.collateral} would have to be locked, {stake.lockable - stake.committed} can be"
        return Refuse(Refusal.COLLATERAL, why, retry=later)
    if stake.locked + needed > stake.max_locked:
        return Refuse(Refusal.COLLATERAL, "the owner's max_locked would be exceeded", retry=later)
    if needed > stake.bucket:
        return Refuse(Refusal.DAILY_LOCK, "the daily lock is used up; it refills over a day", retry=True)
    # Jobs of one client share locks; that each takes a new one is the worst case.
    if stake.locks + stake.committed_locks >= c.MAX_LOCKS:
        return Refuse(Refusal.LOCKS, f"{stake.locks} locks are open", retry=True)
    return None


def _claim_gas(job: JobView, stake: StakeFacts) -> Refuse | None:
    """Refuse a claim whose submission, or another claim's, could not be paid: it would cost the bond."""
    free = stake.gas - stake.committed_gas
    needed = job.bond + stake.claim_gas
    if needed <= free:
        return None
    why = f"a claim takes a bond of {job.bond} and {stake.claim_gas} of gas, {max(0, free)} nanoTON are there"
    return Refuse(Refusal.GAS, why, retry=True)


def _offer(job: JobView, offers: Sequence[OwnOffer]) -> OwnOffer | Refuse:
    same_model = [offer for offer in offers if offer.model_id == job.model_id]
    if not same_model:
        return Refuse(Refusal.MODEL, "no offer of ours is for that model")
    for offer in same_model:
        if offer.terms_hash == job.terms_hash:
            if job.worker == 0 and not offer.open_jobs:
                return Refuse(Refusal.OPEN_JOBS, "only directed jobs are served for this model")
            return offer
    return Refuse(Refusal.TERMS, "the job names other terms than we offer now")


def _plan(job: JobView, escrow: EscrowFacts, situation: Situation, run_s: int) -> Plan | Refuse:
    """Choose the way that meets every deadline with the policy's margins."""
    policy, now = situation.policy, situation.now
    margin = policy.confirmation_s + policy.safety_s
    if now + margin > job.deadline:
        return Refuse(Refusal.LATE, f"{max(0, job.deadline - now)} s are left, the margin is {margin} s")
    work_s = situation.queue_s + run_s
    if job.worker and now + work_s + margin <= job.deadline:
        return Plan.SUBMIT
    if job.collateral == 0:
        return Refuse(Refusal.LATE, f"about {work_s} s of work do not fit, and it cannot be claimed")
    if not escrow.accepts_us:
        return Refuse(Refusal.ESCROW_PEERS, "the escrow's owner does not deal with our stake's code")
    if work_s + margin > job.work_period:
        return Refuse(Refusal.WORK_PERIOD, f"about {work_s} s of work do not fit into {job.work_period} s")
    return Plan.CLAIM if job.worker else Plan.OPEN_CLAIM


# -- the request -------------------------------------------------------------------------------------------

_KINDS: Final = {
    JobKind.CHAT_COMPLETION: EngineKind.CHAT,
    JobKind.COMPLETION: EngineKind.COMPLETION,
    JobKind.EMBEDDING: EngineKind.EMBEDDING,
}


def build_request(offer: OwnOffer, payload: PayloadFacts) -> Request | Refuse:
    """Return what the engine is asked for an opened payload, or why it is refused."""
    plain = payload.plain
    if plain is None:
        return Refuse(payload.failure or Refusal.PAYLOAD, payload.why)
    kind = _KINDS.get(plain.kind)
    if kind is None:
        return Refuse(Refusal.KIND, f"{plain.kind} is not served")
    if plain.model != offer.model:
        return Refuse(Refusal.MODEL, "the payload names another model than the job")
    try:
        body = request_body(offer, kind, plain.request, offer.limits)
    except EngineRequestError as error:
        return Refuse(Refusal.REQUEST, str(error))
    output_tokens = output_limit(kind, body)
    input_tokens = input_bound(kind, body, offer.bytes_per_token)
    if input_tokens + output_tokens > offer.max_context:
        why = f"up to {input_tokens} + {output_tokens} tokens, the context holds {offer.max_context}"
        return Refuse(Refusal.CONTEXT, why)
    seconds = (output_tokens + input_tokens / _PREFILL_SPEEDUP) / offer.tokens_per_second
    worst = max_price(offer.terms, max_input_tokens=input_tokens, max_output_tokens=output_tokens)
    return Request(
        EngineRequest(kind, body), input_tokens, output_tokens, math.ceil(seconds) + _START_S, worst
    )


def request_body(
    offer: OwnOffer, kind: EngineKind, fields: Mapping[str, Any], limits: EngineLimits
) -> dict[str, Any]:
    """Return what the engine is asked under an offer: checked, its model named, sampled as was promised.

    Raises `EngineRequestError`.
    """
    body: dict[str, Any] = {**fields, "model": offer.engine_model}
    if offer.terms.sampling is SamplingClass.GREEDY and kind is not EngineKind.EMBEDDING:
        if body.get("temperature") not in (None, 0, 0.0):
            raise EngineRequestError("this offer is greedy: the temperature must be 0")
        body["temperature"] = 0
    checked = checked_body(EngineRequest(kind, body), (offer.engine_model,), limits)
    if kind is not EngineKind.EMBEDDING:
        check_promise(offer.terms.sampling, checked)
    return checked


def output_limit(kind: EngineKind, body: dict[str, Any]) -> int:
    """Return the most tokens that a checked request makes."""
    if kind is EngineKind.EMBEDDING:
        return 0
    return int(body.get("max_completion_tokens") or body["max_tokens"])


def input_bound(kind: EngineKind, body: dict[str, Any], bytes_per_token: float) -> int:
    """Bound the prompt's tokens from above, from its bytes; token ids count as they are."""
    if kind is EngineKind.CHAT:
        parts = {name: body[name] for name in ("messages", "tools") if name in body}
        extra = _TOKENS_PER_MESSAGE * (len(body["messages"]) + 1)
        return _tokens(json.dumps(parts, ensure_ascii=False), bytes_per_token) + extra
    content = body["prompt"] if kind is EngineKind.COMPLETION else body["input"]
    items = content if isinstance(content, list) else [content]
    if all(isinstance(item, int) for item in items):
        return len(items) + _TOKENS_PER_MESSAGE
    return sum(
        (_tokens(item, bytes_per_token) if isinstance(item, str) else len(item)) + _TOKENS_PER_MESSAGE
        for item in items
    )


def _tokens(text: str, bytes_per_token: float) -> int:
    return math.ceil(len(text.encode()) / bytes_per_token)
