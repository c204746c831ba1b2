"""A client's evidence about one of its jobs, found again from the chain and the hot key alone.

Owns what the client shows and says. Must not know arbiters or how evidence travels (docs/arbiter.md). The
client key opens this one job, so nothing else is shown with it.
"""

from __future__ import annotations

from pytoniq_core import Cell

from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.discovery import AsyncWorkers
from cocoon_sdk.client.own_payload import own_payload
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.crypto.keys import BoxKey
from cocoon_sdk.data import REMOTE_SCHEMES, InlineData, decode_data
from cocoon_sdk.errors import CocoonError, DecryptionError, HashMismatchError, MalformedError
from cocoon_sdk.history import result_of
from cocoon_sdk.protocol.canonical import canonical_bytes
from cocoon_sdk.protocol.disputes import Item, ItemKind, payload_item, received_digest
from cocoon_sdk.protocol.envelope import open_result_text, read_payload_header
from cocoon_sdk.protocol.terms import Terms


async def client_evidence(
    context: ClientContext,
    workers: AsyncWorkers,
    dispute: Dispute,
    *,
    terms: Terms | None,
    handed_over: bytes | None = None,
) -> tuple[Item, ...]:
    """Return all that this client can show about its disputed job.

    `terms` are the worker's, if known; `handed_over` is the sealed result that it handed over, if any.
    Raises what `own_payload` raises, since without the payload the worker wins, and `ChainError`.
    """
    payload = await own_payload(context, workers, dispute.number, worker=dispute.worker)
    client_key = _key_of(context, payload.data, dispute)
    items = [payload_item(payload.data, payload.text), Item(ItemKind.CLIENT_KEY, client_key.reveal())]
    if terms is not None and terms.terms_hash == dispute.terms_hash:
        items.append(Item(ItemKind.TERMS, canonical_bytes(terms.to_wire())))
    text = await _result_text(context, dispute, client_key, handed_over)
    if text is not None:
        items.append(Item(ItemKind.RESULT, text))
        statement = context.hot_key.sign(received_digest(dispute.digest, dispute.result_hash))
        items.append(Item(ItemKind.RECEIVED, statement))
    return tuple(items)


def _key_of(context: ClientContext, payload: bytes, dispute: Dispute) -> BoxKey:
    public = read_payload_header(payload).client_key
    keys = context.box_keys(dispute.domain.epoch, dispute.number)
    return next(key for key in keys if key.public_key == public)  # one of them opened the payload


async def _result_text(
    context: ClientContext, dispute: Dispute, client_key: BoxKey, handed_over: bytes | None
) -> bytes | None:
    """Return the committed result's text; None when the worker delivered none, or one that does not open."""
    submitted = await result_of(
        context.chain, dispute.escrow, dispute.number, result_hash=bytes(dispute.result_hash)
    )
    for sealed in (await _fetch(context, submitted.data), handed_over):
        try:
            if sealed is not None:
                return open_result_text(sealed, client_key, dispute.result_hash)
        except (DecryptionError, HashMismatchError, MalformedError):
            continue
    return None


async def _fetch(context: ClientContext, data: Cell | None) -> bytes | None:
    """Return the bytes that a data cell holds or names; None when they cannot be had."""
    if data is None:
        return None
    schemes = getattr(context.source, "schemes", REMOTE_SCHEMES)
    try:
        where = decode_data(data, schemes=schemes)
        if isinstance(where, InlineData):
            return where.content
        return None if context.source is None else await context.source.get(where)
    except CocoonError:
        return None
