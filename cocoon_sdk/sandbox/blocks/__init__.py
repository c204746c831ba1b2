"""Blocks: what a sealed block is, how transactions become one, and proofs of what is in it.

Nothing here serves, writes to disk or waits. Everything works on the engine's cells.

What differs from a real network's blocks, all of it visible in them: there is one shard and one validator;
the first block is the only key block; nothing is created as a reward, and validators' fees stay where they
were collected; minted money enters by `msg_import_imm` without an out-message and is named in the value flow;
there is no `proc_info`, no statistics of who made which block, and extra currencies are not added up.
"""

from cocoon_sdk.sandbox.blocks.archive import BlockArchive
from cocoon_sdk.sandbox.blocks.block import BASECHAIN, MASTERCHAIN, WHOLE_SHARD, Block, BlockId, MasterBlock
from cocoon_sdk.sandbox.blocks.errors import (
    BlockNotFoundError,
    SealError,
    StateGoneError,
    TransactionNotFoundError,
)
from cocoon_sdk.sandbox.blocks.producer import BlockProducer, Mark
from cocoon_sdk.sandbox.blocks.proofs import (
    ForwardLink,
    account_proof,
    config_proof,
    forward_link,
    header_proof,
    header_root,
    shard_descr,
    shard_proof,
    shards_data,
    shards_proof,
    transactions_proof,
)

__all__ = [
    "BASECHAIN",
    "Block",
    "BlockArchive",
    "BlockId",
    "BlockNotFoundError",
    "BlockProducer",
    "ForwardLink",
    "MASTERCHAIN",
    "Mark",
    "MasterBlock",
    "SealError",
    "StateGoneError",
    "TransactionNotFoundError",
    "WHOLE_SHARD",
    "account_proof",
    "config_proof",
    "forward_link",
    "header_proof",
    "header_root",
    "shard_descr",
    "shard_proof",
    "shards_data",
    "shards_proof",
    "transactions_proof",
]
