"""What a claim puts at risk: its bond, and how it is shared when the worker is late (docs/protocol.md 3).

Owns the two formulas that escrows, workers and clients must agree on. Must not know how a claim is signed,
sent or kept.
"""

from __future__ import annotations

from typing import Final

from pytoniq_core import Cell

from cocoon_sdk.protocol.messages import Params, ParamsRules
from cocoon_sdk.types import Nano

_BASIS_POINTS: Final = 10_000


def claim_bond(price: int, params: Cell) -> Nano:
    """Return the least that a claim must bring besides its gas, in nanoTON: the late penalty, rounded up.

    `price` is the job's maximum price in nanoTON, `params` the parameter cell that the job keeps.
    """
    return Nano(-(-price * _rules(params).late_penalty_bps // _BASIS_POINTS))


def late_compensation(price: int, params: Cell) -> Nano:
    """Return what the client gets of a late worker's bond, in nanoTON, rounded down; the rest is burned."""
    share = price * _rules(params).compensation_bps // _BASIS_POINTS
    return Nano(min(claim_bond(price, params), share))


def _rules(params: Cell) -> ParamsRules:
    return ParamsRules.from_cell(Params.from_cell(params).rules)
