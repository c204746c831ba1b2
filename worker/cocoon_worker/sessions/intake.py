"""From a request's frame to what the engine is asked and what it can cost: pure, but for parsing.

Owns the rules of a single request: which offer, which kind, the body's fields, the bounds. Must not know
connections, ledgers or engines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from cocoon_sdk.protocol.pricing import Tariff
from cocoon_sdk.protocol.session_wire import Ask, FailureCode
from cocoon_worker.admission import input_bound, output_limit, request_body
from cocoon_worker.catalogue import OwnOffer
from cocoon_worker.engine.base import EngineKind, EngineLimits, EngineRequest, EngineRequestError
from cocoon_worker.errors import WorkerError

STEP_TOKENS: Final = 8
"""Most output tokens that an engine adds from one event to the next."""
_TEMPLATE_TOKENS: Final = 256
"""What a chat template may add by itself."""
_KINDS: Final = {kind.value: kind for kind in EngineKind}
_read_body: Final = msgspec.json.Decoder(dict[str, Any]).decode


class AskRefusedError(WorkerError):
    """The request is not served; `code` is the `FailureCode` to answer with."""

    def __init__(self, code: str, why: str, *, retry_after_s: int | None = None) -> None:
        super().__init__("the request is not served", why=why)
        self.code, self.retry_after_s = code, retry_after_s


@dataclass(frozen=True, slots=True)
class Shop:
    """One offer, ready to serve from."""

    offer: OwnOffer
    tariff: Tariff
    limits: EngineLimits
    step: int
    """Price of the most that an engine adds between two events, in nanoTON."""

    @classmethod
    def of(cls, offer: OwnOffer) -> Shop:
        """Make an offer ready. Without a limit answers are as long as can be: they are paid as they come."""
        tariff = Tariff(offer.terms)
        limits = replace(offer.limits, default_output_tokens=offer.max_output_tokens)
        step = -(-STEP_TOKENS * int(offer.terms.output_price) // 1_000_000)
        return cls(offer, tariff, limits, step)


@dataclass(frozen=True, slots=True)
class Intake:
    """One request that may be served. Tokens are upper bounds; `begin` is the price of its first piece at
    most, `whole` that of the whole answer, in nanoTON.
    """

    shop: Shop
    engine: EngineRequest
    input_tokens: int
    output_tokens: int
    begin: int
    whole: int

    @classmethod
    def read(cls, ask: Ask, shops: dict[bytes, Shop]) -> Intake:
        """Check a request. Raises `AskRefusedError`."""
        shop = shops.get(ask.terms_hash)
        if shop is None:
            raise AskRefusedError(FailureCode.UNKNOWN_TERMS, "these terms are not offered here (any more)")
        kind = _KINDS.get(ask.kind)
        if kind is None:
            raise _bad(f"its kind is none of {', '.join(_KINDS)}")
        try:
            fields = _read_body(ask.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _bad(f"its body is no JSON object ({type(error).__name__})") from None
        if ask.stream and fields.get("prompt_logprobs"):
            raise _bad("the request's field 'prompt_logprobs' is refused: a stream cannot bring it")
        offer = shop.offer
        if fields.get("model") not in (None, offer.model, offer.engine_model):
            raise _bad(f"its terms are for the model {offer.model}, its body names another")
        try:
            body = request_body(offer, kind, fields, shop.limits)
        except EngineRequestError as error:
            raise _bad(str(error)) from None
        # A token is at least a byte.
        tokens = input_bound(kind, body, 1.0) + _TEMPLATE_TOKENS
        return cls._priced(shop, EngineRequest(kind, body), tokens, output_limit(kind, body))

    @classmethod
    def _priced(cls, shop: Shop, engine: EngineRequest, input_tokens: int, output_tokens: int) -> Intake:
        first = shop.tariff.price(input_tokens, 0, min(output_tokens, STEP_TOKENS))
        whole = shop.tariff.price(input_tokens, 0, output_tokens)
        begin = whole if _is_at_once(engine) else max(first, shop.step)
        return cls(shop, engine, input_tokens, output_tokens, begin, whole)

    @property
    def at_once(self) -> bool:
        """Whether the answer can only come whole: engines do not stream vectors, or the prompt's scores."""
        return _is_at_once(self.engine)

    @property
    def may_not_fit(self) -> bool:
        """Whether the prompt could be longer than the offer's context."""
        offer = self.shop.offer
        return self.input_tokens > offer.bytes_per_token * offer.max_context

    def counted(self, input_tokens: int) -> Intake:
        """Return it with the true number of its prompt's tokens. Raises `AskRefusedError`: it is too long."""
        if input_tokens > (most := self.shop.offer.max_context):
            raise _bad(f"its prompt has {input_tokens} tokens, the context holds {most}")
        return self._priced(self.shop, self.engine, input_tokens, self.output_tokens)


def _is_at_once(engine: EngineRequest) -> bool:
    return engine.kind is EngineKind.EMBEDDING or bool(engine.body.get("prompt_logprobs"))


def make_shops(offers: Iterable[OwnOffer]) -> dict[bytes, Shop]:
    """Return the offers by the hash of their terms."""
    return {bytes(offer.terms_hash): Shop.of(offer) for offer in offers}


def _bad(why: str) -> AskRefusedError:
    return AskRefusedError(FailureCode.BAD_REQUEST, why)
