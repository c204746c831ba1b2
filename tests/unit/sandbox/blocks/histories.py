"""Random lives of a chain with blocks, and everything that must hold for each block of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from pytoniq_core import Address, Cell, begin_cell
from pytoniq_core.tlb.block import ValueFlow

from cocoon_sdk.sandbox import Blockchain, Outgoing, contract_address
from cocoon_sdk.sandbox.blocks import BASECHAIN, Block, BlockProducer, MasterBlock
from cocoon_sdk.sandbox.blocks.augmented import Augmentation, AugmentedDict, Edge
from cocoon_sdk.sandbox.blocks.block import KEY_MASK
from cocoon_sdk.sandbox.blocks.cells import read_cell
from cocoon_sdk.sandbox.blocks.descriptors import ACCOUNT_BLOCKS, IN_MESSAGES, OUT_MESSAGES
from cocoon_sdk.sandbox.blocks.master import OLD_BLOCKS
from cocoon_sdk.sandbox.blocks.merkle import apply_update
from cocoon_sdk.sandbox.blocks.state import ACCOUNTS, QUEUE, account_leaf
from cocoon_sdk.sandbox.cells import NativeCell, from_native
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import FORWARDS_TO_DATA, contract
from tests.unit.sandbox.test_ledger import INITS, NAMES, NOBODY, act, amounts, steps

RELAY_HOME = contract(FORWARDS_TO_DATA, begin_cell().store_address(NOBODY).end_cell())
MASTER_RELAY = contract_address(RELAY_HOME, -1)
"""A contract of the masterchain that passes everything on to the basechain."""
MASTER_INITS = [RELAY_HOME, *INITS]

more_steps = st.one_of(
    steps,
    st.tuples(st.just("mint in masterchain"), st.integers(0, len(MASTER_INITS) - 1), amounts),
    st.tuples(
        st.just("send to masterchain"), st.sampled_from(NAMES), st.integers(0, 3), st.integers(1, 10**9)
    ),
    st.tuples(st.just("step"), st.integers(0, 3)),
    st.tuples(st.just("together"), st.booleans()),
    st.tuples(st.just("seal")),
)


class Life:
    """A blockchain whose batches are sealed one by one, or together until it is told otherwise."""

    def __init__(self) -> None:
        self.blockchain = Blockchain()
        self.producer = BlockProducer(self.blockchain)
        self.together = False
        self.waiting: list[Transaction] = []
        self.blockchain.subscribe(self._on_batch)

    def _on_batch(self, transactions: Sequence[Transaction]) -> None:
        self.waiting.extend(transactions)
        if not self.together:
            self.seal()

    def seal(self) -> MasterBlock:
        block = self.producer.seal(self.waiting)
        self.waiting.clear()
        return block

    def act(self, step: tuple[Any, ...]) -> None:
        chain = self.blockchain
        match step:
            case ("mint in masterchain", int(index), int(amount)):
                init = MASTER_INITS[index]
                chain.send_internal(contract_address(init, -1), amount, state_init=init, bounce=False)
            case ("send to masterchain", str(name), int(index), int(amount)):
                sender = chain.actor(name)
                if sender.balance > Nano.ton("0.1"):
                    to = contract_address(MASTER_INITS[index], -1)
                    chain.send_external(sender.request([Outgoing(to, Nano(amount))]))
            case ("step", int(index)):
                pending = chain.pending
                if index < len(pending) and not any(
                    (one.src_key, one.dst_key) == (pending[index].src_key, pending[index].dst_key)
                    for one in pending[:index]
                ):
                    chain.step(index)
            case ("together", bool(flag)):
                self.together = flag
                self.seal()
            case ("seal",):
                self.seal()
            case _:
                act(chain, step)


def parsed(cell: NativeCell) -> Cell:
    return from_native(cell)


def check_life(life: Life) -> None:
    """Check every block against the one before it, and the newest state against the blockchain."""
    if life.waiting:
        life.seal()
    first, *rest = life.producer.archive.masters()
    before = {-1: first.state, 0: first.shard_block.state}
    for master in rest:
        for block in (master.shard_block, master):
            check_block(block, before[block.workchain])
            before[block.workchain] = block.state
    check_head(life)


def check_block(block: Block, old_state: NativeCell) -> None:
    assert "FAILED" not in block.root.dump_as_tlb("Block")
    _, _, update, extra = read_cell(block.root)[1]
    assert apply_update(old_state, update).get_hash() == block.state.get_hash()
    check_flow(block, old_state)
    check_messages(block, extra)
    refs = read_cell(block.state)[1]
    for kind, holder in ((QUEUE, refs[0]), (ACCOUNTS, refs[1])):
        check_sums(AugmentedDict.of_cell(kind, (read_cell(holder)[1] or [None])[0]))
    if isinstance(block, MasterBlock):
        misc = read_cell(refs[3])[1][-1]
        old_blocks = AugmentedDict.of_cell(OLD_BLOCKS, read_cell(misc)[1][0])
        check_sums(old_blocks)
        assert [key for key, _ in old_blocks] == list(range(block.seqno))


def check_flow(block: Block, old_state: NativeCell) -> None:
    flow = ValueFlow.deserialize(parsed(read_cell(block.root)[1][1]).begin_parse())
    (old_balance, old_fees), (new_balance, new_fees) = totals(old_state), totals(block.state)
    assert flow.from_prev_blk.grams == old_balance
    assert flow.to_next_blk.grams == new_balance
    burned = flow.burned.grams if getattr(flow, "burned", None) else 0
    left = flow.from_prev_blk.grams + flow.imported.grams + flow.fees_imported.grams + flow.minted.grams
    right = flow.to_next_blk.grams + flow.exported.grams + flow.fees_collected.grams + burned
    assert left == right
    assert new_fees == old_fees + flow.fees_collected.grams
    if isinstance(block, MasterBlock):
        assert flow.fees_imported.grams == block.shard_block.fees


def totals(state: NativeCell) -> tuple[int, int]:
    """Return a state's total balance and validators' fees."""
    rest = parsed(read_cell(state)[1][2]).begin_parse().skip_bits(128)
    balance = rest.load_coins()
    rest.skip_bits(1)
    return balance, rest.load_coins()


def check_messages(block: Block, extra: NativeCell) -> None:
    """Every message of every transaction has its descriptor, and every transaction its account block."""
    incoming, outgoing, accounts = (
        AugmentedDict.of_cell(kind, (read_cell(holder)[1] or [None])[0])
        for kind, holder in zip(
            (IN_MESSAGES, OUT_MESSAGES, ACCOUNT_BLOCKS), read_cell(extra)[1][:3], strict=True
        )
    )
    for dictionary in (incoming, outgoing, accounts):
        check_sums(dictionary)
    for transaction in block.transactions:
        assert incoming.get(int.from_bytes(transaction.in_msg.hash, "big")) is not None
        assert accounts.get(transaction.key & KEY_MASK) is not None
        for message in transaction.out_msgs:
            assert outgoing.get(int.from_bytes(message.hash, "big")) is not None
    assert len(list(incoming)) <= len(block.transactions)


def check_head(life: Life) -> None:
    """The newest state is that of the blockchain: accounts and waiting messages, built from scratch."""
    head, chain = life.producer.archive.head, life.blockchain
    for block in (head, head.shard_block):
        assert "FAILED" not in block.state.dump_as_tlb("ShardStateUnsplit")
    waiting = {message.hash for message in chain.pending}
    queued: set[bytes] = set()
    for block in (head, head.shard_block):
        leaves = {
            key & KEY_MASK: account_leaf(native)
            for key, native in chain.raw_items()
            if key >> 256 == block.workchain & 0xFF
        }
        scratch = AugmentedDict.of(ACCOUNTS, {key: leaf for key, leaf in leaves.items() if leaf is not None})
        assert _hash(scratch.cell) == _hash(block.accounts)
        queue_refs = read_cell(read_cell(block.state)[1][0])[1]
        queue = AugmentedDict.of_cell(QUEUE, (queue_refs or [None])[0])
        own = life.producer.delivered[0 if block.workchain == BASECHAIN else 1]
        queued |= {(key & KEY_MASK).to_bytes(32, "big") for key, _ in queue if key not in own}
    assert queued == waiting


def check_sums(dictionary: AugmentedDict[Any]) -> None:
    """The extra of every fork is what its branches add up to."""

    def total(kind: Augmentation[Any], edge: Edge[Any]) -> Any:
        edge.opened(kind)
        if edge.left is None or edge.right is None:
            return edge.extra
        assert edge.extra == kind.combine(total(kind, edge.left), total(kind, edge.right))
        return edge.extra

    if dictionary.root is not None:
        assert total(dictionary.kind, dictionary.root) == dictionary.extra


def address_in_masterchain(index: int) -> Address:
    return contract_address(MASTER_INITS[index], -1)


def _hash(cell: NativeCell | None) -> str | None:
    return None if cell is None else str(cell.get_hash())
