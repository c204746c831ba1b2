"""Who may use the engine: sessions take what jobs leave, in their turn."""

from __future__ import annotations

import asyncio

import pytest

from cocoon_worker.sessions.share import EngineBusyError, EngineShare
from cocoon_worker.sessions.tally import Bucket


async def waiting(share: EngineShare) -> asyncio.Task[None]:
    task = asyncio.create_task(share.take(60))
    await asyncio.sleep(0)
    return task


async def test_sessions_can_take_every_place_when_no_job_runs() -> None:
    share = EngineShare(3, 10)
    for _ in range(3):
        await share.take(1)
    late = await waiting(share)
    assert (share.running, share.waiting) == (3, 1)
    share.release()
    await late
    assert (share.running, share.waiting) == (3, 0)


@pytest.mark.parametrize(
    ("capacity", "jobs", "left"), [(8, 0, 8), (8, 5, 3), (8, 8, 2), (8, 99, 2), (1, 1, 1)]
)
async def test_sessions_can_take_what_jobs_leave_and_at_least_a_quarter(
    capacity: int, jobs: int, left: int
) -> None:
    share = EngineShare(capacity, 10)
    share.note_jobs(jobs)
    for _ in range(left):
        await share.take(1)
    late = await waiting(share)
    assert not late.done()
    share.note_jobs(0)
    if left < capacity:
        await late
    late.cancel()


async def test_requests_are_let_in_in_their_order() -> None:
    share = EngineShare(1, 10)
    await share.take(1)
    order: list[int] = []

    async def one(number: int) -> None:
        await share.take(60)
        order.append(number)
        share.release()

    tasks = [asyncio.create_task(one(number)) for number in range(5)]
    await asyncio.sleep(0)
    share.release()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert share.running == 0


async def test_request_cannot_wait_when_the_queue_is_full_or_too_long() -> None:
    share = EngineShare(1, 1)
    await share.take(1)
    with pytest.raises(EngineBusyError, match="no place within"):
        await share.take(0.01)
    kept = await waiting(share)
    with pytest.raises(EngineBusyError, match="wait already"):
        await share.take(1)
    kept.cancel()
    await asyncio.gather(kept, return_exceptions=True)
    assert (share.running, share.waiting) == (1, 0)


async def test_place_is_not_lost_when_a_request_is_cancelled_as_it_is_let_in() -> None:
    share = EngineShare(1, 5)
    await share.take(1)
    first, second = await waiting(share), await waiting(share)
    share.release()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await second
    assert (share.running, share.waiting) == (1, 0)


def test_bucket_allows_a_burst_and_then_a_rate() -> None:
    bucket = Bucket(2.0, 3.0, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
