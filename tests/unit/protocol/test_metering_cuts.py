"""The promise of a session: whatever is cut wherever, neither side loses more than its own increment.

`World.check` holds the true count of both sides against their bounds after every single step; here are the
lives that it does so in. Vouchers are signed and verified, frames are encoded and read.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.protocol.broken_link import Cut, World
from tests.unit.protocol.two_sides import Bounds, Job

STREAM, OTHER = Job(120, (30, 30, 200, 30, 90)), Job(0, (250, 250, 250, 250, 250, 250))
WHOLE, DEAR_WHOLE = Job(50, (100, 100), whole=True), Job(200, (300, 300, 300, 300), whole=True)
STOPPED_AT_ONCE, STOPPED_LATER = Job(200, (40, 40, 40), cancel_after=0), Job(80, (60,) * 8, cancel_after=2)

SCRIPTS = {
    "one stream": (STREAM,),
    "streams beside each other": (STREAM, OTHER, STREAM),
    "answers in one piece": (WHOLE, DEAR_WHOLE, WHOLE),
    "cancelled ones": (STOPPED_AT_ONCE, STREAM, STOPPED_LATER, STOPPED_AT_ONCE),
    "one that is too dear": (Job(5_000, (1, 1)), STREAM),
    "everything": (STREAM, WHOLE, STOPPED_LATER, OTHER, STOPPED_AT_ONCE, DEAR_WHOLE),
}
RESTARTS = list(itertools.product((False, True), repeat=2))
ENDS = {"finished", "cancelled", "refused", "too dear"}


def assert_honest_end(world: World) -> None:
    client, worker = world.client, world.worker
    assert set(client.state) <= ENDS
    assert not worker.runs
    assert client.ledger.used == worker.ledger.booked
    assert client.ledger.signed == worker.ledger.signed or client.out
    # A session wears out by what is lost in cuts; nothing is refused in one that is as good as new.
    as_new = not client.ledger.lost and not any(cut.worker_restarts for cut in world.cuts.values())
    for number, job in enumerate(client.jobs):
        if client.state[number] == "refused" and as_new:
            assert not client.ledger.affords(job.input + max(job.pieces)), "refused what it could pay for"
        if client.state[number] == "too dear":
            work = job.input + sum(job.pieces)
            fits = worker.ledger.lost + work <= world.bounds.max_unpaid
            assert not fits or worker.ledger.booked + work > world.bounds.deposit, "refused what it could do"


@pytest.mark.parametrize("seed", range(25))
def test_both_sides_can_finish_everything_when_nothing_is_cut(seed: int) -> None:
    for jobs in SCRIPTS.values():
        world = World(jobs, Bounds(), seed).run()
        wanted = [
            "refused" if job.input > 1_000 else "finished" if job.cancel_after is None else "cancelled"
            for job in jobs
        ]
        ended = list(world.client.state)
        # A request may be faster than its cancellation.
        for number, job in enumerate(jobs):
            if job.cancel_after is not None and ended[number] == "finished":
                ended[number] = "cancelled"
        assert ended == wanted
        assert_honest_end(world)
        assert world.client.ledger.accounted == world.client.got


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(("client_restarts", "worker_restarts"), RESTARTS)
def test_neither_side_can_lose_more_than_its_increment_when_cut_anywhere(
    name: str, client_restarts: bool, worker_restarts: bool
) -> None:
    jobs = SCRIPTS[name]
    for seed in range(4):
        steps = World(jobs, Bounds(), seed).run().steps
        for at in range(steps + 1):
            cut = Cut(at, client_restarts, worker_restarts)
            assert_honest_end(World(jobs, Bounds(), seed, (cut,)).run())


@pytest.mark.parametrize(("client_restarts", "worker_restarts"), RESTARTS)
def test_neither_side_can_lose_more_than_its_increment_when_cut_twice_anywhere(
    client_restarts: bool, worker_restarts: bool
) -> None:
    jobs = (STREAM, WHOLE, STOPPED_LATER)
    steps = World(jobs, Bounds(), 1).run().steps
    for first, second in itertools.combinations(range(0, steps + 8), 2):
        cuts = (Cut(first, client_restarts, worker_restarts), Cut(second, worker_restarts, client_restarts))
        assert_honest_end(World(jobs, Bounds(), 1, cuts).run())


@pytest.mark.parametrize("seed", range(10))
def test_client_cannot_lose_more_than_its_increment_when_cut_before_every_step(seed: int) -> None:
    cuts = tuple(Cut(at, at % 3 == 0, at % 5 == 0) for at in range(2, 400, 3))
    # Each cut costs something, so the session wears out: then nothing more is asked in it.
    assert_honest_end(World(SCRIPTS["everything"], Bounds(), seed, cuts).run())


@pytest.mark.parametrize("claims", [1, 40, 300, 1_000, 100_000])
def test_client_cannot_lose_more_than_its_increment_when_the_worker_claims_more(claims: int) -> None:
    bounds, most = Bounds(worker_claims=claims), 0
    for name, seed in itertools.product(
        ("streams beside each other", "cancelled ones", "everything"), range(4)
    ):
        jobs = SCRIPTS[name]
        for every in (2, 5, 9):
            cuts = tuple(Cut(at, at % 2 == 0) for at in range(every, 300, every))
            most = max(most, World(jobs, bounds, seed, cuts).run().client.loss)
    assert 0 < most <= 1_000


def test_client_leaves_when_a_worker_claims_what_it_took_back() -> None:
    # Counting less after a crash and more after the next is the one claim that exceeds an increment.
    world = World((STREAM, OTHER, OTHER), Bounds(), 3).run()
    ledger = world.client.ledger
    ledger.resume(0)
    with pytest.raises(Exception, match="not honest"):
        ledger.resume(ledger.signed)


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("name", SCRIPTS)
def test_worker_cannot_lose_more_than_it_may_when_the_client_never_pays(name: str, hides: bool) -> None:
    bounds, most = Bounds(client_pays=False, client_hides=hides), 0
    for seed in range(6):
        world = World(SCRIPTS[name], bounds, seed).run()
        # It comes back after every prefill, and the work that was done for nothing is not done anew.
        for every in (3, 7):
            cuts = tuple(Cut(at) for at in range(every, 400, every))
            world = World(SCRIPTS[name], bounds, seed, cuts).run(400)
            assert world.worker.ledger.booked == 0
            most = max(most, world.worker.loss)
    assert 0 < most <= 1_000


def test_worker_does_nothing_more_when_a_client_never_pays() -> None:
    jobs = tuple(Job(180, (20,)) for _ in range(30))
    world = World(jobs, Bounds(client_pays=False), 0).run()
    assert world.worker.work == world.worker.ledger.lost == 1_000
    assert not world.worker.ledger.may_ever_begin(1)


@pytest.mark.parametrize("seed", range(12))
def test_worker_loses_only_what_its_own_crashes_forget_when_the_client_lies_about_them(seed: int) -> None:
    cuts = tuple(Cut(at, worker_restarts=True) for at in (11, 29, 47))
    world = World(SCRIPTS["everything"], Bounds(client_hides=True), seed, cuts).run()
    # Per crash: what was under way, and what was handed over since its count was last stored.
    assert world.worker.forgotten <= len(cuts) * 2 * 1_000


jobs_of_any_kind = st.lists(
    st.builds(
        Job,
        st.sampled_from((0, 40, 300, 900, 1_200)),
        st.lists(st.sampled_from((1, 20, 100, 400, 1_000)), min_size=1, max_size=8).map(tuple),
        st.booleans(),
        st.sampled_from((None, None, None, 0, 1, 3)),
    ),
    min_size=1,
    max_size=5,
).map(tuple)
bounds_of_any_kind = st.builds(
    Bounds,
    deposit=st.sampled_from((100_000, 3_000, 1_500)),
    increment=st.sampled_from((1_000, 2_000)),
    max_unpaid=st.sampled_from((1_000, 2_500)),
    worker_claims=st.sampled_from((0, 0, 0, 7, 300, 5_000)),
    client_pays=st.sampled_from((True, True, True, False)),
    client_hides=st.sampled_from((False, False, False, True)),
)


@settings(max_examples=400, deadline=None)
@given(jobs_of_any_kind, bounds_of_any_kind, st.integers(0, 1 << 30), st.data())
def test_neither_side_can_lose_more_than_its_increment_in_any_life(
    jobs: tuple[Job, ...], bounds: Bounds, seed: int, data: st.DataObject
) -> None:
    steps = World(jobs, bounds, seed).run().steps
    moments = st.builds(Cut, st.integers(0, steps + 5), st.booleans(), st.booleans())
    for cuts in data.draw(st.lists(st.lists(moments, max_size=5).map(tuple), min_size=1, max_size=6)):
        world = World(jobs, bounds, seed, cuts).run()
        if bounds.honest:
            assert_honest_end(world)
