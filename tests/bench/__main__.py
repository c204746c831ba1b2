"""Run the benchmarks, print a table, write build/bench.json (`make bench`).

The file has exactly the agreed figures, and what they were made of under `details`.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import adnl, sandboxes, seal

REPORT = Path(__file__).resolve().parents[2] / "build" / "bench.json"
_TARGETS = {
    "sandbox_ratio": ("at least 10", lambda value: value >= 10),
    "adnl_sends_per_s": ("at least 300", lambda value: value >= 300),
    "seal_ratio_100k_over_100": ("at most 5", lambda value: value <= 5),
}


def main() -> None:
    """Measure everything, one thing after the other."""
    console = Console()
    console.print("our sandbox and @ton/sandbox on the same messages ...")
    compared = sandboxes.compare()
    console.print("sealing among 100 and among 100,000 accounts ...")
    sealed = seal.measure()
    console.print("messages over ADNL ...")
    sends, sending = adnl.adnl_sends_per_s()
    figures: dict[str, Any] = {
        "sandbox_tx_per_s": round(median(compared.ours)),
        "ton_sandbox_tx_per_s": round(median(compared.theirs)),
        "sandbox_ratio": round(compared.ratio, 2),
        "adnl_sends_per_s": round(sends),
        "seal_ratio_100k_over_100": round(sealed.ratio, 2),
    }
    details = {
        "sandbox_rounds_tx_per_s": [round(value) for value in compared.ours],
        "ton_sandbox_rounds_tx_per_s": [round(value) for value in compared.theirs],
        "sandbox_transactions": compared.transactions,
        "sandbox_sealing_every_message_tx_per_s": round(median(compared.sealed)),
        "seal_ms_among_100": round(sealed.few * 1000, 2),
        "seal_ms_among_100k": round(sealed.many * 1000, 2),
        "seal_setup_100k_s": round(sealed.setup, 1),
        "adnl_messages": sending.accepted,
        "adnl_blocks": sending.blocks,
        "adnl_connections": sending.connections,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps({**figures, "details": details}, indent=2) + "\n")
    _show(console, figures, details)


def _show(console: Console, figures: dict[str, Any], details: dict[str, Any]) -> None:
    table = Table("figure", "value", "wanted", title="Benchmarks")
    for name, value in figures.items():
        wanted, is_met = _TARGETS.get(name, ("", lambda _: True))
        colour = "" if not wanted else "[green]" if is_met(value) else "[red]"
        table.add_row(name, f"{colour}{value:,}", wanted)
    table.add_section()
    for name, value in details.items():
        if not isinstance(value, list):
            table.add_row(name, f"{value:,}" if isinstance(value, int | float) else value, "")
    console.print(table)
    console.print(
        f"written to {REPORT.relative_to(Path.cwd()) if REPORT.is_relative_to(Path.cwd()) else REPORT}"
    )


if __name__ == "__main__":
    main()
