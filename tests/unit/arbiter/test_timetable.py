"""Deadlines and the rounds in which evidence travels."""

from __future__ import annotations

import pytest

from cocoon_sdk.arbiter.timetable import Timetable

HOUR = 3600
TIMES = Timetable(1_000_000, 12 * HOUR, 48 * HOUR, tolerated=2)
END = TIMES.evidence_until


@pytest.mark.parametrize(
    ("now", "needed"),
    [
        (1_000_000, 0),
        (END, 0),
        (END + 1, 1),
        (END + HOUR, 1),
        (END + HOUR + 1, 2),
        (END + 3 * HOUR, 3),
        (END + 3 * HOUR + 1, None),
    ],
)
def test_evidence_needs_more_receipts_the_later_it_comes(now: int, needed: int | None) -> None:
    assert TIMES.receipts_needed(now) == needed


def test_deadlines_follow_each_other() -> None:
    order = [
        TIMES.disputed_at,
        TIMES.evidence_until,
        TIMES.evidence_closed_at,
        TIMES.commit_until,
        TIMES.median_from,
        TIMES.ends_at,
    ]
    assert order == sorted(set(order))
    assert TIMES.receipts_needed(TIMES.evidence_closed_at) is None
    assert TIMES.receipts_needed(TIMES.evidence_closed_at - 1) == TIMES.last_round


@pytest.mark.parametrize("arbitration", [12 * HOUR, 168 * HOUR])
@pytest.mark.parametrize("tolerated", [1, 4])
def test_rounds_end_long_before_votes_are_due(arbitration: int, tolerated: int) -> None:
    times = Timetable(0, 2 * HOUR, arbitration, tolerated)
    assert times.evidence_closed_at < times.commit_until
    assert times.period_s >= 900
