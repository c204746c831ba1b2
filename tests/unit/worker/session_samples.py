"""Sample sessions for unit tests."""

from __future__ import annotations

from typing import Any

from cocoon_sdk.types import Nano
from cocoon_worker.sessions.records import SessionEntry, SessionKey
from tests.helpers.suite import key_of
from tests.unit.worker.samples import NOW

DELAY_S = 86_400
KEY = SessionKey(0xE5C, 7)


def session(**changes: Any) -> SessionEntry:
    """Return an open session of 2 TON that expires in two days."""
    fields: dict[str, Any] = {
        "key": KEY,
        "escrow_owner": 5,
        "escrow_index": 0,
        "escrow_previous_code": False,
        "epoch": NOW - 100,
        "voucher_key": key_of("voucher").verify_key.raw,
        "deposit": Nano.ton(2),
        "expires": NOW + 2 * DELAY_S,
        "settle_at": NOW + 3 * DELAY_S,
        "close_delay": DELAY_S,
        "fee_bps": 100,
        "redeemed_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
        **changes,
    }
    return SessionEntry(**fields)
