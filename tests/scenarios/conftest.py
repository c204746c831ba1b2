"""The SDK's scenarios run three times: in process, over ADNL with pytoniq, over toncenter's HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.sandbox import Blockchain
from tests.helpers.networks import WAYS, network


@pytest.fixture(params=WAYS)
async def chain(request: pytest.FixtureRequest, blockchain: Blockchain) -> AsyncIterator[Chain]:
    """The test's `blockchain` as the SDK and workers see it, in each of the ways there are."""
    async with network(request.param, blockchain) as made:
        yield made
