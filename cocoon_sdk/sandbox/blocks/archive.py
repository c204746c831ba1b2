"""`BlockArchive`: every sealed block, and where each transaction is.

Owns the indexes by id, number, logical time, unix time and transaction hash. Knows nothing of how blocks
are made or served.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from cocoon_sdk.sandbox.blocks.block import BASECHAIN, MASTERCHAIN, WHOLE_SHARD, Block, BlockId, MasterBlock
from cocoon_sdk.sandbox.blocks.errors import BlockNotFoundError, TransactionNotFoundError
from cocoon_sdk.sandbox.transactions import Transaction


@dataclass(frozen=True, slots=True)
class ArchiveMark:
    """A point in an archive's life; give it back to `BlockArchive.rewind`."""

    masters: tuple[MasterBlock, ...]


class BlockArchive:
    """The blocks of both chains since their zero states. Made and filled by a `BlockProducer`."""

    def __init__(self, zero_state_masterchain: BlockId, zero_state_basechain: BlockId) -> None:
        self.zero_state_masterchain = zero_state_masterchain
        self.zero_state_basechain = zero_state_basechain
        self._masters: list[MasterBlock] = []
        self._transactions: dict[bytes, tuple[Transaction, Block]] = {}

    # -- looking --------------------------------------------------------------------------------------------

    @property
    def head(self) -> MasterBlock:
        """The newest masterchain block."""
        return self._masters[-1]

    @property
    def init_block(self) -> MasterBlock:
        """The key block that all trust begins at; its number is 1."""
        return self._masters[0]

    def __len__(self) -> int:
        return len(self._masters)

    def find(self, block: BlockId) -> Block:
        """Return a block by its full id; raises `BlockNotFoundError`."""
        if block.shard == WHOLE_SHARD and block.workchain in (BASECHAIN, MASTERCHAIN):
            found = self.by_seqno(block.workchain, block.seqno)
            if found.id == block:
                return found
        raise _missing(f"block {block}", "another block has that number, or the shard does not exist")

    def by_seqno(self, workchain: int, seqno: int) -> Block:
        """Return a block by its number; raises `BlockNotFoundError`."""
        if not 1 <= seqno <= len(self._masters):
            raise _missing(f"block {seqno} of workchain {workchain}", f"blocks 1 to {len(self)} exist")
        return _of(workchain, self._masters[seqno - 1])

    def master(self, seqno: int) -> MasterBlock:
        """Return a masterchain block by its number; raises `BlockNotFoundError`."""
        found = self.by_seqno(MASTERCHAIN, seqno)
        assert isinstance(found, MasterBlock)
        return found

    def by_lt(self, workchain: int, lt: int) -> Block:
        """Return the block whose logical times include `lt`; between two blocks, the later one.

        Raises `BlockNotFoundError`.
        """
        index = bisect_left(self._masters, lt, key=_end_lt(workchain))
        if index == len(self._masters) or lt < 0:
            raise _missing(f"a block with logical time {lt}", f"the newest ends at {self.head.end_lt}")
        return _of(workchain, self._masters[index])

    def by_utime(self, workchain: int, utime: int) -> Block:
        """Return the newest block that was made at unix time `utime` or before.

        Raises `BlockNotFoundError` when all are newer.
        """
        index = bisect_right(self._masters, utime, key=lambda block: block.gen_utime)
        if not index:
            raise _missing(f"a block of time {utime}", f"the first was made at {self.init_block.gen_utime}")
        return _of(workchain, self._masters[index - 1])

    def transaction(self, digest: bytes) -> tuple[Transaction, Block]:
        """Return a transaction by its hash with its block; raises `TransactionNotFoundError`."""
        found = self._transactions.get(digest)
        if found is None:
            raise TransactionNotFoundError(
                f"there is no transaction {digest.hex()}", why="no sealed block has it"
            )
        return found

    def block_of(self, transaction: Transaction) -> Block:
        """Return the block of a transaction; raises `TransactionNotFoundError` when it is not sealed."""
        return self.transaction(transaction.hash)[1]

    def master_of(self, block: Block) -> MasterBlock:
        """Return the masterchain block that committed a basechain block; a masterchain block is its own.

        Raises `BlockNotFoundError`.
        """
        found = self.master(block.seqno)
        if block is not found and block is not found.shard_block:
            raise _missing(f"block {block.id}", "it was taken back")
        return found

    def masters(self) -> tuple[MasterBlock, ...]:
        """Return all masterchain blocks, oldest first."""
        return tuple(self._masters)

    # -- filling --------------------------------------------------------------------------------------------

    def append(self, master: MasterBlock) -> None:
        """Add the next masterchain block with its basechain block."""
        self._masters.append(master)
        for block in (master.shard_block, master):
            for transaction in block.transactions:
                self._transactions[transaction.hash] = transaction, block

    def mark(self) -> ArchiveMark:
        """Return what `rewind` needs to come back to now."""
        return ArchiveMark(tuple(self._masters))

    def rewind(self, mark: ArchiveMark) -> None:
        """Come back to a mark, whether it lies before or on another branch; other blocks vanish."""
        shared = 0
        for one, other in zip(self._masters, mark.masters, strict=False):
            if one is not other:
                break
            shared += 1
        for master in self._masters[shared:]:
            for block in (master.shard_block, master):
                for transaction in block.transactions:
                    self._transactions.pop(transaction.hash, None)
        del self._masters[shared:]
        for master in mark.masters[shared:]:
            self.append(master)


def _of(workchain: int, master: MasterBlock) -> Block:
    if workchain == MASTERCHAIN:
        return master
    if workchain == BASECHAIN:
        return master.shard_block
    raise _missing(f"a block of workchain {workchain}", "there are only -1 and 0")


def _end_lt(workchain: int) -> Callable[[MasterBlock], int]:
    return lambda master: _of(workchain, master).end_lt


def _missing(what: str, why: str) -> BlockNotFoundError:
    return BlockNotFoundError(f"{what} was not found", why=why, hint="ask for the head of the chain first")
