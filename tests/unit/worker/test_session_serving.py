"""Serving a session: answers in every form, counts, receipts, and money in the order that was promised."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from cocoon_sdk.errors import EngineError, EngineInterruptedError, EngineUnavailableError
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.protocol.session_wire import FailureCode
from cocoon_sdk.protocol.vouchers import Voucher
from cocoon_sdk.types import Nano
from cocoon_worker.engine.base import EngineAnswerError, EngineChunk, EngineRequest, EngineRequestError
from cocoon_worker.engine.echo import EchoEngine
from cocoon_worker.sessions import SessionKey
from tests.helpers.session_bench import bench, session_facts
from tests.helpers.session_client import Answer, TestClient

KEY = SessionKey(session_facts(1).key.escrow, 1)
TALK = "one two three"
ECHO = f"[echo, not a model] {TALK}"


class SteppedEngine(EchoEngine):
    """An echo that streams one event for each `step`, and tells when it was left."""

    def __init__(self, free: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.free = asyncio.Semaphore(free)
        self.left = asyncio.Event()
        self.begun = asyncio.Event()
        self.error: EngineError | None = None

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.free.release()

    async def stream(self, request: EngineRequest, *, deadline_s: float) -> AsyncGenerator[EngineChunk, None]:
        try:
            self.begun.set()
            async with aclosing(super().stream(request, deadline_s=deadline_s)) as chunks:
                async for chunk in chunks:
                    await self.free.acquire()
                    if self.error is not None:
                        raise self.error
                    yield chunk
        finally:
            self.left.set()


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()


async def deltas(answer: Answer, count: int) -> None:
    """Wait until so many pieces came."""
    async with asyncio.timeout(10):
        while len(answer.deltas) < count:
            answer.moved.clear()
            await answer.moved.wait()


# -- answers ---------------------------------------------------------------------------------------------


async def test_client_can_stream_a_chat_when_it_pays_ahead(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client().connected() as client:
        answer = await client.chat(TALK)

        assert answer.text == ECHO
        assert answer.done is not None
        assert (answer.done.input_tokens, answer.done.output_tokens) == (3, 7)
        assert answer.done.charged == client.tariff.price(3, 0, 7) == client.ledger.used
        assert all(not delta.piece for delta in answer.deltas)
        # The receipt comes with the last piece, in one message.
        assert [type(frame) for frame in client.messages[-1]][-2:] == [wire.Delta, wire.Done]
        assert not client.dues
    assert worker.sample("cocoon_session_requests_total", outcome="done") == 1
    assert worker.sample("cocoon_session_tokens_total", side="output") == 7
    assert worker.sample("cocoon_session_ttft_seconds_count") == 1


async def test_client_can_get_a_whole_answer_when_its_price_is_signed_ahead(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client().connected() as client:
        answer = await client.chat(TALK, stream=False, max_tokens=50)

        (delta,) = answer.deltas
        assert not delta.piece
        body = msgspec.json.decode(delta.data)
        assert body["choices"][0]["message"]["content"] == ECHO
        assert body["usage"]["completion_tokens"] == 7
        assert answer.done is not None


async def test_client_can_get_an_answer_in_pieces_when_the_whole_may_be_too_dear(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client(increment=Nano(60_000)).connected() as client:
        answer = await client.chat(TALK, stream=False)  # up to 1024 tokens

        assert len(answer.deltas) == 9
        assert all(delta.piece for delta in answer.deltas)
        assert answer.text == ECHO


async def test_client_can_complete_text_and_embed_when_the_offer_is_for_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client().connected() as client:
        completed = await client.end(await client.ask("completion", prompt=TALK, max_tokens=4))
        embedded = await client.end(await client.ask("embedding", input=["a b", "c"], dimensions=3))

        assert completed.text == "[echo, not a model]"
        assert len(msgspec.json.decode(embedded.data[0])["data"]) == 2
        assert embedded.done is not None
        assert (embedded.done.input_tokens, embedded.done.output_tokens) == (3, 0)


async def test_client_can_continue_an_answer_when_it_brings_the_text_so_far(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client().connected() as client:
        messages = [{"role": "user", "content": TALK}, {"role": "assistant", "content": "[echo, not a"}]
        flags = {"continue_final_message": True, "add_generation_prompt": False}
        answer = await client.end(await client.ask(messages=messages, **flags))

        assert answer.text == " model] one two three"


async def test_client_can_pay_less_for_cached_input_when_the_engine_tells_at_the_end(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client().connected() as client:
        prompt = " ".join(f"w{number}" for number in range(100))
        await client.chat(prompt, max_tokens=2)
        answer = await client.chat(prompt, max_tokens=2)

        assert answer.done is not None
        assert answer.done.cached_input_tokens == 96
        assert answer.done.charged == client.tariff.price(100, 96, 2)
        # Before it was known the most that it can be: a price never falls.
        assert [delta.cached_input_tokens for delta in answer.deltas] == [100, 100, 100, 96]


async def test_client_can_have_many_requests_at_once_when_they_fit(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client().connected() as client:
        asked = [await client.ask(messages=[{"role": "user", "content": f"n{n}"}]) for n in range(40)]
        for number, answer in enumerate(asked):
            await client.end(answer)
            assert answer.text == f"[echo, not a model] n{number}"
        # What becomes ready together leaves together.
        assert len(client.messages) < 200


# -- money -----------------------------------------------------------------------------------------------


async def test_worker_has_every_voucher_on_disk_when_a_byte_leaves_that_it_pays_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client(increment=Nano(4_000)).connected() as client:
        seen: list[tuple[int, int]] = []

        def look(_: wire.Delta) -> None:
            entry = worker.book.entry(KEY)
            assert entry is not None
            seen.append((client.ledger.used, int(entry.signed)))

        client.on_delta = look
        answer = await client.chat(" ".join(["word"] * 30))

        assert answer.done is not None
        assert len({signed for _, signed in seen}) > 2
        assert all(used <= signed for used, signed in seen)
        entry = worker.book.entry(KEY)
        assert entry is not None
        assert (entry.booked, entry.next_rid) == (client.ledger.used, 2)
        assert entry.booked <= entry.signed <= client.ledger.signed
        assert Voucher(entry.signed, entry.signature).verified_by(client.signer.verify_key, client.ref)


async def test_client_cannot_get_more_than_it_signed_when_it_stops_paying(tmp_path: Path) -> None:
    async with bench(tmp_path, pay_s=0.1) as worker:
        client = worker.client(increment=Nano(2_000), pays=False)
        async with client.connected():
            answer = await client.ask(messages=[{"role": "user", "content": " ".join(["word"] * 10)}])
            await client.send(client.sign(Nano(2_000)))
            await client.end(answer)

            assert answer.failed is not None
            assert answer.failed.code == FailureCode.UNPAID
            assert answer.failed.charged <= 2_000
            assert answer.deltas
            account = worker.endpoint._accounts[KEY]
            # The rest of what was made is the worker's loss, which stays counted.
            assert 0 < account.ledger.lost <= account.ledger.max_unpaid
            assert account.ledger.ahead == 0
            lost = account.ledger.lost
        async with client.connected():
            assert client.session_failed is None
            assert worker.endpoint._accounts[KEY].ledger.lost == lost


async def test_client_cannot_make_the_engine_go_on_when_more_would_stay_unpaid(tmp_path: Path) -> None:
    engine = SteppedEngine(free=10_000)
    unpaid = {"max_unpaid": "0.0001", "pay_s": 60}
    async with bench(tmp_path, engine, **unpaid) as worker, worker.client(pays=False).connected() as client:
        answer = await client.ask(messages=[{"role": "user", "content": " ".join(["w"] * 500)}])
        await client.end(answer)

        assert answer.failed is not None
        assert answer.failed.code == FailureCode.UNPAID
        assert not answer.deltas
        assert engine.left.is_set()
        ledger = worker.endpoint._accounts[KEY].ledger
        assert 0 < ledger.lost <= 100_000


async def test_client_can_go_on_when_it_pays_a_stream_that_was_left_waiting(tmp_path: Path) -> None:
    async with (
        bench(tmp_path) as worker,
        worker.client(increment=Nano(2_000), pays=False).connected() as client,
    ):
        answer = await client.ask(messages=[{"role": "user", "content": " ".join(["word"] * 10)}])
        await until(client.due)
        client.pays = True
        await client.send(client.sign(Nano(2_000)))
        await client.end(answer)
        assert answer.done is not None


async def test_client_cannot_begin_when_its_prompt_is_dearer_than_what_is_done_unpaid(tmp_path: Path) -> None:
    async with bench(tmp_path, max_unpaid="0.00005") as worker, worker.client().connected() as client:
        answer = await client.chat(" ".join(["word"] * 900))
        assert answer.failed is not None
        assert (answer.failed.code, answer.failed.charged) == (FailureCode.TOO_DEAR, 0)


async def test_client_is_told_to_change_sessions_when_too_much_was_lost_in_this_one(tmp_path: Path) -> None:
    async with bench(tmp_path, max_unpaid="0.0002") as worker, worker.client().connected() as client:
        assert (await client.chat(TALK)).done is not None
        worker.endpoint._accounts[KEY].ledger.lost = 190_000
        answer = await client.chat(" ".join(["wordwords"] * 400), max_tokens=4)
        assert answer.failed is not None
        assert (answer.failed.code, answer.failed.charged) == (FailureCode.WORN, 0)


async def test_client_can_begin_when_the_engine_counts_fewer_tokens_than_bytes(tmp_path: Path) -> None:
    # 4000 bytes would be 0.0004 TON as tokens; they are 400 words.
    async with bench(tmp_path, max_unpaid="0.0002") as worker, worker.client().connected() as client:
        answer = await client.chat(" ".join(["wordwords"] * 400), max_tokens=4)
        assert answer.done is not None


async def test_client_can_wait_for_its_own_requests_when_all_at_once_would_be_too_much(
    tmp_path: Path,
) -> None:
    engine = SteppedEngine()
    async with bench(tmp_path, engine, max_unpaid="0.00012") as worker, worker.client().connected() as client:
        text = "x" * 600
        asked = [await client.ask(messages=[{"role": "user", "content": text}]) for _ in range(3)]
        await until(engine.begun)
        await asyncio.sleep(0)
        assert worker.share.running == 1
        engine.step(1000)
        for answer in asked:
            assert (await client.end(answer)).done is not None


async def test_client_cannot_use_more_than_the_deposit(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        worker.chain.facts[1] = session_facts(1, deposit=Nano(30_000))
        async with worker.client().connected() as client:
            failures = []
            for _ in range(20):
                answer = await client.chat(" ".join(["word"] * 20))
                if answer.failed is not None:
                    failures.append(answer.failed.code)
            assert set(failures) == {FailureCode.SESSION}
            assert client.ledger.used <= 30_000


async def test_client_can_go_on_when_it_topped_the_deposit_up(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        worker.chain.facts[1] = session_facts(1, deposit=Nano(500_000))
        async with worker.client().connected() as client:
            worker.chain.facts[1] = session_facts(1, deposit=Nano(9_000_000))
            client.ledger.deposit = Nano(9_000_000)
            await client.send(client.sign(Nano(1_000_000)))
            answer = await client.chat(TALK)
            assert answer.done is not None
            entry = worker.book.entry(KEY)
            assert entry is not None
            assert (entry.deposit, entry.signed) == (9_000_000, 1_000_000)


# -- ends ------------------------------------------------------------------------------------------------


async def test_client_can_cancel_and_pays_for_what_was_made(tmp_path: Path) -> None:
    engine = SteppedEngine(free=3)
    async with bench(tmp_path, engine) as worker, worker.client().connected() as client:
        answer = await client.ask(messages=[{"role": "user", "content": TALK}])
        await deltas(answer, 3)
        await client.send(wire.Cancel(answer.asked.rid))
        await client.end(answer)

        assert answer.done is not None
        assert answer.done.cancelled
        assert answer.done.charged == client.tariff.price(3, 0, 2)
        assert engine.left.is_set()
        assert worker.share.running == 0


async def test_client_can_cancel_before_the_first_piece_and_pays_for_its_prompt(tmp_path: Path) -> None:
    engine = SteppedEngine()
    async with bench(tmp_path, engine) as worker, worker.client().connected() as client:
        answer = await client.ask(messages=[{"role": "user", "content": TALK}])
        await until(engine.begun)
        await client.send(wire.Cancel(answer.asked.rid))
        await client.end(answer)

        assert answer.done is not None
        assert (answer.done.input_tokens, answer.done.output_tokens) == (3, 0)
        assert answer.done.charged == client.tariff.price(3, 0, 0)


async def test_client_can_cancel_for_nothing_while_its_request_waits(tmp_path: Path) -> None:
    engine = SteppedEngine()
    async with bench(tmp_path, engine, capacity=1) as worker, worker.client().connected() as client:
        first = await client.ask(messages=[{"role": "user", "content": TALK}])
        second = await client.ask(messages=[{"role": "user", "content": TALK}])
        third = await client.ask(messages=[{"role": "user", "content": TALK}])
        await until(engine.begun)
        await client.send(wire.Cancel(second.asked.rid))
        await client.end(second)
        assert second.done is not None
        assert (second.done.cancelled, second.done.charged) == (True, 0)
        engine.step(100)
        assert (await client.end(first)).done is not None
        assert (await client.end(third)).done is not None


async def test_client_can_ask_and_cancel_in_one_message(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client().connected() as client:
        ask = client.frame(messages=[{"role": "user", "content": TALK}])
        await client.send(ask, wire.Cancel(ask.rid))
        answer = await client.end(client.answers[ask.rid])
        assert answer.done is not None
        assert answer.done.charged == 0
        assert worker.endpoint.busy == 0


@pytest.mark.parametrize(
    ("error", "code", "again"),
    [
        (EngineInterruptedError("died"), FailureCode.ENGINE, True),
        (EngineUnavailableError("away"), FailureCode.ENGINE, True),
        (EngineAnswerError("odd"), FailureCode.ENGINE, False),
        (EngineRequestError("refused"), FailureCode.BAD_REQUEST, False),
    ],
)
async def test_client_pays_only_for_what_came_when_the_engine_fails(
    tmp_path: Path, error: EngineError, code: str, again: bool
) -> None:
    engine = SteppedEngine(free=3)
    async with bench(tmp_path, engine) as worker, worker.client().connected() as client:
        answer = await client.ask(messages=[{"role": "user", "content": TALK}])
        await deltas(answer, 3)
        engine.error = error
        engine.step()
        await client.end(answer)

        assert answer.failed is not None
        assert answer.failed.code == code
        assert (answer.failed.retry_after_s is not None) is again
        assert answer.failed.charged == client.tariff.price(3, 3, 2)
        engine.error = None
        engine.step(100)
        assert (await client.chat(TALK)).done is not None


async def test_prompts_cannot_get_into_logs_when_an_engine_quotes_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engine = SteppedEngine(free=1)
    with structlog.testing.capture_logs() as logs:
        async with bench(tmp_path, engine) as worker, worker.client().connected() as client:
            for error in (EngineInterruptedError("it said: SECRET"), RuntimeError("SECRET")):
                answer = await client.ask(messages=[{"role": "user", "content": "SECRET plan"}])
                engine.error = error  # type: ignore[assignment]
                engine.step()
                await client.end(answer)
                assert answer.failed is not None
    assert any(entry["event"] == "engine failed in a session" for entry in logs)
    assert "SECRET" not in str(logs)
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("at", [0, 1, 2, 5, 8, 9])
async def test_client_can_come_back_when_its_connection_is_cut_at_any_piece(tmp_path: Path, at: int) -> None:
    engine = SteppedEngine()
    async with bench(tmp_path, engine) as worker:
        client = worker.client(increment=Nano(3_000))
        async with client.connected():
            answer = await client.ask(messages=[{"role": "user", "content": TALK}])
            await until(engine.begun)
            engine.step(at)
            await deltas(answer, at)
        await until(engine.left)
        for _ in range(10_000):
            if not worker.endpoint.busy and KEY not in worker.context.sessions.connected:
                break
            await asyncio.sleep(0)
        account = worker.endpoint._accounts[KEY]
        entry = worker.book.entry(KEY)
        assert entry is not None
        assert entry.booked == account.ledger.booked <= client.ledger.signed
        async with client.connected():
            assert client.welcome is not None
            assert client.welcome.booked == account.ledger.booked
            assert client.welcome.next_rid == 2
            assert client.ledger.lost <= 3_000
            engine.step(1000)
            assert (await client.chat(TALK)).done is not None


async def test_worker_can_go_on_from_its_book_when_it_was_restarted(tmp_path: Path) -> None:
    client: TestClient | None = None
    for round_ in range(3):
        async with bench(tmp_path) as worker:
            client = client or worker.client()
            client.url = worker.url
            async with client.connected():
                assert client.welcome is not None
                assert (client.welcome.next_rid, client.welcome.booked) == (1 + round_, client.ledger.used)
                assert (await client.chat(TALK)).done is not None


async def test_restarted_worker_remembers_what_a_client_never_paid(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker:
        client = worker.client()
        async with client.connected():
            assert (await client.chat(TALK)).done is not None
        account = worker.endpoint._accounts[KEY]
        account.ledger.lost = 321
        account.over(1)
        account.save()
    async with bench(tmp_path) as worker:
        client.url = worker.url
        async with client.connected():
            assert worker.endpoint._accounts[KEY].ledger.lost == 321


async def test_worker_can_take_the_clients_word_when_its_book_lost_the_end(tmp_path: Path) -> None:
    async with bench(tmp_path) as worker, worker.client().connected() as client:
        await client.chat(TALK)
        signed, used, best = client.ledger.signed, client.ledger.used, client.best
    assert best is not None
    (tmp_path / "journal.sqlite").unlink()
    async with bench(tmp_path) as worker:
        again = worker.client()
        again.best, again.ledger.signed = best, signed
        again.ledger.charge(1, used)
        async with again.connected():
            assert again.welcome is not None
            assert (again.welcome.signed, again.welcome.booked) == (signed, used)
