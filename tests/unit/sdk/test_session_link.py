"""The client's link against a scripted worker: what honest work costs, and what lies lead to."""

from __future__ import annotations

import asyncio
import gc
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
    TooDearError,
    WorkerFailedError,
)
from cocoon_sdk.client.sessions.links import pool
from cocoon_sdk.client.sessions.links.link import Link, LinkLimits
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


def request(*, stream: bool = True, **changes: Any) -> InferenceRequest:
    return InferenceRequest(CHAT, MODEL, to_json({**BODY, **changes}), stream=stream)


def link_of(made: Street) -> Link:
    (place,) = made.client._house.pool._places.values()
    assert place.link is not None
    return place.link


async def text_of(made: Street, **changes: Any) -> tuple[str, Bill]:
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
    "a commitment that nobody asked for": before(wire.Done, wire.Proof(1, b"{}")),
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


async def test_worker_cannot_jump_over_request_numbers_between_two_connections(tmp_path: Path) -> None:
    """Its answers would stand so far from each other that no row of them could be judged."""
    worker = ScriptedSessionWorker("mallory")
    async with street(tmp_path, worker) as made:
        # When the session is taken up, the number is the worker's to tell: who held it before may have died.
        worker.bend = changed(wire.Welcome, next_rid=100)
        _, bill = await text_of(made)
        receipt = bill.attempts[0].receipt
        assert receipt is not None
        assert receipt.receipt.rid == 100
        await made.client.close()
        worker.bend = changed(wire.Welcome, next_rid=102)
        with pytest.raises(WorkerFailedError, match="requests that nobody sent"):
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
        link = link_of(made)
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
        link = link_of(made)
        worker.refusals = [wire.Failed(0, "session", "gone", 0, None)]
        made.time.now += 46
        link.watch()
        with pytest.raises(WorkerFailedError, match="no sign of life for 46 s"):
            await answering


@pytest.mark.parametrize(
    "garbage", [b"", b"\x91\x92\x12\x01", b"\xc1", b"\x91" * 3000, b"\x91\x95\x01aaaa"], ids=range(5)
)
async def test_worker_that_talks_nonsense_is_left(tmp_path: Path, garbage: bytes) -> None:
    worker = ScriptedSessionWorker("mallory")
    async with street(tmp_path, worker) as made:
        await text_of(made)
        worker.spoil_text = lambda text: garbage
        with pytest.raises(WorkerFailedError, match="not honest"):
            await made.client.answer(request(stream=False))
        await made.client.close()
        assert len(made.sessions.retired) == 1


@pytest.mark.parametrize("where", ["spoil_sealed", "spoil_reply"])
async def test_bytes_that_were_altered_on_the_way_are_not_held_against_the_worker(
    tmp_path: Path, where: str
) -> None:
    worker = ScriptedSessionWorker("alice")
    setattr(worker, where, lambda message: message[:-1] + bytes([message[-1] ^ 1]))
    async with street(tmp_path, worker) as made:
        with pytest.raises(WorkerFailedError, match="not safe"):
            await text_of(made)
        setattr(worker, where, bytes)
        made.time.now += 60
        assert (await text_of(made))[0] == "Hello world"
        await made.client.close()
        assert made.sessions.retired == []


async def test_handshake_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice", bend=lambda frame: ())
    async with street(tmp_path, worker, limits=LinkLimits(handshake_s=0.05)) as made:
        with pytest.raises(WorkerFailedError, match="did not greet"):
            await text_of(made)


async def test_quiet_link_is_asked_for_a_sign_of_life(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        await text_of(made)
        link = link_of(made)
        made.time.now += 20
        link.watch()
        assert link._tasks[-1].get_name().endswith("sign of life")
        async with asyncio.timeout(5):
            while link._heard_at < made.time.now:  # noqa: ASYNC110 - until a real pong comes
                await asyncio.sleep(0)
        made.time.now += 30
        link.watch()
        lived = link.alive
        made.time.now += 46
        link.watch()
        assert (lived, link.alive) == (True, False)
        assert (await text_of(made))[0] == "Hello world"
        assert worker.connections == 2


async def test_prompt_that_is_too_dear_to_pay_ahead_is_not_sent(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice", input_price=Nano.ton("100"))
    async with street(tmp_path, worker) as made:
        with pytest.raises(TooDearError, match="too dear"):
            await text_of(made)
        assert worker.bodies == []


async def test_request_alone_ends_when_the_worker_waits_for_too_much_because_of_it(tmp_path: Path) -> None:
    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        dear = isinstance(frame, wire.Delta) and frame.rid == 2 and frame.output_tokens == 1
        return (wire.Due(5_000_000),) if dear else () if getattr(frame, "rid", 0) == 2 else (frame,)

    worker = ScriptedSessionWorker("alice", input_price=Nano.ton("0.5"), bend=bend, hold=2)
    async with street(tmp_path, worker) as made:
        stream = made.client.stream(request())
        await anext(stream)
        long = {"messages": [{"role": "user", "content": "words " * 200}]}
        dear = asyncio.ensure_future(text_of(made, **long))
        with pytest.raises(TooDearError, match="waits for more"):
            await dear
        worker.go_on.set()
        assert len([event async for event in stream]) == 3


async def test_forgotten_stream_stops_its_worker(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice", hold=1)
    async with street(tmp_path, worker) as made:
        stream = made.client.stream(request())
        await anext(stream)
        del stream
        gc.collect()
        await asyncio.sleep(0)
        await made.client.close()
    assert worker.cancelled == [1]


async def test_requests_beyond_what_a_link_takes_wait_for_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_UNDER_WAY", 2)
    worker = ScriptedSessionWorker("alice", hold=1)
    async with street(tmp_path, worker) as made:
        first = [made.client.stream(request()) for _ in range(2)]
        for stream in first:
            await anext(stream)
        others = [asyncio.ensure_future(text_of(made)) for _ in range(5)]
        await asyncio.sleep(0)
        assert made.client._house.pool.crowded(worker.address)
        assert link_of(made).under_way == 2
        worker.go_on.set()
        for stream in first:
            assert len([event async for event in stream]) == 3
        answers = await asyncio.gather(*others)
        assert {text for text, _ in answers} == {"Hello world"}
        assert len(worker.bodies) == 7


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
