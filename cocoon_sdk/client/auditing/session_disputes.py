"""Disputes about answers of guarded sessions: on kept evidence, once for a session.

Owns the way by what the escrow says about the session. Must not know findings, or what the policy puts at
stake. What was sent before a crash is only taken note of: then the evidence is what may still be missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from cocoon_sdk.client.auditing.dispute_store import DisputeStore
from cocoon_sdk.client.auditing.evidence_book import EvidenceVault
from cocoon_sdk.client.auditing.records import AuditRecord, DisputeEnd, DisputeStep
from cocoon_sdk.client.sessions.errors import SessionRefusedError
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.protocol.session_evidence import SessionEvidence
from cocoon_sdk.types import Nano


class SessionStanding(Protocol):
    """Where a session stands on chain (`SessionInfo`). `settle_at` is 0 when it has ended."""

    @property
    def guarded(self) -> bool:
        """Whether its worker has collateral in it."""
        ...

    @property
    def disputed(self) -> bool:
        """Whether it is disputed now."""
        ...

    @property
    def settle_at(self) -> int:
        """From when on it can be settled (unix seconds)."""
        ...


class DisputableSessions(Protocol):
    """What disputes need of a client's sessions (`AsyncSessions`)."""

    async def get(self, session_id: int) -> SessionStanding:
        """Return where a session stands. Raises `SessionRefusedError` when there is none."""
        ...

    async def dispute_bond(self, session_id: int) -> Nano:
        """Return what a dispute takes. Raises `SessionRefusedError` when it cannot be disputed."""
        ...

    async def why_not_counted(self, session_id: int, evidence: SessionEvidence) -> str:
        """Say why arbiters would not count the evidence: another than the stake's key signed. "": they do."""
        ...

    async def dispute(self, session_id: int, evidence: SessionEvidence, *, model: bytes) -> SessionStanding:
        """Call the arbiters, and send them the evidence."""
        ...

    async def send_evidence(self, session_id: int, evidence: SessionEvidence) -> object:
        """Send the evidence on a dispute that stands; may be repeated. `ConfigError`: it stands on other."""
        ...


@dataclass(frozen=True, slots=True)
class SessionDisputes:
    """Disputes of one client's sessions. `with_evidence` tells that it knows arbiters to send evidence to."""

    sessions: DisputableSessions
    vault: EvidenceVault
    store: DisputeStore
    with_evidence: bool

    async def proceed(
        self, record: AuditRecord, stake: Callable[[AuditRecord, Nano], Awaitable[str]]
    ) -> DisputeEnd:
        """Bring one as far as it goes now; `stake` says why its bond may not be put at stake.

        Raises `CocoonError` of chain, database and arbiters: try again later.
        """
        end = await self._proceed(record, stake)
        if end.step not in (DisputeStep.WANTED, DisputeStep.DISPUTED):
            await self.store.forget_evidence(record.uid)
        return end

    async def _proceed(
        self, record: AuditRecord, stake: Callable[[AuditRecord, Nano], Awaitable[str]]
    ) -> DisputeEnd:
        sealed = await self.store.evidence(record.uid)
        if sealed is None:
            return DisputeEnd(DisputeStep.REFUSED, "what it would stand on is not there any more")
        evidence, number = self.vault.open(sealed), record.subject.number
        ended = DisputeEnd(
            DisputeStep.DISPUTED if record.bond else DisputeStep.TOO_LATE, "the session has ended"
        )
        try:
            session = await self.sessions.get(number)
        except SessionRefusedError:
            return ended
        if session.disputed:
            return await self._disputed(number, evidence)
        if not session.settle_at:
            return ended
        if not session.guarded:
            if record.bond:  # a verdict has freed what it stood on
                return DisputeEnd(DisputeStep.DISPUTED, "it was decided")
            return DisputeEnd(DisputeStep.REFUSED, "answers of sessions without a guard cannot be disputed")
        try:
            bond = await self.sessions.dispute_bond(number)
        except SessionRefusedError as error:
            return DisputeEnd(DisputeStep.TOO_LATE, str(error))
        # Before a bond is put at stake: on records that do not count no arbiter would find anything.
        if why := await self.sessions.why_not_counted(number, evidence):
            return DisputeEnd(DisputeStep.REFUSED, why)
        if refused := await stake(record, bond):
            return DisputeEnd(DisputeStep.REFUSED, refused)
        await self.sessions.dispute(number, evidence, model=bytes(record.subject.model_id))
        return DisputeEnd(DisputeStep.DISPUTED)

    async def _disputed(self, number: int, evidence: SessionEvidence) -> DisputeEnd:
        if self.with_evidence:
            try:
                await self.sessions.send_evidence(number, evidence)
            except ConfigError:
                return DisputeEnd(DisputeStep.NOT_NEEDED, "the session is disputed for another answer")
        return DisputeEnd(DisputeStep.DISPUTED)
