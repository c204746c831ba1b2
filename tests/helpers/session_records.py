"""Records of a session as a worker signs them and its client keeps them; tests make wrong ones too.

`LIMITS` are those of an imagined model, `draw` the numbers of one of its answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from cocoon_sdk.client.sessions.answers.joining import write_json
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.protocol.session_evidence import EvidenceRecord
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.protocol.vouchers import NO_PROOF, Receipt, ResponseHash, SessionRef, request_hash
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.commitment import Commitment
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.thresholds import fit

SIZES = (0.01, 0.2, 0.01, 0.3)


def draw(rng: random.Random, scale: float) -> Numbers:
    return Numbers(*(scale * size * rng.lognormvariate(0, 0.3) for size in SIZES))


LIMITS = fit(
    {str(n): [draw(random.Random(1000 * n + i), 1 - n / 5) for i in range(400)] for n in range(3)}, longest=16
)


def signed_record(
    session: SessionRef,
    rid: int,
    key: SigningKey,
    terms: Terms,
    *,
    kind: str = "completion",
    body: dict[str, Any] | bytes,
    pieces: Sequence[dict[str, Any] | bytes],
    commitment: Commitment | None,
    input_tokens: int,
    output_tokens: int,
) -> EvidenceRecord:
    """Return one request and its answer with the worker's receipt."""
    request = body if isinstance(body, bytes) else write_json(body)
    travelled = [piece if isinstance(piece, bytes) else write_json(piece) for piece in pieces]
    response = ResponseHash()
    for piece in travelled:
        response.update(piece)
    receipt = Receipt(
        rid=rid,
        request_hash=request_hash(kind, request),
        response_hash=response.digest(),
        terms_hash=terms.terms_hash,
        proof_hash=NO_PROOF if commitment is None else commitment.digest(),
        input_tokens=input_tokens,
        cached_input_tokens=0,
        output_tokens=output_tokens,
        charged=Nano(100),
        total=Nano(100 * rid),
    )
    return EvidenceRecord.of(
        receipt,
        key.verify_key,
        receipt.sign(key, session),
        kind=kind,
        request=request,
        pieces=travelled,
        commitment=b"" if commitment is None else commitment.to_bytes(),
        terms=terms,
    )
