"""One session as its owner is shown it: what is stored of it, and what the escrow holds.

Owns putting both together. Must not know databases or how sessions are used. Amounts are nanoTON, times unix
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.client.sessions.funds.onchain import is_open
from cocoon_sdk.client.sessions.funds.records import SessionRecord, SessionState
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_states import SessionStatus, settles_at
from cocoon_sdk.protocol.signing import account_address
from cocoon_sdk.types import Nano

_NOTHING: Final = Nano(0)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session: what is stored of it, and what the escrow holds.

    `state` is None for a session on chain that this database knows nothing of: `signed` and `accounted` are
    unknown then. `left` is what the deposit still holds for new work. `settle_at` is from when the rest can
    be freed (0: it has ended, or is not on chain yet).
    """

    session_id: int
    worker: Address
    state: SessionState | None
    model: str
    deposit: Nano
    signed: Nano
    accounted: Nano
    redeemed: Nano
    expires: int
    settle_at: int
    guarded: bool
    disputed: bool
    holder: str | None
    lease_until: int
    used_at: int
    why: str

    @property
    def left(self) -> Nano:
        """What the deposit still holds for new work."""
        return self.deposit - self.accounted if self.state is SessionState.OPEN else _NOTHING


def stored_info(record: SessionRecord, entry: m.Session | None) -> SessionInfo:
    """Return a stored session with its entry on chain, if there is one."""
    return SessionInfo(
        session_id=record.session_id,
        worker=record.worker,
        state=record.state,
        model=record.model,
        deposit=record.deposit if entry is None else Nano(entry.deposit),
        signed=record.signed,
        accounted=record.accounted,
        redeemed=record.redeemed if entry is None else Nano(entry.redeemed),
        expires=record.expires,
        settle_at=0 if entry is None else settles_at(entry),
        guarded=entry is not None and entry.collateral > 0,
        disputed=entry is not None and entry.status == SessionStatus.DISPUTED,
        holder=record.holder,
        lease_until=record.lease_until,
        used_at=record.used_at,
        why=record.why,
    )


def unknown_info(session_id: int, entry: m.Session) -> SessionInfo:
    """Return a session on chain that the database knows nothing of."""
    return SessionInfo(
        session_id=session_id,
        worker=account_address(entry.worker),
        state=None,
        model="",
        deposit=Nano(entry.deposit),
        signed=_NOTHING,
        accounted=_NOTHING,
        redeemed=Nano(entry.redeemed),
        expires=entry.deadline if is_open(entry) else 0,
        settle_at=settles_at(entry),
        guarded=entry.collateral > 0,
        disputed=entry.status == SessionStatus.DISPUTED,
        holder=None,
        lease_until=0,
        used_at=0,
        why="",
    )
