"""Times and spans in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_sdk.explain.times import relative, span, utc, when


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1, "1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3601, "1 h"),
        (5400, "1 h 30 min"),
        (86400 + 7200, "1 d 2 h"),
        (-90, "1 min 30 s"),
    ],
)
def test_span_names_its_two_largest_units(seconds: int, text: str) -> None:
    assert span(seconds) == text


def test_moment_is_written_in_utc_and_relative_to_the_chain() -> None:
    assert when(1_780_000_000, 1_779_999_700) == "2026-05-28 20:26:40 UTC (in 5 min)"
    assert relative(1_780_000_000, 1_780_003_600) == "1 h ago"
    assert relative(5, 5) == "now"


@given(st.integers(-(2**64), 2**64))
def test_every_moment_can_be_written(moment: int) -> None:
    assert utc(moment)
