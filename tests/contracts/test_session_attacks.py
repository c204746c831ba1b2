"""Sessions against thieves, liars and the confused: each attack is refused by name, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_states import settles_at
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.contracts.test_closed_holes_critical import BURNS_ITS_VALUE, reshaped, signed_body
from tests.contracts.test_full_tables import fill
from tests.contracts.test_limits import allowing
from tests.contracts.weak_keys import WEAK_KEYS
from tests.helpers.audit import (
    World,
    check_escrow,
    denied,
    extended,
    flipped,
    gas_fee,
    job_gas,
    net,
    refused,
    rejected,
    skipped,
    skips,
    tree,
)
from tests.helpers.suite import GAS, Client, Worker, hash_of, key_of
from tests.unit.sandbox.contracts import contract

DEPOSIT = Nano.ton(1)
HALF = Nano.ton("0.5")


def voucher_of(signature: bytes) -> Cell:
    return begin_cell().store_bytes(signature).end_cell()


def redeem(number: int, amount: int, signature: bytes, *, close: bool = False) -> Cell:
    return m.Redeem(id=number, amount=amount, close=close, signature=voucher_of(signature)).to_cell()


@pytest.fixture
def number(client: Client, worker: Worker) -> int:
    return client.open_session(worker, DEPOSIT)[0]


def cannot_redeem(
    world: World, client: Client, body: Cell, code: ExitCode, *, source: Actor | None = None
) -> None:
    sender = source or world.chain.actor("stranger")
    refused(world.chain, client.address, lambda: sender.send(client.address, GAS, body), code)


# -- vouchers ------------------------------------------------------------------------------------------


def wrong_signatures(
    world: World, client: Client, worker: Worker, number: int
) -> dict[str, Callable[[], bytes]]:
    """Every way in which a voucher over half of the deposit can be for something else."""
    other_client, other_worker = world.client("other client"), world.worker("other worker")
    second, _ = client.open_session(worker, DEPOSIT)
    domain, key = client.domain(), client.voucher_key

    def signed(where: signing.Domain, who: Address, which: int, amount: int) -> bytes:
        return key.sign(signing.voucher_digest(where, who, which, amount))

    mine = worker.address
    return {
        "another key": lambda: client.voucher(worker, number, HALF, key=key_of("somebody")),
        "the hot key": lambda: client.voucher(worker, number, HALF, key=client.key),
        "the worker's key": lambda: client.voucher(worker, number, HALF, key=worker.key),
        "another session": lambda: signed(domain, mine, second, HALF),
        "another worker": lambda: signed(domain, other_worker.address, number, HALF),
        "another amount": lambda: signed(domain, mine, number, HALF - 1),
        "another escrow": lambda: signed(other_client.domain(), mine, number, HALF),
        "another chain": lambda: signed(replace(domain, global_id=domain.global_id + 1), mine, number, HALF),
        "another epoch": lambda: signed(replace(domain, epoch=domain.epoch + 1), mine, number, HALF),
        "a result": lambda: key.sign(signing.result_digest(domain, mine, number, bytes(32), HALF)),
        "nothing": lambda: bytes(64),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        "another key",
        "the hot key",
        "the worker's key",
        "another session",
        "another worker",
        "another amount",
        "another escrow",
        "another chain",
        "another epoch",
        "a result",
        "nothing",
    ],
)
@pytest.mark.parametrize("close", [False, True])
def test_nobody_can_redeem_a_voucher_for_something_else(
    world: World, client: Client, worker: Worker, number: int, wrong: str, close: bool
) -> None:
    signature = wrong_signatures(world, client, worker, number)[wrong]()
    cannot_redeem(world, client, redeem(number, HALF, signature, close=close), ExitCode.BAD_VOUCHER)
    stake = worker.get_state()
    body = redeem(number, HALF, signature, close=close)
    (failed, *_) = world.chain.send_internal(client.address, GAS, body, src=worker.address)
    assert failed.exit_code == ExitCode.BAD_VOUCHER
    assert worker.get_state().earned == stake.earned
    session = client.session(number)
    assert session is not None
    assert session.redeemed == 0


def test_every_bit_of_a_signature_counts(world: World, client: Client, worker: Worker, number: int) -> None:
    good = voucher_of(client.voucher(worker, number, HALF))
    for position in (0, 255, 256, 511):
        body = m.Redeem(id=number, amount=HALF, close=False, signature=flipped(good, position)).to_cell()
        cannot_redeem(world, client, body, ExitCode.BAD_VOUCHER)


def test_voucher_pays_once_and_a_lower_one_nothing(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    worker.redeem(client, number, HALF)
    for amount in (HALF, HALF - 1, 1, 0):
        body = redeem(number, amount, client.voucher(worker, number, amount))
        cannot_redeem(world, client, body, ExitCode.NOTHING_DUE)
    state = worker.get_state()
    assert state.earned + state.fee_due == HALF


def test_voucher_of_a_session_that_ended_pays_nothing(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    body = redeem(number, HALF, client.voucher(worker, number, HALF))
    session = client.session(number)
    assert session is not None
    world.chain.set_now(settles_at(session))
    client.act(signing.settle_session(number))
    cannot_redeem(world, client, body, ExitCode.NO_SESSION)


def test_worker_can_redeem_after_everything_is_over_until_somebody_settles(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    client.act(signing.close_session(number))
    world.chain.warp(40 * 86_400)
    worker.redeem(client, number, HALF)
    assert worker.get_state().earned + worker.get_state().fee_due == HALF


def test_redemption_and_settlement_that_cross_lose_nothing(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    """The last second: whichever comes first is done, and what comes second is refused."""
    client.act(signing.close_session(number))
    session = client.session(number)
    assert session is not None
    world.chain.set_now(session.deadline)
    world.chain.hold()
    worker.redeem(client, number, HALF)
    client.act(signing.settle_session(number))
    gas = worker.get_state().gas
    world.chain.release()
    assert (client.get_state().reserved, worker.get_state().earned) == (0, 0)
    assert worker.get_state().gas > gas, "what the redemption carried comes back"


# -- closing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["stranger", "owner", "another worker", "the worker's owner"])
def test_only_the_worker_can_end_a_session_at_once(
    world: World, client: Client, worker: Worker, number: int, who: str
) -> None:
    others = {
        "stranger": world.chain.actor("stranger"),
        "owner": client.owner,
        "another worker": world.worker("another").owner,
        "the worker's owner": worker.owner,
    }
    nothing = redeem(number, 0, bytes(64), close=True)
    cannot_redeem(world, client, nothing, ExitCode.NOTHING_DUE, source=others[who])
    # With a good voucher it pays, and the session goes on.
    body = redeem(number, HALF, client.voucher(worker, number, HALF), close=True)
    others[who].send(client.address, GAS, body)
    session = client.session(number)
    assert session is not None
    assert (session.redeemed, session.status) == (HALF, 8)
    assert worker.get_state().earned + worker.get_state().fee_due == HALF


def test_another_workers_operator_cannot_end_a_session(
    world: World, client: Client, worker: Worker, number: int
) -> None:
    rival = world.worker("rival")
    rival.act(signing.redeem(number, client.address, Nano(0), close=True))
    assert client.session(number) is not None


@pytest.mark.parametrize("who", ["stranger", "worker"])
def test_only_the_owner_can_close_without_the_hot_key(
    world: World, client: Client, worker: Worker, number: int, who: str
) -> None:
    source = world.chain.actor("stranger") if who == "stranger" else worker.owner
    body = m.CloseSession(query_id=0, id=number).to_cell()
    refused(world.chain, client.address, lambda: source.send(client.address, GAS, body), ExitCode.NOT_OWNER)


def test_stranger_pays_for_a_settlement(world: World, client: Client, worker: Worker, number: int) -> None:
    session = client.session(number)
    assert session is not None
    world.chain.set_now(settles_at(session))
    stranger, body = world.chain.actor("stranger"), m.SettleSession(id=number).to_cell()
    low = gas_fee(c.GAS_ESCROW_ANYONE) - 1
    refused(world.chain, client.address, lambda: stranger.send(client.address, low, body), ExitCode.LOW_VALUE)
    free = client.get_state().free
    stranger.send(client.address, GAS, body)
    assert client.get_state().free >= free + DEPOSIT


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
    worker.redeem(client, number, DEPOSIT, close=True)
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
    target = m.JobTarget(
        escrow_owner=signing.account_id(client.owner.address),
        escrow_index=0,
        previous_code=False,
        collateral=Nano.ton(1),
        lock=9,
        job_hash=0,
        own_previous_code=False,
    )
    result = hash_of("result")
    for work in (
        signing.claim(number, target),
        signing.submit(number, Nano(1), target, result),
        signing.submit(number, Nano(1), replace(target, collateral=Nano(0)), result),
    ):
        done = worker.act(work)
        assert all(transaction.success for transaction in done), done
        assert worker.get_state().locked == locked
    body = m.SubmitClaimed(id=number, amount=1, result_hash=1).to_cell()
    assert world.chain.send_internal(client.address, GAS, body, src=worker.address)[0].success
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
    done = worker.act(action, signing.submit_claimed(1, 0, Nano(0), bytes(32)), max_spend=Nano.ton(1))
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


def test_new_hot_key_changes_no_voucher(world: World, client: Client, worker: Worker, number: int) -> None:
    """Who steals the hot key, or loses it, changes nothing for the worker: vouchers have their own."""
    client.from_owner(m.SetKey(query_id=0, key=key_of("new").verify_key.to_int()))
    worker.redeem(client, number, HALF)
    assert worker.get_state().earned + worker.get_state().fee_due == HALF


def test_random_keys_sign_nothing(world: World, client: Client, worker: Worker, number: int) -> None:
    for seed in range(4):
        key = SigningKey.from_seed(hash_of(f"seed {seed}"))
        signature = client.voucher(worker, number, HALF, key=key)
        cannot_redeem(world, client, redeem(number, HALF, signature), ExitCode.BAD_VOUCHER)
