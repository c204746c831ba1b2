"""What this worker sells: its offers as terms, and the announcement that tells the world.

Owns the translation from settings. Pure; must not know keys' files or chains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cocoon_sdk.crypto import VerifyKey
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.protocol import Offer, Prekey, SamplingClass, Terms, WorkerInfo
from cocoon_sdk.types import Hash
from cocoon_worker.config import OfferConfig
from cocoon_worker.engine.base import EngineLimits
from cocoon_worker.promises import MOST_TOKENS

_DEFAULT_OUTPUT_TOKENS = 512
_PLAIN: Final = (
    "model",
    "engine_model",
    "max_context",
    "max_output_tokens",
    "tokens_per_second",
    "bytes_per_token",
    "open_jobs",
)


@dataclass(frozen=True, slots=True)
class OwnOffer:
    """One model on sale. Speeds are pessimistic; `bytes_per_token` bounds a prompt's tokens from above."""

    model: str
    engine_model: str
    terms: Terms
    terms_hash: Hash
    max_context: int
    max_output_tokens: int
    tokens_per_second: float
    bytes_per_token: float
    open_jobs: bool

    @property
    def model_id(self) -> Hash:
        """The model as registry and market name it."""
        return self.terms.model_id

    def to_json(self) -> dict[str, Any]:
        """Return the form that the journal keeps."""
        kept = {name: getattr(self, name) for name in _PLAIN}
        return {**kept, "terms": self.terms.to_wire()}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> OwnOffer:
        """Read the kept form."""
        terms = Terms.from_wire(kept["terms"])
        return cls(terms=terms, terms_hash=terms.terms_hash, **{name: kept[name] for name in _PLAIN})

    @property
    def verifiable(self) -> bool:
        """Whether answers come with a commitment that shows how they were made."""
        return self.terms.sampling is not SamplingClass.UNVERIFIED

    @property
    def limits(self) -> EngineLimits:
        """What a request may ask of this offer."""
        return EngineLimits(
            max_prompt_tokens=self.max_context,
            max_output_tokens=self.max_output_tokens,
            default_output_tokens=min(_DEFAULT_OUTPUT_TOKENS, self.max_output_tokens),
        )


def own_offers(offers: Iterable[OfferConfig], entries: Mapping[bytes, bytes]) -> tuple[OwnOffer, ...]:
    """Return the offers; `entries` maps model ids to the hashes of the registry's entries.

    A model that the registry does not list gets the entry hash 0: it can be sold, but arbiters have no
    calibration for it. Raises `ConfigError` for verifiable answers that would not fit into a commitment.
    """
    return tuple(_own(offer, entries) for offer in offers)


def _own(offer: OfferConfig, entries: Mapping[bytes, bytes]) -> OwnOffer:
    most = min(offer.max_output_tokens, offer.max_context)
    if offer.sampling is not SamplingClass.UNVERIFIED and most > MOST_TOKENS:
        raise ConfigError(
            f"cannot offer {offer.model} as {offer.sampling.value}",
            why=f"answers of {most} tokens are too long: a commitment holds {MOST_TOKENS}",
            hint="Lower max_output_tokens, or offer it as unverified",
        )
    model_id = bytes.fromhex(offer.model_id)
    cached = offer.input_price if offer.cached_input_price is None else offer.cached_input_price
    terms = Terms(
        model_id=Hash(model_id),
        model_entry_hash=Hash(entries.get(model_id, bytes(32))),
        input_price=offer.input_price,
        cached_input_price=cached,
        output_price=offer.output_price,
        minimum_price=offer.minimum_price,
        sampling=offer.sampling,
    )
    return OwnOffer(
        model=offer.model,
        engine_model=offer.engine_model or offer.model,
        terms=terms,
        terms_hash=terms.terms_hash,
        max_context=offer.max_context,
        max_output_tokens=most,
        tokens_per_second=offer.tokens_per_second,
        bytes_per_token=offer.bytes_per_token,
        open_jobs=offer.open_jobs,
    )


def worker_info(
    operator: VerifyKey, endpoint: str | None, prekeys: Sequence[Prekey], offers: Sequence[OwnOffer]
) -> WorkerInfo:
    """Return the announcement of these offers."""
    return WorkerInfo(
        operator=operator,
        endpoint=endpoint,
        prekeys=tuple(prekeys),
        offers=tuple(
            Offer(
                model=offer.model,
                terms=offer.terms,
                max_context=offer.max_context,
                max_output_tokens=offer.max_output_tokens,
            )
            for offer in offers
        ),
    )
