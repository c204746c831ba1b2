"""Accounts as the emulator keeps them: raw `ShardAccount` cells.

Owns reading one. Knows nothing of who changes them.
"""

from __future__ import annotations

from pytoniq_core import Cell, begin_cell

from cocoon_sdk.chain.base import AccountState, AccountStatus
from cocoon_sdk.sandbox.cells import NativeCell, Reader, from_native, key_address, to_native
from cocoon_sdk.types import Nano

EMPTY_ACCOUNT: NativeCell = to_native(
    begin_cell()
    .store_ref(begin_cell().store_bit(0).end_cell())
    .store_uint(0, 256)
    .store_uint(0, 64)
    .end_cell()
)
"""`ShardAccount` of an account that does not exist."""

_CODE_CACHE_CELLS = 256


class ShardAccount:
    """The fields of one raw `ShardAccount`; code and data stay the engine's cells until asked for."""

    def __init__(self, native: NativeCell) -> None:
        self.native = native
        self.balance = Nano(0)
        self.status = AccountStatus.NONEXIST
        self.last_paid = 0
        self.due_payment = Nano(0)
        self.code: NativeCell | None = None
        self.data: NativeCell | None = None
        root = Reader.of(native)
        self._read_account(Reader.of(root.ref()))
        self.last_hash = root.uint(256).to_bytes(32, "big")
        self.last_lt = root.uint(64)

    def _read_account(self, reader: Reader) -> None:
        if not reader.bit():
            return
        reader.address_key()
        reader.var_uint(7), reader.var_uint(7)  # cells and bits used
        if reader.uint(3) == 1:  # storage_extra_info: the hash of the storage dictionary
            reader.skip(256)
        self.last_paid = reader.uint(32)
        if reader.bit():
            self.due_payment = Nano(reader.coins())
        reader.skip(64)  # last_trans_lt of the storage: the next free logical time
        self.balance = Nano(reader.currencies())
        if reader.bit():
            self.status = AccountStatus.ACTIVE
            self._read_state_init(reader)
        else:
            self.status = AccountStatus.FROZEN if reader.bit() else AccountStatus.UNINIT

    def _read_state_init(self, reader: Reader) -> None:
        if reader.bit():
            reader.skip(5)
        if reader.bit():
            reader.skip(2)
        if reader.bit():
            self.code = reader.ref()
        if reader.bit():
            self.data = reader.ref()

    def state(self, key: int) -> AccountState:
        """Return the public form."""
        return AccountState(
            address=key_address(key),
            status=self.status,
            balance=self.balance,
            code=None if self.code is None else public_code(self.code),
            data=None if self.data is None else from_native(self.data),
            last_lt=self.last_lt,
            last_hash=self.last_hash,
        )


_codes: dict[str, Cell] = {}


def public_code(native: NativeCell) -> Cell:
    """Convert code to the public cell type; the same code is converted once, since many accounts share it."""
    key = native.get_hash()
    cell = _codes.get(key)
    if cell is None:
        if len(_codes) >= _CODE_CACHE_CELLS:
            _codes.clear()
        cell = _codes[key] = from_native(native)
    return cell
