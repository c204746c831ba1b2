"""`DisputeStore`: where the disputes of findings stand, safe for several processes that share the database.

Owns every change of that, each with its condition: a dispute is in one process's hands, a bond counts once.
Must not know what a dispute is. What a method has written is committed when it returns.
"""

from __future__ import annotations

from cocoon_sdk.client.auditing.records import OPEN_STEPS, Audited, AuditRecord, DisputeStep
from cocoon_sdk.client.auditing.tables import (
    MAX_WHY,
    SECONDS_A_DAY,
    SELECT,
    keep_evidence,
    place_of,
    record_of_row,
    sum_of,
    take_turn,
)
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.storage import Database
from cocoon_sdk.types import Nano


class DisputeStore:
    """The disputes in one database. Every method may raise `StorageError` or one of its kinds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def wanted(self, domain: Domain) -> list[AuditRecord]:
        """Return the findings whose dispute is to be sent, or to be seen to have arrived; oldest first."""
        marks = ", ".join("?" * len(OPEN_STEPS))
        rows = await self._database.fetch(
            f"{SELECT}WHERE dispute IN ({marks}) AND global_id = ? AND escrow = ? AND epoch = ? "
            "ORDER BY started_at, uid",
            *(str(step) for step in OPEN_STEPS),
            *place_of(domain),
        )
        return [record_of_row(row) for row in rows]

    async def want(self, uid: str, sealed: bytes, now: int) -> bool:
        """Want a dispute of a finding that has none, on this evidence; False when it has one."""
        async with self._database.transaction() as within:
            changed = await within.execute(
                "UPDATE client_audits SET dispute = 'wanted' WHERE uid = ? AND dispute = ''", uid
            )
            if changed:
                await keep_evidence(within, uid, sealed, now)
        return changed == 1

    async def evidence(self, uid: str) -> bytes | None:
        """Return what a dispute stands on, sealed."""
        rows = await self._database.fetch("SELECT data FROM client_audit_evidence WHERE uid = ?", uid)
        return bytes(rows[0][0]) if rows else None

    async def evidence_of(self, domain: Domain, session_id: int) -> bytes | None:
        """Return the evidence kept of a session, sealed: what it is disputed with, else the newest."""
        rows = await self._database.fetch(
            "SELECT kept.data FROM client_audit_evidence kept JOIN client_audits found "
            "ON found.uid = kept.uid WHERE found.what = ? AND found.global_id = ? AND found.escrow = ? "
            "AND found.epoch = ? AND found.number = ? "
            "ORDER BY CASE WHEN found.dispute = ? THEN 0 ELSE 1 END, found.started_at DESC, found.uid "
            "LIMIT 1",
            str(Audited.REQUEST),
            *place_of(domain),
            session_id,
            str(DisputeStep.DISPUTED),
        )
        return bytes(rows[0][0]) if rows else None

    async def forget_evidence(self, uid: str) -> None:
        """Delete what no dispute stands on."""
        await self._database.execute("DELETE FROM client_audit_evidence WHERE uid = ?", uid)

    async def take(
        self, uid: str, holder: str, now: int, until: int, *, instead_of: str | None = None
    ) -> bool:
        """Take a dispute that is wanted, so that no other process sends it at the same time.

        One that somebody has can be taken from `until` of theirs on, or at once from the holder `instead_of`.
        """
        changed = await self._database.execute(
            "UPDATE client_audits SET holder = ?, lease_until = ? WHERE uid = ? AND dispute = 'wanted' "
            "AND (holder IS NULL OR holder IN (?, ?) OR lease_until <= ?)",
            holder,
            until,
            uid,
            holder,
            instead_of or holder,
            now,
        )
        return changed == 1

    async def holder_of(self, uid: str) -> str | None:
        """Return who has a check or its dispute in hand."""
        rows = await self._database.fetch("SELECT holder FROM client_audits WHERE uid = ?", uid)
        return rows[0][0] if rows else None

    async def stake(self, record: AuditRecord, holder: str, bond: Nano, limit: Nano, now: int) -> bool:
        """Count a dispute's bond against the day's, before it is sent; False when that is used up.

        A bond that was counted before stays counted, and fits.
        """
        day, domain = now // SECONDS_A_DAY, record.subject.domain
        async with self._database.transaction() as within:
            await take_turn(within, domain)
            others = await sum_of(within, domain, "bond", "bond_day = ? AND uid <> ?", day, record.uid)
            if not record.bond and others + bond > limit:
                return False
            changed = await within.execute(
                "UPDATE client_audits SET bond = ?, bond_day = CASE WHEN bond_day = 0 THEN ? ELSE bond_day "
                "END WHERE uid = ? AND holder = ? AND dispute = 'wanted'",
                int(bond),
                day,
                record.uid,
                holder,
            )
        return changed == 1

    async def settle(self, uid: str, holder: str, step: DisputeStep, why: str = "") -> None:
        """Note where a dispute stands, and let go of it. A bond that is not at stake counts no more."""
        at_stake = step in (DisputeStep.WANTED, DisputeStep.DISPUTED)
        await self._database.execute(
            "UPDATE client_audits SET dispute = ?, dispute_why = ?, holder = NULL, lease_until = 0, "
            "bond = CASE WHEN ? = 1 THEN bond ELSE 0 END WHERE uid = ? AND holder = ?",
            str(step),
            why[:MAX_WHY],
            int(at_stake),
            uid,
            holder,
        )
