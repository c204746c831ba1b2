"""Events and the fate of our own actions into the book of sessions; inside the caller's transaction.

Owns the mapping. Must not talk to the chain: it is told what happened.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from structlog.typing import FilteringBoundLogger

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.signing import Action
from cocoon_sdk.types import Nano
from cocoon_worker.events import JobOutcome, OutcomeKind
from cocoon_worker.records import JobKey, PlannedAction
from cocoon_worker.sessions import watch
from cocoon_worker.sessions.desk import SessionDesk
from cocoon_worker.sessions.records import GuardState, SessionEntry, SessionKey, SessionState
from cocoon_worker.states import ActionKind

MAX_GUARD_TRIES: Final = 4
_DISPUTES: Final = (GuardState.DISPUTED, GuardState.CLEARED)
_PAUSE_S: Final = 15
_MAX_PAUSE_S: Final = 3600


class SessionBookkeeper:
    """Writes what happened to sessions. Raises what `SessionBook` raises; then nothing of it is written."""

    def __init__(self, desk: SessionDesk, log: FilteringBoundLogger) -> None:
        self._desk, self._book, self._log = desk, desk.book, log

    # -- what the stake's history shows ---------------------------------------------------------------------

    def closing(self, key: JobKey, now: int) -> None:
        """Note that a client closes its session; noise if it was never served."""
        entry = self._entry(key)
        if entry is not None:
            self._keep(entry, watch.closing(entry, now))

    def disputed(self, key: JobKey, now: int) -> None:
        """Note that a client disputes its session. Our receipts speak for us: there is nothing to be sent."""
        entry = self._entry(key)
        if entry is not None:
            self._keep(entry, watch.disputed(entry, now))

    def outcome(self, event: JobOutcome, now: int) -> None:
        """Note money that came, or collateral that was freed."""
        entry = self._entry(event.key)
        if entry is None:
            return
        if event.kind is OutcomeKind.NOT_REDEEMED:
            self._keep(entry, self.failed(entry, now, "the escrow refused the redemption"))
            return
        self._keep(entry, watch.on_outcome(entry, event, now))

    def lock_expired(self, lock: int, now: int) -> None:
        """Note that somebody freed a lock of ours that was too old."""
        for entry in self._book.locked_by(lock):
            self._keep(entry, replace(entry, lock=0, updated_at=now))

    # -- what we do ------------------------------------------------------------------------------------------

    def planned(self, planned: PlannedAction, signed: Action, now: int) -> None:
        """Note an action that an external is about to carry."""
        entry = self._entry(planned.key)
        if entry is None:
            return
        if planned.kind is ActionKind.ACCEPT_SESSION:
            self._keep(entry, replace(entry, guard=GuardState.ASKED, updated_at=now))
        elif planned.kind is ActionKind.REDEEM:
            amount = Nano(m.Redemption.from_cell(signed.refs[0]).amount)
            self._desk.requested.discard(entry.key)
            self._log.info("redeeming", session=str(entry.key), nano=int(entry.unredeemed))
            self._keep(entry, replace(entry, asked=amount, asked_at=0, updated_at=now))

    def carried_out(self, action: PlannedAction, now: int, patience_s: int) -> None:
        """Note that our stake did what was asked; its effect at the escrow is a message away."""
        entry = self._entry(action.key)
        if entry is None:
            return
        later = now + patience_s
        if action.kind is ActionKind.REDEEM:
            # Without a voucher (to unlock) there is no amount to wait for, only time.
            self._keep(entry, replace(entry, asked_at=now, not_before=later, updated_at=now))
        elif action.kind is ActionKind.ACCEPT_SESSION and entry.guard is GuardState.WANTED:
            # The external had been given up as expired, and shows up after all.
            self._keep(entry, replace(entry, guard=GuardState.ASKED, updated_at=now))

    def given_up(self, action: PlannedAction, now: int, why: str) -> None:
        """Note that an action was skipped, or that its external can never be accepted: it is planned anew."""
        entry = self._entry(action.key)
        if entry is None:
            return
        if action.kind is ActionKind.REDEEM:
            self._keep(entry, self.failed(entry, now, why))
        elif action.kind is ActionKind.ACCEPT_SESSION and entry.guard is GuardState.ASKED:
            tries = entry.tries + 1
            state = GuardState.WANTED if tries < MAX_GUARD_TRIES else GuardState.REFUSED
            self._keep(entry, replace(entry, guard=state, tries=tries, reason=why, updated_at=now))

    @staticmethod
    def failed(entry: SessionEntry, now: int, why: str) -> SessionEntry:
        """Return the entry after a redemption came to nothing: what was due is due again, after a pause."""
        pause = min(_MAX_PAUSE_S, _PAUSE_S << min(entry.tries, 16))
        if entry.state is SessionState.CLOSING:
            # Rather a redemption too many than one too late.
            pause = min(pause, max(_PAUSE_S, (entry.settle_at - now) // 8))
        return replace(
            entry,
            asked=Nano(0),
            asked_at=0,
            tries=entry.tries + 1,
            not_before=now + pause,
            updated_at=now,
            reason=why,
        )

    def seen(self, old: SessionEntry, new: SessionEntry) -> None:
        """Keep what a look at the escrow changed."""
        self._keep(old, new)

    def _entry(self, key: JobKey | None) -> SessionEntry | None:
        return None if key is None else self._book.entry(SessionKey(key.escrow, key.id))

    def _keep(self, old: SessionEntry, new: SessionEntry) -> None:
        if new == old:
            return
        self._book.put(new)
        if new.guard is not old.guard and new.guard in _DISPUTES:
            self._log.warning(
                "session disputed" if new.guard is GuardState.DISPUTED else "session cleared",
                session=str(new.key),
                collateral=int(new.collateral),
            )
        if new.state is old.state:
            return
        self._log.info("session moved", session=str(new.key), old=old.state, new=new.state)
        if new.lost:
            self._log.error(
                "session money lost",
                session=str(new.key),
                nano=int(new.lost),
                why=new.reason,
                hint="Keep the worker running, or let a watchtower hold its vouchers",
            )
        # What listens may write itself, and must not be undone with this transaction.
        self._desk.over.append(new.key)
