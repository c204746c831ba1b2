"""Reading sealed blocks and states back: what a producer needs to go on where an earlier process ended.

Owns the other direction of the packers, for the forms that this room writes and no others: every state that
is read is packed again and compared. Must not know where the cells were kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.blocks import descriptors as tlb
from cocoon_sdk.sandbox.blocks.augmented import AugmentedDict
from cocoon_sdk.sandbox.blocks.block import BASECHAIN, MASTERCHAIN, WHOLE_SHARD, Block, BlockId, MasterBlock
from cocoon_sdk.sandbox.blocks.cells import make_cell, read_cell, read_coins
from cocoon_sdk.sandbox.blocks.errors import StateGoneError
from cocoon_sdk.sandbox.blocks.master import OLD_BLOCKS, MasterExtra
from cocoon_sdk.sandbox.blocks.state import ACCOUNTS, QUEUE, ChainState
from cocoon_sdk.sandbox.cells import NativeCell, native_hash
from cocoon_sdk.sandbox.engine import load_as_cell_slice

_EXT_BLK_REF_BITS = 64 + 32 + 256 + 256
_LOADS_BITS = 128
_INFO_REF, _UPDATE_REF, _EXTRA_REF, _ACCOUNT_BLOCKS_REF = 0, 2, 3, 2
_HASH_BITS = 256


def read_state(root: NativeCell, delivered: Iterable[int]) -> ChainState:
    """Read a state; `delivered` is what the cells do not tell. Raises `MalformedError`."""
    bits, refs = read_cell(root)
    queue, accounts, misc = (read_cell(ref) for ref in refs[:3])
    position = read_coins(misc[0], _LOADS_BITS)[1] + 1
    fees, position = read_coins(misc[0], position)
    has_libraries, position = misc[0][position + 1] == "1", position + 2
    master_ref = misc[0][position + 1 :] if misc[0][position] == "1" else ""
    state = ChainState(
        global_id=_signed(bits[32:64]),
        workchain=_signed(bits[72:104]),
        seqno=int(bits[168:200], 2),
        gen_utime=int(bits[232:264], 2),
        gen_lt=int(bits[264:328], 2),
        accounts=AugmentedDict.of_cell(ACCOUNTS, _first(accounts[1])),
        queue=AugmentedDict.of_cell(QUEUE, _first(queue[1])),
        delivered=frozenset(delivered),
        fees=fees,
        master_ref=master_ref,
        libraries=misc[1][0] if has_libraries else None,
        custom=refs[3] if len(refs) > 3 else None,
    )
    if state.cell.get_hash() != root.get_hash():
        raise MalformedError("a state cannot be read", why="it has a form that this version does not write")
    return state


def read_master_extra(custom: NativeCell) -> MasterExtra:
    """Read what only the masterchain's state has. Raises `MalformedError`."""
    bits, refs = read_cell(custom)
    shards = refs[0] if bits[16] == "1" else None
    config, misc = refs[-2:]
    misc_bits, misc_refs = read_cell(misc)
    position = 16 + 32 + 32 + 1 + 1 + 1 + 64  # flags, validator set, its seqno, no new one, old blocks
    has_last_key = misc_bits[position + 1] == "1"
    extra = MasterExtra(
        shards=shards,
        config_address=bits[17 : 17 + _HASH_BITS],
        config=config,
        supply=read_coins(bits, 17 + _HASH_BITS)[0],
        validator_set_hash=int(misc_bits[16:48], 2),
        old_blocks=AugmentedDict.of_cell(OLD_BLOCKS, _first(misc_refs)),
        after_key_block=misc_bits[position] == "1",
        last_key_block=misc_bits[position + 2 :][:_EXT_BLK_REF_BITS] if has_last_key else "",
    )
    if extra.cell().get_hash() != custom.get_hash():
        raise MalformedError("a state cannot be read", why="its masterchain part has another form")
    return extra


class ForgottenBlock(Block):
    """A block whose state is no longer kept: whoever asks for it gets a `StateGoneError`."""

    @property
    def state(self) -> NativeCell:
        """Raise `StateGoneError`."""
        raise _gone(self)

    @state.setter
    def state(self, _: NativeCell) -> None:
        """Forget it."""


class ForgottenMasterBlock(MasterBlock):
    """The same for a masterchain block."""

    @property
    def state(self) -> NativeCell:
        """Raise `StateGoneError`."""
        raise _gone(self)

    @state.setter
    def state(self, _: NativeCell) -> None:
        """Forget it."""


def _gone(block: Block) -> StateGoneError:
    return StateGoneError(
        f"the state after block {block.id} is gone",
        why="the sandbox was started again since then and keeps only newer states",
        hint="ask at a newer block",
    )


def block_id(workchain: int, seqno: int, root: NativeCell, boc: bytes) -> BlockId:
    """Return the id of a block, or of a zero state, from its root and its bytes."""
    return BlockId(workchain, WHOLE_SHARD, seqno, native_hash(root), hashlib.sha256(boc).digest())


class ReadHeader(NamedTuple):
    """What of a block's header an archive needs; `previous` is the root hash of the block before."""

    workchain: int
    seqno: int
    gen_utime: int
    start_lt: int
    end_lt: int
    is_key: bool
    previous: bytes


def header_of(block: NativeCell) -> ReadHeader:
    """Read a block's header."""
    bits, refs = read_cell(read_cell(block)[1][_INFO_REF])
    previous = load_as_cell_slice(refs[-1], False)
    previous.advance(64 + 32)
    return ReadHeader(
        workchain=_signed(bits[152:184]),
        seqno=int(bits[80:112], 2),
        gen_utime=int(bits[248:280], 2),
        start_lt=int(bits[280:344], 2),
        end_lt=int(bits[344:408], 2),
        is_key=bits[70] == "1",
        previous=int(previous.load_uint(_HASH_BITS)).to_bytes(32, "big"),
    )


def state_update_of(block: NativeCell) -> NativeCell:
    """Return the Merkle update in a block."""
    return read_cell(block)[1][_UPDATE_REF]


def state_hash_after(block: NativeCell) -> bytes:
    """Return the hash of the state that a block leads to."""
    bits: str = load_as_cell_slice(state_update_of(block), True).to_bitstring()
    return int(bits[8 + _HASH_BITS : 8 + 2 * _HASH_BITS], 2).to_bytes(32, "big")


def transactions_in(block: NativeCell, workchain: int) -> list[tuple[int, NativeCell]]:
    """Return a block's transactions as account keys and raw cells, by account, then by time."""
    accounts = read_cell(read_cell(read_cell(block)[1][_EXTRA_REF])[1][_ACCOUNT_BLOCKS_REF])[1]
    found: list[tuple[int, NativeCell]] = []
    for account, leaf in AugmentedDict.of_cell(tlb.ACCOUNT_BLOCKS, _first(accounts)):
        # The dictionary of transactions stands inside the leaf, followed by the hash update's reference.
        root = make_cell(leaf.bits[4 + _HASH_BITS :], *leaf.refs[:-1])
        key = (workchain & 0xFF) << _HASH_BITS | account
        found += [(key, one.refs[0]) for _, one in AugmentedDict.of_cell(tlb.ACCOUNT_TRANSACTIONS, root)]
    return found


def account_items(block: Block) -> Iterable[tuple[int, NativeCell]]:
    """Yield every account key and raw `ShardAccount` of a block's state."""
    high = (block.workchain & 0xFF) << _HASH_BITS
    for account, leaf in AugmentedDict.of_cell(ACCOUNTS, block.accounts):
        yield high | account, make_cell(leaf.bits, *leaf.refs)


def states_of(
    master: Block, shard: Block, delivered: tuple[Iterable[int], Iterable[int]]
) -> tuple[ChainState, ChainState, MasterExtra]:
    """Return the basechain's state, the masterchain's and its own part after two blocks."""
    basechain, masterchain = read_state(shard.state, delivered[0]), read_state(master.state, delivered[1])
    if (basechain.workchain, masterchain.workchain) != (BASECHAIN, MASTERCHAIN) or masterchain.custom is None:
        raise MalformedError("a state cannot be read", why="it is another chain's")
    return basechain, masterchain, read_master_extra(masterchain.custom)


def _first(refs: Iterable[NativeCell]) -> NativeCell | None:
    return next(iter(refs), None)


def _signed(bits: str) -> int:
    value = int(bits, 2)
    return value - (1 << len(bits)) if bits[0] == "1" else value
