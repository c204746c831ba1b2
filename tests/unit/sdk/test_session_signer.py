"""A guarded session's receipts count only when its worker's stake signed them: links with other keys end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from cocoon_sdk.client.sessions import CHAT, InferenceRequest, Outcome
from cocoon_sdk.client.sessions.errors import WorkerFailedError
from cocoon_sdk.crypto.keys import SigningKey
from tests.helpers.scripted_session_worker import (
    MODEL,
    ScriptedSessionWorker,
    Street,
    street,
    to_json,
)
from tests.unit.sdk.test_session_inference import events_of, text_in

REQUEST = InferenceRequest(CHAT, MODEL, to_json({"model": MODEL, "messages": []}), stream=False)
NEW_KEY = SigningKey.from_seed(bytes(31) + b"n")
LOCK = 0x107


def guard(made: Street, worker: ScriptedSessionWorker, key: SigningKey, lock: int = LOCK) -> None:
    """Let the client see collateral in the worker's session; the stake's key is `key` by then."""
    made.sessions.stake_keys[worker.address.hash_part] = key.verify_key
    made.sessions.held[worker.address.hash_part].guard = lock


async def until(holds: Callable[[], bool]) -> None:
    """Let what runs beside go on until `holds`."""
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it does not come")


async def test_link_whose_key_is_not_the_stakes_ends_and_the_next_has_the_stakes_key(tmp_path: Path) -> None:
    """The attack: links stand with the old key when the owner replaces it, then the collateral comes."""
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        await made.client.answer(REQUEST)
        guard(made, worker, NEW_KEY)
        worker.operator = NEW_KEY  # announced, and signs on new links; the old link goes on with the old key
        place = made.client._house.pool._places["session 1"]
        for _ in range(2):
            body, bill = await made.client.answer(REQUEST)
            assert b"Hello world" in body
        assert worker.connections == 2
        assert [each.outcome for each in bill.attempts] == [Outcome.DONE]
        assert place.link is not None
        assert place.link.operator == NEW_KEY.verify_key
        await until(lambda: not place.signer.distrusted)
        assert made.sessions.retired == []


async def test_worker_that_goes_on_with_the_old_key_is_not_used_any_more(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        await made.client.answer(REQUEST)
        guard(made, worker, NEW_KEY)
        worker.impostor, worker.operator = worker.operator, NEW_KEY
        with pytest.raises(WorkerFailedError, match="another key than its stake"):
            await made.client.answer(REQUEST)
        await until(lambda: len(made.sessions.retired) == 1)
        assert "another key than its stake" in made.sessions.retired[0][1]
        (candidate,) = await made.client.explain_choice(MODEL)
        assert "another key than its stake" in str(candidate)
        assert worker.connections == 2
        assert len(worker.bodies) <= 2, "nothing more was asked"


async def test_offers_that_do_not_name_the_stakes_key_are_read_again_and_not_for_ever(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        await made.client.answer(REQUEST)
        guard(made, worker, NEW_KEY)
        with pytest.raises(WorkerFailedError, match="another operator key by now"):
            await made.client.answer(REQUEST)
        assert worker.connections == 1


async def test_answer_under_way_goes_on_with_a_worker_whose_receipts_count(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice", hold=2)
    other = ScriptedSessionWorker("bob", words=(" you", " all"), output_price=worker.output_price)
    async with street(tmp_path, worker) as made:
        stream = asyncio.create_task(events_of(made))
        await worker.asked.wait()
        guard(made, worker, NEW_KEY)
        await other.start()
        made.workers[:] = [other]  # who reads the chain now finds no announcement of the old key
        place = made.client._house.pool._places["session 1"]
        await until(lambda: any(call.first_at for call in place.link._calls.values()))  # type: ignore[union-attr]
        made.client._house.pool._see_to_signer(place)
        async with asyncio.timeout(30):
            events, bill = await stream
        assert text_in(events) == "Hello you all"
        assert [each.worker for each in bill.attempts] == [worker.address, other.address]
        await other.stop()


async def test_the_chain_is_asked_once_for_each_link_and_guard(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        for _ in range(3):
            await made.client.answer(REQUEST)
        assert made.sessions.keys_asked == 0, "without collateral nothing hangs on the key"
        guard(made, worker, worker.operator)
        for _ in range(5):
            await made.client.answer(REQUEST)
        await until(lambda: made.sessions.keys_asked == 1)
        guard(made, worker, worker.operator, LOCK + 0x100)
        for _ in range(5):
            await made.client.answer(REQUEST)
        await until(lambda: made.sessions.keys_asked == 2)
        assert worker.connections == 1


async def test_chain_that_does_not_answer_is_asked_again_after_a_while(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker("alice")
    async with street(tmp_path, worker) as made:
        await made.client.answer(REQUEST)
        guard(made, worker, NEW_KEY)
        made.sessions.chain_fails = True
        for _ in range(3):
            await made.client.answer(REQUEST)
        assert made.sessions.keys_asked == 1
        made.sessions.chain_fails = False
        made.time.now += 31
        with pytest.raises(WorkerFailedError, match="another operator key by now"):
            await made.client.answer(REQUEST)
        assert made.sessions.keys_asked > 1
