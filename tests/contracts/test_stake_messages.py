"""Every message of a worker's stake, from the wrong sender, at the wrong time, in the wrong shape."""

from __future__ import annotations

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.abi_runtime import Message
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.test_escrow_messages import named
from tests.contracts.weak_keys import WEAK_KEYS
from tests.helpers.audit import (
    World,
    at,
    denied,
    gas_fee,
    locks,
    refused,
    truncated,
)
from tests.helpers.suite import GAS, Client, Worker, key_of

KEY = key_of("new").verify_key.to_int()
DAY = 86_400
OWNERS_MESSAGES: list[Message] = [
    m.ConfigureStake(query_id=0, operator_key=KEY, info_hash=0, max_locked=Nano(1), daily_lock=Nano(1)),
    m.SetKey(query_id=0, key=KEY),
    m.SetStakeLimits(query_id=0, max_locked=Nano(1), daily_lock=Nano(1)),
    m.AcceptCode(query_id=0, code_hash=1),
    m.AddStake(query_id=0, amount=Nano(1)),
    m.Unbond(query_id=0, amount=Nano(1)),
    m.CompleteUnbond(query_id=0),
    m.WithdrawBucket(query_id=0, bucket=0, amount=Nano(1)),
    m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(1)),
]


@pytest.mark.parametrize("body", OWNERS_MESSAGES, ids=named)
def test_stranger_cannot_use_the_owners_messages(
    world: World, worker: Worker, stranger: Actor, body: Message
) -> None:
    refused(
        world.chain,
        worker.address,
        lambda: stranger.send(worker.address, GAS, body.to_cell()),
        ExitCode.NOT_OWNER,
    )
    twin = Address((-1, worker.owner.address.hash_part))
    refused(
        world.chain,
        worker.address,
        lambda: world.chain.send_internal(worker.address, GAS, body.to_cell(), src=twin),
        ExitCode.NOT_OWNER,
    )


@pytest.mark.parametrize("body", OWNERS_MESSAGES, ids=named)
def test_owner_gets_a_truncated_message_back(world: World, worker: Worker, body: Message) -> None:
    whole = body.to_cell()
    for drop in (1, len(whole.bits) - 32):
        cut = truncated(whole, drop)
        refused(
            world.chain,
            worker.address,
            lambda cut=cut: worker.owner.send(worker.address, GAS, cut),
            # A query id that nobody uses is not even read.
            ExitCode.NOT_UNBONDED if isinstance(body, m.CompleteUnbond) else ExitCode.CELL_UNDERFLOW,
        )


def test_stranger_cannot_update_parameters(world: World, worker: Worker, stranger: Actor) -> None:
    body = m.ParamsUpdate(query_id=0, params=world.suite.params_cell).to_cell()
    refused(
        world.chain, worker.address, lambda: stranger.send(worker.address, GAS, body), ExitCode.NOT_REGISTRY
    )


@pytest.mark.parametrize("key", WEAK_KEYS, ids=hex)
def test_owner_cannot_set_a_weak_operator_key(world: World, worker: Worker, key: int) -> None:
    for body in (
        m.SetKey(query_id=0, key=key),
        m.ConfigureStake(query_id=0, operator_key=key, info_hash=0, max_locked=Nano(1), daily_lock=Nano(1)),
    ):
        refused(world.chain, worker.address, lambda body=body: worker.from_owner(body), ExitCode.WEAK_KEY)


@pytest.mark.parametrize(
    "body",
    [
        begin_cell().store_uint(0xDEADBEEF, 32).end_cell(),
        begin_cell().store_uint(0xFFFFFFFF, 32).store_uint(1, 256).end_cell(),
        begin_cell().store_uint(0, 32).store_bytes(b"hello").end_cell(),
        m.Submit(id=1, amount=Nano(1), collateral=0, lock=0, result_hash=0, binding=0).to_cell(),
        m.Finalize(id=1).to_cell(),
    ],
)
def test_stranger_gets_junk_back(world: World, worker: Worker, stranger: Actor, body: Cell) -> None:
    refused(
        world.chain,
        worker.address,
        lambda: stranger.send(worker.address, GAS, body),
        ExitCode.UNKNOWN_MESSAGE,
    )


# -- the owner's money ---------------------------------------------------------------------------------


def test_owner_cannot_add_stake_that_it_does_not_bring(world: World, worker: Worker) -> None:
    for amount, value in ((0, GAS), (GAS, GAS), (Nano.ton(1), Nano.ton(1) + gas_fee(c.GAS_OWNER) - 1)):
        body = m.AddStake(query_id=0, amount=Nano(amount))
        refused(
            world.chain,
            worker.address,
            lambda body=body, value=value: worker.from_owner(body, value),
            ExitCode.LOW_VALUE,
        )
    before = worker.get_state().stake
    worker.from_owner(m.AddStake(query_id=0, amount=Nano.ton(1)), Nano.ton(1) + gas_fee(c.GAS_OWNER))
    assert worker.get_state().stake == before + Nano.ton(1)


def test_owner_can_unbond_only_after_the_delay(world: World, worker: Worker) -> None:
    amount = Nano.ton(30)
    refused(
        world.chain,
        worker.address,
        lambda: worker.from_owner(m.CompleteUnbond(query_id=0)),
        ExitCode.NOT_UNBONDED,
    )
    for wrong in (0, Nano.ton(100) + 1):
        refused(
            world.chain,
            worker.address,
            lambda wrong=wrong: worker.from_owner(m.Unbond(query_id=0, amount=Nano(wrong))),
            ExitCode.INSUFFICIENT_STAKE,
        )
    worker.from_owner(m.Unbond(query_id=0, amount=amount))
    state = worker.get_state()
    assert (state.stake, state.unbonding, state.lockable) == (Nano.ton(100), amount, Nano.ton(70))
    assert state.unbonds_at == world.chain.now + 3 * DAY
    refused(
        world.chain,
        worker.address,
        lambda: worker.from_owner(m.Unbond(query_id=0, amount=Nano(1))),
        ExitCode.UNBONDING,
    )
    world.chain.set_now(state.unbonds_at - 1)
    refused(
        world.chain,
        worker.address,
        lambda: worker.from_owner(m.CompleteUnbond(query_id=0)),
        ExitCode.NOT_UNBONDED,
    )
    world.chain.warp(1)
    wallet, before = worker.owner.balance, worker.balance
    transactions = worker.from_owner(m.CompleteUnbond(query_id=0))
    (arrival,) = at(transactions, worker.address)
    assert worker.get_state().stake == Nano.ton(70)
    assert before - worker.balance == amount + arrival.storage_fee
    fees = sum(int(t.cost - t.storage_fee) for t in transactions)
    storage = sum(int(t.storage_fee) for t in at(transactions, worker.owner.address))
    assert worker.owner.balance - wallet == amount - fees - storage
    refused(
        world.chain,
        worker.address,
        lambda: worker.from_owner(m.CompleteUnbond(query_id=0)),
        ExitCode.NOT_UNBONDED,
    )


def test_unbonding_stake_cannot_be_locked_and_locked_stake_cannot_be_unbonded(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.from_owner(m.Unbond(query_id=0, amount=Nano.ton("96.000000001")))
    denied(worker, lambda: worker.submit(client, number, Nano.ton(1)), ExitCode.INSUFFICIENT_STAKE)
    assert len(locks(worker)) == 0
    world.chain.warp(3 * DAY)
    worker.from_owner(m.CompleteUnbond(query_id=0))
    worker.from_owner(m.AddStake(query_id=0, amount=Nano.ton(1)), Nano.ton(2))
    second, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, second, Nano.ton(1))
    state = worker.get_state()
    assert state.locked == Nano.ton(4)
    body = m.Unbond(query_id=0, amount=Nano(state.stake - state.locked + 1))
    refused(world.chain, worker.address, lambda: worker.from_owner(body), ExitCode.INSUFFICIENT_STAKE)
    worker.from_owner(m.Unbond(query_id=0, amount=Nano(state.stake - state.locked)))
    assert worker.get_state().lockable == 0


@pytest.mark.parametrize("bucket", [2, 3, 255])
def test_owner_cannot_withdraw_from_an_unknown_bucket(world: World, worker: Worker, bucket: int) -> None:
    body = m.WithdrawBucket(query_id=0, bucket=bucket, amount=Nano(1))
    refused(world.chain, worker.address, lambda: worker.from_owner(body), ExitCode.BAD_BUCKET)


def test_owner_can_withdraw_all_spare_gas_and_not_one_nanoton_more(world: World, worker: Worker) -> None:
    gas = worker.get_state().gas
    for amount in (0, gas + 1, 2**100):
        body = m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(amount))
        refused(
            world.chain, worker.address, lambda body=body: worker.from_owner(body), ExitCode.INSUFFICIENT_FREE
        )
    before = worker.balance
    worker.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(gas)))
    assert before - worker.balance == gas
    state = worker.get_state()
    assert (state.gas, state.stake) == (0, Nano.ton(100))


def test_owner_can_withdraw_what_was_earned_and_the_registry_gets_its_fee(
    world: World, client: Client, worker: Worker
) -> None:

    number, _ = client.open(world.suite.directed_terms(worker, price=Nano.ton(2)))
    signature = worker.sign_result(client, number, Nano.ton(2))
    from tests.helpers.suite import hash_of

    client.act(signing.accept_signed(number, Nano.ton(2), hash_of("result"), signature))
    state = worker.get_state()
    assert (state.earned, state.fee_due) == (Nano.ton("1.98"), Nano.ton("0.02"))
    too_much = m.WithdrawBucket(query_id=0, bucket=0, amount=Nano(state.earned + 1))
    refused(world.chain, worker.address, lambda: worker.from_owner(too_much), ExitCode.INSUFFICIENT_FREE)
    registry = world.chain.balance(world.suite.network.registry)
    before = worker.balance
    transactions = worker.from_owner(m.WithdrawBucket(query_id=0, bucket=0, amount=Nano(state.earned)))
    after = worker.get_state()
    assert (after.earned, after.fee_due, after.stake) == (0, 0, state.stake)
    assert before - worker.balance == Nano.ton(2)
    (fee,) = at(transactions, world.suite.network.registry)
    assert m.ProtocolFee.from_cell(fee.in_msg.body) == m.ProtocolFee(amount=Nano.ton("0.02"))
    assert fee.in_msg.value > Nano.ton("0.019")
    assert world.chain.balance(world.suite.network.registry) == registry + fee.in_msg.value - fee.total_fees


def test_small_fees_wait_in_the_stake(world: World, client: Client, worker: Worker) -> None:
    from tests.helpers.suite import hash_of

    number, _ = client.open(world.suite.directed_terms(worker, price=Nano.ton("0.5")))
    signature = worker.sign_result(client, number, Nano.ton("0.5"))
    client.act(signing.accept_signed(number, Nano.ton("0.5"), hash_of("result"), signature))
    worker.from_owner(m.WithdrawBucket(query_id=0, bucket=0, amount=Nano.ton("0.4")))
    state = worker.get_state()
    assert (state.earned, state.fee_due) == (Nano.ton("0.095"), Nano.ton("0.005"))
