"""What every JSON message of the protocol shares: strict frozen models with hex hashes and nano amounts.

Owns field types and the translation of validation failures into `MalformedError`. Must not know any
message. Field errors name the field and the rule, never the value, which may be private.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import core_schema

from cocoon_sdk.crypto.keys import SIGNATURE_BYTES, BoxPublicKey, VerifyKey
from cocoon_sdk.errors import KeyMaterialError, MalformedError
from cocoon_sdk.protocol.canonical import MAX_SAFE_INTEGER
from cocoon_sdk.protocol.hashing import HASH_BYTES
from cocoon_sdk.types import Hash, Nano

SALT_BYTES: Final = 16
_MAX_REPORTED: Final = 4
_WIRE: Final = {"wire": True}
_Key = TypeVar("_Key", BoxPublicKey, VerifyKey)


class WireModel(BaseModel):
    """A message in JSON: frozen, strictly typed, no unknown fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_on_the_wire(cls, value: Any, info: ValidationInfo) -> Any:
        # Defaults are for whoever builds a message. On the wire every field is written out: what is hashed
        # has one form, and a missing salt or version is never filled in by the reader.
        if (
            info.context is _WIRE
            and isinstance(value, dict)
            and (missing := cls.model_fields.keys() - value.keys())
        ):
            raise ValueError(f"missing {', '.join(sorted(missing))}")
        return value

    @classmethod
    def from_wire(cls, value: Any) -> Self:
        """Validate a parsed JSON value. Raises `MalformedError` that names fields but never values."""
        try:
            return cls.model_validate(value, context=_WIRE)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            shown = "; ".join(
                f"{'.'.join(_field_name(step) for step in problem['loc']) or 'the whole'}: {problem['msg']}"
                for problem in problems[:_MAX_REPORTED]
            )
        # Raised outside of the handler: the validation error holds the input and must not be chained.
        raise MalformedError(f"not a valid {cls.__name__}", why=shown)

    def to_wire(self) -> dict[str, Any]:
        """Return the message as a JSON value: every field is present, and content is passed on untouched.

        Raises `MalformedError` for content that contains itself or is nested too deeply to be walked.
        """
        try:
            return self.model_dump()  # mode "json" would turn NaN and foreign types into something else
        except (ValueError, RecursionError):
            pass
        raise MalformedError(f"cannot write the {type(self).__name__}", why="it is nested too deeply")


def _field_name(step: int | str) -> str:
    # An unknown field's name is chosen by the sender: keep it short and printable.
    return ascii(step)[:40] if isinstance(step, str) and not step.isidentifier() else str(step)[:40]


def _parse_hex(value: Any, size: int) -> bytes:
    if isinstance(value, bytes) and len(value) == size:
        return value
    if isinstance(value, str) and len(value) == 2 * size and set(value) <= set("0123456789abcdef"):
        return bytes.fromhex(value)
    raise ValueError(f"expected {2 * size} lower-case hexadecimal digits")


def _hex_schema(size: int) -> GetPydanticSchema:
    return GetPydanticSchema(
        lambda _source, _handler: core_schema.no_info_plain_validator_function(
            lambda value: _parse_hex(value, size),
            serialization=core_schema.plain_serializer_function_ser_schema(bytes.hex),
        )
    )


def _parse_key(value: Any, key_type: type[_Key]) -> _Key:
    if isinstance(value, key_type):
        return value
    try:
        return key_type(_parse_hex(value, HASH_BYTES))
    except KeyMaterialError as error:
        raise ValueError(f"{error.what}: {error.why}") from None


def _key_schema(key_type: type[_Key]) -> GetPydanticSchema:
    return GetPydanticSchema(
        lambda _source, _handler: core_schema.no_info_plain_validator_function(
            lambda value: _parse_key(value, key_type),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda key: key.hex),
        )
    )


def _nano_schema(minimum: int, maximum: int) -> GetPydanticSchema:
    return GetPydanticSchema(
        lambda _source, _handler: core_schema.no_info_after_validator_function(
            Nano,
            core_schema.int_schema(strict=True, ge=minimum, le=maximum),
            serialization=core_schema.plain_serializer_function_ser_schema(int),
        )
    )


MAX_WIRE_NANO: Final = MAX_SAFE_INTEGER
"""Largest amount a JSON message states: about 9 million TON."""

VersionOne = Annotated[int, Field(ge=1, le=1)]
"""The version field of a message; not `Literal[1]`, which would take `true` for 1."""

HashHex = Annotated[Hash, _hex_schema(HASH_BYTES)]
"""32 bytes; 64 lower-case hexadecimal digits in JSON."""

SaltHex = Annotated[bytes, _hex_schema(SALT_BYTES)]
"""16 random bytes; they keep short or guessable content from being found by trying."""

SignatureHex = Annotated[bytes, _hex_schema(SIGNATURE_BYTES)]
"""An ed25519 signature; 128 lower-case hexadecimal digits in JSON."""

WireNano = Annotated[Nano, _nano_schema(0, MAX_WIRE_NANO)]
"""An amount or unit price in nanoTON, an integer in JSON."""

BoxPublicKeyHex = Annotated[BoxPublicKey, _key_schema(BoxPublicKey)]
VerifyKeyHex = Annotated[VerifyKey, _key_schema(VerifyKey)]

WireInt = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
"""An unsigned integer that every JSON parser holds exactly."""

TokenCount = Annotated[int, Field(ge=0, le=1 << 40)]
"""A number of tokens, bounded so that any price fits in `Coins`."""

ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"\A[!-~]+\z")]
"""The model's public name, printable ASCII without blanks, such as `Qwen/Qwen3-8B`."""
