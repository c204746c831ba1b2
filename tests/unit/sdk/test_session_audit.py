"""Holes that an audit found in what a client believes its worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from cocoon_sdk.client.sessions import WorkerFailedError
from cocoon_sdk.protocol import session_wire as wire
from tests.helpers.scripted_session_worker import ScriptedSessionWorker, street
from tests.unit.sdk.test_session_link import request


async def test_worker_cannot_fill_the_memory_with_pieces_of_nothing(tmp_path: Path) -> None:
    worker = ScriptedSessionWorker(
        "mallory",
        bend=lambda frame: (
            (replace(frame, data=b"", output_tokens=0), frame) if isinstance(frame, wire.Delta) else (frame,)
        ),
    )
    async with street(tmp_path, worker) as made:
        with pytest.raises(WorkerFailedError, match="without content"):
            await made.client.answer(request(stream=False))
