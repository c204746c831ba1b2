"""Everything about one job, read over a `Chain`: its life, where it stands, what can happen next.

Owns which accounts are read and how far back. Must not know adapters or sentences; a worker's endpoint is
asked through a function that the caller gives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.chain.base import AccountStatus, Chain
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.errors import CocoonError, ForgedAccountError
from cocoon_sdk.explain.account import STATUS_BY_NUMBER, Recognised, recognise
from cocoon_sdk.explain.facts import AccountKindName, Fact, Party, Role, Standing, TxRef
from cocoon_sdk.explain.findings import Inquiry
from cocoon_sdk.explain.job_facts import (
    ActionSkipped,
    ArbiterPaid,
    HistoryCutOff,
    JobDisputed,
    JobReclaimed,
    JobStatus,
    JobTotals,
    NobodyThere,
    OutcomeWaiting,
    StandsNow,
    WorkerPaid,
    WorkerSays,
    WorkerSlashed,
)
from cocoon_sdk.explain.job_rules import OUTCOME_KINDS, Rules
from cocoon_sdk.explain.job_story import JobStory
from cocoon_sdk.explain.names import action_name, code_name
from cocoon_sdk.explain.next_steps import Standing as JobStanding
from cocoon_sdk.explain.next_steps import next_steps
from cocoon_sdk.history import (
    MAX_WALK,
    AccountKind,
    ClaimAction,
    DecodedTransaction,
    FinalizeAction,
    JobEventKind,
    SignedAction,
    SubmitAction,
    actions_of,
    steps_of,
    walk,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.disputes import DisputeKind, dispute_digest
from cocoon_sdk.protocol.signing import account_address
from cocoon_sdk.types import Hash, Nano

Asker: TypeAlias = Callable[[Address, Address, int], Awaitable[WorkerSays | None]]
"""Asks a worker (its stake's address) about a job (escrow, id) over its endpoint; None if it has none."""

MAX_WORKERS: Final = 8
MAX_WORKER_WALK: Final = 512


class NotAnEscrowError(CocoonError):
    """A job was named by an account that is no escrow."""


@dataclass(frozen=True, slots=True)
class JobReport:
    """All facts about a job, in the order to be told."""

    parties: tuple[Fact, ...]
    events: tuple[Fact, ...]
    found: tuple[Fact, ...]
    now: tuple[Fact, ...]
    next: tuple[Fact, ...]
    totals: tuple[Fact, ...]


async def job_report(
    chain: Chain,
    escrow: Address,
    job_id: int,
    *,
    network: Network | None = None,
    ask: Asker | None = None,
    inquire: Inquiry | None = None,
) -> JobReport:
    """Read a job and all that happened to it; `inquire` asks who checked its result.

    Raises `NotAnEscrowError`, `ForgedAccountError`, and what the `Chain` raises.
    """
    found = await believed(chain, escrow, network)
    view = await Escrow.at(chain, escrow).state()
    if view.params is None or not 0 < job_id < view.next_id:
        unknown = StandsNow(status=JobStatus.UNKNOWN, held=Nano(0))
        return JobReport(tuple(_parties(found, None)), (), (), (unknown,), (), ())
    entry = await Escrow.at(chain, escrow).job(job_id)
    rules = Rules.of(view.params if entry is None else entry.params)
    story = JobStory(escrow, job_id, rules)
    transactions, complete = await _since_opening(chain, escrow, job_id)
    for transaction in transactions:
        story.feed(transaction)
    opened_lt = transactions[0].lt if transactions else 0
    workers = [await _worker(chain, worker, found, story, opened_lt) for worker in _some(story)]
    events = sorted(
        [*story.facts, *(fact for worker in workers for fact in worker.facts)],
        key=lambda fact: (fact.at or 0, fact.tx.lt if fact.tx else 0),
    )
    if not complete:
        why = f"the job's opening is not among its newest {MAX_WALK} transactions"
        events.insert(0, HistoryCutOff(account=escrow, why=why))
    status, held = JobStatus.ENDED, Nano(0)
    if entry is not None:
        status, held = STATUS_BY_NUMBER[entry.status], Nano(entry.hold)
    now: list[Fact] = [StandsNow(status=status, held=held)]
    now += [fact async for fact in _asked(chain, ask, story, entry, escrow)]
    now += [fact async for fact in _waiting(chain, escrow, job_id, view)]
    return JobReport(
        parties=tuple(_parties(found, story)),
        events=tuple(events),
        found=() if inquire is None else tuple(await inquire(job_id, await _dispute(chain, story))),
        now=tuple(now),
        next=await _next(chain, escrow, job_id, entry),
        totals=(_totals(story, workers),) if story.facts else (),
    )


async def believed(chain: Chain, escrow: Address, network: Network | None) -> Recognised:
    """Recognise an escrow. Raises `NotAnEscrowError`, `ForgedAccountError`, and what the `Chain` raises."""
    found = await recognise(chain, escrow, network)
    if found.what is not AccountKindName.ESCROW:
        raise NotAnEscrowError(
            f"{escrow.to_str()} holds no jobs",
            why=f"it is {found.what.value}",
            hint="Name a job as ESCROW/ID, with the address of the client's escrow",
        )
    if found.standing is not Standing.GENUINE:
        raise ForgedAccountError(f"{escrow.to_str()} cannot be believed", why=found.standing.value)
    return found


async def _since_opening(chain: Chain, escrow: Address, job_id: int) -> tuple[list[DecodedTransaction], bool]:
    """Return the escrow's transactions from the job's opening on, oldest first, and whether it was found."""
    found: list[DecodedTransaction] = []
    async for transaction in walk(chain, escrow):
        found.append(transaction)
        if any(step.kind is JobEventKind.OPENED for step in steps_of(transaction, job_id)):
            return found[::-1], True
    return found[::-1], False


async def _dispute(chain: Chain, story: JobStory) -> Hash | None:
    """Return the digest of the dispute about a job, None if there was none."""
    times = [fact.at for fact in story.facts if isinstance(fact, JobDisputed) and fact.at is not None]
    if not times:
        return None
    domain = await Escrow.at(chain, story.escrow).domain()
    return dispute_digest(domain, DisputeKind.JOB, story.job_id, times[-1])


def _some(story: JobStory) -> list[Address]:
    return list(story.workers.values())[:MAX_WORKERS]


# -- the workers' side -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _WorkerSide:
    facts: tuple[Fact, ...]
    network_fees: Nano
    shared: bool


async def _worker(
    chain: Chain, worker: Address, found: Recognised, story: JobStory, opened_lt: int
) -> _WorkerSide:
    """Read what a worker's stake did about the job: skipped actions, and the fees of its transactions."""
    facts: list[Fact] = []
    fees, shared = Nano(0), False
    escrow = found.state.address
    async for transaction in walk(chain, worker, after_lt=opened_lt, limit=MAX_WORKER_WALK):
        actions = actions_of(transaction, AccountKind.STAKE)
        locks = {lock for account, lock in story.locks if account == worker.hash_part}
        mine = [(action, code) for action, code in actions if _is_about(action, found, story.job_id, locks)]
        facts += [_skipped(transaction, action, code) for action, code in mine[::-1] if code is not None]
        if mine or _touches(transaction, escrow, story.job_id):
            fees += transaction.total_fees + transaction.forward_fees
            shared |= len(actions) > 1
    return _WorkerSide(tuple(facts[::-1]), fees, shared)


def _is_about(action: SignedAction, found: Recognised, job_id: int, locks: set[int]) -> bool:
    """Tell whether an operator's action names this job.

    It names the escrow by its address, by what that derives from, or by one of the stake's `locks` for it.
    """
    if getattr(action, "job_id", None) != job_id or found.identity is None:
        return False
    match action:
        case FinalizeAction(escrow=address):
            return bool(address == found.state.address)
        case ClaimAction(target=named):
            return bool(account_address(named.escrow) == found.state.address)
        case SubmitAction(work=m.SubmitMore(lock=lock)):
            return lock in locks
        case SubmitAction(work=m.SubmitWork() | m.SubmitInstant() | m.SubmitOnClaim() as named):
            same_owner = account_address(named.escrow_owner) == found.identity.owner
            return bool(same_owner and named.escrow_index == found.identity.index)
    return False


def _touches(transaction: DecodedTransaction, escrow: Address, job_id: int) -> bool:
    incoming = transaction.in_message
    if incoming is not None and incoming.src == escrow and incoming.job_id == job_id:
        return True
    return any(message.dst == escrow and message.job_id == job_id for message in transaction.out_messages)


def _skipped(transaction: DecodedTransaction, action: SignedAction, code: int) -> ActionSkipped:
    named = code_name(code)
    return ActionSkipped(
        at=transaction.now,
        tx=TxRef(transaction.address, transaction.lt),
        by=Role.WORKER,
        account=transaction.address,
        action=action_name(action),
        exit_code=code,
        name=named.name,
        why=named.why,
        hint=named.hint,
    )


# -- the present -----------------------------------------------------------------------------------------


async def _asked(
    chain: Chain, ask: Asker | None, story: JobStory, entry: m.Job | None, escrow: Address
) -> AsyncIterator[Fact]:
    if entry is None or story.worker is None:
        return
    if (await chain.account(story.worker)).status is not AccountStatus.ACTIVE:
        yield NobodyThere(worker=story.worker)
        return
    if ask is None:
        return
    if STATUS_BY_NUMBER[entry.status] in (JobStatus.OPEN, JobStatus.CLAIMED):
        said = await ask(story.worker, escrow, story.job_id)
        if said is not None:
            yield said


async def _waiting(chain: Chain, escrow: Address, job_id: int, view: m.EscrowView) -> AsyncIterator[Fact]:
    if view.tombstones is None:
        return
    for kind, outcome in enumerate(OUTCOME_KINDS):
        kept = await Escrow.at(chain, escrow).tombstone(job_id, kind)
        if kept is not None:
            yield OutcomeWaiting(
                worker=account_address(kept.worker),
                outcome=outcome,
                amount=Nano(kept.amount),
                expires=kept.expires,
                sent=kept.sent,
            )


async def _next(chain: Chain, escrow: Address, job_id: int, entry: m.Job | None) -> tuple[Fact, ...]:
    if entry is None:
        return ()
    rules = Rules.of(entry.params)
    standing = JobStanding(
        job=f"{escrow.to_str()}/{job_id}",
        status=STATUS_BY_NUMBER[entry.status],
        directed=entry.worker != 0,
        window_s=entry.window,
        deadline=entry.deadline,
        evidence_s=rules.evidence_s,
        arbitration_s=rules.arbitration_s,
    )
    return next_steps(standing, (await chain.head()).now)


def _parties(found: Recognised, story: JobStory | None) -> Iterator[Party]:
    yield Party(role=Role.ESCROW, address=found.state.address)
    if found.identity is not None:
        yield Party(role=Role.CLIENT, address=found.identity.owner)
        yield Party(role=Role.REGISTRY, address=found.identity.registry)
    for worker in [] if story is None else _some(story):
        yield Party(role=Role.WORKER, address=worker)


def _totals(story: JobStory, workers: list[_WorkerSide]) -> JobTotals:
    paid = [fact for fact in story.facts if isinstance(fact, WorkerPaid)]
    slashes = [fact for fact in story.facts if isinstance(fact, WorkerSlashed)]
    late = [fact for fact in story.facts if isinstance(fact, JobReclaimed)]
    burned = Nano(sum(fact.burned for fact in slashes) + sum(fact.burned for fact in late))
    arbiters = [fact.amount for fact in story.facts if isinstance(fact, ArbiterPaid)]
    fee = Nano(sum(fact.fee for fact in paid))
    return JobTotals(
        to_worker=Nano(sum(fact.amount for fact in paid)) - fee,
        protocol_fee=fee,
        to_arbiters=Nano(sum(arbiters)),
        slashed=Nano(burned + sum(fact.back for fact in slashes) + sum(fact.back for fact in late)),
        burned=burned,
        client_network_fees=story.client_network_fees,
        worker_network_fees=Nano(sum(worker.network_fees for worker in workers)),
        shared=story.shared or any(worker.shared for worker in workers),
    )
