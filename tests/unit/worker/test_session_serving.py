"""Serving a session: answers, counts, receipts, money, in the order that was promised."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.session_bench import bench


async def test_client_can_stream_a_chat_when_it_pays_ahead(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client().connected() as client:
        answer = await client.chat("one two three")

        assert answer.text == "[echo, not a model] one two three"
        assert answer.done is not None
        assert (answer.done.input_tokens, answer.done.output_tokens) == (3, 7)
        assert answer.done.charged == client.tariff.price(3, 0, 7) == client.ledger.used
