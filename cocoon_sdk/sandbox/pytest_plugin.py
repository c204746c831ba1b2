"""pytest plugin: fixtures for a fresh, isolated sandbox chain.

Registered for every project that installs this package, so it imports the sandbox (and its engine) only
when a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.adapter import SandboxChain
    from cocoon_sdk.sandbox.blockchain import Blockchain

IsolatedFactory = Callable[[], "AbstractContextManager[Blockchain]"]


@pytest.fixture
def blockchain() -> Blockchain:
    """A fresh chain for each test."""
    from cocoon_sdk.sandbox.blockchain import Blockchain

    return Blockchain()


@pytest.fixture
def sandbox_chain(blockchain: Blockchain) -> SandboxChain:
    """The `Chain` protocol over the test's `blockchain`."""
    from cocoon_sdk.sandbox.adapter import SandboxChain

    return SandboxChain(blockchain)


@pytest.fixture
def isolated(blockchain: Blockchain) -> IsolatedFactory:
    """Isolate hypothesis examples: `with isolated() as chain:` undoes what happened inside.

    Fixtures are made once per test, not once per example: without this, examples would see each other.
    """
    return blockchain.isolated
