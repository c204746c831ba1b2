"""Clients that are killed at the worst moment, and clients that race: real processes, real databases."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.client.sessions.funds.records import UNENDED_STATES, SessionRecord, SessionState
from cocoon_sdk.protocol.vouchers import Voucher, voucher_key
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.server import ToncenterServer
from cocoon_sdk.types import Nano
from tests.helpers.client_sessions import SessionTown, session_town
from tests.helpers.databases import KINDS, database_place
from tests.helpers.sdk import ScriptedWorker, Town
from tests.helpers.suite import key_of

SOME = Nano(1000)
_PATIENCE_S = 120


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_place(request.param, tmp_path) as found:
        yield found


class Processes:
    """Starts clients in processes of their own, which see the test's chain over HTTP."""

    def __init__(self, town: SessionTown, endpoint: str) -> None:
        self.town, self._endpoint = town, endpoint

    async def start(
        self,
        work: str,
        *,
        holder: str | None = "other",
        workers: list[ScriptedWorker] | None = None,
        **more: Any,
    ) -> asyncio.subprocess.Process:
        named = [self.town.worker] if workers is None else workers
        asked = {
            "endpoint": self._endpoint,
            "registry": self.town.town.suite.network.registry.to_str(),
            "owner": self.town.client._context.owner_wallet("test").address.to_str(),
            "place": self.town.place,
            "holder": holder,
            "workers": [worker.address.to_str() for worker in named],
            "work": work,
            **more,
        }
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.helpers.client_process", json.dumps(asked)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )


async def said(process: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    """Return all that a process says until it ends."""
    out, _ = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
    return [json.loads(line) for line in out.splitlines()]


async def ready(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), _PATIENCE_S)
    assert json.loads(line) == {"ready": True}


def begin(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")


@asynccontextmanager
async def served(blockchain: Blockchain, place: str) -> AsyncIterator[Processes]:
    async with (
        session_town(Town(blockchain), place) as town,
        Node(blockchain) as node,
        ToncenterServer(node) as server,
    ):
        yield Processes(town, f"{server.url}/api/v2")


@pytest.fixture
async def processes(blockchain: Blockchain, place: str) -> AsyncIterator[Processes]:
    async with served(blockchain, place) as made:
        yield made


async def records(town: SessionTown) -> list[SessionRecord]:
    store = await town.store()
    return await store.sessions(await town.client._context.escrow.domain(), UNENDED_STATES)


async def test_best_voucher_is_on_disk_when_the_client_is_killed_before_it_leaves(
    processes: Processes,
) -> None:
    town = processes.town
    process = await processes.start("sign", amount=777_777)
    ((words),) = await said(process)
    assert process.returncode == -9

    ((record),) = await records(town)
    assert (record.uid, record.signed, record.state) == (words["uid"], 777_777, SessionState.OPEN)
    key = voucher_key(key_of("client"), town.client.escrow.address, record.session_id)
    assert record.best is not None
    assert record.best.verified_by(key.verify_key, record.ref)

    # The next process goes on with it: the worker may have it or not, nothing is signed twice.
    town.clock.advance(record.lease_until - town.clock.now())
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    assert held.uid == record.uid
    assert held.best == record.best
    assert town.redeem(held, held.best)[-1].success
    entry = town.on_chain(record.session_id)
    assert entry is not None
    assert entry.redeemed == 777_777
    assert (await manager.keep()).overdrawn == []


async def test_session_is_found_when_the_client_was_killed_after_its_opening_left(
    processes: Processes,
) -> None:
    town = processes.town
    process = await processes.start("sign", amount=1, dies="after")
    assert await said(process) == []
    assert process.returncode == -9
    (number,) = town.ids_on_chain()
    ((record),) = await records(town)
    assert (record.state, record.session_id) == (SessionState.OPENING, number)

    town.clock.advance(record.lease_until - town.clock.now())
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    assert (held.uid, held.ref.session_id) == (record.uid, number)
    assert (await held.sign(500)).amount == 500
    assert town.ids_on_chain() == [number]


async def test_nothing_is_opened_or_forgotten_too_early_when_the_client_was_killed_before_its_opening_left(
    processes: Processes,
) -> None:
    town = processes.town
    process = await processes.start("sign", amount=1, dies="before")
    assert await said(process) == []
    assert process.returncode == -9
    ((record),) = await records(town)
    assert record.state is SessionState.OPENING
    assert town.ids_on_chain() == []

    town.clock.advance(record.lease_until - town.clock.now())
    manager = await town.manager()
    town.town.chain.warp(record.pending_until - town.town.chain.now)
    assert (await manager.keep()).opened == []
    assert [each.uid for each in await records(town)] == [record.uid]  # it could still arrive
    town.town.chain.warp(1)
    await manager.keep()
    assert await records(town) == []
    assert (await manager.store.exposure(record.domain, 0)).outstanding == 0


async def test_restarted_client_goes_on_at_once_where_its_predecessor_on_this_machine_was_killed(
    processes: Processes,
) -> None:
    town = processes.town
    first = await processes.start("sign", amount=100, holder=None)
    ((words),) = await said(first)
    second = await processes.start("sign", amount=200, holder=None)  # the lease still runs
    assert await said(second) == [{"uid": words["uid"], "amount": 200}]
    third = await processes.start("sign", amount=300, holder=None, workers=None, dies="before")
    assert await said(third) == [{"uid": words["uid"], "amount": 300}]  # nothing had to be sent
    ((record),) = await records(town)
    assert record.signed == 300
    assert len(town.ids_on_chain()) == 1


async def test_restarted_client_is_not_kept_waiting_by_the_turn_of_one_that_was_killed(
    processes: Processes,
) -> None:
    town = processes.town
    first = await processes.start("sign", amount=100, holder=None, dies="before")
    assert await said(first) == []
    manager = await town.manager()
    before = town.clock.now()
    await manager.acquire(await town.offer(), SOME)
    assert town.clock.now() == before


async def test_two_processes_open_sessions_of_one_escrow_at_once_and_all_get_theirs(
    processes: Processes,
) -> None:
    town = processes.town
    workers = [town.worker, town.town.worker("second"), town.town.worker("third")]
    racing = [await processes.start("open", holder=f"process {n}", workers=workers) for n in range(2)]
    for process in racing:
        await ready(process)
    for process in racing:
        begin(process)
    opened = [words for process in racing for words in await said(process)]
    assert [process.returncode for process in racing] == [0, 0]
    numbers = [words["session"] for words in opened]
    assert len(numbers) == 6
    on_chain = town.ids_on_chain()
    assert sorted(set(numbers)) == on_chain  # a session given back may be taken over, none is opened twice
    known = await records(town)
    assert sorted(each.session_id for each in known) == on_chain
    assert {each.state for each in known} == {SessionState.OPEN}


async def test_two_processes_that_fight_over_one_session_never_sign_two_vouchers_for_one_amount(
    processes: Processes,
) -> None:
    town = processes.town
    manager = await town.manager()
    held = await manager.acquire(await town.offer(), SOME)
    await manager.close()
    racing = [await processes.start("race", holder=f"process {n}", uid=held.uid, rounds=60) for n in range(2)]
    for process in racing:
        await ready(process)
    for process in racing:
        begin(process)
    words = [each for process in racing for each in await said(process)]
    assert [process.returncode for process in racing] == [0, 0]
    mine, theirs = ([amount for amount, _ in each["signed"]] for each in words)
    assert set(mine).isdisjoint(theirs)
    assert mine == sorted(set(mine))
    assert theirs == sorted(set(theirs))
    assert mine
    assert theirs
    # Nothing was skipped and nothing lost: each voucher followed the one before it, whoever signed that.
    assert sorted(mine + theirs) == list(range(1, len(mine) + len(theirs) + 1))
    store = await town.store()
    record = await store.get(held.uid)
    assert record is not None
    assert record.signed == len(mine) + len(theirs)
    last = Voucher(record.signed, record.signature)
    assert last.verified_by(held.voucher_key.verify_key, held.ref)
