"""Gateways on one escrow, one key and one PostgreSQL: racing, killed, frozen, cut off. Money is exact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from cocoon_sdk.client.sessions.funds.records import SessionPolicy, SessionState
from cocoon_sdk.gateway.budgets import DAY_S
from cocoon_sdk.protocol.metering import DEFAULT_INCREMENT
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.ledger import Ledger, fees
from cocoon_sdk.types import Nano
from cocoon_worker.engine.echo import ECHO_LABEL
from cocoon_worker.service import WorkerService
from cocoon_worker.sessions.records import SessionEntry, SessionKey
from tests.helpers.audit import ALL, check_escrow, check_stake
from tests.helpers.databases import database_place
from tests.helpers.gateway_rig import GatewayTown, RunningGateway
from tests.helpers.gateway_troubles import (
    Cutter,
    StandingClock,
    VoucherLog,
    entries,
    kill,
    never_cools,
    records,
    worker,
)
from tests.helpers.sdk import MODEL_NAME, Town
from tests.unit.worker.test_session_serving import SteppedEngine

LEASE_S = SessionPolicy().lease_s
DAYS_TO_SETTLE = 2
BUDGET = Nano.ton("1")
HONEST = {"worker_failed", "answer_cut", "busy", "stale_session"}
"""What a user may be told when lines were cut."""
WORDS = [f"word{number}" for number in range(90)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    with database_place("postgres", tmp_path) as url:
        yield url


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> VoucherLog:
    return VoucherLog.watch(monkeypatch)


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path, place: str) -> AsyncIterator[GatewayTown]:
    made = Town(blockchain)
    found = GatewayTown(made, tmp_path)
    found.rig.clock = StandingClock(blockchain.now)
    async with found.stack:
        yield found
    await made.close()


async def gateway(town: GatewayTown, place: str) -> tuple[RunningGateway, StandingClock]:
    """Return a gateway with a clock of its own: one that is not moved is a process that is frozen."""
    clock = town.rig.clock = StandingClock(town.rig.blockchain.now)
    running = await town.gateway(place=place)
    never_cools(running)
    return running, clock


async def ask(
    client: openai.AsyncOpenAI, words: list[str], *, stream: bool, model: str = MODEL_NAME
) -> tuple[str, int]:
    """Return what the answer says and what it cost."""
    messages: Any = [{"role": "user", "content": " ".join(words)}]
    most = len(words) + 10
    if not stream:
        whole = await client.chat.completions.create(model=model, messages=messages, max_tokens=most)
        usage: Any = whole.usage
        return whole.choices[0].message.content or "", usage.model_extra["cost"]["nano_ton"]
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model=model,
            messages=messages,
            max_tokens=most,
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    usage = chunks[-1].usage
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    return text, usage.model_extra["cost"]["nano_ton"]


def said(words: list[str]) -> str:
    return " ".join([ECHO_LABEL, *words])


async def assert_nobody_lost_more_than_an_increment(
    gateway: RunningGateway, *workers: WorkerService
) -> tuple[int, int]:
    """Hold both sides' books of every session against each other; return what was accounted and booked."""
    found, books = await records(gateway), entries(*workers)
    assert {each.session_id for each in found} == set(books)
    for record in found:
        book = books[record.session_id]
        # A line may be cut when the last voucher was committed and had not arrived.
        assert record.accounted <= book.booked <= book.signed <= record.signed
        assert record.signed <= record.accounted + record.increment
        assert book.forgone <= DEFAULT_INCREMENT
    return sum(each.accounted for each in found), sum(each.booked for each in books.values())


def books_of(service: WorkerService) -> dict[SessionKey, SessionEntry]:
    """Return all that a worker's book says, ended sessions included."""
    return {entry.key: entry for entry in service.context.sessions.book.entries()}


async def end_all(town: GatewayTown, place: str, *workers: WorkerService) -> None:
    """Close and settle every session; all the money is where it belongs, to the nanoTON."""
    cocoon = town.town.cocoon(database=place, clock=town.rig.clock)
    chain, address = town.town.chain, cocoon.escrow.address
    town.rig.warp(LEASE_S)
    # What was used: a worker gives up what was signed ahead of it.
    due = {key: entry.booked for each in workers for key, entry in books_of(each).items()}
    assert {each.session_id for each in await cocoon.sessions.list()} == {key.session_id for key in due}
    for wait_s in (0, DAYS_TO_SETTLE * DAY_S):
        town.rig.warp(wait_s)
        assert (await cocoon.sessions.keep(idle_s=0)).failures == []
        for each in workers:
            await each.settle()
    assert (await cocoon.sessions.keep(idle_s=0)).failures == []
    listed = await cocoon.sessions.list(ended=True)
    assert {each.state for each in listed} == {SessionState.CLOSED}
    for each in workers:
        for key, entry in books_of(each).items():
            assert entry.paid == due[key]
    stakes = list(town.rig.accounts.values())
    states = [stake.get_state() for stake in stakes]
    assert sum(int(each.earned + each.fee_due) for each in states) == sum(due.values())
    view = await cocoon.escrow.state()
    assert view.reserved == 0
    past = chain.transactions(address, limit=ALL)
    came = sum(each.in_msg.value for each in past if each.in_msg is not None)
    went = sum(message.value for each in past for message in each.out_msgs)
    assert view.balance == came - went - fees(past)
    check_escrow(town.town.driver(cocoon))
    for stake in stakes:
        check_stake(stake)
    Ledger.of(chain).assert_balanced()


# -- racing ------------------------------------------------------------------------------------------------


async def test_gateways_that_race_answer_everything_and_account_for_every_nanoton(
    town: GatewayTown, place: str, log: VoucherLog
) -> None:
    bob = await worker(town, "bob")
    first, _ = await gateway(town, place)
    second, _ = await gateway(town, place)
    _, text = await town.key(first, budget_total=BUDGET)
    await second.server.keys.refresh()
    clients = [each.openai(text) for each in (first, second) for _ in range(2)]

    asked = [WORDS[: 1 + number % 90] for number in range(80)]
    answers = await asyncio.gather(
        *(ask(clients[number % 4], words, stream=bool(number % 3)) for number, words in enumerate(asked))
    )
    assert [text for text, _ in answers] == [said(words) for words in asked]
    for each in (first, second):
        await each.server.drain()
        await each.cocoon.inference.close()
        await each.cocoon.sessions.close()

    (use,) = await first.store.list(town.rig.clock.now() // DAY_S)
    accounted, booked = await assert_nobody_lost_more_than_an_increment(first, bob)
    assert use.spent == sum(cost for _, cost in answers) == accounted == booked
    assert use.spent <= BUDGET
    assert use.held == 0
    log.assert_one_chain()
    assert log.refused == []
    assert len({each.holder for each in log.committed}) == 2
    await end_all(town, place, bob)


# -- killed and frozen -------------------------------------------------------------------------------------


async def begin(client: openai.AsyncOpenAI, words: list[str], pieces: int, *, model: str = MODEL_NAME) -> Any:
    """Begin a stream and read so many pieces of it."""
    messages: Any = [{"role": "user", "content": " ".join(words)}]
    stream = await client.chat.completions.create(
        model=model, messages=messages, max_tokens=len(words) + 10, stream=True
    )
    for _ in range(pieces):
        await anext(stream)
    return stream


async def test_gateway_goes_on_with_the_session_of_one_that_was_killed_in_mid_stream(
    town: GatewayTown, place: str, log: VoucherLog
) -> None:
    engine = SteppedEngine(40, clock=town.rig.clock)
    bob = await worker(town, "bob", engine=engine)
    first, _ = await gateway(town, place)
    second, clock = await gateway(town, place)
    _, text = await town.key(first, budget_total=BUDGET)
    await second.server.keys.refresh()

    stream = await begin(first.openai(text), WORDS, 30)
    kill(town, first)
    async with asyncio.timeout(20):
        await engine.left.wait()
    await stream.close()
    (left,) = await records(second)
    assert left.holder == (await first.cocoon.sessions.manager()).desk.holder

    engine.step(1000)
    clock.advance(LEASE_S)
    answer, cost = await ask(second.openai(text), WORDS, stream=True)
    assert answer == said(WORDS)
    await second.server.drain()
    await second.cocoon.inference.close()
    (taken,) = await records(second)
    assert (taken.uid, taken.session_id) == (left.uid, left.session_id)
    assert taken.holder == (await second.cocoon.sessions.manager()).desk.holder
    (book,) = entries(bob).values()
    assert book.next_rid == 3
    assert {each.holder for each in log.of(left.uid)} == {left.holder, taken.holder}
    log.assert_one_chain()
    await assert_nobody_lost_more_than_an_increment(second, bob)
    (use,) = await second.store.list(clock.now() // DAY_S)
    assert use.spent == cost
    assert use.spent + use.held <= BUDGET
    await second.cocoon.sessions.close()
    await end_all(town, place, bob)


async def test_killed_gateways_session_is_left_alone_until_its_lease_is_over(
    town: GatewayTown, place: str, log: VoucherLog
) -> None:
    bob = await worker(town, "bob")
    first, _ = await gateway(town, place)
    second, clock = await gateway(town, place)
    await ask(first.openai(), WORDS[:3], stream=True)
    kill(town, first)
    clock.advance(LEASE_S - 1)
    await ask(second.openai(), WORDS[:3], stream=True)
    assert len(await records(second)) == 2
    assert len(entries(bob)) == 2
    log.assert_one_chain()


@pytest.mark.parametrize("words_after", [3, 90], ids=["paid ahead", "a voucher due"])
async def test_gateway_that_was_frozen_serves_over_another_session_after_a_takeover(
    town: GatewayTown, place: str, log: VoucherLog, words_after: int
) -> None:
    bob = await worker(town, "bob")
    frozen, _ = await gateway(town, place)
    second, clock = await gateway(town, place)
    client, other = frozen.openai(), second.openai()
    await ask(client, WORDS[:3], stream=True)
    (shared,) = await records(second)
    clock.advance(LEASE_S)
    costs = [(await ask(other, WORDS[:words_after], stream=True))[1]]
    (taken,) = await records(second)
    assert taken.uid == shared.uid
    assert taken.holder != shared.holder

    # It wakes up and believes that the session is still its own.
    before = len(log.of(shared.uid))
    answer, _ = await ask(client, WORDS, stream=True)
    assert answer == said(WORDS)
    assert all(each.holder == taken.holder for each in log.of(shared.uid)[before:])
    # Who has taken it over is not disturbed by that.
    answer, cost = await ask(other, WORDS, stream=True)
    assert answer == said(WORDS)
    costs.append(cost)
    assert len(await records(second)) == 2
    log.assert_one_chain()
    for each in (frozen, second):
        await each.server.drain()
        await each.cocoon.inference.close()
        await each.cocoon.sessions.close()
    await assert_nobody_lost_more_than_an_increment(second, bob)
    found = {each.uid: each for each in await records(second)}
    assert entries(bob)[shared.session_id].booked == found[shared.uid].accounted
    await end_all(town, place, bob)


async def test_stream_of_a_frozen_gateway_goes_on_over_another_session_when_its_own_is_taken(
    town: GatewayTown, place: str, log: VoucherLog
) -> None:
    engine = SteppedEngine(40, clock=town.rig.clock)
    bob = await worker(town, "bob", engine=engine)
    frozen, _ = await gateway(town, place)
    second, clock = await gateway(town, place)
    stream = await begin(frozen.openai(), WORDS, 30)
    (shared,) = await records(second)
    clock.advance(LEASE_S)
    answer, _ = await ask(second.openai(), WORDS[:3], stream=False)
    assert answer == said(WORDS[:3])
    engine.step(1000)
    rest = [chunk async for chunk in stream]
    assert rest[-1].choices[0].finish_reason == "stop"
    assert len(await records(second)) == 2
    assert (await records(second))[0].holder != shared.holder
    log.assert_one_chain()
    for each in (frozen, second):
        await each.server.drain()
        await each.cocoon.inference.close()
        await each.cocoon.sessions.close()
    await assert_nobody_lost_more_than_an_increment(second, bob)
    await end_all(town, place, bob)


# -- cut off -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
async def test_gateways_answer_everything_over_lines_that_are_cut(
    town: GatewayTown, place: str, log: VoucherLog, seed: int
) -> None:
    services = []
    cutters = [Cutter(100 * seed + number, 6, most_bytes=60_000) for number in range(3)]
    for number, cutter in enumerate(cutters):
        await town.stack.enter_async_context(cutter)
        price = str(10 + number)
        service = await worker(town, f"worker {number}", public_port=cutter.port, output_price=price)
        cutter.target = service.port
        services.append(service)
    first, _ = await gateway(town, place)
    second, _ = await gateway(town, place)
    _, text = await town.key(first, budget_total=BUDGET)
    await second.server.keys.refresh()
    clients = [each.openai(text) for each in (first, second)]
    troubles: list[str] = []

    async def persist(number: int) -> None:
        words = WORDS[: 1 + number % 90]
        for _ in range(20):
            try:
                answer, _ = await ask(clients[number % 2], words, stream=bool(number % 3))
            except openai.APIError as error:
                troubles.append(str(error.code))
                continue
            assert answer == said(words)
            return
        raise AssertionError(f"request {number} was never answered: {troubles[-20:]}")

    await asyncio.gather(*(persist(number) for number in range(40)))
    for each in (first, second):
        await each.server.drain()
        await each.cocoon.inference.close()
        await each.cocoon.sessions.close()
    assert sum(cutter.cut for cutter in cutters) > 5
    assert set(troubles) <= HONEST, set(troubles)
    log.assert_one_chain()
    accounted, booked = await assert_nobody_lost_more_than_an_increment(first, *services)
    (use,) = await first.store.list(town.rig.clock.now() // DAY_S)
    # A prompt that was read when its request had to be given up costs, though nothing came of it; what was
    # lost on a line the worker counts, and no user pays.
    assert accounted <= use.spent <= booked
    assert use.held == 0
    await end_all(town, place, *services)
