"""The client's link against a scripted worker: what honest work costs, and what lies lead to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from cocoon_sdk.client.sessions import (
    CHAT,
    Bill,
    InferenceRequest,
    Outcome,
    WorkerFailedError,
)
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.types import Nano
from tests.helpers.scripted_session_worker import (
    INPUT_TOKENS,
    MODEL,
    Bend,
    CutError,
    ScriptedSessionWorker,
    Street,
    street,
    to_json,
)

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello, please."}]}


def request(*, stream: bool = True, **changes: object) -> InferenceRequest:
    return InferenceRequest(CHAT, MODEL, to_json({**BODY, **changes}), stream=stream)


async def text_of(made: Street, **changes: object) -> tuple[str, Bill]:
    text = ""
    async with made.client.stream(request(**changes)) as stream:
        async for event in stream:
            for choice in msgspec.json.decode(event)["choices"]:
                text += choice["delta"].get("content") or ""
        return text, stream.bill


async def test_client_gets_a_stream_and_pays_the_price_of_its_tokens(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        text, bill = await text_of(made)
        assert text == "Hello world"
        assert bill.usage.input_tokens == INPUT_TOKENS
        assert bill.usage.output_tokens == 4
        assert bill.cost == worker.price(4)
        (attempt,) = bill.attempts
        assert attempt.outcome is Outcome.DONE
        assert attempt.receipt is not None
        assert attempt.receipt.receipt.charged == worker.price(4)
        held = made.sessions.held[worker.address.hash_part]
        assert held.ledger.accounted == worker.price(4) == worker.sessions[1].ledger.booked
        assert held.reserved == 0


async def test_client_gets_a_whole_answer_when_the_worker_sends_pieces(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        body, bill = await made.client.answer(request(stream=False))
        answer = msgspec.json.decode(body)
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hello world"}
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] == 4
        assert bill.cost == worker.price(4)


# -- lies --------------------------------------------------------------------------------------------------


def on(kind: type, change: Any) -> Bend:
    return lambda frame: (change(frame) if isinstance(frame, kind) else frame,)


def changed(kind: type, **values: Any) -> Bend:
    return on(kind, lambda frame: replace(frame, **values))


def second(change: Any) -> Bend:
    """Change the delta of the second token."""
    return on(wire.Delta, lambda delta: change(delta) if delta.output_tokens == 2 else delta)


def before(kind: type, extra: wire.WorkerFrame) -> Bend:
    return lambda frame: (extra, frame) if isinstance(frame, kind) else (frame,)


def costly_failure(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
    return (wire.Failed(frame.rid, "engine", "oh", 10**9, None) if isinstance(frame, wire.Delta) else frame,)


LIES: dict[str, Bend] = {
    "another signature": changed(wire.Done, signature=bytes(64)),
    "another price": on(wire.Done, lambda done: replace(done, charged=done.charged + 1)),
    "a lower price": on(wire.Done, lambda done: replace(done, charged=done.charged - 1)),
    "another total": on(wire.Done, lambda done: replace(done, total=done.total + 1)),
    "counts that were not signed": changed(wire.Done, output_tokens=5),
    "an invented end": changed(wire.Done, cancelled=True),
    "other bytes": second(lambda delta: replace(delta, data=delta.data.replace(b"lo", b"LO"))),
    "falling output": second(lambda delta: replace(delta, output_tokens=0)),
    "falling input": second(lambda delta: replace(delta, input_tokens=1)),
    "more tokens than bytes": second(lambda delta: replace(delta, output_tokens=1000)),
    "a prompt of impossible length": changed(wire.Delta, input_tokens=5000),
    "more than was signed": second(lambda delta: replace(delta, output_tokens=200)),
    "an answer to nothing": on(wire.Delta, lambda delta: replace(delta, rid=delta.rid + 1)),
    "a second greeting": before(wire.Delta, wire.Welcome(0, 0, 1, 1)),
    "a demand beyond the increment": before(wire.Delta, wire.Due(3_000_000)),
    "a failure that costs": costly_failure,
}


@pytest.mark.parametrize("lie", LIES)
async def test_worker_cannot_be_paid_for_a_lie(tmp_path: Path, lie: str) -> None:
    worker = ScriptedSessionWorker("mallory", bend=LIES[lie])
    async with street(tmp_path, worker) as made:
        with pytest.raises(WorkerFailedError) as caught:
            await made.client.answer(request(stream=False))
        assert "the worker is not honest" in str(caught.value)
        (candidate,) = await made.client.explain_choice(MODEL)
        assert not candidate.usable
        await made.client.close()
        ((held, why),) = made.sessions.retired
        assert "not honest" in why
        assert held.ledger.signed - held.ledger.accounted <= held.ledger.increment
        assert held.users == held.reserved == 0


async def test_impostor_cannot_take_a_workers_place(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    worker.impostor = ScriptedSessionWorker("mallory").operator
    async with street(tmp_path, worker) as made:
        with pytest.raises(WorkerFailedError, match="not safe"):
            await text_of(made)
        # Somebody on the way did this: the session with the worker stays.
        assert made.sessions.retired == []
        worker.impostor = None
        made.time.now += 60
        assert (await text_of(made))[0] == "Hello world"


async def test_worker_that_forgets_the_best_voucher_is_left(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        await text_of(made)
        await made.client.close()
        worker.bend = changed(wire.Welcome, signed=1, booked=0)
        with pytest.raises(WorkerFailedError, match="best voucher"):
            await text_of(made)
        await made.client.close()
        assert len(made.sessions.retired) == 1


async def test_worker_that_counts_more_than_it_delivered_wears_the_session_out(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        await text_of(made)
        held = made.sessions.held[worker.address.hash_part]
        accounted, signed = held.ledger.accounted, held.ledger.signed
        await made.client.close()
        worker.sessions[1].ledger._used = signed
        await text_of(made)
        await made.client.close()
        # All that was paid ahead is lost, and no more than that: the session is worn, and given up.
        assert held.ledger.lost == signed - accounted <= held.ledger.increment
        ((_, why),) = made.sessions.retired
        assert "lost" in why


async def test_silent_worker_is_left_after_taking_money(tmp_path: Path) -> None:
    silent = ScriptedSessionWorker("mallory", hold=1)
    other = ScriptedSessionWorker("bob", words=("lo", "!"), output_price=Nano.ton("12"), hold=1)
    async with street(tmp_path, silent, other) as made:
        stream = made.client.stream(request())
        assert b"Hel" in await anext(stream)
        held = made.sessions.held[silent.address.hash_part]
        assert 0 < held.ledger.signed - held.ledger.accounted <= held.ledger.increment
        going_on = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        (link,) = made.client._house.pool._links.values()
        made.time.now += 61
        link._heard_at = made.time.now
        link.watch()
        assert b'"lo"' in await going_on
        assert other.bodies[0]["messages"][-1] == {"role": "assistant", "content": "Hel"}
        assert "nothing more came" in stream.bill.attempts[0].why
        assert stream.bill.cost == silent.price(1) + other.price(1)
        await stream.aclose()
    assert silent.cancelled == [1]


async def test_client_is_told_when_the_only_worker_is_silent(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("mallory", hold=0)
    async with street(tmp_path, worker) as made:
        answering = asyncio.ensure_future(made.client.answer(request(stream=False)))
        await worker.asked.wait()
        (link,) = made.client._house.pool._links.values()
        worker.refusals = [wire.Failed(0, "session", "gone", 0, None)]
        made.time.now += 46
        link.watch()
        with pytest.raises(WorkerFailedError, match="46 s of silence"):
            await answering


# -- cuts --------------------------------------------------------------------------------------------------


def cut_at(number: int) -> Bend:
    seen = 0

    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        nonlocal seen
        seen += 1
        if seen == number:
            raise CutError
        return (frame,)

    return bend


@pytest.mark.parametrize("number", range(1, 7))
async def test_client_gets_the_answer_when_the_connection_is_cut_at_any_frame(
    tmp_path: Path, number: int
) -> None:
    worker = ScriptedSessionWorker("alice", bend=cut_at(number))
    async with street(tmp_path, worker) as made:
        text, bill = await text_of(made)
        assert text.startswith("Hello world") or number > 2
        held = made.sessions.held[worker.address.hash_part]
        ledger = worker.sessions[1].ledger
        assert held.ledger.accounted <= ledger.booked <= held.ledger.signed
        assert held.ledger.signed - held.ledger.accounted <= held.ledger.increment
        assert bill.cost == sum(attempt.cost for attempt in bill.attempts)
        assert held.users == held.reserved == 0
