"""Verifiable answers: what an offer's promise asks of the engine, and the commitment that keeps it.

Owns the way from sampling class, request and seed to the engine's body, what such a request may not ask for,
and from an engine's evidence to a `Commitment`. Pure. Must not know where a seed comes from, or how a
commitment travels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.commitment import CANCELLED, MAX_OUTPUT_TOKENS, Choice, Commitment, prompt_hash
from cocoon_sdk.verify.sampling import ARGUMENTS, Sampling
from cocoon_worker.engine.base import (
    EngineAnswerError,
    EngineKind,
    EngineRequest,
    EngineRequestError,
    Evidence,
)

MOST_TOKENS: Final = MAX_OUTPUT_TOKENS
"""Most output tokens of a verifiable answer."""
_NOT_OFFERED: Final[Mapping[str, tuple[Any, str]]] = {
    "echo": (True, "an engine that tells its tokens leaves the prompt out of the text"),
    "include_reasoning": (False, "an engine that hides the reasoning hides its tokens too"),
}


@dataclass(frozen=True, slots=True)
class Promise:
    """One request of a verifiable offer. `engine` is what is asked; the rest goes into the commitment.

    `model_id` is the hash of the model's manifest: what is sold is what is said to have computed.
    """

    engine: EngineRequest
    model_id: Hash
    sampling: Sampling
    seed: bytes
    max_tokens: int
    unreplayable: str

    def commit(self, evidence: Evidence | None, *, tokens: int, cancelled: bool = False) -> Commitment:
        """Return the commitment to an answer of so many tokens; a cancelled one may have less than was made.

        Raises `EngineAnswerError` when the engine gave no evidence, or none that can be committed to.
        """
        if evidence is None or len(evidence.tokens) < tokens or len(evidence.logprobs) < tokens:
            raise EngineAnswerError(
                "the engine's answer cannot be used",
                why="it does not tell its tokens, which the offer promises to commit to",
                hint="Offer the model as unverified, or use vLLM.",
            )
        finish = CANCELLED if cancelled else evidence.finish
        maker = evidence.maker
        try:
            choice = Choice.of(evidence.tokens[:tokens], evidence.logprobs[:tokens], finish)
            return Commitment(
                manifest=self.model_id,
                engine=maker.engine,
                platform=maker.platform,
                dtype=maker.dtype,
                prompt_tokens=len(evidence.prompt),
                prompt_hash=prompt_hash(evidence.prompt),
                max_tokens=self.max_tokens,
                sampling=self.sampling.to_json(),
                seed=self.seed,
                unreplayable=self.unreplayable,
                choices=(choice,),
            )
        except (MalformedError, ValidationError) as error:
            raise EngineAnswerError("the engine's answer cannot be used", why=str(error)) from None


def make_promise(terms: Terms, request: EngineRequest, seed: bytes) -> Promise | None:
    """Return how a checked request is served under an offer's terms; None where nothing is promised.

    Nothing is for unverified offers, and for what makes no tokens. Raises `EngineRequestError`.
    """
    if terms.sampling is SamplingClass.UNVERIFIED or request.kind is EngineKind.EMBEDDING:
        return None
    body = dict(request.body)
    how = _read_sampling(body)
    fields = how.to_engine(seed)
    return Promise(
        engine=EngineRequest(request.kind, body | fields, evidence=True),
        model_id=terms.model_id,
        sampling=how,
        seed=seed,
        max_tokens=int(body.get("max_completion_tokens") or body["max_tokens"]),
        unreplayable=Sampling.replayable(body) or "",
    )


def check_promise(sampling: SamplingClass, body: Mapping[str, Any]) -> None:
    """Raise `EngineRequestError` for a client's body that asks for what the sampling class excludes."""
    arguments = body.get("vllm_xargs") or {}
    if (arguments and sampling is SamplingClass.REPLAYABLE) or any(
        each.startswith(ARGUMENTS) for each in arguments
    ):
        raise EngineRequestError(
            "the request's field 'vllm_xargs' is refused", why="how answers are sampled is the worker's own"
        )
    if sampling is not SamplingClass.UNVERIFIED:
        _read_sampling(body)


def _read_sampling(body: Mapping[str, Any]) -> Sampling:
    for name, (value, why) in _NOT_OFFERED.items():
        if body.get(name) is value:
            raise EngineRequestError(
                f"the request's field {name!r} is refused",
                why=f"{why}, and this offer commits to them",
                hint="Leave it out, or choose an unverified offer.",
            )
    try:
        return Sampling.of_request(body)
    except MalformedError as error:
        raise EngineRequestError(
            "the request cannot be sampled as this offer promises", why=str(error)
        ) from None
