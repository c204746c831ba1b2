"""Proofs that only liteservers need: headers with parts of a block, old blocks, libraries, queues.

Owns which cells of a block or a state such a proof opens. What every proof has in common, and how trees are
pruned, is the block room's.
"""

from __future__ import annotations

from collections.abc import Iterable

from cocoon_sdk.sandbox.blocks import Block, MasterBlock, header_root
from cocoon_sdk.sandbox.blocks.cells import read_cell, to_boc, to_boc_of
from cocoon_sdk.sandbox.blocks.merkle import Cut, way_to
from cocoon_sdk.sandbox.blocks.proofs import keep_params
from cocoon_sdk.sandbox.cells import NativeCell

_WITH_VALUE_FLOW, _WITH_EXTRA, _WITH_SHARDS, _WITH_SIGNATURES = 2, 16, 32, 64


def state_and(block: Block, cut: Cut) -> bytes:
    """Return a bag with the header's proof and that of the block's state, cut so."""
    return to_boc_of([header_root(block), cut.proof(block.state)])


def block_header(block: Block, mode: int) -> bytes:
    """Return the proof of a header and of the further parts that the mode of `getBlockHeader` names."""
    info, flow, update, extra = read_cell(block.root)[1]
    cut = Cut().keep(info).open(update)
    if mode & _WITH_VALUE_FLOW:
        cut.keep(flow)
    if mode & _WITH_EXTRA:
        cut.open(extra)
        if isinstance(block, MasterBlock):
            master_extra = read_cell(extra)[1][3]
            cut.open(master_extra)
            parts = read_cell(master_extra)[1]
            if mode & _WITH_SHARDS:
                cut.keep(parts[0])
            if mode & _WITH_SIGNATURES:
                cut.keep(parts[2])
    return to_boc(cut.proof(block.root))


def old_block_proof(block: MasterBlock, old: MasterBlock) -> bytes:
    """Return the proof, from the state of `block`, that `old` is in its past."""
    extra, misc = _master_extra(block)
    old_blocks = read_cell(misc)[1]
    way, _, _ = way_to(old_blocks[0] if old_blocks else None, f"{old.seqno:032b}")
    return to_boc(Cut().open(extra, misc, *way).proof(block.state))


def libraries_proof(block: MasterBlock, hashes: Iterable[bytes]) -> bytes:
    """Return the proof, from the state of `block`, of which libraries it lists and which not."""
    rest = read_cell(block.state)[1][2]
    cut = Cut().open(rest)
    libraries = read_cell(rest)[1]
    for one in hashes:
        way, _, _ = way_to(libraries[0] if libraries else None, f"{int.from_bytes(one, 'big'):0256b}")
        cut.open(*way)
    return to_boc(cut.proof(block.state))


def key_block_config_proof(block: MasterBlock, params: Iterable[int] | None) -> bytes:
    """Return the proof of configuration parameters (all of them for None) from a key block itself."""
    info, _, update, extra = read_cell(block.root)[1]
    master_extra = read_cell(extra)[1][3]
    config = read_cell(master_extra)[1][-1]
    cut = Cut().keep(info).open(update, extra, master_extra)
    keep_params(cut, config, params)
    return to_boc(cut.proof(block.root))


def _master_extra(block: MasterBlock) -> tuple[NativeCell, NativeCell]:
    """Return the masterchain's part of a state, and its part about old blocks."""
    extra = read_cell(block.state)[1][3]
    return extra, read_cell(extra)[1][-1]
