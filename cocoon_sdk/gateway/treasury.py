"""The money behind the gateway, for people who look at it: escrow, sessions, limits.

Owns reading it together. Must not move any: that is the session manager's business.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cocoon_sdk.client.sessions.funds.manager import SessionManager
from cocoon_sdk.client.sessions.funds.records import UNENDED_STATES, Exposure, SpendLimits
from cocoon_sdk.types import Nano, format_ton

FRESH_S: Final = 10.0
"""How old what is shown may be: metrics are asked for often, the chain should not be."""


@dataclass(frozen=True, slots=True)
class TreasuryView:
    """What was found, amounts in nanoTON: what is `free` in the escrow and what its key may spend."""

    free: Nano
    spendable: Nano
    daily_limit: Nano
    sessions: Mapping[str, int]
    exposure: Exposure
    limits: SpendLimits

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, amounts in TON as text."""
        limits = self.limits
        named = {"per_session": limits.per_session, "per_day": limits.per_day, "total": limits.total}
        return {
            "escrow_free_ton": format_ton(self.free),
            "escrow_spendable_ton": format_ton(self.spendable),
            "escrow_daily_limit_ton": format_ton(self.daily_limit),
            "sessions": dict(self.sessions),
            "spent_ton": format_ton(self.exposure.signed),
            "spent_today_ton": format_ton(self.exposure.signed_today),
            "in_open_sessions_ton": format_ton(self.exposure.outstanding),
            "limits_ton": {
                name: None if limit is None else format_ton(limit) for name, limit in named.items()
            },
        }


class Treasury:
    """Reads escrow and sessions of one client. `now` is a steady time in seconds."""

    def __init__(self, manager: SessionManager, now: Callable[[], float]) -> None:
        self._manager, self._now = manager, now
        self._view: TreasuryView | None = None
        self._seen_at = float("-inf")
        self._looking = asyncio.Lock()

    async def look(self) -> TreasuryView:
        """Return what is there now, or was a few seconds ago. Raises `ChainError`, `StorageError`."""
        async with self._looking:
            if self._view is None or self._now() - self._seen_at >= FRESH_S:
                self._view, self._seen_at = await self._read(), self._now()
            return self._view

    async def _read(self) -> TreasuryView:
        desk = self._manager.desk
        sight = await desk.look()
        records = await desk.store.sessions(sight.domain, UNENDED_STATES)
        states = {state.value: 0 for state in UNENDED_STATES}
        return TreasuryView(
            free=Nano(sight.view.free),
            spendable=Nano(min(sight.view.free, sight.view.bucket)),
            daily_limit=Nano(sight.view.daily_limit),
            sessions={**states, **Counter(record.state.value for record in records)},
            exposure=await desk.store.exposure(sight.domain, desk.now()),
            limits=desk.limits,
        )
