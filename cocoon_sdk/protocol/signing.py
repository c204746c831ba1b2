"""What is signed, and by which purpose: externals, results, verdicts (docs/protocol.md 6.1).

Owns the digests and the layout of signed externals. Must not know wallets, chains or key storage. The same
digests are computed by contracts/header.tact; the scenario tests hold both against each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pytoniq_core import Address, Builder, Cell, begin_cell

from cocoon_sdk.crypto.keys import SIGNATURE_BYTES, SigningKey, VerifyKey
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol.messages import (
    ClaimTarget,
    JobTerms,
    Redemption,
    Session,
    SessionEvidence,
    SessionParties,
    SessionTarget,
    SignedResult,
    SubmitInstant,
    SubmitMore,
    SubmitOnClaim,
    SubmitWork,
    Verdict,
)
from cocoon_sdk.types import Hash, Nano

NOTHING = Nano(0)
_FORGO_BITS = 56

MAX_VALIDITY_S = c.MAX_VALIDITY
"""Longest time ahead, in seconds, that an external may be valid."""


@dataclass(frozen=True, slots=True)
class Domain:
    """Where a signature counts: one contract, on one network, since one activation."""

    global_id: int
    contract: Address
    epoch: int

    def hash(self, purpose: int) -> Hash:
        """Return SHA-256 of purpose, network id, contract and epoch, which begins what externals sign."""
        if self.contract.wc != 0:
            raise MalformedError("cannot sign for this contract", why="it is not in workchain 0")
        content = b"".join(
            (
                purpose.to_bytes(4, "big"),
                self.global_id.to_bytes(4, "big", signed=True),
                self.contract.hash_part,
                self.epoch.to_bytes(4, "big"),
            )
        )
        return Hash(hashlib.sha256(content).digest())

    def header(self, purpose: int, counterparty: int) -> bytes:
        """Return what others sign for an escrow begins with: purpose, domain, counterparty (account id)."""
        domain = self.hash(c.PURPOSE_ESCROW_EXTERNAL)
        return purpose.to_bytes(4, "big") + domain + counterparty.to_bytes(32, "big")


def account_id(address: Address) -> int:
    """Return the 256-bit account id of an address in workchain 0. Raises `MalformedError` elsewhere."""
    if address.wc != 0:
        raise MalformedError("all accounts of the suite live in workchain 0", why=f"got {address.to_str()}")
    return int.from_bytes(address.hash_part, "big")


def account_address(account: int) -> Address:
    """Return the address in workchain 0 of a 256-bit account id."""
    return Address((0, account.to_bytes(32, "big")))


def key_tag(public_key: int) -> int:
    """Return what a claim shows of an operator key: its last 112 bits."""
    return public_key % c.KEY_TAG_RANGE


def job_hash(terms: Cell) -> int:
    """Return what names a job's terms in claims and submissions: the last 128 bits of the cell's hash."""
    return int.from_bytes(terms.hash[16:], "big")


def binding_hash(params: Cell, terms: Cell) -> int:
    """Return what a claim or submission binds: the stake's parameters XOR the terms of the job, 128 bits."""
    return int.from_bytes(params.hash[16:], "big") ^ job_hash(terms)


def session_hash(session: Session) -> int:
    """Return what names a session in `SessionTarget`: what is fixed of it while it is open, 128 bits."""
    content = b"".join(
        (
            session.deadline.to_bytes(4, "big"),
            session.worker.to_bytes(32, "big"),
            session.voucher_key.to_bytes(32, "big"),
            session.fee_bps.to_bytes(2, "big"),
        )
    )
    return int.from_bytes(hashlib.sha256(content).digest()[16:], "big")


def result_digest(domain: Domain, worker: Address, job_id: int, result_hash: bytes, amount: int) -> Hash:
    """Return what a worker signs to let the client end a job cooperatively."""
    content = job_id.to_bytes(4, "big") + result_hash + amount.to_bytes(8, "big")
    return Hash(hashlib.sha256(domain.header(c.PURPOSE_RESULT, account_id(worker)) + content).digest())


def voucher_digest(domain: Domain, worker: Address, session_id: int, amount: int) -> Hash:
    """Return what a session's voucher key signs: the cumulative amount that the worker may redeem."""
    content = session_id.to_bytes(4, "big") + amount.to_bytes(8, "big")
    return Hash(hashlib.sha256(domain.header(c.PURPOSE_VOUCHER, account_id(worker)) + content).digest())


def verdict_digest(domain: Domain, worker: Address, verdict: Verdict) -> Hash:
    """Return what an arbiter signs; `domain` is the escrow's, the worker is the counterparty."""
    content = b"".join(
        (
            verdict.id.to_bytes(4, "big"),
            verdict.disputed_at.to_bytes(4, "big"),
            verdict.result_hash.to_bytes(32, "big"),
            verdict.pay.to_bytes(8, "big"),
            verdict.slash.to_bytes(8, "big"),
        )
    )
    header = domain.header(c.PURPOSE_VERDICT, account_id(worker))
    return Hash(hashlib.sha256(header + hashlib.sha256(content).digest()).digest())


# -- actions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a signed external: its bits, and its references behind the link to the next action."""

    bits: Cell
    refs: tuple[Cell, ...] = ()


def _action(op: int, fields: Builder, *refs: Cell) -> Action:
    return Action(begin_cell().store_uint(op, 8).store_cell(fields.end_cell()).end_cell(), refs)


def _optional(data: Cell | None) -> tuple[Cell, ...]:
    return () if data is None else (data,)


def open_job(job_id: int, terms: Cell, data: Cell | None = None) -> Action:
    """Client: open the job with the expected id; `data` (inline or a location) stays in the external.

    Terms that name a worker make a directed job (window 0: one that is paid at once), others an open one.
    """
    if not terms.refs:
        op = c.ACTION_POST_JOB
    else:
        op = c.ACTION_OPEN_JOB if JobTerms.from_cell(terms).window else c.ACTION_OPEN_INSTANT
    return _action(op, begin_cell().store_uint(job_id, 32), terms, *_optional(data))


def accept_result(job_id: int) -> Action:
    """Client: accept what was submitted."""
    return _action(c.ACTION_ACCEPT_RESULT, begin_cell().store_uint(job_id, 32))


def accept_signed(
    job_id: int, amount: Nano, result_hash: bytes, signature: bytes, claim_key: int | None = None
) -> Action:
    """Client: accept a result that the worker signed, in place of its submission.

    A claimed job shows only the last bits of its operator key (`key_tag`): `claim_key` is all of it.
    """
    fields = begin_cell().store_uint(job_id, 32).store_uint(amount, 56)
    proof = begin_cell().store_bytes(signature)
    if claim_key is not None:
        proof.store_uint(claim_key // c.KEY_TAG_RANGE, 144)
    signed = SignedResult(result_hash=int.from_bytes(result_hash, "big"), signature=proof.end_cell())
    return _action(c.ACTION_ACCEPT_SIGNED, fields, signed.to_cell())


def dispute_result(job_id: int) -> Action:
    """Client: dispute what was submitted."""
    return _action(c.ACTION_DISPUTE_RESULT, begin_cell().store_uint(job_id, 32))


def cancel_job(job_id: int) -> Action:
    """Client: take an unserved job back."""
    return _action(c.ACTION_CANCEL_JOB, begin_cell().store_uint(job_id, 32))


def reclaim_late(job_id: int) -> Action:
    """Client: take a job back whose claimer is late."""
    return _action(c.ACTION_RECLAIM_LATE, begin_cell().store_uint(job_id, 32))


def open_session(
    session_id: int, worker: Address, voucher_key: VerifyKey, deposit: Nano, expiry: int
) -> Action:
    """Client: reserve a deposit for one worker under the expected id (docs/protocol.md 4).

    `worker` is the stake's address, `expiry` a unix time in seconds. It takes the deposit and the escrow's
    `session_gas` out of free funds and the daily limit. Raises `MalformedError` for a worker outside of
    workchain 0.
    """
    fields = begin_cell().store_uint(session_id, 32).store_uint(deposit, 56).store_uint(expiry, 32)
    parties = SessionParties(worker=account_id(worker), voucher_key=voucher_key.to_int())
    return _action(c.ACTION_OPEN_JOB, fields, parties.to_cell())


def top_up_session(session_id: int, amount: Nano) -> Action:
    """Client: add to the deposit of an open session; takes the amount and one `external_cost`."""
    fields = begin_cell().store_uint(session_id, 32).store_uint(amount, 64)
    return _action(c.ACTION_TOP_UP_SESSION, fields)


def close_session(session_id: int) -> Action:
    """Client: end a session; the worker then has the session's close delay to redeem."""
    return _action(c.ACTION_CLOSE_SESSION, begin_cell().store_uint(session_id, 32))


def settle_session(session_id: int) -> Action:
    """Client: take back what was not redeemed in time."""
    return _action(c.ACTION_SETTLE_SESSION, begin_cell().store_uint(session_id, 32))


def dispute_session(session_id: int, evidence_hash: bytes, model_id: bytes) -> Action:
    """Client: dispute what was done in a guarded session.

    `evidence_hash` (32 bytes) is of the receipts that arbiters shall judge and stands in their verdict;
    `model_id` (32 bytes) names the market on which the dispute is announced. Takes bond, announcement and
    three times `external_cost` out of free funds and the daily limit; all but the announcement and what
    this external costs is set aside and comes back, less the arbiters' fee.
    """
    evidence = SessionEvidence(
        evidence_hash=int.from_bytes(evidence_hash, "big"), model_id=int.from_bytes(model_id, "big")
    )
    fields = begin_cell().store_uint(session_id, 32)
    return _action(c.ACTION_DISPUTE_SESSION, fields, evidence.to_cell())


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTarget:
    """What an operator names of the job it works for; the stake derives the escrow from it."""

    escrow_owner: int
    escrow_index: int
    previous_code: bool
    """Whether the escrow runs what the stake's owner accepted as the previous code."""
    own_previous_code: bool
    """Whether the stake runs what the escrow's owner accepted as the previous code."""
    job_hash: int
    """`job_hash` of the terms."""
    collateral: Nano
    """What a submission locks; 0 with window 0."""
    lock: int
    """Number of a lock for this escrow that is there already, and takes the collateral in; or 1 to 255, a
    free slot for a new one."""


def claim(job_id: int, binding: int, target: ClaimTarget) -> Action:
    """Worker: claim a job with a bond.

    `binding` is `binding_hash` of the parameters and the terms that the job was seen with. The stake sends
    bond and gas to whatever account `target` names: whoever signs derives it.
    """
    fields = begin_cell().store_uint(job_id, 32).store_uint(binding, 128)
    return _action(c.ACTION_CLAIM, fields, target.to_cell())


def submit(
    job_id: int, amount: Nano, target: JobTarget, result_hash: bytes, data: Cell | None = None
) -> Action:
    """Worker: submit without a claim. A target whose lock is there needs no escrow, and costs less."""
    fields = begin_cell().store_uint(job_id, 32).store_uint(amount, 56)
    result = int.from_bytes(result_hash, "big")
    if not target.collateral:
        instant = SubmitInstant(
            escrow_owner=target.escrow_owner,
            escrow_index=target.escrow_index,
            previous_code=target.previous_code,
            job_hash=target.job_hash,
            result_hash=result,
        )
        return _action(c.ACTION_SUBMIT_INSTANT, fields, instant.to_cell(), *_optional(data))
    fields.store_uint(target.collateral, 56)
    if target.lock > c.MAX_LOCKS:
        more = SubmitMore(lock=target.lock, job_hash=target.job_hash, result_hash=result)
        return _action(c.ACTION_SUBMIT_MORE, fields, more.to_cell(), *_optional(data))
    work = SubmitWork(
        escrow_owner=target.escrow_owner,
        escrow_index=target.escrow_index,
        previous_code=target.previous_code,
        job_hash=target.job_hash,
        result_hash=result,
    )
    return _action(c.ACTION_SUBMIT, fields.store_uint(target.lock, 8), work.to_cell(), *_optional(data))


def submit_claimed(
    job_id: int, amount: Nano, target: JobTarget, result_hash: bytes, data: Cell | None = None
) -> Action:
    """Worker: submit on its claim."""
    fields = begin_cell().store_uint(job_id, 32).store_uint(amount, 56).store_uint(target.collateral, 56)
    work = SubmitOnClaim(
        escrow_owner=target.escrow_owner,
        escrow_index=target.escrow_index,
        previous_code=target.previous_code,
        own_previous_code=target.own_previous_code,
        lock=target.lock,
        result_hash=int.from_bytes(result_hash, "big"),
    )
    return _action(c.ACTION_SUBMIT_CLAIMED, fields, work.to_cell(), *_optional(data))


def announce(model_id: bytes, info_hash: bytes, data: Cell | None = None) -> Action:
    """Worker: publish its info on the market of a model."""
    topic = begin_cell().store_bytes(model_id).store_bytes(info_hash).end_cell()
    return _action(c.ACTION_ANNOUNCE, begin_cell().store_uint(0, 32), topic, *_optional(data))


def finalize(job_id: int, escrow: Address) -> Action:
    """Worker: ask an escrow to pay after the window."""
    target = begin_cell().store_bytes(escrow.hash_part).end_cell()
    return _action(c.ACTION_FINALIZE, begin_cell().store_uint(job_id, 32), target)


def voucher_cell(signature: bytes, forgo: Nano = NOTHING) -> Cell:
    """Return a voucher's signature as `Redeem` carries it, with what the worker gives up behind it.

    An escrow of the code before takes only vouchers of which nothing is given up.
    """
    cell = begin_cell().store_bytes(signature)
    return (cell.store_uint(forgo, _FORGO_BITS) if forgo else cell).end_cell()


def redeem(
    session_id: int,
    escrow: Address,
    amount: Nano,
    signature: bytes = b"",
    *,
    close: bool = False,
    forgo: Nano = NOTHING,
) -> Action:
    """Worker: redeem a voucher: a cumulative amount, and the signature of its `voucher_digest`.

    The voucher states `amount` and `forgo` together: what was signed ahead and not earned is given up for
    now. With `close` the session ends; at once, or, if collateral is locked for it, when its client had its
    time to dispute. The signature counts only if something is due.
    """
    redemption = Redemption(
        escrow=account_id(escrow), amount=amount, close=close, signature=voucher_cell(signature, forgo)
    )
    return _action(c.ACTION_REDEEM, begin_cell().store_uint(session_id, 32), redemption.to_cell())


def accept_session(session_id: int, target: SessionTarget) -> Action:
    """Worker: lock collateral for a session."""
    return _action(c.ACTION_ACCEPT_SESSION, begin_cell().store_uint(session_id, 32), target.to_cell())


# -- externals -------------------------------------------------------------------------------------------


def external_body(
    key: SigningKey,
    purpose: int,
    domain: Domain,
    *,
    seqno: int,
    valid_until: int,
    actions: Sequence[Action],
    max_spend: Nano = NOTHING,
) -> Cell:
    """Sign 1 to 8 actions.

    One action is checked by the contract before it accepts. Several are accepted at once and may together
    take at most `max_spend` nanoTON out of free funds; what fails is skipped. Raises `MalformedError` for a
    wrong number of actions.
    """
    if not 1 <= len(actions) <= c.MAX_ACTIONS:
        raise MalformedError(f"an external carries 1 to {c.MAX_ACTIONS} actions, not {len(actions)}")
    head = begin_cell().store_uint(seqno, 32).store_uint(valid_until, 32)
    if len(actions) == 1:
        signed = _store(head, actions[0]).end_cell()
    else:
        link: Cell | None = None
        for action in reversed(actions):
            cell = begin_cell() if link is None else begin_cell().store_ref(link)
            link = _store(cell, action).end_cell()
        head.store_uint(c.ACTION_BATCH, 8).store_uint(len(actions), 32).store_uint(max_spend, 64)
        signed = head.store_ref(link).end_cell()
    return (
        begin_cell()
        .store_bytes(key.sign(_external_digest(purpose, domain, signed)))
        .store_cell(signed)
        .end_cell()
    )


def is_signed_external(body: Cell, purpose: int, domain: Domain, key: VerifyKey) -> bool:
    """Tell whether `key` signed the body of an external. Raises `MalformedError` for what is no body."""
    if body.is_exotic or len(body.bits) < 8 * SIGNATURE_BYTES:
        raise MalformedError("this is not a signed external", why="it holds no signature")
    source = body.begin_parse()
    signature = source.load_bytes(SIGNATURE_BYTES)
    signed = begin_cell().store_slice(source).end_cell()
    return key.verify(_external_digest(purpose, domain, signed), signature)


def _external_digest(purpose: int, domain: Domain, signed: Cell) -> bytes:
    refs = b"".join(ref.hash for ref in signed.refs)
    return hashlib.sha256(domain.hash(purpose) + signed.bits.tobytes() + refs).digest()


def external_message(destination: Address, body: Cell) -> Cell:
    """Wrap a signed body into an external-in message; in the root its bits are free."""
    head = (
        begin_cell()
        .store_uint(0b10, 2)
        .store_uint(0, 2)
        .store_address(destination)
        .store_coins(0)
        .store_bit(0)
    )
    if len(body.bits) + 1 <= head.available_bits:
        return head.store_bit(0).store_cell(body).end_cell()
    return head.store_bit(1).store_ref(body).end_cell()


def _store(head: Builder, action: Action) -> Builder:
    head.store_cell(action.bits)
    for ref in action.refs:
        head.store_ref(ref)
    return head
