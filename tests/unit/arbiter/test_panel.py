"""From votes to a verdict: commit before reveal, equal votes, the median, and who is paid."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cocoon_sdk.arbiter.panel import Panel
from cocoon_sdk.arbiter.timetable import Timetable
from cocoon_sdk.protocol.disputes import Ground, Vote
from cocoon_sdk.types import Hash, Nano

TIMES = Timetable(0, 7200, 43_200, tolerated=2)
EARLY, LATE = 100, TIMES.median_from + 1
PAY, REFUND, SLASH = (1000, 0), (0, 0), (0, 4000)
DISPUTE = Hash(bytes(32))


def vote(index: int, numbers: tuple[int, int]) -> Vote:
    return Vote(
        dispute=DISPUTE,
        index=index,
        pay=Nano(numbers[0]),
        slash=Nano(numbers[1]),
        ground=Ground.HONEST,
        late=False,
        salt=bytes([index]) * 16,
    )


def panel(
    votes: Mapping[int, tuple[int, int]],
    *,
    signed: Mapping[int, tuple[int, int]] | None = None,
    late: tuple[int, ...] = (),
    twice: tuple[int, ...] = (),
) -> Panel:
    made = {index: vote(index, numbers) for index, numbers in votes.items()}
    commitments = {index: {each.digest()} for index, each in made.items()}
    for index in twice:
        commitments.setdefault(index, set()).add(Hash(bytes([index]) * 32))
    verdicts = {index: {numbers: bytes(64)} for index, numbers in (signed or {}).items()}
    return Panel(3, commitments, made, verdicts, late)


def test_vote_stays_closed_until_k_have_committed() -> None:
    assert not panel({0: PAY, 1: PAY}).may_open(EARLY, TIMES)
    assert panel({0: PAY, 1: PAY, 2: SLASH}).may_open(EARLY, TIMES)
    assert panel({0: PAY}).may_open(TIMES.commit_until + 1, TIMES)
    # Who commits twice is nobody to wait for.
    assert not panel({0: PAY, 1: PAY, 2: SLASH}, twice=(1,)).may_open(EARLY, TIMES)


@pytest.mark.parametrize(
    ("votes", "now", "agreed"),
    [
        ({0: PAY, 1: PAY}, LATE, None),
        ({0: SLASH, 1: SLASH, 2: SLASH}, EARLY, SLASH),
        ({0: SLASH, 1: SLASH, 2: PAY}, EARLY, None),
        ({0: SLASH, 1: SLASH, 2: PAY}, LATE, SLASH),
        ({0: PAY, 1: REFUND, 2: SLASH}, LATE, REFUND),
        ({0: PAY, 1: REFUND, 2: SLASH, 3: SLASH}, LATE, REFUND),  # in doubt for the worker
        ({0: PAY, 1: PAY, 2: SLASH, 3: SLASH}, LATE, PAY),
        ({0: PAY, 1: REFUND, 2: SLASH, 3: SLASH, 4: SLASH}, EARLY, SLASH),
    ],
)
def test_votes_come_to_one_verdict(
    votes: dict[int, tuple[int, int]], now: int, agreed: tuple[int, int] | None
) -> None:
    assert panel(votes).agreed(now, TIMES) == agreed


def test_arbiter_that_commits_twice_or_shows_another_vote_does_not_count() -> None:
    votes = {0: SLASH, 1: SLASH, 2: SLASH}
    assert panel(votes, twice=(2,)).agreed(EARLY, TIMES) is None
    shown = panel(votes)
    swapped = Panel(3, shown.commitments, {**shown.votes, 2: vote(2, PAY)})
    assert swapped.agreed(EARLY, TIMES) is None


def test_those_that_had_voted_so_are_paid_first() -> None:
    everybody = dict.fromkeys(range(5), SLASH)
    votes = {0: PAY, 1: SLASH, 3: SLASH, 4: SLASH}
    assert panel(votes, signed=everybody).complete() == (SLASH, [1, 3, 4])
    # A late commitment comes after those in time, another vote after both, none at all last.
    assert panel(votes, signed=everybody, late=(1,)).complete() == (SLASH, [1, 3, 4])
    agreeing = dict.fromkeys(range(4), SLASH)
    assert panel(agreeing, signed=everybody, late=(0,)).complete() == (SLASH, [1, 2, 3])


def test_too_few_signatures_are_no_verdict() -> None:
    assert panel({}, signed={0: SLASH, 1: SLASH, 2: PAY}).complete() is None
