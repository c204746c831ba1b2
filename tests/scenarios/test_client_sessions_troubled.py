"""Externals that get lost, come late or second, while a session is opened, topped up or closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pytoniq_core import Cell

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.sessions.errors import SessionRefusedError, SessionUsedUpError, SpendLimitError
from cocoon_sdk.client.sessions.funds import funding
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.client.sessions.funds.manager import SessionManager
from cocoon_sdk.client.sessions.funds.onchain import ANY_EXTERNAL_S, EscrowSight
from cocoon_sdk.client.sessions.funds.records import UNENDED_STATES, SessionRecord, SessionState, SpendLimits
from cocoon_sdk.errors import ChainTimeoutError
from cocoon_sdk.protocol import signing
from cocoon_sdk.sandbox import Blockchain, SandboxChain
from cocoon_sdk.types import Nano
from tests.helpers.client_sessions import POLICY, SessionTown, session_town
from tests.helpers.sdk import Town
from tests.helpers.suite import key_of

SOME = Nano(1000)


class KilledError(BaseException):
    """The process ends here; nothing that follows runs."""


class Endpoint:
    """A chain with something in between: `before` runs ahead of the next external, `fate` decides on it."""

    def __init__(self, inner: Chain) -> None:
        self.inner = inner
        self.fate = ""
        self.before: Callable[[], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def send(self, message: Cell) -> bytes:
        before, self.before = self.before, None
        if before is not None:
            await before()
        if self.fate == "killed before":
            raise KilledError
        if self.fate == "lost":
            return bytes(message.hash)
        done = await self.inner.send(message)
        if self.fate == "killed after":
            raise KilledError
        if self.fate == "unanswered":
            raise ChainTimeoutError("no answer")
        return done


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[SessionTown]:
    made = Town(blockchain)
    endpoint = Endpoint(SandboxChain(blockchain))
    async with session_town(made, str(tmp_path / "client.db"), chain=endpoint) as found:
        yield found


def endpoint(town: SessionTown) -> Endpoint:
    found = town.client._context.chain
    assert isinstance(found, Endpoint)
    return found


async def records(manager: SessionManager) -> list[SessionRecord]:
    domain = await manager.desk.context.escrow.domain()
    return await manager.store.sessions(domain, UNENDED_STATES)


async def outstanding(manager: SessionManager) -> Nano:
    domain = await manager.desk.context.escrow.domain()
    return (await manager.store.exposure(domain, manager.desk.now())).outstanding


async def held_session(manager: SessionManager, town: SessionTown, least: Nano = SOME) -> HeldSession:
    return await manager.acquire(await town.offer(), least)


async def test_session_is_open_when_the_endpoint_did_not_answer_but_passed_the_external_on(
    town: SessionTown,
) -> None:
    manager = await town.manager()
    endpoint(town).fate = "unanswered"
    held = await held_session(manager, town)
    assert town.ids_on_chain() == [held.ref.session_id]


async def test_opening_takes_the_next_number_when_somebody_else_was_first(town: SessionTown) -> None:
    manager = await town.manager()
    driver = town.town.driver(town.client)
    planned = driver.get_state().next_id

    async def overtake() -> None:
        """Open a session with the same hot key, but past this database."""
        key = key_of("somebody's voucher key").verify_key
        expiry = town.town.chain.now + 1000
        driver.act(signing.open_session(planned, town.worker.address, key, Nano(5_000_000), expiry))

    endpoint(town).before = overtake
    held = await held_session(manager, town)
    assert held.ref.session_id == planned + 1
    ((record),) = await records(manager)
    assert (record.session_id, record.state) == (planned + 1, SessionState.OPEN)
    assert (await manager.keep()).unknown == [planned]


async def test_opening_is_not_mistaken_for_somebody_elses_under_the_same_number(town: SessionTown) -> None:
    manager = await town.manager(holder="killed")
    driver = town.town.driver(town.client)
    endpoint(town).fate = "killed before"
    with pytest.raises(KilledError):
        await held_session(manager, town)
    ((record),) = await records(manager)
    # Even with the very same key, worker and deposit: another opening has another expiry.
    key = signing_key_of(town, record)
    action = signing.open_session(record.session_id, record.worker, key, record.deposit, record.expires - 1)
    driver.act(action)
    town.clock.advance(POLICY.lease_s)
    later = await town.manager()
    report = await later.keep()
    assert report.opened == []
    assert await records(later) == []
    assert (await later.keep()).unknown == [record.session_id]


def signing_key_of(town: SessionTown, record: SessionRecord) -> Any:
    from cocoon_sdk.protocol.vouchers import voucher_key

    return voucher_key(key_of("client"), town.client.escrow.address, record.session_id).verify_key


async def test_limits_count_an_opening_until_it_can_take_effect_no_more(town: SessionTown) -> None:
    limits = SpendLimits(total=POLICY.deposit)
    killed = await town.manager(holder="killed", limits=limits)
    endpoint(town).fate = "killed before"
    with pytest.raises(KilledError):
        await held_session(killed, town)
    endpoint(town).fate = ""
    ((record),) = await records(killed)
    town.clock.advance(POLICY.lease_s)
    later = await town.manager(limits=limits)
    with pytest.raises(SpendLimitError):
        await held_session(later, town)
    town.town.chain.warp(record.pending_until + 1 - town.town.chain.now)
    assert (await held_session(later, town)).ledger.deposit == POLICY.deposit
    assert await outstanding(later) == POLICY.deposit


async def test_nothing_stays_behind_when_the_contract_refuses_an_opening(
    town: SessionTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if somebody else had spent the money between our look and our external.
    monkeypatch.setattr(funding, "check_room", lambda *_: None)
    await town.client.escrow.set_limits(Nano.ton("0.05"))
    manager = await town.manager()
    with pytest.raises(SessionRefusedError, match=r"daily limit|hot key"):
        await held_session(manager, town, Nano.ton("0.06"))
    assert await records(manager) == []
    assert await outstanding(manager) == 0
    assert town.ids_on_chain() == []


async def test_session_goes_on_when_its_top_up_is_refused(
    town: SessionTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = await town.manager()
    held = await held_session(manager, town, POLICY.deposit)
    monkeypatch.setattr(funding, "check_room", lambda *_: None)
    await town.client.escrow.set_limits(Nano.ton("0.01"))
    with pytest.raises(SessionUsedUpError):
        await manager.top_up(held, Nano.ton("0.05"))
    assert await outstanding(manager) == POLICY.deposit
    assert (await held.sign(1000)).amount == 1000


async def test_deposit_is_right_when_the_client_was_killed_after_its_top_up_left(town: SessionTown) -> None:
    killed = await town.manager(holder="killed")
    held = await held_session(killed, town, POLICY.deposit)
    endpoint(town).fate = "killed after"
    with pytest.raises(KilledError):
        await killed.top_up(held, SOME)
    endpoint(town).fate = ""
    ((record),) = await records(killed)
    assert (record.deposit, record.pending_deposit) == (POLICY.deposit, 2 * POLICY.deposit)
    assert await outstanding(killed) == 2 * POLICY.deposit
    town.clock.advance(POLICY.lease_s)
    later = await town.manager()
    taken = await held_session(later, town)
    assert taken.uid == held.uid
    assert taken.ledger.deposit == 2 * POLICY.deposit
    ((record),) = await records(later)
    assert (record.deposit, record.pending_deposit) == (2 * POLICY.deposit, 0)


async def test_keeper_does_not_take_a_session_for_ended_that_was_opened_after_it_looked(
    town: SessionTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = await town.manager()
    before = await manager.desk.look()

    async def look() -> EscrowSight:
        return before

    held = await held_session(manager, town)
    monkeypatch.setattr(manager.desk, "look", look)
    report = await manager.keep()
    assert report.ended == []
    assert not held.stale
    assert (await held.sign(1000)).amount == 1000


@pytest.mark.parametrize("fate", ["killed before", "killed after"])
async def test_keeper_and_request_can_find_the_same_lost_opening_at_once(
    town: SessionTown, fate: str
) -> None:
    killed = await town.manager(holder="killed")
    endpoint(town).fate = fate
    with pytest.raises(KilledError):
        await held_session(killed, town)
    endpoint(town).fate = ""
    town.pass_time(POLICY.lease_s + ANY_EXTERNAL_S)
    later = await town.manager()
    report, held = await asyncio.gather(later.keep(), held_session(later, town))
    assert report.failures == []
    assert town.ids_on_chain() == [held.ref.session_id]
    assert (await held.sign(1000)).amount == 1000


async def test_session_opened_under_an_earlier_hot_key_is_still_used(town: SessionTown) -> None:
    manager = await town.manager()
    held = await held_session(manager, town)
    await manager.close()
    await town.client.escrow.set_key(key_of("the next hot key"))
    later = await town.manager()
    again = await held_session(later, town)
    assert again.uid == held.uid
    town.redeem(again, await again.sign(400_000))
    entry = town.on_chain(again.ref.session_id)
    assert entry is not None
    assert entry.redeemed == 400_000


async def test_top_up_that_got_lost_blocks_another_only_while_it_could_still_arrive(
    town: SessionTown,
) -> None:
    manager = await town.manager()
    held = await held_session(manager, town, POLICY.deposit)
    endpoint(town).fate = "killed before"
    with pytest.raises(KilledError):
        await manager.top_up(held, SOME)
    endpoint(town).fate = ""
    with pytest.raises(SessionUsedUpError) as caught:
        await manager.top_up(held, SOME)
    assert caught.value.retry_after_s is not None
    assert await outstanding(manager) == 2 * POLICY.deposit
    town.town.chain.warp(caught.value.retry_after_s + 1)
    await manager.keep()
    assert await outstanding(manager) == POLICY.deposit
    await manager.top_up(held, SOME)
    assert held.ledger.deposit == 2 * POLICY.deposit


async def test_close_is_sent_again_when_the_client_was_killed_before_it_left(town: SessionTown) -> None:
    killed = await town.manager(holder="killed")
    held = await held_session(killed, town)
    endpoint(town).fate = "killed before"
    with pytest.raises(KilledError):
        await killed.retire(held, "its worker lied")
    endpoint(town).fate = ""
    ((record),) = await records(killed)
    assert (record.state, record.settle_at) == (SessionState.CLOSING, 0)
    town.clock.advance(POLICY.lease_s)
    later = await town.manager()
    assert [each.uid for each in (await later.keep()).closed] == [held.uid]
    entry = town.on_chain(held.ref.session_id)
    assert entry is not None
    ((record),) = await records(later)
    assert (record.settle_at, record.why) == (entry.deadline, "its worker lied")


async def test_settling_is_noted_when_the_client_was_killed_after_it_left(town: SessionTown) -> None:
    killed = await town.manager(holder="killed")
    held = await held_session(killed, town)
    await killed.retire(held, "done")
    town.pass_time(2 * 86_400)
    endpoint(town).fate = "killed after"
    with pytest.raises(KilledError):
        await killed.keep()
    endpoint(town).fate = ""
    assert town.ids_on_chain() == []
    town.pass_time(POLICY.lease_s)
    later = await town.manager()
    assert [each.uid for each in (await later.keep()).ended] == [held.uid]
    assert await records(later) == []
