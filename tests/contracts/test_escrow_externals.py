"""Signed externals of the hot key: forged, replayed, malformed, too many, too dear."""

from __future__ import annotations

import pytest
from pytoniq_core import Builder, Cell, begin_cell

from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.signing import Action
from cocoon_sdk.sandbox import Actor
from cocoon_sdk.types import Nano
from tests.helpers.audit import (
    World,
    at,
    bits,
    denied,
    extended,
    flipped,
    job_gas,
    rejected,
    skipped,
    skips,
    state_of,
    tree,
    truncated,
    without_refs,
)
from tests.helpers.suite import Client, Worker, key_of

SPEND = Nano.ton(3)


def opening(world: World, client: Client, worker: Worker) -> Action:
    return signing.open_job(client.get_state().next_id, world.suite.directed_terms(worker).to_cell())


def body_of(client: Client, domain: signing.Domain, action: Action, **changes: object) -> Cell:
    fields: dict[str, object] = {
        "seqno": client.get_state().seqno,
        "valid_until": client.suite.chain.now + 60,
        "max_spend": SPEND,
        "actions": [action],
        **changes,
    }
    return signing.external_body(client.key, c.PURPOSE_ESCROW_EXTERNAL, domain, **fields)  # type: ignore[arg-type]


# -- the signature -------------------------------------------------------------------------------------


@pytest.mark.parametrize("thief", ["nobody", "worker", "arbiter 0"])
def test_stranger_cannot_use_the_hot_key(world: World, client: Client, worker: Worker, thief: str) -> None:
    external = client.external(opening(world, client, worker), max_spend=SPEND, key=key_of(thief))
    rejected(world.chain, client, external, ExitCode.BAD_SIGNATURE)


def test_signature_for_another_domain_cannot_be_used(world: World, client: Client, worker: Worker) -> None:
    here = client.domain()
    other = world.client("other")
    action = opening(world, client, worker)
    domains = [
        signing.Domain(here.global_id + 1, here.contract, here.epoch),
        signing.Domain(-3 if here.global_id != -3 else -239, here.contract, here.epoch),
        signing.Domain(here.global_id, other.address, here.epoch),
        signing.Domain(here.global_id, here.contract, here.epoch + 1),
        signing.Domain(here.global_id, here.contract, 0),
    ]
    for domain in domains:
        external = signing.external_message(client.address, body_of(client, domain, action))
        rejected(world.chain, client, external, ExitCode.BAD_SIGNATURE)
    for purpose in (c.PURPOSE_STAKE_EXTERNAL, c.PURPOSE_RESULT, c.PURPOSE_VERDICT):
        body = signing.external_body(
            client.key,
            purpose,
            here,
            seqno=0,
            valid_until=world.chain.now + 60,
            max_spend=SPEND,
            actions=[action],
        )
        rejected(world.chain, client, signing.external_message(client.address, body), ExitCode.BAD_SIGNATURE)
    assert client.act(action, max_spend=SPEND)[0].success


def test_every_flipped_bit_breaks_the_signature(world: World, client: Client, worker: Worker) -> None:
    body = body_of(client, client.domain(), opening(world, client, worker))
    for position in range(0, len(body.bits), 13):
        external = signing.external_message(client.address, flipped(body, position))
        rejected(world.chain, client, external, ExitCode.BAD_SIGNATURE)
    wrong_terms = begin_cell().store_bits(body.begin_parse().load_bits(len(body.bits)))
    wrong_terms.store_ref(flipped(body.refs[0], 17))
    external = signing.external_message(client.address, wrong_terms.end_cell())
    rejected(world.chain, client, external, ExitCode.BAD_SIGNATURE)


def test_malformed_external_costs_nothing(world: World, client: Client, worker: Worker) -> None:
    body = body_of(client, client.domain(), opening(world, client, worker))
    cases: list[tuple[Cell, ExitCode | None]] = [
        (begin_cell().end_cell(), ExitCode.CELL_UNDERFLOW),
        (bits("1" * 511), ExitCode.CELL_UNDERFLOW),
        (bits("0" * 512), ExitCode.BAD_SIGNATURE),
        (truncated(body), None),
        (truncated(body, 8), ExitCode.BAD_SIGNATURE),
        (without_refs(body), ExitCode.BAD_SIGNATURE),
        (extended(body), None),
        (extended(body, "1" * 8), ExitCode.BAD_SIGNATURE),
        (extended(body, "", tree(64)), ExitCode.BAD_SIGNATURE),
        (Builder.store_ref(begin_cell().store_cell(extended(body, "", tree(4))), tree(4)).end_cell(), None),
    ]
    for case, code in cases:
        rejected(world.chain, client, signing.external_message(client.address, case), code)


def test_signed_but_truncated_header_costs_nothing(world: World, client: Client) -> None:
    """Not even the owner of the key can make the escrow pay for a header that does not parse."""
    for short in ("", "00000010", "00000010" + "0" * 24):
        rejected(world.chain, client, client.external(Action(bits(short))), ExitCode.CELL_UNDERFLOW)


# -- sequence numbers and time -------------------------------------------------------------------------


def test_anyone_cannot_replay_an_external(world: World, client: Client, worker: Worker) -> None:
    external = client.external(opening(world, client, worker), max_spend=SPEND)
    world.chain.send_external(external)
    rejected(world.chain, client, external, ExitCode.BAD_SEQNO)
    world.chain.warp(1)
    rejected(world.chain, client, external, ExitCode.BAD_SEQNO)


@pytest.mark.parametrize("ahead", [1, 2, 2**32 - 1])
def test_hot_key_cannot_use_another_seqno(world: World, client: Client, worker: Worker, ahead: int) -> None:
    external = client.external(opening(world, client, worker), max_spend=SPEND, seqno=ahead)
    rejected(world.chain, client, external, ExitCode.BAD_SEQNO)


@pytest.mark.parametrize(("valid_for", "good"), [(-1, False), (0, True), (255, True), (256, False)])
def test_hot_key_can_act_only_within_its_validity(
    world: World, client: Client, worker: Worker, valid_for: int, good: bool
) -> None:
    external = client.external(opening(world, client, worker), max_spend=SPEND, valid_for=valid_for)
    if good:
        assert world.chain.send_external(external)[0].success
    else:
        rejected(world.chain, client, external, ExitCode.BAD_VALID_UNTIL)


def test_anyone_cannot_replay_an_external_whose_actions_all_failed(world: World, client: Client) -> None:
    external = client.external(signing.accept_result(99), signing.cancel_job(98))
    transactions = world.chain.send_external(external)
    skipped(client, transactions, ExitCode.NO_JOB, ExitCode.NO_JOB)
    assert client.get_state().seqno == 1
    rejected(world.chain, client, external, ExitCode.BAD_SEQNO)


def test_pending_escrow_cannot_be_used_by_anybody(world: World) -> None:
    """Held before the registry answers: no signature counts, and the owner may still withdraw."""
    chain = world.chain
    owner = chain.actor("slow", Nano.ton(1000))
    deployment = world.suite.network.escrow(owner.address)
    client = Client(world.suite, deployment, owner, key_of("slow"), c.PURPOSE_ESCROW_EXTERNAL)
    world.clients.append(client)
    body = m.ConfigureEscrow(
        query_id=0, hot_key=client.key.verify_key.to_int(), daily_limit=Nano.ton(1), allowed=None
    )
    chain.hold()
    owner.send(client.address, Nano.ton(10), body.to_cell(), state_init=deployment.state_init)
    chain.step()
    assert not client.get_state().active
    rejected(chain, client, client.external(signing.accept_result(1)), None)
    free, before = client.get_state().free, client.balance
    owner.send(client.address, Nano.ton("0.1"), m.Withdraw(query_id=0, amount=Nano(free)).to_cell())
    index = next(i for i, message in enumerate(chain.pending) if message.dst == client.address)
    chain.step(index)
    assert client.balance == before - free
    chain.release()
    assert client.get_state().active
    assert client.get_state().epoch == chain.now


# -- counts and funds ----------------------------------------------------------------------------------


def batch_header(count: int, max_spend: int = 0) -> Cell:
    header = begin_cell().store_uint(c.ACTION_BATCH, 8).store_uint(count, 32).store_uint(max_spend, 64)
    return header.end_cell()


@pytest.mark.parametrize("count", [0, 1, 9, 2**32 - 1])
def test_hot_key_cannot_declare_a_wrong_number_of_actions(world: World, client: Client, count: int) -> None:
    action = Action(batch_header(count), (signing.accept_result(1).bits,))
    rejected(world.chain, client, client.external(action), ExitCode.BAD_ACTION_COUNT)


@pytest.mark.parametrize("declared", [2, 8])
def test_missing_actions_are_skipped_when_more_are_declared(
    world: World, client: Client, declared: int
) -> None:
    action = Action(batch_header(declared), (signing.accept_result(1).bits,))
    transactions = client.act(action)
    skipped(client, transactions, *[ExitCode.CELL_UNDERFLOW] * declared)
    assert client.get_state().seqno == 1


def test_hot_key_cannot_spend_what_is_not_free(world: World, client: Client, worker: Worker) -> None:
    action = opening(world, client, worker)
    free = client.get_state().free
    batch = client.external(action, signing.cancel_job(1), max_spend=free)
    rejected(world.chain, client, batch, ExitCode.INSUFFICIENT_FREE)
    terms = world.suite.directed_terms(worker, price=Nano(free))
    denied(client, lambda: client.open(terms), ExitCode.INSUFFICIENT_FREE)


def test_batch_cannot_exceed_its_declared_maximum(world: World, client: Client, worker: Worker) -> None:
    terms = world.suite.directed_terms(worker)
    one = terms.max_price + Nano.ton("0.21") + job_gas(client)
    actions = [signing.open_job(number, terms.to_cell()) for number in (1, 2, 3)]
    # The third finds only what the other two left of the maximum.
    skipped(client, client.act(*actions, max_spend=2 * one), ExitCode.DAILY_LIMIT)
    assert client.get_state().jobs == 2


# -- batches -------------------------------------------------------------------------------------------


def test_eight_actions_can_succeed_and_fail_independently(
    world: World, client: Client, worker: Worker
) -> None:
    terms = world.suite.directed_terms(worker).to_cell()
    open_terms = world.suite.open_terms().to_cell()
    transactions = client.act(
        signing.open_job(1, terms),
        signing.open_job(1, terms),
        signing.open_job(2, open_terms),
        signing.accept_result(1),
        Action(begin_cell().store_uint(77, 8).store_uint(1, 32).end_cell()),
        signing.cancel_job(2),
        signing.dispute_result(9),
        signing.open_job(3, terms),
        max_spend=Nano.ton(10),
    )
    first = at(transactions, client.address)[0]
    assert skips([first], client.address) == [
        (2, ExitCode.UNEXPECTED_ID),
        (4, ExitCode.WRONG_STATE),
        (5, ExitCode.UNKNOWN_ACTION),
        (7, ExitCode.NO_JOB),
    ]
    state = client.get_state()
    assert (state.seqno, state.next_id, state.jobs) == (1, 4, 2)
    assert state.reserved == 2 * (Nano.ton("1.21") + job_gas(client))


def test_malformed_action_leaves_the_others_alone(world: World, client: Client, worker: Worker) -> None:
    good = signing.open_job(1, world.suite.directed_terms(worker).to_cell())
    malformed = [
        Action(bits("")),
        Action(bits("0000000")),
        Action(begin_cell().store_uint(c.ACTION_OPEN_JOB, 8).store_uint(1, 32).end_cell()),
        Action(good.bits, (begin_cell().end_cell(),)),
        Action(signing.accept_signed(1, Nano(1), bytes(32), bytes(64)).bits),
    ]
    transactions = client.act(*malformed, good, max_spend=Nano.ton(10))
    codes = [code for _, code in skips(transactions, client.address)]
    assert len(codes) == len(malformed)
    assert client.get_state().jobs == 1
    assert client.get_state().seqno == 1


# -- revocation ----------------------------------------------------------------------------------------


def test_owner_can_revoke_a_stolen_hot_key(world: World, client: Client, worker: Worker) -> None:
    stolen = client.external(opening(world, client, worker), max_spend=SPEND)
    replacement = key_of("replacement")
    client.from_owner(m.SetKey(query_id=0, key=replacement.verify_key.to_int()))
    rejected(world.chain, client, stolen, ExitCode.BAD_SIGNATURE)
    client.key = replacement
    assert client.act(opening(world, client, worker), max_spend=SPEND)[0].success


def test_third_party_messages_cost_nothing(
    world: World, client: Client, worker: Worker, stranger: Actor
) -> None:
    """A thousand forgeries leave balance, bucket and state as they were."""
    before = state_of(world.chain, client.address)
    forged = client.external(opening(world, client, worker), max_spend=SPEND, key=key_of("thief"))
    for _ in range(100):
        rejected(world.chain, client, forged, ExitCode.BAD_SIGNATURE)
    assert state_of(world.chain, client.address) == before
