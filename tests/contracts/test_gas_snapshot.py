"""The cost of whole flows is committed exactly: a change is a decision, never an accident."""

from __future__ import annotations

from tests.gas import figures, measure, read_snapshot


def test_flows_cost_exactly_what_the_snapshot_says() -> None:
    assert figures(measure()) == read_snapshot(), "wanted? run: make gas UPDATE=1"
