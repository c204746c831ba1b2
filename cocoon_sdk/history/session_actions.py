"""What a hot key or an operator asked about sessions, as typed actions; see `actions` for those of jobs.

Owns their layout in externals. Pure; raises `MalformedError` only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.protocol.abi_cells import Reader
from cocoon_sdk.protocol.messages import Redemption, SessionEvidence, SessionParties, SessionTarget
from cocoon_sdk.protocol.signing import account_address
from cocoon_sdk.types import Hash, Nano

_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class OpenSessionAction:
    """Client: reserve a deposit (nanoTON) for one worker until `expiry` (unix time in seconds)."""

    session_id: int
    worker: Address
    voucher_key: Hash
    deposit: Nano
    expiry: int


@dataclass(frozen=True, slots=True)
class TopUpSessionAction:
    """Client: add to the deposit of a session (nanoTON)."""

    session_id: int
    amount: Nano


@dataclass(frozen=True, slots=True)
class CloseSessionAction:
    """Client: end a session after the worker's delay."""

    session_id: int


@dataclass(frozen=True, slots=True)
class SettleSessionAction:
    """Client: take back what was not redeemed in time."""

    session_id: int


@dataclass(frozen=True, slots=True)
class DisputeSessionAction:
    """Client: dispute a guarded session by the receipts of that hash, on the market of that model."""

    session_id: int
    evidence_hash: Hash
    model_id: Hash


@dataclass(frozen=True, slots=True)
class RedeemAction:
    """Worker: redeem a voucher, or end the session with it.

    The voucher states `amount` and `forgo` (nanoTON, cumulative) together; the worker gives `forgo` up.
    """

    session_id: int
    escrow: Address
    amount: Nano
    close: bool
    signature: bytes = field(repr=False)
    forgo: Nano = field(default_factory=lambda: Nano(0))


@dataclass(frozen=True, slots=True)
class AcceptSessionAction:
    """Worker: lock collateral for the session of the escrow that `target` names."""

    session_id: int
    target: SessionTarget


EscrowSessionAction: TypeAlias = (
    OpenSessionAction | TopUpSessionAction | CloseSessionAction | SettleSessionAction | DisputeSessionAction
)
StakeSessionAction: TypeAlias = RedeemAction | AcceptSessionAction


def read_open_session(session_id: int, source: Reader) -> OpenSessionAction:
    """Read what stands behind the id of an opening. Raises `MalformedError`."""
    deposit, expiry = Nano(source.uint(56)), source.uint(32)
    parties = SessionParties.from_cell(source.ref())
    return OpenSessionAction(
        session_id,
        account_address(parties.worker),
        Hash(parties.voucher_key.to_bytes(32, "big")),
        deposit,
        expiry,
    )


def read_top_up(source: Reader) -> TopUpSessionAction:
    """Read a top-up. Raises `MalformedError`."""
    return TopUpSessionAction(source.uint(32), Nano(source.uint(64)))


def read_dispute_session(source: Reader) -> DisputeSessionAction:
    """Read a dispute. Raises `MalformedError`."""
    session_id = source.uint(32)
    evidence = SessionEvidence.from_cell(source.ref())
    hashes = (Hash(number.to_bytes(32, "big")) for number in (evidence.evidence_hash, evidence.model_id))
    return DisputeSessionAction(session_id, *hashes)


def read_redeem(source: Reader) -> RedeemAction:
    """Read a redemption. Raises `MalformedError`."""
    session_id = source.uint(32)
    found = Redemption.from_cell(source.ref())
    signature = Reader.of_cell(found.signature)
    size = min(_SIGNATURE_BYTES, signature.bits_left // 8)
    raw = signature.uint(8 * size).to_bytes(size, "big")
    forgo = signature.uint(signature.bits_left) if size == _SIGNATURE_BYTES else 0
    escrow = account_address(found.escrow)
    return RedeemAction(session_id, escrow, Nano(found.amount), found.close, raw, Nano(forgo))


def read_accept_session(source: Reader) -> AcceptSessionAction:
    """Read an acceptance. Raises `MalformedError`."""
    return AcceptSessionAction(source.uint(32), SessionTarget.from_cell(source.ref()))
