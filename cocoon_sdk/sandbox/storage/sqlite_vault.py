"""`SqliteVault`: a node's chain in a SQLite file.

Owns what is written for each block and how a chain is built from it again. What is kept: every block of both
chains, whole; the state in full now and then (`states`), from which the states after it follow by the Merkle
updates in the blocks; and the moments: the present and the named snapshots. States older than the oldest one
built at a start are gone from memory, as on a node that is no archive: see `chain_reader`.
"""

from __future__ import annotations

from pathlib import Path

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.sandbox.blockchain import Blockchain, Snapshot
from cocoon_sdk.sandbox.blocks import BlockProducer, MasterBlock
from cocoon_sdk.sandbox.blocks.cells import to_boc
from cocoon_sdk.sandbox.config import NetworkConfig
from cocoon_sdk.sandbox.storage.chain_reader import accounts_at, read_chain
from cocoon_sdk.sandbox.storage.database import Database
from cocoon_sdk.sandbox.storage.errors import corrupt
from cocoon_sdk.sandbox.storage.moments import COLUMNS, NOW, Row, row_of, state_of
from cocoon_sdk.sandbox.vault import BASE, Moment, unknown_snapshot

MIN_BLOCKS_BETWEEN_STATES = 256
BYTES_BETWEEN_STATES = 1.0
"""A full state is written only after so many blocks, and after so many times its own size of them in bytes:
whatever the number of accounts is, keeping states at most doubles what is written."""

_INSERT_MOMENT = f"INSERT OR REPLACE INTO moments ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
_SELECT_MOMENT = f"SELECT {COLUMNS} FROM moments WHERE name = ?"  # noqa: S608


class SqliteVault:
    """Keeps a chain in the file at `path`, which is made when it is not there.

    Raises `StorageError` or one of its kinds, as every method does.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)
        self._names = {
            name: seqno
            for name, seqno in self._database.rows("SELECT name, seqno FROM moments")
            if name != NOW
        }
        self._blocks_since_state = 0
        self._bytes_since_state = 0
        self._state_bytes = 0

    # -- reading ------------------------------------------------------------------------------------------

    def load(self) -> tuple[BlockProducer, int] | None:
        """Return the kept chain and its time offset; None when the file is new."""
        rows = self._database.rows(_SELECT_MOMENT, (NOW,))
        if not rows:
            return None
        now = Row(*rows[0])
        try:
            facts = dict(self._database.rows("SELECT name, value FROM facts"))
            read = read_chain(self._database)
            if read.archive.head.seqno != now.seqno:
                raise corrupt(self._database.path, f"block {now.seqno} is missing")
            blockchain = Blockchain(now=now.now, config=NetworkConfig.from_boc(facts["config"]))
            state = state_of(now, accounts_at(read.archive.head), read.transactions)
            blockchain.restore(Snapshot(state))
            producer = BlockProducer.resume(blockchain, read.archive, read.zero_states, now.delivered)
        except (MalformedError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise corrupt(self._database.path, str(error)) from error
        self._blocks_since_state = read.archive.head.seqno - read.newest_state
        return producer, now.ahead

    def names(self) -> dict[str, int]:
        """Return the snapshots, each with its masterchain seqno."""
        return dict(self._names)

    # -- writing ------------------------------------------------------------------------------------------

    def begin(self, producer: BlockProducer, offset: int) -> None:
        """Keep a chain that starts now."""
        zero = producer.zero_states
        with self._database.transaction():
            config = to_boc(producer.blockchain.config.native)
            self._database.execute("INSERT INTO facts VALUES ('config', ?)", (config,))
            self._write_state(0, to_boc(zero[0]), to_boc(zero[1]))
            for block in producer.archive.masters():
                self._write_block(block)
            self._write_moment(NOW, producer, offset)
        self.keep(BASE, producer, offset)

    def append(self, block: MasterBlock, producer: BlockProducer, offset: int) -> None:
        """Keep a block and the moment after it, at once."""
        with self._database.transaction():
            size = self._write_block(block)
            self._write_moment(NOW, producer, offset)
            self._blocks_since_state += 1
            self._bytes_since_state += size
            if (
                self._blocks_since_state >= MIN_BLOCKS_BETWEEN_STATES
                and self._bytes_since_state >= BYTES_BETWEEN_STATES * self._state_bytes
            ):
                self._write_states_after(block)

    def keep(self, name: str, producer: BlockProducer, offset: int) -> None:
        """Remember the present under a name, with its whole state."""
        head = producer.archive.head
        with self._database.transaction():
            self._write_moment(name, producer, offset)
            self._write_states_after(head)
        self._names[name] = head.seqno

    def rewind(self, name: str, producer: BlockProducer) -> Moment:
        """Return a snapshot, and delete all later blocks and snapshots."""
        rows = self._database.rows(_SELECT_MOMENT, (name,))
        if not rows:
            raise unknown_snapshot(name, self._names)
        row = Row(*rows[0])
        block = producer.archive.master(row.seqno)
        chain = producer.blockchain
        newest_first = chain.transactions(limit=chain.transaction_count or 1, before_lt=row.lt + 1)
        state = state_of(row, accounts_at(block), newest_first[::-1])
        mark = producer.mark_at(row.seqno, row.delivered)
        with self._database.transaction():
            for table in ("blocks", "states", "moments"):
                self._database.execute(f"DELETE FROM {table} WHERE seqno > ?", (row.seqno,))  # noqa: S608
            self._database.execute("DELETE FROM moments WHERE name = ?", (NOW,))
            self._database.execute(_INSERT_MOMENT, row._replace(name=NOW))
        self._names = {other: seqno for other, seqno in self._names.items() if seqno <= row.seqno}
        return Moment(Snapshot(state), mark, row.seqno, row.ahead)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # -- rows ---------------------------------------------------------------------------------------------

    def _write_block(self, master: MasterBlock) -> int:
        bags = master.boc, master.shard_block.boc
        self._database.execute(
            "INSERT INTO blocks VALUES (?,?,?,?,?)",
            (master.seqno, *bags, str(master.fees), str(master.shard_block.fees)),
        )
        return sum(len(bag) for bag in bags)

    def _write_states_after(self, block: MasterBlock) -> None:
        self._write_state(block.seqno, to_boc(block.state), to_boc(block.shard_block.state))
        self._blocks_since_state = self._bytes_since_state = 0
        # A start needs the newest state that is old enough; what snapshots return to stays as well.
        self._database.execute(
            "DELETE FROM states WHERE seqno > 0 AND seqno NOT IN (SELECT seqno FROM moments) "
            "AND seqno NOT IN (SELECT seqno FROM states ORDER BY seqno DESC LIMIT 3)"
        )

    def _write_state(self, seqno: int, master: bytes, base: bytes) -> None:
        self._database.execute("INSERT OR REPLACE INTO states VALUES (?,?,?)", (seqno, master, base))
        self._state_bytes = len(master) + len(base)

    def _write_moment(self, name: str, producer: BlockProducer, offset: int) -> None:
        self._database.execute(_INSERT_MOMENT, row_of(name, producer, offset))
