"""Disputes on the contracts alone: verdicts, signatures, silent arbiters, and who gets what."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pytest
from pytoniq_core import Cell

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.helpers.audit import BURN, World, at, audited, denied, gas_fee, net, refused, sent, skipped
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of

PRICE = Nano.ton(1)
COLLATERAL = Nano.ton(4)
ARBITER_FEE = Nano.ton("0.15")
COMPENSATION = Nano.ton("0.015")
END = (12 + 48) * 3600


@pytest.fixture
def world() -> Iterator[World]:
    yield from audited()


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


@pytest.fixture
def worker(world: World) -> Worker:
    return world.worker()


@pytest.fixture
def caller(world: World) -> Actor:
    return world.chain.actor("caller")


def disputed(world: World, client: Client, worker: Worker, amount: int = PRICE) -> int:
    number, _ = client.open(world.suite.directed_terms(worker, price=PRICE))
    worker.submit(client, number, amount)
    notices = client.act(signing.dispute_result(number))
    skipped(client, notices)
    assert at(notices, worker.address)[0].op == m.Disputed.OPCODE
    assert at(notices, world.suite.market)[0].op == m.DisputeNotice.OPCODE
    assert at(notices, world.suite.market)[0].in_msg.value == Nano.ton("0.01")
    return number


def fee_of(pay: int) -> int:
    return -(-pay * 100 // 10_000)


# -- verdicts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "pay", "slash", "earned"),
    [
        (PRICE, PRICE, 0, PRICE),  # the worker wins
        (0, 0, 0, 0),  # it asked for nothing and wins
        (PRICE, Nano.ton("0.6"), 0, Nano.ton("0.45")),  # a part, minus the arbiters' fee
        (PRICE, Nano.ton("0.1"), 0, 0),  # less than that fee
        (PRICE, 0, 0, 0),  # refund without slash
        (PRICE, 0, COLLATERAL, 0),  # the client wins
        (PRICE, Nano.ton("0.3"), Nano.ton(2), Nano.ton("0.3")),  # pay and slash
        (PRICE, PRICE, 1, PRICE),  # a slash too small to repay anything
        (PRICE, 0, Nano.ton("0.165"), 0),  # exactly fee and compensation
        (PRICE, 0, Nano.ton("0.165000001"), 0),  # one nanoTON burns
    ],
)
def test_arbiters_can_decide(
    world: World,
    client: Client,
    worker: Worker,
    caller: Actor,
    amount: int,
    pay: int,
    slash: int,
    earned: int,
) -> None:
    number = disputed(world, client, worker, amount)
    resolve = world.suite.verdict(client, worker, number, pay, slash, signers=(0, 2, 4))
    before_client, before_payouts = client.balance, [actor.balance for actor in world.suite.payouts]
    done = caller.send(client.address, Nano.ton("0.2"), resolve.to_cell())
    (decided,) = at(done, client.address)[:1]
    assert decided.success, decided
    # The worker.
    state = worker.get_state()
    assert (state.earned, state.fee_due) == (earned - fee_of(earned), fee_of(earned))
    assert (state.stake, state.locked, len(worker.locks())) == (Nano.ton(100) - slash, 0, 0)
    # The client: price and bond are free, the fee is gone unless the slash repaid it.
    back = min(slash, ARBITER_FEE + COMPENSATION)
    assert sum(int(t.in_msg.value) for t in sent(done, m.SlashPaid)) == back
    assert (client.get_state().jobs, client.get_state().reserved) == (0, 0)
    assert client.balance == before_client + net(done, client.address)
    # The arbiters: equal shares, minus the forward fee of each.
    for index, actor in enumerate(world.suite.payouts):
        got = at(done, actor.address)
        if index in (0, 2, 4):
            (share,) = got
            assert share.in_msg.value + share.in_msg.fwd_fee <= ARBITER_FEE // 3
            assert share.in_msg.value >= ARBITER_FEE // 3 - 400_000
            assert actor.balance == before_payouts[index] + share.in_msg.value - share.total_fees
        else:
            assert not got
    # What nobody is owed burns.
    assert world.chain.balance(BURN) == slash - back
    # Decided once.
    refused(
        world.chain,
        client.address,
        lambda: caller.send(client.address, Nano.ton("0.2"), resolve.to_cell()),
        ExitCode.NO_JOB,
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"pay": PRICE + 1}, ExitCode.BAD_VERDICT),
        ({"pay": 2**64 - 1}, ExitCode.BAD_VERDICT),
        ({"slash": COLLATERAL + 1}, ExitCode.BAD_VERDICT),
        ({"slash": 2**64 - 1}, ExitCode.BAD_VERDICT),
        ({"id": 77}, ExitCode.BAD_VERDICT),
        ({"disputed_at": 1}, ExitCode.BAD_VERDICT),
        ({"result_hash": 1}, ExitCode.BAD_VERDICT),
    ],
    ids=str,
)
def test_arbiters_cannot_decide_beyond_the_bounds(
    world: World, client: Client, worker: Worker, caller: Actor, changes: dict[str, int], code: ExitCode
) -> None:
    number = disputed(world, client, worker)
    resolve = signed(world, client, worker, number, [0, 1, 2], **changes)
    refused(
        world.chain,
        client.address,
        lambda: caller.send(client.address, Nano.ton("0.2"), resolve.to_cell()),
        code,
    )


# -- signatures ----------------------------------------------------------------------------------------


def verdict_of(client: Client, number: int, **changes: int) -> m.Verdict:
    job = client.job(number)
    assert job is not None
    verdict = m.Verdict(
        id=number, disputed_at=job.deadline, result_hash=job.key_or_result, pay=0, slash=COLLATERAL
    )
    return dataclasses.replace(verdict, **changes)


def signed(
    world: World,
    client: Client,
    worker: Worker,
    number: int,
    signers: Sequence[int],
    *,
    keys: Sequence[str] | None = None,
    domain: signing.Domain | None = None,
    counterparty: object = None,
    digest_of: m.Verdict | None = None,
    **changes: int,
) -> m.Resolve:
    verdict = verdict_of(client, number, **changes)
    target = worker.address if counterparty is None else counterparty
    digest = signing.verdict_digest(domain or client.domain(), target, digest_of or verdict)
    names = keys or [f"arbiter {index}" for index in signers]
    link: Cell | None = None
    for index, name in reversed(list(zip(signers, names, strict=True))):
        link = m.VerdictSignature(index=index, signature=key_of(name).sign(digest), next=link).to_cell()
    assert link is not None
    return m.Resolve(id=number, verdict=verdict.to_cell(), signatures=link)


@pytest.mark.parametrize(
    ("signers", "code"),
    [
        ([0], ExitCode.TOO_FEW_SIGNERS),
        ([0, 1], ExitCode.TOO_FEW_SIGNERS),
        ([0, 0, 0], ExitCode.TOO_FEW_SIGNERS),
        ([0, 1, 1], ExitCode.TOO_FEW_SIGNERS),
        ([2, 1, 0], ExitCode.TOO_FEW_SIGNERS),
        ([0, 2, 1], ExitCode.TOO_FEW_SIGNERS),
        ([0, 1, 5], ExitCode.TOO_FEW_SIGNERS),
        ([0, 1, 255], ExitCode.TOO_FEW_SIGNERS),
    ],
    ids=str,
)
def test_too_few_arbiters_cannot_decide(
    world: World, client: Client, worker: Worker, caller: Actor, signers: list[int], code: ExitCode
) -> None:
    number = disputed(world, client, worker)
    resolve = signed(world, client, worker, number, signers, keys=[f"arbiter {min(i, 4)}" for i in signers])
    before = [actor.balance for actor in world.suite.payouts]
    refused(
        world.chain,
        client.address,
        lambda: caller.send(client.address, Nano.ton("0.2"), resolve.to_cell()),
        code,
    )
    assert [actor.balance for actor in world.suite.payouts] == before


def test_more_signatures_than_needed_are_not_paid(
    world: World, client: Client, worker: Worker, caller: Actor
) -> None:
    number = disputed(world, client, worker)
    resolve = signed(world, client, worker, number, [0, 1, 2, 3, 4])
    done = caller.send(client.address, Nano.ton("0.2"), resolve.to_cell())
    paid = [actor.name for actor in world.suite.payouts if at(done, actor.address)]
    assert paid == ["arbiter 0", "arbiter 1", "arbiter 2"]


@pytest.mark.parametrize(
    "wrong", ["key", "client's key", "network", "escrow", "epoch", "worker", "other dispute", "other amounts"]
)
def test_signatures_for_something_else_do_not_count(
    world: World, client: Client, worker: Worker, caller: Actor, wrong: str
) -> None:
    other = world.client("other")
    number = disputed(world, client, worker)
    second = disputed(world, client, worker)
    here = client.domain()
    options: dict[str, dict[str, object]] = {
        "key": {"keys": ["arbiter 0", "arbiter 1", "arbiter 3"]},
        "client's key": {"keys": ["arbiter 0", "arbiter 1", "client"]},
        "network": {"domain": signing.Domain(here.global_id + 1, here.contract, here.epoch)},
        "escrow": {"domain": other.domain()},
        "epoch": {"domain": signing.Domain(here.global_id, here.contract, here.epoch + 1)},
        "worker": {"counterparty": client.address},
        "other dispute": {"digest_of": verdict_of(client, second)},
        "other amounts": {"digest_of": verdict_of(client, number, slash=0)},
    }
    resolve = signed(world, client, worker, number, [0, 1, 2], **options[wrong])  # type: ignore[arg-type]
    if wrong == "escrow" and other.domain() == here:
        pytest.fail("the escrows have to differ")
    refused(
        world.chain,
        client.address,
        lambda: caller.send(client.address, Nano.ton("0.2"), resolve.to_cell()),
        ExitCode.BAD_SIGNATURE,
    )
    good = signed(world, client, worker, number, [0, 1, 2])
    assert at(caller.send(client.address, Nano.ton("0.2"), good.to_cell()), client.address)[0].success


def test_verdict_of_an_earlier_dispute_cannot_be_replayed(
    world: World, client: Client, worker: Worker, caller: Actor
) -> None:
    first = disputed(world, client, worker)
    old = signed(world, client, worker, first, [0, 1, 2])
    caller.send(client.address, Nano.ton("0.2"), old.to_cell())
    second = disputed(world, client, worker)
    replay = dataclasses.replace(old, id=second)
    refused(
        world.chain,
        client.address,
        lambda: caller.send(client.address, Nano.ton("0.2"), replay.to_cell()),
        ExitCode.BAD_VERDICT,
    )


@pytest.mark.parametrize("state", ["open", "claimed", "submitted"])
def test_arbiters_cannot_decide_what_is_not_disputed(
    world: World, client: Client, worker: Worker, caller: Actor, state: str
) -> None:
    number, _ = client.open(world.suite.directed_terms(worker))
    if state == "claimed":
        worker.claim(client, number)
    if state == "submitted":
        worker.submit(client, number, PRICE)
    resolve = signed(world, client, worker, number, [0, 1, 2])
    refused(
        world.chain,
        client.address,
        lambda: caller.send(client.address, Nano.ton("0.2"), resolve.to_cell()),
        ExitCode.WRONG_STATE,
    )


def test_resolve_needs_its_gas(world: World, client: Client, worker: Worker, caller: Actor) -> None:
    number = disputed(world, client, worker)
    resolve = signed(world, client, worker, number, [0, 1, 2])
    refused(
        world.chain,
        client.address,
        lambda: caller.send(client.address, gas_fee(40_000), resolve.to_cell()),
        ExitCode.LOW_VALUE,
    )


# -- time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [0, 1])
def test_client_can_dispute_strictly_before_the_end_of_the_window(
    world: World, client: Client, worker: Worker, early: int
) -> None:
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, PRICE)
    job = client.job(number)
    assert job is not None
    world.chain.set_now(job.deadline - early)
    if early:
        skipped(client, client.act(signing.dispute_result(number)))
    else:
        denied(client, lambda: client.act(signing.dispute_result(number)), ExitCode.TOO_LATE)


@pytest.mark.parametrize("state", ["open", "claimed", "disputed"])
def test_client_cannot_dispute_in_another_state(
    world: World, client: Client, worker: Worker, state: str
) -> None:
    if state == "disputed":
        number = disputed(world, client, worker)
    else:
        number, _ = client.open(world.suite.directed_terms(worker))
        if state == "claimed":
            worker.claim(client, number)
    job = client.job(number)
    denied(client, lambda: client.act(signing.dispute_result(number)), ExitCode.WRONG_STATE)
    assert client.job(number) == job


def test_client_cannot_accept_what_it_disputed(world: World, client: Client, worker: Worker) -> None:
    number = disputed(world, client, worker)
    denied(client, lambda: client.act(signing.accept_result(number)), ExitCode.WRONG_STATE)
    signature = worker.sign_result(client, number, 1)
    action = signing.accept_signed(number, Nano(1), hash_of("result"), signature)
    denied(client, lambda: client.act(action), ExitCode.WRONG_STATE)


def test_worker_is_paid_when_the_arbiters_stay_silent(
    world: World, client: Client, worker: Worker, caller: Actor
) -> None:
    number = disputed(world, client, worker)
    job = client.job(number)
    assert job is not None
    finalize = m.Finalize(id=number).to_cell()
    resolve = signed(world, client, worker, number, [0, 1, 2]).to_cell()
    world.chain.set_now(job.deadline + END - 1)
    refused(
        world.chain, client.address, lambda: caller.send(client.address, GAS, finalize), ExitCode.TOO_EARLY
    )
    world.chain.warp(1)
    # From this second on only the timeout counts.
    refused(
        world.chain,
        client.address,
        lambda: caller.send(client.address, Nano.ton("0.2"), resolve),
        ExitCode.TOO_LATE,
    )
    before = client.balance
    (paid, *_) = at(caller.send(client.address, GAS, finalize), client.address)
    assert before - client.balance == job.payout + paid.storage_fee
    state = worker.get_state()
    assert (state.earned, state.fee_due, state.stake, len(worker.locks())) == (
        Nano.ton("0.99"),
        Nano.ton("0.01"),
        Nano.ton(100),
        0,
    )
    assert (client.get_state().jobs, client.get_state().reserved) == (0, 0)
    assert [actor.balance for actor in world.suite.payouts] == [Nano.ton(1)] * 5
    refused(world.chain, client.address, lambda: caller.send(client.address, GAS, finalize), ExitCode.NO_JOB)


def test_client_without_free_funds_can_still_dispute(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, PRICE)
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(0), allowed=None))
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    assert (client.get_state().free, client.get_state().bucket) == (0, 0)
    skipped(client, client.act(signing.dispute_result(number)))
    resolve = signed(world, client, worker, number, [0, 1, 2])
    done = world.chain.actor("caller").send(client.address, Nano.ton("0.2"), resolve.to_cell())
    assert at(done, client.address)[0].success
    assert worker.get_state().stake == Nano.ton(96)
