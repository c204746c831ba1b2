"""What a use of a model costs: integer arithmetic only, rounded up to a nanoTON exactly once, at the end.

Owns `Usage` and the price formula that client, worker and arbiter must agree on. Must not know where
token counts come from or how a payment is made.
"""

from __future__ import annotations

from typing import Final, Self

from pydantic import model_validator

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.models import TokenCount, WireModel
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Nano

TOKENS_PER_UNIT: Final = 1_000_000
MAX_TOKENS: Final = 1 << 40


class Usage(WireModel):
    """Tokens that a request used. `input_tokens` includes `cached_input_tokens`."""

    input_tokens: TokenCount
    cached_input_tokens: TokenCount = 0
    output_tokens: TokenCount = 0

    @model_validator(mode="after")
    def _cached_is_part_of_input(self) -> Self:
        if self.cached_input_tokens > self.input_tokens:
            raise ValueError("cached_input_tokens exceeds input_tokens, of which it is a part")
        return self

    def __add__(self, other: Usage) -> Usage:
        mine, theirs = self.to_wire(), other.to_wire()
        return Usage.from_wire({name: mine[name] + theirs[name] for name in mine})


class Tariff:
    """The token prices of terms as plain integers: what a session's requests cost, piece by piece.

    Without the minimum, which is a job's: a job has a chain operation of its own to pay, a request has not.
    """

    __slots__ = ("_cached", "_input", "_output")

    def __init__(self, terms: Terms) -> None:
        self._input, self._cached = int(terms.input_price), int(terms.cached_input_price)
        self._output = int(terms.output_price)

    def price(self, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> int:
        """Return nanoTON: the sum, rounded up once. The caller checks the counts."""
        micro = (
            (input_tokens - cached_input_tokens) * self._input
            + cached_input_tokens * self._cached
            + output_tokens * self._output
        )
        # Up, in the worker's favour, by less than one nanoTON for the whole request.
        return -(-micro // TOKENS_PER_UNIT)


def price(usage: Usage, terms: Terms) -> Nano:
    """Return what a job's `usage` costs under `terms`: the sum, rounded up once, but at least the minimum."""
    counts = (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
    return Nano(max(Tariff(terms).price(*counts), int(terms.minimum_price)))


def max_price(terms: Terms, *, max_input_tokens: int, max_output_tokens: int) -> Nano:
    """Return the most a job can cost: no cached input, every allowed output token produced.

    Raises `MalformedError` for token bounds that no request can have.
    """
    if not (0 <= max_input_tokens <= MAX_TOKENS and 0 <= max_output_tokens <= MAX_TOKENS):
        why = f"token bounds lie between 0 and {MAX_TOKENS}"
        raise MalformedError("cannot compute a maximum price", why=why)
    return price(Usage(input_tokens=max_input_tokens, output_tokens=max_output_tokens), terms)
