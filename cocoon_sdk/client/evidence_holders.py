"""When a client's evidence is safe with the arbiters of its dispute (docs/arbiter.md).

Owns that rule. Must not know how evidence is sent, or what it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from cocoon_sdk.client.arbiters import Delivered
from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.errors import EvidenceNotSentError, EvidenceTooLateError
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.protocol.disputes import ItemKind

_AGAIN = "Send it again before the evidence deadline"


async def check_held(
    context: ClientContext, dispute: Dispute, delivered: Sequence[Delivered], kind: ItemKind, what: str
) -> None:
    """Check that enough arbiters signed for the evidence's main part; `what` tells whose evidence it is.

    One is not enough: it could lie, pass nothing on and say nothing. Of n - k + 1 one is among any k that
    sign a verdict. Who knows fewer of the dispute's arbiters cannot do more than reach all of these. Raises
    `EvidenceNotSentError`, after the evidence deadline `EvidenceTooLateError`, and `ChainError`.
    """
    enough = min(len(dispute.members) - dispute.threshold + 1, len(delivered))
    holders = {each.index for each in delivered if kind in each.taken}
    if holders and len(holders) >= enough:
        return
    why = next((each.problem for each in delivered if each.problem), "they took nothing")
    where = f"with {len(holders)} arbiters, {enough} are needed" if holders else "with no arbiter"
    head = await context.chain.head()
    if head.now >= dispute.disputed_at + dispute.evidence_s:
        raise EvidenceTooLateError(f"{what} is {where}", why=f"the evidence deadline is over; {why}")
    raise EvidenceNotSentError(f"{what} is {where}", why=why, hint=_AGAIN)
