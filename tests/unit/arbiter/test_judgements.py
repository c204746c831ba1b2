"""Many cases that wait to be judged: their evidence waits on disk, and memory holds the few under way."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cocoon_sdk.arbiter.errors import JudgingError, SecondVerdictError
from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.judgements import Judgements, Pending
from cocoon_sdk.arbiter.judging import Judge, Judgement
from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.protocol.disputes import Ground, Item, ItemKind
from cocoon_sdk.storage import StorageError
from cocoon_sdk.types import Hash

SIZE = 1 << 20
CASES = 32
AT_A_TIME = 2


class SlowJudge:
    """A double: judges nothing before it is told to, or cannot judge at all."""

    def __init__(self) -> None:
        self.goes_on, self.is_busy = asyncio.Event(), asyncio.Event()
        self.beside = self.most_beside = 0
        self.fails = False
        self.judged = 0

    async def judge(self, case: Case) -> Judgement:
        assert len(cast(Any, case.payload)) == SIZE
        self.beside += 1
        self.most_beside = max(self.most_beside, self.beside)
        if self.beside == AT_A_TIME:
            self.is_busy.set()
        await self.goes_on.wait()
        self.beside -= 1
        if self.fails:
            raise JudgingError("the endpoint is away")
        self.judged += 1
        return Judgement(Ground.HONEST)


def digest(number: int) -> Hash:
    return Hash(number.to_bytes(32, "big"))


def no_storage_error(error: StorageError) -> None:
    raise error


@pytest.fixture
def judge() -> SlowJudge:
    return SlowJudge()


@pytest.fixture
async def judgements(judge: SlowJudge) -> AsyncIterator[Judgements]:
    made = Judgements(cast(Judge, judge), cast(Chain, None), AT_A_TIME, 60, lambda: None, no_storage_error)
    yield made
    await made.close()


class Trial:
    """Disputes about jobs with evidence of `SIZE` bytes in a store, and what was voted in them."""

    def __init__(self, store: ArbiterStore) -> None:
        self.store = store
        self.voted: list[Hash] = []
        self.reads = 0
        self.refuses: Callable[[], None] = lambda: None

    async def keep(self, number: int) -> None:
        await self.store.add_item(digest(number), Item(ItemKind.PAYLOAD, number.to_bytes(1, "big") * SIZE))

    def pending(self, number: int) -> Pending:
        dispute = cast(Dispute, SimpleNamespace(digest=digest(number)))

        async def read() -> Case:
            self.reads += 1
            (item,) = (await self.store.items(digest(number))).values()
            nothing: Any = None
            return Case(dispute, cast(Any, item.data), nothing, nothing, None)

        async def vote(_: Judgement) -> None:
            self.refuses()
            self.voted.append(digest(number))

        return Pending(dispute, None, read, vote)


@pytest.fixture
def trial(store: ArbiterStore) -> Trial:
    return Trial(store)


async def test_evidence_that_waits_takes_no_memory(
    judgements: Judgements, judge: SlowJudge, trial: Trial
) -> None:
    for number in range(CASES):
        await trial.keep(number)
    tracemalloc.start()
    try:
        for number in range(CASES):
            judgements.put(trial.pending(number))
        await judge.is_busy.wait()
        held, _ = tracemalloc.get_traced_memory()
        assert len(judgements.tasks) == CASES
        assert held < (AT_A_TIME + 1) * SIZE
        judge.goes_on.set()
        await asyncio.gather(*judgements.tasks.values())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(trial.voted) == judge.judged == CASES
    assert judge.most_beside <= AT_A_TIME
    # One more of each while it comes from the file.
    assert most < 2 * (AT_A_TIME + 1) * SIZE


async def test_evidence_of_cases_that_cannot_be_judged_takes_no_memory_and_is_read_at_their_turn_only(
    judgements: Judgements, judge: SlowJudge, trial: Trial
) -> None:
    for number in range(CASES):
        await trial.keep(number)
    judge.fails = True
    judge.goes_on.set()
    tracemalloc.start()
    try:
        for number in range(CASES):
            judgements.put(trial.pending(number))
        await asyncio.gather(*judgements.tasks.values())
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < SIZE
    assert most < 2 * (AT_A_TIME + 1) * SIZE
    judgements.step(59)
    assert (judgements.tasks, trial.reads) == ({}, CASES)
    judge.fails = False
    judgements.step(60)
    await asyncio.gather(*judgements.tasks.values())
    assert (len(trial.voted), trial.reads) == (CASES, 2 * CASES)
    assert not any(judgements.has(digest(number)) for number in range(CASES))


async def test_vote_that_cannot_be_kept_is_kept_later_without_judging_or_reading_again(
    judgements: Judgements, judge: SlowJudge, trial: Trial
) -> None:
    def full() -> None:
        raise JudgingError("no room")

    await trial.keep(1)
    judge.goes_on.set()
    trial.refuses = full
    judgements.put(trial.pending(1))
    await asyncio.gather(*judgements.tasks.values())
    assert (judge.judged, trial.voted) == (1, [])
    trial.refuses = lambda: None
    judgements.step(60)
    await asyncio.gather(*judgements.tasks.values())
    assert (judge.judged, trial.reads, trial.voted) == (1, 1, [digest(1)])


async def test_case_in_which_somebody_votes_with_our_key_is_not_tried_again(
    judgements: Judgements, judge: SlowJudge, trial: Trial
) -> None:
    def doubled() -> None:
        raise SecondVerdictError("somebody else votes with our key")

    await trial.keep(1)
    judge.goes_on.set()
    trial.refuses = doubled
    judgements.put(trial.pending(1))
    await asyncio.gather(*judgements.tasks.values())
    judgements.step(60)
    assert not judgements.has(digest(1))
    assert judgements.tasks == {}


async def test_dispute_that_ends_while_its_case_waits_is_neither_read_nor_judged(
    judgements: Judgements, judge: SlowJudge, trial: Trial
) -> None:
    for number in range(AT_A_TIME + 1):
        await trial.keep(number)
        judgements.put(trial.pending(number))
    await judge.is_busy.wait()
    await trial.store.end(digest(AT_A_TIME), 1, "ended on chain")
    judgements.forget(digest(AT_A_TIME))
    judge.goes_on.set()
    await asyncio.gather(*judgements.tasks.values())
    assert (trial.reads, judge.judged) == (AT_A_TIME, AT_A_TIME)
    assert not judgements.has(digest(AT_A_TIME))
