"""From vouchers to money: looks at sessions on chain, and names the redemptions that are due.

Owns when an escrow is looked at and what our stake is asked for. Must not sign or send (`settlement` does,
one external for all that is due), nor serve anybody. Every session is looked at just before gas is spent on
it: what others redeemed, closed or settled meanwhile is noted instead of repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from cocoon_sdk.errors import AccountNotFoundError, GetterError, MalformedError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.types import Nano
from cocoon_worker.context import Context
from cocoon_worker.records import PlannedAction
from cocoon_worker.sessions import watch
from cocoon_worker.sessions.bookkeeping import MAX_GUARD_TRIES, SessionBookkeeper
from cocoon_worker.sessions.export import VoucherExport
from cocoon_worker.sessions.policy import Verdict, is_thin, judge
from cocoon_worker.sessions.records import GuardState, SessionEntry, SessionState
from cocoon_worker.sessions.survey import state_of
from cocoon_worker.sessions.wishes import take_wish
from cocoon_worker.states import ActionKind

MARGIN_ALARM: Final = "session-margin"
"""Name of the alarm: money of a session may be lost unless it is redeemed soon."""
MAX_LOOKS: Final = 32
"""Escrows that are looked at in one round; the others wait for the next one."""
MAX_DUE: Final = 16
MAX_CANDIDATES: Final = 256
"""Sessions that are judged in one round, those with the least time first."""
_GUARD_PATIENCE: Final = 4
"""Times `confirmation_s` before an AcceptSession without an answer is tried again."""

LockChoice = Callable[[int, bool], Awaitable[int | None]]
"""Names a lock of our stake for an escrow (afresh or not); None when every slot is taken."""


@dataclass(frozen=True, slots=True)
class SessionDue:
    """One action for a session that our stake is asked for now."""

    action: PlannedAction
    signed: signing.Action
    urgent: bool


class Redemption:
    """Call `look` and `due` once a round, `check_margins` whenever time has passed.

    Raises `ChainError` and what `SessionBook` raises.
    """

    def __init__(self, context: Context, books: SessionBookkeeper) -> None:
        self._context, self._books = context, books
        self._desk, self._config = context.sessions, context.config.sessions
        self._book = context.sessions.book
        self._patience_s = context.config.policy.confirmation_s
        self._export = VoucherExport(context)
        self._unseen = {entry.key for entry in self._book.open_entries()}
        """What was open when this worker started: looked at once, whatever happened while it was down."""

    # -- looking ---------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Look at the sessions about which the chain may know more than the book."""
        self._take_wishes()
        self._desk.tell_over()
        now = self._context.time.maybe()
        for key in sorted(self._unseen)[:MAX_LOOKS]:
            known = self._book.entry(key)
            if known is not None:
                await self._look_at(known)
            self._unseen.discard(key)
        for entry in self._book.to_look_at(now, self._config.look_s, MAX_LOOKS):
            await self._look_at(entry)

    def _take_wishes(self) -> None:
        try:
            wished = take_wish(self._context.config.data_dir)
        except MalformedError as error:
            self._context.log.warning("wish not understood", why=str(error))
            return
        if wished == set():
            return
        with_money = {entry.key for entry in self._book.unredeemed_entries()}
        self._desk.requested |= with_money if wished is None else wished & with_money

    async def _look_at(self, entry: SessionEntry) -> m.Session | None:
        """Look, and keep what is new. Returns the escrow's entry."""
        try:
            view = await self._desk.survey.entry(entry.key)
        except AccountNotFoundError:
            view = None
        except (GetterError, MalformedError) as error:
            self._context.log.warning("session cannot be read", session=str(entry.key), why=str(error))
            return None
        now = self._context.time.surely()
        with self._context.journal.transaction():
            current = self._book.entry(entry.key)
            if current is not None:
                self._books.seen(
                    current, self._after(watch.on_view(current, view, now, self._patience_s), now)
                )
        return view

    def _after(self, entry: SessionEntry, now: int) -> SessionEntry:
        """Return the entry after what was under way took effect, or had its time to."""
        if entry.asked and entry.settled >= min(entry.asked, entry.deposit):
            done = replace(entry, asked=Nano(0), asked_at=0, tries=0, not_before=0, redeemed_at=now)
            return replace(done, updated_at=now)
        if entry.asked_at and now > entry.asked_at + self._patience_s:
            return self._books.failed(entry, now, "the redemption had no effect at the escrow")
        stuck = now > entry.updated_at + _GUARD_PATIENCE * self._patience_s
        if entry.guard is GuardState.ASKED and stuck:
            hopeless = entry.tries + 1 >= MAX_GUARD_TRIES
            state = GuardState.REFUSED if hopeless else GuardState.WANTED
            return replace(entry, guard=state, tries=entry.tries + 1, updated_at=now)
        return entry

    # -- what is due -----------------------------------------------------------------------------------------

    async def due(self, choose_lock: LockChoice) -> list[SessionDue]:
        """Return what our stake is to be asked for now, what is urgent first."""
        now = self._context.time.maybe()
        candidates = self._candidates(now)
        judged = [(entry, verdict) for entry in candidates if (verdict := self._judge(entry, now))]
        judged.sort(key=lambda pair: (not pair[1].urgent, pair[0].settle_at))
        found = []
        for entry, _ in judged[:MAX_DUE]:
            redeem = await self._redemption(entry)
            if redeem is not None:
                found.append(redeem)
        if self._context.draining:
            return found
        for entry in self._book.wanting_guard(max(0, MAX_DUE - len(found))):
            guard = await self._guarding(entry, choose_lock)
            if guard is not None:
                found.append(guard)
        return found

    def _candidates(self, now: int) -> list[SessionEntry]:
        config = self._config
        found = self._book.maybe_due(
            now,
            least=config.least_redeem,
            threshold=config.redeem_threshold,
            period_s=config.redeem_period_s,
            before_s=config.before_expiry_s,
            limit=MAX_CANDIDATES,
        )
        known = {entry.key for entry in found}
        wished = [self._book.entry(key) for key in sorted(self._desk.requested - known)[:MAX_CANDIDATES]]
        return found + [entry for entry in wished if entry is not None]

    def _judge(self, entry: SessionEntry, now: int) -> Verdict | None:
        connected = entry.key in self._desk.connected
        requested = entry.key in self._desk.requested
        return judge(entry, now, self._config, connected=connected, requested=requested)

    async def _redemption(self, entry: SessionEntry) -> SessionDue | None:
        if await self._look_at(entry) is None:
            return None
        current = self._book.entry(entry.key)
        # Judged again by what the escrow says now, and by what came meanwhile.
        verdict = None if current is None else self._judge(current, self._context.time.maybe())
        if current is None or verdict is None:
            return None
        # What was signed ahead and not earned stays the client's.
        amount = current.payable if current.takes_parts else current.signed
        signed = signing.redeem(
            current.key.session_id,
            current.key.address,
            amount,
            current.signature or bytes(64),
            close=verdict.end,
            forgo=Nano(current.signed - amount),
        )
        self._context.log.debug(
            "redemption due",
            session=str(current.key),
            why=verdict.reason,
            nano=int(current.unredeemed),
            end=verdict.end,
        )
        return SessionDue(PlannedAction(ActionKind.REDEEM, current.key.entry), signed, verdict.urgent)

    async def _guarding(self, entry: SessionEntry, choose_lock: LockChoice) -> SessionDue | None:
        now, context = self._context.time.maybe(), self._context
        if now + self._config.least_left_s >= entry.expires:
            self._unguarded(entry, "it expires too soon")
            return None
        if self._book.was_cleared(entry.key.escrow):
            # It costs arbiters and us time, and keeps our collateral for days; its client risks a bond only.
            self._unguarded(entry, "its client disputed an honest session before")
            return None
        view = await self._look_at(entry)
        current = self._book.entry(entry.key)
        if view is None or current is None or current.guard is not GuardState.WANTED:
            return None
        if state_of(view) is not SessionState.OPEN:
            self._unguarded(current, "it is not open any more")
            return None
        stake = await context.stake.state()
        escrow = await context.survey.escrow(entry.key.escrow, stake)
        params = m.Params.from_cell(view.params)
        collateral = collateral_of(view, params)
        if escrow is None or collateral > self._config.guard_most:
            why = "its escrow is unknown" if escrow is None else f"{collateral} would have to be locked"
            self._unguarded(current, why)
            return None
        if collateral > stake.lockable or stake.locked + collateral > stake.max_locked:
            return None  # what other work locks comes back
        lock = await choose_lock(entry.key.escrow, current.tries > 0)
        if lock is None:
            return None
        target = m.SessionTarget(
            escrow_owner=escrow.owner,
            escrow_index=escrow.index,
            previous_code=escrow.previous_code,
            collateral=collateral,
            lock=lock,
            session_hash=signing.session_hash(view),
        )
        signed = signing.accept_session(entry.key.session_id, target)
        return SessionDue(PlannedAction(ActionKind.ACCEPT_SESSION, entry.key.entry), signed, False)

    def _unguarded(self, entry: SessionEntry, why: str) -> None:
        """Serve a session without collateral, and say why."""
        self._context.log.warning("session is not guarded", session=str(entry.key), why=why)
        with self._context.journal.transaction():
            current = self._book.entry(entry.key)
            if current is not None:
                self._books.seen(current, replace(current, guard=GuardState.REFUSED, reason=why))

    def finish_round(self) -> None:
        """Make everything survive a power cut, hand vouchers out, and look at the margins."""
        self._desk.tell_over()
        self._book.flush()
        self._export.run()
        self.check_margins()

    # -- margins ---------------------------------------------------------------------------------------------

    def check_margins(self) -> None:
        """Raise or end the alarm, by the time that it may be now: also while the endpoint does not answer."""
        now = self._context.time.maybe()
        worth = self._config.least_redeem
        least = self._book.least_margin(now, worth)
        self._context.metrics.session_margin.set(float("inf") if least is None else least)
        over = self._book.over_with_money(now, worth)
        thin = [entry for entry in over if is_thin(entry, now, self._config)]
        why = ""
        if thin:
            at_risk = Nano(sum(entry.unredeemed for entry in thin))
            first = min(thin, key=lambda entry: entry.settle_at)
            why = (
                f"{at_risk} in {len(thin)} sessions is not redeemed; {first.key} can be settled in"
                f" {max(0, first.settle_at - now)} s ({first.reason or 'no redemption was confirmed'})"
            )
        self._context.alarm(MARGIN_ALARM, bool(thin), why)


def collateral_of(view: m.Session, params: m.Params) -> Nano:
    """Return what an escrow wants locked for a session: a share of the deposit, rounded up, or a minimum."""
    return Nano(max(params.min_collateral, -(-view.deposit * params.collateral_bps // 10_000)))
