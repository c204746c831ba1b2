"""What can be asked: one function per query, from its fields and the node to the answer's.

Owns the table of names.
"""

from __future__ import annotations

from collections.abc import Callable

from cocoon_sdk.sandbox.liteserver.ids import Answer
from cocoon_sdk.sandbox.liteserver.queries import accounts, blocks, config, head, queues, shards, transactions
from cocoon_sdk.sandbox.liteserver.tl import Record
from cocoon_sdk.sandbox.node import Node

HANDLERS: dict[str, Callable[[Node, Record], Answer]] = {
    "getAccountState": accounts.get_account_state,
    "getAccountStatePrunned": accounts.get_account_state_pruned,
    "getAllShardsInfo": shards.get_all_shards_info,
    "getBlock": blocks.get_block,
    "getBlockHeader": blocks.get_block_header,
    "getBlockOutMsgQueueSize": queues.get_block_out_msg_queue_size,
    "getBlockProof": blocks.get_block_proof,
    "getConfigAll": config.get_config_all,
    "getConfigParams": config.get_config_params,
    "getDispatchQueueInfo": queues.get_dispatch_queue_info,
    "getDispatchQueueMessages": queues.get_dispatch_queue_messages,
    "getLibraries": config.get_libraries,
    "getLibrariesWithProof": config.get_libraries_with_proof,
    "getMasterchainInfo": head.get_masterchain_info,
    "getMasterchainInfoExt": head.get_masterchain_info_ext,
    "getOneTransaction": transactions.get_one_transaction,
    "getOutMsgQueueSizes": queues.get_out_msg_queue_sizes,
    "getShardBlockProof": blocks.get_shard_block_proof,
    "getShardInfo": shards.get_shard_info,
    "getState": blocks.get_state,
    "getTime": head.get_time,
    "getTransactions": transactions.get_transactions,
    "getValidatorStats": config.get_validator_stats,
    "getVersion": head.get_version,
    "listBlockTransactions": transactions.list_block_transactions,
    "listBlockTransactionsExt": transactions.list_block_transactions_ext,
    "lookupBlock": blocks.lookup_block,
    "lookupBlockWithProof": blocks.lookup_block_with_proof,
    "runSmcMethod": accounts.run_smc_method,
}
"""Every query but `sendMessage`, which changes something."""
