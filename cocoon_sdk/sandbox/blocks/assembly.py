"""One chain's block in the making: from transactions to cells.

Owns the order in which the parts of a block come to be. What both chains have in common is here; what makes
the masterchain's blocks different, and what happens when, is the producer's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cocoon_sdk.sandbox.blocks import descriptors as tlb
from cocoon_sdk.sandbox.blocks.augmented import AugmentedDict, Leaf, Touched
from cocoon_sdk.sandbox.blocks.block import KEY_MASK, MASTERCHAIN, WHOLE_SHARD, BlockId
from cocoon_sdk.sandbox.blocks.cells import to_boc
from cocoon_sdk.sandbox.blocks.header import Header, ValueFlow, block_cell, extra_cell
from cocoon_sdk.sandbox.blocks.master import CATCHAIN_SEQNO, KEY_BLOCK_SEQNO
from cocoon_sdk.sandbox.blocks.routing import Traffic, account_blocks, by_in_message, route
from cocoon_sdk.sandbox.blocks.state import ChainState, state_update
from cocoon_sdk.sandbox.cells import NativeCell, native_hash
from cocoon_sdk.sandbox.messages import Message
from cocoon_sdk.sandbox.transactions import Transaction


@dataclass(frozen=True, slots=True)
class Times:
    """What both blocks of one sealing have in common. The random seed is 256 bits."""

    seqno: int
    gen_utime: int
    start_lt: int
    end_lt: int
    random_seed: str

    @property
    def is_key(self) -> bool:
        """Whether the masterchain block is a key block."""
        return self.seqno == KEY_BLOCK_SEQNO


@dataclass(frozen=True, slots=True)
class Maker:
    """What all blocks of a producer have in common, as bits where it goes into cells."""

    validator_set_hash: int
    creator: str
    software: str


@dataclass(frozen=True, slots=True)
class Parts:
    """The cells of a block's in-messages, out-messages and account blocks."""

    incoming: NativeCell
    outgoing: NativeCell
    accounts: NativeCell


@dataclass(frozen=True, slots=True)
class Draft:
    """One chain's block in the making: `touched` is what changed in the old dictionary of accounts."""

    old: ChainState
    transactions: tuple[Transaction, ...]
    traffic: Traffic
    accounts: AugmentedDict[int]
    touched: Touched[int]

    @classmethod
    def of(
        cls,
        old: ChainState,
        transactions: Sequence[Transaction],
        leaves: Mapping[int, Leaf[int] | None],
        abroad: AugmentedDict[int],
        created_abroad: Mapping[int, Message],
        import_lt: int,
    ) -> Draft:
        """Begin a block on a state: `leaves` are the changed accounts, the rest is as `route` has it."""
        traffic = route(
            old.workchain,
            transactions,
            old.queue,
            old.delivered,
            abroad,
            by_in_message(transactions),
            created_abroad,
            import_lt,
        )
        touched: Touched[int] = {}
        accounts = old.accounts.changed(leaves, touched) if leaves else old.accounts
        return cls(old, tuple(transactions), traffic, accounts, touched)

    def flow(self, fees_imported: int) -> tuple[ValueFlow, Parts]:
        """Return where the money of a block went, and the cells that prove it."""
        traffic = self.traffic
        incoming = AugmentedDict.of(tlb.IN_MESSAGES, traffic.in_messages)
        outgoing = AugmentedDict.of(tlb.OUT_MESSAGES, traffic.out_messages)
        blocks = account_blocks(self.transactions)
        import_fees, imported = incoming.extra
        flow = ValueFlow(
            before=self.old.balance,
            after=self.accounts.extra,
            imported=imported,
            exported=outgoing.extra,
            fees_collected=blocks.extra + import_fees + fees_imported,
            fees_imported=fees_imported,
            minted=traffic.minted,
        )
        if self.old.workchain == MASTERCHAIN and self.transactions:
            flow = flow.with_burned()  # the blackhole account burns what it gets
        return flow.checked(), Parts(incoming.holder, outgoing.holder, blocks.holder)

    def next_state(
        self,
        times: Times,
        flow: ValueFlow,
        *,
        master_ref: str = "",
        libraries: NativeCell | None = None,
        custom: NativeCell | None = None,
    ) -> ChainState:
        """Return the chain's state after the block."""
        old = self.old
        return ChainState(
            global_id=old.global_id,
            workchain=old.workchain,
            seqno=times.seqno,
            gen_utime=times.gen_utime,
            gen_lt=times.end_lt,
            accounts=self.accounts,
            queue=self.traffic.new_queue(),
            delivered=frozenset(),
            fees=old.fees + flow.fees_collected,
            master_ref=master_ref,
            libraries=libraries,
            custom=custom,
        )

    def update(
        self, new: ChainState, custom: tuple[NativeCell | None, NativeCell | None] = (None, None)
    ) -> NativeCell:
        """Return the Merkle update; `custom` is both pruned versions of the masterchain's part."""
        keys = {each.key & KEY_MASK: None for each in self.transactions}
        return state_update(self.old, new, keys, self.touched, self.traffic.touched, custom)

    def fields(self, new: ChainState, root: NativeCell, times: Times, flow: ValueFlow) -> dict[str, Any]:
        """Return what both kinds of blocks are made of."""
        return {
            "id": sealed_id(new.workchain, times.seqno, root),
            "root": root,
            "state": new.cell,
            "gen_utime": times.gen_utime,
            "start_lt": times.start_lt,
            "end_lt": times.end_lt,
            "transactions": tuple(sorted(self.transactions, key=lambda each: (each.key, each.lt))),
            "is_key": new.workchain == MASTERCHAIN and times.is_key,
            "fees": flow.fees_collected,
        }


def block_root(
    maker: Maker,
    times: Times,
    new: ChainState,
    flow: ValueFlow,
    parts: Parts,
    update: NativeCell,
    previous: tuple[str, str],
    custom: NativeCell | None = None,
) -> NativeCell:
    """Return the root of a block.

    `previous` are the references to the chain's block before it and, in the basechain, to the masterchain's;
    `custom` is the masterchain's own part.
    """
    header = Header(
        workchain=new.workchain,
        seqno=times.seqno,
        gen_utime=times.gen_utime,
        start_lt=times.start_lt,
        end_lt=times.end_lt,
        is_key=custom is not None and times.is_key,
        prev_key_seqno=KEY_BLOCK_SEQNO if times.seqno > KEY_BLOCK_SEQNO else 0,
        validator_set_hash=maker.validator_set_hash,
        catchain_seqno=CATCHAIN_SEQNO,
        software=maker.software,
        prev_ref=previous[0],
        master_ref=previous[1],
    )
    extra = extra_cell(
        parts.incoming, parts.outgoing, parts.accounts, times.random_seed, maker.creator, custom
    )
    return block_cell(new.global_id, header.cell(), flow.cell(), update, extra)


def created(transactions: Iterable[Transaction]) -> dict[int, Message]:
    """Map the hashes of outgoing messages to the messages."""
    return {tlb.message_key(message): message for each in transactions for message in each.out_msgs}


def sealed_id(workchain: int, seqno: int, root: NativeCell) -> BlockId:
    """Return the id of a block or zero state, whose bytes are its root's bag."""
    file_hash = hashlib.sha256(to_boc(root)).digest()
    return BlockId(workchain, WHOLE_SHARD, seqno, native_hash(root), file_hash)
