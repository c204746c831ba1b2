"""A session to dispute."""

from __future__ import annotations

import pytest

from tests.contracts.session_disputes.steps import DEPOSIT, PAID
from tests.helpers.suite import Client, Worker


@pytest.fixture
def number(client: Client, worker: Worker) -> int:
    """A guarded session, of which something was redeemed."""
    number, _ = client.open_session(worker, DEPOSIT)
    worker.accept_session(client, number)
    worker.redeem(client, number, PAID)
    return number
