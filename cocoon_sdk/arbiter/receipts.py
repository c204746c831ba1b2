"""What a client's evidence about a session is worth before anybody judges content: whose word it is.

Owns which records of a session's evidence count, and under which operator keys. Must not know how content is
judged, or votes. A record counts when the stake's operator key signed exactly this request, answer,
commitment and terms for exactly this session; what does not count is left out, and never held against
anybody.

The stake's present key is looked at first, which costs one look at an account. A worker that replaced its key
voids nothing with that: then the history tells which keys it had from the moment its collateral was in the
session (`operator_keys`). Histories are read by turns, page by page: whoever filled one waits for itself.
Keys that it had before count no more: who stole one before it was replaced could sign for a later session.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import KeyMaterialError, MalformedError
from cocoon_sdk.history.operators import operator_keys
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_evidence import EvidenceRecord, SessionEvidence

_SLACK_S: Final = 3600
log = structlog.get_logger("cocoon.arbiter")


@dataclass(frozen=True, slots=True)
class SessionCase:
    """Records of a disputed session that have to be judged, by rising request numbers.

    `ignored` is how many others the evidence holds that say nothing.
    """

    dispute: Dispute
    records: tuple[EvidenceRecord, ...] = field(repr=False)
    ignored: int = 0

    @property
    def signers(self) -> frozenset[VerifyKey]:
        """Under which keys the records are."""
        return frozenset(signer for record in self.records if (signer := record.signer) is not None)


def read_case(dispute: Dispute, data: bytes) -> SessionCase | None:
    """Return what evidence shows, as far as it can be told without the chain; None when it shows nothing."""
    try:
        evidence = SessionEvidence.from_bytes(data)
    except MalformedError:
        return None
    if evidence.name != dispute.session.to_bytes():
        return None  # also its receipts are another session's
    records = tuple(record for record in evidence.records if record.is_signed(dispute.session))
    return SessionCase(dispute, records, len(evidence.records) - len(records)) if records else None


async def keys_of_stake(
    chain: Chain, dispute: Dispute, signers: Collection[VerifyKey], turns: AbstractAsyncContextManager[Any]
) -> frozenset[VerifyKey]:
    """Return which of the keys that signed records were the stake's own, and maybe more of its keys.

    Only for another key than the present one the history is read, page by page within `turns`; no evidence is
    needed for that, so none is held meanwhile. Raises `ChainError`, also when the endpoint does not show the
    history (yet).
    """
    now = (await WorkerStake.at(chain, dispute.worker).state()).operator_key
    try:
        known = frozenset((VerifyKey.from_int(now),))
    except KeyMaterialError:
        known = frozenset()
    others = frozenset(signers) - known
    if others:
        known |= await operator_keys(
            chain,
            dispute.session,
            dispute.lock,
            others,
            since=dispute.disputed_at - _life_s(dispute),
            until=dispute.disputed_at,
            turns=turns,
        )
    return known


def signed_by(case: SessionCase, known: Collection[VerifyKey]) -> SessionCase | None:
    """Return the case with the records that one of these keys signed; None when there are none."""
    records = tuple(record for record in case.records if record.signer in known)
    ignored = case.ignored + len(case.records) - len(records)
    if ignored:
        log.info(
            "records_ignored", dispute=case.dispute.digest.hex()[:16], ignored=ignored, left=len(records)
        )
    return replace(case, records=records, ignored=ignored) if records else None


def _life_s(dispute: Dispute) -> int:
    """Return how long before its dispute a session can have been opened, at most."""
    params = m.Params.from_cell(dispute.params)
    rules = m.ParamsRules.from_cell(params.rules)
    return int(params.max_phases + rules.session_close_delay + _SLACK_S)
