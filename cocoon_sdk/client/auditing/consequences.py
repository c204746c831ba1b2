"""What follows when a worker is over the line: it is left, and disputed where money can be held back.

Owns handing both to who does it, once per worker and process. Must not know findings.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.client.auditing.disputes import DisputableJob, DisputeDesk
from cocoon_sdk.client.auditing.evidence_book import EvidenceVault
from cocoon_sdk.client.auditing.policy import AuditPolicy
from cocoon_sdk.client.auditing.records import AuditRecord, DisputeStep, WorkerScore
from cocoon_sdk.client.auditing.session_disputes import DisputableSessions, SessionDisputes
from cocoon_sdk.client.auditing.store import AuditStore
from cocoon_sdk.clock import Clock
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.types import Nano

log: Final = logging.getLogger("cocoon.audits")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an auditor acts on: the escrow's domain, its jobs, and who leaves workers.

    `bonds_limit` bounds the bonds of a day besides the policy, `with_evidence` tells that there are arbiters
    to send evidence to. Answers of `sessions` can only be disputed with a `vault` for the evidence.
    """

    domain: Callable[[], Awaitable[Domain]]
    job: Callable[[int], DisputableJob]
    leave: Callable[[Address, str], None]
    come_back: Callable[[Address], None]
    bonds_limit: Nano | None = None
    with_evidence: bool = False
    sessions: Callable[[], DisputableSessions] | None = None
    vault: EvidenceVault | None = None


class Consequences:
    """Leaves and disputes for one client, as `holder`."""

    def __init__(self, policy: AuditPolicy, around: Surroundings, holder: str, clock: Clock) -> None:
        self._policy, self._around, self._holder, self._clock = policy, around, holder, clock
        self._left: set[bytes] = set()

    def leave(self, score: WorkerScore) -> None:
        """Have this worker not asked any more."""
        key = bytes(score.worker.hash_part)
        if key not in self._left:
            self._left.add(key)
            log.warning("worker %s is left: %s", score.worker.to_str(), score.left_why)
            self._around.leave(score.worker, score.left_why)

    def come_back(self, worker: Address) -> None:
        """Have it asked again."""
        self._left.discard(bytes(worker.hash_part))
        self._around.come_back(worker)

    async def dispute(self, store: AuditStore, record: AuditRecord) -> DisputeStep:
        """Bring a wanted dispute as far as it goes now; return where it stands."""
        around, sessions = self._around, None
        if around.sessions is not None and around.vault is not None:
            sessions = SessionDisputes(around.sessions(), around.vault, store.disputes, around.with_evidence)
        desk = DisputeDesk(
            store.disputes,
            self._policy,
            around.job,
            self._holder,
            self._clock,
            limit=around.bonds_limit,
            with_evidence=around.with_evidence,
            sessions=sessions,
        )
        return await desk.run(record)
