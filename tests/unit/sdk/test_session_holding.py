"""Signing: kept before it is given out, whatever the disk, the network or another process does meanwhile."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.client.sessions.errors import StaleSessionError
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.client.sessions.funds.records import SessionPolicy, SessionRecord, SessionState, SpendLimits
from cocoon_sdk.client.sessions.funds.store import SessionStore
from cocoon_sdk.client.sessions.funds.tables import SESSIONS_SCHEMA
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.protocol.metering import MeteringError
from cocoon_sdk.protocol.signing import Domain, account_address
from cocoon_sdk.protocol.vouchers import Voucher
from cocoon_sdk.storage import StorageFullError, StorageUnreachableError, open_database
from cocoon_sdk.types import Nano
from tests.helpers.databases import KINDS, database_place
from tests.helpers.suite import key_of

NOW = 1_800_000_000
POLICY = SessionPolicy()


class TroubledStore(SessionStore):
    """The real store, with a connection that breaks before or after a voucher is kept, or hangs."""

    trouble = ""
    hanging: asyncio.Event

    async def put_voucher(self, uid: str, holder: str, **what: Any) -> None:
        if self.trouble == "before":
            raise StorageUnreachableError("cut")
        await super().put_voucher(uid, holder, **what)
        if self.trouble == "after":
            raise StorageUnreachableError("cut")
        if self.trouble == "hang":
            self.hanging.set()
            await asyncio.Event().wait()


@contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow, as a full disk or a quota would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_place(request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def store(place: str) -> AsyncIterator[TroubledStore]:
    database = await open_database(place, SESSIONS_SCHEMA)
    made = TroubledStore(database)
    made.hanging = asyncio.Event()
    yield made
    await database.close()


@pytest.fixture
async def hold(store: TroubledStore) -> Callable[[], Any]:
    """Return a function that holds the one session as it stands in the database."""
    opening = SessionRecord(
        uid="one",
        domain=Domain(-239, account_address(5), 1000),
        session_id=7,
        worker=account_address(9),
        model="Org/Tiny-1B",
        increment=POLICY.increment,
        deposit=POLICY.deposit,
        expires=NOW + 1000,
        state=SessionState.OPENING,
        holder="A",
        lease_until=NOW + 60,
    )
    await store.create(opening, SpendLimits(), NOW)
    await store.opened("one", "A")

    async def hold_(on_signed: Callable[[HeldSession], None] = lambda _: None) -> HeldSession:
        record = await store.get("one")
        assert record is not None
        clock = ManualClock(NOW)
        return HeldSession(record, key_of("voucher"), store, POLICY, clock, "A", on_signed)

    return hold_


async def kept(store: SessionStore) -> tuple[int, int, int]:
    """Return what stands in the database: signed, accounted, next request."""
    record = await store.get("one")
    assert record is not None
    return int(record.signed), int(record.accounted), record.next_rid


async def test_voucher_is_kept_when_it_is_given_out(store: TroubledStore, hold: Any) -> None:
    signed: list[HeldSession] = []
    held = await hold(signed.append)
    voucher = await held.sign(500)
    assert await kept(store) == (500, 0, 1)
    assert voucher.verified_by(key_of("voucher").verify_key, held.ref)
    assert held.best == voucher
    assert signed == [held]
    held.ledger.charge(1, 400)
    held.next_rid = 2
    await held.sign(900)
    assert await kept(store) == (900, 400, 2)
    held.ledger.charge(1, 450)
    held.ledger.finish(1)
    await held.save()
    assert await kept(store) == (900, 450, 2)


async def test_several_requests_can_sign_at_once(store: TroubledStore, hold: Any) -> None:
    held = await hold()
    vouchers = await asyncio.gather(*(held.sign(100 * n) for n in range(1, 6)))
    assert all(voucher.amount >= 100 * n for n, voucher in enumerate(vouchers, 1))
    assert await kept(store) == (500, 0, 1)
    assert held.ledger.signed == 500


async def test_voucher_beyond_the_increment_reaches_neither_disk_nor_worker(
    store: TroubledStore, hold: Any
) -> None:
    held = await hold()
    with pytest.raises(MeteringError):
        await held.sign(POLICY.increment + 1)
    assert await kept(store) == (0, 0, 1)
    assert held.best is None


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_nothing_is_given_out_when_the_disk_is_full_and_signing_goes_on_when_it_is_not(
    store: TroubledStore, hold: Any
) -> None:
    held = await hold()
    first = await held.sign(500)
    with no_room():
        for _ in range(2):
            with pytest.raises(StorageFullError):
                await held.sign(900)
    assert (held.ledger.signed, held.best) == (500, first)
    assert await kept(store) == (500, 0, 1)
    assert (await held.sign(900)).amount == 900
    assert await kept(store) == (900, 0, 1)


async def test_signing_goes_on_when_the_connection_broke_before_the_voucher_was_kept(
    store: TroubledStore, hold: Any
) -> None:
    held = await hold()
    store.trouble = "before"
    with pytest.raises(StorageUnreachableError):
        await held.sign(500)
    assert (held.ledger.signed, held.best) == (0, None)
    store.trouble = ""
    assert (await held.sign(400)).amount == 400
    assert await kept(store) == (400, 0, 1)


async def test_signing_goes_on_from_what_was_kept_when_the_connection_broke_after_that(
    store: TroubledStore, hold: Any
) -> None:
    held = await hold()
    store.trouble = "after"
    with pytest.raises(StorageUnreachableError):
        await held.sign(500)
    assert held.ledger.signed == 0
    store.trouble = ""
    voucher = await held.sign(400)  # what was kept covers it, and may be given out now
    assert voucher == Voucher.sign(key_of("voucher"), held.ref, Nano(500))
    assert (held.ledger.signed, held.best) == (500, voucher)
    assert (await held.sign(800)).amount == 800
    assert await kept(store) == (800, 0, 1)


async def test_signing_goes_on_when_who_waited_for_it_went_away(store: TroubledStore, hold: Any) -> None:
    held = await hold()
    store.trouble = "hang"
    signing = asyncio.create_task(held.sign(500))
    await store.hanging.wait()
    signing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await signing
    store.trouble = ""
    assert (await held.sign(700)).amount == 700
    assert await kept(store) == (700, 0, 1)


async def test_session_that_another_took_meanwhile_is_found_out_after_a_broken_connection(
    store: TroubledStore, hold: Any
) -> None:
    held = await hold()
    store.trouble = "after"
    with pytest.raises(StorageUnreachableError):
        await held.sign(500)
    store.trouble = ""
    assert await store.lease("one", "B", NOW + 60, NOW + 120) is not None
    with pytest.raises(StaleSessionError):
        await held.sign(600)
    with pytest.raises(StaleSessionError):
        await held.save()
    assert await kept(store) == (500, 0, 1)


async def test_session_that_is_stale_signs_nothing_more(store: TroubledStore, hold: Any) -> None:
    held = await hold()
    await held.sign(500)
    assert await store.lease("one", "B", NOW + 60, NOW + 120) is not None
    for amount in (600, 700):
        with pytest.raises(StaleSessionError):
            await held.sign(amount)
    assert held.stale
    assert (held.ledger.signed, await kept(store)) == (500, (500, 0, 1))
