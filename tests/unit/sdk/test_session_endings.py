"""How parts of answers end, as who counts lost receipts is told: what a worker did, nothing of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.client.sessions import (
    CHAT,
    AnswerCutError,
    InferenceRequest,
    WorkerFailedError,
    WorkerTimeoutError,
)
from cocoon_sdk.client.sessions.answers.finished import EndedPart
from cocoon_sdk.client.sessions.links.link import LinkLimits
from cocoon_sdk.errors import PriceTooHighError
from cocoon_sdk.protocol import session_wire as wire
from cocoon_sdk.types import Nano
from tests.helpers.scripted_session_worker import (
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


async def read(made: Street, **changes: Any) -> list[bytes]:
    async with made.client.stream(request(**changes)) as stream:
        return [event async for event in stream]


def instead_of_receipt(failure: str | None) -> Bend:
    """Return what delivers everything, and then fails by name, or cuts the line."""

    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        if not isinstance(frame, wire.Done):
            return (frame,)
        if failure is None:
            raise CutError
        return (wire.Failed(frame.rid, failure, "so it says", frame.charged, None),)

    return bend


def kept(parts: list[EndedPart]) -> list[tuple[str, bool, bool]]:
    names = {bytes(ScriptedSessionWorker(name).address.hash_part): name for name in ("alice", "bob")}
    return [(names[bytes(part.offer.address.hash_part)], part.receipt, part.complete) for part in parts]


async def test_answer_with_its_receipt_is_told_as_that(tmp_path: Path) -> None:
    parts: list[EndedPart] = []
    async with street(tmp_path, ScriptedSessionWorker("alice"), on_ended=parts.append) as made:
        await read(made)
        await made.client.answer(request(stream=False))
    assert kept(parts) == [("alice", True, False)] * 2


@pytest.mark.parametrize("failure", [None, "engine", "unpaid", "replaced", "bad_voucher", "session"])
async def test_worker_that_withholds_the_receipt_is_told_whatever_it_says(
    tmp_path: Path, failure: str | None
) -> None:
    """Its user has the whole answer: without this nothing of the worker would ever be audited."""
    parts: list[EndedPart] = []
    worker = ScriptedSessionWorker("alice", bend=instead_of_receipt(failure))
    async with street(tmp_path, worker, on_ended=parts.append) as made:
        events = await read(made)
        assert len(events) == 4
    assert kept(parts) == [("alice", False, True)]


async def test_worker_that_withholds_the_receipt_of_several_choices_is_told(tmp_path: Path) -> None:
    def both(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        if isinstance(frame, wire.Delta):
            text = frame.data.replace(b'"index":0', b'"index":%d' % (frame.output_tokens % 2))
            text = text.replace(b'"finish_reason":null', b'"finish_reason":"stop"')
            return (wire.Delta(frame.rid, 10, 0, frame.output_tokens, frame.piece, text),)
        return instead_of_receipt(None)(frame)

    parts: list[EndedPart] = []
    worker = ScriptedSessionWorker("alice", bend=both)
    async with street(tmp_path, worker, on_ended=parts.append) as made:
        assert len(await read(made, n=2)) == 4
    assert kept(parts) == [("alice", False, True)]


async def test_worker_that_breaks_off_just_before_the_end_is_told(tmp_path: Path) -> None:
    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        if isinstance(frame, wire.Delta) and frame.output_tokens == 4:
            raise CutError
        return (frame,)

    parts: list[EndedPart] = []
    second = ScriptedSessionWorker("bob", words=("!",), output_price=DEARER)
    worker = ScriptedSessionWorker("alice", bend=bend)
    async with street(tmp_path, worker, second, on_ended=parts.append) as made:
        await read(made)
    assert kept(parts) == [("alice", False, False), ("bob", True, False)]


async def test_worker_that_sends_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        if isinstance(frame, wire.Delta) and frame.output_tokens == 4:
            return (wire.Delta(frame.rid, 10, 0, 4, frame.piece, b"not JSON"),)
        return (frame,)

    parts: list[EndedPart] = []
    second = ScriptedSessionWorker("bob", words=("!",), output_price=DEARER)
    worker = ScriptedSessionWorker("alice", bend=bend)
    async with street(tmp_path, worker, second, on_ended=parts.append) as made:
        await read(made)
    assert kept(parts)[0] == ("alice", False, False)


async def test_worker_that_sends_nothing_is_not_told(tmp_path: Path) -> None:
    """Nobody had anything of it: selection leaves it alone, and that is all."""

    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        return (wire.Failed(frame.rid, "engine", "", 0, None),) if isinstance(frame, wire.Delta) else ()

    def greeting(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        return (frame,) if isinstance(frame, wire.Welcome) else bend(frame)[:1]

    parts: list[EndedPart] = []
    worker = ScriptedSessionWorker("alice", words=("one",), bend=greeting)
    async with street(tmp_path, worker, on_ended=parts.append) as made:
        with pytest.raises(WorkerFailedError):
            await read(made)
    assert parts == []


async def test_reader_that_goes_away_is_no_fault_of_the_worker(tmp_path: Path) -> None:
    parts: list[EndedPart] = []
    worker = ScriptedSessionWorker("alice", hold=2)
    async with street(tmp_path, worker, on_ended=parts.append) as made:
        stream = made.client.stream(request())
        await anext(stream)
        await anext(stream)
        await stream.aclose()
        assert worker.cancelled == [1]
    assert parts == []


async def test_reader_that_goes_away_after_the_end_waits_shortly_for_the_receipt(tmp_path: Path) -> None:
    """A worker that is slow with its receipts does not escape by tiring its readers."""

    def bend(frame: wire.WorkerFrame) -> Sequence[wire.WorkerFrame]:
        return () if isinstance(frame, wire.Done) else (frame,)

    parts: list[EndedPart] = []
    async with street(tmp_path, ScriptedSessionWorker("alice", bend=bend), on_ended=parts.append) as made:
        stream = made.client.stream(request())
        while chunk("ld", finish="stop", name="c-alice") != await anext(stream):
            pass
        await stream.aclose()
    assert kept(parts) == [("alice", False, True)]


async def test_client_that_closes_or_pays_no_more_blames_nobody(tmp_path: Path) -> None:
    parts: list[EndedPart] = []
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker, on_ended=parts.append) as made:
        with pytest.raises((PriceTooHighError, AnswerCutError)):
            await read(made, max_price=Nano(worker.price(2)))
        worker.hold = 2
        stream = made.client.stream(request())
        await anext(stream)
        await anext(stream)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await made.client.close()
        await asyncio.gather(reading, return_exceptions=True)
    assert parts == []


async def test_worker_that_falls_silent_is_told_and_one_that_ran_out_of_time_is_not(tmp_path: Path) -> None:
    parts: list[EndedPart] = []
    worker = ScriptedSessionWorker("alice", hold=2)
    limits = LinkLimits(between_pieces_s=5.0, heartbeat_s=1e6, tick_s=1e6)
    async with street(tmp_path, worker, limits=limits, on_ended=parts.append) as made:
        for wait, limit in ((3.0, 2.0), (6.0, 600.0)):
            asked = InferenceRequest(CHAT, MODEL, to_json(BODY), stream=True, timeout_s=limit)
            stream = made.client.stream(asked)
            await anext(stream)
            await anext(stream)
            made.time.now += wait
            (link,) = [place.link for place in made.client._house.pool._places.values() if place.link]
            link.watch()
            if wait > limit:
                with pytest.raises(WorkerTimeoutError):
                    await anext(stream)
                assert parts == []
            else:
                await anext(stream)  # it is asked once more
            await stream.aclose()
    assert kept(parts)[:1] == [("alice", False, False)]
    assert parts[0].ended_at - parts[0].asked_at == 6.0
