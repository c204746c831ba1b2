"""tonpy's C++ lite client, unmodified: reads a task as JSON from stdin, prints what it saw as JSON.

In a process of its own, since the client blocks the interpreter while it waits for a server.
"""

from __future__ import annotations

import json
import sys

from tonpy.types.address import Address
from tonpy.types.blockid import BlockId
from tonpy.types.cell import Cell
from tonpy.types.liteclient import LiteClient

SHARD = 0x8000000000000000


def main() -> None:
    task = json.load(sys.stdin)
    server = task["config"]["liteservers"][0]
    client = LiteClient(host="127.0.0.1", port=server["port"], pubkey_base64=server["id"]["key"], timeout=5)
    client.wait_connected(5)
    seen = {"time": client.get_time()}
    for message in task["messages"]:
        client.send_message(Cell(message))
    head = client.get_masterchain_info_ext()
    seen["head"] = head.last.id.seqno if hasattr(head.last, "id") else head.last.seqno
    contract, wallet = Address(task["contract"]), Address(task["wallet"])
    state = client.get_account_state(contract, head.last)
    parsed = state.get_parsed()
    seen["balance"] = int(parsed.storage.balance.grams.amount.value)
    held = client.get_account_state(wallet, head.last)
    found = client.get_transactions(wallet, held.last_trans_lt, held.last_trans_hash, 10)
    seen["history"] = [one.transaction.get_hash() for one in found.transactions]
    shard = found.transactions[0].blkid
    one = client.get_one_transaction(shard, wallet, held.last_trans_lt)
    seen["one"] = one.get_hash()
    listed = client.list_block_transactions_ext(shard, 10, check_proof=True)
    seen["listed"] = sorted(cell.get_hash() for cell in listed.transactions)
    backwards = client.list_block_transactions_ext(shard, 10, check_proof=True, reverse_mode=True)
    seen["backwards"] = sorted(cell.get_hash() for cell in backwards.transactions)
    _, config = client.get_config_all(head.last)
    seen["config"] = sum(1 for _ in config)
    seen["block"] = client.get_block(shard).get_hash()
    header = client.lookup_block(BlockId(-1, SHARD, 2))
    seen["header"] = str(header.blk_id)
    client.get_block_header(shard)
    seen["shards"] = [str(one) for one in client.get_all_shards_info(head.last)]
    stack = client.run_get_method(contract, "answer", block=head.last)
    seen["answer"] = str(stack)
    client.client.stop()
    print(json.dumps(seen))


main()
