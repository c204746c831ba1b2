"""Every internal message of an escrow, from the wrong sender, at the wrong time, in the wrong shape."""

from __future__ import annotations

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.abi_runtime import Message
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.sandbox.messages import internal_message
from cocoon_sdk.types import Nano
from tests.contracts.weak_keys import WEAK_KEYS
from tests.helpers.audit import World, at, extended, gas_fee, net, refused, state_of, truncated
from tests.helpers.suite import GAS, Client, Worker, as_int, hash_of, key_of

KEY = key_of("new").verify_key.to_int()
OWNERS_MESSAGES: list[Message] = [
    m.ConfigureEscrow(query_id=0, hot_key=KEY, daily_limit=Nano(1), allowed=None),
    m.SetKey(query_id=0, key=KEY),
    m.SetEscrowLimits(query_id=0, daily_limit=Nano(1), allowed=None),
    m.AcceptCode(query_id=0, code_hash=1),
    m.Withdraw(query_id=0, amount=Nano(1)),
    m.CancelJob(query_id=0, id=1),
]
WORKERS_MESSAGES: list[Message] = [
    m.Claim(id=1, binding=0, key_tag=0),
    m.Submit(id=1, amount=Nano(1), collateral=77, lock=55, result_hash=0, binding=0),
    m.SubmitClaimed(
        id=1,
        amount=Nano(1),
        collateral=77,
        lock=55,
        result_hash=0,
        previous_code=False,
        stake=begin_cell().store_uint(0, 288).end_cell(),
    ),
]
EMPTY = begin_cell().end_cell()
ANYONES_MESSAGES: list[tuple[Message, ExitCode]] = [
    (m.Finalize(id=7), ExitCode.NO_JOB),
    (m.ReclaimLate(id=7), ExitCode.NO_JOB),
    (m.Resolve(id=7, verdict=EMPTY, signatures=EMPTY), ExitCode.NO_JOB),
    (m.Deliver(id=7, kind=0), ExitCode.NO_TOMBSTONE),
    (m.Deliver(id=7, kind=1), ExitCode.NO_TOMBSTONE),
    (m.Deliver(id=7, kind=2), ExitCode.NO_TOMBSTONE),
    (m.Deliver(id=7, kind=3), ExitCode.NO_TOMBSTONE),
]
EVERY_MESSAGE = [*OWNERS_MESSAGES, *WORKERS_MESSAGES, *(message for message, _ in ANYONES_MESSAGES)]


def named(message: object) -> str:
    return type(message).__name__ if isinstance(message, Message) else str(message)


# -- who may -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", OWNERS_MESSAGES, ids=named)
def test_stranger_cannot_use_the_owners_messages(
    world: World, client: Client, stranger: Actor, body: Message
) -> None:
    refused(
        world.chain,
        client.address,
        lambda: stranger.send(client.address, GAS, body.to_cell()),
        ExitCode.NOT_OWNER,
    )


@pytest.mark.parametrize("body", OWNERS_MESSAGES, ids=named)
def test_registry_and_twin_of_the_owner_cannot_use_the_owners_messages(
    world: World, client: Client, body: Message
) -> None:
    twin = Address((-1, client.owner.address.hash_part))
    for source in (world.suite.network.registry, twin):
        refused(
            world.chain,
            client.address,
            lambda source=source: world.chain.send_internal(client.address, GAS, body.to_cell(), src=source),
            ExitCode.NOT_OWNER,
        )


def test_stranger_cannot_update_parameters(world: World, client: Client, stranger: Actor) -> None:
    body = m.ParamsUpdate(query_id=0, params=world.suite.params_cell).to_cell()
    refused(
        world.chain, client.address, lambda: stranger.send(client.address, GAS, body), ExitCode.NOT_REGISTRY
    )
    twin = Address((-1, world.suite.network.registry.hash_part))
    refused(
        world.chain,
        client.address,
        lambda: world.chain.send_internal(client.address, GAS, body, src=twin),
        ExitCode.NOT_REGISTRY,
    )


@pytest.mark.parametrize(("body", "code"), ANYONES_MESSAGES, ids=named)
def test_anyone_cannot_end_a_job_that_never_was(
    world: World, client: Client, stranger: Actor, body: Message, code: ExitCode
) -> None:
    refused(world.chain, client.address, lambda: stranger.send(client.address, GAS, body.to_cell()), code)


def test_owner_cannot_cancel_a_job_that_never_was(world: World, client: Client) -> None:
    body = m.CancelJob(query_id=0, id=7)
    refused(world.chain, client.address, lambda: client.from_owner(body), ExitCode.NO_JOB)


# -- keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", WEAK_KEYS, ids=hex)
def test_owner_cannot_set_a_weak_hot_key(world: World, client: Client, key: int) -> None:
    for body in (
        m.SetKey(query_id=0, key=key),
        m.ConfigureEscrow(query_id=0, hot_key=key, daily_limit=Nano(1), allowed=None),
    ):
        refused(world.chain, client.address, lambda body=body: client.from_owner(body), ExitCode.WEAK_KEY)


# -- withdrawing ---------------------------------------------------------------------------------------


def test_owner_can_withdraw_everything_free_and_not_one_nanoton_more(world: World, client: Client) -> None:
    free = client.get_state().free
    for amount in (0, free + 1, 2**100):
        body = m.Withdraw(query_id=0, amount=Nano(amount))
        refused(
            world.chain, client.address, lambda body=body: client.from_owner(body), ExitCode.INSUFFICIENT_FREE
        )
    wallet, before = client.owner.balance, client.balance
    transactions = client.from_owner(m.Withdraw(query_id=0, amount=Nano(free)))
    assert client.balance == before - free
    assert client.get_state().free == 0
    # All that the owner lost of what it sent along and got back are fees.
    assert client.owner.balance - wallet == free - sum(int(t.cost) for t in transactions)


def test_owner_cannot_withdraw_what_jobs_reserve(world: World, client: Client, worker: Worker) -> None:
    client.open(world.suite.directed_terms(worker))
    state = client.get_state()
    assert state.free == state.balance - state.reserved - c.ESCROW_RENT
    body = m.Withdraw(query_id=0, amount=Nano(state.free + 1))
    refused(world.chain, client.address, lambda: client.from_owner(body), ExitCode.INSUFFICIENT_FREE)
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(state.free)))
    assert client.balance == state.balance - state.free


# -- deposits and junk ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bounce", [True, False])
@pytest.mark.parametrize("body", [None, begin_cell().store_uint(1, 5).end_cell()], ids=["empty", "short"])
def test_anyone_can_deposit(
    world: World, client: Client, stranger: Actor, bounce: bool, body: Cell | None
) -> None:
    data, before = state_of(world.chain, client.address)
    transactions = stranger.send(client.address, Nano.ton(3), body, bounce=bounce)
    assert state_of(world.chain, client.address) == (data, before + net(transactions, client.address))
    (arrival,) = at(transactions, client.address)
    assert arrival.success
    assert client.balance - before == Nano.ton(3) - arrival.total_fees


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (begin_cell().store_uint(0xDEADBEEF, 32).end_cell(), ExitCode.UNKNOWN_MESSAGE),
        (begin_cell().store_uint(0xDEADBEEF, 32).store_uint(7, 512).end_cell(), ExitCode.UNKNOWN_MESSAGE),
        (begin_cell().store_uint(0xFFFFFFFF, 32).store_uint(7, 256).end_cell(), ExitCode.UNKNOWN_MESSAGE),
        (begin_cell().store_uint(0, 32).store_bytes(b"hello").end_cell(), ExitCode.UNKNOWN_MESSAGE),
        (
            m.Reward(id=1, collateral=1, amount=5, fee=1, lock=1).to_cell(),
            ExitCode.UNKNOWN_MESSAGE,
        ),
        (m.Gone(id=1, collateral=1, lock=1).to_cell(), ExitCode.UNKNOWN_MESSAGE),
        (m.AddStake(query_id=1, amount=Nano(1)).to_cell(), ExitCode.UNKNOWN_MESSAGE),
    ],
)
def test_stranger_gets_junk_back(
    world: World, client: Client, stranger: Actor, body: Cell, code: ExitCode
) -> None:
    refused(world.chain, client.address, lambda: stranger.send(client.address, GAS, body), code)


# The last field of a submission on a claim is whatever is left of it (test_forgery.py).
FIXED_MESSAGES = [message for message in EVERY_MESSAGE if not isinstance(message, m.SubmitClaimed)]


@pytest.mark.parametrize("body", FIXED_MESSAGES, ids=named)
def test_owner_gets_a_truncated_message_back(world: World, client: Client, body: Message) -> None:
    whole = body.to_cell()
    for drop in (1, 8, len(whole.bits) - 32):
        cut = truncated(whole, drop)
        refused(
            world.chain,
            client.address,
            lambda cut=cut: client.owner.send(client.address, GAS, cut),
            ExitCode.CELL_UNDERFLOW,
        )


@pytest.mark.parametrize("value", [0, 1, 100_000, 1_000_000])
def test_stranger_with_too_little_value_changes_nothing(
    world: World, client: Client, stranger: Actor, value: int
) -> None:
    for body in (*OWNERS_MESSAGES, *(message for message, _ in ANYONES_MESSAGES), m.SyncParams(query_id=0)):
        data, before = state_of(world.chain, client.address)
        (arrival,) = at(stranger.send(client.address, value, body.to_cell()), client.address)
        assert not arrival.success
        after, balance = state_of(world.chain, client.address)
        assert after == data
        # What is too little to come back stays; the account itself pays nothing.
        assert balance >= before - arrival.storage_fee


def test_wallet_cannot_forge_a_bounce(world: World, client: Client, stranger: Actor) -> None:
    """Only validators set the bounced flag; a contract that writes it into its message has it removed."""
    original = m.Reward(id=1, collateral=1, amount=5_000_000_000, fee=1, lock=1).to_cell()
    forged = begin_cell().store_uint(0xFFFFFFFF, 32).store_cell(original).end_cell()
    # A bounced message that does arrive makes a tombstone: the forgery has to arrive as something else.
    request = _with_bounced_flag(stranger, client.address, forged)
    refused(world.chain, client.address, lambda: world.chain.send_external(request), ExitCode.UNKNOWN_MESSAGE)
    assert client.get_state().tombstones is None


def _with_bounced_flag(actor: Actor, to: Address, body: Cell) -> Cell:
    from nacl.signing import SigningKey

    from cocoon_sdk.sandbox.actors import WALLET_ID
    from cocoon_sdk.sandbox.messages import external_message

    message = internal_message(src=None, dst=to, value=int(GAS), body=body, bounce=True, bounced=True)
    until = actor._blockchain.now + 60
    request = begin_cell().store_uint(WALLET_ID, 32).store_uint(until, 32).store_uint(actor.seqno, 32)
    unsigned = request.store_uint(0, 8).store_uint(3, 8).store_ref(message).end_cell()
    signature = SigningKey(actor.private_key).sign(unsigned.hash).signature
    return external_message(
        actor.address, begin_cell().store_bytes(signature).store_cell(unsigned).end_cell()
    )


@pytest.mark.parametrize(
    "body",
    [m.JobOffer(id=1), m.Disputed(id=1), m.JobNotice(id=1), m.DisputeNotice(id=1), m.SyncParams(query_id=1)],
    ids=named,
)
def test_bounced_notices_bring_their_value_back_and_write_nothing(
    world: World, client: Client, worker: Worker, body: Message
) -> None:
    original = begin_cell().store_uint(0xFFFFFFFF, 32).store_cell(body.to_cell()).end_cell()
    data, before = state_of(world.chain, client.address)
    (arrival,) = world.chain.send_internal(
        client.address, GAS, original, src=worker.address, bounce=False, bounced=True
    )
    assert arrival.success
    assert state_of(world.chain, client.address) == (data, before + GAS - arrival.total_fees)


# -- a worker's messages from somebody else ------------------------------------------------------------


@pytest.mark.parametrize("body", WORKERS_MESSAGES[1:], ids=named)
@pytest.mark.parametrize("with_job", [False, True])
def test_stranger_is_told_gone_when_it_submits(
    world: World, client: Client, worker: Worker, stranger: Actor, body: Message, with_job: bool
) -> None:
    if with_job:
        client.open(world.suite.directed_terms(worker))
    data, before = state_of(world.chain, client.address)
    transactions = stranger.send(client.address, GAS, body.to_cell())
    (arrival,) = at(transactions, client.address)
    assert arrival.success
    (answer,) = arrival.out_msgs
    assert answer.op == m.Gone.OPCODE
    assert answer.dst == stranger.address
    assert not answer.bounce
    # It frees what the message says it locked.
    assert m.Gone.from_cell(answer.body) == m.Gone(id=1, collateral=77, lock=55)
    assert answer.value == GAS - arrival.total_fees - answer.fwd_fee
    assert state_of(world.chain, client.address) == (data, before)


@pytest.mark.parametrize("body", WORKERS_MESSAGES[1:], ids=named)
def test_masterchain_twin_of_the_worker_cannot_submit(
    world: World, client: Client, worker: Worker, body: Message
) -> None:
    client.open(world.suite.directed_terms(worker))
    twin = Address((-1, worker.address.hash_part))
    refused(
        world.chain,
        client.address,
        lambda: world.chain.send_internal(client.address, GAS, body.to_cell(), src=twin),
        ExitCode.NOT_ALLOWED,
    )


# -- the genuine worker with one thing wrong -----------------------------------------------------------


def genuine_submit(world: World, client: Client, worker: Worker, number: int, **changes: object) -> m.Submit:
    from cocoon_sdk.protocol import signing

    job = client.job(number)
    assert job is not None
    binding = signing.binding_hash(world.suite.params_cell, job.terms)
    fields: dict[str, object] = {
        "id": number,
        "lock": 5 if job.window else 0,
        "amount": Nano.ton("0.5"),
        "collateral": job.collateral,
        "result_hash": as_int(hash_of("result")),
        "binding": binding,
    }
    return m.Submit(**{**fields, **changes})  # type: ignore[arg-type]


WRONG_SUBMITS: list[dict[str, object]] = [
    {"id": 2},
    {"id": 0},
    {"amount": Nano.ton(1) + 1},
    {"amount": Nano(2**53 - 1)},
    {"collateral": 0},
    {"collateral": Nano.ton(4) - 1},
    {"collateral": Nano.ton(4) + 1},
    {"binding": 0},
    {"binding": 2**128 - 1},
]


@pytest.mark.parametrize("wrong", WRONG_SUBMITS, ids=str)
def test_worker_is_told_gone_when_one_field_of_a_submission_is_wrong(
    world: World, client: Client, worker: Worker, wrong: dict[str, object]
) -> None:
    number, _ = client.open(world.suite.directed_terms(worker))
    body = genuine_submit(world, client, worker, number, **wrong)
    data, before = state_of(world.chain, client.address)
    first, second = world.chain.send_internal(client.address, GAS, body.to_cell(), src=worker.address)
    assert (first.success, second.op, second.success) == (True, m.Gone.OPCODE, True)
    assert state_of(world.chain, client.address) == (data, before)
    # The control: unchanged, the same message is taken.
    (taken,) = world.chain.send_internal(
        client.address, GAS, genuine_submit(world, client, worker, number).to_cell(), src=worker.address
    )
    assert taken.success
    job = client.job(number)
    assert job is not None
    assert (job.status, job.collateral, job.lock, job.amount) == (2, Nano.ton(4), 5, Nano.ton("0.5"))


def test_worker_is_told_gone_when_window_zero_is_submitted_with_collateral(
    world: World, client: Client, worker: Worker
) -> None:
    number, _ = client.open(world.suite.directed_terms(worker, window=0))
    body = genuine_submit(world, client, worker, number, collateral=1)
    data, before = state_of(world.chain, client.address)
    _, gone = world.chain.send_internal(client.address, GAS, body.to_cell(), src=worker.address)
    assert gone.op == m.Gone.OPCODE
    assert state_of(world.chain, client.address) == (data, before)


@pytest.mark.parametrize("late", [0, 1])
def test_worker_can_submit_until_the_claim_deadline_and_not_after(
    world: World, client: Client, worker: Worker, late: int
) -> None:
    number, _ = client.open(world.suite.directed_terms(worker))
    job = client.job(number)
    assert job is not None
    world.chain.set_now(job.deadline + late)
    body = genuine_submit(world, client, worker, number)
    transactions = world.chain.send_internal(client.address, GAS, body.to_cell(), src=worker.address)
    assert [t.op == m.Gone.OPCODE for t in transactions] == ([False, True] if late else [False])
    after = client.job(number)
    assert after is not None
    assert after.status == (0 if late else 2)


def test_trailing_data_behind_a_message_is_ignored(world: World, client: Client, worker: Worker) -> None:
    """Internal messages pay for their own size: what stands behind the fields costs the sender only."""
    number, _ = client.open(world.suite.directed_terms(worker))
    body = extended(genuine_submit(world, client, worker, number).to_cell(), "1", begin_cell().end_cell())
    (taken,) = world.chain.send_internal(client.address, GAS, body, src=worker.address)
    assert taken.success


# -- too little for the rest of the path ---------------------------------------------------------------


def test_anyone_cannot_sync_when_the_answer_is_not_paid_for(
    world: World, client: Client, stranger: Actor
) -> None:
    body = m.SyncParams(query_id=0).to_cell()
    refused(
        world.chain,
        client.address,
        lambda: stranger.send(client.address, Nano.ton("0.02"), body),
        ExitCode.LOW_VALUE,
    )


def test_anyone_can_sync_and_pays_for_it(world: World, client: Client, stranger: Actor) -> None:
    before = client.balance
    transactions = stranger.send(client.address, Nano.ton("0.1"), m.SyncParams(query_id=0).to_cell())
    # The same version is refused again by the account, and its answer's rest stays there.
    assert ExitCode(at(transactions, client.address)[-1].exit_code or 0) is ExitCode.PARAMS_OUT_OF_BOUNDS
    assert client.balance > before


def test_anyone_cannot_finalize_with_too_little_gas(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    world.chain.warp(3600)
    body = m.Finalize(id=number).to_cell()
    refused(
        world.chain,
        client.address,
        lambda: stranger.send(client.address, gas_fee(20_000), body),
        ExitCode.LOW_VALUE,
    )


def test_anyone_cannot_reclaim_or_resolve_with_too_little_gas(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    world.chain.warp(3601)
    refused(
        world.chain,
        client.address,
        lambda: stranger.send(client.address, gas_fee(13_000), m.ReclaimLate(id=number).to_cell()),
        ExitCode.LOW_VALUE,
    )
