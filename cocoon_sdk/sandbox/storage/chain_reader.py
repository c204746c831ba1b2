"""Blocks and states from the database: an archive as it was when the process ended.

Owns rebuilding states: a full one that was kept, and from there on by the Merkle update in each block, whose
result has to have the hash that the block names. Everything is checked against the hash that stands in the
next thing up, so damage is noticed here and not by a client's proof. Must not write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.blocks import BASECHAIN, MASTERCHAIN, Block, BlockArchive, BlockId, MasterBlock
from cocoon_sdk.sandbox.blocks.genesis import Validator
from cocoon_sdk.sandbox.blocks.merkle import apply_update
from cocoon_sdk.sandbox.blocks.resume import (
    ForgottenBlock,
    ForgottenMasterBlock,
    account_items,
    block_id,
    header_of,
    state_hash_after,
    state_update_of,
    transactions_in,
)
from cocoon_sdk.sandbox.cells import NativeCell, native_from_boc, native_hash
from cocoon_sdk.sandbox.reading import read_transactions
from cocoon_sdk.sandbox.storage.database import Database
from cocoon_sdk.sandbox.transactions import Transaction

STATES_AT_LEAST = 128
"""Blocks before the newest whose states are built at a start, where that many were kept."""


@dataclass(frozen=True, slots=True)
class ReadChain:
    """What was read: all blocks, both zero states (the masterchain's first), all transactions by time."""

    archive: BlockArchive
    zero_states: tuple[NativeCell, NativeCell]
    transactions: list[Transaction]
    newest_state: int


class _Chain:
    """One of the two chains while it is read."""

    def __init__(self, workchain: int, zero_state: bytes) -> None:
        self.workchain = workchain
        self.zero_state = native_from_boc(zero_state)
        self.zero_id = block_id(workchain, 0, self.zero_state, zero_state)
        self.previous = self.zero_id
        self.state: NativeCell | None = None

    def follow(
        self, boc: bytes, seqno: int, kept: bytes | None, *, build: bool
    ) -> tuple[NativeCell, BlockId]:
        """Go on to the next block; its state is built when it was kept, or can be and shall be."""
        root = native_from_boc(boc)
        if kept is not None:
            self.state = native_from_boc(kept)
        elif build and self.state is not None:
            self.state = apply_update(self.state, state_update_of(root))
        else:
            self.state = None
        if self.state is not None and native_hash(self.state) != state_hash_after(root):
            raise MalformedError("a state cannot be believed", why=f"it is not that of block {seqno}")
        found = block_id(self.workchain, seqno, root, boc)
        header = header_of(root)
        if (header.workchain, header.seqno, header.previous) != (
            self.workchain,
            seqno,
            self.previous.root_hash,
        ):
            raise MalformedError("a block cannot be believed", why=f"{found} does not follow {self.previous}")
        self.previous = found
        return root, found


def read_chain(database: Database) -> ReadChain:
    """Read everything. Raises `MalformedError` for what contradicts itself, and `StorageError`."""
    kept = [seqno for (seqno,) in database.rows("SELECT seqno FROM states ORDER BY seqno")]
    ((newest,),) = database.rows("SELECT max(seqno) FROM blocks")
    named = {seqno for (seqno,) in database.rows("SELECT seqno FROM moments")}
    start = max((seqno for seqno in kept if seqno <= max(newest - STATES_AT_LEAST, 0)), default=0)
    ((master_zero, base_zero),) = database.rows("SELECT master, base FROM states WHERE seqno = 0")
    master, base = _Chain(MASTERCHAIN, master_zero), _Chain(BASECHAIN, base_zero)
    if start == 0:
        master.state, base.state = master.zero_state, base.zero_state
    archive, validator = BlockArchive(master.zero_id, base.zero_id), Validator.of_seed(b"")
    transactions: list[Transaction] = []
    senders: dict[str, Transaction] = {}
    wanted = (named | {start}) & set(kept) - {0}
    rows = database.stream(
        "SELECT blocks.seqno, blocks.master, blocks.base, master_fees, base_fees, states.master, states.base "
        "FROM blocks LEFT JOIN states ON blocks.seqno = states.seqno ORDER BY blocks.seqno"
    )
    for seqno, master_boc, base_boc, master_fees, base_fees, master_state, base_state in rows:
        if seqno != len(archive) + 1:
            raise MalformedError("a block is missing", why=f"after {len(archive)} comes {seqno}")
        use = seqno in wanted
        build = seqno > start
        shard_root, shard_id = base.follow(base_boc, seqno, base_state if use else None, build=build)
        root, found = master.follow(master_boc, seqno, master_state if use else None, build=build)
        mine = transactions_in(shard_root, BASECHAIN) + transactions_in(root, MASTERCHAIN)
        read = read_transactions(mine, seqno, senders)
        transactions += read
        shard_class = ForgottenBlock if base.state is None else Block
        master_class = ForgottenMasterBlock if master.state is None else MasterBlock
        shard = shard_class(**_fields(shard_root, shard_id, base.state, read, base_fees))
        fields = _fields(root, found, master.state, read, master_fees)
        archive.append(master_class(**fields, shard_block=shard, validator=validator))
    return ReadChain(archive, (master.zero_state, base.zero_state), transactions, kept[-1])


def accounts_at(block: MasterBlock) -> dict[int, NativeCell]:
    """Return all accounts of both chains after a block, by their keys."""
    return dict(account_items(block.shard_block)) | dict(account_items(block))


def _fields(
    root: NativeCell, found: BlockId, state: NativeCell | None, read: list[Transaction], fees: str
) -> dict[str, Any]:
    header = header_of(root)
    mine = [each for each in read if each.key >> 256 == found.workchain & 0xFF]
    return {
        "id": found,
        "root": root,
        "state": state,
        "gen_utime": header.gen_utime,
        "start_lt": header.start_lt,
        "end_lt": header.end_lt,
        "transactions": tuple(sorted(mine, key=lambda each: (each.key, each.lt))),
        "is_key": header.is_key,
        "fees": int(fees),
    }
