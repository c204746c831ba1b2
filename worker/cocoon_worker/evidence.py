"""The worker's side of a dispute: it shows the arbiters what was asked and what it answered.

Owns finding both in the journal, and trying until every arbiter that can be reached has answered. Must not
know what arbiters make of it (docs/arbiter.md). Evidence stays in the journal until a job is over. Who shows
nothing by the evidence deadline loses its collateral, so this goes on by itself, beside all other work.
"""

from __future__ import annotations

import asyncio
from typing import Final

from cocoon_sdk.client.arbiters import Arbiters
from cocoon_sdk.contracts.disputes import Dispute, NoDisputeError, read_dispute
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.canonical import canonical_bytes
from cocoon_sdk.protocol.disputes import Item, ItemKind, payload_item
from cocoon_sdk.protocol.envelope import open_payload_text
from cocoon_sdk.protocol.signing import account_address
from cocoon_worker.context import Context
from cocoon_worker.records import JobKey
from cocoon_worker.states import JobState

EVIDENCE_ALARM: Final = "evidence-not-sent"
RETRY_S: Final = 60
"""Pause before arbiters that did not answer are tried again."""


class EvidenceSender:
    """Sends evidence for every disputed job, one at a time."""

    def __init__(self, context: Context, arbiters: Arbiters) -> None:
        self._context, self._arbiters = context, arbiters
        self._reached: dict[JobKey, set[int]] = {}
        self._not_before: dict[JobKey, int] = {}
        self._away_until: dict[VerifyKey, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop sending, and close all connections."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._arbiters.close()

    def step(self) -> None:
        """Begin with the next disputed job that is due, unless one is being sent."""
        if self._task is not None and not self._task.done():
            return
        context = self._context
        now, disputed = context.time.maybe(), context.journal.jobs((JobState.DISPUTED,))
        if not self._arbiters.urls:
            why = "a client disputes a result, and no arbiter is named in [arbiters]"
            context.alarm(EVIDENCE_ALARM, bool(disputed), why)
            return
        keys = {job.key for job in disputed}
        for table in (self._reached, self._not_before):
            for key in table.keys() - keys:
                del table[key]
        # Who waits longest is next: one arbiter that stalls must not keep all others' evidence back.
        due = min(keys, key=lambda key: self._not_before.get(key, 0), default=None)
        if due is not None and self._not_before.get(due, 0) <= now:
            self._not_before[due] = now + RETRY_S
            self._task = asyncio.create_task(self._send(due), name=f"evidence {due}")

    async def wait(self) -> None:
        """Wait until nothing is being sent."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _send(self, key: JobKey) -> None:
        context = self._context
        try:
            escrow = Escrow.at(context.chain, account_address(key.escrow))
            dispute = await read_dispute(context.chain, escrow, key.id)
            reached = self._reached.setdefault(key, set())
            now = context.time.maybe()
            left = [
                member
                for member, _ in self._arbiters.known(dispute)
                # Who is away is not waited for again for each job that is disputed meanwhile.
                if member.index not in reached and self._away_until.get(member.key, 0) <= now
            ]
            items = self._items(key, dispute) if left else []
            for delivered in await self._arbiters.deliver_all(dispute, items, left):
                if delivered.reached:
                    reached.add(delivered.index)
                if delivered.away:
                    self._away_until[dispute.members[delivered.index].key] = now + RETRY_S
                for kind, receipt in delivered.receipts.items():
                    # The proof that we delivered in time, should an arbiter ever deny it.
                    context.log.info(
                        "evidence taken",
                        job=str(key),
                        arbiter=delivered.index,
                        what=kind.name,
                        receipt=receipt.signature.hex(),
                    )
                if delivered.problem:
                    context.log.warning(
                        "evidence not taken", job=str(key), arbiter=delivered.index, why=delivered.problem
                    )
            why = f"no arbiter of the dispute about job {key} can be reached"
            context.alarm(EVIDENCE_ALARM, not reached, why)
        except NoDisputeError:
            pass  # it has ended, and the outcome is on its way to us
        except CocoonError as error:
            context.log.warning("evidence not sent", job=str(key), why=str(error))

    def _items(self, key: JobKey, dispute: Dispute) -> list[Item]:
        journal, items = self._context.journal, []
        payload, result = journal.payload(key), journal.result(key)
        if payload is not None:
            keys = self._context.prekeys.keys
            text = open_payload_text(payload.data, keys, dispute.payload_hash)
            items.append(payload_item(payload.data, text))
        if result is not None and result.text:
            items.append(Item(ItemKind.RESULT, result.text))
        for offer in self._context.offers:
            if offer.terms.terms_hash == dispute.terms_hash:
                items.append(Item(ItemKind.TERMS, canonical_bytes(offer.terms.to_wire())))
                break
        return items
