"""Rows of a session's records: which one counts."""

from __future__ import annotations

import random

import pytest

from cocoon_sdk.arbiter.session_judging import Seen, longest_row
from cocoon_sdk.verify.rows import LEAST_ROW, InRow, is_over_the_line
from cocoon_sdk.verify.statistics import Numbers
from tests.helpers.session_records import LIMITS, draw


def test_client_cannot_win_by_picking_the_worst_of_many_honest_answers() -> None:
    rng = random.Random(2)
    everything = [Seen(rid, InRow(draw(rng, 1.0), LIMITS, b"%d" % rid)) for rid in range(1, 5000)]
    worst = sorted(everything, key=lambda seen: -seen.in_row.numbers.lp_mean)[:32]
    picked = sorted(worst, key=lambda seen: seen.rid)
    # Two rules protect the worker: the one about gaps, and that only what is beyond a limit counts.
    assert len(longest_row(picked)) < LEAST_ROW
    assert not is_over_the_line([seen.in_row for seen in picked])


@pytest.mark.parametrize(
    ("rids", "row"),
    [
        ([], []),
        ([4], [4]),
        ([1, 2, 3], [1, 2, 3]),
        ([1, 3, 4, 6, 7, 8], [6, 7, 8]),
        ([1, 2, 5, 6], [1, 2]),
        ([2, 4, 6], [2]),
    ],
)
def test_longest_row_is_the_first_of_equals(rids: list[int], row: list[int]) -> None:
    records = {rid: InRow(Numbers(rid / 100, 0.0, None, None), LIMITS, b"") for rid in rids}
    assert longest_row([Seen(rid, each) for rid, each in records.items()]) == [records[rid] for rid in row]
