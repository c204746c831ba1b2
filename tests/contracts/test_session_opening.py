"""Opening sessions, ids of the other kind, and externals that were tampered with: refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytoniq_core import Cell, begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.types import Nano
from tests.contracts.lock_steps import IDLE
from tests.contracts.test_closed_holes_critical import BURNS_ITS_VALUE, reshaped, signed_body
from tests.contracts.test_full_tables import fill
from tests.contracts.test_limits import allowing
from tests.contracts.test_session_vouchers import DEPOSIT, HALF, cannot_redeem, redeem
from tests.contracts.weak_keys import WEAK_KEYS
from tests.helpers.audit import (
    World,
    at,
    check_escrow,
    denied,
    extended,
    gas_fee,
    job_gas,
    net,
    rejected,
    skipped,
    skips,
    tree,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of
from tests.unit.sandbox.contracts import contract


@pytest.fixture
def number(client: Client, worker: Worker) -> int:
    return client.open_session(worker, DEPOSIT)[0]


# -- opening -------------------------------------------------------------------------------------------


def opening(
    client: Client,
    worker: Worker,
    *,
    number: int = 1,
    key: int | None = None,
    deposit: int = DEPOSIT,
    ahead: int = 3600,
    parties: Cell | None = None,
) -> signing.Action:
    voucher_key = client.voucher_key.verify_key.to_int() if key is None else key
    whom = m.SessionParties(worker=signing.account_id(worker.address), voucher_key=voucher_key)
    bits = begin_cell().store_uint(c.ACTION_OPEN_JOB, 8).store_uint(number, 32)
    bits.store_uint(deposit, 56).store_uint(client.suite.chain.now + ahead, 32)
    return signing.Action(bits.end_cell(), (whom.to_cell() if parties is None else parties,))


def external_cost(actions: int) -> int:
    return gas_fee(actions * c.GAS_EXTERNAL)


NO_JOB = signing.cancel_job(999)


def cannot_open(client: Client, action: signing.Action, code: ExitCode) -> None:
    """Alone it is refused and costs nothing; in a batch it is skipped."""
    denied(client, lambda: client.act(action), code)
    before = client.get_state()
    done = client.act(action, NO_JOB, max_spend=Nano.ton(5))
    skipped(client, done, code, ExitCode.NO_JOB)
    after = client.get_state()
    assert (after.reserved, after.entries, after.next_id) == (before.reserved, before.entries, before.next_id)


def test_test_opens_as_the_sdk_does(world: World, client: Client, worker: Worker) -> None:
    client.act(opening(client, worker, ahead=86_400, number=1))
    number, _ = client.open_session(worker, DEPOSIT)
    assert client.session(1) == client.session(number)


def test_client_cannot_open_with_the_zero_key(world: World, client: Client, worker: Worker) -> None:
    cannot_open(client, opening(client, worker, key=0), ExitCode.WEAK_KEY)


def test_weak_voucher_key_harms_its_client_alone(world: World, client: Client, worker: Worker) -> None:
    """The other weak keys are the SDK's business: whoever forges vouchers pays that client's own worker."""
    for place, key in enumerate(key for key in WEAK_KEYS if key):
        client.act(opening(client, worker, number=place + 1, key=key))
    before = client.get_state().reserved
    worker.redeem(client, 1, HALF)
    assert client.get_state().reserved >= before - HALF


@pytest.mark.parametrize(
    ("ahead", "works"),
    [(-1, False), (0, False), (1, True), ("phases", True), ("phases + 1", False), ("end of time", False)],
)
def test_client_can_open_for_a_second_up_to_all_phases(
    world: World, client: Client, worker: Worker, ahead: int | str, works: bool
) -> None:
    phases = m.Params.from_cell(world.suite.params_cell).max_phases
    named = {"phases": phases, "phases + 1": phases + 1, "end of time": 2**32 - 1 - world.chain.now}
    seconds = ahead if isinstance(ahead, int) else named[ahead]
    action = opening(client, worker, ahead=seconds)
    if not works:
        cannot_open(client, action, ExitCode.BAD_EXPIRY)
        return
    client.act(action)
    second = opening(client, worker, ahead=seconds, number=2)
    skipped(client, client.act(second, NO_JOB, max_spend=Nano.ton(5)), ExitCode.NO_JOB)
    assert client.get_state().jobs == 2


@pytest.mark.parametrize("number", [0, 2, 3, 2**32 - 1])
def test_client_cannot_open_under_another_id(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    cannot_open(client, opening(client, worker, number=number), ExitCode.UNEXPECTED_ID)
    client.open_session(worker)
    cannot_open(client, opening(client, worker, number=1), ExitCode.UNEXPECTED_ID)


def test_client_can_open_only_for_allowed_workers(world: World, client: Client, worker: Worker) -> None:
    accomplice = world.worker("accomplice")
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano.ton(100), allowed=allowing(worker)))
    cannot_open(client, opening(client, accomplice), ExitCode.WORKER_NOT_ALLOWED)
    client.act(opening(client, worker))
    assert client.get_state().jobs == 1


def test_thief_can_open_and_top_up_only_within_the_bucket(
    world: World, client: Client, worker: Worker
) -> None:
    needed = DEPOSIT + job_gas(client)

    def limit(amount: int) -> None:
        client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(amount), allowed=None))

    limit(needed - 1)
    denied(client, lambda: client.act(opening(client, worker)), ExitCode.DAILY_LIMIT)
    limit(needed)
    client.act(opening(client, worker))
    assert client.get_state().bucket == 0
    more = signing.top_up_session(1, Nano(1))
    denied(client, lambda: client.act(more), ExitCode.DAILY_LIMIT)
    cost = external_cost(1)
    limit(cost)
    denied(client, lambda: client.act(more), ExitCode.DAILY_LIMIT)
    limit(cost + 1)
    client.act(more)
    assert client.get_state().bucket == 0


def test_batch_opens_and_tops_up_only_within_its_own_maximum(
    world: World, client: Client, worker: Worker
) -> None:
    needed = DEPOSIT + job_gas(client)
    two = [opening(client, worker, number=1), opening(client, worker, number=2)]
    # An opening sets the gas of its external aside: what the batch covers for itself is there for it too.
    covered = 2 * needed - external_cost(3)
    done = client.act(*two, max_spend=covered - 1)
    skipped(client, done, ExitCode.DAILY_LIMIT)
    assert client.get_state().jobs == 1
    last = [opening(client, worker, number=2), opening(client, worker, number=3)]
    skipped(client, client.act(*last, max_spend=covered))
    more = Nano.ton(2) + external_cost(1) - external_cost(3)
    done = client.act(signing.top_up_session(1, Nano.ton(2)), NO_JOB, max_spend=more)
    skipped(client, done, ExitCode.NO_JOB)
    done = client.act(signing.top_up_session(1, Nano.ton(2)), NO_JOB, max_spend=more - 1)
    skipped(client, done, ExitCode.DAILY_LIMIT, ExitCode.NO_JOB)


def test_client_cannot_open_or_top_up_beyond_free_funds(world: World, client: Client, worker: Worker) -> None:
    client.open_session(worker, DEPOSIT)
    free = client.get_state().free
    needed = job_gas(client)
    imported, imported_bare = 644_800, 400_000
    action = opening(client, worker, number=2, deposit=free - needed - imported + 1)
    denied(client, lambda: client.act(action), ExitCode.INSUFFICIENT_FREE)
    cost = external_cost(1)
    more = signing.top_up_session(1, Nano(free - cost - imported_bare + 1))
    denied(client, lambda: client.act(more), ExitCode.INSUFFICIENT_FREE)
    client.act(opening(client, worker, number=2, deposit=free - needed - imported))
    check_escrow(client)


def test_client_cannot_open_on_a_full_table_and_all_else_works_there(world: World) -> None:
    client = world.client("big", deposit=Nano.ton(500))
    worker = world.worker("busy")
    fill(world, client, c.MAX_JOBS - 1)
    number, _ = client.open_session(worker, DEPOSIT)
    assert client.get_state().jobs == c.MAX_JOBS
    for next_one in (client.open_session, lambda _: client.open(world.suite.open_terms())):
        denied(client, lambda opens=next_one: opens(worker), ExitCode.TOO_MANY_JOBS)
    batch = opening(client, worker, number=number + 1)
    done = client.act(batch, NO_JOB, max_spend=Nano.ton(5))
    skipped(client, done, ExitCode.TOO_MANY_JOBS, ExitCode.NO_JOB)
    client.act(signing.top_up_session(number, Nano(1)))
    worker.accept_session(client, number)
    worker.redeem(client, number, HALF)
    client.act(signing.close_session(number))
    worker.end_session(client, number, DEPOSIT)
    state = worker.get_state()
    assert (state.earned + state.fee_due, state.locked) == (DEPOSIT, 0)
    assert client.get_state().jobs == c.MAX_JOBS - 1


def test_parties_with_anything_else_in_them_are_refused(world: World, client: Client, worker: Worker) -> None:
    parties = opening(client, worker).refs[0]
    for bad in (
        extended(parties),
        extended(parties, "", tree(2)),
        begin_cell().end_cell(),
    ):
        denied(client, lambda bad=bad: client.act(opening(client, worker, parties=bad)), None)
    good = opening(client, worker)
    for action in (
        signing.Action(extended(good.bits, "00000000"), good.refs),
        signing.Action(good.bits, (*good.refs, tree(1))),
        signing.Action(good.bits),
    ):
        denied(client, lambda action=action: client.act(action), None)


# -- ids of the other kind -------------------------------------------------------------------------------


def test_no_operation_on_sessions_touches_a_job(world: World, client: Client, worker: Worker) -> None:
    directed, _ = client.open(world.suite.directed_terms(worker))
    posted, _ = client.open(world.suite.open_terms())
    claimed, _ = client.open(world.suite.open_terms())
    submitted, _ = client.open(world.suite.directed_terms(worker))
    disputed, _ = client.open(world.suite.directed_terms(worker))
    worker.claim(client, claimed)
    for job in (submitted, disputed):
        worker.submit(client, job, Nano.ton(1))
    client.act(signing.dispute_result(disputed))
    world.chain.warp(5 * 86_400)
    for job in (directed, posted, claimed, submitted, disputed, 99):
        before = client.job(job)
        for action in (
            signing.top_up_session(job, Nano(1)),
            signing.close_session(job),
            signing.settle_session(job),
        ):
            denied(client, lambda action=action: client.act(action), ExitCode.NO_SESSION)
            done = client.act(action, NO_JOB, max_spend=Nano.ton(1))
            skipped(client, done, ExitCode.NO_SESSION, ExitCode.NO_JOB)
        for body in (
            redeem(job, 1, client.voucher(worker, job, 1)),
            redeem(job, 1, client.voucher(worker, job, 1), close=True),
            m.SettleSession(id=job).to_cell(),
            m.CloseSession(query_id=0, id=job).to_cell(),
        ):
            cannot_redeem(world, client, body, ExitCode.NO_SESSION, source=client.owner)
            (failed, *_) = world.chain.send_internal(client.address, GAS, body, src=worker.address)
            assert failed.exit_code in (ExitCode.NO_SESSION, ExitCode.NOT_OWNER)
        accept = m.AcceptSession(id=job, collateral=Nano.ton(4), lock=999, binding=0).to_cell()
        (answered, *_) = world.chain.send_internal(client.address, GAS, accept, src=worker.address)
        assert [message.op for message in answered.out_msgs] == [m.Gone.OPCODE]
        assert client.job(job) == before
    assert client.session(directed) is None


@pytest.mark.parametrize("state", ["open", "guarded", "closing", "settleable"])
def test_no_operation_on_jobs_touches_a_session(
    world: World, client: Client, worker: Worker, number: int, state: str
) -> None:
    if state == "guarded":
        worker.accept_session(client, number)
    if state in ("closing", "settleable"):
        client.act(signing.close_session(number))
    if state == "settleable":
        world.chain.warp(10 * 86_400)
    before, reserved, locked = client.session(number), client.get_state().reserved, worker.get_state().locked
    assert before is not None
    signature = worker.sign_result(client, number, 1)
    for action in (
        signing.accept_result(number),
        signing.accept_signed(number, Nano(1), hash_of("result"), signature),
        signing.dispute_result(number),
        signing.cancel_job(number),
        signing.reclaim_late(number),
    ):
        denied(client, lambda action=action: client.act(action), ExitCode.WRONG_STATE)
        done = client.act(action, NO_JOB, max_spend=Nano.ton(1))
        skipped(client, done, ExitCode.WRONG_STATE, ExitCode.NO_JOB)
    empty = begin_cell().end_cell()
    for body in (
        m.CancelJob(query_id=0, id=number).to_cell(),
        m.Finalize(id=number).to_cell(),
        m.ReclaimLate(id=number).to_cell(),
        m.Resolve(id=number, verdict=empty, signatures=empty).to_cell(),
    ):
        cannot_redeem(world, client, body, ExitCode.WRONG_STATE, source=client.owner)
    # A worker's work on it is answered, so that what it locked is free again.
    target = signing.JobTarget(
        escrow_owner=signing.account_id(client.owner.address),
        escrow_index=0,
        previous_code=False,
        own_previous_code=False,
        job_hash=0,
        collateral=Nano.ton(1),
        lock=9,
    )
    result = hash_of("result")
    for work in (
        signing.submit_claimed(number, Nano(1), target, result),
        signing.submit(number, Nano(1), target, result),
        signing.submit(number, Nano(1), replace(target, collateral=Nano(0)), result),
    ):
        done = worker.act(work)
        assert all(transaction.success for transaction in done), done
        assert worker.get_state().locked == locked
    # A claim comes back with its bond.
    claim = m.ClaimTarget(escrow=signing.account_id(client.address), bond=Nano.ton("0.1"), key_tag=1)
    for binding in (0, 2**128 - 1):
        done = worker.act(signing.claim(number, binding, claim))
        (arrival,) = at(done, client.address)
        assert (ExitCode(arrival.exit_code or 0), arrival.bounced_back) == (ExitCode.TAKEN, True)
    assert (client.session(number), client.get_state().reserved) == (before, reserved)


# -- externals -----------------------------------------------------------------------------------------


def test_no_signed_session_external_can_be_reshaped(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    signature = client.voucher(worker, number, HALF)
    target = worker.session_target(client, number)
    cases: list[tuple[Client | Worker, signing.Action]] = [
        (client, opening(client, worker, number=2)),
        (client, signing.open_job(2, world.suite.directed_terms(worker).to_cell())),
        (client, signing.open_job(2, world.suite.directed_terms(worker).to_cell(), tree(1))),
        (worker, signing.redeem(number, client.address, HALF, signature)),
        (worker, signing.accept_session(number, target)),
    ]
    for account, action in cases:
        body = signed_body(account, action)
        with pytest.raises(ExternalRejectedError):
            world.chain.send_external(signing.external_message(account.address, reshaped(body)))
        world.chain.try_external(signing.external_message(account.address, body))


@pytest.mark.parametrize("how", ["alone", "in a batch"])
def test_operators_voucher_may_not_carry_a_tree(
    world: World, client: Client, worker: Worker, number: int, how: str
) -> None:
    """Its forward fee is the stake's, and nothing bounds it: the whole stake could burn in fees."""
    heavy = m.Redemption(
        escrow=signing.account_id(client.address), amount=HALF, close=False, signature=tree(200)
    )
    bits = begin_cell().store_uint(c.ACTION_REDEEM, 8).store_uint(number, 32).end_cell()
    action = signing.Action(bits, (heavy.to_cell(),))
    if how == "alone":
        denied(worker, lambda: worker.act(action), ExitCode.BAD_SIGNATURE)
        return
    done = worker.act(action, IDLE, max_spend=Nano.ton(1))
    assert skips(done, worker.address) == [(1, ExitCode.BAD_SIGNATURE), (2, ExitCode.NO_LOCK)]


def test_thief_with_the_operator_key_can_send_only_gas_to_a_fake_escrow(world: World, worker: Worker) -> None:
    fake = world.chain.deploy(contract(BURNS_ITS_VALUE), Nano.ton(1))
    before = worker.get_state()
    done = worker.act(signing.redeem(1, fake, Nano.ton(1), bytes(64), close=True))
    after = worker.get_state()
    assert (after.earned, after.stake, after.locked) == (before.earned, before.stake, before.locked)
    assert before.gas - after.gas <= gas_fee(c.GAS_WORK)
    assert net(done, worker.address) >= -gas_fee(c.GAS_WORK)


def test_operator_cannot_redeem_without_the_gas_of_one_work(
    world: World, client: Client, number: int
) -> None:
    poor = world.worker("poor", gas=Nano.ton("0.2"))
    poor.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(poor.get_state().gas)))
    action = signing.redeem(number, client.address, Nano(1))
    denied(poor, lambda: poor.act(action), ExitCode.INSUFFICIENT_FREE)


def test_old_externals_of_a_session_cannot_be_sent_again(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    again = [client.external(signing.top_up_session(number, Nano(5)))]
    world.chain.send_external(again[0])
    rejected(world.chain, client, again[0], ExitCode.BAD_SEQNO)
    redeemed = worker.external(
        signing.redeem(number, client.address, HALF, client.voucher(worker, number, HALF))
    )
    world.chain.send_external(redeemed)
    rejected(world.chain, worker, redeemed, ExitCode.BAD_SEQNO)
