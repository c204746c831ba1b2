"""Holes that would have cost honest people money, each with its smallest reproduction; all closed."""

from __future__ import annotations

import dataclasses

import pytest
from bitarray import bitarray
from pytoniq_core import Cell, begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.getters import WorkerStakeGetters
from cocoon_sdk.protocol.signing import Action
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import IDLE
from tests.contracts.test_full_tables import fill, submit_all
from tests.helpers.audit import (
    World,
    check_escrow,
    denied,
    extended,
    locks,
    numbered,
    open_with,
    skips,
    tombstones,
    tree,
    truncated,
)
from tests.helpers.suite import GAS, Client, Worker, as_int, hash_of, key_of
from tests.unit.sandbox.contracts import contract

BURNS_ITS_VALUE = "0 EQINT 44 THROWIFNOT DUP SEMPTY IFRET AGAIN:<{ }>"
"""A contract that is no stake: it takes deposits and spins on all else until its gas is gone."""


def signed_body(account: Client | Worker, *actions: Action, max_spend: int = 0) -> Cell:
    return signing.external_body(
        account.key,
        account.purpose,
        account.domain(),
        seqno=account.get_state().seqno,
        valid_until=account.suite.chain.now + 60,
        actions=actions,
        max_spend=Nano(max_spend),
    )


def reshaped(body: Cell) -> Cell:
    """Write the hash of the first reference behind the bits and drop that reference: no key is needed."""
    builder = begin_cell().store_bits(body.begin_parse().load_bits(len(body.bits)))
    builder.store_bytes(body.refs[0].hash)
    for ref in body.refs[1:]:
        builder.store_ref(ref)
    return builder.end_cell()


def test_stranger_cannot_change_the_result_of_a_signed_submission(
    world: World, client: Client, worker: Worker
) -> None:
    """CRITICAL. bits | hashes of references has no boundary: a reference's hash may move into the bits.

    The signature stays good, the inline data becomes the first reference, and its first 256 bits become the
    result hash. Whoever sees the worker's external first makes it submit a wrong result: disputed, slashed.
    """
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    data = begin_cell().store_bytes(b"\x66" * 100).end_cell()
    target = worker.target(client, number)
    body = signed_body(worker, signing.submit_claimed(number, Nano.ton(1), target, hash_of("result"), data))
    with pytest.raises(ExternalRejectedError):
        world.chain.send_external(signing.external_message(worker.address, reshaped(body)))
    world.chain.send_external(signing.external_message(worker.address, body))
    job = client.job(number)
    assert job is not None
    assert job.key_or_result == as_int(hash_of("result"))


def test_stranger_cannot_kill_a_signed_batch(world: World, client: Client, worker: Worker) -> None:
    """CRITICAL, the same cause: the batch without its link is accepted, skipped, and empties the bucket."""
    terms = world.suite.directed_terms(worker).to_cell()
    actions = [signing.open_job(1, terms), signing.open_job(2, terms)]
    body = signed_body(client, *actions, max_spend=Nano.ton(5))
    with pytest.raises(ExternalRejectedError):
        world.chain.send_external(signing.external_message(client.address, reshaped(body)))
    done = world.chain.send_external(signing.external_message(client.address, body))
    assert skips(done, client.address) == []
    assert client.get_state().jobs == 2


@pytest.mark.parametrize("who", ["open", "submit", "announce", "accept signed"])
def test_no_signed_external_can_be_reshaped(world: World, client: Client, worker: Worker, who: str) -> None:
    data = begin_cell().store_bytes(b"\x00" * 120).end_cell()
    number, _ = client.open(world.suite.directed_terms(worker))
    target = worker.target(client, number)
    signature = worker.sign_result(client, number, 1)
    cases: dict[str, tuple[Client | Worker, Action]] = {
        "open": (client, signing.open_job(2, world.suite.directed_terms(worker).to_cell(), data)),
        "submit": (worker, signing.submit(number, Nano.ton(1), target, hash_of("result"), data)),
        "announce": (worker, signing.announce(world.suite.model_id, hash_of("info"), data)),
        "accept signed": (client, signing.accept_signed(number, Nano(1), hash_of("result"), signature)),
    }
    account, action = cases[who]
    body = signed_body(account, action, max_spend=Nano.ton(2))
    with pytest.raises(ExternalRejectedError):
        world.chain.send_external(signing.external_message(account.address, reshaped(body)))


def test_fake_worker_cannot_burn_what_other_workers_are_owed(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """CRITICAL. The worker of a directed job is any account now, and a bounce is believed to bring all back.

    A contract that spins burns up to 0.4 TON of each Reward before it bounces, and the tombstone still says
    the whole amount. `Deliver` repeats that for 0.03 TON: in the end reserved exceeds the balance, honest
    workers cannot be paid, and a thief with a hot key has burned far more than the daily limit.
    """
    honest, _ = client.open(world.suite.directed_terms(worker, price=Nano.ton(5)))
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free - Nano.ton(5))))
    fake = world.chain.deploy(contract(BURNS_ITS_VALUE), Nano.ton(1))
    thief = key_of("thief")
    target = m.JobWorker(operator_key=thief.verify_key.to_int(), account=signing.account_id(fake))
    terms = world.suite.open_terms(Nano.ton(1), window=0, worker=target.to_cell())
    try:
        number, _ = client.open(terms)
        digest = signing.result_digest(client.domain(), fake, number, hash_of("r"), Nano.ton(1))
        action = signing.accept_signed(number, Nano.ton(1), hash_of("r"), thief.sign(digest))
        client.act(action)
    except ExternalRejectedError:
        return
    start = client.get_state()
    for _ in range(40):
        stranger.send(client.address, Nano.ton("0.03"), m.Deliver(id=number, kind=0).to_cell())
    check_escrow(client)
    assert start.free - client.get_state().free < Nano.ton("0.1")
    assert client.job(honest) is not None


@pytest.mark.parametrize("where", ["terms", "worker"])
def test_hot_key_cannot_store_cells_without_bound(
    world: World, client: Client, worker: Worker, where: str
) -> None:
    """Terms are kept in the account as they came: 6,000 cells behind them cost its owner rent every second.

    A few such jobs eat the reserve and then what workers are owed; 65,536 cells make every transaction fail
    in its action phase (code 50), after which any external can be replayed.
    """
    terms = world.suite.directed_terms(worker)
    if where == "terms":
        bloated = extended(terms.to_cell(), "", tree(6000))
    else:
        assert terms.worker is not None
        bloated = extended(terms.to_cell(), "", None)
        named = extended(terms.worker, "", tree(6000))
        bloated = begin_cell().store_bits(terms.to_cell().begin_parse().load_bits(len(terms.to_cell().bits)))
        bloated = bloated.store_ref(named).end_cell()
    try:
        client.act(open_with(1, bloated))
    except ExternalRejectedError:
        return
    assert client.job(1) is None


def test_dispute_cannot_throw_after_it_was_accepted(world: World, client: Client, worker: Worker) -> None:
    """`dispute` reads JobTerms with a strict parser after the acceptance: with one stray bit in the terms it

    throws, the seqno stays, and anybody repeats the external until the account is empty (5 mTON each time,
    0.3 TON with junk behind it), whatever the bucket says.
    """
    terms = extended(world.suite.directed_terms(worker).to_cell())
    try:
        client.act(open_with(1, terms))
    except ExternalRejectedError:
        return
    worker.submit(client, 1, Nano.ton(1))
    external = client.external(signing.dispute_result(1))
    seqno = client.get_state().seqno
    try:
        done = world.chain.send_external(external)
    except ExternalRejectedError:
        return
    assert (done[0].success, client.get_state().seqno) == (True, seqno + 1)


@pytest.mark.parametrize("kind", ["submit claimed", "claim", "submit"])
def test_operators_external_cannot_throw_after_it_was_accepted(
    world: World, client: Client, worker: Worker, kind: str
) -> None:
    """Amount, job hash and result are read after `lock` or `acceptMessage`: truncated, they throw there."""
    number, _ = client.open(world.suite.open_terms())
    directed, _ = client.open(world.suite.directed_terms(worker))
    if kind == "submit claimed":
        worker.claim(client, number)
        target = worker.target(client, number)
        good = signing.submit_claimed(number, Nano.ton(1), target, hash_of("result"))
        short = Action(truncated(good.bits, 8), good.refs)
    elif kind == "claim":
        good = worker.claim_action(client, number)
        short = Action(good.bits, (truncated(good.refs[0], 8),))
    else:
        target = worker.target(client, directed)
        good = signing.submit(directed, Nano.ton(1), target, hash_of("result"))
        short = Action(good.bits, (truncated(good.refs[0], 8),))
    external = worker.external(short)
    seqno = worker.get_state().seqno
    try:
        done = world.chain.send_external(external)
    except ExternalRejectedError:
        return
    assert (done[0].success, worker.get_state().seqno) == (True, seqno + 1)


def test_window_zero_job_stays_within_the_longest_life(world: World, client: Client, worker: Worker) -> None:
    """docs/protocol.md 2.3: all phases within max_job_life; without a window nothing is checked."""
    terms = world.suite.directed_terms(worker, window=0, claim_period=2**24 - 1)
    try:
        client.act(signing.open_job(1, terms.to_cell()))
    except ExternalRejectedError:
        return
    assert client.job(1) is None


def test_slash_is_never_lost_at_a_stake_with_255_locks(world: World, stranger: Actor) -> None:
    """CRITICAL. The slash runs out of gas there (16,000 attached, more needed) and leaves nothing to bounce:

    no tombstone, no second try. Whoever fills its table with cheap locks cannot be slashed any more.
    """
    clients = [world.client(f"big {i}", deposit=Nano.ton(200)) for i in range(2)]
    worker = world.worker("busy", stake=Nano.ton(200), gas=Nano.ton(50))
    for client in clients:
        fill(world, client, c.MAX_JOBS, worker)
        submit_all(worker, client, range(1, c.MAX_JOBS + 1))
    assert len(locks(worker)) == c.MAX_LOCKS
    slash = Nano.ton("0.1")
    for client in clients:
        for number in (1, 50, 127):
            client.act(signing.dispute_result(number))
            verdict = world.suite.verdict(client, worker, number, 0, slash)
            stranger.send(client.address, Nano.ton("0.2"), verdict.to_cell())
            assert tombstones(client) == {}
    assert len(locks(worker)) == c.MAX_LOCKS - 6
    assert worker.get_state().stake == Nano.ton(200) - 6 * slash


def test_stranger_cannot_spoil_a_stake_before_its_owner_configures_it(world: World, stranger: Actor) -> None:
    """A newborn account holds its identity alone; a Reward must not read, or write, that as state."""
    owner = world.chain.actor("late owner", Nano.ton(100))
    born = world.suite.network.stake(owner.address)
    body = m.Reward(id=1, collateral=1, amount=Nano.ton(1000), fee=0, lock=numbered(1)).to_cell()
    stranger.send(born.address, Nano.ton("0.05"), body, state_init=born.state_init)
    configure = m.ConfigureStake(
        query_id=0, operator_key=key_of("late").verify_key.to_int(), info_hash=0, max_locked=1, daily_lock=1
    )
    owner.send(born.address, Nano.ton(1), configure.to_cell(), state_init=born.state_init)
    identity = world.suite.get(born.address, WorkerStakeGetters.identity())
    assert identity.owner == owner.address
    assert world.suite.get(born.address, WorkerStakeGetters.state()).active


def test_client_cannot_open_a_job_whose_terms_can_vanish(
    world: World, client: Client, worker: Worker
) -> None:
    """A library cell as terms could disappear before the dispute reads it, after the acceptance."""
    terms = world.suite.directed_terms(worker).to_cell()
    bits = bitarray()
    bits.frombytes(b"\x02" + terms.hash)
    world.chain.set_libraries([terms])
    for op in (c.ACTION_OPEN_JOB, c.ACTION_OPEN_INSTANT, c.ACTION_POST_JOB):
        denied(
            client, lambda op=op: client.act(open_with(1, Cell(bits, [], 2), op=op)), ExitCode.CELL_UNDERFLOW
        )


def test_client_can_dispute_every_job_when_nothing_is_free(
    world: World, client: Client, worker: Worker
) -> None:
    """A dispute is paid out of what its own job set aside, not out of the rent."""
    jobs = [client.open(world.suite.directed_terms(worker, Nano.ton("0.2")))[0] for _ in range(12)]
    for number in jobs:
        worker.submit(client, number, Nano.ton("0.2"))
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    for number in jobs:
        client.act(signing.dispute_result(number))
    assert {client.job(number).status for number in jobs} == {3}


def test_stranger_cannot_destroy_a_stake_with_a_reward_for_no_lock(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """CRITICAL. `storeSlice(data.loadBits(80)).storeMaybeRef(data.loadMaybeRef())` reads
    the table's bit before the 80 bits in front of it: a Reward with lock 0 writes a stake with locks back
    shifted by a bit. No getter and no message reads it any more; stake and earnings are lost. Anybody can
    do that for 0.02 TON, and every verdict of pay and slash does. (The same words in two statements read in
    the right order.)
    """
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    held = locks(worker)
    body = m.Reward(id=1, collateral=0, amount=1, fee=0, lock=0)
    stranger.send(worker.address, GAS, body.to_cell())
    assert locks(worker) == held


@pytest.mark.parametrize("how", ["alone", "in a batch"])
def test_external_of_a_stake_cannot_throw_after_it_was_accepted(
    world: World, client: Client, worker: Worker, how: str
) -> None:
    """HIGH. `claim` compared the lock's escrow after `lockMore` had accepted: it threw
    there, the seqno stayed, and anybody repeated the external until it was 255 seconds old. Whoever had the
    operator key (or made the operator's software name a wrong lock) burned the owner's stake as gas, with
    no limit. A submission on a claim looks at the lock's escrow now.
    """
    other = world.client("other")
    other.open(world.suite.directed_terms(worker))
    worker.submit(other, 1, Nano.ton(1))
    client.open(world.suite.open_terms())
    worker.claim(client, 1)
    target = dataclasses.replace(worker.target(client, 1), lock=numbered(1))
    action = signing.submit_claimed(1, Nano.ton(1), target, hash_of("result"))
    if how == "in a batch":
        done = worker.act(action, IDLE, max_spend=worker.get_state().gas // 2)
        assert [code for _, code in skips(done, worker.address)] == [ExitCode.NO_LOCK, ExitCode.NO_LOCK]
        return
    external, before = worker.external(action), worker.get_state()
    for _ in range(3):
        with pytest.raises(ExternalRejectedError):
            world.chain.send_external(external)
    assert worker.get_state() == before
