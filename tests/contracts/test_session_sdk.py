"""Sessions as the SDK sees them: wrappers, digests, history, explanation, and the code before."""

from __future__ import annotations

import pytest

from cocoon_sdk.contracts.code import previous_code_cell
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.explain import AccountTarget, Explanation, JobTarget, TransactionTarget, explain
from cocoon_sdk.history import (
    AcceptSessionAction,
    AccountKind,
    DisputeSessionAction,
    OpenSessionAction,
    RedeemAction,
    SessionEventKind,
    TopUpSessionAction,
    actions_of,
    decode_transaction,
    session_events,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.session_states import entries_of, settles_at, state_of
from cocoon_sdk.sandbox import Actor, Blockchain, SandboxChain, Transaction
from cocoon_sdk.types import Hash, Nano
from tests.contracts.test_session_move import list_new_codes
from tests.helpers.audit import World, absent
from tests.helpers.suite import Client, Suite, Worker, hash_of

DEPOSIT = Nano.ton(1)
HALF = Nano.ton("0.5")


def send(actor: Actor, message: OwnerMessage) -> list[Transaction]:
    return actor.send(message.to, message.value, message.body, state_init=message.state_init)


def escrow_of(world: World, client: Client) -> Escrow:
    return Escrow.at(SandboxChain(world.chain), client.address)


def session_of(client: Client, number: int) -> m.Session:
    session = client.session(number)
    assert session is not None
    return session


# -- wrappers ------------------------------------------------------------------------------------------


async def test_wrapper_tells_sessions_from_jobs(world: World, client: Client, worker: Worker) -> None:
    client.open(world.suite.directed_terms(worker))
    client.open_session(worker, DEPOSIT)
    client.open(world.suite.open_terms())
    client.open_session(worker, HALF)
    escrow = escrow_of(world, client)
    assert await escrow.jobs() == (1, 3)
    found = await escrow.sessions()
    assert {number: session.deposit for number, session in found.items()} == {2: DEPOSIT, 4: HALF}
    assert found[2] == await escrow.session(2) == client.session(2)
    assert await escrow.session(1) is await escrow.job(2) is await escrow.session(9) is None
    entries = entries_of(client.get_state().entries)
    assert [type(entry) for entry in entries.values()] == [m.Job, m.Session, m.Job, m.Session]
    assert await escrow.session_gas() == await escrow.job_gas() == session_of(client, 2).gas


async def test_messages_of_the_wrapper_do_what_they_say(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    escrow = escrow_of(world, client)
    send(stranger, escrow.redeem(number, HALF, client.voucher(worker, number, HALF)))
    assert worker.get_state().earned + worker.get_state().fee_due == HALF
    send(client.owner, escrow.close_session(number))
    assert state_of(session_of(client, number)).value == "closing"
    world.chain.set_now(settles_at(session_of(client, number)))
    send(stranger, escrow.settle_session(number))
    assert await escrow.sessions() == {}


@pytest.mark.parametrize("amount", [0, 1, 2**53 - 1, 2**64 - 1])
def test_digest_of_a_voucher_is_pure_and_binds_everything(
    world: World, client: Client, worker: Worker, amount: int
) -> None:
    domain = client.domain()
    digest = signing.voucher_digest(domain, worker.address, 7, amount)
    others = {
        signing.voucher_digest(domain, worker.address, 8, amount),
        signing.voucher_digest(domain, client.address, 7, amount),
        signing.voucher_digest(domain, worker.address, 7, amount ^ 1),
        signing.voucher_digest(signing.Domain(1, client.address, domain.epoch), worker.address, 7, amount),
        signing.result_digest(domain, worker.address, 7, bytes(32), amount),
    }
    assert digest == signing.voucher_digest(domain, worker.address, 7, amount)
    assert len(others | {digest}) == 6


def test_worker_of_a_session_must_live_in_the_base_chain(client: Client) -> None:
    key = client.voucher_key.verify_key
    elsewhere = type(client.address)((-1, client.address.hash_part))
    with pytest.raises(MalformedError):
        signing.open_session(1, elsewhere, key, DEPOSIT, 1)


# -- history and words -----------------------------------------------------------------------------------


async def told(world: World, client: Client, number: int) -> Explanation:
    chain = SandboxChain(world.chain)
    return await explain(chain, JobTarget(client.address, number), network=world.suite.network)


async def test_history_and_explanation_tell_a_sessions_life(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    client.open(world.suite.open_terms())
    client.act(signing.top_up_session(number, HALF))
    worker.act(signing.accept_session(number, worker.session_target(client, number)))
    worker.redeem(client, number, HALF)
    escrow = escrow_of(world, client)
    with absent(world.chain, worker.address):
        send(stranger, escrow.redeem(number, DEPOSIT, client.voucher(worker, number, DEPOSIT)))
    client.act(signing.close_session(number))
    open_still = str(await told(world, client, number))
    assert "closing, guarded: 0.5 TON of 1.5 TON are redeemed" in open_still
    assert "settle it" in open_still
    worker.end_session(client, number, DEPOSIT)
    events = await session_events(SandboxChain(world.chain), client.address, number)
    assert [(event.kind, int(event.amount)) for event in events] == [
        (SessionEventKind.OPENED, DEPOSIT),
        (SessionEventKind.TOPPED_UP, HALF),
        (SessionEventKind.GUARDED, Nano.ton(6)),
        (SessionEventKind.REDEEMED, HALF),
        (SessionEventKind.REDEEMED, HALF),
        (SessionEventKind.RETURNED, HALF),
        (SessionEventKind.CLOSING, 0),
        (SessionEventKind.REDEEMED, HALF),
        (SessionEventKind.CLOSED, 0),
    ]
    story = await told(world, client, number)
    assert story.kind == "Session"
    text = str(story)
    for words in (
        "Reserved 1 TON for the worker in a session",
        "added 0.5 TON",
        "guards the session with 6 TON",
        "0.495 TON for the worker and 0.005 TON protocol fee",
        "came back",
        "closing the session",
        "The worker ended the session",
        "The session has ended",
    ):
        assert words in text, text
    assert story.to_json()["kind"] == "Session"


@pytest.mark.parametrize("slash", [0, Nano.ton(2)])
async def test_history_and_explanation_tell_a_dispute(
    world: World, client: Client, worker: Worker, stranger: Actor, slash: int
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    worker.accept_session(client, number)
    worker.redeem(client, number, HALF, close=True)
    left = str(await told(world, client, number))
    assert "The worker is ending the session" in left
    assert "dispute what was done" in left
    if slash:
        client.dispute_session(number)
    else:
        send(client.owner, escrow_of(world, client).dispute_session(number, hash_of("receipts"), bytes(32)))
    waiting = str(await told(world, client, number))
    assert "hand in the arbiters' verdict" in waiting
    verdict = world.suite.session_verdict(client, worker, number, slash)
    send(stranger, escrow_of(world, client).resolve(verdict))
    worker.redeem(client, number, DEPOSIT, close=True)
    events = await session_events(SandboxChain(world.chain), client.address, number)
    assert [(event.kind, int(event.amount)) for event in events] == [
        (SessionEventKind.OPENED, DEPOSIT),
        (SessionEventKind.GUARDED, Nano.ton(4)),
        (SessionEventKind.WORKER_CLOSING, HALF),
        (SessionEventKind.DISPUTED, 0),
        (SessionEventKind.JUDGED, slash),
        (SessionEventKind.CLOSED, HALF),
    ]
    text = str(await told(world, client, number))
    assert f"{'The client' if slash else 'The owner'} disputes what was done" in text
    assert hash_of("receipts").hex() in text
    assert ("The arbiters took 2 TON" if slash else "The arbiters found for the worker") in text


async def test_explanation_tells_refused_acceptance_and_settlement(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    number, _ = client.open_session(worker, DEPOSIT)
    target = worker.session_target(client, number)
    client.act(signing.top_up_session(number, HALF))
    worker.act(signing.accept_session(number, target))
    client.from_owner(m.CloseSession(query_id=0, id=number))
    world.chain.set_now(settles_at(session_of(client, number)))
    send(stranger, escrow_of(world, client).settle_session(number))
    text = str(await told(world, client, number))
    assert "which did not fit" in text
    assert "The owner is closing" in text
    assert "was settled" in text


async def test_explanation_of_a_job_or_of_nothing_is_no_session(
    world: World, client: Client, worker: Worker
) -> None:
    client.open(world.suite.directed_terms(worker))
    client.act(
        signing.open_session(2, worker.address, client.voucher_key.verify_key, DEPOSIT, world.chain.now + 9)
    )
    assert [(await told(world, client, number)).kind for number in (1, 2, 3)] == ["Job", "Session", "Job"]


async def test_account_lists_its_sessions(world: World, client: Client, worker: Worker) -> None:
    client.open_session(worker, DEPOSIT)
    client.open(world.suite.directed_terms(worker))
    chain = SandboxChain(world.chain)
    text = str(await explain(chain, AccountTarget(client.address), network=world.suite.network))
    assert "Session 1: open" in text
    assert "Job 2: open" in text


async def test_transactions_of_sessions_are_told_with_their_actions_and_messages(
    world: World, client: Client, worker: Worker
) -> None:
    number, opened = client.open_session(worker, DEPOSIT)
    redeemed = worker.redeem(client, number, HALF)
    for transaction, words in (
        (opened[0], "open session"),
        (redeemed[0], "redeem"),
        (redeemed[1], "Received redeem"),
        (redeemed[2], "Received reward"),
    ):
        target = TransactionTarget(transaction.address, lt=transaction.lt)
        text = str(await explain(SandboxChain(world.chain), target, network=world.suite.network))
        assert words in text, text


def test_signed_actions_can_be_read_back(world: World, client: Client, worker: Worker) -> None:
    number, opened = client.open_session(worker, DEPOSIT)
    topped = client.act(
        signing.top_up_session(number, HALF), signing.close_session(number), max_spend=DEPOSIT
    )
    target = worker.session_target(client, number)
    signature = client.voucher(worker, number, HALF)
    operated = worker.act(
        signing.redeem(number, client.address, HALF, signature, close=True),
        signing.accept_session(number, target),
        max_spend=DEPOSIT,
    )
    (opening,) = read(opened[0], AccountKind.ESCROW)
    assert isinstance(opening, OpenSessionAction)
    assert (opening.worker, opening.deposit, opening.session_id) == (worker.address, DEPOSIT, number)
    assert bytes(opening.voucher_key) == client.voucher_key.verify_key.raw
    assert read(topped[0], AccountKind.ESCROW)[0] == TopUpSessionAction(number, HALF)
    redeem, accept = read(operated[0], AccountKind.STAKE)
    assert redeem == RedeemAction(number, client.address, HALF, True, signature)
    second, _ = client.open_session(worker, DEPOSIT)
    worker.accept_session(client, second)
    assert read(client.dispute_session(second)[0], AccountKind.ESCROW) == [
        DisputeSessionAction(second, Hash(hash_of("receipts")), Hash(world.suite.model_id))
    ]
    (given_up,) = read(worker.redeem(client, second, HALF, forgo=7)[0], AccountKind.STAKE)
    assert isinstance(given_up, RedeemAction)
    assert (given_up.amount, given_up.forgo, len(given_up.signature)) == (HALF, 7, 64)
    assert accept == AcceptSessionAction(number, target)


def read(transaction: Transaction, kind: AccountKind) -> list[object]:
    return [action for action, _ in actions_of(decode_transaction(transaction.record()), kind)]


# -- the code before -------------------------------------------------------------------------------------


async def test_owner_can_empty_an_escrow_of_the_previous_code_with_the_sdk() -> None:
    world = World(Suite(Blockchain(), born_before=frozenset({"escrow", "stake"})))
    client, worker = world.client("client"), world.worker("worker")
    client.open(world.suite.open_terms())
    list_new_codes(world)
    chain, network = SandboxChain(world.chain), world.suite.network
    escrow = Escrow.from_owner(chain, network, client.owner.address, previous_code=True)
    assert escrow.address == client.address != Escrow.from_owner(chain, network, client.owner.address).address
    genuine = await escrow.verify_genuine(network)
    assert (genuine.owner, genuine.previous_code) == (client.owner.address, True)
    assert await escrow.jobs() == (1,)
    send(client.owner, escrow.cancel_job(1))
    before = client.owner.balance
    send(client.owner, escrow.withdraw(Nano((await escrow.state()).free)))
    assert client.owner.balance - before > Nano.ton(99)
    stake = WorkerStake.from_owner(chain, network, worker.owner.address, previous_code=True)
    assert stake.address == worker.address
    assert (await stake.verify_genuine(network)).previous_code
    assert bytes(world.chain.account(stake.address).code.hash) == previous_code_cell("WorkerStake").hash  # type: ignore[union-attr]
    text = str(await explain(chain, JobTarget(client.address, 1), network=network))
    assert "cancelled" in text
