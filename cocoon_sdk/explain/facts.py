"""What can be said about a transaction or an account: typed facts, before they become words.

Owns the base of all facts and their machine-readable form; those of jobs stand in `job_facts`. Must not know
chains or sentences. Amounts are nanoTON, times unix seconds. Pure.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final

from pytoniq_core import Address

from cocoon_sdk.types import Hash, Nano, format_ton

_CAMEL: Final = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class TxRef:
    """Where a transaction is found: its account and logical time."""

    address: Address
    lt: int

    def __str__(self) -> str:
        return f"{self.address.to_str()}@{self.lt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that happened (`at`, shown by transaction `tx`) or that is so (`at` None)."""

    at: int | None = None
    tx: TxRef | None = None

    @property
    def kind(self) -> str:
        """The fact's name in machine-readable form, such as `worker_paid`."""
        return _CAMEL.sub("_", type(self).__name__).lower()


class Role(StrEnum):
    """Who is who."""

    ESCROW = "escrow"
    CLIENT = "client's owner wallet"
    WORKER = "worker"
    MARKET = "market"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Party(Fact):
    """An account that takes part."""

    role: Role
    address: Address


# -- a transaction -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionSeen(Fact):
    """One transaction of an account."""

    address: Address
    account_kind: str
    lt: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSeen(Fact):
    """A message in or out. `name` is empty for what is not of the suite; `fields` are its contents."""

    incoming: bool
    external: bool
    src: Address | None
    dst: Address | None
    value: Nano
    forward_fee: Nano
    name: str
    op: int | None
    bounced: bool
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalSeen(Fact):
    """The head of a signed external. `max_spend` bounds several actions together; a single one needs none."""

    seqno: int
    valid_until: int
    max_spend: Nano | None
    actions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSeen(Fact):
    """One signed action; `exit_code` None when it was done, else the code that skipped it."""

    position: int
    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    code_name: str = ""
    why: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Fact):
    """How code and actions ended, and what it cost."""

    success: bool
    exit_code: int | None
    action_code: int | None
    name: str
    why: str
    hint: str
    gas_used: int
    fees: Nano
    forward_fees: Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSeen(Fact):
    """The transaction that a message caused at its receiver."""

    name: str
    to: Address
    child: TxRef | None
    success: bool | None
    exit_code: int | None
    code_name: str
    fees: Nano | None


# -- an account --------------------------------------------------------------------------------------------


class AccountKindName(StrEnum):
    """What an account turned out to be."""

    REGISTRY = "registry"
    ESCROW = "escrow"
    STAKE = "worker's stake"
    MARKET = "market"
    WALLET = "wallet"
    NOTHING = "nothing yet"
    UNKNOWN = "unknown contract"


class Standing(Enum):
    """How far an account can be trusted to be what it looks like; the value says it in words."""

    GENUINE = "genuine: its address derives from the suite's code and its identity"
    GENUINE_CODE = "it runs the registry's code; whether it is the registry you trust is for you to know"
    NAMED = "it is the registry that you named, and it runs the suite's code"
    OTHER_NETWORK = "genuine code, but it belongs to another registry than the one you named"
    FORGED = "FORGED: it runs the suite's code, but its address does not derive from its identity"
    IMITATION = "not of the suite: it answers like one of its accounts, but runs other code"
    NOT_OURS = "not a contract of the suite"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSeen(Fact):
    """What an account is."""

    address: Address
    what: AccountKindName
    standing: Standing
    status: str
    balance: Nano
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Property(Fact):
    """One thing about an account's state; `value` is an amount, address, hash, time, number or text."""

    name: str
    value: Nano | Address | Hash | int | str | bool
    note: str = ""
    is_time: bool = False


def to_plain(value: Any) -> Any:
    """Turn a fact (or what it holds) into JSON values; amounts as strings, in nanoTON and in TON."""
    match value:
        case None | bool() | str() if not isinstance(value, Enum):
            return value
        case Nano():
            return {"nano": str(int(value)), "ton": format_ton(value)}
        case Enum():
            return value.value if isinstance(value, str) else value.name.lower()
        case int():
            return value
        case bytes():
            return value.hex()
        case Address():
            return value.to_str()
        case TxRef():
            return {"address": value.address.to_str(), "lt": str(value.lt)}
        case dict():
            return {str(key): to_plain(item) for key, item in value.items()}
        case list() | tuple():
            return [to_plain(item) for item in value]
    if isinstance(value, Fact):
        fields = {
            item.name: to_plain(getattr(value, item.name))
            for item in dataclasses.fields(value)
            if item.name not in ("at", "tx")
        }
        return {"kind": value.kind, "at": value.at, "tx": to_plain(value.tx), **fields}
    raise TypeError(f"{type(value).__name__} has no machine-readable form")
