"""`SessionKeeper`: looks after sessions in the background, also those that a dead process left behind.

Owns the round: leases, openings nobody saw the end of, idle and expiring sessions, settling, and watching
that no worker redeems more than was signed. Must not know requests. One failure does not end a round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cocoon_sdk.client.sessions.funds.desk import SessionDesk, log
from cocoon_sdk.client.sessions.funds.ending import SessionEnding
from cocoon_sdk.client.sessions.funds.funding import SessionFunding
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.client.sessions.funds.onchain import EscrowSight, is_open
from cocoon_sdk.client.sessions.funds.records import UNENDED_STATES, SessionRecord, SessionState
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_states import settles_at
from cocoon_sdk.types import Nano

_ROUND_S = 60
_LEASES_EACH = 3


@dataclass(frozen=True, slots=True)
class Overdrawn:
    """A worker redeemed more than this database knows to be signed, in nanoTON: somebody else signs too."""

    record: SessionRecord
    redeemed: Nano


@dataclass(slots=True)
class KeeperReport:
    """What one round did. `unknown` are sessions on chain that this database knows nothing of."""

    opened: list[SessionRecord] = field(default_factory=list)
    closed: list[SessionRecord] = field(default_factory=list)
    settled: list[SessionRecord] = field(default_factory=list)
    ended: list[SessionRecord] = field(default_factory=list)
    overdrawn: list[Overdrawn] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    failures: list[tuple[SessionRecord, CocoonError]] = field(default_factory=list)


class SessionKeeper:
    """Looks after the sessions of one escrow, on behalf of one manager."""

    def __init__(
        self,
        desk: SessionDesk,
        funding: SessionFunding,
        ending: SessionEnding,
        held: Callable[[str], HeldSession | None],
        let_go: Callable[[str, str], None],
    ) -> None:
        self._desk, self._funding, self._ending = desk, funding, ending
        self._held, self._let_go = held, let_go
        self._known: frozenset[str] = frozenset()
        self._told: set[tuple[str, int]] = set()

    async def run(self) -> None:
        """Go round until cancelled."""
        pause = max(1, self._desk.policy.lease_s // _LEASES_EACH)
        next_round = 0
        while True:
            try:
                if self._desk.now() >= next_round:
                    next_round = self._desk.now() + _ROUND_S
                    await self.once()
                else:
                    await self.renew()
            except CocoonError as error:
                log.warning("cannot look after the sessions now: %s", error)
            except Exception:  # money is looked after whatever happens; the next round may fare better
                log.exception("looking after the sessions failed")
            await self._desk.context.clock.sleep(pause)

    async def renew(self) -> None:
        """Extend our leases; what others have taken over meanwhile can be used no more."""
        until = self._desk.now() + self._desk.policy.lease_s
        still_ours = await self._desk.store.renew(self._desk.holder, until)
        for uid in self._known - still_ours:
            self._let_go(uid, "another process holds it, or it has ended")
        self._known = still_ours

    async def once(self, *, idle_s: int | None = None) -> KeeperReport:
        """Do a round. With `idle_s` sessions unused for so long are closed, whatever the policy says."""
        report = KeeperReport()
        # The chain first: what we know to be signed is then never older than what was redeemed.
        sight = await self._desk.look()
        await self.renew()
        records = await self._desk.store.sessions(sight.domain, UNENDED_STATES)
        for record in records:
            try:
                async with self._desk.working_on(record.uid):
                    now_it_is = await self._desk.store.get(record.uid)
                    if now_it_is is not None:
                        await self._see_to(sight, now_it_is, idle_s, report)
            except CocoonError as error:
                report.failures.append((record, error))
                log.warning("session %d: %s", record.session_id, error)
        report.unknown = sorted(set(sight.sessions) - {record.session_id for record in records})
        return report

    async def _see_to(
        self, sight: EscrowSight, record: SessionRecord, idle_s: int | None, report: KeeperReport
    ) -> None:
        desk, entry = self._desk, sight.sessions.get(record.session_id)
        if record.uid in desk.opening or record.state is SessionState.CLOSED:
            return
        if record.state is not SessionState.OPENING and entry is not None:
            await self._watch(record, entry, report)
        if desk.is_taken(record):
            return
        if record.state is SessionState.OPENING:
            leased = await desk.lease(record)
            found = None if leased is None else await self._funding.recover(sight, leased)
            if found is not None:
                report.opened.append(found)
                await self._give_back(found)
        elif entry is None:
            if sight.view.next_id <= record.session_id:
                return  # it was opened after we looked
            self._let_go(record.uid, "it has ended on chain")
            report.ended.append(await self._ending.note_gone(record))
        elif record.state is SessionState.OPEN:
            await self._see_to_open(sight, record, entry, idle_s, report)
        else:
            await self._see_to_closing(sight, record, entry, report)

    async def _see_to_open(
        self,
        sight: EscrowSight,
        record: SessionRecord,
        entry: m.Session,
        idle_s: int | None,
        report: KeeperReport,
    ) -> None:
        held, policy = self._held(record.uid), self._desk.policy
        if not is_open(entry) or sight.now >= entry.deadline:
            self._let_go(record.uid, "it is over on chain")
            report.closed.append(await self._ending.expire(record, settles_at(entry)))
            return
        if any(each.record.uid == record.uid for each in report.overdrawn):
            self._let_go(record.uid, "more was redeemed than signed here")
            report.closed.append(await self._ending.close(record, "more was redeemed than signed here"))
            return
        used_at = max(record.used_at, held.used_at if held else 0)
        idle = self._desk.now() - used_at >= (policy.idle_s if idle_s is None else idle_s)
        # What expires soon costs nothing to wait for.
        worth_closing = idle_s is not None or entry.deadline - sight.now > policy.margin_s
        if idle and worth_closing and not (held and held.users):
            # First for us: no request may take it while the chain is being told.
            self._let_go(record.uid, "closed, since it was not used")
            report.closed.append(await self._ending.close(record, "not used"))
        elif record.pending_deposit and not (held and held.topping_up.locked()):
            leased = await self._desk.lease(record)
            if leased is not None:
                agreed = await self._funding.agree(sight, leased)
                if held is None:
                    await self._give_back(agreed)
                else:
                    held.ledger.deposit = agreed.deposit

    async def _see_to_closing(
        self, sight: EscrowSight, record: SessionRecord, entry: m.Session, report: KeeperReport
    ) -> None:
        at = settles_at(entry)
        if is_open(entry) and sight.now < entry.deadline:
            # We died, or the external got lost, between noting it and telling the chain.
            report.closed.append(await self._ending.close(record, record.why))
        elif sight.now >= at:
            report.settled.append(await self._ending.settle(record))
        elif record.settle_at != at:
            await self._ending.expire(record, at)

    async def _watch(self, record: SessionRecord, entry: m.Session, report: KeeperReport) -> None:
        redeemed = Nano(entry.redeemed)
        if redeemed > record.redeemed:
            await self._desk.store.redeemed(record.uid, redeemed)
        if redeemed <= record.signed:
            return
        report.overdrawn.append(Overdrawn(record, redeemed))
        if (record.uid, redeemed) not in self._told:
            self._told.add((record.uid, redeemed))
            log.error(
                "session %d: %s were redeemed, but only %s signed here: somebody else has the hot key, or "
                "signs without this database",
                record.session_id,
                redeemed,
                record.signed,
            )

    async def _give_back(self, record: SessionRecord) -> None:
        """Leave a session to whoever needs it next."""
        if self._held(record.uid) is None:
            await self._desk.store.release(record.uid, self._desk.holder)
