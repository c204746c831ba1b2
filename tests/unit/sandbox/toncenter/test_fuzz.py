"""Whatever is asked, the API answers in its own shape and never with an accident of its own."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import begin_cell

from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.messages import internal_message
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter import ToncenterServer
from cocoon_sdk.types import Nano
from tests.unit.sandbox.contracts import contract, getter
from tests.unit.sandbox.toncenter.conftest import NOBODY

STATUSES = {200, 400, 404, 409, 422, 500, 533, 542}
ACCIDENTS = ("TypeError", "KeyError", "ValueError", "RuntimeError", "AttributeError", "AssertionError")
NAMES = """
    address seqno lt hash to_lt archival limit workchain shard root_hash file_hash after_lt after_hash count
    source destination created_lt config_id param libraries method stack boc body init_code init_data
    ignore_chksig unixtime from_seqno
""".split()  # noqa: SIM905


class Served:
    """A server with an event loop of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._closing = AsyncExitStack()
        self.run(self._start())

    async def _start(self) -> None:
        blockchain = Blockchain()
        self.alice = blockchain.actor("alice").address
        self.echo = blockchain.deploy(contract(getter("")), Nano.ton(1))
        node = await self._closing.enter_async_context(Node(blockchain))
        self.server = await self._closing.enter_async_context(ToncenterServer(node))
        self.session = await self._closing.enter_async_context(aiohttp.ClientSession())

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    async def ask(self, method: str, values: dict[str, Any]) -> tuple[int, Any]:
        url = f"{self.server.url}/api/v2/{method}"
        async with self.session.post(url, json=values) as response:
            return response.status, await response.json()

    def close(self) -> None:
        self.run(self._closing.aclose())
        self._loop.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def boc(*fields: int) -> str:
    builder = begin_cell()
    for field in fields:
        builder.store_uint(field, 32)
    return base64.b64encode(builder.end_cell().to_boc()).decode()


_message = internal_message(src=NOBODY, dst=NOBODY, value=1)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 65), 1 << 65),
    st.integers(-2, 4),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            "00" * 32,
            "-9223372036854775808",
            "seqno",
            "get_jetton_data",
            NOBODY.to_str(),
            boc(),
            boc(1, 2, 3),
            base64.b64encode(_message.to_boc()).decode(),
        ]
    ),
)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["bytes", "@type"]), inner, max_size=2)
    ),
    max_leaves=6,
)
_params = st.dictionaries(st.sampled_from(NAMES), _values, max_size=5)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_api_can_answer_any_question_without_an_accident(served: Served, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(served.server.methods))
    values = data.draw(_params)
    if data.draw(st.booleans()):
        values["address"] = data.draw(st.sampled_from([served.alice.to_str(), served.echo.to_str()]))
    if data.draw(st.booleans()):
        values |= {"workchain": data.draw(st.sampled_from([-1, 0])), "shard": "-9223372036854775808"}
    status, body = served.run(served.ask(method, values))
    assert status in STATUSES
    assert body["ok"] is (status == 200)
    if status != 200:
        assert body["code"] == status
        assert not body["error"].startswith(ACCIDENTS)
