"""The cost of whole flows is committed exactly: a change is a decision, never an accident."""

from __future__ import annotations

from pathlib import Path

from tests.gas import GOALS, IN_README, figures, measure, read_snapshot

README = Path(__file__).resolve().parents[2] / "README.md"


def test_flows_cost_exactly_what_the_snapshot_says() -> None:
    assert figures(measure()) == read_snapshot(), "wanted? run: make gas UPDATE=1"


def test_flows_cost_at_most_what_was_promised() -> None:
    snapshot = read_snapshot()
    assert {
        flow: snapshot[flow]["fees_nano"] for flow in GOALS if snapshot[flow]["fees_nano"] > GOALS[flow]
    } == {}


def test_readme_shows_what_the_snapshot_says() -> None:
    text = README.read_text("utf-8")
    for flow, called in IN_README.items():
        figure = read_snapshot()[flow]
        fees = figure["fees_nano"] / 1e9
        shown = f"{fees / 100:.5f}" if flow == "job_batch_100" else f"{fees:.4f}"
        assert f"| {called} | {figure['transactions']} | {shown} |" in text, flow
