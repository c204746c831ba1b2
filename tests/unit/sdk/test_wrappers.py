"""Owners' messages as the wrappers build them, tried on the contracts."""

from __future__ import annotations

import pytest

from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.market import Market
from cocoon_sdk.contracts.registry import Registry, model_entry
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.signing import account_id
from cocoon_sdk.sandbox import Actor, Blockchain, SandboxChain, Transaction
from cocoon_sdk.types import Nano
from tests.helpers.suite import Suite, hash_of, key_of


def send(actor: Actor, message: OwnerMessage) -> list[Transaction]:
    return actor.send_many([message])  # type: ignore[list-item]


@pytest.fixture
def suite(blockchain: Blockchain) -> Suite:
    return Suite(blockchain)


@pytest.fixture
def chain(suite: Suite) -> SandboxChain:
    return SandboxChain(suite.chain)


async def test_worker_owner_can_run_a_stake_through_the_wrapper(suite: Suite, chain: SandboxChain) -> None:
    owner = suite.chain.actor("owner")
    stake = WorkerStake.from_owner(chain, suite.network, owner.address)
    key = key_of("operator")
    limits = {"max_locked": Nano.ton(50), "daily_lock": Nano.ton(60)}
    send(owner, stake.configure(key.verify_key, info_hash=hash_of("info"), value=Nano.ton(2), **limits))
    send(owner, stake.add_stake(Nano.ton(20)))
    send(owner, stake.add_gas(Nano.ton(3)))
    view = await stake.state()
    assert (view.active, view.stake, view.max_locked) == (True, Nano.ton(20), Nano.ton(50))
    assert view.info_hash.to_bytes(32, "big") == hash_of("info")
    assert view.gas > Nano.ton(4)
    send(owner, stake.set_limits(Nano.ton(7), Nano.ton(8)))
    send(owner, stake.set_key(key_of("next").verify_key))
    send(owner, stake.unbond(Nano.ton(5)))
    view = await stake.state()
    assert (view.max_locked, view.daily_lock, view.unbonding) == (Nano.ton(7), Nano.ton(8), Nano.ton(5))
    assert view.operator_key == key_of("next").verify_key.to_int()
    early = send(owner, stake.complete_unbond())
    assert early[1].exit_code == ExitCode.NOT_UNBONDED
    suite.chain.warp(suite.parameters.unbond_delay_s)
    send(owner, stake.complete_unbond())
    assert (await stake.state()).stake == Nano.ton(15)
    send(owner, stake.withdraw_gas(Nano.ton(1)))
    assert send(owner, stake.withdraw_earned(Nano.ton(1)))[1].exit_code == ExitCode.INSUFFICIENT_FREE
    assert send(owner, stake.release_expired(1))[1].exit_code == ExitCode.NO_LOCK
    assert send(owner, stake.accept_code(hash_of("code")))[1].exit_code == ExitCode.UNLISTED_CODE
    assert send(owner, stake.sync_params())[1].success
    assert await stake.locks() == {}
    assert await stake.lock(1) is None
    assert await stake.work_cost() > 0
    assert await stake.external_cost(8) > await stake.external_cost(1)


async def test_reader_can_see_the_locks_of_a_stake(suite: Suite, chain: SandboxChain) -> None:
    client, worker = suite.client("client"), suite.worker("worker")
    for _ in range(2):
        job, _ = client.open(suite.directed_terms(worker))
        worker.submit(client, job, 1)
    stake = WorkerStake.at(chain, worker.address)
    locks = await stake.locks()
    (number,) = locks
    lock = locks[number]
    assert (lock.number, lock.slot, number > 0xFF) == (number, 1, True)
    assert (lock.escrow, lock.collateral) == (account_id(client.address), (await stake.state()).locked)
    assert lock == await stake.lock(number)
    assert await stake.lock(number + 512) is None


async def test_anyone_can_finalize_reclaim_and_deliver_through_the_wrapper(
    suite: Suite, chain: SandboxChain
) -> None:
    client, worker = suite.client("client"), suite.worker("worker")
    escrow, anyone = Escrow.at(chain, client.address), suite.governor
    for message in (escrow.finalize(9), escrow.reclaim_late(9)):
        assert send(anyone, message)[1].exit_code == ExitCode.NO_JOB
    assert send(anyone, escrow.deliver(9, 0))[1].exit_code == ExitCode.NO_TOMBSTONE
    assert send(client.owner, escrow.cancel_job(9))[1].exit_code == ExitCode.NO_JOB
    job, _ = client.open(suite.directed_terms(worker))
    worker.submit(client, job, Nano.ton("0.5"))
    assert await escrow.jobs() == (job,)
    suite.chain.warp(3600)
    assert send(anyone, escrow.finalize(job))[1].success
    assert await escrow.jobs() == ()
    assert await escrow.tombstone(job, 0) is None


async def test_governor_can_run_the_registry_through_the_wrapper(suite: Suite, chain: SandboxChain) -> None:
    governor, heir = suite.governor, suite.chain.actor("heir")
    registry = Registry.at(chain, suite.network.registry)
    send(governor, registry.propose_model(hash_of("m"), model_entry("Name", hash_of("c"), Nano.ton("0.1"))))
    assert (await registry.proposal()) is not None
    send(governor, registry.cancel_proposal())
    assert (await registry.proposal()) is None
    send(governor, registry.propose_params(suite.params_cell))
    suite.chain.warp(suite.parameters.timelock_s)
    send(heir, registry.execute())
    assert (await registry.params()).version == 2
    send(governor, registry.transfer_ownership(heir.address))
    send(heir, registry.accept_ownership())
    assert await registry.owner() == heir.address
    assert send(heir, registry.withdraw_treasury(Nano.ton("0.1"), heir.address))[1].success
    assert (
        send(governor, registry.withdraw_treasury(Nano(1), heir.address))[1].exit_code == ExitCode.NOT_OWNER
    )


async def test_anyone_can_sweep_a_market_through_the_wrapper(suite: Suite, chain: SandboxChain) -> None:
    params = await Registry.at(chain, suite.network.registry).params()
    market = Market.of(chain, suite.network, params, suite.model_id)
    assert market.address == suite.market
    assert await market.model_id() == suite.model_id
    done = send(suite.governor, market.sweep())
    assert done[-1].success or done[1].success


def test_nobody_can_register_a_name_that_is_too_long() -> None:
    with pytest.raises(MalformedError, match="too long"):
        model_entry("x" * 128, bytes(32), Nano(1))
