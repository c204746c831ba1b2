"""Run the benchmarks, print a table, write build/bench.json (`make bench`).

The file has exactly the agreed figures, and what they were made of under `details`.
"""

from __future__ import annotations

import asyncio
import json
import platform
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import adnl, gateway, sandboxes, seal, streaming

REPORT = Path(__file__).resolve().parents[2] / "build" / "bench.json"
_TARGETS = {
    "sandbox_ratio": ("at least 10", lambda value: value >= 10),
    "adnl_sends_per_s": ("at least 300", lambda value: value >= 300),
    "seal_ratio_100k_over_100": ("at most 5", lambda value: value <= 5),
    "gateway_vs_litellm_ratio": ("at least 10", lambda value: value >= 10),
    "ttft_added_ms": ("at most 5", lambda value: value <= 5),
    "session_throughput_ratio": ("at least 0.95", lambda value: value >= 0.95),
    "session_throughput_ratio_whole": ("at least 0.98", lambda value: value >= 0.98),
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
    console.print("gateway and LiteLLM proxy over one upstream ...")
    passed = asyncio.run(gateway.compare())
    console.print("vLLM, bare and behind gateway and worker ...")
    streamed = asyncio.run(streaming.measure())
    figures: dict[str, Any] = {
        "sandbox_tx_per_s": round(median(compared.ours)),
        "ton_sandbox_tx_per_s": round(median(compared.theirs)),
        "sandbox_ratio": round(compared.ratio, 2),
        "adnl_sends_per_s": round(sends),
        "seal_ratio_100k_over_100": round(sealed.ratio, 2),
        "gateway_vs_litellm_ratio": round(min(passed.ratio(True), passed.ratio(False)), 2),
        "ttft_added_ms": round(streamed.ttft_added_ms, 2),
        "session_throughput_ratio": round(streamed.ratio(True), 3),
        "session_throughput_ratio_whole": round(streamed.ratio(False), 3),
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
        "gateway_streams_per_s": round(median(passed.ours[True])),
        "gateway_answers_per_s": round(median(passed.ours[False])),
        "litellm_streams_per_s": round(median(passed.theirs[True])),
        "litellm_answers_per_s": round(median(passed.theirs[False])),
        "gateway_ratio_streaming": round(passed.ratio(True), 2),
        "gateway_ratio_whole": round(passed.ratio(False), 2),
        "ttft_bare_ms": round(median(streamed.first_bare), 2),
        "ttft_ours_ms": round(median(streamed.first_ours), 2),
        "tokens_per_s_bare": round(median(streamed.bare[True])),
        "tokens_per_s_ours": round(median(streamed.ours[True])),
        "gateway_cpu_us_per_token": round(streamed.gateway_us),
        "worker_cpu_us_per_token": round(streamed.worker_us),
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
