"""History read back from the real contracts on the sandbox, and from damaged cells."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.data import InlineData, decode_data, encode_data
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.history import (
    AcceptSignedAction,
    AccountKind,
    AnnounceAction,
    CancelJobAction,
    ClaimAction,
    DisputeResultAction,
    FinalizeAction,
    HistoryNotFoundError,
    JobEventKind,
    MessageKind,
    OpenJobAction,
    SubmitAction,
    UnreadableAction,
    decode_external,
    decode_message,
    decode_transaction,
    job_events,
    payload_of,
    result_of,
    sending_transaction,
)
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.sandbox import Blockchain, SandboxChain
from cocoon_sdk.types import Hash, Nano
from tests.helpers.suite import Client, Suite, hash_of

RESULT = Hash(hash_of("r"))
KEY = SigningKey.from_seed(bytes(range(32)))
DOMAIN = signing.Domain(-239, Address((0, bytes(32))), 7)
TARGET = signing.JobTarget(
    escrow_owner=5,
    escrow_index=0,
    previous_code=False,
    own_previous_code=True,
    job_hash=77,
    collateral=Nano(9),
    lock=0x304,
)
CLAIM = m.ClaimTarget(escrow=6, bond=Nano(3), key_tag=8)


def body_of(*actions: signing.Action, purpose: int = c.PURPOSE_ESCROW_EXTERNAL) -> Cell:
    return signing.external_body(
        KEY, purpose, DOMAIN, seqno=3, valid_until=99, max_spend=Nano(123), actions=actions
    )


@pytest.fixture
def suite(blockchain: Blockchain) -> Suite:
    return Suite(blockchain)


def test_reader_can_decode_every_action_of_an_escrow() -> None:
    data, terms = encode_data(InlineData(b"payload")), begin_cell().store_uint(1, 8).end_cell()
    actions = (
        signing.open_job(1, terms, data),
        signing.accept_signed(2, Nano(5), hash_of("r"), b"s" * 64),
        signing.accept_signed(2, Nano(5), hash_of("r"), b"s" * 64, 2**256 - 1),
        signing.dispute_result(3),
        signing.cancel_job(4),
    )
    decoded = decode_external(body_of(*actions), AccountKind.ESCROW)
    assert (decoded.seqno, decoded.valid_until, decoded.max_spend) == (3, 99, Nano(123))
    opened, accepted, accepted_on_claim, disputed, cancelled = decoded.actions
    assert isinstance(opened, OpenJobAction)
    assert opened.terms.hash == terms.hash
    assert opened.data is not None
    assert decode_data(opened.data) == InlineData(b"payload")
    assert accepted == accepted_on_claim == AcceptSignedAction(2, Nano(5), RESULT, b"s" * 64)
    assert (disputed, cancelled) == (DisputeResultAction(3), CancelJobAction(4))


def test_reader_can_decode_every_action_of_a_stake() -> None:
    hashes: dict[str, Any] = {"job_hash": 77, "result_hash": int.from_bytes(RESULT, "big")}
    escrow: dict[str, Any] = {"escrow_owner": 5, "escrow_index": 0, "previous_code": False}
    on_claim: dict[str, Any] = {
        "own_previous_code": True,
        "lock": 0x304,
        "result_hash": hashes["result_hash"],
    }
    actions = (
        signing.claim(1, 2**128 - 1, CLAIM),
        signing.submit(2, Nano(6), TARGET, RESULT),
        signing.submit(2, Nano(6), replace(TARGET, lock=4), RESULT),
        signing.submit(2, Nano(6), replace(TARGET, collateral=Nano(0)), RESULT),
        signing.submit_claimed(3, Nano(7), TARGET, RESULT),
        signing.announce(hash_of("model"), hash_of("info")),
        signing.finalize(4, DOMAIN.contract),
    )
    decoded = decode_external(body_of(*actions), AccountKind.STAKE)
    assert decoded.actions == (
        ClaimAction(1, CLAIM),
        SubmitAction(2, Nano(6), m.SubmitMore(lock=0x304, **hashes), None),
        SubmitAction(2, Nano(6), m.SubmitWork(**escrow, **hashes), None),
        SubmitAction(2, Nano(6), m.SubmitInstant(**escrow, **hashes), None),
        SubmitAction(3, Nano(7), m.SubmitOnClaim(**escrow, **on_claim), None),
        AnnounceAction(Hash(hash_of("model")), Hash(hash_of("info")), None),
        FinalizeAction(4, DOMAIN.contract),
    )


def test_reader_can_see_later_actions_when_an_earlier_one_is_unreadable() -> None:
    unknown = signing.Action(begin_cell().store_uint(200, 8).end_cell())
    decoded = decode_external(body_of(unknown, signing.cancel_job(1)), AccountKind.ESCROW)
    assert isinstance(decoded.actions[0], UnreadableAction)
    assert decoded.actions[1] == CancelJobAction(1)


@pytest.mark.parametrize("count", [0, 9, 2**32 - 1])
def test_reader_cannot_decode_an_external_when_the_count_is_out_of_bounds(count: int) -> None:
    head = begin_cell().store_bytes(bytes(64)).store_uint(0, 64).store_uint(c.ACTION_BATCH, 8)
    body = head.store_uint(count, 32).store_uint(0, 64).end_cell()
    with pytest.raises(MalformedError, match="signed external"):
        decode_external(body, AccountKind.ESCROW)


@given(st.binary(max_size=127), st.binary(max_size=127), st.integers(0, 4))
def test_reader_cannot_fail_with_anything_but_malformed_when_cells_are_random(
    head: bytes, tail: bytes, refs: int
) -> None:
    builder = begin_cell().store_bytes(head)
    for _ in range(refs):
        builder.store_ref(begin_cell().store_bytes(tail).end_cell())
    cell = builder.end_cell()
    for kind in AccountKind:
        with contextlib.suppress(MalformedError):
            decode_external(cell, kind)
    with contextlib.suppress(MalformedError):
        decode_message(cell)


def run_directed(suite: Suite) -> tuple[Client, int]:
    client, worker = suite.client("client"), suite.worker("worker")
    job, _ = client.open(suite.directed_terms(worker), data=encode_data(InlineData(b"the payload")))
    worker.submit(client, job, Nano.ton("0.5"), data=encode_data(InlineData(b"the result")))
    return client, job


async def test_worker_can_find_the_payload_when_it_holds_the_notice(suite: Suite) -> None:
    client, worker = suite.client("client"), suite.worker("worker")
    terms = suite.directed_terms(worker)
    job, _ = client.open(terms, data=encode_data(InlineData(b"the payload")))
    chain = SandboxChain(suite.chain)
    (record,) = await chain.transactions(worker.address, limit=1)
    notice = decode_transaction(record).in_message
    assert notice is not None
    assert notice.content == m.JobOffer(id=job)
    for hint in (notice, None):
        opened = await payload_of(chain, client.address, job, notice=hint)
        assert opened.terms.hash == terms.to_cell().hash
        assert opened.data is not None
        assert decode_data(opened.data) == InlineData(b"the payload")


async def test_worker_cannot_find_a_transaction_when_the_message_was_never_sent(suite: Suite) -> None:
    client, job = run_directed(suite)
    chain = SandboxChain(suite.chain)
    with pytest.raises(HistoryNotFoundError):
        await sending_transaction(chain, client.address, suite.chain.lt + 5)
    with pytest.raises(HistoryNotFoundError):
        await payload_of(chain, client.address, job + 1)


@pytest.mark.parametrize("claimed", [False, True])
async def test_client_can_find_the_result_when_it_was_submitted(suite: Suite, claimed: bool) -> None:
    client, worker = suite.client("client"), suite.worker("worker")
    job, _ = client.open(suite.open_terms() if claimed else suite.directed_terms(worker))
    data, result = encode_data(InlineData(b"the result")), hash_of("its hash")
    if claimed:
        worker.claim(client, job)
        worker.act(signing.submit_claimed(job, Nano(7), worker.target(client, job), result, data))
    else:
        worker.submit(client, job, 7, result, data=data)
    chain = SandboxChain(suite.chain)
    found = await result_of(chain, client.address, job)
    assert (found.amount, found.result_hash, found.worker) == (Nano(7), result, worker.address)
    assert found.data is not None
    assert decode_data(found.data) == InlineData(b"the result")
    with pytest.raises(HistoryNotFoundError):
        await result_of(chain, client.address, job, result_hash=hash_of("another"))


async def test_reader_can_follow_a_job_from_opening_to_payment(suite: Suite) -> None:
    client, worker = suite.client("client"), suite.worker("worker")
    job, _ = client.open(suite.open_terms())
    client.open(suite.open_terms())
    worker.claim(client, job)
    worker.submit_claimed(client, job, Nano.ton("0.5"))
    client.act(signing.dispute_result(job))
    client.act(signing.accept_result(job), signing.accept_result(job))  # skipped: disputed
    suite.governor.send(
        client.address, Nano.ton(1), suite.verdict(client, worker, job, Nano.ton("0.5"), 0).to_cell()
    )
    events = await job_events(SandboxChain(suite.chain), client.address, job)
    assert [event.kind for event in events] == [
        JobEventKind.OPENED,
        JobEventKind.CLAIMED,
        JobEventKind.SUBMITTED,
        JobEventKind.DISPUTED,
        JobEventKind.RESOLVED,
    ]
    assert events[-1].paid == Nano.ton("0.5")


async def test_reader_can_tell_what_was_refused_from_what_counts(suite: Suite) -> None:
    client, worker, rival = suite.client("client"), suite.worker("worker"), suite.worker("rival")
    job, _ = client.open(suite.open_terms())
    too_slow = rival.claim_action(client, job)
    worker.claim(client, job)
    rival.act(too_slow)
    suite.chain.warp(3601)
    worker.submit_claimed(client, job, 5)
    client.act(signing.reclaim_late(job))
    events = await job_events(SandboxChain(suite.chain), client.address, job)
    assert [event.kind for event in events][1:] == [
        JobEventKind.CLAIMED,
        JobEventKind.REFUSED,
        JobEventKind.REFUSED,
        JobEventKind.RECLAIMED,
    ]
    assert [event.message.src for event in events[2:4] if event.message] == [rival.address, worker.address]


async def test_reader_can_see_which_action_was_skipped_and_why(suite: Suite) -> None:
    client = suite.client("client")
    client.act(signing.cancel_job(5), signing.accept_result(6))
    (record,) = await SandboxChain(suite.chain).transactions(client.address, limit=1)
    decoded = decode_transaction(record)
    assert decoded.success
    assert decoded.in_message is not None
    assert decoded.in_message.kind is MessageKind.EXTERNAL_IN
    assert [decoded.skip_code(i) for i in (1, 2, 3)] == [ExitCode.NO_JOB, ExitCode.NO_JOB, None]


async def test_decoder_can_read_all_transactions_as_the_sandbox_does(suite: Suite) -> None:
    run_directed(suite)
    suite.governor.send(
        suite.client("client").address, Nano.ton(1), begin_cell().store_uint(1, 32).end_cell()
    )
    for transaction in suite.chain.transactions(limit=1000):
        decoded = decode_transaction(transaction.record())
        assert decoded.success == transaction.success
        assert decoded.exit_code == transaction.exit_code
        assert decoded.action_code == transaction.action_result_code
        assert decoded.gas_used == transaction.gas_used
        assert decoded.total_fees == transaction.total_fees
        assert decoded.forward_fees == transaction.forward_fees
        assert [out.body.hash for out in decoded.out_messages] == [
            out.body.hash for out in transaction.out_msgs
        ]
        assert decoded.in_message is not None
        assert decoded.in_message.value == transaction.in_msg.value
        assert decoded.in_message.src == transaction.in_msg.src


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_decoder_cannot_fail_with_anything_but_malformed_when_bits_are_flipped(
    blockchain: Blockchain, data: st.DataObject
) -> None:
    if not blockchain.transactions(limit=1):
        blockchain.actor("somebody").send(blockchain.actor("other").address, Nano.ton(1))
    record = data.draw(st.sampled_from(blockchain.transactions(limit=10))).record()
    bits = record.cell.bits.copy()
    for position in data.draw(st.lists(st.integers(0, len(bits) - 1), max_size=4)):
        bits[position] = not bits[position]
    damaged = Cell(bits, record.cell.refs[: data.draw(st.integers(0, 4))], -1)
    with contextlib.suppress(MalformedError):
        decode_transaction(
            type(record)(
                record.address, record.lt, record.now, record.hash, record.prev_lt, record.prev_hash, damaged
            )
        )
