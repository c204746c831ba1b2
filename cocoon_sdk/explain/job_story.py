"""The life of a job, replayed from the escrow's transactions into facts.

Owns following a job's state, so that a refusal can be explained by what stood in its way. Must not read a
chain: what happened comes in as decoded transactions, oldest first. Pure.
"""

from __future__ import annotations

from typing import Any

from pytoniq_core import Address

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.explain.facts import Fact, Role, TxRef
from cocoon_sdk.explain.job_facts import (
    ActionSkipped,
    ArbiterPaid,
    JobCancelled,
    JobClaimed,
    JobDisputed,
    JobOpened,
    JobReclaimed,
    JobStatus,
    MessageRefused,
    NoticeReturned,
    OutcomeKind,
    OutcomeRedelivered,
    OutcomeUndelivered,
    PaidBecause,
    ResultSubmitted,
    SlashArrived,
    VerdictExecuted,
    Work,
    WorkerPaid,
    WorkerSlashed,
    WorkRefused,
)
from cocoon_sdk.explain.job_rules import (
    OUTCOME_KINDS,
    OUTCOMES,
    Position,
    Rules,
    bounced_amount,
    locks_named,
    payload_place,
    why_refused,
)
from cocoon_sdk.explain.names import action_name, code_name, message_name
from cocoon_sdk.history import (
    AcceptSignedAction,
    AccountKind,
    ChainMessage,
    DecodedTransaction,
    JobEvent,
    JobEventKind,
    MessageKind,
    OpenJobAction,
    actions_of,
    steps_of,
)
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.abi_runtime import Message
from cocoon_sdk.protocol.signing import account_address
from cocoon_sdk.types import Hash, Nano

_BURN = account_address(c.BURN_ACCOUNT)


class JobStory:
    """Follows one job. Feed every transaction of its escrow from the opening on, oldest first."""

    def __init__(self, escrow: Address, job_id: int, rules: Rules) -> None:
        self.escrow, self.job_id, self.rules = escrow, job_id, rules
        self.facts: list[Fact] = []
        self.status = JobStatus.UNKNOWN
        self.terms: m.JobTerms | None = None
        self.worker: Address | None = None
        self.workers: dict[bytes, Address] = {}
        self.locks: set[tuple[bytes, int]] = set()
        """Those for this escrow that were seen: account of the worker's stake, and number."""
        self.deadline = 0
        self.amount = Nano(0)
        self.shared = False
        self.client_network_fees = Nano(0)

    def feed(self, transaction: DecodedTransaction) -> None:
        """Add what one transaction of the escrow did to the job."""
        before = len(self.facts)
        incoming = transaction.in_message
        self.locks |= set(locks_named(transaction))
        if incoming is None:
            return
        if incoming.kind is MessageKind.EXTERNAL_IN:
            self._external(transaction)
        elif incoming.job_id == self.job_id:
            self._internal(transaction, incoming)
        if len(self.facts) > before:
            self.client_network_fees += transaction.total_fees + transaction.forward_fees

    # -- what happened --------------------------------------------------------------------------------

    def _external(self, transaction: DecodedTransaction) -> None:
        actions = actions_of(transaction, AccountKind.ESCROW)
        mine = [pair for pair in actions if getattr(pair[0], "job_id", None) == self.job_id]
        steps = {id(step.action): step for step in steps_of(transaction, self.job_id)}
        self.shared |= bool(mine) and len(actions) > len(mine)
        for action, code in mine:
            if code is not None:
                named = code_name(code)
                self.facts.append(
                    ActionSkipped(
                        **_at(transaction),
                        by=Role.CLIENT,
                        account=self.escrow,
                        action=action_name(action),
                        exit_code=code,
                        name=named.name,
                        why=named.why,
                        hint=named.hint,
                    )
                )
        for step in steps.values():
            self._step(step)

    def _internal(self, transaction: DecodedTransaction, incoming: ChainMessage) -> None:
        if not transaction.success and not isinstance(incoming.content, m.Claim):
            code = transaction.exit_code if transaction.exit_code is not None else 0
            named = code_name(code)
            self.facts.append(
                MessageRefused(
                    **_at(transaction),
                    sender=incoming.src,
                    message=message_name(incoming.op),
                    exit_code=code,
                    name=named.name,
                    why=named.why,
                    hint=named.hint,
                )
            )
            return
        if incoming.bounced and incoming.op not in OUTCOMES and incoming.src is not None:
            self.facts.append(
                NoticeReturned(**_at(transaction), to=incoming.src, notice=message_name(incoming.op))
            )
            return
        if isinstance(incoming.content, m.SlashPaid) and incoming.src is not None:
            self.facts.append(
                SlashArrived(**_at(transaction), worker=incoming.src, amount=Nano(incoming.content.amount))
            )
        for step in steps_of(transaction, self.job_id):
            self._step(step)

    def _step(self, step: JobEvent) -> None:
        match step.kind:
            case JobEventKind.OPENED:
                self._opened(step)
            case JobEventKind.CLAIMED:
                self._claimed(step)
            case JobEventKind.SUBMITTED | JobEventKind.PAID_AT_ONCE:
                self._submitted(step)
            case JobEventKind.REFUSED:
                self._refused(step)
            case JobEventKind.ACCEPTED | JobEventKind.ACCEPTED_SIGNED | JobEventKind.FINALIZED:
                self._paid(step)
            case JobEventKind.DISPUTED:
                self._disputed(step)
            case JobEventKind.RESOLVED:
                self._resolved(step)
            case JobEventKind.RECLAIMED:
                self._reclaimed(step)
            case JobEventKind.CANCELLED:
                by_owner = step.action is None
                self.facts.append(JobCancelled(**_at(step.transaction), price=self._price, by_owner=by_owner))
                self.status = JobStatus.ENDED
            case JobEventKind.UNDELIVERED | JobEventKind.DELIVERED:
                self._delivery(step)

    def _opened(self, step: JobEvent) -> None:
        action = step.action
        if not isinstance(action, OpenJobAction):
            return
        try:
            self.terms = terms = action.job_terms()
        except MalformedError:
            return  # a codec of another version; what follows is told without it
        now = step.transaction.now
        bond, collateral = self.rules.bond_and_collateral(terms)
        self.status = JobStatus.OPEN
        self.deadline = now + terms.claim_period
        if terms.worker is not None:
            offer = next((x for x in step.transaction.out_messages if self._is(x, m.JobOffer)), None)
            self.worker = None if offer is None else offer.dst
            self._met(self.worker)
        self.facts.append(
            JobOpened(
                **_at(step.transaction),
                model_id=_hash(terms.model_id),
                price=Nano(terms.max_price),
                bond=bond,
                collateral=collateral,
                worker=self.worker,
                claim_by=self.deadline,
                work_period_s=terms.work_period,
                window_s=terms.window,
                items=terms.items,
                payload=payload_place(action.data),
            )
        )

    def _claimed(self, step: JobEvent) -> None:
        message = step.message
        if message is None or message.src is None or not isinstance(message.content, m.Claim):
            return
        self.status, self.worker = JobStatus.CLAIMED, message.src
        self._met(message.src)
        self.deadline = step.transaction.now + (self.terms.work_period if self.terms else 0)
        self.facts.append(
            JobClaimed(
                **_at(step.transaction),
                worker=message.src,
                bond=self.rules.late_split(self._price)[0],
                submit_by=self.deadline,
            )
        )

    def _submitted(self, step: JobEvent) -> None:
        message = step.message
        if message is None or message.src is None:
            return
        content, now = message.content, step.transaction.now
        if not isinstance(content, m.Submit | m.SubmitClaimed):
            return
        self._met(message.src)
        self.status, self.worker, self.amount = JobStatus.SUBMITTED, message.src, Nano(content.amount)
        self.deadline = now + (self.terms.window if self.terms else 0)
        self.facts.append(
            ResultSubmitted(
                **_at(step.transaction),
                worker=message.src,
                amount=Nano(content.amount),
                result_hash=_hash(content.result_hash),
                window_end=self.deadline,
            )
        )
        if step.kind is JobEventKind.PAID_AT_ONCE:
            self._pay(step, PaidBecause.NO_WINDOW)

    def _refused(self, step: JobEvent) -> None:
        message = step.message
        if message is None or message.src is None:
            return
        content = message.content
        if not isinstance(content, m.Claim | m.Submit | m.SubmitClaimed):
            return
        self._met(message.src)
        reason = why_refused(content, message.src, self._position(), step.transaction.now)
        if isinstance(content, m.Claim):
            returned = Nano(sum(x.value for x in step.transaction.out_messages))
            fact = WorkRefused(
                **_at(step.transaction),
                worker=message.src,
                work=Work.CLAIM,
                reason=reason,
                returned=returned,
            )
        else:
            fact = WorkRefused(
                **_at(step.transaction),
                worker=message.src,
                work=Work.SUBMISSION,
                reason=reason,
                freed=Nano(content.collateral),
                amount=Nano(content.amount),
            )
        self.facts.append(fact)

    def _paid(self, step: JobEvent) -> None:
        if step.kind is JobEventKind.ACCEPTED:
            self._pay(step, PaidBecause.ACCEPTED)
        elif isinstance(step.action, AcceptSignedAction):
            self._pay(step, PaidBecause.ACCEPTED_SIGNED, step.action.result_hash)
        elif self.status is JobStatus.DISPUTED:
            self._pay(step, PaidBecause.ARBITERS_SILENT)
        else:
            self._pay(step, PaidBecause.WINDOW_OVER)

    def _pay(self, step: JobEvent, because: PaidBecause, result_hash: Hash | None = None) -> None:
        for message in step.transaction.out_messages:
            if self._is(message, m.Reward) and isinstance(message.content, m.Reward) and message.dst:
                self.facts.append(
                    WorkerPaid(
                        **_at(step.transaction),
                        worker=message.dst,
                        amount=Nano(message.content.amount),
                        fee=Nano(message.content.fee),
                        price=self._price,
                        because=because,
                        by=None if step.message is None else step.message.src,
                        result_hash=result_hash,
                    )
                )
        self.status = JobStatus.ENDED

    def _disputed(self, step: JobEvent) -> None:
        p, now = self.rules.params, step.transaction.now
        self.status, self.deadline = JobStatus.DISPUTED, now
        self.facts.append(
            JobDisputed(
                **_at(step.transaction),
                worker=self.worker or self.escrow,
                amount=self.amount,
                bond=Nano(p.dispute_bond),
                evidence_until=now + self.rules.evidence_s,
                verdict_until=now + self.rules.evidence_s + self.rules.arbitration_s,
            )
        )

    def _resolved(self, step: JobEvent) -> None:
        resolve = None if step.message is None else step.message.content
        if not isinstance(resolve, m.Resolve):
            return
        verdict = m.Verdict.from_cell(resolve.verdict)
        shares = [x for x in step.transaction.out_messages if x.kind is MessageKind.INTERNAL and x.op is None]
        self.facts.append(
            VerdictExecuted(
                **_at(step.transaction),
                worker=self.worker or self.escrow,
                asked=self.amount,
                pay=Nano(verdict.pay),
                slash=Nano(verdict.slash),
                signers=len(shares),
            )
        )
        for share in shares:
            if share.dst is not None:
                self.facts.append(ArbiterPaid(**_at(step.transaction), arbiter=share.dst, amount=share.value))
        self._pay(step, PaidBecause.VERDICT)
        self._slashes(step)

    def _reclaimed(self, step: JobEvent) -> None:
        burned = sum(x.value for x in step.transaction.out_messages if x.dst == _BURN)
        self.facts.append(
            JobReclaimed(
                **_at(step.transaction),
                worker=self.worker or self.escrow,
                price=self._price,
                by=None if step.message is None else step.message.src,
                back=self.rules.late_split(self._price)[1],
                burned=Nano(burned),
            )
        )
        self.status = JobStatus.ENDED

    def _slashes(self, step: JobEvent) -> None:
        for message in step.transaction.out_messages:
            if self._is(message, m.Slash) and isinstance(message.content, m.Slash) and message.dst:
                amount, back = Nano(message.content.amount), Nano(message.content.back)
                self.facts.append(
                    WorkerSlashed(**_at(step.transaction), worker=message.dst, amount=amount, back=back)
                )

    def _delivery(self, step: JobEvent) -> None:
        message = step.message
        if message is None:
            return
        if step.kind is JobEventKind.UNDELIVERED and message.src is not None and message.op is not None:
            outcome = OUTCOMES[message.op]
            self.facts.append(
                OutcomeUndelivered(
                    **_at(step.transaction),
                    worker=message.src,
                    outcome=outcome,
                    amount=bounced_amount(message) if outcome is not OutcomeKind.RELEASE else Nano(0),
                )
            )
        elif isinstance(message.content, m.Deliver):
            sent = next((x for x in step.transaction.out_messages if x.op in OUTCOMES), None)
            self.facts.append(
                OutcomeRedelivered(
                    **_at(step.transaction),
                    worker=None if sent is None else sent.dst,
                    outcome=OUTCOME_KINDS[message.content.kind % len(OUTCOME_KINDS)],
                    by=message.src,
                )
            )

    def _position(self) -> Position:
        return Position(self.status, self.worker, self.deadline, self._price, self._window)

    # -- small things ---------------------------------------------------------------------------------

    @property
    def _price(self) -> Nano:
        return Nano(0) if self.terms is None else Nano(self.terms.max_price)

    @property
    def _window(self) -> int:
        return 0 if self.terms is None else self.terms.window

    def _is(self, message: ChainMessage, wanted: type[Message]) -> bool:
        return isinstance(message.content, wanted) and message.job_id == self.job_id

    def _met(self, worker: Address | None) -> None:
        if worker is not None:
            self.workers.setdefault(worker.hash_part, worker)


def _at(transaction: DecodedTransaction) -> dict[str, Any]:
    """Return when and where a fact happened."""
    return {"at": transaction.now, "tx": TxRef(transaction.address, transaction.lt)}


def _hash(value: int) -> Hash:
    return Hash(value.to_bytes(32, "big"))
