"""A client that disputes a guarded session through the SDK, on the real contracts and the real database."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocoon_sdk.client.sessions.account import AsyncSessions
from cocoon_sdk.client.sessions.errors import SessionRefusedError, SpendLimitError, StaleSessionError
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.client.sessions.funds.records import SessionState
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import ConfigError, InsufficientEscrowError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_evidence import SessionEvidence
from cocoon_sdk.protocol.session_states import evidence_of, settles_at
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Nano
from tests.helpers.audit import payments
from tests.helpers.client_sessions import SessionTown
from tests.helpers.sdk import MODEL_NAME
from tests.helpers.session_trials import guarded, replace_key, signed_answer
from tests.helpers.suite import hash_of, key_of

EVIDENCE = hash_of("receipts")
SOME = Nano(1000)
BOND = Nano.ton("0.21")
"""With the announcement; gas comes on top."""


async def test_client_can_dispute_and_has_its_bond_back_when_nobody_judges(
    town: SessionTown, sessions: AsyncSessions
) -> None:
    held = await guarded(town, sessions)
    number = held.ref.session_id
    signed = await held.sign(800_000)
    before = (await town.client.escrow.balance()).free
    cost = await sessions.dispute_bond(number)
    assert BOND < cost < BOND + Nano.ton("0.05")
    info = await sessions.dispute(number, EVIDENCE)
    assert (info.disputed, info.guarded, info.state) == (True, True, SessionState.CLOSING)
    entry = town.on_chain(number)
    assert entry is not None
    assert evidence_of(entry) == EVIDENCE
    assert info.settle_at == settles_at(entry)
    market = town.town.suite.network.market(town.town.model.model_id).address
    done = town.town.chain.transactions(town.client.escrow.address, limit=5)
    assert [each.dst for each in payments(done) if each.op == m.DisputeNotice.OPCODE] == [market]
    spent = before - (await town.client.escrow.balance()).free
    assert BOND < spent <= cost
    # Nothing more is signed; what was signed is paid.
    with pytest.raises(StaleSessionError):
        await held.sign(900_000)
    town.redeem(held, signed)
    assert (await sessions.get(number)).redeemed == 800_000
    with pytest.raises(SessionRefusedError, match="disputed already"):
        await sessions.dispute(number, EVIDENCE)
    town.pass_time(info.settle_at - town.town.chain.now)
    await sessions.settle(number)
    assert town.on_chain(number) is None
    assert (await town.client.escrow.balance()).reserved == 0


async def test_next_request_gets_another_session_while_one_is_disputed(
    town: SessionTown, sessions: AsyncSessions
) -> None:
    held = await guarded(town, sessions)
    await sessions.dispute(held.ref.session_id, EVIDENCE)
    again = await sessions.acquire(await town.offer(), SOME)
    assert again.ref.session_id != held.ref.session_id


async def test_client_can_dispute_what_its_database_does_not_know_when_it_names_the_model(
    town: SessionTown, sessions: AsyncSessions, tmp_path: Path
) -> None:
    held = await guarded(town, sessions)
    other = AsyncSessions(town.client._context, town.client.workers, database=tmp_path / "other.db")
    with pytest.raises(ConfigError, match="Name it"):
        await other.dispute(held.ref.session_id, EVIDENCE)
    assert (await other.dispute(held.ref.session_id, EVIDENCE, model=MODEL_NAME)).disputed
    await other.close()


async def test_client_is_told_why_it_cannot_dispute(town: SessionTown, sessions: AsyncSessions) -> None:
    held = await sessions.acquire(await town.offer(), SOME)
    number = held.ref.session_id
    with pytest.raises(SessionRefusedError, match="no collateral"):
        await sessions.dispute(number, EVIDENCE)
    with pytest.raises(ConfigError, match="32 bytes"):
        await sessions.dispute(number, b"short")
    with pytest.raises(SessionRefusedError):
        await sessions.dispute(4_000_000, EVIDENCE)
    assert (await held.sign(1000)).amount == 1000, "the session goes on"


@pytest.mark.parametrize(
    ("missing", "error"), [("free", InsufficientEscrowError), ("limit", SpendLimitError)]
)
async def test_session_goes_on_when_there_is_no_money_for_a_dispute(
    town: SessionTown, sessions: AsyncSessions, missing: str, error: type[Exception]
) -> None:
    held = await guarded(town, sessions)
    escrow = town.client.escrow
    if missing == "free":
        free = (await escrow.balance()).free
        await escrow.withdraw(Nano(free - Nano.ton("0.1")))
    else:
        await escrow.set_limits(Nano.ton("0.1"))
    with pytest.raises(error):
        await sessions.dispute(held.ref.session_id, EVIDENCE)
    assert (await held.sign(900_000)).amount == 900_000


async def test_another_process_holds_a_session_until_it_is_forced(
    town: SessionTown, sessions: AsyncSessions, tmp_path: Path
) -> None:
    held = await guarded(town, sessions)
    manager = await town.manager(holder="another")
    record = await manager.store.get(held.uid)
    assert record is not None
    with pytest.raises(StaleSessionError):
        await manager.ending.dispute(record, EVIDENCE, town.town.model.model_id)
    entry = town.on_chain(held.ref.session_id)
    assert entry is not None
    assert evidence_of(entry) is None
    await manager.ending.dispute(record, EVIDENCE, town.town.model.model_id, by_force=True)
    entry = town.on_chain(held.ref.session_id)
    assert entry is not None
    assert evidence_of(entry) == EVIDENCE


def signed_by(town: SessionTown, held: HeldSession, key: SigningKey, *more: SigningKey) -> SessionEvidence:
    """Return answers with receipts, each signed by another key."""
    records = [
        signed_answer(town, held.ref, rid, each, sampling=SamplingClass.UNVERIFIED, committed=False)
        for rid, each in enumerate((key, *more), 1)
    ]
    return SessionEvidence.of(held.ref, records)


async def test_client_sees_the_guard_and_whose_key_its_receipts_need(
    town: SessionTown, sessions: AsyncSessions
) -> None:
    held = await sessions.acquire(await town.offer(), SOME)
    assert held.guard == 0
    replace_key(town, "set just before it guards")
    town.worker.account.accept_session(town.town.driver(town.client), held.ref.session_id)
    await sessions.keep()
    entry = town.on_chain(held.ref.session_id)
    assert entry is not None
    assert held.guard == entry.lock > 0
    key = town.worker.account.key.verify_key.to_int()
    assert await sessions.stake_key(held.ref.worker) == key
    other = AsyncSessions(town.client._context, town.client.workers, database=town.place)
    await sessions.close()
    taken = await other.acquire(await town.offer(), SOME)  # who takes it over knows from the first moment
    assert (taken.ref, taken.guard) == (held.ref, entry.lock)
    await other.close()


async def test_client_knows_before_a_dispute_whether_its_receipts_count(
    town: SessionTown, sessions: AsyncSessions
) -> None:
    """Keys count from the moment the collateral came, whatever is replaced later; others do not."""
    held = await sessions.acquire(await town.offer(), SOME)
    number, before = held.ref.session_id, town.worker.account.key
    replace_key(town, "set just before it guards")
    guarding = town.worker.account.key
    town.worker.account.accept_session(town.town.driver(town.client), number)
    replace_key(town, "later")
    later = town.worker.account.key
    for signers in ((guarding,), (later,), (guarding, later)):
        assert await sessions.why_not_counted(number, signed_by(town, held, *signers)) == ""
    for signers in ((before,), (later, before), (key_of("a stranger"),)):
        why = await sessions.why_not_counted(number, signed_by(town, held, *signers))
        assert "did not have while it guarded" in why
