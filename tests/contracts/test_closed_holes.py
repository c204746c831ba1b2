"""Holes that were found by attacking the contracts, each with its smallest reproduction; all closed."""

from __future__ import annotations

import dataclasses

import pytest
from pytoniq_core import HashMap, begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.signing import Action
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.test_parameters import TIMELOCK, changed, govern, propose, sync
from tests.contracts.test_undelivered import reward_to_nobody
from tests.contracts.weak_keys import WEAK_KEYS
from tests.helpers.audit import (
    TOMBSTONE_REWARD,
    World,
    denied,
    extended,
    open_with,
    refused,
    tombstones,
    tree,
    truncated,
)
from tests.helpers.suite import GAS, Client, Worker


def test_hot_key_thief_cannot_burn_free_funds_with_an_empty_bucket(
    world: World, client: Client, worker: Worker
) -> None:
    """A due step needs no bucket, and whatever hangs behind it is carried and paid for: up to 0.3 TON a step.

    The import fee of a large external is charged to the account and never to the bucket.
    """
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(0), allowed=None))
    before = client.balance
    bits = signing.dispute_result(number).bits
    for junk in (Action(extended(bits, "1" * 8), (tree(4000),)), Action(bits, (tree(4000),))):
        for _ in range(10):
            try:
                client.act(junk)
            except ExternalRejectedError:
                break
    assert before - client.balance < Nano.ton("0.1")


def test_bucket_is_charged_for_all_that_an_external_costs(
    world: World, client: Client, worker: Worker
) -> None:
    """What a hot key makes the account pay has to leave the bucket, import fees included."""
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano.ton(10), allowed=None))
    level, balance = client.get_state().bucket, client.balance
    junk = Action(signing.accept_result(9).bits, (tree(3000),))
    try:
        client.act(signing.accept_result(8), junk)
    except ExternalRejectedError:
        return
    assert level - client.get_state().bucket >= balance - client.balance


@pytest.mark.parametrize("kind", ["escrow", "stake"])
def test_rent_reserve_lasts_a_year_for_an_idle_account(world: World, kind: str) -> None:
    """docs/protocol.md 6.6: one year's rent in reserve."""
    account = world.client() if kind == "escrow" else world.worker()
    reserve = c.ESCROW_RENT if kind == "escrow" else c.STAKE_RENT
    world.chain.warp(365 * 86_400)
    (_, arrival, *_) = account.owner.send(account.address, Nano.ton("0.1"))
    assert arrival.storage_fee <= reserve


def test_owner_cannot_accept_the_empty_code(world: World, client: Client, worker: Worker) -> None:
    """A fresh network lists no previous code as hash 0; opting in to it shuts out every real account."""
    for account in (client, worker):
        body = m.AcceptCode(query_id=0, code_hash=0)
        refused(
            world.chain,
            account.address,
            lambda account=account, body=body: account.from_owner(body),
            ExitCode.UNLISTED_CODE,
        )


def test_client_cannot_underpay_with_a_weak_operator_key_of_its_own_choice(
    world: World, client: Client, worker: Worker
) -> None:
    """A weak key in JobWorker is the client's own statement: workers refuse an offer that names another key
    than theirs, and a claim replaces it by the end of the stake's key, which no weak key shares."""
    named = m.JobWorker(operator_key=WEAK_KEYS[1], account=signing.account_id(worker.address))
    number, _ = client.open(world.suite.open_terms(worker=named.to_cell()))
    worker.claim(client, number)
    job = client.job(number)
    assert job is not None
    assert job.key_or_result == signing.key_tag(worker.claim_key)
    for weak in WEAK_KEYS:
        action = signing.accept_signed(number, Nano(1), bytes(32), bytes(64), weak)
        denied(client, lambda action=action: client.act(action), ExitCode.BAD_SIGNATURE)


def test_oversized_payload_in_a_batch_is_refused_by_name(
    world: World, client: Client, worker: Worker
) -> None:
    """Alone it opens its job and takes out of the bucket what any external can cost; in a batch it is
    refused.
    """
    terms = world.suite.directed_terms(worker).to_cell()
    actions = (signing.open_job(1, terms, tree(100)), signing.open_job(2, terms))
    denied(client, lambda: client.act(*actions, max_spend=Nano.ton(4)), ExitCode.INLINE_TOO_LARGE)
    assert client.get_state().jobs == 0


def test_malformed_terms_are_refused(world: World, client: Client, worker: Worker) -> None:
    """Before the acceptance, with the TVM's own code 9: a name would cost every job 130 gas."""
    for op, terms in (
        (c.ACTION_OPEN_JOB, world.suite.directed_terms(worker)),
        (c.ACTION_OPEN_INSTANT, world.suite.directed_terms(worker, window=0)),
        (c.ACTION_POST_JOB, world.suite.open_terms()),
    ):
        for wrong in (extended(terms.to_cell()), truncated(terms.to_cell())):
            action = open_with(1, wrong, op=op)
            denied(client, lambda action=action: client.act(action), ExitCode.CELL_UNDERFLOW)


def test_failed_delivery_does_not_postpone_the_end_of_a_tombstone(
    world: World, client: Client, stranger: Actor
) -> None:
    """Each bounce writes a fresh expiry: whoever delivers once a month keeps the reward bouncing for ever."""
    number, _ = reward_to_nobody(world, client)
    expires = tombstones(client)[number, TOMBSTONE_REWARD].expires
    world.chain.warp(86_400)
    stranger.send(client.address, GAS, m.Deliver(id=number, kind=TOMBSTONE_REWARD).to_cell())
    assert tombstones(client)[number, TOMBSTONE_REWARD].expires == expires


def test_governance_cannot_propose_parameters_that_no_account_can_receive(world: World) -> None:
    """The dictionary of arbiters is read only up to `count`: anything of any size may hang beside it.

    The registry then cannot send its own parameters (action phase, code 40): nobody becomes active any more.
    """
    params = m.Params.from_cell(world.suite.parameters.to_cell())
    rules = m.ParamsRules.from_cell(params.rules)
    arbiters = m.Arbiters.from_cell(rules.arbiters)
    table = HashMap.parse(arbiters.members.begin_parse(), 8)
    junk = begin_cell().store_ref(tree(3000)).end_cell()
    members = HashMap(
        8,
        map_={**{key: leaf.to_cell() for key, leaf in table.items()}, 200: junk},
        value_serializer=lambda source, builder: builder.store_cell(source),
    ).serialize()
    bloated = dataclasses.replace(arbiters, members=members).to_cell()
    content = dataclasses.replace(params, rules=dataclasses.replace(rules, arbiters=bloated).to_cell())
    registry = world.suite.network.registry
    body = m.Propose(query_id=0, kind=0, model_id=0, content=content.to_cell())
    refused(
        world.chain,
        registry,
        lambda: world.suite.governor.send(registry, Nano.ton(5), body.to_cell()),
        ExitCode.PARAMS_OUT_OF_BOUNDS,
    )


def test_nobody_can_void_claimed_work_by_syncing_the_stake(
    world: World, client: Client, worker: Worker
) -> None:
    """Anybody may sync a stake. A claim bound job and parameters before, so its submission still counts;

    a submission without a claim binds the new parameters and is answered `Gone` (docs/protocol.md 3).
    """
    govern(world, propose(world, changed(world, fee_bps=200).to_cell()))
    world.chain.warp(TIMELOCK)
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.claim(client, number)
    govern(world, m.Execute(query_id=0))
    sync(world, worker)
    worker.submit_claimed(client, number, Nano.ton(1))
    job = client.job(number)
    assert job is not None
    assert job.status == 2


def test_client_can_inline_8_kib_in_one_action(world: World, client: Client, worker: Worker) -> None:
    """Counting 66 cells takes more than the gas credit: it happens after the acceptance."""
    data = begin_cell().end_cell()
    for index in range(c.MAX_INLINE_CELLS - 1):
        data = begin_cell().store_uint(index, 32).store_bytes(b"\x55" * 120).store_ref(data).end_cell()
    number, transactions = client.open(world.suite.directed_terms(worker), data=data)
    assert transactions[0].success
    assert client.job(number) is not None


def test_oversized_inline_payload_costs_the_bucket_what_it_can_cost_the_account(
    world: World, client: Client, worker: Worker
) -> None:
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano.ton(2), allowed=None))
    level, balance = client.get_state().bucket, client.balance
    number, _ = client.open(world.suite.directed_terms(worker, price=Nano.ton("0.1")), data=tree(3000))
    spent = (balance - client.balance) + client.get_state().reserved
    assert client.job(number) is not None
    assert level - client.get_state().bucket >= spent
