"""An owner's money from the first deposit to the last withdrawal, and externals that do not go as hoped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import Chain, ChainHead, StackValue, TransactionRecord
from cocoon_sdk.client import AsyncCocoon, job_box_key
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.contracts.accounts import ExternalExpiredError
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainStaleError,
    ChainTimeoutError,
    ChainUnavailableError,
    ConfigError,
    InsufficientEscrowError,
)
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import (
    BadSignatureError,
    NoJobError,
    NoLockError,
    NotOwnerError,
    PendingError,
)
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.sdk import MODEL_NAME, Town, chat
from tests.helpers.suite import key_of


class TroubledChain:
    """A chain with an endpoint in between that loses, delays or forgets things on command."""

    def __init__(self, inner: Chain, blockchain: Blockchain, clock: ManualClock) -> None:
        self.inner, self.blockchain, self.clock = inner, blockchain, clock
        self.lose_messages = self.time_out_after_sending = self.lagging = False
        self.failures = 0
        self._kept: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def send(self, message: Cell) -> bytes:
        if self.lose_messages:
            return bytes(message.hash)
        done = await self.inner.send(message)
        if self.time_out_after_sending:
            raise ChainTimeoutError("no answer")
        return done

    async def wait_head(self, after_seqno: int, timeout_s: float) -> ChainHead:
        # Time passes only by waiting; nothing here takes real time.
        self.clock.advance(timeout_s)
        self.blockchain.warp(int(timeout_s) or 1)
        await asyncio.sleep(0)
        return await self.inner.head()

    async def head(self) -> ChainHead:
        if self.failures:
            self.failures -= 1
            raise ChainUnavailableError("the endpoint cannot be reached")
        return await self.inner.head()

    async def run_getter(
        self, address: Address, method: str | int, stack: Sequence[StackValue] = ()
    ) -> list[StackValue]:
        if method == "job" and self.lagging:
            return [None]
        return await self.inner.run_getter(address, method, stack)

    async def transactions(self, address: Address, **limits: Any) -> list[TransactionRecord]:
        return [] if self.lagging else await self.inner.transactions(address, **limits)


@pytest.fixture
async def town(blockchain: Blockchain, chain: Chain) -> AsyncIterator[Town]:
    made = Town(blockchain, chain)
    yield made
    await made.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(0)


@pytest.fixture
def troubled(town: Town, clock: ManualClock) -> TroubledChain:
    return TroubledChain(town.adapter, town.chain, clock)


async def test_owner_can_open_deposit_and_withdraw(town: Town) -> None:
    cocoon = town.cocoon()
    assert not await cocoon.escrow.is_open()
    with pytest.raises(AccountNotFoundError):
        await cocoon.escrow.balance()
    planned = await cocoon.escrow.open(Nano.ton(5), Nano.ton(1), dry_run=True)
    assert not planned.sent
    assert not await cocoon.escrow.is_open()
    opened = await cocoon.escrow.open(Nano.ton(5), Nano.ton(1))
    assert (opened.sent, opened.messages, opened.value) == (True, planned.messages, planned.value)
    balance = await cocoon.escrow.balance()
    assert Nano.ton(5) <= balance.free <= Nano.ton(5) + opened.gas
    assert (balance.bucket, balance.jobs, balance.rent) == (Nano.ton(1), 0, c.ESCROW_RENT)
    await cocoon.escrow.deposit(Nano.ton(2))
    assert (await cocoon.escrow.balance()).free >= Nano.ton(7)
    wallet = town.chain.actor("client")
    before = wallet.balance
    await cocoon.escrow.withdraw(Nano.ton(6))
    assert Nano.ton("5.9") < wallet.balance - before < Nano.ton(6)
    with pytest.raises(InsufficientEscrowError, match="are free"):
        await cocoon.escrow.withdraw(Nano.ton(6))


async def test_owner_can_do_dry_runs_that_change_nothing(town: Town) -> None:
    cocoon = await town.client()
    before = town.chain.seqno
    for receipt in (
        await cocoon.escrow.deposit(Nano.ton(1), dry_run=True),
        await cocoon.escrow.withdraw(Nano.ton(1), dry_run=True),
        await cocoon.escrow.set_key(key_of("new"), dry_run=True),
        await cocoon.escrow.set_limits(Nano.ton(1), dry_run=True),
        await cocoon.escrow.accept_code(bytes(32), dry_run=True),
    ):
        assert not receipt.sent
        assert receipt.value == sum(message.value for message in receipt.messages)
    assert town.chain.seqno == before


async def test_owner_cannot_open_twice_or_move_nothing(town: Town) -> None:
    cocoon = await town.client()
    with pytest.raises(ConfigError, match="open already"):
        await cocoon.escrow.open(Nano.ton(1), Nano.ton(1))
    for amount in (Nano(0), Nano(-1)):
        with pytest.raises(ConfigError, match="not an amount"):
            await cocoon.escrow.deposit(amount)


async def test_owner_can_go_on_where_an_interrupted_opening_stopped(town: Town) -> None:
    cocoon = town.cocoon()
    deployment = town.suite.network.escrow(town.chain.actor("client").address)
    town.chain.deploy(deployment.state_init, Nano.ton(1))
    assert not await cocoon.escrow.is_open()
    await cocoon.escrow.open(Nano.ton(5), Nano.ton(1))
    assert await cocoon.escrow.is_open()


async def test_hot_key_alone_cannot_move_the_owners_money(town: Town) -> None:
    await town.client()
    owner = town.chain.actor("client").address
    async with AsyncCocoon(town.adapter, town.suite.network, key_of("client"), owner=owner) as cocoon:
        assert await cocoon.escrow.is_open()
        with pytest.raises(ConfigError, match="the owner's business"):
            await cocoon.escrow.withdraw(Nano.ton(1))


async def test_owner_can_replace_the_hot_key_and_still_read_old_results(town: Town) -> None:
    worker, cocoon = town.worker(), await town.client()
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat())
    await cocoon.escrow.set_key(key_of("new"))
    await worker.answer(cocoon, job.id)
    assert (await job.result(timeout=30)).text == "Paris."
    with pytest.raises(BadSignatureError):
        await Escrow.at(town.adapter, cocoon.escrow.address).send_external(
            key_of("client"), signing.cancel_job(1)
        )


async def test_owner_can_learn_by_name_what_the_contract_refused(town: Town) -> None:
    cocoon = await town.client()
    escrow = Escrow.at(town.adapter, cocoon.escrow.address)
    stranger = town.cocoon("stranger")
    stranger.escrow._contract.address = escrow.address
    with pytest.raises(NotOwnerError):
        await stranger.escrow.set_limits(Nano.ton(1))


def test_job_keys_differ_by_everything_they_follow_from() -> None:
    key, escrow = key_of("client"), Address((0, bytes(32)))
    keys = {
        job_box_key(key, escrow, 1, 1).public_key,
        job_box_key(key, escrow, 1, 2).public_key,
        job_box_key(key, escrow, 2, 1).public_key,
        job_box_key(key, Address((0, b"\1" * 32)), 1, 1).public_key,
        job_box_key(key_of("other"), escrow, 1, 1).public_key,
    }
    assert len(keys) == 5
    assert job_box_key(key, escrow, 1, 1) == job_box_key(key, escrow, 1, 1)


# -- externals ---------------------------------------------------------------------------------------------


async def test_sender_can_learn_by_name_why_an_external_was_refused_or_skipped(town: Town) -> None:
    client = town.suite.client("client")
    escrow = Escrow.at(town.adapter, client.address)
    with pytest.raises(NoJobError):
        await escrow.send_external(client.key, signing.cancel_job(9))
    assert (await escrow.state()).seqno == 0
    with pytest.raises(NoJobError, match="skipped action 1"):
        await escrow.send_external(client.key, signing.cancel_job(9), signing.accept_result(9))
    assert (await escrow.state()).seqno == 1
    worker = town.suite.worker("worker")
    stake = WorkerStake.at(town.adapter, worker.address)
    spend = await stake.work_cost()
    job, _ = client.open(town.suite.open_terms())
    worker.claim(client, job)
    nowhere = replace(worker.target(client, job), lock=777)
    action = signing.submit_claimed(job, Nano(1), nowhere, bytes(32))
    with pytest.raises(NoLockError):
        await stake.send_external(worker.key, action, max_spend=spend)


async def test_sender_cannot_sign_for_an_account_that_is_pending(town: Town) -> None:
    deployment = town.suite.network.escrow(town.chain.actor("slow").address)
    town.chain.deploy(deployment.state_init, Nano.ton(1))
    with pytest.raises(PendingError):
        await Escrow.at(town.adapter, deployment.address).send_external(key_of("x"), signing.cancel_job(1))


async def test_sender_can_tell_what_became_of_an_external_when_the_endpoint_timed_out(
    town: Town, troubled: TroubledChain, clock: ManualClock
) -> None:
    client = town.suite.client("client")
    troubled.time_out_after_sending = True
    escrow = Escrow.at(troubled, client.address, clock=clock)
    job, _ = client.open(town.suite.open_terms())
    transaction = await escrow.send_external(client.key, signing.cancel_job(job))
    assert transaction.success
    assert client.job(job) is None


async def test_sender_can_tell_when_no_block_took_an_external(
    town: Town, troubled: TroubledChain, clock: ManualClock
) -> None:
    client = town.suite.client("client")
    troubled.lose_messages = True
    escrow = Escrow.at(troubled, client.address, clock=clock)
    with pytest.raises(ExternalExpiredError):
        await escrow.send_external(client.key, signing.cancel_job(1))
    with pytest.raises(ChainTimeoutError, match="look at the account"):
        await escrow.send_external(client.key, signing.cancel_job(1), wait_s=15)


# -- endpoints that fail or lag while a job is watched -----------------------------------------------------


async def test_client_can_outlast_an_endpoint_that_fails_for_a_while(
    town: Town, troubled: TroubledChain, clock: ManualClock
) -> None:
    worker, cocoon = town.worker(), await town.client(chain=troubled, clock=clock)
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat())
    await worker.answer(cocoon, job.id)
    troubled.failures = 5
    assert (await job.result(timeout=600)).text == "Paris."


async def test_client_cannot_wait_for_ever_on_an_endpoint_that_is_down(
    town: Town, troubled: TroubledChain, clock: ManualClock
) -> None:
    town.worker()
    cocoon = await town.client(chain=troubled, clock=clock)
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat())
    troubled.failures = 10_000
    with pytest.raises(ChainUnavailableError):
        await job.wait(timeout=20)
    with pytest.raises(ChainUnavailableError):
        await job.wait()


async def test_client_cannot_take_a_lagging_endpoint_for_a_job_that_never_was(
    town: Town, troubled: TroubledChain, clock: ManualClock
) -> None:
    town.worker()
    cocoon = await town.client(chain=troubled, clock=clock)
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat())
    troubled.lagging = True
    with pytest.raises(ChainStaleError, match="lags"):
        await job.status()
    with pytest.raises(NoJobError, match="never opened"):
        await cocoon.jobs.get(job.id).status()
    troubled.lagging = False
    assert (await job.status()).state is JobState.OFFERED
