"""What a worker commits to about an answer: who made it, from which tokens, with which choices.

Owns the form, its bounds, its hash, and how log-probabilities are rounded. Must not know how the answer was
made, nor judge it (`checking`). A job's result carries it as `proof`, inside the hashed text; a session's
receipt carries its hash as `proof_hash`. Nothing in it can be changed after the fact, and everything in it
can be recomputed by whoever holds the question, the answer and the model.

Log-probabilities are those of the model's own logits, before any penalty, temperature or cut-off, so that one
forward pass over prompt and output gives them back. They are stored in steps of -1/256 nat: far below the
spread between two honest machines, and two bytes each.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Final, Self

from pydantic import Field, GetPydanticSchema, StringConstraints, model_validator
from pydantic_core import core_schema

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.canonical import canonical_bytes
from cocoon_sdk.protocol.hashing import Tag, tagged_hash
from cocoon_sdk.protocol.models import HashHex, TokenCount, VersionOne, WireModel
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.seeds import SEED_BYTES

MAX_CHOICES: Final = 128
"""Most choices of one answer."""
MAX_OUTPUT_TOKENS: Final = 1 << 16
"""Most tokens of all choices together: 512 KiB of JSON, so that a commitment travels in one frame."""
MAX_COMMITMENT_BYTES: Final = 1 << 20
LOGPROB_STEPS: Final = 256
"""Steps per nat."""
_MOST: Final = (1 << 31) - 1
"""Largest number in a list: engines take no larger token ids."""
MAX_STEPS: Final = 0xFFFF
"""Where stored log-probabilities saturate: -256 nat."""


def stored_logprob(logprob: float) -> int:
    """Round a natural log-probability to steps of -1/256 nat, half to even, saturating at `MAX_STEPS`.

    Raises `MalformedError` for NaN, and for what is clearly above 0.
    """
    if math.isnan(logprob) or logprob > 0.01:  # a probability of 1 may come out a rounding error above
        raise MalformedError("cannot commit to the answer", why="the engine gave no log-probability")
    if logprob <= -MAX_STEPS / LOGPROB_STEPS:
        return MAX_STEPS
    return max(0, round(-logprob * LOGPROB_STEPS))


def prompt_hash(tokens: Sequence[int]) -> Hash:
    """Return the tagged SHA-256 over the prompt's token ids as 32-bit little-endian numbers.

    Raises `MalformedError` for ids beyond 32 bits.
    """
    return tagged_hash(Tag.PROMPT_TOKENS, _packed(tokens, "I"))


def _packed(values: Sequence[int], letter: str) -> bytes:
    try:
        return struct.pack(f"<{len(values)}{letter}", *values)
    except struct.error:
        raise MalformedError("cannot write the tokens", why="a number is out of bounds") from None


def _unpacked(value: Any, letter: str, size: int) -> tuple[int, ...]:
    if isinstance(value, tuple):
        if len(value) > MAX_OUTPUT_TOKENS or not all(
            type(each) is int and 0 <= each < 1 << 8 * size for each in value
        ):
            raise ValueError(f"expected at most {MAX_OUTPUT_TOKENS} numbers of {8 * size} bits")
        return value
    if not isinstance(value, str) or len(value) > 4 * -(-MAX_OUTPUT_TOKENS * size // 3):
        raise ValueError(f"expected base64 of at most {MAX_OUTPUT_TOKENS} numbers of {8 * size} bits")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it is not base64") from None
    # Decoders forgive stray bits at the end; what is hashed has one form only.
    if len(data) % size or base64.b64encode(data).decode("ascii") != value:
        raise ValueError("it is cut off, or not canonical base64")
    values = struct.unpack(f"<{len(data) // size}{letter}", data)
    # Engines refuse such a prompt as malformed, so nobody could check the answer.
    if max(values, default=0) > _MOST:
        raise ValueError("it holds a number that no token has")
    return values


def _array_schema(letter: str, size: int) -> GetPydanticSchema:
    return GetPydanticSchema(
        lambda _source, _handler: core_schema.no_info_plain_validator_function(
            lambda value: _unpacked(value, letter, size),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda values: base64.b64encode(_packed(values, letter)).decode("ascii")
            ),
        )
    )


def _seed(value: Any) -> bytes:
    if isinstance(value, bytes) and len(value) == SEED_BYTES:
        return value
    if isinstance(value, str) and len(value) == 2 * SEED_BYTES and set(value) <= set("0123456789abcdef"):
        return bytes.fromhex(value)
    raise ValueError(f"expected {2 * SEED_BYTES} lower-case hexadecimal digits")


TokenIds = Annotated[tuple[int, ...], _array_schema("I", 4)]
"""Token ids; in JSON base64 of 32-bit little-endian numbers."""
LogprobSteps = Annotated[tuple[int, ...], _array_schema("H", 2)]
"""Log-probabilities in steps of -1/256 nat; in JSON base64 of 16-bit little-endian numbers."""
SeedHex = Annotated[
    bytes,
    GetPydanticSchema(
        lambda _source, _handler: core_schema.no_info_plain_validator_function(
            _seed, serialization=core_schema.plain_serializer_function_ser_schema(bytes.hex)
        )
    ),
]
Label = Annotated[str, StringConstraints(max_length=100, pattern=r"\A[ -~]*\z")]
FinishReason = Annotated[str, StringConstraints(pattern=r"\A[a-z_]{1,32}\z")]

CANCELLED: Final = "cancelled"
"""Finish reason of an answer that its client stopped."""


class Choice(WireModel):
    """One choice of an answer: its tokens with the end token, if one was made, and why it ended.

    `finish` is the engine's finish reason, or `CANCELLED`. `logprobs` has one entry for each token.
    """

    tokens: TokenIds
    logprobs: LogprobSteps
    finish: FinishReason

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.tokens) != len(self.logprobs):
            raise ValueError("tokens and log-probabilities differ in number")
        return self

    @classmethod
    def of(cls, tokens: Sequence[int], logprobs: Sequence[float], finish: str) -> Self:
        """Build one from what an engine reports (natural logarithms). Raises `MalformedError`."""
        steps = tuple(stored_logprob(logprob) for logprob in logprobs)
        return cls.from_wire({"tokens": tuple(tokens), "logprobs": steps, "finish": finish})

    @property
    def nats(self) -> list[float]:
        """The committed log-probabilities in nat."""
        return [-steps / LOGPROB_STEPS for steps in self.logprobs]


class Commitment(WireModel):
    """Everything about one answer that can be checked later.

    `manifest` is the hash of the model's manifest, None where the worker states none. `engine`, `platform`
    and `dtype` say what computed ("vllm 0.32.0", "cpu", "bfloat16"). `max_tokens` is the output limit the
    engine was given. `sampling` is `cocoon_sdk.verify.sampling.Sampling` in its JSON form, `seed` the
    request's. `unreplayable` says why the choices cannot be replayed; it is empty when they can.
    """

    v: VersionOne = 1
    manifest: HashHex | None
    engine: Label
    platform: Label
    dtype: Label
    prompt_tokens: TokenCount
    prompt_hash: HashHex
    max_tokens: TokenCount
    sampling: Annotated[dict[str, int], Field(max_length=32)]
    seed: SeedHex
    unreplayable: Annotated[str, StringConstraints(max_length=200)] = ""
    choices: Annotated[tuple[Choice, ...], Field(strict=False, min_length=1, max_length=MAX_CHOICES)]

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if sum(len(choice.tokens) for choice in self.choices) > MAX_OUTPUT_TOKENS:
            raise ValueError(f"the choices have more than {MAX_OUTPUT_TOKENS} tokens together")
        return self

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read the `proof` of a result, or what a session's worker sent. Raises `MalformedError`."""
        return cls.from_wire(value)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that a result carries as `proof`."""
        return self.to_wire()

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that `digest` covers. Raises `MalformedError` beyond its bound."""
        return canonical_bytes(self.to_wire(), max_bytes=MAX_COMMITMENT_BYTES)

    def digest(self) -> Hash:
        """Return the tagged SHA-256 that a session's receipt carries."""
        return tagged_hash(Tag.COMMITMENT, self.to_bytes())

    @property
    def output_tokens(self) -> int:
        """How many tokens all choices have together."""
        return sum(len(choice.tokens) for choice in self.choices)
