"""What a request can cost at most, and what a worker may plausibly claim to have counted.

Owns reading the few fields of a body that bound its price, and the plausibility of token counts. Must not
know links, sessions or why a worker was chosen. A worker's counts cannot be repeated without its tokenizer,
so they are bounded by what can be seen: no token is shorter than a byte, a template adds little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from cocoon_sdk.client.sessions.errors import RequestRefusedError
from cocoon_sdk.client.sessions.values import EMBEDDING, KINDS
from cocoon_sdk.protocol import pricing
from cocoon_sdk.protocol.offers import Offer
from cocoon_sdk.protocol.session_wire import MAX_BODY_BYTES
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Hash, Nano

TEMPLATE_TOKENS: Final = 1024
"""What a chat template may add to the bytes of a body: roles, default system prompts, the form of tools."""
LIKELY_BYTES_PER_TOKEN: Final = 4
MAX_CHOICES: Final = 128
PIECE_BYTES: Final = 64
"""What keeping a piece of an answer takes in memory, beside its bytes."""
_MAX_TOKENS: Final = 1 << 32
_TOKENS_PER_PIECE: Final = 16

_Tokens = Annotated[int, Meta(ge=0, le=_MAX_TOKENS)]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Head(msgspec.Struct):
    """The fields of a body that this side has to understand; all others are the engine's."""

    model: str | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    stream_options: _StreamOptions | None = None


_read_head: Final = msgspec.json.Decoder(_Head).decode


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a body says about its model and size. `max_output` is None when it sets no limit."""

    kind: str
    body_bytes: int
    max_output: int | None
    choices: int
    include_usage: bool
    model: str | None = None

    @classmethod
    def read(cls, kind: str, body: bytes) -> RequestHead:
        """Read a body's head. Raises `RequestRefusedError` for what no worker could serve."""
        what = "this request cannot be served"
        if kind not in KINDS:
            raise RequestRefusedError(what, why=f"its kind is none of {', '.join(KINDS)}")
        if len(body) > MAX_BODY_BYTES:
            why = f"its body has {len(body)} bytes, at most {MAX_BODY_BYTES} travel in a session"
            raise RequestRefusedError(what, why=why, hint="Shorten the prompt, or open a job for it")
        try:
            head = _read_head(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RequestRefusedError(what, why=str(error)[:200]) from None
        limits = [each for each in (head.max_tokens, head.max_completion_tokens) if each is not None]
        options = head.stream_options
        return cls(
            kind=kind,
            body_bytes=len(body),
            max_output=min(limits, default=None),
            choices=head.n or 1,
            include_usage=options is not None and bool(options.include_usage),
            model=head.model,
        )


class Tariff(pricing.Tariff):
    """A worker's terms, and the prices of their tokens."""

    __slots__ = ("terms", "terms_hash")

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self.terms = terms
        self.terms_hash: Hash = terms.terms_hash


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that one request can use and cost with one offer.

    `begin` is the most that its first piece can cost, `likely_begin` what it probably costs. `reserve` is set
    aside for it while it runs: all of its output, and twice the input that its bytes probably are. What it
    needs beyond that is topped up in time. In nanoTON.
    """

    input_tokens: int
    output_tokens: int
    reserve: Nano
    begin: Nano
    likely_begin: Nano

    @classmethod
    def of(cls, head: RequestHead, offer: Offer, tariff: Tariff) -> Ceiling:
        """Bound a request by its bytes and its own limit, or the offer's."""
        input_tokens = head.body_bytes + TEMPLATE_TOKENS
        likely = head.body_bytes // LIKELY_BYTES_PER_TOKEN
        most = 0
        if head.kind != EMBEDDING:
            most = offer.max_output_tokens
            if head.max_output is not None:
                most = min(most, head.max_output)
            most *= head.choices
        return cls(
            input_tokens=input_tokens,
            output_tokens=most,
            reserve=Nano(tariff.price(2 * likely, 0, most)),
            begin=Nano(tariff.price(input_tokens, 0, min(most, _TOKENS_PER_PIECE))),
            likely_begin=Nano(tariff.price(likely, 0, 0)),
        )
