"""From a notice to a signed result: judge, fetch, open, run, price, seal, sign, keep.

Owns the order of these steps and patience with the engine. Must not send anything on chain. Nothing of a
result leaves this module before it is in the journal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from cocoon_sdk.errors import (
    EngineError,
    EngineUnavailableError,
    MalformedError,
    ResultUnavailableError,
)
from cocoon_sdk.protocol import (
    JobRef,
    ResultPlain,
    Usage,
    price,
    read_payload_header,
    seal_result,
)
from cocoon_sdk.protocol.claims import claim_bond
from cocoon_sdk.protocol.signing import Domain, binding_hash, job_hash, result_digest
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.seeds import job_seed
from cocoon_worker.admission import (
    Accept,
    Decision,
    NeedPayload,
    PayloadFacts,
    Plan,
    Refusal,
    Refuse,
    Request,
    Situation,
    admit,
    build_request,
)
from cocoon_worker.bookkeeping import Bookkeeper
from cocoon_worker.catalogue import OwnOffer
from cocoon_worker.context import Context
from cocoon_worker.delivery import Delivery
from cocoon_worker.engine.base import EngineRequest, EngineRequestError, EngineResult
from cocoon_worker.errors import WorkerError
from cocoon_worker.lifecycle import give_up, move, retry_later
from cocoon_worker.promises import make_promise
from cocoon_worker.records import JobFacts, JobKey, JobRecord, PayloadRecord, ResultRecord
from cocoon_worker.states import BUSY, JobState
from cocoon_worker.survey import JobSurvey, open_facts, stake_facts

UNSEEN_RETRY_S: Final = 120
"""How long a job that the endpoint does not show is looked for."""
_UNSEEN_TRIES: Final = {Refusal.NO_SUCH_JOB: 6, Refusal.FORGED_ESCROW: 2}
_MAX_TRIES: Final = 64
_MAX_ENGINE_PAUSE_S: Final = 10
_LEAST_RUN_S: Final = 1


class Processor:
    """Serves jobs one call at a time; the service decides how many calls run at once."""

    def __init__(self, context: Context, books: Bookkeeper, delivery: Delivery) -> None:
        self._context, self._books, self._delivery = context, books, delivery
        self._journal, self._policy = context.journal, context.config.policy

    # -- intake --------------------------------------------------------------------------------------------

    async def judge(self, key: JobKey) -> None:
        """Decide about an offered job and write the decision. Raises `ChainError`: try again later."""
        job = self._journal.job(key)
        if job is None or job.state is not JobState.OFFERED:
            return
        engine = await self._context.engine.health()
        stake = await self._context.stake.state()
        survey = await self._context.survey.job(key, stake)
        claim_gas = await self._claim_gas(survey)

        def decide(payload: PayloadFacts | None) -> Decision:
            committed = self._uncommitted_locks()
            facts = stake_facts(
                stake,
                self._context.survey.account,
                len({j.lock for j in self._journal.locked_jobs()}),
                Nano(sum(j.collateral for j in committed)),
                len(committed),
                claim_gas,
                self._uncommitted_gas(claim_gas),
            )
            situation = self._situation(engine.ready)
            return admit(survey.entry, survey.facts, facts, situation, payload)

        decision = decide(None)
        payload: PayloadRecord | None = None
        if isinstance(decision, NeedPayload):
            try:
                payload, opened = await self._payload(job, survey)
            except ResultUnavailableError as error:
                decision = Refuse(Refusal.NO_PAYLOAD, str(error), retry=True)
            else:
                # From here to the write nothing is awaited: two jobs cannot both take the last collateral.
                decision = decide(opened)
        if not isinstance(decision, NeedPayload):
            self._write_decision(job, survey, decision, payload)

    async def _payload(self, job: JobRecord, survey: JobSurvey) -> tuple[PayloadRecord | None, PayloadFacts]:
        payload, failure = await self._context.survey.payload(job, self._delivery.schemes)
        if payload is None or survey.terms is None:
            return None, failure or PayloadFacts(None, Refusal.NO_PAYLOAD, "there is none")
        data = self._context.config.data
        payload_hash = survey.terms.payload_hash.to_bytes(32, "big")
        keys = self._context.prekeys.keys
        return payload, open_facts(payload, keys, payload_hash, data.max_payload_bytes)

    async def _claim_gas(self, survey: JobSurvey) -> Nano:
        """Return what a claim and its submission take out of gas, the bond aside."""
        if survey.view is None or not survey.view.window:
            return Nano(0)
        stake = self._context.stake
        return await stake.claim_cost() + await stake.work_cost() + 2 * await stake.external_cost()

    def _uncommitted_gas(self, claim_gas: Nano) -> Nano:
        """Bound what claims that were accepted still take: their bonds until they are sent, and gas."""
        claims = [job for job in self._journal.jobs(BUSY) if job.bond and not job.locked]
        return Nano(sum((0 if job.claimed else job.bond) + claim_gas for job in claims))

    def _uncommitted_locks(self) -> list[JobRecord]:
        return [job for job in self._journal.jobs(BUSY) if job.collateral and not job.locked]

    def _situation(self, engine_ready: bool) -> Situation:
        busy = self._journal.jobs(BUSY)
        waiting = [job for job in busy if job.state not in (JobState.READY, JobState.SUBMITTING)]
        work_s = sum(job.facts.run_s for job in waiting if job.facts is not None)
        return Situation(
            now=self._context.time.maybe(),
            operator_key=self._context.operator.verify_key.to_int(),
            offers=self._context.offers,
            policy=self._policy,
            jobs=len(busy),
            queue_s=-(-work_s // self._policy.max_concurrent),
            engine_ready=engine_ready,
        )

    def _write_decision(
        self, job: JobRecord, survey: JobSurvey, decision: Accept | Refuse, payload: PayloadRecord | None
    ) -> None:
        now = self._context.time.maybe()
        if isinstance(decision, Refuse):
            self._refuse(job, survey, decision, now)
            return
        with self._journal.transaction():
            if payload is not None:
                self._journal.put_payload(job.key, payload)
            self._books.keep(job, self._accepted(job, survey, decision, now))

    def _refuse(self, job: JobRecord, survey: JobSurvey, refuse: Refuse, now: int) -> None:
        # A lagging endpoint shows the notice before the account or entry: they are looked for a while.
        if job.tries < _UNSEEN_TRIES.get(refuse.reason, 0):
            again_until = job.created_at + UNSEEN_RETRY_S
        else:
            again_until = survey.view.deadline if refuse.retry and survey.view is not None else 0
        if again_until > now and job.tries < _MAX_TRIES:
            new = retry_later(job, now, str(refuse))
        else:
            self._context.metrics.refused.labels(refuse.reason.value).inc()
            new = move(job, JobState.REFUSED, now, str(refuse))
        with self._journal.transaction():
            self._books.keep(job, new)

    def _accepted(self, job: JobRecord, survey: JobSurvey, accept: Accept, now: int) -> JobRecord:
        escrow, view, terms = survey.escrow, survey.view, survey.terms
        if escrow is None or view is None or terms is None:
            raise WorkerError(f"job {job.key} was accepted without facts", hint="This is a bug: report it")
        facts = JobFacts(
            escrow_owner=escrow.owner,
            escrow_index=escrow.index,
            escrow_epoch=escrow.epoch,
            escrow_previous_code=escrow.previous_code,
            own_previous_code=escrow.own_previous_code,
            job_hash=job_hash(view.terms),
            binding=binding_hash(view.params, view.terms),
            payload_hash=f"{terms.payload_hash:064x}",
            offer=accept.offer.to_json(),
            max_price=view.price,
            run_s=accept.request.run_s,
        )
        job = replace(job, facts=facts, deadline=view.deadline, collateral=Nano(view.collateral))
        if accept.plan is Plan.SUBMIT:
            return move(job, JobState.QUEUED, now)
        return move(replace(job, bond=claim_bond(view.price, view.params)), JobState.CLAIMING, now)

    # -- work ----------------------------------------------------------------------------------------------

    async def serve(self, key: JobKey) -> None:
        """Run the engine for a queued or claimed job and keep the signed result, or give up with a reason."""
        job = self._journal.job(key)
        if job is None or job.facts is None:
            return
        facts = job.facts
        if job.state in (JobState.QUEUED, JobState.CLAIMED):
            job = self._move(job, JobState.RUNNING)
        if job.state is not JobState.RUNNING:
            return
        payload = self._journal.payload(key)
        offer = OwnOffer.from_json(facts.offer)
        request: Request | Refuse = Refuse(Refusal.PAYLOAD, "it is not in the journal")
        if payload is not None:
            opened = open_facts(
                payload,
                self._context.prekeys.keys,
                bytes.fromhex(facts.payload_hash),
                self._context.config.data.max_payload_bytes,
            )
            request = build_request(offer, opened)
        if payload is None or isinstance(request, Refuse):
            self._give_up(key, f"the accepted payload cannot be used any more: {request}")
            return
        seed = job_seed(self._domain(key, facts), key.id, bytes.fromhex(facts.payload_hash))
        proof: dict[str, Any] | None = None
        try:
            promise = make_promise(offer.terms, request.engine, seed)
            answer = await self._run(key, request.engine if promise is None else promise.engine)
            if promise is not None:
                tokens = answer.usage.completion_tokens
                proof = promise.commit(answer.evidence, tokens=tokens).to_json()
        except EngineError as error:
            self._context.metrics.failures.labels("engine").inc()
            self._give_up(key, str(error))
            return
        self._finish(key, facts, offer, payload, answer, proof)

    def _domain(self, key: JobKey, facts: JobFacts) -> Domain:
        return Domain(self._context.global_id, key.address, facts.escrow_epoch)

    async def _run(self, key: JobKey, request: EngineRequest) -> EngineResult:
        """Ask the engine until it answers, the attempts are used up, or the deadline is too near."""
        attempts, pauses = 0, 0
        while True:
            left = self._time_left(key)
            try:
                return await self._context.engine.run(request, deadline_s=left)
            except EngineRequestError:
                raise
            except EngineError as error:
                attempts += not isinstance(error, EngineUnavailableError)
                pauses += 1
                pause = min(_MAX_ENGINE_PAUSE_S, 1 << min(pauses, 8))
                out_of_time = self._time_left(key) <= pause + _LEAST_RUN_S
                if attempts >= self._policy.engine_attempts or out_of_time:
                    raise
                self._context.log.warning("engine failed", job=str(key), why=str(error), retry_in_s=pause)
                await self._context.clock.sleep(pause)

    def _time_left(self, key: JobKey) -> float:
        job = self._journal.job(key)
        deadline = 0 if job is None else job.deadline
        margin = self._policy.confirmation_s + self._policy.safety_s
        return max(0.0, float(deadline - margin - self._context.time.maybe()))

    def _finish(
        self,
        key: JobKey,
        facts: JobFacts,
        offer: OwnOffer,
        payload: PayloadRecord,
        answer: EngineResult,
        proof: dict[str, Any] | None,
    ) -> None:
        counts = answer.usage
        usage = Usage(
            input_tokens=counts.prompt_tokens,
            cached_input_tokens=counts.cached_tokens,
            output_tokens=counts.completion_tokens,
        )
        # More than the agreed maximum is our own miscalculation: the client never pays it.
        amount = Nano(min(price(usage, offer.terms), facts.max_price))
        job_ref = JobRef.of(key.address, key.id)
        result = ResultPlain(job=job_ref, response=answer.response, usage=usage, proof=proof)
        try:
            sealed = seal_result(result, read_payload_header(payload.data).client_key)
        except MalformedError as error:
            self._give_up(key, f"the answer cannot be delivered: {error}")
            return
        if not self._delivery.can_carry(len(sealed.data)):
            why = f"a result of {len(sealed.data)} bytes does not fit inline and no result store is set"
            self._give_up(key, why)
            return
        digest = result_digest(
            self._domain(key, facts), self._context.stake.address, key.id, sealed.result_hash, amount
        )
        now = self._context.time.maybe()
        record = ResultRecord(
            sealed=sealed.data,
            text=sealed.text,
            result_hash=sealed.result_hash,
            amount=amount,
            signature=self._context.operator.sign(digest),
            created_at=now,
        )
        with self._journal.transaction():
            job = self._journal.job(key)
            if job is None or job.state is not JobState.RUNNING:
                return  # meanwhile the escrow ended it
            self._journal.put_result(key, record)
            ready = replace(move(job, JobState.READY, now), ready_at=now, amount=amount)
            self._books.keep(job, ready)
        self._context.metrics.tokens.labels("input").inc(usage.input_tokens)
        self._context.metrics.tokens.labels("output").inc(usage.output_tokens)

    def _move(self, job: JobRecord, state: JobState) -> JobRecord:
        moved = move(job, state, self._context.time.maybe())
        with self._journal.transaction():
            self._books.keep(job, moved)
        return moved

    def _give_up(self, key: JobKey, reason: str) -> None:
        with self._journal.transaction():
            job = self._journal.job(key)
            if job is not None and job.state is JobState.RUNNING:
                self._books.keep(job, give_up(job, self._context.time.maybe(), reason))
