"""The fixture for tests that share an event loop with the servers; pytest-asyncio has to be there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from cocoon_sdk.sandbox.pytest_settings import settings_of

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.blockchain import Blockchain
    from cocoon_sdk.sandbox.host import SandboxHost


@pytest_asyncio.fixture
async def sandbox_host(
    request: pytest.FixtureRequest, blockchain: Blockchain, tmp_path: Path
) -> AsyncIterator[SandboxHost]:
    """The test's `blockchain` behind servers on the test's own event loop, around a `node`."""
    from cocoon_sdk.clock import SystemClock
    from cocoon_sdk.sandbox.host import SandboxHost
    from cocoon_sdk.sandbox.node import Node

    settings = settings_of(request)
    if settings.now is None:
        # Foreign wallets sign until a minute from now by their own clock.
        blockchain.set_now(max(blockchain.now, SystemClock().now()))
    clock = SystemClock() if settings.follow_clock else None
    async with SandboxHost(
        Node(blockchain, clock=clock, block_time_s=settings.block_time), folder=tmp_path
    ) as host:
        yield host
