"""Raw transactions as typed values: what came in, what went out, how it ended, what it cost.

Owns the TL-B of `Transaction` and `Message` as far as readers of the suite need it. Must not know chains or
jobs. Pure; raises `MalformedError` only. Amounts in nanoTON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import TransactionRecord
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.history.actions import AccountKind, SignedExternal, decode_external
from cocoon_sdk.protocol.abi_cells import Reader
from cocoon_sdk.protocol.abi_codecs import COINS
from cocoon_sdk.protocol.abi_dict import parse
from cocoon_sdk.protocol.abi_runtime import Message
from cocoon_sdk.protocol.messages import MESSAGES
from cocoon_sdk.types import Nano

_OP_BITS: Final = 32
_BOUNCED_OP: Final = 0xFFFF_FFFF
_OUT_KEY_BITS: Final = 15
_SKIPPED_BITS: Final = 8 + 16


class MessageKind(Enum):
    """How a message travels."""

    INTERNAL = "internal"
    EXTERNAL_IN = "external-in"
    EXTERNAL_OUT = "external-out"


@dataclass(frozen=True, slots=True)
class ChainMessage:
    """One message. `op` is the original operation for a bounced one, whose `content` is then cut short.

    `content` is the typed body when it is one of the suite's messages in exact form, else None.
    """

    kind: MessageKind
    src: Address | None
    dst: Address | None
    value: Nano
    forward_fee: Nano
    created_lt: int
    bounced: bool
    op: int | None
    content: Message | None
    body: Cell = field(repr=False)

    @property
    def job_id(self) -> int | None:
        """The job that one of the suite's messages is about, bounced or not; None for any other."""
        if self.content is not None:
            found = getattr(self.content, "id", None)
            return found if isinstance(found, int) else None
        known = MESSAGES.get(self.op) if self.bounced and self.op is not None else None
        if known is None or "id" not in known.__dataclass_fields__:  # type: ignore[attr-defined]
            return None
        source = Reader.of_cell(self.body)
        if source.bits_left < 3 * _OP_BITS:
            return None
        source.uint(2 * _OP_BITS)
        return source.uint(_OP_BITS)


@dataclass(frozen=True, slots=True)
class SkippedAction:
    """A signed action that the contract left out: its position (from 1) and the exit code."""

    position: int
    exit_code: int


@dataclass(frozen=True, slots=True)
class DecodedTransaction:
    """A transaction. `exit_code` is None when no code ran, `action_code` when there was no action phase."""

    record: TransactionRecord
    in_message: ChainMessage | None
    out_messages: tuple[ChainMessage, ...]
    success: bool
    exit_code: int | None
    action_code: int | None
    gas_used: int
    total_fees: Nano
    skipped: tuple[SkippedAction, ...]

    @property
    def address(self) -> Address:
        """The account."""
        return self.record.address

    @property
    def lt(self) -> int:
        """Logical time."""
        return self.record.lt

    @property
    def now(self) -> int:
        """Unix time in seconds."""
        return self.record.now

    @property
    def forward_fees(self) -> Nano:
        """What the outgoing messages paid for their way, beside `total_fees`."""
        return Nano(sum(message.forward_fee for message in self.out_messages))

    def external(self, kind: AccountKind) -> SignedExternal:
        """Return the signed external that caused it. Raises `MalformedError` when something else did."""
        if self.in_message is None or self.in_message.kind is not MessageKind.EXTERNAL_IN:
            raise MalformedError("this transaction was not caused by an external message")
        return decode_external(self.in_message.body, kind)

    def skip_code(self, position: int) -> int | None:
        """Return the exit code that skipped the action at `position` (from 1); None if it was done."""
        return next((skip.exit_code for skip in self.skipped if skip.position == position), None)


def decode_transaction(record: TransactionRecord) -> DecodedTransaction:
    """Read an ordinary transaction. Raises `MalformedError` for anything else."""
    source = Reader.of_cell(record.cell)
    if source.uint(4) != 0b0111:
        raise MalformedError("not a transaction cell")
    source.uint(256 + 64 + 256)
    source.uint(64 + 32)
    source.uint(15 + 2 + 2)
    messages = Reader.of_cell(source.ref())
    total_fees = _currencies(source)
    source.ref()  # hash update of the account
    success, exit_code, action_code, gas_used = _description(Reader.of_cell(source.ref()))
    incoming = decode_message(messages.ref()) if messages.uint(1) else None
    outgoing: list[ChainMessage] = []
    if messages.uint(1):
        for _, leaf in parse(messages.ref(), _OUT_KEY_BITS):
            outgoing.append(decode_message(leaf.ref()))
    skips = [skip for message in outgoing if (skip := _skipped(message)) is not None]
    return DecodedTransaction(
        record=record,
        in_message=incoming,
        out_messages=tuple(outgoing),
        success=success,
        exit_code=exit_code,
        action_code=action_code,
        gas_used=gas_used,
        total_fees=total_fees,
        skipped=tuple(skips),
    )


def decode_message(cell: Cell) -> ChainMessage:
    """Read a `Message` cell. Raises `MalformedError`."""
    source = Reader.of_cell(cell)
    value = fee = Nano(0)
    created_lt, bounced = 0, False
    if source.uint(1) == 0:
        kind = MessageKind.INTERNAL
        source.uint(2)  # ihr_disabled, bounce
        bounced = source.uint(1) == 1
        src, dst = _address(source), _address(source)
        value = _currencies(source)
        COINS.read(source)  # ihr fee: nobody delivers by hypercube routing
        fee = Nano(COINS.read(source))
        created_lt = source.uint(64)
        source.uint(32)
    elif source.uint(1) == 0:
        kind = MessageKind.EXTERNAL_IN
        src, dst = _address(source), _address(source)
        COINS.read(source)  # import fee: informational, the network computes its own
    else:
        kind = MessageKind.EXTERNAL_OUT
        src, dst = _address(source), _address(source)
        created_lt = source.uint(64)
        source.uint(32)
    if source.uint(1):
        _skip_state_init(source)
    body = source.ref() if source.uint(1) else source.rest()
    op, content = _content(body, bounced) if kind is MessageKind.INTERNAL else (None, None)
    return ChainMessage(kind, src, dst, value, fee, created_lt, bounced, op, content, body)


def _content(body: Cell, bounced: bool) -> tuple[int | None, Message | None]:
    if body.is_exotic or len(body.bits) < _OP_BITS:
        return None, None
    source = Reader.of_cell(body)
    op = source.uint(_OP_BITS)
    if bounced:
        cut_short = op != _BOUNCED_OP or source.bits_left < _OP_BITS
        return (None if cut_short else source.uint(_OP_BITS)), None
    known = MESSAGES.get(op)
    if known is None:
        return op, None
    try:
        return op, known.from_cell(body)
    except MalformedError:
        return op, None


def _skipped(message: ChainMessage) -> SkippedAction | None:
    if message.kind is not MessageKind.EXTERNAL_OUT or message.body.is_exotic:
        return None
    if len(message.body.bits) != _SKIPPED_BITS or message.body.refs:
        return None
    source = Reader.of_cell(message.body)
    return SkippedAction(position=source.uint(8), exit_code=source.uint(16))


def _address(source: Reader) -> Address | None:
    tag = source.uint(2)
    if tag == 0b00:
        return None
    if tag == 0b01:
        source.uint(source.uint(9))
        return None
    if tag == 0b10 and source.uint(1) == 0:
        workchain = source.int(8)
        return Address((workchain, source.uint(256).to_bytes(32, "big")))
    raise MalformedError("an address is neither standard nor absent")


def _currencies(source: Reader) -> Nano:
    amount = Nano(COINS.read(source))
    if source.uint(1):
        source.ref()  # extra currencies, which nothing of ours takes
    return amount


def _skip_state_init(source: Reader) -> None:
    if source.uint(1):
        source.ref()
        return
    if source.uint(1):
        source.uint(5)
    if source.uint(1):
        source.uint(2)
    for _ in ("code", "data", "library"):
        if source.uint(1):
            source.ref()


def _description(source: Reader) -> tuple[bool, int | None, int | None, int]:
    """Return success, exit code, result code of the action phase and gas of a `trans_ord`."""
    if source.uint(4) != 0:
        raise MalformedError("a transaction cannot be read", why="it is not an ordinary one")
    source.uint(1)  # credit_first
    if source.uint(1):
        _skip_storage(source)
    if source.uint(1):
        _optional_coins(source)
        _currencies(source)
    exit_code, gas_used, computed = _compute(source)
    action_code, acted = None, True
    if source.uint(1):
        action = Reader.of_cell(source.ref())
        acted = action.uint(1) == 1
        action.uint(2)
        _skip_status_change(action)
        _optional_coins(action)
        _optional_coins(action)
        action_code = action.int(32)
    aborted = source.uint(1) == 1
    return computed and acted and not aborted, exit_code, action_code, gas_used


def _compute(source: Reader) -> tuple[int | None, int, bool]:
    if source.uint(1) == 0:
        if source.uint(2) == 0b11:
            source.uint(1)
        return None, 0, False
    success = source.uint(1) == 1
    source.uint(2)  # msg_state_used, account_activated
    COINS.read(source)
    inner = Reader.of_cell(source.ref())
    gas_used = inner.uint(inner.uint(3) * 8)
    inner.uint(inner.uint(3) * 8)
    if inner.uint(1):
        inner.uint(inner.uint(2) * 8)
    inner.uint(8)  # mode
    return inner.int(32), gas_used, success


def _skip_storage(source: Reader) -> None:
    COINS.read(source)
    _optional_coins(source)
    _skip_status_change(source)


def _skip_status_change(source: Reader) -> None:
    if source.uint(1):
        source.uint(1)


def _optional_coins(source: Reader) -> None:
    if source.uint(1):
        COINS.read(source)
