"""A worker's money in sessions: vouchers become rewards on real contracts, in time and only once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocoon_sdk.history import ChainMessage, walk
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_states import settles_at
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from cocoon_worker.service import WorkerService
from cocoon_worker.sessions.errors import (
    ForeignSessionError,
    ForgedEscrowError,
    SessionBookError,
    SessionClosingError,
    SessionExpiringError,
    UnknownSessionError,
)
from cocoon_worker.sessions.records import GuardState, SessionState
from cocoon_worker.sessions.survey import check_serveable
from cocoon_worker.sessions.watch import note_facts
from tests.helpers.session_rig import DAY_S, DEPOSIT, OpenedSession, entry, open_session, serve, settings
from tests.helpers.suite import Client
from tests.helpers.worker_rig import Rig, kill

TON = Nano.ton(1)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def alice(rig: Rig) -> Client:
    return rig.suite.client("alice")


def bob(rig: Rig, **changes: object) -> WorkerService:
    return rig.service("bob", sessions=settings(**changes))


def redeemed(session: OpenedSession) -> int:
    """Return what the escrow says was paid out."""
    assert session.view is not None
    return session.view.redeemed


async def redemptions(rig: Rig) -> list[m.Redeem]:
    """Return every redemption that left the stake, oldest first."""
    sent: list[ChainMessage] = []
    async for transaction in walk(rig.chain, rig.account("bob").address):
        sent += transaction.out_messages
    return [each.content for each in sent[::-1] if isinstance(each.content, m.Redeem)]


# -- when money is fetched ---------------------------------------------------------------------------------


async def test_worker_can_redeem_when_the_threshold_is_passed(rig: Rig, alice: Client) -> None:
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.4"))
        await service.settle()
        assert redeemed(session) == 0
        await serve(service, session, Nano.ton("0.6"))
        await service.settle()
        assert redeemed(session) == Nano.ton("0.6")
        found = entry(service, session)
        assert found.paid == found.redeemed == found.signed == Nano.ton("0.6")
        assert (found.state, found.unredeemed, found.asked) == (SessionState.OPEN, 0, 0)
        assert found.fee == Nano.ton("0.006")
        stake = rig.account("bob").get_state()
        assert (stake.earned, stake.fee_due) == (found.paid - found.fee, found.fee)
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_can_redeem_after_the_period_and_cannot_for_nothing(rig: Rig, alice: Client) -> None:
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob", life_s=3 * DAY_S)
        await serve(service, session, Nano.ton("0.02"))
        await service.settle()
        for _ in range(5):
            rig.warp(DAY_S // 2)
            await service.settle()
        assert [each.amount for each in await redemptions(rig)] == [Nano.ton("0.02")]
        assert entry(service, session).redeemed == Nano.ton("0.02")


async def test_worker_can_redeem_before_the_expiry_and_ends_the_session_after_it(
    rig: Rig, alice: Client
) -> None:
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob", life_s=7200)
        await serve(service, session, Nano.ton("0.1"))
        await service.settle()
        assert redeemed(session) == 0
        rig.warp(7200 - 500)
        await service.settle()
        assert redeemed(session) == Nano.ton("0.1")
        await serve(service, session, Nano.ton("0.3"))  # still served until shortly before the expiry
        rig.warp(501)
        await service.settle()
        assert session.view is None
        assert entry(service, session).state is SessionState.ENDED
        assert entry(service, session).paid == Nano.ton("0.3")
        assert alice.get_state().reserved == 0
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_can_redeem_when_its_client_closes(rig: Rig, alice: Client) -> None:
    async with bob(rig) as service:
        over: list[object] = []
        service.context.sessions.on_over.append(over.append)
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.1"))
        session.close()
        await service.settle()
        assert session.view is None, "the redemption ended it"
        found = entry(service, session)
        assert (found.state, found.paid, found.lost) == (SessionState.ENDED, Nano.ton("0.1"), 0)
        assert set(over) == {session.key}
        assert alice.get_state().reserved == 0


async def test_worker_can_leave_the_end_to_its_client_when_it_is_told_to(rig: Rig, alice: Client) -> None:
    async with bob(rig, end_with_redeem=False) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.1"))
        session.close()
        await service.settle()
        assert redeemed(session) == Nano.ton("0.1")
        rig.warp(DAY_S)
        session.settle()
        await service.settle()
        found = entry(service, session)
        assert (found.state, found.paid, found.lost) == (SessionState.ENDED, Nano.ton("0.1"), 0)


async def test_worker_cannot_end_a_closing_session_while_it_serves_in_it(rig: Rig, alice: Client) -> None:
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.1"))
        service.context.sessions.connected.add(session.key)
        session.close()
        await service.settle()
        assert redeemed(session) == 0
        voucher = session.voucher(Nano.ton("0.2"))  # for what was under way
        book = service.context.sessions.book
        book.put_voucher(session.key, voucher.amount, voucher.signature)
        book.put_progress(session.key, voucher.amount, entry(service, session).next_rid + 1)
        service.context.sessions.connected.clear()
        await service.settle()
        assert session.view is None
        assert entry(service, session).paid == Nano.ton("0.2")


async def test_worker_can_redeem_after_it_was_down_while_the_client_closed(rig: Rig, alice: Client) -> None:
    service = bob(rig)
    await service.__aenter__()
    session = open_session(rig, alice, "bob")
    await serve(service, session, Nano.ton("0.25"))
    await kill(service)
    session.close()
    rig.warp(23 * 3600)  # of the 24 hours that it has
    async with bob(rig) as service:
        await service.settle()
        assert session.view is None
        assert entry(service, session).paid == Nano.ton("0.25")
        assert len(await redemptions(rig)) == 1


async def test_worker_that_was_down_too_long_can_only_say_what_it_lost(rig: Rig, alice: Client) -> None:
    service = bob(rig)
    await service.__aenter__()
    session = open_session(rig, alice, "bob")
    await serve(service, session, Nano.ton("0.25"))
    await kill(service)
    session.close()
    rig.warp(DAY_S)
    session.settle()
    async with bob(rig) as service:
        await service.settle()
        rig.warp(60)
        await service.settle()
        found = entry(service, session)
        assert (found.state, found.lost) == (SessionState.ENDED, Nano.ton("0.25"))
        assert await redemptions(rig) == []
        text = service.context.metrics.render(service.journal)
        assert b'cocoon_session_ton{what="lost"} 0.25' in text


async def test_worker_can_redeem_what_a_topped_up_session_holds(rig: Rig, alice: Client) -> None:
    async with bob(rig, redeem_threshold="3") as service:
        session = open_session(rig, alice, "bob", deposit=TON)
        await serve(service, session, TON)
        voucher = session.voucher(2 * TON)
        book = service.context.sessions.book
        with pytest.raises(SessionBookError):
            book.put_voucher(session.key, voucher.amount, voucher.signature)  # beyond the deposit
        session.top_up(3 * TON)
        await serve(service, session, 4 * TON)
        await service.settle()
        assert redeemed(session) == entry(service, session).paid == 4 * TON
        assert entry(service, session).deposit == 4 * TON


async def test_worker_can_take_what_is_there_and_the_rest_stays_due(rig: Rig, alice: Client) -> None:
    """The book believes in more than there is, as after a lying endpoint: the voucher states too much."""
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob", deposit=TON)
        await serve(service, session, TON // 10)
        book = service.context.sessions.book
        with service.journal.transaction():
            service.journal.database.write("UPDATE sessions SET deposit = ?", (3 * TON,))
        voucher = session.voucher(2 * TON)
        book.put_voucher(session.key, voucher.amount, voucher.signature)
        book.put_progress(session.key, voucher.amount, entry(service, session).next_rid)
        await service.settle()
        assert redeemed(session) == TON
        assert entry(service, session).paid == TON
        assert entry(service, session).unredeemed == TON
        for _ in range(3):
            rig.warp(60)
            await service.settle()
        assert len(await redemptions(rig)) <= 4
        session.top_up(TON)
        rig.warp(3600)
        await service.settle()
        assert redeemed(session) == entry(service, session).paid == 2 * TON


async def test_worker_claims_what_it_booked_and_not_what_was_signed_ahead(rig: Rig, alice: Client) -> None:
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.8"), booked=Nano.ton("0.6"))
        await service.settle()
        assert redeemed(session) == entry(service, session).paid == Nano.ton("0.6")
        assert entry(service, session).unredeemed == 0
        # More work under the same voucher, and the end: still nothing beyond the count.
        session_book = service.context.sessions.book
        session_book.put_progress(session.key, Nano.ton("0.7"), entry(service, session).next_rid + 1)
        session.close()
        await service.settle()
        found = entry(service, session)
        assert (found.state, found.paid, found.lost) == (SessionState.ENDED, Nano.ton("0.7"), 0)
        assert (session.view, len(await redemptions(rig))) == (None, 2)
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_claims_whole_vouchers_of_an_escrow_that_takes_no_parts(rig: Rig, alice: Client) -> None:
    """As one of the code before is: its sessions are still served and paid."""
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.8"), booked=Nano.ton("0.6"))
        with service.journal.transaction():
            service.journal.database.write("UPDATE sessions SET takes_parts = 0")
        await service.settle()
        assert redeemed(session) == entry(service, session).paid == Nano.ton("0.8")


async def test_worker_can_redeem_many_sessions_with_one_external(rig: Rig) -> None:
    async with bob(rig) as service:
        clients = [rig.suite.client(f"client {number}") for number in range(3)]
        sessions = [open_session(rig, client, "bob") for client in clients]
        seqno = rig.account("bob").get_state().seqno
        await service.settle()
        announced = rig.account("bob").get_state().seqno - seqno
        for number, session in enumerate(sessions):
            await serve(service, session, Nano.ton("0.6") + number)
        await service.settle()
        assert [redeemed(session) for session in sessions] == [
            Nano.ton("0.6") + number for number in range(3)
        ]
        assert rig.account("bob").get_state().seqno == seqno + announced + 1
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_can_leave_dust_and_take_it_when_asked(rig: Rig, alice: Client) -> None:
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.009"))
        session.close()
        await service.settle()
        assert redeemed(session) == 0
        service.context.sessions.requested.add(session.key)
        await service.settle()
        assert session.view is None
        assert entry(service, session).paid == Nano.ton("0.009")


async def test_worker_cannot_pay_for_a_redemption_that_a_watchtower_made(rig: Rig, alice: Client) -> None:
    async with bob(rig) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.6"))
        session.redeem(Nano.ton("0.6"))
        await service.settle()
        found = entry(service, session)
        assert found.paid == found.settled == redeemed(session) == Nano.ton("0.6")
        assert await redemptions(rig) == []


# -- what is served ----------------------------------------------------------------------------------------


async def test_worker_cannot_take_sessions_that_are_not_what_they_should_be(rig: Rig, alice: Client) -> None:
    async with bob(rig) as service:
        survey, now = service.context.sessions.survey, service.context.time.maybe()
        session = open_session(rig, alice, "bob")
        other = open_session(rig, alice, "carol")
        with pytest.raises(ForgedEscrowError):
            await survey.look(alice.owner.address, session.id)
        with pytest.raises(ForgedEscrowError):
            await survey.look(rig.account("bob").address, session.id)
        with pytest.raises(UnknownSessionError):
            await survey.look(alice.address, other.id + 1)
        with pytest.raises(ForeignSessionError):
            await survey.look(alice.address, other.id)
        facts = await survey.look(alice.address, session.id)
        check_serveable(facts, now, 120)
        assert facts.ref == session.ref
        assert (facts.deposit, facts.redeemed, facts.voucher_key) == (DEPOSIT, 0, session.signer.verify_key)
        with pytest.raises(SessionExpiringError):
            check_serveable(facts, facts.expires - 120, 120)
        session.close()
        assert (await survey.look(alice.address, session.id)).state is SessionState.OPEN, "not older than 5 s"
        rig.clock.advance(5)
        closing = await survey.look(alice.address, session.id)
        assert closing.settle_at == now + DAY_S
        with pytest.raises(SessionClosingError):
            check_serveable(closing, now, 120)


async def test_book_can_keep_a_closing_session_closed_whatever_an_older_block_says(
    rig: Rig, alice: Client
) -> None:
    async with bob(rig, least_redeem="10") as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, 1000)
        before = await service.context.sessions.survey.look(alice.address, session.id)
        session.close()
        await service.settle()
        closed = entry(service, session)
        assert closed.state is SessionState.CLOSING
        rig.warp(1)
        assert (
            note_facts(service.context.sessions.book, before, rig.clock.now()).settle_at == closed.settle_at
        )
        assert entry(service, session).state is SessionState.CLOSING


# -- collateral ----------------------------------------------------------------------------------------------


async def test_worker_can_guard_a_session_and_has_its_collateral_back_at_the_end(
    rig: Rig, alice: Client
) -> None:
    async with bob(rig, guard=True) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.1"))
        await service.settle()
        found = entry(service, session)
        assert session.view is not None
        assert found.guard is GuardState.GUARDED
        assert found.collateral == session.view.collateral == rig.account("bob").get_state().locked > 0
        assert list(rig.account("bob").locks()) == [found.lock]
        session.close()
        await service.settle()
        found = entry(service, session)
        assert (found.state, found.paid) == (SessionState.CLOSING, Nano.ton("0.1"))
        assert rig.account("bob").get_state().locked == found.collateral, "the client may still dispute"
        rig.warp(DAY_S + 601)
        await service.settle()
        found = entry(service, session)
        assert (found.state, found.lock, found.paid) == (SessionState.ENDED, 0, Nano.ton("0.1"))
        assert rig.account("bob").get_state().locked == 0
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_can_free_its_collateral_when_the_client_never_settles(rig: Rig, alice: Client) -> None:
    async with bob(rig, guard=True) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, 1000)
        await service.settle()
        assert rig.account("bob").get_state().locked > 0
        session.close()
        rig.warp(DAY_S + 601)
        await service.settle()
        assert session.view is None
        assert rig.account("bob").get_state().locked == 0
        assert entry(service, session).state is SessionState.ENDED


async def test_worker_does_not_guard_sessions_of_a_client_whose_dispute_came_to_nothing(
    rig: Rig, alice: Client
) -> None:
    async with bob(rig, guard=True) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, 1000)
        await service.settle()
        alice.dispute_session(session.id)
        await service.settle()
        assert entry(service, session).guard is GuardState.DISPUTED
        disputed = session.view
        assert disputed is not None
        # Its client shows nothing, so nobody judges: time ends it, in the worker's favour.
        rig.warp(settles_at(disputed) - rig.blockchain.now + 601)
        await service.settle()
        assert session.view is None
        assert entry(service, session).guard is GuardState.CLEARED
        again = open_session(rig, alice, "bob")
        await serve(service, again, 1000)
        await service.settle()
        assert entry(service, again).guard is GuardState.REFUSED
        assert entry(service, again).reason == "its client disputed an honest session before"
        assert rig.account("bob").get_state().locked == 0
        other = open_session(rig, rig.suite.client("carol"), "bob")
        await serve(service, other, 1000)
        await service.settle()
        assert entry(service, other).guard is GuardState.GUARDED


async def test_worker_can_serve_without_collateral_when_it_would_be_too_much(rig: Rig, alice: Client) -> None:
    async with bob(rig, guard=True, guard_most="0.000000001") as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.6"))
        await service.settle()
        assert entry(service, session).guard is GuardState.REFUSED
        assert redeemed(session) == Nano.ton("0.6")
        assert rig.account("bob").get_state().locked == 0
