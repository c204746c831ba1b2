"""Others who redeem for a worker: a watchtower with exported vouchers, and a person who wants it now."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.client.wallets import SignerWallet
from cocoon_sdk.client.watchtower import Outlook, Watchtower
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.voucher_file import SavedVoucher
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from cocoon_worker.sessions.export import EXPORT_ALARM
from cocoon_worker.sessions.once import reading, redeem_now
from cocoon_worker.sessions.records import SessionKey, SessionState
from cocoon_worker.sessions.wishes import leave_wish, parse_key, take_wish
from tests.helpers.session_rig import DAY_S, OpenedSession, entry, open_session, serve, settings
from tests.helpers.suite import Client
from tests.helpers.worker_rig import Rig, kill
from tests.scenarios.test_worker_sessions import redeemed, redemptions


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def alice(rig: Rig) -> Client:
    return rig.suite.client("alice")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vouchers"


def vouchers(folder: Path) -> list[SavedVoucher]:
    return [SavedVoucher.from_bytes(path.read_bytes()) for path in sorted(folder.iterdir())]


# -- a watchtower ------------------------------------------------------------------------------------------


async def test_watchtower_can_save_what_a_dead_worker_earned(rig: Rig, alice: Client, folder: Path) -> None:
    service = rig.service("bob", sessions=settings(voucher_dir=folder))
    await service.__aenter__()
    session = open_session(rig, alice, "bob")
    await serve(service, session, Nano.ton("0.1"))
    await service.settle()
    await serve(service, session, Nano.ton("0.3"))
    await service.settle()
    await kill(service)

    (saved,) = vouchers(folder)
    assert (saved.session, saved.voucher) == (session.ref, session.voucher(Nano.ton("0.3")))
    wallet = SignerWallet(rig.chain, rig.blockchain.actor("tower", Nano.ton(10)))
    tower = Watchtower(rig.chain, rig.suite.network)
    assert (await tower.look(saved)).outlook is Outlook.OPEN
    session.close()
    waiting = await tower.look(saved)
    assert (waiting.outlook, waiting.due) == (Outlook.WORKER_FIRST, Nano.ton("0.3"))
    assert waiting.settle_at == rig.blockchain.now + DAY_S
    rig.warp(DAY_S // 2)
    assert (await tower.look(saved)).outlook is Outlook.DUE
    await tower.redeem([saved], wallet)
    assert (await tower.look(saved)).outlook is Outlook.NOTHING_DUE
    stake = rig.account("bob").get_state()
    assert stake.earned + stake.fee_due == redeemed(session) == Nano.ton("0.3")
    rig.warp(DAY_S)
    session.settle()
    assert (await tower.look(saved)).outlook is Outlook.ENDED

    # The worker comes back, and finds that nothing was lost.
    async with rig.service("bob", sessions=settings(voucher_dir=folder)) as service:
        await service.settle()
        found = entry(service, session)
        assert (found.state, found.paid, found.lost) == (SessionState.ENDED, Nano.ton("0.3"), 0)
        assert await redemptions(rig) == []
    Ledger.of(rig.blockchain).assert_balanced()


async def test_watchtower_can_redeem_only_what_the_worker_claims(
    rig: Rig, alice: Client, folder: Path
) -> None:
    async with rig.service("bob", sessions=settings(voucher_dir=folder)) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.4"), booked=Nano.ton("0.3"))
        await service.settle()
        (first,) = vouchers(folder)
        service.context.sessions.book.put_progress(session.key, Nano.ton("0.35"), 5)
        await service.settle()
    (saved,) = vouchers(folder)
    assert (first.claim, saved.claim, saved.forgo) == (Nano.ton("0.3"), Nano.ton("0.35"), Nano.ton("0.05"))
    wallet = SignerWallet(rig.chain, rig.blockchain.actor("tower", Nano.ton(10)))
    tower = Watchtower(rig.chain, rig.suite.network)
    session.close()
    rig.warp(DAY_S - 60)
    assert (await tower.look(saved)).due == Nano.ton("0.35")
    await tower.redeem([saved], wallet)
    assert redeemed(session) == Nano.ton("0.35")
    assert (await tower.look(saved)).outlook is Outlook.NOTHING_DUE


async def test_watchtower_cannot_be_made_to_pay_for_what_is_not_genuine(rig: Rig, alice: Client) -> None:
    session = open_session(rig, alice, "bob")
    other = open_session(rig, alice, "bob")
    tower = Watchtower(rig.chain, rig.suite.network)

    def saved(found: OpenedSession, **changes: Any) -> SavedVoucher:
        ref = replace(found.ref, **changes)
        voucher = found.voucher(Nano.ton("0.3"))
        return SavedVoucher(ref, found.signer.verify_key, voucher)

    assert (await tower.look(saved(session))).outlook is Outlook.OPEN
    foreign = replace(session.ref.domain, global_id=-3)
    assert (await tower.look(saved(session, domain=foreign))).outlook is Outlook.REFUSED
    forged = replace(session.ref.domain, contract=alice.owner.address)
    assert (await tower.look(saved(session, domain=forged))).outlook is Outlook.REFUSED
    assert (await tower.look(saved(session, session_id=other.id))).outlook is Outlook.REFUSED
    carol = rig.account("carol").address
    assert (await tower.look(saved(session, worker=carol))).outlook is Outlook.REFUSED
    assert (await tower.look(saved(session, session_id=99))).outlook is Outlook.ENDED
    small = Watchtower(rig.chain, rig.suite.network, least=Nano.ton("0.31"))
    assert (await small.look(saved(session))).outlook is Outlook.NOTHING_DUE


async def test_worker_can_take_a_voucher_file_away_when_it_was_redeemed(
    rig: Rig, alice: Client, folder: Path
) -> None:
    async with rig.service("bob", sessions=settings(voucher_dir=folder)) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.4"))
        await service.settle()
        assert len(vouchers(folder)) == 1
        await serve(service, session, Nano.ton("0.6"))
        await service.settle()
        assert vouchers(folder) == []


async def test_worker_can_serve_on_when_vouchers_cannot_be_written(
    rig: Rig, alice: Client, folder: Path
) -> None:
    folder.write_text("in the way")  # noqa: ASYNC240 - a test may
    async with rig.service("bob", sessions=settings(voucher_dir=folder)) as service:
        session = open_session(rig, alice, "bob")
        await serve(service, session, Nano.ton("0.6"))
        await service.settle()
        assert redeemed(session) == Nano.ton("0.6")
        assert EXPORT_ALARM in service.context.alarms
        folder.unlink()  # noqa: ASYNC240
        await serve(service, session, Nano.ton("0.7"))
        await service.settle()
        assert EXPORT_ALARM not in service.context.alarms
        assert len(vouchers(folder)) == 1


# -- a person who wants it now -----------------------------------------------------------------------------


async def test_person_can_have_a_running_worker_redeem_now(rig: Rig, alice: Client) -> None:
    async with rig.service("bob", sessions=settings()) as service:
        first, second = open_session(rig, alice, "bob"), open_session(rig, alice, "bob")
        for session in (first, second):
            await serve(service, session, Nano.ton("0.005"))
        await service.settle()
        config = service.context.config
        told: list[str] = []
        running = asyncio.create_task(service.run())
        after = await redeem_now(
            config, rig.chain, [first.key], report=told.append, operator=rig.account("bob").key
        )
        assert [each.paid for each in after] == [Nano.ton("0.005")]
        assert (redeemed(first), redeemed(second)) == (Nano.ton("0.005"), 0)
        assert told == ["The running worker was asked to redeem"]
        await redeem_now(config, rig.chain, None, report=told.append, operator=rig.account("bob").key)
        assert redeemed(second) == Nano.ton("0.005")
        service.stop()
        await running
        assert await redeem_now(config, rig.chain, None, report=told.append) == []


async def test_person_can_redeem_while_no_worker_runs(rig: Rig, alice: Client) -> None:
    service = rig.service("bob", sessions=settings())
    await service.__aenter__()
    session = open_session(rig, alice, "bob")
    await serve(service, session, Nano.ton("0.005"))
    await kill(service)
    config, key = rig.config("bob", endpoint=True, sessions=settings()), rig.account("bob").key
    with reading(config) as (book, owner):
        assert [each.unredeemed for each in book.unredeemed_entries()] == [Nano.ton("0.005")]
        assert owner == f"{rig.blockchain.global_id}:0:{rig.account('bob').address.hash_part.hex()}"
    (found,) = await redeem_now(config, rig.chain, None, report=print, operator=key, clock=rig.clock)
    assert found.paid == redeemed(session) == Nano.ton("0.005")
    async with rig.service("bob", sessions=settings()) as service:  # the journal is free again
        assert entry(service, session).paid == Nano.ton("0.005")


def test_wish_can_be_read_once_and_only_in_its_form(tmp_path: Path) -> None:
    key = SessionKey(5, 7)
    assert take_wish(tmp_path) == set()
    leave_wish(tmp_path, [key, SessionKey(6, 8)])
    assert take_wish(tmp_path) == {key, SessionKey(6, 8)}
    assert take_wish(tmp_path) == set()
    leave_wish(tmp_path, None)
    assert take_wish(tmp_path) is None
    assert parse_key(str(key)) == key
    for text in ("", "0:5/7", f"{key}x", f"0:{'1' * 64}/4294967296", f"0:{'x' * 64}/1", "all of it"):
        (tmp_path / "redeem-now").write_text(text)
        if not text:
            assert take_wish(tmp_path) == set()
            continue
        with pytest.raises(MalformedError):
            take_wish(tmp_path)
        assert take_wish(tmp_path) == set()
