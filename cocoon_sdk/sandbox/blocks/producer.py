"""`BlockProducer`: executed transactions become a basechain block and a masterchain block.

Owns the two chains' states and the order of sealing: the basechain block first, then the masterchain block
that commits it. Hangs on a `Blockchain`, whose accounts it reads; decides nothing about when to seal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from pytoniq_core import Cell

from cocoon_sdk.sandbox.blockchain import Blockchain, block_seed
from cocoon_sdk.sandbox.blocks import descriptors as tlb
from cocoon_sdk.sandbox.blocks.archive import ArchiveMark, BlockArchive
from cocoon_sdk.sandbox.blocks.assembly import Draft, Maker, Times, block_root, created, sealed_id
from cocoon_sdk.sandbox.blocks.augmented import AugmentedDict, Leaf, Touched
from cocoon_sdk.sandbox.blocks.block import (
    BASECHAIN,
    KEY_MASK,
    MASTERCHAIN,
    Block,
    MasterBlock,
    ext_blk_ref,
)
from cocoon_sdk.sandbox.blocks.cells import bits256, hash_bits, read_cell
from cocoon_sdk.sandbox.blocks.errors import SealError
from cocoon_sdk.sandbox.blocks.genesis import Validator, config_address, with_basechain, with_validator
from cocoon_sdk.sandbox.blocks.header import global_version
from cocoon_sdk.sandbox.blocks.master import (
    KEY_BLOCK_SEQNO,
    OLD_BLOCKS,
    KeyMaxLt,
    MasterExtra,
    block_extra,
    library_dict,
    old_block_leaf,
    pruned_extras,
    shard_hashes,
    supply,
)
from cocoon_sdk.sandbox.blocks.resume import states_of
from cocoon_sdk.sandbox.blocks.state import ACCOUNTS, QUEUE, ChainState, account_leaf
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.config import NetworkConfig
from cocoon_sdk.sandbox.transactions import Transaction

_LT_PER_BLOCK = 1_000_000
_VERSION_PARAM = 8

Delivered = tuple[frozenset[int], frozenset[int]]


@dataclass(frozen=True, slots=True)
class _Moment:
    """The states after a block, and which messages in each queue the other chain has taken."""

    basechain: ChainState
    masterchain: ChainState
    extra: MasterExtra


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in a producer's life; give it back to `BlockProducer.rewind`."""

    archive: ArchiveMark
    moment: _Moment


class BlockProducer:
    """Seals what a `Blockchain` executed. The zero states and the first block, a key block, exist at once.

    Accounts that are there already become part of the zero states. `seed` gives the validator's key.
    """

    archive: BlockArchive
    config: NetworkConfig
    zero_states: tuple[NativeCell, NativeCell]

    def __init__(self, blockchain: Blockchain, *, seed: bytes = b"") -> None:
        self._prepare(blockchain, seed)
        self._begin(blockchain)
        self.seal(())

    @classmethod
    def resume(
        cls,
        blockchain: Blockchain,
        archive: BlockArchive,
        zero_states: tuple[NativeCell, NativeCell],
        delivered: Delivered,
        *,
        seed: bytes = b"",
    ) -> Self:
        """Go on after an archive's head, with a blockchain that is as that block left it.

        `zero_states` are the masterchain's and the basechain's; `delivered` as that producer had it. Raises
        `MalformedError` when the head's states cannot be read.
        """
        producer = cls.__new__(cls)
        producer._prepare(blockchain, seed)
        producer._moment = _Moment(*states_of(archive.head, archive.head.shard_block, delivered))
        producer.archive, producer.zero_states = archive, zero_states
        producer._configure(NetworkConfig(producer._moment.extra.config))
        return producer

    def _prepare(self, blockchain: Blockchain, seed: bytes) -> None:
        self.blockchain = blockchain
        self.validator = Validator.of_seed(seed)
        self._library_cells: tuple[Cell, ...] = ()
        self._library_root: NativeCell | None = None

    def _configure(self, config: NetworkConfig) -> None:
        self.config = config
        version = config.native_param(_VERSION_PARAM)
        software = global_version("" if version is None else read_cell(version)[0])
        self._maker = Maker(self.validator.set_hash, bits256(self.validator.public_key), software)

    # -- going back ---------------------------------------------------------------------------------------

    @property
    def delivered(self) -> Delivered:
        """Keys of messages in the basechain's and the masterchain's queue that the other one has taken."""
        return self._moment.basechain.delivered, self._moment.masterchain.delivered

    def mark(self) -> Mark:
        """Return what `rewind` needs to come back to now."""
        return Mark(self.archive.mark(), self._moment)

    def mark_at(self, seqno: int, delivered: Delivered) -> Mark:
        """Return the mark of an earlier block, from what was delivered then. Raises `BlockNotFoundError`."""
        block = self.archive.master(seqno)
        return Mark(
            ArchiveMark(self.archive.masters()[:seqno]),
            _Moment(*states_of(block, block.shard_block, delivered)),
        )

    def rewind(self, mark: Mark) -> None:
        """Come back to a mark; blocks that it does not have vanish. The blockchain has to be restored too."""
        self.archive.rewind(mark.archive)
        self._moment = mark.moment

    # -- the beginning ------------------------------------------------------------------------------------

    def _begin(self, blockchain: Blockchain) -> None:
        config = with_validator(blockchain.config, self.validator, blockchain.now)
        basechain = self._zero_state(BASECHAIN, None)
        basechain_id = sealed_id(BASECHAIN, 0, basechain.cell)
        config = with_basechain(config, basechain_id)
        self._configure(config)
        extra = MasterExtra(
            shards=None,
            config_address=config_address(config),
            config=config.native,
            supply=supply(int(blockchain.minted)),
            validator_set_hash=self.validator.set_hash,
            old_blocks=AugmentedDict(OLD_BLOCKS),
            after_key_block=False,
            last_key_block="",
        )
        masterchain = self._zero_state(MASTERCHAIN, extra.cell())
        self._moment = _Moment(basechain, masterchain, extra)
        self.archive = BlockArchive(sealed_id(MASTERCHAIN, 0, masterchain.cell), basechain_id)
        self.zero_states = (masterchain.cell, basechain.cell)

    def _zero_state(self, workchain: int, custom: NativeCell | None) -> ChainState:
        blockchain = self.blockchain
        leaves = {}
        for key, native in blockchain.raw_items():
            leaf = account_leaf(native) if key >> 256 == workchain & 0xFF else None
            if leaf is not None:
                leaves[key & KEY_MASK] = leaf
        waiting = {}
        for message in blockchain.pending:
            if message.src_key is not None and message.src_key >> 256 == workchain & 0xFF:
                receiver = _workchain(message.dst_key or 0)
                wrapped = tlb.envelope(message, abroad=receiver != workchain)
                waiting[tlb.queue_key(message, receiver)] = tlb.enqueued(message, wrapped)
        return ChainState(
            global_id=blockchain.global_id,
            workchain=workchain,
            seqno=0,
            gen_utime=blockchain.now,
            gen_lt=0,
            accounts=AugmentedDict.of(ACCOUNTS, leaves),
            queue=AugmentedDict.of(QUEUE, waiting),
            delivered=frozenset(),
            fees=0,
            master_ref="",
            libraries=None,
            custom=custom,
        )

    # -- sealing ------------------------------------------------------------------------------------------

    def seal(self, transactions: Sequence[Transaction]) -> MasterBlock:
        """Seal transactions, in order of execution, as one basechain and one masterchain block.

        Without transactions the blocks are empty. Everything that the blockchain executed has to be sealed
        exactly once, in order. Raises `SealError` when that is not so, and `UnbalancedError`; nothing
        changes then.
        """
        times = self._times(transactions)
        moment = self._moment
        base, master = self._drafts(transactions, moment, times)
        shard_block, basechain = self._basechain_block(base, times)
        block, masterchain, extra = self._masterchain_block(master, times, shard_block)
        self._moment = _Moment(
            _with_delivered(basechain, master.traffic.taken_abroad),
            _with_delivered(masterchain, base.traffic.taken_abroad),
            extra,
        )
        self.archive.append(block)
        self.blockchain.advance_lt(times.end_lt)
        return block

    def _times(self, transactions: Sequence[Transaction]) -> Times:
        blockchain, old = self.blockchain, self._moment.masterchain
        start_lt = (
            max(old.gen_lt, 0 if transactions else blockchain.lt) // _LT_PER_BLOCK + 1
        ) * _LT_PER_BLOCK
        number = blockchain.seqno
        if transactions:
            first = transactions[0]
            start_lt, number = first.lt // _LT_PER_BLOCK * _LT_PER_BLOCK, first.seqno
            if start_lt < old.gen_lt:
                raise SealError(
                    "transactions cannot be sealed",
                    why=f"the first is of time {first.lt}, but the last block ended at {old.gen_lt}",
                    hint="seal everything once, in order of execution",
                )
        return Times(
            seqno=old.seqno + 1,
            gen_utime=blockchain.now,
            start_lt=start_lt,
            end_lt=max(start_lt, blockchain.lt) + 1,
            random_seed=bits256(block_seed(number)),
        )

    def _drafts(
        self, transactions: Sequence[Transaction], moment: _Moment, times: Times
    ) -> tuple[Draft, Draft]:
        base = [each for each in transactions if each.key >> 256 == BASECHAIN]
        master = [each for each in transactions if each.key >> 256 == MASTERCHAIN & 0xFF]
        if len(base) + len(master) != len(transactions):
            raise SealError("transactions cannot be sealed", why="one is in a workchain other than -1 and 0")
        sent_by_base = created(base) if master else {}
        sent_by_master = created(master) if master else {}
        old, other = moment.basechain, moment.masterchain
        lt = times.start_lt
        return (
            Draft.of(old, base, self._leaves(base), other.queue, sent_by_master, lt),
            Draft.of(other, master, self._leaves(master), old.queue, sent_by_base, lt),
        )

    def _leaves(self, transactions: Sequence[Transaction]) -> dict[int, Leaf[int] | None]:
        """Return the entries of changed accounts; each has to end with its last transaction here."""
        leaves: dict[int, Leaf[int] | None] = {}
        for key, last in {each.key: each for each in transactions}.items():
            native = self.blockchain.raw_account(key)
            bits = "" if native is None else read_cell(native)[0]
            if native is None or bits[:256] != hash_bits(last.native):
                raise SealError(
                    "transactions cannot be sealed",
                    why=f"the account {last.address.to_str()} is not as its last transaction left it",
                    hint="seal everything that was executed, once, in order",
                )
            leaves[key & KEY_MASK] = account_leaf(native)
        return leaves

    def _basechain_block(self, draft: Draft, times: Times) -> tuple[Block, ChainState]:
        flow, parts = draft.flow(0)
        previous = self._previous(BASECHAIN), self._previous(MASTERCHAIN)
        new = draft.next_state(times, flow, master_ref=previous[1])
        root = block_root(self._maker, times, new, flow, parts, draft.update(new), previous)
        return Block(**draft.fields(new, root, times, flow)), new

    def _masterchain_block(
        self, draft: Draft, times: Times, shard_block: Block
    ) -> tuple[MasterBlock, ChainState, MasterExtra]:
        flow, parts = draft.flow(shard_block.fees)
        shards = shard_hashes(shard_block)
        extra, custom = self._extra(shards)
        new = draft.next_state(times, flow, libraries=self._libraries(), custom=extra.cell())
        key = (extra.config_address, extra.config) if times.is_key else None
        own = block_extra(shards, shard_block, key)
        previous = self._previous(MASTERCHAIN), ""
        root = block_root(self._maker, times, new, flow, parts, draft.update(new, custom), previous, own)
        fields = draft.fields(new, root, times, flow)
        return MasterBlock(**fields, shard_block=shard_block, validator=self.validator), new, extra

    def _extra(self, shards: NativeCell) -> tuple[MasterExtra, tuple[NativeCell, NativeCell]]:
        """Return the masterchain state's own part, and both pruned versions for the update."""
        old, archive = self._moment.extra, self.archive
        seqno = self._moment.masterchain.seqno
        if seqno:
            leaf = old_block_leaf(archive.head.id, archive.head.end_lt, is_key=archive.head.is_key)
        else:
            leaf = old_block_leaf(archive.zero_state_masterchain, 0, is_key=True)
        touched: Touched[KeyMaxLt] = {}
        new = replace(
            old,
            shards=shards,
            supply=supply(int(self.blockchain.minted)),
            old_blocks=old.old_blocks.changed({seqno: leaf}, touched),
            after_key_block=seqno + 1 == KEY_BLOCK_SEQNO,
            last_key_block=archive.init_block.reference if seqno else "",
        )
        return new, pruned_extras(old, new, touched)

    def _previous(self, workchain: int) -> str:
        """Return the `ExtBlkRef` of a chain's newest block, or of its zero state."""
        archive = self.archive
        if len(archive):
            return archive.by_seqno(workchain, len(archive)).reference
        zero = archive.zero_state_masterchain if workchain == MASTERCHAIN else archive.zero_state_basechain
        return ext_blk_ref(zero, 0)

    def _libraries(self) -> NativeCell | None:
        """Return the dictionary of public libraries, built anew only when they changed."""
        libraries = self.blockchain.libraries
        if libraries is not self._library_cells:
            self._library_cells, self._library_root = libraries, library_dict(libraries)
        return self._library_root


def _with_delivered(state: ChainState, keys: Iterable[int]) -> ChainState:
    return replace(state, delivered=frozenset(keys)) if keys else state


def _workchain(key: int) -> int:
    workchain = key >> 256
    return workchain - 256 if workchain > 127 else workchain
