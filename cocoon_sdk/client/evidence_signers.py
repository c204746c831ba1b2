"""Whether arbiters would count a session's evidence: who signed it, as the chain tells.

Owns asking before a bond is put at stake. Must not know findings. It is the arbiters' own rule: the stake's
present key counts, and those that it had from the moment its collateral was in the session.
"""

from __future__ import annotations

from typing import Final

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.history.operators import operator_keys
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_evidence import SessionEvidence

_SLACK_S: Final = 3600


async def why_not_counted(chain: Chain, entry: m.Session, evidence: SessionEvidence) -> str:
    """Say in words why not all records count for the guarded session `entry`; empty when they do.

    Raises `HistoryNotFoundError` when the endpoint does not show the history (yet), and other `ChainError`s.
    """
    signers = {record.signer for record in evidence.records}
    known = {key for key in signers if key is not None}
    if known != signers:
        return "a receipt is signed by what is no key at all"
    now = (await WorkerStake.at(chain, evidence.session.worker).state()).operator_key
    others = {key for key in known if key.to_int() != now}
    if not others:
        return ""
    params = m.Params.from_cell(entry.params)
    life = params.max_phases + m.ParamsRules.from_cell(params.rules).session_close_delay + _SLACK_S
    until = (await chain.head()).now
    if others <= await operator_keys(
        chain, evidence.session, entry.lock, others, since=until - life, until=until
    ):
        return ""
    return "a receipt is signed by a key that the worker's stake did not have while it guarded the session"
