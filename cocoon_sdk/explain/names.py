"""Names for numbers: exit codes, messages, actions.

Owns looking names up in what the compiled ABI generated, so that no number is typed here. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from pytoniq_core import Address, Cell

from cocoon_sdk.protocol.exit_codes import error_for_exit_code
from cocoon_sdk.protocol.messages import MESSAGES
from cocoon_sdk.types import Hash, Nano

_MONEY: Final = frozenset(
    (
        "amount",
        "fee",
        "back",
        "collateral",
        "deposit",
        "pay",
        "slash",
        "max_locked",
        "daily_lock",
        "daily_limit",
    )
)
"""Fields of a fixed width that hold nanoTON."""
_CAMEL: Final = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class CodeName:
    """An exit code in words: `name` is empty for a code that nobody named."""

    name: str
    why: str
    hint: str


def code_name(code: int) -> CodeName:
    """Return the name, cause and hint of an exit code."""
    error = error_for_exit_code(code)
    return CodeName(error.NAME, error.WHY if error.NAME else error.why, error.hint)


def message_name(op: int | None) -> str:
    """Return a message's name, such as "job offer"; empty when the operation is not of the suite."""
    known = MESSAGES.get(op) if op is not None else None
    return words_of(known.__name__) if known is not None else ""


def words_of(name: str) -> str:
    """Split a class name into words: `AcceptSigned` -> "accept signed"."""
    return _CAMEL.sub(" ", name).lower()


def action_name(action: object) -> str:
    """Return a signed action's name, such as "open job"."""
    return words_of(type(action).__name__.removesuffix("Action"))


def readable_fields(value: object) -> dict[str, Any]:
    """Return what a message, struct or action holds: hashes as hexadecimal text, cells as their hash.

    Numbers of 256 bits are hashes, keys or account ids and read best as hexadecimal.
    """
    found: dict[str, Any] = {}
    for name in getattr(type(value), "__dataclass_fields__", {}):
        if name.isupper():
            continue
        item = getattr(value, name)
        found[name] = Nano(item) if name in _MONEY else _readable(item)
    return found


def _readable(value: object) -> Any:
    match value:
        case None | bool() | Nano() | str() | Address():
            return value
        case int():
            return value if value < 1 << 64 else f"{value:064x}"
        case bytes():
            return value.hex()
        case Cell():
            return f"cell {Hash(value.hash).hex()}"
        case dict():
            return {str(key): _readable(item) for key, item in value.items()}
    nested = readable_fields(value)
    return nested or str(value)
