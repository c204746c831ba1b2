"""A client's sessions in both databases: who may change what, limits to the nanoTON, leases, locks."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_sdk.client.sessions.errors import SpendLimitError, StaleSessionError
from cocoon_sdk.client.sessions.funds.records import (
    LIVE_STATES,
    SECONDS_A_DAY,
    UNENDED_STATES,
    Exposure,
    SessionPolicy,
    SessionRecord,
    SessionState,
    SpendLimits,
)
from cocoon_sdk.client.sessions.funds.store import SessionStore
from cocoon_sdk.client.sessions.funds.tables import SESSIONS_SCHEMA
from cocoon_sdk.protocol.signing import Domain, account_address
from cocoon_sdk.protocol.vouchers import Voucher
from cocoon_sdk.storage import open_database
from cocoon_sdk.types import Nano
from tests.helpers.databases import KINDS, database_place

DOMAIN = Domain(-239, account_address(5), 1000)
DEPOSIT = Nano(100)
NONE = SpendLimits()
DAY = 20_000
NOON = DAY * SECONDS_A_DAY + SECONDS_A_DAY // 2


def record(uid: str = "one", **changes: Any) -> SessionRecord:
    fields: dict[str, Any] = {
        "uid": uid,
        "domain": DOMAIN,
        "session_id": 7,
        "worker": account_address(9),
        "model": "Org/Tiny-1B",
        "increment": Nano(10),
        "deposit": DEPOSIT,
        "expires": NOON + 1000,
        "state": SessionState.OPENING,
        "holder": "A",
        "lease_until": NOON + 60,
        "opened_at": NOON,
        "used_at": NOON,
        "pending_until": NOON + 150,
    }
    return SessionRecord(**{**fields, **changes})


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_place(request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def store(place: str) -> AsyncIterator[SessionStore]:
    database = await open_database(place, SESSIONS_SCHEMA)
    yield SessionStore(database)
    await database.close()


async def opened(store: SessionStore, uid: str = "one", **changes: Any) -> SessionRecord:
    """Store an open session, held by A unless told otherwise."""
    made = record(uid, **changes)
    await store.create(made, NONE, NOON)
    assert made.holder is not None
    await store.opened(uid, made.holder)
    found = await store.get(uid)
    assert found is not None
    return found


async def sign(
    store: SessionStore, amount: int, *, before: int, uid: str = "one", holder: str = "A", now: int = NOON
) -> None:
    await store.put_voucher(
        uid,
        holder,
        before=before,
        voucher=Voucher(Nano(amount), bytes([amount % 256]) * 64),
        accounted=before,
        next_rid=amount,
        now=now,
        lease_until=now + 60,
    )


async def test_record_comes_back_as_it_was_stored(store: SessionStore) -> None:
    made = record(
        signed=Nano((1 << 53) - 1),
        signature=bytes(range(64)),
        accounted=Nano(3),
        next_rid=4,
        redeemed=Nano(5),
        pending_deposit=Nano(6),
        settle_at=7,
        why="because",
    )
    await store.create(made, NONE, NOON)
    assert await store.get("one") == made
    assert await store.find(DOMAIN, 7) == made
    assert await store.find(replace(DOMAIN, epoch=1001), 7) is None
    assert await store.get("two") is None


async def test_sessions_are_listed_by_state_for_one_escrow(store: SessionStore) -> None:
    await opened(store, "open", opened_at=NOON + 2)
    await store.create(record("opening", opened_at=NOON + 1), NONE, NOON)
    await opened(store, "closing")
    await store.closing("closing", "A", NOON, "done")
    await store.create(record("elsewhere", domain=replace(DOMAIN, contract=account_address(6))), NONE, NOON)
    assert [each.uid for each in await store.sessions(DOMAIN, LIVE_STATES)] == ["opening", "open"]
    everything = await store.sessions(DOMAIN, UNENDED_STATES)
    assert [each.uid for each in everything] == ["closing", "opening", "open"]


async def test_holder_can_put_a_voucher_that_follows_the_last(store: SessionStore) -> None:
    await opened(store)
    await sign(store, 10, before=0)
    await sign(store, 30, before=10)
    found = await store.get("one")
    assert found is not None
    assert found.best == Voucher(Nano(30), bytes([30]) * 64)
    assert (found.accounted, found.next_rid, found.lease_until) == (10, 30, NOON + 60)


@pytest.mark.parametrize(
    ("holder", "before"), [("B", 10), ("A", 0), ("A", 9), ("A", 11)], ids=["other", "old", "less", "more"]
)
async def test_voucher_is_refused_and_not_kept_when_it_is_not_the_holders_next(
    store: SessionStore, holder: str, before: int
) -> None:
    await opened(store)
    await sign(store, 10, before=0)
    with pytest.raises(StaleSessionError):
        await sign(store, 20, before=before, holder=holder)
    found = await store.get("one")
    assert found is not None
    assert found.signed == 10


async def test_former_holder_cannot_sign_when_another_has_taken_over(store: SessionStore) -> None:
    await opened(store)
    await sign(store, 10, before=0)
    assert await store.lease("one", "B", NOON + 59, NOON + 120) is None  # A is not overdue yet
    taken = await store.lease("one", "B", NOON + 60, NOON + 120)
    assert taken is not None
    assert (taken.holder, taken.lease_until, taken.signed) == ("B", NOON + 120, 10)
    with pytest.raises(StaleSessionError):
        await sign(store, 20, before=10)
    with pytest.raises(StaleSessionError):
        await store.put_progress("one", "A", accounted=10, next_rid=9, now=NOON)
    await store.release("one", "A")  # does nothing: it is not A's any more
    await sign(store, 20, before=10, holder="B")


async def test_only_one_of_many_gets_an_overdue_session(store: SessionStore) -> None:
    await opened(store, lease_until=NOON)
    got = await asyncio.gather(*(store.lease("one", f"B{n}", NOON, NOON + 60) for n in range(10)))
    assert sum(each is not None for each in got) == 1


async def test_only_one_of_many_vouchers_over_the_same_amount_is_kept(store: SessionStore) -> None:
    await opened(store)
    done = await asyncio.gather(*(sign(store, 10 + n, before=0) for n in range(10)), return_exceptions=True)
    assert sum(each is None for each in done) == 1
    assert all(each is None or isinstance(each, StaleSessionError) for each in done)


async def test_renewing_tells_what_is_still_held(store: SessionStore) -> None:
    await opened(store, "one")
    await opened(store, "two")
    await opened(store, "three", holder="B")
    assert await store.renew("A", NOON + 99) == {"one", "two"}
    assert await store.lease("two", "B", NOON + 100, NOON + 200) is not None
    assert await store.renew("A", NOON + 300) == {"one"}


async def test_nothing_can_be_signed_once_closing_is_noted(store: SessionStore) -> None:
    await opened(store)
    await store.closing("one", "A", 0, "not used")
    with pytest.raises(StaleSessionError):
        await sign(store, 10, before=0)
    await store.closing("one", "A", NOON + 50, "another reason")
    found = await store.get("one")
    assert found is not None
    assert (found.state, found.settle_at, found.why) == (SessionState.CLOSING, NOON + 50, "not used")


async def test_closed_session_belongs_to_nobody_and_does_not_change(store: SessionStore) -> None:
    await opened(store)
    await store.closed("one", "A", Nano(4), "settled")
    found = await store.get("one")
    assert found is not None
    assert (found.state, found.holder, found.redeemed) == (SessionState.CLOSED, None, 4)
    assert await store.lease("one", "B", NOON * 2, NOON * 3) is None
    with pytest.raises(StaleSessionError):
        await store.closed("one", "A", Nano(5), "again")


async def test_only_an_opening_can_be_forgotten(store: SessionStore) -> None:
    await store.create(record("opening"), NONE, NOON)
    with pytest.raises(StaleSessionError):
        await store.forget("opening", "B")
    await store.forget("opening", "A")
    assert await store.get("opening") is None
    await opened(store)
    with pytest.raises(StaleSessionError):
        await store.forget("one", "A")


# -- limits ------------------------------------------------------------------------------------------------


async def test_deposit_that_fits_to_the_nanoton_is_taken_and_one_more_is_not(store: SessionStore) -> None:
    for limits in (
        SpendLimits(per_session=DEPOSIT),
        SpendLimits(per_day=DEPOSIT),
        SpendLimits(total=DEPOSIT),
    ):
        with pytest.raises(SpendLimitError):
            await store.create(record(deposit=DEPOSIT + 1), limits, NOON)
        assert await store.get("one") is None
        await store.create(record(), limits, NOON)
        await store.forget("one", "A")


async def test_limits_count_what_was_signed_and_what_open_deposits_still_allow(store: SessionStore) -> None:
    await opened(store, "one")
    await sign(store, 40, before=0)
    assert await store.exposure(DOMAIN, NOON) == Exposure(Nano(40), Nano(40), Nano(60))
    await opened(store, "two", deposit=Nano(5))
    await store.closing("one", "A", 0, "")  # nothing more can be signed: its rest counts no more
    assert await store.exposure(DOMAIN, NOON) == Exposure(Nano(40), Nano(40), Nano(5))
    await store.closed("one", "A", Nano(40), "")
    limits = SpendLimits(total=Nano(45 + 20))
    with pytest.raises(SpendLimitError) as caught:
        await store.create(record("three", deposit=Nano(21)), limits, NOON)
    assert "leave 0.00000002 TON" in str(caught.value)
    await store.create(record("three", deposit=Nano(20)), limits, NOON)


async def test_day_begins_anew_at_midnight_for_what_was_signed_but_not_for_open_deposits(
    store: SessionStore,
) -> None:
    await opened(store)
    midnight = (DAY + 1) * SECONDS_A_DAY
    await sign(store, 30, before=0, now=midnight - 1)
    assert await store.exposure(DOMAIN, midnight - 1) == Exposure(Nano(30), Nano(30), Nano(70))
    assert await store.exposure(DOMAIN, midnight) == Exposure(Nano(30), Nano(0), Nano(70))
    await sign(store, 50, before=30, now=midnight)
    await sign(store, 60, before=50, now=midnight + 5)
    assert await store.exposure(DOMAIN, midnight) == Exposure(Nano(60), Nano(30), Nano(40))


async def test_top_up_counts_from_when_it_is_planned(store: SessionStore) -> None:
    await opened(store)
    limits = SpendLimits(per_session=Nano(130), per_day=Nano(125))
    with pytest.raises(SpendLimitError, match="limit of a session"):
        await store.plan_top_up("one", "A", Nano(131), NOON, limits, NOON)
    with pytest.raises(SpendLimitError, match="the limits leave"):
        await store.plan_top_up("one", "A", Nano(126), NOON, limits, NOON)
    await store.plan_top_up("one", "A", Nano(125), NOON, limits, NOON)
    await store.plan_top_up("one", "A", Nano(125), NOON, limits, NOON)  # another attempt of the same
    assert (await store.exposure(DOMAIN, NOON)).outstanding == 125
    await store.deposited("one", "A", Nano(100))  # it never got through
    assert (await store.exposure(DOMAIN, NOON)).outstanding == 100
    with pytest.raises(StaleSessionError):
        await store.plan_top_up("one", "B", Nano(125), NOON, limits, NOON)


async def test_two_that_open_at_once_never_exceed_a_limit_together(store: SessionStore) -> None:
    limits = SpendLimits(per_day=Nano(350))
    done = await asyncio.gather(
        *(store.create(record(f"n{n}", session_id=n), limits, NOON) for n in range(8)), return_exceptions=True
    )
    assert sum(each is None for each in done) == 3
    assert (await store.exposure(DOMAIN, NOON)).outstanding == 300


STEP = st.tuples(
    st.sampled_from(["open", "sign", "top up", "close", "tomorrow"]),
    st.integers(min_value=0, max_value=3),
    st.integers(min_value=1, max_value=60),
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEP, max_size=40), per_day=st.integers(0, 200), total=st.integers(0, 400))
async def test_what_is_signed_never_exceeds_a_limit_whatever_happens(
    steps: list[tuple[str, int, int]], per_day: int, total: int
) -> None:
    limits = SpendLimits(per_day=Nano(per_day), total=Nano(total))
    now, today, signed = NOON, 0, 0
    known: dict[int, tuple[str, int, int]] = {}  # place: name, deposit, signed
    with tempfile.TemporaryDirectory() as folder:
        database = await open_database(f"{folder}/client.db", SESSIONS_SCHEMA)
        store = SessionStore(database)
        for number, (step, place, amount) in enumerate(steps):
            uid, deposit, before = known.get(place, ("", 0, 0))
            try:
                if step == "tomorrow":
                    now, today = now + SECONDS_A_DAY, 0
                elif step == "open" and not uid:
                    await store.create(record(f"n{number}", deposit=Nano(amount)), limits, now)
                    await store.opened(f"n{number}", "A")
                    known[place] = (f"n{number}", amount, 0)
                elif step == "sign" and uid and before < deposit:
                    more = min(amount, deposit - before)
                    await sign(store, before + more, before=before, uid=uid, now=now)
                    known[place] = (uid, deposit, before + more)
                    today, signed = today + more, signed + more
                elif step == "top up" and uid:
                    await store.plan_top_up(uid, "A", Nano(deposit + amount), now, limits, now)
                    await store.deposited(uid, "A", Nano(deposit + amount))
                    known[place] = (uid, deposit + amount, before)
                elif step == "close" and uid:
                    await store.closing(uid, "A", now, "")
                    del known[place]
            except SpendLimitError:
                pass
            found = await store.exposure(DOMAIN, now)
            assert (found.signed, found.signed_today) == (signed, today)
            assert found.outstanding == sum(each[1] - each[2] for each in known.values())
            assert today <= per_day
            assert signed <= total
        await database.close()


# -- locks and policy --------------------------------------------------------------------------------------


async def test_lock_belongs_to_one_until_it_is_given_back_or_overdue(store: SessionStore) -> None:
    got = await asyncio.gather(*(store.lock("turn", f"P{n}", NOON, NOON + 10) for n in range(8)))
    assert sum(got) == 1
    first = f"P{got.index(True)}"
    assert not await store.lock("turn", "other", NOON + 9, NOON + 20)
    assert await store.lock("turn", first, NOON + 9, NOON + 20)
    await store.unlock("turn", "other")  # not theirs
    assert not await store.lock("turn", "other", NOON + 19, NOON + 30)
    assert await store.lock("turn", "other", NOON + 20, NOON + 30)
    await store.unlock("turn", "other")
    assert await store.lock("turn", first, NOON, NOON + 10)


def test_limits_and_policy_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        SpendLimits(per_day=Nano(-1))
    for wrong in ({"increment": Nano(0)}, {"deposit": Nano(5)}, {"margin_s": 10**9}, {"lease_s": 1}):
        with pytest.raises(ValueError):
            SessionPolicy(**wrong)
