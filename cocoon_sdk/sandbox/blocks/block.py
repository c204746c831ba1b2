"""What a sealed block is.

Owns `BlockId`, `Block` and `MasterBlock`: immutable values with the cells of a block and of the state it
leads to. Knows nothing of how blocks are made, kept or served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cocoon_sdk.sandbox.blocks.cells import bits256, make_cell, read_cell, to_boc
from cocoon_sdk.sandbox.blocks.merkle import way_to
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.transactions import Transaction

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.blocks.genesis import Validator

BASECHAIN = 0
MASTERCHAIN = -1
WHOLE_SHARD = -(1 << 63)
"""The shard identifier, signed, of a workchain that is not split."""
KEY_MASK = (1 << 256) - 1
"""The part of an account key that is the address within its workchain."""
_SHARD_ACCOUNT_BITS = 256 + 64  # last_trans_hash, last_trans_lt


@dataclass(frozen=True, slots=True)
class BlockId:
    """A block's full name. Hashes are 32 bytes: of the root cell, and SHA-256 of the serialised block."""

    workchain: int
    shard: int
    seqno: int
    root_hash: bytes
    file_hash: bytes

    def __str__(self) -> str:
        return f"({self.workchain},{self.shard & (1 << 64) - 1:016x},{self.seqno}):{self.root_hash.hex()}"


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One sealed block. `gen_utime` is unix time in seconds; `transactions` go by account, then by time.

    `state` is the root of the chain's state after the block; `fees` is what validators collected in it,
    in nanoTON.
    """

    id: BlockId
    root: NativeCell
    state: NativeCell
    gen_utime: int
    start_lt: int
    end_lt: int
    transactions: tuple[Transaction, ...]
    is_key: bool
    fees: int

    @property
    def workchain(self) -> int:
        """-1 for the masterchain, 0 for the basechain."""
        return self.id.workchain

    @property
    def seqno(self) -> int:
        """The block's number in its chain."""
        return self.id.seqno

    @property
    def boc(self) -> bytes:
        """The serialised block; its SHA-256 is the id's `file_hash`. Serialised anew at each use."""
        return to_boc(self.root)

    @property
    def accounts(self) -> NativeCell | None:
        """Root edge of the state's dictionary of accounts; None when there are none."""
        refs = read_cell(read_cell(self.state)[1][1])[1]
        return refs[0] if refs else None

    def shard_account(self, key: int) -> NativeCell | None:
        """Return an account's raw `ShardAccount` as it was after this block, or None.

        `key` is the account's integer key; of another workchain's account this block knows nothing.
        """
        if key >> 256 != self.workchain & 0xFF:
            return None
        _, bits, refs = way_to(self.accounts, f"{key & KEY_MASK:0256b}")
        return _shard_account(bits, refs) if bits else None

    @property
    def reference(self) -> str:
        """The bits of `ExtBlkRef`: how other blocks and states point to this one."""
        return ext_blk_ref(self.id, self.end_lt)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {len(self.transactions)} transactions>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MasterBlock(Block):
    """A masterchain block, the basechain block that it committed, and the validator that signs it."""

    shard_block: Block
    validator: Validator


def ext_blk_ref(block: BlockId, end_lt: int) -> str:
    """Return the bits of `ExtBlkRef`."""
    return f"{end_lt:064b}{block.seqno:032b}{bits256(block.root_hash)}{bits256(block.file_hash)}"


def _shard_account(bits: str, refs: list[NativeCell]) -> NativeCell:
    """Make a `ShardAccount` of its entry in the dictionary: the extra goes, the rest has a fixed size."""
    return make_cell(bits[-_SHARD_ACCOUNT_BITS:], refs[-1])
