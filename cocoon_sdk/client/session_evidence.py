"""A client's evidence about a session, on its way to the arbiters of its dispute (docs/arbiter.md).

Owns looking at the dispute and telling what became of the evidence. Must not know who keeps records, or
whether they are worth a dispute.
"""

from __future__ import annotations

from cocoon_sdk.client.arbiters import Delivered
from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.errors import EvidenceNotSentError
from cocoon_sdk.client.evidence_holders import check_held
from cocoon_sdk.contracts.disputes import read_session_dispute
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.errors import CocoonError, ConfigError
from cocoon_sdk.protocol.disputes import Item, ItemKind
from cocoon_sdk.protocol.session_evidence import SessionEvidence, evidence_digest

_AGAIN = "Send it again before the evidence deadline"


async def send_session_evidence(
    context: ClientContext, session_id: int, evidence: SessionEvidence | bytes
) -> tuple[Delivered, ...]:
    """Send what a session's dispute stands on to its arbiters; may be repeated.

    Without it the worker wins. Raises `ConfigError` when the dispute stands on other evidence,
    `NoDisputeError` when the session is not disputed (any more), and what `check_held` raises unless enough
    arbiters took it.
    """
    about = f"the evidence about session {session_id}"
    what = f"{about} is with no arbiter"
    if context.arbiters is None:
        why = "this client does not know where they are"
        raise EvidenceNotSentError(what, why=why, hint="Pass `arbiters` to the client")
    data = evidence if isinstance(evidence, bytes) else evidence.to_bytes()
    dispute = await read_session_dispute(Escrow.at(context.chain, context.escrow.address), session_id)
    if evidence_digest(data) != dispute.result_hash:
        raise ConfigError(
            f"cannot send this evidence about session {session_id}",
            why=f"the dispute stands on evidence with the hash {dispute.result_hash.hex()}",
            hint="Send the evidence that the session was disputed with",
        )
    try:
        delivered = await context.arbiters.send_evidence(dispute, [Item(ItemKind.SESSION, data)])
    except CocoonError as error:
        raise EvidenceNotSentError(what, why=str(error), hint=_AGAIN) from error
    await check_held(context, dispute, delivered, ItemKind.SESSION, about)
    return delivered
