"""Watching whether answers end with their receipts: who withholds them is never audited, so it is counted.

Owns which endings count, and bringing them into the scores in few writes. Must not know what an answer is, or
who leaves workers. Every answer is noted in memory at once; the database hears of them when one came without
its receipt, and from time to time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from cocoon_sdk.client.auditing.receipts import ReceiptScore
from cocoon_sdk.client.auditing.records import WorkerScore
from cocoon_sdk.client.auditing.store import AuditStore, Scored
from cocoon_sdk.client.sessions.answers.finished import EndedPart

MAX_REMEMBERED: Final = 4096
"""Workers whose last loss is remembered."""


@dataclass(slots=True)
class _Tally:
    """What is not in the database yet: so many answers with receipts before each loss, and after the last."""

    who: Scored
    before: list[int] = field(default_factory=list)
    after: int = 0

    def onto(self, score: ReceiptScore) -> ReceiptScore:
        for count in self.before:
            score = score.with_receipts(count).without_receipt()
        return score.with_receipts(self.after)


class ReceiptWatch:
    """The endings of one process's answers. Used from one event loop."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[bytes, bytes], _Tally] = {}
        self._lost_at: OrderedDict[bytes, float] = OrderedDict()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to bring in."""
        return not self._tallies

    def note(self, part: EndedPart) -> bool:
        """Take in how a worker's part in an answer ended; tell whether `bring_in` is to be called now.

        Answers that were under way together break together, with a connection or an engine: of those one
        counts. That excuses nobody whose answer was complete: between the last piece and the receipt there is
        hardly time for bad luck.
        """
        offer = part.offer
        worker, model = bytes(offer.address.hash_part), offer.model.model_id
        lost = not part.receipt
        if lost and not part.complete and part.asked_at <= self._lost_at.get(worker, -1.0):
            return False
        tally = self._tallies.get((worker, bytes(model)))
        if tally is None:
            name = offer.model.name or offer.offer.model
            tally = self._tallies[worker, bytes(model)] = _Tally(Scored(offer.address, model, name))
        if not lost:
            tally.after += 1
            return False
        tally.before.append(tally.after)
        tally.after = 0
        self._lost_at[worker] = part.ended_at
        self._lost_at.move_to_end(worker)
        if len(self._lost_at) > MAX_REMEMBERED:
            self._lost_at.popitem(last=False)
        return True

    async def bring_in(self, store: AuditStore, global_id: int, now: int) -> list[WorkerScore]:
        """Bring into the scores what was noted since the last time; return those whose workers are left.

        Raises `StorageError`; what is not kept then is brought in the next time.
        """
        left = []
        while self._tallies:
            key = next(iter(self._tallies))
            tally = self._tallies.pop(key)
            try:
                score = await store.note_receipts(global_id, tally.who, tally.onto, now)
            except BaseException:
                self._put_back(key, tally)
                raise
            if score.left_at:
                left.append(score)
        return left

    def _put_back(self, key: tuple[bytes, bytes], tally: _Tally) -> None:
        newer = self._tallies.get(key)
        if newer is not None:
            if newer.before:
                newer.before[0] += tally.after
                tally.after = 0
            tally.before += newer.before
            tally.after += newer.after
        self._tallies[key] = tally
