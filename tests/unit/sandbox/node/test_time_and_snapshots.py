"""A node's clock, and going back."""

from __future__ import annotations

import asyncio

import pytest

from cocoon_sdk.errors import ChainUnavailableError, ConfigError
from cocoon_sdk.sandbox import DEFAULT_NOW, FAUCET
from cocoon_sdk.sandbox.blocks import BlockNotFoundError, TransactionNotFoundError
from cocoon_sdk.sandbox.cells import address_key
from cocoon_sdk.sandbox.node import MAX_IDLE_S, MAX_NOW, Node
from cocoon_sdk.sandbox.vault import BASE, MAX_SNAPSHOTS, SnapshotNameError, UnknownSnapshotError
from cocoon_sdk.types import Nano
from tests.unit.sandbox.node.clocks import SteppedClock, turns

START = 1_790_000_000
ONE = Nano.ton(1)


async def test_time_stands_still_without_a_clock_until_it_is_warped() -> None:
    async with Node() as node:
        await node.mine(3)
        assert (node.now, node.head.gen_utime) == (DEFAULT_NOW, DEFAULT_NOW)
        assert (await node.warp(3600)).gen_utime == DEFAULT_NOW + 3600


async def test_chain_follows_its_clock_with_an_empty_block_now_and_then() -> None:
    clock = SteppedClock(START)
    async with Node(clock=clock, idle_s=2) as node:
        assert node.head.gen_utime == START
        await clock.pass_by(1)
        assert node.head.seqno == 1
        await clock.pass_by(1)
        assert (node.head.seqno, node.head.gen_utime) == (2, START + 2)


async def test_empty_blocks_get_rarer_while_nothing_happens() -> None:
    clock = SteppedClock(START)
    async with Node(clock=clock, idle_s=1) as node:
        for _ in range(900):
            await clock.pass_by(1)
        quiet = node.head.seqno
        assert 100 < quiet < 200
        assert node.now - node.head.gen_utime <= MAX_IDLE_S
        await node.faucet(FAUCET, ONE)
        for _ in range(10):
            await clock.pass_by(1)
        assert node.head.seqno == quiet + 11


async def test_transaction_has_the_clocks_time_and_not_that_of_the_newest_block() -> None:
    clock = SteppedClock(START)
    async with Node(clock=clock, idle_s=1000) as node:
        await clock.pass_by(7)
        await node.faucet(FAUCET, ONE)
        assert node.head.shard_block.transactions[0].now == START + 7 == node.head.gen_utime


async def test_warped_chain_stays_ahead_of_its_clock() -> None:
    clock = SteppedClock(START)
    async with Node(clock=clock, idle_s=1) as node:
        await node.warp(100)
        assert (node.offset, node.head.gen_utime) == (100, START + 100)
        await clock.pass_by(5)
        assert node.head.gen_utime == START + 105


async def test_clock_that_is_set_back_does_not_set_the_chain_back() -> None:
    clock = SteppedClock(START)
    async with Node(clock=clock, idle_s=1) as node:
        await clock.pass_by(10)
        clock._now -= 100
        await node.faucet(FAUCET, ONE)
        assert node.head.gen_utime == START + 10


async def test_blocks_come_at_the_block_time() -> None:
    clock = SteppedClock(START)
    async with Node(clock=clock, block_time_s=5) as node:
        gift = asyncio.create_task(node.faucet(FAUCET, ONE))
        await clock.pass_by(4)
        assert node.head.seqno == 1
        await clock.pass_by(1)
        assert (node.head.seqno, node.head.gen_utime) == (2, START + 5)
        assert (await gift) == node.head.shard_block.transactions[0].in_msg.hash


@pytest.mark.parametrize("seconds", [-1, MAX_NOW])
async def test_time_cannot_run_back_or_beyond_32_bits(seconds: int) -> None:
    async with Node() as node:
        with pytest.raises(ConfigError):
            await node.warp(seconds)
        assert node.head.seqno == 1


async def test_restored_chain_and_blocks_are_those_of_the_snapshot() -> None:
    async with Node() as node:
        await node.faucet(FAUCET, ONE)
        assert await node.snapshot("first") == 2
        then = node.head
        await node.warp(50)
        await node.faucet(FAUCET, ONE)
        lost = node.head.shard_block.transactions[0]
        assert await node.restore("first") is then
        assert (node.now, node.blockchain.now) == (DEFAULT_NOW, DEFAULT_NOW)
        assert node.blockchain.minted == ONE
        with pytest.raises(TransactionNotFoundError):
            node.archive.transaction(lost.hash)
        with pytest.raises(BlockNotFoundError):
            node.archive.by_seqno(0, 3)


async def test_restored_chain_goes_on_with_other_blocks() -> None:
    async with Node() as node:
        await node.snapshot("first")
        await node.faucet(FAUCET, ONE)
        one = node.head.id
        await node.restore("first")
        await node.faucet(FAUCET, 2 * ONE)
        assert (node.head.seqno, node.head.id == one) == (2, False)
        assert node.shard_account(address_key(FAUCET)).last_lt == node.head.shard_block.transactions[0].lt


async def test_later_snapshots_vanish_and_earlier_ones_stay() -> None:
    async with Node() as node:
        for name in ("one", "two", "three"):
            await node.mine()
            await node.snapshot(name)
        await node.restore("two")
        assert node.snapshots() == {"one": 2, "two": 3}
        with pytest.raises(UnknownSnapshotError, match="one, two"):
            await node.restore("three")
        assert (await node.restore("one")).seqno == 2


async def test_reset_goes_back_to_genesis_or_to_where_the_base_was_set() -> None:
    async with Node() as node:
        await node.mine(3)
        assert (await node.reset()).seqno == 1
        await node.mine(2)
        await node.set_base()
        await node.snapshot("here")
        await node.mine()
        assert (await node.reset()).seqno == 3
        assert BASE not in node.snapshots()


async def test_restored_chain_that_follows_a_clock_has_the_present_on_top() -> None:
    clock = SteppedClock(START)
    async with Node(clock=clock, idle_s=1) as node:
        await node.snapshot("first")
        await node.warp(1000)
        await clock.pass_by(5)
        head = await node.restore("first")
        assert (head.seqno, head.gen_utime, node.offset) == (2, START + 5, 0)


async def test_what_waits_for_a_block_is_told_when_the_chain_goes_back() -> None:
    async with Node(block_time_s=3600) as node:
        await node.snapshot("first")
        gift = asyncio.create_task(node.faucet(FAUCET, ONE))
        await turns()
        await node.restore("first")
        with pytest.raises(ChainUnavailableError, match="did not happen"):
            await gift


@pytest.mark.parametrize("name", ["", "@start", "a b", "x" * 65, "ä", "../up"])
async def test_snapshot_cannot_have_any_name(name: str) -> None:
    async with Node() as node:
        with pytest.raises(SnapshotNameError):
            await node.snapshot(name)


async def test_snapshots_are_bounded() -> None:
    async with Node() as node:
        for number in range(MAX_SNAPSHOTS):
            await node.snapshot(f"n{number}")
        with pytest.raises(SnapshotNameError):
            await node.snapshot("one too many")
        await node.snapshot("n7")
        with pytest.raises(SnapshotNameError):
            await node.snapshot("one.too.many")
