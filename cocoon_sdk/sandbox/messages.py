"""Messages: building them and looking at them.

Owns the TL-B of `Message` and `StateInit` as far as anybody outside of validators needs it. Knows
nothing of queues, accounts or transactions.
"""

from __future__ import annotations

import base64
from functools import cached_property

from pytoniq_core import Address, Builder, Cell, begin_cell

from cocoon_sdk.errors import ExternalRejectedError, MalformedError
from cocoon_sdk.sandbox.cells import (
    NativeCell,
    NativeSlice,
    Reader,
    from_native,
    key_address,
    native_from_boc,
    native_hash,
    native_slice,
    remainder,
)
from cocoon_sdk.types import Nano

_EMPTY = begin_cell().end_cell()
_OP_BITS = 32
_NOT_ACCEPTED = "an external message was not accepted"
MAX_EXTERNAL_BYTES = 65_535
MAX_EXTERNAL_DEPTH = 512
BOUNCED_OP = 0xFFFF_FFFF
"""What a bounced body starts with; the first 256 bits of the original body follow."""


def state_init(code: Cell, data: Cell) -> Cell:
    """Build a `StateInit` of code and data (no split depth, no tick-tock, no libraries)."""
    return begin_cell().store_uint(0b00110, 5).store_ref(code).store_ref(data).end_cell()


def contract_address(init: Cell, workchain: int = 0) -> Address:
    """Return the address that a `StateInit` cell deploys to."""
    return Address((workchain, init.hash))


def internal_message(
    *,
    src: Address | None,
    dst: Address,
    value: int,
    body: Cell | None = None,
    init: Cell | None = None,
    bounce: bool = True,
    bounced: bool = False,
    created_lt: int = 0,
    created_at: int = 0,
) -> Cell:
    """Build an internal message without forward fee; `src` None leaves it to the sending contract."""
    builder = begin_cell().store_bit(0).store_bit(1).store_bit(int(bounce)).store_bit(int(bounced))
    builder.store_address(src).store_address(dst).store_coins(int(value))
    builder.store_bit(0).store_coins(0).store_coins(0)  # extra currencies, ihr fee, forward fee
    builder.store_uint(created_lt, 64).store_uint(created_at, 32)
    return _store_init_and_body(builder, init, body or _EMPTY)


def external_message(dst: Address, body: Cell, init: Cell | None = None) -> Cell:
    """Build an external-in message to `dst`."""
    builder = begin_cell().store_uint(0b10, 2).store_uint(0, 2).store_address(dst).store_coins(0)
    return _store_init_and_body(builder, init, body)


def admit_external(message: Cell | NativeCell | bytes) -> tuple[NativeCell, int]:
    """Check an external-in message (a cell or a bag) as a node does before relaying it.

    Returns its cell and the receiver's key. Raises `ExternalRejectedError` for other kinds of messages and
    for too large or too deep ones, `MalformedError` for bytes that are no bag of one root.
    """
    boc = message if isinstance(message, bytes) else _to_boc(message)
    if len(boc) > MAX_EXTERNAL_BYTES:
        raise _too_large(f"{len(boc)} bytes")
    native = native_from_boc(boc) if isinstance(message, bytes | Cell) else message
    depth = native.get_depth()
    if depth > MAX_EXTERNAL_DEPTH:
        raise _too_large(f"depth {depth}")
    try:
        view = Message(native)
        receiver = view.dst_key if view.is_external_in else None
    except MalformedError as error:
        raise ExternalRejectedError(_NOT_ACCEPTED, why=str(error)) from error
    if receiver is None:
        raise ExternalRejectedError(_NOT_ACCEPTED, why="it is not an external-in message to an account")
    return native, receiver


def _to_boc(message: Cell | NativeCell) -> bytes:
    boc: bytes = message.to_boc() if isinstance(message, Cell) else base64.b64decode(message.to_boc())
    return boc


def _too_large(size: str) -> ExternalRejectedError:
    return ExternalRejectedError(
        _NOT_ACCEPTED,
        why=f"it has {size}; nodes relay at most {MAX_EXTERNAL_BYTES} bytes and depth {MAX_EXTERNAL_DEPTH}",
        hint="send less data",
    )


def _store_init_and_body(builder: Builder, init: Cell | None, body: Cell) -> Cell:
    if init is None:
        builder.store_bit(0)
    else:
        builder.store_uint(0b11, 2).store_ref(init)
    fits = len(body.bits) < builder.available_bits and len(body.refs) <= builder.available_refs
    if fits:
        return builder.store_bit(0).store_cell(body).end_cell()
    return builder.store_bit(1).store_ref(body).end_cell()


class Message:
    """A lazy view of a message: nothing is decoded before somebody asks.

    Raises `MalformedError` from its properties when the cell is not a message.
    """

    def __init__(self, native: NativeCell) -> None:
        self.native = native

    @cached_property
    def cell(self) -> Cell:
        """The raw TL-B `Message`."""
        return from_native(self.native)

    @cached_property
    def hash(self) -> bytes:
        """32 bytes: hash of the raw message cell."""
        return native_hash(self.native)

    @property
    def is_internal(self) -> bool:
        """Whether it goes from contract to contract."""
        return self._parsed.kind == "internal"

    @property
    def is_external_in(self) -> bool:
        """Whether it came from outside of the chain."""
        return self._parsed.kind == "external-in"

    @property
    def is_external_out(self) -> bool:
        """Whether it leaves the chain (an event)."""
        return self._parsed.kind == "external-out"

    @cached_property
    def src(self) -> Address | None:
        """Sending account; None for external-in messages."""
        return None if self._parsed.src is None else key_address(self._parsed.src)

    @cached_property
    def dst(self) -> Address | None:
        """Receiving account; None for external-out messages."""
        return None if self._parsed.dst is None else key_address(self._parsed.dst)

    @property
    def src_key(self) -> int | None:
        """`src` as an account key."""
        return self._parsed.src

    @property
    def dst_key(self) -> int | None:
        """`dst` as an account key."""
        return self._parsed.dst

    @property
    def value(self) -> Nano:
        """NanoTON carried; 0 for externals."""
        return Nano(self._parsed.value)

    @property
    def fwd_fee(self) -> Nano:
        """NanoTON of forward fee that whoever delivers the message collects; 0 for external-in."""
        return Nano(self._parsed.fwd_fee)

    @property
    def ihr_fee(self) -> Nano:
        """NanoTON of the field `ihr_fee`."""
        return Nano(self._parsed.ihr_fee)

    @property
    def bounce(self) -> bool:
        """Whether a failure at the receiver sends the value back."""
        return self._parsed.bounce

    @property
    def bounced(self) -> bool:
        """Whether this is such a return."""
        return self._parsed.bounced

    @property
    def created_lt(self) -> int:
        """Logical time of creation."""
        return self._parsed.created_lt

    @property
    def created_at(self) -> int:
        """Unix time of creation in seconds."""
        return self._parsed.created_at

    @cached_property
    def op(self) -> int | None:
        """First 32 bits of the body, None when it is shorter."""
        body: NativeSlice = self._body_slice
        return int(body.preload_uint(_OP_BITS)) if body.bits >= _OP_BITS else None

    @cached_property
    def native_body(self) -> NativeCell:
        """The body as an engine's cell, wherever it lies."""
        inline, source = self._parsed.body_inline, self._parsed.body
        return remainder(source.copy()) if inline else source

    @property
    def native_init(self) -> NativeCell | None:
        """The `StateInit` carried, if any, as an engine's cell."""
        return self._parsed.init

    @cached_property
    def body(self) -> Cell:
        """The body as a cell, wherever it lies."""
        return from_native(self.native_body)

    @cached_property
    def init(self) -> Cell | None:
        """The `StateInit` carried, if any."""
        return self._parsed.init_cell()

    @property
    def _body_slice(self) -> NativeSlice:
        parsed = self._parsed
        return parsed.body.copy() if parsed.body_inline else native_slice(parsed.body)

    @cached_property
    def _parsed(self) -> _Parsed:
        try:
            return _Parsed(Reader.of(self.native))
        except RuntimeError as error:  # the engine's word for reading past the end
            raise MalformedError("a message cannot be read", why="the cell ends too early") from error

    def __repr__(self) -> str:
        op = "-" if self.op is None else f"0x{self.op:08x}"
        return f"<Message {self._parsed.kind} {self.src} -> {self.dst} {self.value} op {op}>"


class _Parsed:
    """The header fields of one message; body and init stay where they lie."""

    __slots__ = (
        "body",
        "body_inline",
        "bounce",
        "bounced",
        "created_at",
        "created_lt",
        "dst",
        "fwd_fee",
        "ihr_fee",
        "init",
        "kind",
        "src",
        "value",
    )

    def __init__(self, reader: Reader) -> None:
        self.bounce = self.bounced = False
        self.value = self.fwd_fee = self.ihr_fee = self.created_lt = self.created_at = 0
        if not reader.bit():
            self._internal(reader)
        elif not reader.bit():
            self.kind = "external-in"
            self.src, self.dst = reader.address_key(), reader.address_key()
            reader.coins()  # import fee: informational, the network computes its own
        else:
            self.kind = "external-out"
            self.src, self.dst = reader.address_key(), reader.address_key()
            self.created_lt, self.created_at = reader.uint(64), reader.uint(32)
        self.init: NativeCell | None = None
        if reader.bit():
            self.init = reader.ref() if reader.bit() else _skip_state_init(reader)
        self.body_inline = not reader.bit()
        self.body = reader.slice if self.body_inline else reader.ref()

    def _internal(self, reader: Reader) -> None:
        self.kind = "internal"
        reader.bit()  # ihr_disabled: nobody delivers by hypercube routing
        self.bounce, self.bounced = reader.bit(), reader.bit()
        self.src, self.dst = reader.address_key(), reader.address_key()
        self.value = reader.currencies()
        self.ihr_fee, self.fwd_fee = reader.coins(), reader.coins()
        self.created_lt, self.created_at = reader.uint(64), reader.uint(32)

    def init_cell(self) -> Cell | None:
        return None if self.init is None else from_native(self.init)


def _skip_state_init(reader: Reader) -> NativeCell:
    """Step over an inline `StateInit` and return it as a cell."""
    start = reader.slice.copy()
    if reader.bit():
        reader.skip(5)  # fixed prefix length
    if reader.bit():
        reader.skip(2)  # tick and tock
    for _ in ("code", "data", "library"):
        if reader.bit():
            reader.ref()
    return remainder(start.load_subslice(start.bits - reader.slice.bits, start.refs - reader.slice.refs))
