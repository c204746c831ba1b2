"""Proofs of what is in a block or in the state after it, for clients that trust nothing but the block's hash.

Owns which cells each proof has to show: what TON's own clients read, and no more. Kept in every proof of a
block are its info and the hashes of the state update; in every proof of a state its last references, because
clients unpack them before they look at anything else. The functions return bags of cells as liteservers send
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cocoon_sdk.sandbox.blocks.block import KEY_MASK, Block, MasterBlock
from cocoon_sdk.sandbox.blocks.cells import make_cell, read_cell, read_coins, to_boc, to_boc_of
from cocoon_sdk.sandbox.blocks.master import CATCHAIN_SEQNO
from cocoon_sdk.sandbox.blocks.merkle import Cut, way_to
from cocoon_sdk.sandbox.cells import NativeCell

_ACCOUNT_BLOCK_BITS = 4 + 256
_CONFIG_KEY_BITS = 32
VALIDATOR_PARAMS = (28, 30, 34, 35)
"""What tells who signs blocks: catchain, consensus, and the present validators."""


# -- blocks -----------------------------------------------------------------------------------------------


def _header(block: Block) -> Cut:
    info, _, update, _ = read_cell(block.root)[1]
    return Cut().keep(info).open(update)


def header_root(block: Block) -> NativeCell:
    """Return the Merkle proof of a block's header and state hash, as a cell."""
    return _header(block).proof(block.root)


def header_proof(block: Block) -> bytes:
    """Return the proof of a block's header and of the hash of the state after it."""
    return to_boc(header_root(block))


def shards_proof(block: MasterBlock) -> bytes:
    """Return the proof, from a masterchain block itself, of the shards it lists."""
    extra = read_cell(block.root)[1][3]
    custom = read_cell(extra)[1][3]
    shards = read_cell(custom)[1][0]
    return to_boc(_header(block).open(extra, custom).keep(shards).proof(block.root))


def transactions_proof(block: Block, places: Iterable[tuple[int, int]]) -> bytes:
    """Return the proof that transactions (account key, logical time) are in a block, or that they are not."""
    extra = read_cell(block.root)[1][3]
    accounts = read_cell(extra)[1][2]
    cut = _header(block).open(extra, accounts)
    roots = read_cell(accounts)[1]
    for key, lt in places:
        way, bits, refs = way_to(roots[0] if roots else None, f"{key & KEY_MASK:0256b}")
        cut.open(*way)
        if bits:
            cut.keep(refs[-1])  # the account's old and new hash
            cut.open(*_way_to_transaction(bits, refs, lt))
    return to_boc(cut.proof(block.root))


def _way_to_transaction(bits: str, refs: list[NativeCell], lt: int) -> list[NativeCell]:
    """Return the cells below an account block's own that lead to a transaction, or prove that none does.

    The first edge lies in the account block's own cell, after the extra; its references come first.
    """
    _, position = read_coins(bits, 0)
    first = make_cell(bits[position + 1 + _ACCOUNT_BLOCK_BITS :], *refs[:-1])
    # The transaction itself is pruned: its hash is all that clients compare, and pytoniq reads an opened one.
    return way_to(first, f"{lt:064b}")[0][1:]


# -- states -----------------------------------------------------------------------------------------------


def _state(block: Block) -> tuple[Cut, list[NativeCell]]:
    """Return a cut that keeps what clients always unpack, and the references of the state's root."""
    refs = read_cell(block.state)[1]
    cut, rest = Cut(), refs[2]
    cut.open(rest)  # not kept whole: libraries hang on it
    if len(refs) > 3:
        cut.open(refs[3], read_cell(refs[3])[1][-1])
    return cut, refs


def account_proof(block: Block, key: int) -> tuple[bytes, NativeCell | None]:
    """Return the proof of an account's state after a block, and the raw `Account`, or None if there is none.

    `block` has to be of the account's own workchain. The proof's bag has two roots, the header's and the
    state's, and proves absence as well.
    """
    cut, refs = _state(block)
    accounts = refs[1]
    roots = read_cell(accounts)[1]
    way, bits, leaf = way_to(roots[0] if roots else None, f"{key & KEY_MASK:0256b}")
    proof = cut.open(accounts, *way).proof(block.state)
    return to_boc_of([header_root(block), proof]), leaf[-1] if bits else None


def shard_proof(block: MasterBlock) -> bytes:
    """Return the proof, from a masterchain block's state, of the basechain block that it committed.

    Its bag has two roots, the header's and the state's.
    """
    cut, refs = _state(block)
    cut.keep(read_cell(refs[3])[1][0])
    return to_boc_of([header_root(block), cut.proof(block.state)])


def shards_data(block: MasterBlock) -> bytes:
    """Return `ShardHashes` of a masterchain block: what `shards_proof` proves."""
    shards = read_cell(read_cell(block.state)[1][3])[1][0]
    return to_boc(make_cell("1", shards))


def shard_descr(block: MasterBlock) -> bytes:
    """Return the `BinTree ShardDescr` of the basechain: what `shard_proof` proves."""
    shards = read_cell(read_cell(block.state)[1][3])[1][0]
    return to_boc(read_cell(shards)[1][0])


def config_proof(block: MasterBlock, params: Iterable[int] | None) -> bytes:
    """Return the proof, from a masterchain block's state, of configuration parameters; None means all."""
    cut, refs = _state(block)
    config = read_cell(refs[3])[1][1]
    keep_params(cut, config, params)
    return to_boc(cut.proof(block.state))


def keep_params(cut: Cut, config: NativeCell, params: Iterable[int] | None) -> None:
    """Keep parameters of a configuration (all for None), or what proves that they are not set."""
    if params is None:
        cut.keep(config)
        return
    for index in params:
        way, bits, refs = way_to(config, f"{index & 0xFFFF_FFFF:0{_CONFIG_KEY_BITS}b}")
        cut.open(*way)
        if bits or refs:
            cut.keep(*refs)


# -- chains of proofs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ForwardLink:
    """The step from a key block to a later block: headers, the key block's validators, their signature.

    `dest_proof` and `config_proof` are bags; `node_id` (32 bytes) names the validator that signed.
    """

    dest_proof: bytes
    config_proof: bytes
    validator_set_hash: int
    catchain_seqno: int
    node_id: bytes
    signature: bytes


def forward_link(key_block: MasterBlock, target: MasterBlock) -> ForwardLink:
    """Return the link from a key block to a later masterchain block, signed by the key block's validator."""
    extra = read_cell(key_block.root)[1][3]
    custom = read_cell(extra)[1][3]
    config = read_cell(custom)[1][-1]
    cut = _header(key_block).open(extra, custom)
    keep_params(cut, config, VALIDATOR_PARAMS)
    validator = target.validator
    return ForwardLink(
        dest_proof=header_proof(target),
        config_proof=to_boc(cut.proof(key_block.root)),
        validator_set_hash=validator.set_hash,
        catchain_seqno=CATCHAIN_SEQNO,
        node_id=validator.short_id,
        signature=validator.sign(target.id),
    )
