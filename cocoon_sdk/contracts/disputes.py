"""`Dispute`: what the chain says about one dispute, and the message that ends it.

Owns reading a disputed job or session with its own parameters, whose word counts, and putting signatures
together.
Must not know evidence, votes or who sends the message (docs/protocol.md 5, docs/arbiter.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import ChainError, CocoonError, KeyMaterialError, MalformedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.abi_cells import Reader
from cocoon_sdk.protocol.abi_dict import parse as parse_dict
from cocoon_sdk.protocol.disputes import DisputeKind, dispute_digest
from cocoon_sdk.protocol.job_states import EntryStatus
from cocoon_sdk.protocol.session_states import evidence_of
from cocoon_sdk.protocol.signing import account_address
from cocoon_sdk.protocol.vouchers import SessionRef
from cocoon_sdk.types import Hash, Nano

_GAS_PRICES: Final = 21
_FLAT_TAG: Final = 0xD1
_PRICES_TAGS: Final = (0xDD, 0xDE)
_MEMBER_BITS: Final = 8


class NoDisputeError(CocoonError):
    """The chain shows no dispute under that name, or its parameters name other arbiters."""


@dataclass(frozen=True, slots=True)
class Member:
    """One arbiter of a dispute: its index in the parameters, its key, and where its fees go."""

    index: int
    key: VerifyKey
    payout: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """One dispute as its own parameters and entry state it. Amounts in nanoTON, times in unix seconds.

    `number` is the job's or session's id. `result_hash` is what the verdict names: of a job's result, or of a
    session's evidence. `terms` are the job's, None for a session, whose receipts name theirs; a session has
    an `amount` of 0. `lock` is the stake's, with the collateral in it. `hot_key` is the escrow's now: None
    when no signature under it may count.
    """

    kind: DisputeKind
    escrow: Address
    number: int
    disputed_at: int
    domain: signing.Domain
    digest: Hash
    worker: Address
    result_hash: Hash
    amount: Nano
    collateral: Nano
    lock: int
    terms: m.JobTerms | None = field(repr=False)
    params: Cell = field(repr=False)
    members: Mapping[int, Member] = field(repr=False)
    threshold: int
    evidence_s: int
    arbitration_s: int
    slash_bps: int
    arbiter_fee: Nano
    hot_key: VerifyKey | None

    @property
    def payload_hash(self) -> Hash:
        """What the payload's openings are checked against. Raises `MalformedError` for a session."""
        return Hash(self._job_terms.payload_hash.to_bytes(32, "big"))

    @property
    def terms_hash(self) -> Hash:
        """What the worker's terms are checked against. Raises `MalformedError` for a session."""
        return Hash(self._job_terms.terms_hash.to_bytes(32, "big"))

    @property
    def model_id(self) -> Hash:
        """The model of the disputed job. Raises `MalformedError` for a session."""
        return Hash(self._job_terms.model_id.to_bytes(32, "big"))

    @property
    def _job_terms(self) -> m.JobTerms:
        if self.terms is None:
            raise MalformedError("a session has no payload, and its receipts name its terms")
        return self.terms

    @property
    def session(self) -> SessionRef:
        """The name of the disputed session. Raises `MalformedError` for a job."""
        if self.kind is not DisputeKind.SESSION:
            raise MalformedError("a job is no session")
        return SessionRef(self.domain, self.number, self.worker)

    @property
    def ends_at(self) -> int:
        """First second at which the escrow takes no verdict any more."""
        return self.disputed_at + self.evidence_s + self.arbitration_s

    def index_of(self, key: VerifyKey) -> int | None:
        """Return which arbiter has this key, None when it is none's."""
        return next((member.index for member in self.members.values() if member.key == key), None)

    def verdict(self, pay: int, slash: int) -> m.Verdict:
        """Return the verdict with these amounts."""
        return m.Verdict(
            id=self.number,
            disputed_at=self.disputed_at,
            result_hash=int.from_bytes(self.result_hash, "big"),
            pay=pay,
            slash=slash,
        )

    def verdict_digest(self, pay: int, slash: int) -> Hash:
        """Return what arbiters sign."""
        return signing.verdict_digest(self.domain, self.worker, self.verdict(pay, slash))

    def resolve(self, pay: int, slash: int, signatures: Mapping[int, bytes]) -> m.Resolve:
        """Return the message that carries a verdict with k signatures by arbiters' indexes.

        Raises `MalformedError` when they are not exactly k.
        """
        if len(signatures) != self.threshold:
            raise MalformedError(
                "cannot hand in the verdict",
                why=f"it needs {self.threshold} signatures, not {len(signatures)}",
                hint="Collect more, or wait",
            )
        link: Cell | None = None
        for index, signature in sorted(signatures.items(), reverse=True):
            link = m.VerdictSignature(index=index, signature=signature, next=link).to_cell()
        assert link is not None
        return m.Resolve(id=self.number, verdict=self.verdict(pay, slash).to_cell(), signatures=link)


def arbiters_of(params: Cell) -> tuple[dict[int, Member], int]:
    """Return the arbiters of a parameter cell by index, and k. Raises `MalformedError`.

    A key that nobody can sign under is left out.
    """
    rules = m.ParamsRules.from_cell(m.Params.from_cell(params).rules)
    listed = m.Arbiters.from_cell(rules.arbiters)
    members: dict[int, Member] = {}
    for index, leaf in parse_dict(listed.members, _MEMBER_BITS):
        member = m.Arbiter.read(leaf)
        try:
            key = VerifyKey.from_int(member.key)
        except KeyMaterialError:
            continue
        if index < listed.count:
            members[index] = Member(index, key, account_address(member.payout))
    return members, listed.threshold


async def read_dispute(chain: Chain, escrow: Escrow, number: int) -> Dispute:
    """Return the dispute about a job of a genuine escrow (the caller checked that).

    Raises `NoDisputeError` when the job is not disputed (any more), and `ChainError`.
    """
    view = await escrow.state()
    entry = await escrow.job(number)
    if entry is None or entry.status != EntryStatus.DISPUTED:
        raise _no_dispute("job", escrow, number, is_there=entry is not None)
    return await _dispute(
        escrow,
        view,
        entry,
        kind=DisputeKind.JOB,
        number=number,
        result_hash=Hash(entry.key_or_result.to_bytes(32, "big")),
        amount=Nano(entry.amount),
        terms=m.JobTerms.from_cell(entry.terms),
    )


async def read_session_dispute(escrow: Escrow, number: int) -> Dispute:
    """Return the dispute about a session of a genuine escrow (the caller checked that).

    Raises `NoDisputeError` when the session is not disputed (any more), and `ChainError`.
    """
    view = await escrow.state()
    entry = await escrow.session(number)
    evidence = None if entry is None else evidence_of(entry)
    if entry is None or evidence is None:
        raise _no_dispute("session", escrow, number, is_there=entry is not None)
    return await _dispute(
        escrow,
        view,
        entry,
        kind=DisputeKind.SESSION,
        number=number,
        result_hash=evidence,
        amount=Nano(0),
        terms=None,
    )


async def read_any_dispute(chain: Chain, escrow: Escrow, number: int) -> Dispute:
    """Return the dispute about a job or a session, whichever has this id: they share one counter.

    Raises `NoDisputeError` when neither is disputed (any more), and `ChainError`.
    """
    if await escrow.session(number) is not None:
        return await read_session_dispute(escrow, number)
    return await read_dispute(chain, escrow, number)


def _no_dispute(what: str, escrow: Escrow, number: int, *, is_there: bool) -> NoDisputeError:
    return NoDisputeError(
        f"{what} {number} of {escrow.address.to_str()} is not disputed",
        why="nobody disputes it" if is_there else "it has ended, or never was",
    )


async def _dispute(
    escrow: Escrow,
    view: m.EscrowView,
    entry: m.Job | m.Session,
    *,
    kind: DisputeKind,
    number: int,
    result_hash: Hash,
    amount: Nano,
    terms: m.JobTerms | None,
) -> Dispute:
    rules = m.ParamsRules.from_cell(m.Params.from_cell(entry.params).rules)
    members, threshold = arbiters_of(entry.params)
    domain = await escrow.domain(view)
    try:
        hot_key = VerifyKey.from_int(view.hot_key)
    except KeyMaterialError:
        hot_key = None
    return Dispute(
        kind=kind,
        escrow=escrow.address,
        number=number,
        disputed_at=entry.deadline,
        domain=domain,
        digest=dispute_digest(domain, kind, number, entry.deadline),
        worker=account_address(entry.worker),
        result_hash=result_hash,
        amount=amount,
        collateral=Nano(entry.collateral),
        lock=entry.lock,
        terms=terms,
        params=entry.params,
        members=members,
        threshold=threshold,
        evidence_s=rules.evidence_deadline,
        arbitration_s=rules.arbitration_timeout,
        slash_bps=rules.slash_bps,
        arbiter_fee=Nano(rules.arbiter_fee),
        hot_key=hot_key,
    )


async def resolve_value(chain: Chain) -> Nano:
    """Return what to attach to `Resolve`: its gas bound at the chain's current prices.

    What it does not use stays in the escrow. Raises `ChainError` when the network names no gas prices.
    """
    cell = await chain.config_param(_GAS_PRICES)
    if cell is None:
        raise ChainError("the network names no gas prices", why=f"ConfigParam {_GAS_PRICES} is not set")
    source, flat_limit, flat_price = Reader.of_cell(cell), 0, 0
    tag = source.uint(8)
    if tag == _FLAT_TAG:
        flat_limit, flat_price, tag = source.uint(64), source.uint(64), source.uint(8)
    if tag not in _PRICES_TAGS:
        raise MalformedError("cannot read the gas prices", why="unknown format", hint="Update cocoon-sdk")
    scaled = source.uint(64) * max(0, c.GAS_ESCROW_RESOLVE - flat_limit)
    return Nano(flat_price + -(-scaled >> 16))


async def resolve_message(
    chain: Chain, dispute: Dispute, pay: int, slash: int, signatures: Mapping[int, bytes]
) -> OwnerMessage:
    """Return what any wallet may send to end a dispute. Raises `MalformedError` and `ChainError`."""
    body = dispute.resolve(pay, slash, signatures).to_cell()
    return OwnerMessage(dispute.escrow, await resolve_value(chain), body)
