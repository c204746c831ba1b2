"""Real jobs, transactions and accounts of the contract suite, for `cocoon explain` to tell about."""

from __future__ import annotations

import pytest

from cocoon_sdk.sandbox import Blockchain
from tests.helpers.suite import Client, Suite, Worker


@pytest.fixture
def suite() -> Suite:
    return Suite(Blockchain())


@pytest.fixture
def alice(suite: Suite) -> Client:
    return suite.client("alice")


@pytest.fixture
def bob(suite: Suite) -> Worker:
    return suite.worker("bob")
