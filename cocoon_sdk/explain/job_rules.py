"""What a job's parameters and state mean: amounts set aside, and why a worker's message was refused.

Owns the escrow's checks seen from the outside, in the contract's order. Must not read a chain. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address, Cell

from cocoon_sdk.data.location import InlineData, LocationRefusedError, decode_data
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.explain.job_facts import JobStatus, OutcomeKind, PayloadPlace, Refusal
from cocoon_sdk.history import ChainMessage, DecodedTransaction
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.claims import claim_bond, late_compensation
from cocoon_sdk.types import Nano


def share_up(amount: int, bps: int) -> int:
    """Return `bps` basis points of an amount, rounded up as the contracts do."""
    return -(-amount * bps // c.BASIS_POINTS)


OUTCOMES: Final = {
    m.Reward.OPCODE: OutcomeKind.REWARD,
    m.Slash.OPCODE: OutcomeKind.SLASH,
    m.Release.OPCODE: OutcomeKind.RELEASE,
}
"""By the operation of the message that carries them."""
OUTCOME_KINDS: Final = tuple(OutcomeKind)
"""By the number that `Deliver` and tombstones use."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameter cell a job was opened under, read once."""

    cell: Cell
    params: m.Params
    rules: m.ParamsRules

    @classmethod
    def of(cls, cell: Cell) -> Rules:
        """Read a parameter cell. Raises `MalformedError`."""
        params = m.Params.from_cell(cell)
        return cls(cell, params, m.ParamsRules.from_cell(params.rules))

    def late_split(self, price: int) -> tuple[Nano, Nano]:
        """Return the bond of a claim, and the client's part of it when the worker is late."""
        return claim_bond(price, self.cell), late_compensation(price, self.cell)

    @property
    def evidence_s(self) -> int:
        """Seconds after a dispute in which both sides open what they have."""
        return self.rules.evidence_deadline

    @property
    def arbitration_s(self) -> int:
        """Seconds after the evidence in which the arbiters may rule."""
        return self.rules.arbitration_timeout

    def bond_and_collateral(self, terms: m.JobTerms) -> tuple[Nano, Nano]:
        """Return the bond with its announcement, and the collateral, as the escrow computes them."""
        if not terms.window:
            return Nano(0), Nano(0)
        p = self.params
        bps = p.batch_collateral_bps if terms.items >= c.BATCH_ITEMS else p.collateral_bps
        return Nano(p.dispute_bond + p.announce_fee), Nano(
            max(p.min_collateral, share_up(terms.max_price, bps))
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Where a job stood when a message arrived."""

    status: JobStatus
    worker: Address | None
    deadline: int
    price: Nano
    window: int


def why_refused(
    content: m.Claim | m.Submit | m.SubmitClaimed, worker: Address, job: Position, now: int
) -> Refusal:
    """Say what in the job's state stood against a claim that came back, or a submission that got `Gone`."""
    if job.status is JobStatus.UNKNOWN:
        return Refusal.NEVER_OPENED
    if job.status is JobStatus.ENDED:
        return Refusal.ENDED
    if isinstance(content, m.SubmitClaimed):
        return _why_not_on_claim(content, worker, job, now)
    if job.status is not JobStatus.OPEN:
        if job.worker == worker:
            claimed = job.status is JobStatus.CLAIMED
            return Refusal.ALREADY_CLAIMED if claimed else Refusal.ALREADY_SUBMITTED
        return Refusal.TAKEN
    if job.worker is not None and job.worker != worker:
        return Refusal.DIRECTED
    if now > job.deadline:
        return Refusal.LATE_CLAIM if isinstance(content, m.Claim) else Refusal.LATE_SUBMISSION
    if isinstance(content, m.Submit):
        if job.worker is None:
            return Refusal.NO_CLAIM
        if content.amount > job.price:
            return Refusal.OVER_PRICE
    elif not job.window:
        return Refusal.NO_WINDOW
    return Refusal.WRONG_BINDING


def _why_not_on_claim(content: m.SubmitClaimed, worker: Address, job: Position, now: int) -> Refusal:
    if job.status is JobStatus.OPEN or job.worker != worker:
        return Refusal.NO_CLAIM
    if job.status is not JobStatus.CLAIMED:
        return Refusal.ALREADY_SUBMITTED
    if now > job.deadline:
        return Refusal.LATE_SUBMISSION
    return Refusal.OVER_PRICE if content.amount > job.price else Refusal.WRONG_BINDING


def payload_place(data: Cell | None) -> PayloadPlace:
    """Say where the bytes are that a data cell stands for."""
    if data is None:
        return PayloadPlace.NOT_ON_CHAIN
    try:
        found = decode_data(data)
    except (MalformedError, LocationRefusedError):
        return PayloadPlace.UNREADABLE
    return PayloadPlace.INLINE if isinstance(found, InlineData) else PayloadPlace.BY_REFERENCE


def bounced_amount(message: ChainMessage) -> Nano:
    """Read the amount that a bounced outcome still shows: operation, id, collateral, amount follow a marker.

    A reward is owed with what came back at most: what the account burned on its way is its own loss.
    """
    skipped = 32 + 32 + 32 + 53
    bits = message.body.begin_parse()
    if len(bits.bits) < skipped + 53:
        return Nano(0)
    amount = Nano(bits.skip_bits(skipped).load_uint(53))
    return min(amount, message.value) if message.op == m.Reward.OPCODE else amount


def locks_named(transaction: DecodedTransaction) -> Iterator[tuple[bytes, int]]:
    """Yield the locks of workers' stakes, by account and number, that a transaction of an escrow names."""
    incoming = transaction.in_message
    sides = [] if incoming is None else [(incoming.src, incoming.content)]
    sides += [(message.dst, message.content) for message in transaction.out_messages]
    for worker, content in sides:
        lock = getattr(content, "lock", 0)
        if worker is not None and lock:
            yield worker.hash_part, lock
