"""What only the masterchain has: shard hashes, the list of its old blocks, the configuration.

Owns the TL-B of `McStateExtra`, `McBlockExtra` and `ShardDescr`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytoniq_core import Cell

from cocoon_sdk.sandbox.blocks.augmented import (
    Augmentation,
    AugmentedDict,
    Leaf,
    Touched,
    pruned_versions,
)
from cocoon_sdk.sandbox.blocks.block import BASECHAIN, Block, BlockId, ext_blk_ref
from cocoon_sdk.sandbox.blocks.cells import bits256, byte_bits, currencies, make_cell, prune, read_coins
from cocoon_sdk.sandbox.blocks.labels import write_label
from cocoon_sdk.sandbox.cells import NativeCell, empty_dict, to_native
from cocoon_sdk.sandbox.engine import PyCellBuilder

_STATE_TAG = 0xCC26
_BLOCK_TAG = 0xCCA5
_SHARD_TAG = 0xA
_WHOLE_SHARD_BITS = f"{1 << 63:064b}"
CATCHAIN_SEQNO = 1
KEY_BLOCK_SEQNO = 1
"""The number of the only key block: the first one."""
_PUBLISHER = bytes(32)
_SMALLEST_SUPPLY = 1 << 57
_LARGEST_SUPPLY = (1 << 62) - 1

KeyMaxLt = tuple[bool, int]

OLD_BLOCKS: Augmentation[KeyMaxLt] = Augmentation(
    key_bits=32,
    zero=(False, 0),
    write=lambda extra: f"{extra[0]:b}{extra[1]:064b}",
    read=lambda bits, at: ((bits[at] == "1", int(bits[at + 1 : at + 65], 2)), at + 65),
    combine=lambda one, other: (one[0] or other[0], max(one[1], other[1])),
)
"""`OldMcBlocksInfo`; the extra says whether there is a key block, and the newest logical time."""

ShardFees = tuple[int, int]


def _read_shard_fees(bits: str, position: int) -> tuple[ShardFees, int]:
    fees, position = read_coins(bits, position)
    created, position = read_coins(bits, position + 1)
    return (fees, created), position + 1


SHARD_FEES: Augmentation[ShardFees] = Augmentation(
    key_bits=96,
    zero=(0, 0),
    write=lambda extra: currencies(extra[0]) + currencies(extra[1]),
    read=_read_shard_fees,
    combine=lambda one, other: (one[0] + other[0], one[1] + other[1]),
)
"""`ShardFees`: what the basechain's validators collected and created, in nanoTON."""


def old_block_leaf(block: BlockId, end_lt: int, *, is_key: bool) -> Leaf[KeyMaxLt]:
    """Return the entry for a block; zero states count as key blocks."""
    return Leaf(f"{is_key:b}{ext_blk_ref(block, end_lt)}", (), (is_key, end_lt))


def supply(minted: int) -> int:
    """Return `global_balance` in nanoTON: what a fresh network has, and what was minted on top.

    It is kept between 2^57 and 2^62, because popular parsers of `ConfigParams` take one bit too many and
    read a flag from this number.
    """
    return min(_SMALLEST_SUPPLY + minted, _LARGEST_SUPPLY)


def shard_hashes(block: Block) -> NativeCell:
    """Return the root edge of `ShardHashes` with one basechain block."""
    block_id = block.id
    bits = (
        f"0{_SHARD_TAG:04b}{block_id.seqno:032b}{block_id.seqno:032b}{block.start_lt:064b}{block.end_lt:064b}"
        f"{bits256(block_id.root_hash)}{bits256(block_id.file_hash)}00000000{CATCHAIN_SEQNO:032b}"
        f"{_WHOLE_SHARD_BITS}{max(block_id.seqno - 1, 0):032b}{block.gen_utime:032b}0"
    )
    descr = make_cell(bits, make_cell(currencies(block.fees) + currencies(0)))
    return make_cell(write_label(f"{BASECHAIN:032b}", 32), descr)


@dataclass(frozen=True, slots=True)
class MasterExtra:
    """`McStateExtra` as values. `config` is the root of the dictionary of parameters."""

    shards: NativeCell | None
    config_address: str
    config: NativeCell
    supply: int
    validator_set_hash: int
    old_blocks: AugmentedDict[KeyMaxLt]
    after_key_block: bool
    last_key_block: str

    def cell(self) -> NativeCell:
        """Return the TL-B cell."""
        misc = make_cell(self._misc_bits(), *_some(self.old_blocks.cell))
        return make_cell(self._bits(), *_some(self.shards), self.config, misc)

    def _bits(self) -> str:
        has_shards = "0" if self.shards is None else "1"
        return f"{_STATE_TAG:016b}{has_shards}{self.config_address}{currencies(self.supply)}"

    def _misc_bits(self) -> str:
        last_key = "1" + self.last_key_block if self.last_key_block else "0"
        return (
            f"{0:016b}{self.validator_set_hash:032b}{CATCHAIN_SEQNO:032b}0{self.old_blocks.head_bits()}"
            f"{self.after_key_block:b}{last_key}"
        )

    def pruned(self, old_blocks: NativeCell | None, config: NativeCell) -> NativeCell:
        """Return the cell with other cells in the place of its two large parts."""
        misc = make_cell(self._misc_bits(), *_some(old_blocks))
        return make_cell(self._bits(), *_some(self.shards), config, misc)


def pruned_extras(
    old: MasterExtra, new: MasterExtra, touched: Touched[KeyMaxLt]
) -> tuple[NativeCell, NativeCell]:
    """Return both versions with what they share pruned, for the state's Merkle update."""
    before, after = pruned_versions(old.old_blocks, new.old_blocks, touched, {})
    old_config = prune(old.config)
    same = old.config.get_hash() == new.config.get_hash()
    return old.pruned(before, old_config), new.pruned(after, old_config if same else new.config)


def block_extra(shards: NativeCell, block: Block, key: tuple[str, NativeCell] | None) -> NativeCell:
    """Return `McBlockExtra`. `key` is the address and root of the configuration, only in key blocks."""
    fees: AugmentedDict[ShardFees] = AugmentedDict.of(SHARD_FEES, {_shard_key(): _fees_leaf(block.fees)})
    bits, refs = fees.head()
    flag = "0" if key is None else "1"
    address, config = ("", ()) if key is None else (key[0], (key[1],))
    return make_cell(f"{_BLOCK_TAG:016b}{flag}1{bits}{address}", shards, *refs, make_cell("000"), *config)


def library_dict(libraries: Iterable[Cell]) -> NativeCell | None:
    """Return the root of `HashmapE 256 LibDescr`; in a sandbox libraries are published by nobody (zeros)."""
    publishers = write_label(byte_bits(_PUBLISHER), 256)  # `Hashmap 256 True` of one key, inline
    root = empty_dict(256)
    for library in libraries:
        entry = PyCellBuilder().store_bitstring("00" + publishers).store_ref(to_native(library))
        root.set_builder_str(str(int.from_bytes(library.hash, "big")), entry, "set", 256, False)
    return None if root.is_empty() else root.get_pycell()


def _shard_key() -> int:
    return BASECHAIN << 64 | 1 << 63


def _fees_leaf(fees: int) -> Leaf[ShardFees]:
    return Leaf(currencies(fees) + currencies(0), (), (fees, 0))


def _some(cell: NativeCell | None) -> tuple[NativeCell, ...]:
    return () if cell is None else (cell,)
