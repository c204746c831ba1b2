"""`SandboxChain` is a `Chain`, and wakes waiters without polling."""

from __future__ import annotations

import asyncio

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.base import AccountStatus, Chain
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainUnavailableError,
    ExternalRejectedError,
    GetterError,
)
from cocoon_sdk.sandbox import Blockchain, Outgoing, SandboxChain
from cocoon_sdk.types import Nano

TON = Nano.ton(1)
NOBODY = Address((0, b"\x44" * 32))


async def test_chain_can_be_used_through_the_protocol(
    blockchain: Blockchain, sandbox_chain: SandboxChain
) -> None:
    chain: Chain = sandbox_chain
    assert isinstance(sandbox_chain, Chain)
    alice, bob = blockchain.actor("alice"), blockchain.actor("bob")
    head = await chain.head()
    assert (head.seqno, head.now) == (blockchain.seqno, blockchain.now)
    request = alice.request([Outgoing(bob.address, TON)])
    assert await chain.send(request) == request.hash
    assert (await chain.head()).seqno == head.seqno + 1
    assert await chain.run_getter(alice.address, "seqno") == [1]
    state = await chain.account(alice.address)
    assert (state.status, state.balance) == (AccountStatus.ACTIVE, alice.balance)
    [newest, *_] = await chain.transactions(bob.address)
    assert newest.cell == blockchain.transactions(bob.address)[0].cell
    assert await chain.transactions(bob.address, after_lt=newest.lt) == []
    assert await chain.transactions(bob.address, limit=1) == [newest]
    assert await chain.global_id() == -239
    gas = await chain.config_param(21)
    assert isinstance(gas, Cell)
    assert await chain.config_param(77) is None


async def test_chain_gives_the_agreed_errors(blockchain: Blockchain, sandbox_chain: SandboxChain) -> None:
    alice = blockchain.actor("alice")
    request = alice.request([Outgoing(NOBODY, TON, bounce=False)])
    await sandbox_chain.send(request)
    with pytest.raises(ExternalRejectedError):
        await sandbox_chain.send(request)
    with pytest.raises(GetterError) as caught:
        await sandbox_chain.run_getter(alice.address, "no_such_method")
    assert caught.value.exit_code == 11
    with pytest.raises(AccountNotFoundError):
        await sandbox_chain.run_getter(NOBODY, "seqno")


async def test_waiter_can_wake_when_a_block_comes(
    blockchain: Blockchain, sandbox_chain: SandboxChain
) -> None:
    start = blockchain.seqno
    waiters = [asyncio.create_task(sandbox_chain.wait_head(start, timeout_s=60)) for _ in range(3)]
    later = asyncio.create_task(sandbox_chain.wait_head(start + 1, timeout_s=60))
    await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters)
    blockchain.faucet(NOBODY, TON)
    assert [head.seqno for head in await asyncio.gather(*waiters)] == [start + 1] * 3
    assert not later.done()
    blockchain.warp(30)
    head = await later
    assert (head.seqno, head.now) == (start + 2, blockchain.now)


async def test_waiter_returns_at_once_when_the_block_is_there(sandbox_chain: SandboxChain) -> None:
    head = await sandbox_chain.head()
    assert await sandbox_chain.wait_head(head.seqno - 1, timeout_s=60) == head


async def test_waiter_returns_the_newest_block_when_time_is_over(sandbox_chain: SandboxChain) -> None:
    head = await sandbox_chain.head()
    assert await sandbox_chain.wait_head(head.seqno, timeout_s=0) == head
    assert await sandbox_chain.wait_head(head.seqno, timeout_s=0.001) == head


async def test_waiter_fails_when_the_chain_is_closed(
    blockchain: Blockchain, sandbox_chain: SandboxChain
) -> None:
    waiter = asyncio.create_task(sandbox_chain.wait_head(blockchain.seqno, timeout_s=60))
    await asyncio.sleep(0)
    await sandbox_chain.close()
    with pytest.raises(ChainUnavailableError):
        await waiter
    with pytest.raises(ChainUnavailableError):
        await sandbox_chain.head()
    blockchain.warp(1)


async def test_anybody_can_get_money_from_the_faucet(
    blockchain: Blockchain, sandbox_chain: SandboxChain
) -> None:
    message_hash = await sandbox_chain.faucet(NOBODY, TON)
    assert blockchain.balance(NOBODY) == TON
    assert blockchain.transactions(NOBODY)[0].in_msg.hash == message_hash


async def test_messages_that_are_no_externals_are_refused(sandbox_chain: SandboxChain) -> None:
    with pytest.raises(ExternalRejectedError):
        await sandbox_chain.send(begin_cell().store_uint(3, 2).store_uint(0, 200).end_cell())
