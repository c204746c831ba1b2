"""Opening jobs and accepting results by signature: terms, bounds, keys, and whose signature it is."""

from __future__ import annotations

import pytest

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.types import Nano
from tests.helpers.audit import (
    World,
    denied,
    job_gas,
    open_with,
    skipped,
    skips,
)
from tests.helpers.suite import Client, Worker, hash_of

SPEND = Nano.ton(3)


# -- opening -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"window": 599}, ExitCode.BAD_PERIODS),
        ({"window": 86_401}, ExitCode.BAD_PERIODS),
        ({"claim_period": 7 * 86_400}, ExitCode.BAD_PERIODS),
        ({"work_period": 2**24 - 1}, ExitCode.BAD_PERIODS),
        ({"price": 2**63}, None),
        ({"price": 2**53 // 4 + 1}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("directed", [True, False])
def test_hot_key_cannot_open_a_job_outside_the_bounds(
    world: World,
    client: Client,
    worker: Worker,
    changes: dict[str, int],
    code: ExitCode | None,
    directed: bool,
) -> None:
    terms = world.suite.directed_terms(worker, **changes) if directed else world.suite.open_terms(**changes)
    before = client.balance
    denied(client, lambda: client.act(signing.open_job(1, terms.to_cell())), code)
    state = client.get_state()
    assert (state.jobs, state.reserved, state.next_id, state.entries) == (0, 0, 1, None)
    assert before == client.balance


@pytest.mark.parametrize("field", ["price", "items", "claim_period", "work_period"])
@pytest.mark.parametrize("directed", [True, False])
def test_client_gets_everything_back_from_a_job_with_a_zero_in_its_terms(
    world: World, client: Client, worker: Worker, field: str, directed: bool
) -> None:
    """Planning and admission refuse such terms; on chain a client harms nobody but itself."""
    changes = {field: 0}
    terms = world.suite.directed_terms(worker, **changes) if directed else world.suite.open_terms(**changes)
    number, _ = client.open(terms)
    price = 0 if field == "price" else Nano.ton(1)
    state = client.get_state()
    assert (state.jobs, state.reserved) == (1, price + Nano.ton("0.21") + job_gas(client))
    world.chain.warp(3601)
    client.act(signing.cancel_job(number))
    after = client.get_state()
    assert (after.jobs, after.reserved) == (0, 0)
    assert after.free == after.balance - c.ESCROW_RENT


@pytest.mark.parametrize("claimed", [True, False])
def test_nobody_can_sign_for_the_zero_key(
    world: World, client: Client, worker: Worker, claimed: bool
) -> None:
    """TVM takes forged signatures for it. Named by the client it stays until a claim puts the end of the
    stake's key there.
    """
    named = m.JobWorker(operator_key=0, account=signing.account_id(worker.address))
    number, _ = client.open(world.suite.open_terms(worker=named.to_cell()))
    forged = signing.accept_signed(number, Nano(1), hash_of("result"), bytes(64))
    denied(client, lambda: client.act(forged), ExitCode.WEAK_KEY)
    if claimed:
        worker.claim(client, number)
        for front in (0, worker.claim_key ^ 1 << 255):
            on_claim = signing.accept_signed(number, Nano(1), hash_of("result"), bytes(64), front)
            denied(client, lambda action=on_claim: client.act(action), ExitCode.BAD_SIGNATURE)
        signature = worker.sign_result(client, number, 1)
        client.act(signing.accept_signed(number, Nano(1), hash_of("result"), signature, worker.claim_key))
        assert client.job(number) is None


@pytest.mark.parametrize("window", [0, 600, 86_400])
def test_hot_key_can_open_a_job_at_the_bounds_of_its_window(
    world: World, client: Client, worker: Worker, window: int
) -> None:
    skipped(client, client.open(world.suite.directed_terms(worker, window=window))[1])
    assert client.get_state().reserved == Nano.ton("1" if window == 0 else "1.21") + job_gas(client)


def test_hot_key_cannot_open_an_open_job_without_a_window(world: World, client: Client) -> None:
    denied(client, lambda: client.open(world.suite.open_terms(window=0)), ExitCode.BAD_PERIODS)


def test_each_way_of_opening_takes_only_its_own_terms(world: World, client: Client, worker: Worker) -> None:
    """A worker named or not, and a window or none: what an action does not look at may not differ."""
    suite = world.suite
    directed, instant = suite.directed_terms(worker), suite.directed_terms(worker, window=0)
    posted, neither = suite.open_terms(), suite.open_terms(window=0)
    cases = [
        (c.ACTION_OPEN_JOB, instant, ExitCode.BAD_PERIODS),
        (c.ACTION_OPEN_JOB, posted, ExitCode.CELL_UNDERFLOW),
        (c.ACTION_OPEN_INSTANT, directed, ExitCode.BAD_PERIODS),
        (c.ACTION_OPEN_INSTANT, posted, ExitCode.CELL_UNDERFLOW),
        (c.ACTION_OPEN_INSTANT, neither, ExitCode.CELL_UNDERFLOW),
        (c.ACTION_POST_JOB, directed, ExitCode.BAD_TERMS),
        (c.ACTION_POST_JOB, instant, ExitCode.BAD_TERMS),
        (c.ACTION_POST_JOB, neither, ExitCode.BAD_PERIODS),
    ]
    for op, terms, code in cases:
        action = open_with(1, terms.to_cell(), op=op)
        denied(client, lambda action=action: client.act(action), code)
        both = client.act(action, signing.cancel_job(99), max_spend=SPEND)
        assert skips(both, client.address) == [(1, code), (2, ExitCode.NO_JOB)]
    assert (client.get_state().next_id, client.get_state().jobs) == (1, 0)


@pytest.mark.parametrize("wrong", [0, 2, 2**32 - 1])
def test_hot_key_cannot_open_a_job_with_an_unexpected_id(
    world: World, client: Client, worker: Worker, wrong: int
) -> None:
    terms = world.suite.directed_terms(worker)
    denied(client, lambda: client.open(terms, job_id=wrong), ExitCode.UNEXPECTED_ID)
    assert client.get_state().next_id == 1


def test_batches_of_64_items_lock_less(world: World, client: Client, worker: Worker) -> None:
    for items, collateral in ((63, Nano.ton(4)), (64, Nano.ton(1))):
        number, _ = client.open(world.suite.directed_terms(worker, items=items))
        job = client.job(number)
        assert job is not None
        assert job.collateral == collateral


def test_small_jobs_lock_the_least_collateral(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open(world.suite.directed_terms(worker, price=1))
    job = client.job(number)
    assert job is not None
    assert job.collateral == Nano.ton("0.2")


# -- the worker's signature ----------------------------------------------------------------------------


def test_client_cannot_accept_with_a_signature_for_something_else(
    world: World, client: Client, worker: Worker
) -> None:
    other = world.client("other")
    number, _ = client.open(world.suite.directed_terms(worker))
    second, _ = client.open(world.suite.directed_terms(worker))
    amount, result = Nano.ton("0.5"), hash_of("result")
    good = worker.sign_result(client, number, amount)
    here = client.domain()

    def digest(domain: signing.Domain, **changes: object) -> bytes:
        fields: dict[str, object] = {
            "worker": worker.address,
            "job_id": number,
            "result_hash": result,
            "amount": amount,
            **changes,
        }
        return worker.key.sign(signing.result_digest(domain, **fields))  # type: ignore[arg-type]

    wrong = [
        (amount - 1, result, good),
        (amount, hash_of("another"), good),
        (amount, result, bytes(64)),
        (amount, result, client.key.sign(bytes(32))),
        (amount, result, worker.sign_result(client, second, amount)),
        (amount, result, worker.sign_result(other, number, amount)),
        (amount, result, digest(signing.Domain(here.global_id + 1, here.contract, here.epoch))),
        (amount, result, digest(signing.Domain(here.global_id, here.contract, here.epoch + 1))),
        (amount, result, digest(here, worker=client.address)),
    ]
    for declared, hashed, signature in wrong:
        action = signing.accept_signed(number, declared, hashed, signature)
        denied(client, lambda action=action: client.act(action), ExitCode.BAD_SIGNATURE)
    over = Nano(Nano.ton(1) + 1)
    denied(
        client,
        lambda: client.act(
            signing.accept_signed(number, over, result, worker.sign_result(client, number, over))
        ),
        ExitCode.OVER_PRICE,
    )
    denied(client, lambda: client.act(signing.accept_signed(77, amount, result, good)), ExitCode.NO_JOB)
    assert client.get_state().jobs == 2
    skipped(client, client.act(signing.accept_signed(number, amount, result, good)))
    assert worker.get_state().earned + worker.get_state().fee_due == amount
    denied(client, lambda: client.act(signing.accept_signed(number, amount, result, good)), ExitCode.NO_JOB)
    assert worker.get_state().earned + worker.get_state().fee_due == amount


def test_client_cannot_accept_an_unclaimed_open_job(world: World, client: Client, worker: Worker) -> None:
    number, _ = client.open(world.suite.open_terms())
    signature = worker.sign_result(client, number, 1)
    action = signing.accept_signed(number, Nano(1), hash_of("result"), signature)
    # Nobody's key stands there yet.
    denied(client, lambda: client.act(action), ExitCode.WEAK_KEY)
