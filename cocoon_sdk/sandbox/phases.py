"""The phases of an ordinary transaction, decoded from its `TransactionDescr`.

Pure reading: knows nothing of messages, accounts or the emulator.
"""

from __future__ import annotations

from dataclasses import dataclass

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.cells import Reader
from cocoon_sdk.types import Nano

_SKIP_REASONS = {0b00: "no_state", 0b01: "bad_state", 0b10: "no_gas"}
_STATUS_CHANGES = {0b10: "frozen", 0b11: "deleted"}


@dataclass(frozen=True, slots=True)
class StoragePhase:
    """Rent: `collected` now, `due` still owed; `status_change` is unchanged, frozen or deleted."""

    collected: Nano
    due: Nano
    status_change: str


@dataclass(frozen=True, slots=True)
class ComputePhase:
    """What the VM did; `gas_credit` is what an external may burn before it is accepted."""

    success: bool
    account_activated: bool
    gas_fees: Nano
    gas_used: int
    gas_limit: int
    gas_credit: int
    exit_code: int
    exit_arg: int | None
    vm_steps: int


@dataclass(frozen=True, slots=True)
class ActionPhase:
    """What became of the actions. `forward_fees` include `action_fees`, the sending side's share."""

    success: bool
    valid: bool
    no_funds: bool
    status_change: str
    forward_fees: Nano
    action_fees: Nano
    result_code: int
    result_arg: int | None
    total_actions: int
    special_actions: int
    skipped_actions: int
    messages_created: int


@dataclass(frozen=True, slots=True)
class BouncePhase:
    """How a failed message was returned: `outcome` is ok, no_funds (too little left) or negative_funds."""

    outcome: str
    message_fees: Nano
    forward_fees: Nano

    @property
    def sent(self) -> bool:
        """Whether the bounce message went out."""
        return self.outcome == "ok"


class Description:
    """`trans_ord`, decoded. Raises `MalformedError` for other kinds, which the sandbox never makes."""

    __slots__ = (
        "aborted",
        "action",
        "bounce",
        "compute",
        "credit",
        "destroyed",
        "due_collected",
        "skipped",
        "storage",
    )

    def __init__(self, reader: Reader) -> None:
        if reader.uint(4) != 0:
            raise MalformedError("a transaction cannot be described", why="it is not an ordinary transaction")
        reader.bit()  # credit_first
        self.storage = _storage(reader) if reader.bit() else None
        self.due_collected = self.credit = Nano(0)
        if reader.bit():
            self.due_collected = Nano(reader.coins()) if reader.bit() else Nano(0)
            self.credit = Nano(reader.currencies())
        self.skipped: str | None = None
        self.compute: ComputePhase | None = None
        if reader.bit():
            self.compute = _compute(reader)
        else:
            self.skipped = _skip_reason(reader)
        self.action = _action(Reader.of(reader.ref())) if reader.bit() else None
        self.aborted = reader.bit()
        self.bounce = _bounce(reader) if reader.bit() else None
        self.destroyed = reader.bit()


def _status_change(reader: Reader) -> str:
    return _STATUS_CHANGES[0b10 | reader.uint(1)] if reader.bit() else "unchanged"


def _optional_coins(reader: Reader) -> Nano:
    return Nano(reader.coins()) if reader.bit() else Nano(0)


def _optional_int32(reader: Reader) -> int | None:
    return reader.sint(32) if reader.bit() else None


def _storage(reader: Reader) -> StoragePhase:
    return StoragePhase(Nano(reader.coins()), _optional_coins(reader), _status_change(reader))


def _skip_reason(reader: Reader) -> str:
    tag = reader.uint(2)
    if tag in _SKIP_REASONS:
        return _SKIP_REASONS[tag]
    reader.skip(1)
    return "suspended"


def _compute(reader: Reader) -> ComputePhase:
    success = reader.bit()
    reader.bit()  # msg_state_used
    activated = reader.bit()
    gas_fees = Nano(reader.coins())
    inner = Reader.of(reader.ref())
    gas_used, gas_limit = inner.var_uint(7), inner.var_uint(7)
    gas_credit = inner.var_uint(3) if inner.bit() else 0
    inner.skip(8)  # mode
    return ComputePhase(
        success=success,
        account_activated=activated,
        gas_fees=gas_fees,
        gas_used=gas_used,
        gas_limit=gas_limit,
        gas_credit=gas_credit,
        exit_code=inner.sint(32),
        exit_arg=_optional_int32(inner),
        vm_steps=inner.uint(32),
    )


def _action(reader: Reader) -> ActionPhase:
    return ActionPhase(
        success=reader.bit(),
        valid=reader.bit(),
        no_funds=reader.bit(),
        status_change=_status_change(reader),
        forward_fees=_optional_coins(reader),
        action_fees=_optional_coins(reader),
        result_code=reader.sint(32),
        result_arg=_optional_int32(reader),
        total_actions=reader.uint(16),
        special_actions=reader.uint(16),
        skipped_actions=reader.uint(16),
        messages_created=reader.uint(16),
    )


def _bounce(reader: Reader) -> BouncePhase:
    if reader.bit():
        _skip_storage_used(reader)
        return BouncePhase("ok", Nano(reader.coins()), Nano(reader.coins()))
    if reader.bit():
        _skip_storage_used(reader)
        return BouncePhase("no_funds", Nano(0), Nano(reader.coins()))
    return BouncePhase("negative_funds", Nano(0), Nano(0))


def _skip_storage_used(reader: Reader) -> None:
    reader.var_uint(7)
    reader.var_uint(7)
