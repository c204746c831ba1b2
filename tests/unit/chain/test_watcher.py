"""Account watcher: nothing lost, doubled or reordered under failures and restarts; resets are noticed."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Address, Cell

from cocoon_sdk.chain import history_pages
from cocoon_sdk.chain.base import (
    AccountState,
    AccountStatus,
    Chain,
    ChainHead,
    Link,
    StackValue,
    TransactionRecord,
)
from cocoon_sdk.chain.watcher import AccountWatcher, ChainResetError, Cursor, HistoryGapError
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import ChainError, ChainTimeoutError, ChainUnavailableError, ConfigError
from cocoon_sdk.types import Nano
from tests.helpers.hostile_chains import NamingChain

ADDRESS = Address((0, b"\x22" * 32))


class ScriptedChain:
    """Test double of one account's history behind an endpoint that fails and lags at random."""

    def __init__(self, seed: int = 0, *, failing: float = 0.0, lagging: float = 0.0) -> None:
        self.history: list[TransactionRecord] = []
        self.seqno = 0
        self.requests = 0
        self.largest_page = 0
        self.pruned_below = 0
        self.failing, self.lagging = failing, lagging
        self.pending: list[int] = []
        self.rng = random.Random(seed)

    def produce(self, count: int, salt: bytes = b"") -> None:
        for _ in range(count):
            last = self.history[-1] if self.history else None
            lt = (last.lt if last else 0) + self.rng.randint(1, 1_000_000)
            prev = (last.lt, last.hash) if last else (0, bytes(32))
            digest = hashlib.sha256(lt.to_bytes(8, "big") + prev[1] + salt).digest()
            self.history.append(TransactionRecord(ADDRESS, lt, 0, digest, *prev, Cell.empty()))
        self.seqno += 1

    async def transactions(
        self,
        address: Address,
        *,
        limit: int = 16,
        before_lt: int | None = None,
        after_lt: int = 0,
        start: Link | None = None,
    ) -> list[TransactionRecord]:
        self.requests += 1
        self._may_fail()
        seen = self.history
        if self.rng.random() < self.lagging:
            seen = seen[: max(0, len(seen) - self.rng.randint(0, 20))]
        found = [
            record
            for record in reversed(seen)
            if max(after_lt, self.pruned_below) < record.lt and (before_lt is None or record.lt < before_lt)
        ][:limit]
        self.largest_page = max(self.largest_page, len(found))
        return found

    async def wait_head(self, after_seqno: int, timeout_s: float) -> ChainHead:
        self._may_fail()
        if self.pending:
            self.produce(self.pending.pop(0))
        return ChainHead(self.seqno, 0)

    def _may_fail(self) -> None:
        if self.rng.random() < self.failing:
            raise self.rng.choice([ChainUnavailableError, ChainTimeoutError])("scripted failure")

    async def account(self, address: Address) -> AccountState:
        last = self.history[-1] if self.history else None
        status = AccountStatus.ACTIVE if last else AccountStatus.NONEXIST
        lt, digest = (last.lt, last.hash) if last else (0, bytes(32))
        return AccountState(address, status, Nano(0), None, None, lt, digest)

    async def head(self) -> ChainHead:
        return ChainHead(self.seqno, 0)

    async def global_id(self) -> int:
        return -3

    async def run_getter(
        self, address: Address, method: str | int, stack: Sequence[StackValue] = ()
    ) -> list[StackValue]:
        raise AssertionError("a watcher runs no getters")

    async def send(self, message: Cell) -> bytes:
        raise AssertionError("a watcher sends nothing")

    async def config_param(self, index: int) -> Cell | None:
        return None

    async def close(self) -> None:
        return None


def watcher(chain: ScriptedChain, cursor: Cursor | None = None, **settings: Any) -> AccountWatcher:
    return AccountWatcher(chain, ADDRESS, cursor, clock=ManualClock(0), **settings)


async def everything(source: AccountWatcher) -> list[int]:
    found = []
    while (transaction := await source.next_known()) is not None:
        found.append(transaction.lt)
    return found


@settings(deadline=None)
@given(
    batches=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    page_size=st.integers(2, 20),
    failing=st.sampled_from([0.0, 0.1, 0.5]),
    lagging=st.sampled_from([0.0, 0.2, 0.6]),
    restart_after=st.lists(st.integers(1, 30), max_size=6),
    seed=st.integers(0, 1 << 32),
)
async def test_consumer_can_see_each_transaction_once_in_order_when_endpoint_fails_lags_and_it_restarts(
    batches: list[int],
    page_size: int,
    failing: float,
    lagging: float,
    restart_after: list[int],
    seed: int,
) -> None:
    chain = ScriptedChain(seed, failing=failing, lagging=lagging)
    chain.pending = [*batches, 1]  # the last transaction says that everything before it was produced
    journal: list[int] = []
    cursor: Cursor | None = None
    total = sum(batches) + 1
    while len(journal) < total:
        # Patience is about resets, which do not happen here; lag is unbounded in this test.
        source = watcher(chain, cursor, page_size=page_size, patience=1_000_000)
        lifetime = restart_after.pop(0) if restart_after else total
        async for transaction in source:
            journal.append(transaction.lt)
            cursor = Cursor.after(transaction)
            lifetime -= 1
            if lifetime == 0 or len(journal) == total:
                break
    assert journal == [record.lt for record in chain.history]
    assert chain.largest_page <= page_size


@settings(deadline=None)
@given(
    count=st.integers(0, 120),
    marks=st.integers(2, 5),
    page_size=st.integers(2, 7),
    done=st.integers(0, 120),
)
async def test_watcher_can_fill_a_gap_when_it_exceeds_what_it_may_remember(
    count: int, marks: int, page_size: int, done: int
) -> None:
    chain = ScriptedChain()
    chain.produce(count)
    cursor = Cursor.after(chain.history[done - 1]) if 0 < done <= count else Cursor()
    source = watcher(chain, cursor, page_size=page_size)
    source._MAX_MARKS = marks
    start = done if 0 < done <= count else 0
    assert await everything(source) == [record.lt for record in chain.history[start:]]


async def test_watcher_can_cancel_a_pending_step_without_loss() -> None:
    chain = ScriptedChain()
    chain.produce(30)
    source = watcher(chain, page_size=4)
    found: list[int] = []
    original = chain.transactions

    async def interruptible(*args: object, **kwargs: object) -> list[TransactionRecord]:
        await asyncio.sleep(0)
        return await original(*args, **kwargs)  # type: ignore[arg-type]

    chain.transactions = interruptible  # type: ignore[method-assign]
    turns = 0
    while len(found) < 30:
        step = asyncio.ensure_future(anext(source))
        turns += 1
        for _ in range(turns % 12):
            await asyncio.sleep(0)
        step.cancel()
        try:
            found.append((await step).lt)
        except asyncio.CancelledError:
            continue
    assert found == [record.lt for record in chain.history]


async def test_watcher_can_stay_quiet_when_nothing_happens() -> None:
    chain = ScriptedChain()
    chain.produce(3)
    source = watcher(chain)
    assert len(await everything(source)) == 3
    before = chain.requests
    for _ in range(50):
        assert await source.next_known() is None
    assert chain.requests - before == 50  # one request a look, which also proves that the cursor still stands


async def test_watcher_can_start_behind_everything_when_given_the_newest_cursor() -> None:
    chain = ScriptedChain()
    assert await Cursor.newest(chain, ADDRESS) == Cursor()
    chain.produce(5)
    source = watcher(chain, await Cursor.newest(chain, ADDRESS))
    assert await everything(source) == []
    chain.produce(2)
    assert await everything(source) == [record.lt for record in chain.history[5:]]


async def test_watcher_can_report_errors_with_growing_waits_when_the_endpoint_is_down() -> None:
    chain = ScriptedChain(failing=1.0)
    clock = ManualClock(0)
    seen: list[tuple[str, float]] = []

    def note(error: ChainError, pause: float) -> None:
        seen.append((type(error).__name__, pause))
        if len(seen) == 8:
            raise RuntimeError("enough")

    source = AccountWatcher(
        chain, ADDRESS, clock=clock, backoff_s=1.0, backoff_max_s=20.0, on_error=note, page_size=4
    )
    with pytest.raises(RuntimeError, match="enough"):
        await anext(source)
    assert [pause for _, pause in seen] == [1, 2, 4, 8, 16, 20, 20, 20]
    assert clock.now() == 71


async def test_watcher_can_fill_a_gap_with_two_requests_a_page() -> None:
    chain = ScriptedChain()
    chain.produce(20)
    errors: list[ChainError] = []
    source = watcher(chain, page_size=4, on_error=lambda error, _: errors.append(error))
    assert await everything(source) == [record.lt for record in chain.history]
    assert errors == []
    assert chain.requests == 5 + 4 + 1  # down, up again without the page at hand, and a last look


async def test_watcher_can_get_through_more_than_any_chain_remembers_while_others_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history_pages, "MAX_WALK", 20)
    length = 100
    chain = NamingChain(length, size=4)
    source = AccountWatcher(cast(Chain, chain), ADDRESS, page_size=4, clock=ManualClock(0))
    others = found = 0
    while await source.next_known() is not None:
        found += 1
        if found % 4 == 0:
            for number in range(70):
                await chain.transactions(Address((1, number.to_bytes(32, "big"))))
                others += 1
    assert found == length
    assert chain.asked - others <= 2 * length / 4 + 2


async def test_watcher_can_forget_old_failures_when_the_endpoint_recovers() -> None:
    chain = ScriptedChain()
    chain.produce(1)
    pauses: list[float] = []

    def note(_: ChainError, pause: float) -> None:
        pauses.append(pause)
        chain.failing = float(len(pauses) % 2)  # every second failure is the last for now

    source = watcher(chain, backoff_s=1.0, on_error=note)
    for expected in ([1, 2], [1, 2, 1, 2]):
        chain.failing = 1.0
        await source.next_known()
        assert pauses == expected


async def test_watcher_can_outlast_a_page_from_another_branch_while_it_walks_down() -> None:
    chain, other = ScriptedChain(1), ScriptedChain(1)
    chain.produce(12)
    other.produce(12, salt=b"other")
    original, served = chain.transactions, 0

    async def switching(*args: Any, **kwargs: Any) -> list[TransactionRecord]:
        nonlocal served
        served += 1
        return await (other.transactions if served == 2 else original)(*args, **kwargs)

    chain.transactions = switching  # type: ignore[method-assign]
    source = watcher(chain, page_size=4)
    assert await source.next_known() is None
    assert await everything(source) == [record.lt for record in chain.history]


async def test_watcher_cannot_go_on_when_the_chain_is_replaced_while_it_climbs() -> None:
    chain, other = ScriptedChain(1), ScriptedChain(1)
    chain.produce(12)
    other.produce(12, salt=b"other")
    source = watcher(chain, page_size=4)
    for record in chain.history[:4]:
        assert await anext(source) == record
    chain.history = other.history
    with pytest.raises(ChainResetError, match="does not follow the cursor"):
        await anext(source)
    assert source.cursor.lt == other.history[3].lt


async def test_watcher_cannot_go_on_when_another_chain_stands_at_the_cursor() -> None:
    chain, other = ScriptedChain(1), ScriptedChain(2)
    chain.produce(5)
    other.produce(9)
    with pytest.raises(ChainResetError, match="does not contain the cursor"):
        await everything(watcher(other, Cursor.after(chain.history[2])))


async def test_watcher_cannot_go_on_when_the_same_lt_has_another_hash() -> None:
    chain, other = ScriptedChain(1), ScriptedChain(1)
    chain.produce(5)
    other.produce(5, salt=b"other")
    assert [record.lt for record in chain.history] == [record.lt for record in other.history]
    with pytest.raises(ChainResetError):
        await everything(watcher(other, Cursor.after(chain.history[4])))


async def test_watcher_cannot_go_on_when_the_chain_went_back_for_longer_than_its_patience() -> None:
    chain = ScriptedChain()
    chain.produce(10)
    source = watcher(chain, patience=3)
    await everything(source)
    removed, chain.history = chain.history[6:], chain.history[:6]
    assert await source.next_known() is None
    assert await source.next_known() is None
    chain.history += removed
    assert await source.next_known() is None  # it was only lag: patience starts anew
    chain.history = chain.history[:6]
    assert await source.next_known() is None
    assert await source.next_known() is None
    with pytest.raises(ChainResetError, match="nothing at lt"):
        await source.next_known()


async def test_watcher_cannot_skip_when_the_endpoint_has_dropped_history() -> None:
    chain = ScriptedChain()
    chain.produce(50)
    chain.pruned_below = chain.history[20].lt
    source = watcher(chain, Cursor.after(chain.history[4]), page_size=8, patience=2)
    assert await source.next_known() is None
    with pytest.raises(HistoryGapError):
        await source.next_known()


async def test_watcher_cannot_be_fooled_when_the_endpoint_leaves_one_out() -> None:
    chain = ScriptedChain()
    chain.produce(9)
    hidden = chain.history.pop(4)
    errors: list[str] = []

    def note(error: ChainError, _: float) -> None:
        errors.append(str(error))
        if len(errors) == 3:
            chain.history.insert(4, hidden)

    source = watcher(chain, on_error=note)
    assert await everything(source) == [record.lt for record in chain.history]
    assert "contradicts itself" in errors[0]


@pytest.mark.parametrize("settings", [{"page_size": 1}, {"wait_s": 0}, {"patience": 0}, {"backoff_s": -1}])
def test_watcher_cannot_be_made_when_settings_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        watcher(ScriptedChain(), **settings)


def test_cursor_cannot_be_made_when_its_hash_is_short() -> None:
    with pytest.raises(ConfigError):
        Cursor(5, b"")
