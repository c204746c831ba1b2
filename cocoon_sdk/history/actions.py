"""Signed externals read back: who asked what of an escrow or a stake.

Owns the inverse of `cocoon_sdk.protocol.signing.external_body`. Must not know chains, transactions or keys:
that the contract accepted a body is its transaction's business, and so is whether an action was skipped.
Pure; everything from outside is bounded by the number of actions and raises `MalformedError` only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from pytoniq_core import Address, Cell

from cocoon_sdk.crypto.keys import SIGNATURE_BYTES
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.history.session_actions import (
    CloseSessionAction,
    EscrowSessionAction,
    OpenSessionAction,
    RedeemAction,
    SettleSessionAction,
    StakeSessionAction,
    TopUpSessionAction,
    read_accept_session,
    read_dispute_session,
    read_open_session,
    read_redeem,
    read_top_up,
)
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol.abi_cells import Reader
from cocoon_sdk.protocol.messages import (
    ClaimTarget,
    JobTerms,
    SignedResult,
    SubmitInstant,
    SubmitMore,
    SubmitOnClaim,
    SubmitWork,
)
from cocoon_sdk.types import Hash, Nano


class AccountKind(Enum):
    """Whose external a body is: both kinds of account number their actions from 1."""

    ESCROW = "escrow"
    STAKE = "stake"


@dataclass(frozen=True, slots=True)
class OpenJobAction:
    """Client: open a job. `data` is the payload's data cell (`cocoon_sdk.data.decode_data`)."""

    job_id: int
    terms: Cell = field(repr=False)
    data: Cell | None = field(repr=False)

    def job_terms(self) -> JobTerms:
        """Return the terms as a struct; their cell's hash is the job hash. Raises `MalformedError`."""
        return JobTerms.from_cell(self.terms)


@dataclass(frozen=True, slots=True)
class AcceptResultAction:
    """Client: accept what was submitted."""

    job_id: int


@dataclass(frozen=True, slots=True)
class AcceptSignedAction:
    """Client: accept a result that the worker signed (amount in nanoTON)."""

    job_id: int
    amount: Nano
    result_hash: Hash
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DisputeResultAction:
    """Client: dispute what was submitted."""

    job_id: int


@dataclass(frozen=True, slots=True)
class CancelJobAction:
    """Client: take an unserved job back."""

    job_id: int


@dataclass(frozen=True, slots=True)
class ReclaimLateAction:
    """Client: take a job back whose claimer is late."""

    job_id: int


@dataclass(frozen=True, slots=True)
class ClaimAction:
    """Worker: claim a job of the escrow that `target` names, with a bond."""

    job_id: int
    target: ClaimTarget


@dataclass(frozen=True, slots=True)
class SubmitAction:
    """Worker: submit (amount in nanoTON), on a claim or without one. `data` is the result's data cell.

    `work` names the escrow by its owner, or by the number of a lock that it has at the stake.
    """

    job_id: int
    amount: Nano
    work: SubmitWork | SubmitMore | SubmitInstant | SubmitOnClaim
    data: Cell | None = field(repr=False)

    @property
    def result_hash(self) -> Hash:
        """The hash that goes on chain."""
        return Hash(self.work.result_hash.to_bytes(32, "big"))


@dataclass(frozen=True, slots=True)
class AnnounceAction:
    """Worker: publish its info on the market of a model. `data` is the info's data cell."""

    model_id: Hash
    info_hash: Hash
    data: Cell | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class FinalizeAction:
    """Worker: ask an escrow to pay after the window."""

    job_id: int
    escrow: Address


@dataclass(frozen=True, slots=True)
class UnreadableAction:
    """An action that has no known form; the contract skips it, or runs a newer version than ours."""

    why: str


EscrowAction: TypeAlias = (
    EscrowSessionAction
    | OpenJobAction
    | AcceptResultAction
    | AcceptSignedAction
    | DisputeResultAction
    | CancelJobAction
    | ReclaimLateAction
)
StakeAction: TypeAlias = StakeSessionAction | ClaimAction | SubmitAction | AnnounceAction | FinalizeAction
SignedAction: TypeAlias = EscrowAction | StakeAction | UnreadableAction


@dataclass(frozen=True, slots=True)
class SignedExternal:
    """The body of an external, in order of its actions (positions count from 1 in the skip log).

    `valid_until` is unix time in seconds. `max_spend` (nanoTON) bounds what several actions may take; one
    alone has no such bound, since the contract checks it before it accepts.
    """

    signature: bytes = field(repr=False)
    seqno: int
    valid_until: int
    max_spend: Nano | None
    actions: tuple[SignedAction, ...]


def decode_external(body: Cell, kind: AccountKind) -> SignedExternal:
    """Read the body of an external that an account of `kind` received.

    Raises `MalformedError` when there is no valid head; an action that cannot be read does not hide the
    others, as it does not for the contract.
    """
    source = Reader.of_cell(body)
    signature = source.uint(SIGNATURE_BYTES * 8).to_bytes(SIGNATURE_BYTES, "big")
    seqno, valid_until = source.uint(32), source.uint(32)
    op = source.uint(8)
    if op != c.ACTION_BATCH:
        return SignedExternal(signature, seqno, valid_until, None, (_read_action(op, source, kind),))
    count, max_spend = source.uint(32), Nano(source.uint(64))
    if not 1 <= count <= c.MAX_ACTIONS:
        raise MalformedError(
            "not a signed external", why=f"it announces {count} actions, allowed are 1 to {c.MAX_ACTIONS}"
        )
    actions: list[SignedAction] = []
    for left in range(count, 0, -1):
        source = _link(source)
        # The link to the next action stands before the action's own references.
        following = Reader(0, 0, [source.ref()] if left > 1 and source.refs_left else [])
        actions.append(_next_action(source, kind))
        source = following
    return SignedExternal(signature, seqno, valid_until, max_spend, tuple(actions))


def _link(source: Reader) -> Reader:
    """Open the cell of the next action; what is missing reads as empty, as in the contract."""
    try:
        return Reader.of_cell(source.ref())
    except MalformedError:
        return Reader(0, 0, [])


def _next_action(source: Reader, kind: AccountKind) -> SignedAction:
    try:
        op = source.uint(8)
    except MalformedError as error:
        return UnreadableAction(str(error))
    return _read_action(op, source, kind)


def _read_action(op: int, source: Reader, kind: AccountKind) -> SignedAction:
    try:
        read = (_ESCROW if kind is AccountKind.ESCROW else _STAKE).get(op)
        if read is None:
            return UnreadableAction(f"there is no {kind.value} action {op}")
        action = read(source)
        if isinstance(action, _EXACT):
            source.finish()  # the contract insists for these; elsewhere it takes what follows, and so must we
    except MalformedError as error:
        return UnreadableAction(str(error))
    return action


def _accept_signed(source: Reader) -> AcceptSignedAction:
    job_id, amount = source.uint(32), Nano(source.uint(56))
    signed = SignedResult.from_cell(source.ref())
    signature = Reader.of_cell(signed.signature)
    raw = signature.uint(SIGNATURE_BYTES * 8).to_bytes(SIGNATURE_BYTES, "big")
    return AcceptSignedAction(job_id, amount, _hash(signed.result_hash), raw)


def _open_job(source: Reader) -> OpenJobAction:
    return OpenJobAction(source.uint(32), source.ref(), _data(source))


def _open_either(source: Reader) -> OpenJobAction | OpenSessionAction:
    """Read what opens a job for one worker, or, with bits behind the id, a session."""
    number = source.uint(32)
    if source.bits_left:
        return read_open_session(number, source)
    return OpenJobAction(number, source.ref(), _data(source))


def _claim(source: Reader) -> ClaimAction:
    job_id, _binding = source.uint(32), source.uint(128)
    return ClaimAction(job_id, ClaimTarget.read(Reader.of_cell(source.ref())))


def _submit(source: Reader) -> SubmitAction:
    job_id, amount, _collateral, _slot = (source.uint(bits) for bits in (32, 56, 56, 8))
    return SubmitAction(job_id, Nano(amount), SubmitWork.read(Reader.of_cell(source.ref())), _data(source))


def _submit_more(source: Reader) -> SubmitAction:
    job_id, amount, _collateral = (source.uint(bits) for bits in (32, 56, 56))
    return SubmitAction(job_id, Nano(amount), SubmitMore.read(Reader.of_cell(source.ref())), _data(source))


def _submit_instant(source: Reader) -> SubmitAction:
    job_id, amount = source.uint(32), Nano(source.uint(56))
    return SubmitAction(job_id, amount, SubmitInstant.read(Reader.of_cell(source.ref())), _data(source))


def _submit_claimed(source: Reader) -> SubmitAction:
    job_id, amount, _collateral = (source.uint(bits) for bits in (32, 56, 56))
    return SubmitAction(job_id, Nano(amount), SubmitOnClaim.read(Reader.of_cell(source.ref())), _data(source))


def _announce(source: Reader) -> AnnounceAction:
    source.uint(32)  # all actions have a field of this width here; this one does not use it
    model_id, info_hash = _hashes(source.ref(), 2)
    return AnnounceAction(model_id, info_hash, _data(source))


def _finalize(source: Reader) -> FinalizeAction:
    job_id = source.uint(32)
    (escrow,) = _hashes(source.ref(), 1)
    return FinalizeAction(job_id, Address((0, escrow)))


def _data(source: Reader) -> Cell | None:
    """Read the data cell: the last reference, where there is one."""
    return source.ref() if source.refs_left else None


def _hashes(cell: Cell, count: int) -> list[Hash]:
    source = Reader.of_cell(cell)
    return [_hash(source.uint(256)) for _ in range(count)]


def _hash(value: int) -> Hash:
    return Hash(value.to_bytes(32, "big"))


_EXACT: Final = (
    OpenJobAction,
    AcceptResultAction,
    OpenSessionAction,
    TopUpSessionAction,
    RedeemAction,
)
_ESCROW: Final[dict[int, Callable[[Reader], EscrowAction]]] = {
    c.ACTION_OPEN_JOB: _open_either,
    c.ACTION_POST_JOB: _open_job,
    c.ACTION_OPEN_INSTANT: _open_job,
    c.ACTION_ACCEPT_RESULT: lambda source: AcceptResultAction(source.uint(32)),
    c.ACTION_ACCEPT_SIGNED: _accept_signed,
    c.ACTION_DISPUTE_RESULT: lambda source: DisputeResultAction(source.uint(32)),
    c.ACTION_CANCEL_JOB: lambda source: CancelJobAction(source.uint(32)),
    c.ACTION_RECLAIM_LATE: lambda source: ReclaimLateAction(source.uint(32)),
    c.ACTION_TOP_UP_SESSION: read_top_up,
    c.ACTION_CLOSE_SESSION: lambda source: CloseSessionAction(source.uint(32)),
    c.ACTION_SETTLE_SESSION: lambda source: SettleSessionAction(source.uint(32)),
    c.ACTION_DISPUTE_SESSION: read_dispute_session,
}
_STAKE: Final[dict[int, Callable[[Reader], StakeAction]]] = {
    c.ACTION_CLAIM: _claim,
    c.ACTION_SUBMIT: _submit,
    c.ACTION_SUBMIT_MORE: _submit_more,
    c.ACTION_SUBMIT_INSTANT: _submit_instant,
    c.ACTION_SUBMIT_CLAIMED: _submit_claimed,
    c.ACTION_ANNOUNCE: _announce,
    c.ACTION_FINALIZE: _finalize,
    c.ACTION_REDEEM: read_redeem,
    c.ACTION_ACCEPT_SESSION: read_accept_session,
}
