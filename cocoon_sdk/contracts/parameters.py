"""Network parameters as people write them, and their cell.

Owns the defaults of docs/parameters.md. Must not know which network uses them. Hard bounds are enforced by
the contracts; `to_cell` refuses only what cannot be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pytoniq_core import Address, Cell, HashMap

from cocoon_sdk.contracts.code import code_depth, code_hash, previous_code_cell
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.protocol.messages import Arbiter, Arbiters, Codes, Params, ParamsRules
from cocoon_sdk.protocol.signing import account_id
from cocoon_sdk.types import Nano

HOUR_S = 3600
DAY_S = 86400


@dataclass(frozen=True, slots=True)
class ArbiterIdentity:
    """An arbiter: the key of its verdicts, and where its fees go."""

    key: VerifyKey
    payout: Address


def own_codes(name: str) -> Codes:
    """Return the codes entry of a fresh network: this package's code, and no previous one."""
    return Codes(
        hash=int.from_bytes(code_hash(name), "big"), depth=code_depth(name), previous_hash=0, previous_depth=0
    )


def moved_codes(name: str) -> Codes:
    """Return the codes entry of a network that moves on: this package's code, and the one before."""
    before = previous_code_cell(name)
    return replace(
        own_codes(name),
        previous_hash=int.from_bytes(before.hash, "big"),
        previous_depth=before.get_depth(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkParameters:
    """Parameters of a network; amounts in nanoTON, times in seconds, shares in basis points."""

    arbiters: Sequence[ArbiterIdentity]
    version: int = 1
    min_collateral: Nano = field(default_factory=lambda: Nano.ton("0.2"))
    collateral_bps: int = 40_000
    batch_collateral_bps: int = 10_000
    slash_bps: int = 10_000
    late_penalty_bps: int = 400
    compensation_bps: int = 100
    compensation_floor: Nano = field(default_factory=lambda: Nano.ton("0.015"))
    dispute_bond: Nano = field(default_factory=lambda: Nano.ton("0.2"))
    arbiter_fee: Nano = field(default_factory=lambda: Nano.ton("0.15"))
    fee_bps: int = 100
    min_window_s: int = 10 * 60
    max_window_s: int = 24 * HOUR_S
    evidence_deadline_s: int = 12 * HOUR_S
    arbitration_timeout_s: int = 48 * HOUR_S
    max_job_life_s: int = 7 * DAY_S
    unbond_delay_s: int = 3 * DAY_S
    timelock_s: int = 14 * DAY_S
    session_close_delay_s: int = 24 * HOUR_S
    announce_fee: Nano = field(default_factory=lambda: Nano.ton("0.01"))
    escrow_codes: Codes = field(default_factory=lambda: own_codes("Escrow"))
    stake_codes: Codes = field(default_factory=lambda: own_codes("WorkerStake"))

    def to_cell(self) -> Cell:
        """Return the parameter cell. Raises `MalformedError` when a value does not fit its field."""
        members = HashMap(
            8,
            map_={
                i: Arbiter(key=a.key.to_int(), payout=account_id(a.payout)).to_cell()
                for i, a in enumerate(self.arbiters)
            },
            value_serializer=lambda source, builder: builder.store_cell(source),
        ).serialize()
        arbiters = Arbiters(
            count=len(self.arbiters), threshold=(len(self.arbiters) + 1) // 2, members=members
        )
        rules = ParamsRules(
            evidence_deadline=self.evidence_deadline_s,
            arbitration_timeout=self.arbitration_timeout_s,
            max_job_life=self.max_job_life_s,
            slash_bps=self.slash_bps,
            late_penalty_bps=self.late_penalty_bps,
            compensation_bps=self.compensation_bps,
            compensation_floor=self.compensation_floor,
            arbiter_fee=self.arbiter_fee,
            unbond_delay=self.unbond_delay_s,
            session_close_delay=self.session_close_delay_s,
            timelock=self.timelock_s,
            escrow_codes=self.escrow_codes.to_cell(),
            stake_codes=self.stake_codes.to_cell(),
            arbiters=arbiters.to_cell(),
        )
        return Params(
            version=self.version,
            min_collateral=self.min_collateral,
            collateral_bps=self.collateral_bps,
            batch_collateral_bps=self.batch_collateral_bps,
            dispute_bond=self.dispute_bond,
            fee_bps=self.fee_bps,
            min_window=self.min_window_s,
            max_window=self.max_window_s,
            max_phases=self.max_job_life_s - self.evidence_deadline_s - self.arbitration_timeout_s,
            announce_fee=self.announce_fee,
            market_code_hash=int.from_bytes(code_hash("Market"), "big"),
            market_code_depth=code_depth("Market"),
            rules=rules.to_cell(),
        ).to_cell()
