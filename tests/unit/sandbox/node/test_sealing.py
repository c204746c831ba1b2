"""What a node seals, when, and what its callers are told."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cocoon_sdk.errors import AccountNotFoundError, ChainUnavailableError, ConfigError, ExternalRejectedError
from cocoon_sdk.sandbox import FAUCET, Actor, Blockchain
from cocoon_sdk.sandbox.blocks import MasterBlock
from cocoon_sdk.sandbox.cells import address_key
from cocoon_sdk.sandbox.errors import SandboxError
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.types import Nano
from tests.unit.sandbox.node.clocks import turns

ONE = Nano.ton(1)


def external(actor: Actor, seqno: int = 0) -> bytes:
    boc: bytes = actor.request([], seqno=seqno).to_boc()
    return boc


async def test_sender_finds_its_message_sealed_when_send_returns() -> None:
    async with Node() as node:
        alice = await node.apply(lambda chain: chain.actor("alice"))
        before = node.head.seqno
        hash_ = await node.send(external(alice))
        (transaction,) = node.head.shard_block.transactions
        assert (node.head.seqno, transaction.in_msg.hash) == (before + 1, hash_)
        assert node.archive.transaction(transaction.hash)[1] is node.head.shard_block


async def test_senders_that_come_together_share_a_block() -> None:
    async with Node() as node:
        actors = [await node.apply(lambda chain, n=n: chain.actor(f"actor {n}")) for n in range(5)]
        before = node.head.seqno
        await asyncio.gather(*(node.send(external(actor)) for actor in actors))
        assert node.head.seqno == before + 1
        assert len(node.head.shard_block.transactions) == 5


async def test_sender_cannot_have_a_message_sealed_when_the_wallet_refuses_it() -> None:
    async with Node() as node:
        alice = await node.apply(lambda chain: chain.actor("alice"))
        before = node.head
        with pytest.raises(ExternalRejectedError) as raised:
            await node.send(external(alice, seqno=7))
        assert raised.value.exit_code == 33
        assert node.head is before


async def test_refused_sender_does_not_hinder_those_who_share_the_block() -> None:
    async with Node() as node:
        alice, bob = [await node.apply(lambda chain, n=n: chain.actor(n)) for n in ("alice", "bob")]
        answers = await asyncio.gather(
            node.send(external(alice, seqno=3)), node.send(external(bob)), return_exceptions=True
        )
        assert isinstance(answers[0], ExternalRejectedError)
        assert node.head.shard_block.transactions[0].in_msg.hash == answers[1]


async def test_what_is_done_directly_on_the_blockchain_is_sealed_in_the_next_turn() -> None:
    async with Node() as node:
        node.blockchain.faucet(FAUCET, ONE)
        node.blockchain.warp(10)
        await turns()
        assert node.head.seqno == 2
        assert node.head.gen_utime == node.blockchain.now
        assert len(node.head.shard_block.transactions) == 1


async def test_what_was_only_tried_out_is_not_sealed() -> None:
    async with Node() as node:
        node.blockchain.faucet(FAUCET, ONE)
        with node.blockchain.isolated() as chain:
            chain.faucet(FAUCET, 5 * ONE)
        node.blockchain.faucet(FAUCET, ONE)
        await turns()
        assert [each.in_msg.value for each in node.head.shard_block.transactions] == [ONE, ONE]
        before = node.head
        with node.blockchain.isolated() as chain:
            chain.faucet(FAUCET, ONE)
        await turns()
        assert node.head is before
        await node.mine()


async def test_accounts_and_getters_can_be_asked_at_older_blocks() -> None:
    async with Node() as node:
        start = node.head
        alice = await node.apply(lambda chain: chain.actor("alice"))
        key, deployed = address_key(alice.address), node.head
        await node.send(external(alice))
        assert [node.run_getter(key, "seqno", block=block).values() for block in (deployed, node.head)] == [
            [0],
            [1],
        ]
        run = node.run_getter(key, "no such method")
        assert (run.exit_code, run.block, run.gas_used > 0) == (11, node.head.shard_block, True)
        assert node.shard_account(key, start).status == "nonexist"
        with pytest.raises(AccountNotFoundError):
            node.run_getter(key, "seqno", block=start)


async def test_getter_takes_and_gives_stacks_as_bags() -> None:
    async with Node() as node:
        alice = await node.apply(lambda chain: chain.actor("alice"))
        key = address_key(alice.address)
        bag = node.run_getter(key, "get_public_key").boc()
        # Values that were there before the arguments stay below the result.
        again = node.run_getter(key, "seqno", bag)
        assert again.values() == [int.from_bytes(alice.public_key, "big"), 0]


async def test_listener_that_fails_is_not_everybodys_problem(caplog: pytest.LogCaptureFixture) -> None:
    async with Node() as node:
        seen: list[MasterBlock] = []

        def fails(_: MasterBlock) -> None:
            raise RuntimeError("no")

        node.subscribe(fails)
        unsubscribe = node.subscribe(seen.append)
        await node.mine(2)
        unsubscribe()
        await node.mine()
        assert [block.seqno for block in seen] == [2, 3]
        assert "a listener of the sandbox failed" in caplog.text


async def test_waiter_is_woken_by_the_block_it_waits_for() -> None:
    async with Node() as node:
        waiting = asyncio.create_task(node.wait_seqno(3, 60))
        await node.mine()
        assert not waiting.done()
        await node.mine()
        assert (await waiting).seqno == 3
        assert (await node.wait_seqno(99, 0)).seqno == 3


async def test_block_time_gathers_what_was_sent() -> None:
    async with Node(block_time_s=3600) as node:
        alice, bob = [node.blockchain.actor(name) for name in ("alice", "bob")]
        await node.mine()
        hashes = {await node.send(external(alice)), await node.send(external(bob))}
        await node.send(external(alice))  # the same message again is the same message
        assert (node.head.seqno, node.waiting) == (2, 2)
        await node.mine()
        assert {each.in_msg.hash for each in node.head.shard_block.transactions} == hashes
        assert node.waiting == 0


async def test_message_that_fails_in_its_block_is_dropped_with_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with Node(block_time_s=3600) as node:
        alice = node.blockchain.actor("alice")
        await node.mine()
        first = alice.request([], seqno=0, valid_until=node.now + 60)
        second = alice.request([], seqno=0, valid_until=node.now + 61)
        await node.send(first.to_boc())
        await node.send(second.to_boc())  # both are fine by themselves
        await node.mine()
        assert len(node.head.shard_block.transactions) == 1
        assert f"{second.hash.hex()} was dropped" in caplog.text


async def test_sender_is_refused_at_once_when_its_message_cannot_work_or_too_many_wait() -> None:
    async with Node(block_time_s=3600, max_waiting=1) as node:
        alice, bob = [node.blockchain.actor(name) for name in ("alice", "bob")]
        await node.mine()
        with pytest.raises(ExternalRejectedError, match="not accepted"):
            await node.send(external(alice, seqno=9))
        await node.send(external(alice))
        with pytest.raises(ExternalRejectedError, match="was not taken"):
            await node.send(external(bob))


async def test_block_time_can_be_changed_on_the_way() -> None:
    async with Node(block_time_s=3600) as node:
        alice = node.blockchain.actor("alice")
        await node.mine()
        await node.send(external(alice))
        await node.set_block_time(None)
        assert node.waiting == 0
        before = node.head.seqno
        await node.send(external(alice, seqno=1))
        assert node.head.seqno == before + 1


async def test_messages_between_contracts_that_never_end_are_spread_over_blocks() -> None:
    blockchain = Blockchain(message_limit=3)
    async with Node(blockchain) as node:
        alice = await node.apply(lambda chain: chain.actor("alice"))
        # Five wallets in a row, each sending on: more messages than one block takes.
        await node.send(alice.request([_to(alice, 4)], seqno=0).to_boc())
        await turns(30)
        assert not node.blockchain.pending
        assert len(node.blockchain.transactions(alice.address)) > 1


def _to(actor: Actor, count: int) -> object:
    from cocoon_sdk.sandbox import Outgoing

    return Outgoing(actor.address, count)


async def test_nobody_can_use_a_node_that_does_not_run() -> None:
    node = Node()
    with pytest.raises(ChainUnavailableError):
        await node.mine()
    async with node:
        with pytest.raises(ConfigError, match="running already"):
            await node.__aenter__()
        waiting = asyncio.create_task(node.wait_seqno(5, 60))
        await turns()
    assert (await waiting).seqno == 1
    with pytest.raises(ChainUnavailableError):
        await node.send(b"")


async def test_node_takes_nothing_more_after_a_block_that_could_not_be_made() -> None:
    async with Node() as node:
        snapshot = node.blockchain.snapshot()
        node.blockchain.faucet(FAUCET, ONE)
        await turns()
        node.blockchain.restore(snapshot)  # behind the node's back
        node.blockchain.warp(1)
        await turns()
        with pytest.raises(SandboxError):
            await node.mine()
        with pytest.raises(SandboxError):
            await node.faucet(FAUCET, ONE)


@pytest.mark.parametrize("options", [{"block_time_s": 0.0}, {"block_time_s": 1e9}, {"idle_s": 0}])
def test_node_cannot_be_made_with_times_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Node(**options)  # type: ignore[arg-type]


async def test_nobody_can_mine_nothing_or_mint_nothing() -> None:
    async with Node() as node:
        with pytest.raises(ConfigError):
            await node.mine(0)
        with pytest.raises(ConfigError):
            await node.faucet(FAUCET, 0)
