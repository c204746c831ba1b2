"""What a client asked in one of its jobs, read again from the chain: its own payload, opened.

Owns finding the bytes, the key they were sealed to, and both sides of the hash. Must not know results.
A box can be opened from either end: the client's key of the job and the worker's announced prekey are enough,
so nothing has to be kept for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pytoniq_core import Address, Cell

from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.discovery import AsyncWorkers
from cocoon_sdk.crypto.keys import BoxPublicKey
from cocoon_sdk.data import REMOTE_SCHEMES, InlineData, decode_data
from cocoon_sdk.errors import DecryptionError, ResultUnavailableError
from cocoon_sdk.history import payload_of
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.envelope import PayloadPlain, open_own_payload, read_payload_header
from cocoon_sdk.types import Hash


@dataclass(frozen=True, slots=True)
class OwnPayload:
    """A job's payload. `data` and `text` are both sides of `payload_hash`, `terms_hash` is the job's."""

    plain: PayloadPlain = field(repr=False)
    data: bytes = field(repr=False)
    text: bytes = field(repr=False)
    payload_hash: Hash
    terms_hash: Hash


async def own_payload(
    context: ClientContext, workers: AsyncWorkers, job_id: int, *, worker: Address | None
) -> OwnPayload:
    """Open the payload of a job of this client's escrow; `worker` is whose it was sealed to.

    Raises `HistoryNotFoundError`, `ResultUnavailableError` (its location does not give it, or the worker
    never announced its key), `DecryptionError`, `HashMismatchError` or `MalformedError`.
    """
    opened = await payload_of(context.chain, context.escrow.address, job_id)
    terms = m.JobTerms.from_cell(opened.terms)
    data = await _bytes(context, opened.data, job_id)
    prekey_id = read_payload_header(data).prekey_id
    prekey = None if prekey_id is None else await _prekey(workers, worker, prekey_id, job_id)
    expected = Hash(terms.payload_hash.to_bytes(32, "big"))
    epoch = (await context.escrow.state()).epoch
    refused: DecryptionError | None = None
    for key in context.box_keys(epoch, job_id):
        try:
            plain, text = open_own_payload(data, key, prekey, expected)
        except DecryptionError as error:
            refused = refused or error
            continue
        return OwnPayload(plain, data, text, expected, Hash(terms.terms_hash.to_bytes(32, "big")))
    assert refused is not None
    raise refused


async def _bytes(context: ClientContext, cell: Cell | None, job_id: int) -> bytes:
    what = f"the payload of job {job_id} cannot be had"
    if cell is None:
        raise ResultUnavailableError(what, why="the chain holds no place for it")
    schemes = getattr(context.source, "schemes", REMOTE_SCHEMES)
    where = decode_data(cell, schemes=schemes)
    if isinstance(where, InlineData):
        return where.content
    if context.source is None:
        raise ResultUnavailableError(
            what,
            why=f"it is at a {where.scheme} location, and this client has no data source",
            hint="Pass `source`",
        )
    return await context.source.get(where)


async def _prekey(
    workers: AsyncWorkers, worker: Address | None, prekey_id: bytes, job_id: int
) -> BoxPublicKey:
    if worker is not None:
        async for info in workers.announcements(worker):
            for prekey in info.prekeys:
                if prekey.key.key_id == prekey_id:
                    return prekey.key
    raise ResultUnavailableError(
        f"the payload of job {job_id} cannot be opened again",
        why="its worker's announcements do not show the key that it was sealed to",
        hint="Use an endpoint that keeps the history",
    )
