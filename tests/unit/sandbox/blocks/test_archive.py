"""Blocks and transactions are found by what clients know of them, also after a restore."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_sdk.sandbox.blocks import (
    BASECHAIN,
    MASTERCHAIN,
    BlockNotFoundError,
    MasterBlock,
    TransactionNotFoundError,
)
from tests.unit.sandbox.blocks.histories import Life, check_life, more_steps
from tests.unit.sandbox.test_ledger import NOBODY

TON = 10**9


@pytest.fixture(scope="module")
def life() -> Life:
    life = Life()
    for seconds in (0, 10, 0, 20):
        life.blockchain.faucet(NOBODY, TON)
        life.blockchain.warp(seconds)
    return life


def test_block_can_be_found_by_everything_that_names_it(life: Life) -> None:
    archive = life.producer.archive
    for master in archive.masters():
        for block in (master, master.shard_block):
            assert archive.find(block.id) is block
            assert archive.by_seqno(block.workchain, block.seqno) is block
            assert archive.by_lt(block.workchain, block.start_lt) is block
            assert archive.by_lt(block.workchain, block.end_lt) is block
            assert archive.master_of(block) is master


def test_block_can_be_found_by_a_time_between_blocks(life: Life) -> None:
    archive = life.producer.archive
    start = archive.init_block.gen_utime
    for utime in range(start, start + 40):
        for workchain in (MASTERCHAIN, BASECHAIN):
            found = archive.by_utime(workchain, utime)
            later = [each for each in archive.masters() if each.seqno > found.seqno]
            assert found.gen_utime <= utime
            assert all(each.gen_utime > utime for each in later)


def test_logical_times_cannot_overlap(life: Life) -> None:
    masters = life.producer.archive.masters()
    for one, other in itertools.pairwise(masters):
        assert one.end_lt < other.start_lt
    for master in masters:
        for block in (master, master.shard_block):
            assert all(block.start_lt < each.lt < block.end_lt for each in block.transactions)


def test_block_cannot_be_found_when_it_does_not_exist(life: Life) -> None:
    archive = life.producer.archive
    head = archive.head
    for wrong in (
        dataclasses.replace(head.id, file_hash=bytes(32)),
        dataclasses.replace(head.id, workchain=5),
        dataclasses.replace(head.id, shard=1 << 62),
        dataclasses.replace(head.id, seqno=head.seqno + 1),
        archive.zero_state_masterchain,
    ):
        with pytest.raises(BlockNotFoundError):
            archive.find(wrong)
    with pytest.raises(BlockNotFoundError):
        archive.by_lt(BASECHAIN, head.end_lt + 1)
    with pytest.raises(BlockNotFoundError):
        archive.by_utime(BASECHAIN, archive.init_block.gen_utime - 1)
    with pytest.raises(BlockNotFoundError):
        archive.by_seqno(1, 1)
    with pytest.raises(TransactionNotFoundError):
        archive.transaction(bytes(32))


def test_transaction_can_be_found_with_its_block(life: Life) -> None:
    archive = life.producer.archive
    for transaction in life.blockchain.transactions(limit=100):
        found, block = archive.transaction(transaction.hash)
        assert found is transaction
        assert transaction in block.transactions
        assert archive.block_of(transaction) is block
        assert archive.by_lt(BASECHAIN, transaction.lt) is block


@settings(max_examples=15, deadline=None)
@given(
    before=st.lists(more_steps, max_size=6),
    lost=st.lists(more_steps, max_size=6),
    after=st.lists(more_steps, max_size=6),
)
def test_producer_can_go_on_after_a_restore_as_if_nothing_had_happened(
    before: list[tuple[object, ...]], lost: list[tuple[object, ...]], after: list[tuple[object, ...]]
) -> None:
    kept, straight = Life(), Life()
    for life in (kept, straight):
        for step in before:
            life.act(step)
        life.act(("together", False))
    snapshot, mark = kept.blockchain.snapshot(), kept.producer.mark()
    seqno = len(kept.producer.archive)
    for step in lost:
        kept.act(step)
    kept.act(("together", False))
    vanished = kept.producer.archive.masters()[seqno:]
    kept.blockchain.restore(snapshot)
    kept.producer.rewind(mark)
    for block in vanished:
        with pytest.raises(BlockNotFoundError):
            kept.producer.archive.find(block.id)
    for life in (kept, straight):
        for step in after:
            life.act(step)
        life.seal()
    assert kept.producer.archive.head.id == straight.producer.archive.head.id
    check_life(kept)


def test_archive_can_come_back_to_a_later_mark_when_it_was_rewound() -> None:
    life = Life()
    life.blockchain.faucet(NOBODY, TON)
    early = life.producer.mark()
    life.blockchain.faucet(NOBODY, TON)
    late, head = life.producer.mark(), life.producer.archive.head
    transaction = life.blockchain.transactions()[0]
    life.producer.rewind(early)
    with pytest.raises(TransactionNotFoundError):
        life.producer.archive.transaction(transaction.hash)
    life.producer.rewind(late)
    assert life.producer.archive.head is head
    assert life.producer.archive.block_of(transaction) is head.shard_block


def test_masterchain_block_can_name_its_basechain_block(life: Life) -> None:
    head = life.producer.archive.head
    assert isinstance(head, MasterBlock)
    assert head.shard_block.workchain == BASECHAIN
    assert head.shard_block.seqno == head.seqno
