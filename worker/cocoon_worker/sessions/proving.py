"""What one request of a session shows of how its answer was made: asked of the engine, committed to, sent.

Owns the way from a request to its commitment, and when that travels. Must not know ledgers, pieces or
connections. Nothing here costs anything for an offer that promises nothing.
"""

from __future__ import annotations

from cocoon_sdk.protocol.session_wire import Proof
from cocoon_sdk.protocol.vouchers import NO_PROOF, SessionRef
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.commitment import Commitment
from cocoon_sdk.verify.seeds import request_seed
from cocoon_worker.engine.base import EngineRequest, Evidence
from cocoon_worker.promises import make_promise
from cocoon_worker.sessions.intake import Intake


class Proving:
    """One request's promise. `engine` is what is asked; put into `evidence` what its chunks carry."""

    __slots__ = ("_commitment", "_promise", "_rid", "_wanted", "engine", "evidence")

    def __init__(self, session: SessionRef, rid: int, asked_hash: Hash, intake: Intake) -> None:
        self._rid = rid
        self.engine: EngineRequest = intake.engine
        self._promise = None
        if (offer := intake.shop.offer).verifiable:
            seed = request_seed(session, rid, asked_hash)
            self._promise = make_promise(offer.terms, intake.engine, seed)
        if self._promise is not None:
            self.engine = self._promise.engine
        self.evidence: Evidence | None = None
        self._commitment: Commitment | None = None
        self._wanted = False

    def want(self) -> bool:
        """Send the commitment with the receipt. False when it was asked for already, or there is none."""
        new = self._promise is not None and not self._wanted
        self._wanted = self._wanted or new
        return new

    def commit(self, tokens: int, *, cancelled: bool = False) -> None:
        """Commit to the answer's first `tokens` tokens, once. Raises `EngineAnswerError`."""
        if self._promise is not None and tokens and self._commitment is None:
            self._commitment = self._promise.commit(self.evidence, tokens=tokens, cancelled=cancelled)

    @property
    def proof_hash(self) -> Hash:
        """What the receipt carries."""
        return NO_PROOF if self._commitment is None else self._commitment.digest()

    def frame(self) -> Proof | None:
        """Return what goes before the receipt, if the client wants it."""
        if not self._wanted or self._commitment is None:
            return None
        return Proof(self._rid, self._commitment.to_bytes())
