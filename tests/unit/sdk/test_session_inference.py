"""Answers over several scripted workers: choice, retries, going on elsewhere, and what users see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cocoon_sdk.client.sessions import (
    CHAT,
    AnswerCutError,
    Bill,
    BusyError,
    InferenceRequest,
    Outcome,
    RequestRefusedError,
    SessionRefusedError,
    SpendLimitError,
)
from cocoon_sdk.client.sessions.answers.selection import SelectionPolicy
from cocoon_sdk.client.sessions.funds.records import SessionPolicy, SessionRecord
from cocoon_sdk.errors import NoWorkerError, PriceTooHighError
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.types import Nano
from tests.helpers.scripted_session_worker import (
    INPUT_TOKENS,
    MODEL,
    Bend,
    CutError,
    ScriptedSessionWorker,
    Street,
    chunk,
    street,
    to_json,
)

BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello, please."}]}
DEARER = Nano.ton("12")


def request(*, stream: bool = True, max_price: Nano | None = None, **changes: Any) -> InferenceRequest:
    return InferenceRequest(CHAT, MODEL, to_json({**BODY, **changes}), stream=stream, max_price=max_price)


async def events_of(made: Street, **changes: Any) -> tuple[list[dict[str, Any]], Bill]:
    async with made.client.stream(request(**changes)) as stream:
        return [msgspec.json.decode(event) async for event in stream], stream.bill


def text_in(events: Sequence[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


def cut_after(tokens: int) -> Bend:
    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        if isinstance(frame, wire.Delta) and frame.output_tokens > tokens:
            raise CutError
        return (frame,)

    return bend


def failing(code: str, *, retry_after_s: int | None = None) -> Bend:
    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        if isinstance(frame, wire.Delta | wire.Done):
            first = isinstance(frame, wire.Delta) and frame.output_tokens == 1
            return (wire.Failed(frame.rid, code, "so it is", 0, retry_after_s),) if first else ()
        return (frame,)

    return bend


async def test_stream_goes_on_elsewhere_when_its_worker_is_cut_off(tmp_path: Path) -> None:
    first = ScriptedSessionWorker("alice", bend=cut_after(2))
    second = ScriptedSessionWorker("bob", words=(" you", " all"), output_price=DEARER)
    async with street(tmp_path, first, second) as made:
        options = {"include_usage": True}
        events, bill = await events_of(made, max_tokens=20, stream_options=options)
        assert text_in(events) == "Hello you all"
        assert {event["id"] for event in events} == {"c-alice"}
        body = second.bodies[0]
        assert body["messages"] == [*BODY["messages"], {"role": "assistant", "content": "Hello"}]
        assert body["continue_final_message"] is True
        assert body["add_generation_prompt"] is False
        assert body["max_tokens"] == 18
        # Each is paid for its own tokens; the user's usage has the prompt once.
        assert [attempt.cost for attempt in bill.attempts] == [first.price(2), second.price(2)]
        assert bill.cost == first.price(2) + second.price(2)
        assert [attempt.outcome for attempt in bill.attempts] == [Outcome.FAILED, Outcome.DONE]
        usage = events[-1]["usage"]
        assert events[-1]["choices"] == []
        assert usage["prompt_tokens"] == INPUT_TOKENS
        assert usage["completion_tokens"] == 4
        assert usage["cost"]["nano_ton"] == bill.cost
        assert all("usage" not in event for event in events[:-1])


async def test_whole_answer_goes_on_elsewhere_from_the_pieces_that_came(tmp_path: Path) -> None:
    first = ScriptedSessionWorker("alice", bend=cut_after(2))
    second = ScriptedSessionWorker("bob", words=(" you", " all"), output_price=DEARER)
    async with street(tmp_path, first, second) as made:
        body, bill = await made.client.answer(request(stream=False))
        answer = msgspec.json.decode(body)
        assert answer["choices"][0]["message"]["content"] == "Hello you all"
        assert answer["usage"]["completion_tokens"] == 4
        assert answer["usage"]["prompt_tokens"] == INPUT_TOKENS
        assert bill.cost == first.price(2) + second.price(2)


@pytest.mark.parametrize(
    "changes",
    [
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
        {"tools": [{}], "tool_choice": "required"},
    ],
)
async def test_stream_does_not_go_on_elsewhere_when_its_form_forbids_it(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    first = ScriptedSessionWorker("alice", bend=cut_after(2))
    second = ScriptedSessionWorker("bob", output_price=DEARER)
    async with street(tmp_path, first, second) as made:
        stream = made.client.stream(request(**changes))
        assert b"Hel" in await anext(stream)
        await anext(stream)
        with pytest.raises(AnswerCutError):
            await anext(stream)
        assert stream.bill.cost == first.price(2)
        assert second.bodies == []


async def test_request_is_asked_again_elsewhere_when_nothing_was_delivered(tmp_path: Path) -> None:
    first = ScriptedSessionWorker("alice", bend=failing("engine"))
    second = ScriptedSessionWorker("bob", output_price=DEARER)
    async with street(tmp_path, first, second) as made:
        events, bill = await events_of(made, response_format={"type": "json_object"})
        assert text_in(events) == "Hello world"
        assert bill.usage.output_tokens == 4
        assert [attempt.worker for attempt in bill.attempts] == [first.address, second.address]
        assert "continue_final_message" not in second.bodies[0]


async def test_answer_ends_by_itself_when_its_limit_was_reached_as_the_worker_was_lost(
    tmp_path: Path,
) -> None:
    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        if isinstance(frame, wire.Done):
            raise CutError
        if isinstance(frame, wire.Delta):
            return (msgspec.structs.replace(frame, data=frame.data.replace(b'"length"', b"null")),)
        return (frame,)

    worker = ScriptedSessionWorker("alice", bend=bend)
    async with street(tmp_path, worker) as made:
        events, bill = await events_of(made, max_tokens=2)
        assert text_in(events) == "Hello"
        assert events[-1]["choices"][0]["finish_reason"] == "length"
        assert bill.usage.output_tokens == 2


async def test_user_is_told_at_once_when_the_request_itself_is_wrong(tmp_path: Path) -> None:
    first = ScriptedSessionWorker("alice", bend=failing("bad_request"))
    second = ScriptedSessionWorker("bob", output_price=DEARER)
    async with street(tmp_path, first, second) as made:
        with pytest.raises(RequestRefusedError, match="so it is"):
            await events_of(made)
        assert second.bodies == []


async def test_user_is_told_when_to_come_back_when_all_workers_are_busy(tmp_path: Path) -> None:
    workers = [ScriptedSessionWorker(name, bend=failing("busy", retry_after_s=20)) for name in ("a", "b")]
    async with street(tmp_path, *workers) as made:
        with pytest.raises(BusyError) as caught:
            await events_of(made)
        assert caught.value.retry_after_s is not None
        assert 0 < caught.value.retry_after_s <= 21
        assert [len(worker.bodies) for worker in workers] == [1, 1]


async def test_user_is_told_about_limits_when_no_session_may_be_opened(tmp_path: Path) -> None:
    async with street(tmp_path, ScriptedSessionWorker("alice")) as made:
        made.sessions.refuse = SpendLimitError("cannot open a session", why="the day's limit is reached")
        with pytest.raises(SpendLimitError, match="the day's limit"):
            await events_of(made)


async def test_worker_with_a_session_serves_when_no_other_may_be_opened(tmp_path: Path) -> None:
    dear = ScriptedSessionWorker("bob", output_price=Nano.ton("50"))
    async with street(tmp_path, dear) as made:
        await events_of(made)
        cheap = ScriptedSessionWorker("alice")
        await cheap.start()
        made.workers.append(cheap)
        made.time.now += 1000  # the list is read again
        made.sessions.refuse = SpendLimitError("cannot open a session", why="the day's limit is reached")
        events, bill = await events_of(made)
        assert text_in(events) == "Hello world"
        assert bill.worker == dear.address
        await cheap.stop()


async def test_no_worker_is_named_when_nobody_serves_the_model(tmp_path: Path) -> None:
    async with street(tmp_path) as made:
        with pytest.raises(NoWorkerError, match="no worker serves"):
            await events_of(made)


async def test_answer_is_cut_when_it_costs_more_than_allowed(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice", hold=3)
    async with street(tmp_path, worker) as made:
        stream = made.client.stream(request(max_price=Nano(worker.price(2))))
        assert b"Hel" in await anext(stream)
        assert b"lo" in await anext(stream)
        with pytest.raises(PriceTooHighError):
            await anext(stream)
        await stream.aclose()
        await made.client.close()
        # The piece that was too much is paid for, nothing after it.
        assert stream.bill.cost == worker.price(3)
        assert worker.cancelled == [1]


async def test_long_answer_is_paid_as_it_comes_when_it_exceeds_the_increment(tmp_path: Path) -> None:
    increment = Nano(60_000)
    worker = ScriptedSessionWorker("alice", words=tuple("abcdefghijklmnopqrstuvwxyz"))
    policy = SessionPolicy(increment=increment)
    async with street(tmp_path, worker, policy=policy) as made:
        events, bill = await events_of(made)
        assert text_in(events) == "abcdefghijklmnopqrstuvwxyz"
        vouchers = [frame for frame in worker.frames if isinstance(frame, wire.Pay)]
        amounts = [voucher.amount for voucher in vouchers]
        assert len(amounts) > 4
        assert amounts == sorted(set(amounts))
        held = made.sessions.held[worker.address.hash_part]
        await made.client.close()
        assert held.ledger.signed <= bill.cost + increment
        stored = await made.sessions.store.get(held.uid)
        assert stored is not None
        assert stored.signed == held.ledger.signed
        assert stored.accounted == bill.cost


async def test_leaving_a_stream_stops_the_worker_and_settles_the_bill(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice", hold=2)
    async with street(tmp_path, worker) as made:
        async with made.client.stream(request()) as stream:
            await anext(stream)
        assert worker.cancelled == [1]
        (attempt,) = stream.bill.attempts
        assert attempt.outcome is Outcome.CANCELLED
        assert attempt.receipt is not None
        held = made.sessions.held[worker.address.hash_part]
        assert stream.bill.cost == held.ledger.used == worker.sessions[1].ledger.booked
        assert held.users == held.reserved == 0


async def test_many_requests_share_one_connection(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        answers = await asyncio.gather(*(events_of(made) for _ in range(40)))
        assert {text_in(events) for events, _ in answers} == {"Hello world"}
        assert worker.connections == 1
        assert made.sessions.opened == 1
        held = made.sessions.held[worker.address.hash_part]
        assert held.ledger.accounted == 40 * worker.price(4) == worker.sessions[1].ledger.booked


async def test_session_that_the_worker_sees_late_is_tried_again(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    worker.refusals = [wire.Failed(0, "session", "it is not there yet", 0, 2)]
    async with street(tmp_path, worker) as made:
        events, _ = await events_of(made)
        assert text_in(events) == "Hello world"
        assert worker.connections == 2
        assert made.sessions.retired == []


async def test_session_that_the_worker_refuses_is_given_up(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    worker.refusals = [wire.Failed(0, "session", "it is closing", 0, None)]
    async with street(tmp_path, worker) as made:
        with pytest.raises(SessionRefusedError, match="it is closing"):
            await events_of(made)
        await made.client.close()
        assert len(made.sessions.retired) == 1


def replaced_once() -> ScriptedSessionWorker:
    """Return a worker that ends its first connection as if another one had taken over."""
    left = [wire.Failed(0, "replaced", "a newer connection", 0, None)]

    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        return (left.pop(),) if left and isinstance(frame, wire.Delta) else (frame,)

    return ScriptedSessionWorker("alice", bend=bend)


async def test_request_goes_on_when_its_connection_was_replaced_in_its_own_session(
    tmp_path: Path,
) -> None:
    worker = replaced_once()
    async with street(tmp_path, worker) as made:
        events, bill = await events_of(made)
        assert text_in(events) == "Hello world"
        assert [attempt.outcome for attempt in bill.attempts] == [Outcome.FAILED, Outcome.DONE]
        assert worker.connections == 2
        await made.client.close()
        assert (made.sessions.opened, made.sessions.retired) == (1, [])


async def test_request_goes_on_over_another_session_when_its_own_was_taken_over(tmp_path: Path) -> None:
    worker = replaced_once()
    async with street(tmp_path, worker) as made:
        get = made.sessions.store.get

        async def taken(uid: str) -> SessionRecord | None:
            record = await get(uid)
            return None if record is None else replace(record, holder="another")

        made.sessions.store.get = taken  # type: ignore[method-assign]
        events, _ = await events_of(made)
        assert text_in(events) == "Hello world"
        assert made.sessions.opened == 2
        assert worker.connections == 2
        assert made.sessions.retired == []


async def test_request_goes_on_over_another_session_when_too_much_was_lost_in_its_own(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice", input_price=Nano.ton("10"))
    async with street(tmp_path, worker) as made:
        await events_of(made)
        worn = made.sessions.held[worker.address.hash_part]
        worn.ledger.lost = int(worn.ledger.increment) * 6 // 10
        events, bill = await events_of(made, messages=[{"role": "user", "content": "words " * 20}])
        assert text_in(events) == "Hello world"
        assert bill.session_id == 2
        assert [session for session, _ in made.sessions.retired] == [worn]


async def test_request_goes_on_over_another_session_when_its_worker_calls_it_worn(tmp_path: Path) -> None:
    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        worn = made.sessions.opened == 1 and isinstance(frame, wire.Delta | wire.Done)
        first = isinstance(frame, wire.Delta) and frame.output_tokens == 1
        refused = wire.Failed(getattr(frame, "rid", 0), wire.FailureCode.WORN, "too much is lost", 0, None)
        return (refused,) if worn and first else () if worn else (frame,)

    worker = ScriptedSessionWorker("alice", bend=bend)
    async with street(tmp_path, worker) as made:
        events, bill = await events_of(made)
        assert text_in(events) == "Hello world"
        assert bill.session_id == 2
        assert [session.ref.session_id for session, _ in made.sessions.retired] == [1]


async def test_leaving_worker_gets_no_new_requests(tmp_path: Path) -> None:
    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        leaving = isinstance(frame, wire.Delta) and frame.output_tokens == 1
        return (wire.Leaving("restart"), frame) if leaving else (frame,)

    first = ScriptedSessionWorker("alice", bend=bend, hold=2)
    second = ScriptedSessionWorker("bob", output_price=DEARER)
    async with street(tmp_path, first, second) as made:
        stream = made.client.stream(request())
        await anext(stream)
        events, bill = await events_of(made)
        assert text_in(events) == "Hello world"
        assert bill.worker == second.address
        first.go_on.set()
        rest = [event async for event in stream]
        assert len(rest) == 3  # what was under way is finished


async def test_strangers_are_tried_now_and_then_but_not_if_they_are_dear(tmp_path: Path) -> None:
    known = ScriptedSessionWorker("alice")
    stranger = ScriptedSessionWorker("bob", output_price=DEARER)
    dear = ScriptedSessionWorker("carol", output_price=Nano.ton("900"))
    policy = SelectionPolicy(explore_every=5)
    async with street(tmp_path, known, stranger, dear, selection=policy) as made:
        for _ in range(15):
            await events_of(made)
        assert [len(worker.bodies) for worker in (known, stranger, dear)] == [12, 3, 0]


async def test_choice_can_be_explained(tmp_path: Path) -> None:
    good = ScriptedSessionWorker("alice")
    bad = ScriptedSessionWorker("bob", output_price=Nano.ton("5"), bend=failing("engine"))
    async with street(tmp_path, good, bad) as made:
        await events_of(made)
        first, second = await made.client.explain_choice(MODEL)
        assert first.worker == good.address
        assert first.usable
        assert first.remaining is not None
        assert second.worker == bad.address
        assert not second.usable
        assert any("left alone" in reason for reason in second.reasons)
        assert second.success_rate < first.success_rate


async def test_models_are_listed_with_their_cheapest_terms(tmp_path: Path) -> None:
    workers = [ScriptedSessionWorker("alice", output_price=DEARER), ScriptedSessionWorker("bob")]
    async with street(tmp_path, *workers) as made:
        (model,) = await made.client.models()
        assert (model.name, model.workers) == (MODEL, 2)


async def test_event_without_text_does_not_end_the_answer(tmp_path: Path) -> None:
    role = chunk(None).replace(b'"delta":{}', b'"delta":{"role":"assistant","content":""}')

    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        if isinstance(frame, wire.Delta):
            raise CutError
        return (frame,)

    assert b"assistant" in role
    first = ScriptedSessionWorker("alice", bend=bend)
    second = ScriptedSessionWorker("bob", output_price=DEARER)
    async with street(tmp_path, first, second) as made:
        events, _ = await events_of(made)
        assert text_in(events) == "Hello world"


@pytest.mark.parametrize("garbage", [b"[]", b"{", b'{"choices":[{"index":0,"delta":{"content":"\xff"}}]}'])
@pytest.mark.parametrize("stream", [True, False])
async def test_answer_that_cannot_be_read_never_reaches_the_user(
    tmp_path: Path, garbage: bytes, stream: bool
) -> None:
    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        if isinstance(frame, wire.Delta):
            data = garbage * 3 if frame.output_tokens == 2 else frame.data
            return (msgspec.structs.replace(frame, data=data),)
        return (frame,)

    first = ScriptedSessionWorker("alice", bend=bend)
    second = ScriptedSessionWorker("bob", words=("lo", "!"), output_price=DEARER)
    async with street(tmp_path, first, second) as made:
        if stream:
            assert text_in((await events_of(made))[0]) == "Hello!"
        else:
            body, _ = await made.client.answer(request(stream=False))
            assert msgspec.json.decode(body)["choices"][0]["message"]["content"] == "Hello!"


async def test_worker_cannot_put_events_of_its_own_into_the_stream(tmp_path: Path) -> None:
    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        if isinstance(frame, wire.Delta):
            return (msgspec.structs.replace(frame, data=frame.data.replace(b",", b",\n\n")),)
        return (frame,)

    async with street(tmp_path, ScriptedSessionWorker("mallory", bend=bend)) as made:
        stream = made.client.stream(request())
        for _ in range(4):
            assert b"\n" not in await anext(stream)
        await stream.aclose()
