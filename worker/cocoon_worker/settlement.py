"""The only sender of the operator key's externals: claims, submissions, finalisations, announcements.

Owns seqnos, signatures, resending, and what a refusal means. One external is under way at a time; it is in
the journal before it is sent, so a crash at any point repeats the same bytes, which the stake takes at most
once. What was confirmed is learned from the stake's history (`bookkeeping`), never from an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytoniq_core import Cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode, error_for_exit_code
from cocoon_sdk.types import Nano
from cocoon_worker.agenda import Agenda, Due
from cocoon_worker.bookkeeping import Bookkeeper
from cocoon_worker.context import Context
from cocoon_worker.errors import WorkerError
from cocoon_worker.lifecycle import move
from cocoon_worker.records import ExternalRecord
from cocoon_worker.states import BUSY, SESSION_ACTIONS, ActionKind, ExternalState, JobState

LOW_GAS: Final = "low-gas"
"""Name of the alarm: spare gas does not pay for what is due."""
STAKE_ALARM: Final = "stake-not-ready"
MAX_EXTERNAL_DATA_BYTES: Final = 40 * 1024
"""Inline bytes in one external; nodes relay 64 KiB in all."""
_UNDER_WAY: Final = {
    ActionKind.CLAIM: JobState.CLAIMING,
    ActionKind.SUBMIT: JobState.SUBMITTING,
    ActionKind.SUBMIT_CLAIMED: JobState.SUBMITTING,
    ActionKind.FINALIZE: JobState.FINALIZING,
}
_TIMING: Final = frozenset({ExitCode.BAD_SEQNO, ExitCode.BAD_VALID_UNTIL})
"""Refusals that say nothing about the actions: the history will tell, or time does."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a submission, and a claim besides its bond, take out of gas now."""

    work: Nano
    claim: Nano

    def of(self, chosen: Sequence[Due]) -> Nano:
        """Bound what actions take out of gas."""
        claims = sum(each.action.kind is ActionKind.CLAIM for each in chosen)
        rest = sum(self.work * each.work_units + each.extra for each in chosen)
        return Nano(self.claim * claims + rest)


class Settlement:
    """Call `step` after the stake's history was read. Raises `ChainError` and what `Journal` raises."""

    def __init__(self, context: Context, books: Bookkeeper, agenda: Agenda) -> None:
        self._context, self._books, self._agenda = context, books, agenda
        self._journal, self._policy = context.journal, context.config.policy
        self._sent, self._sent_at = 0, 0

    async def step(self) -> None:
        """Follow the external that is under way, or sign and send what is due."""
        pending = self._journal.pending_external()
        if pending is not None:
            await self._follow(pending)
            return
        due = await self._agenda.due()
        if due:
            await self._act(due)

    # -- what is under way ------------------------------------------------------------------------------

    async def _follow(self, pending: ExternalRecord) -> None:
        time = self._context.time
        # The contract refuses it once its block time is later; the margin is for endpoints that lag.
        if time.surely() > pending.valid_until + self._policy.confirmation_s:
            view = await self._context.stake.state()
            if view.seqno == pending.seqno:
                with self._journal.transaction():
                    self._books.abandon_external(
                        pending, ExternalState.EXPIRED, "it got into no block in time", time.surely()
                    )
            return
        # What another process left is sent at once: it may have died before it did.
        sent_at = self._sent_at if self._sent == pending.number else 0
        if time.maybe() >= sent_at + self._policy.resend_s and time.surely() <= pending.valid_until:
            await self._send(pending)

    async def _send(self, external: ExternalRecord) -> None:
        self._sent, self._sent_at = external.number, self._context.time.maybe()
        with self._journal.transaction():
            self._journal.note_send(external, self._sent_at)
        try:
            await self._context.chain.send(external.message)
        except ExternalRejectedError as error:
            self._rejected(external, error)
        else:
            self._context.metrics.sends.inc()

    def _rejected(self, external: ExternalRecord, error: ExternalRejectedError) -> None:
        code = error.exit_code
        self._context.log.warning("external rejected", seqno=external.seqno, exit_code=code, why=str(error))
        if code is None or code in _TIMING:
            return
        if code == ExitCode.INSUFFICIENT_FREE:
            self._context.alarm(LOW_GAS, True, "the stake's spare gas does not cover what is due")
        # It cannot be accepted as it is. Should it be all the same, its seqno makes it exclude what follows.
        why = str(error_for_exit_code(code, "the stake refused"))
        with self._journal.transaction():
            self._books.abandon_external(external, ExternalState.EXPIRED, why, self._context.time.maybe())

    # -- what is due --------------------------------------------------------------------------------------

    async def _act(self, due: list[Due]) -> None:
        view = await self._context.stake.state()
        if not self._ready(view):
            return
        prices = Prices(await self._context.stake.work_cost(), await self._context.stake.claim_cost())
        most = min(len(due), c.MAX_ACTIONS)
        costs = [await self._context.stake.external_cost(count) for count in range(1, most + 1)]
        chosen: list[Due] = []
        size = 0
        for each in due:
            if len(chosen) == c.MAX_ACTIONS or size + each.data_bytes > MAX_EXTERNAL_DATA_BYTES:
                break
            if not self._affordable(view, prices, costs, [*chosen, each]):
                continue
            chosen.append(each)
            size += each.data_bytes
        self._context.alarm(LOW_GAS, not chosen, "the stake's spare gas does not cover what is due")
        if chosen:
            await self._sign_and_send(view, prices, chosen)

    def _ready(self, view: m.StakeView) -> bool:
        ours = view.operator_key == self._context.operator.verify_key.to_int()
        why = "it is pending" if not view.active else "it holds another operator key"
        self._context.alarm(STAKE_ALARM, not (view.active and ours), why)
        return view.active and ours

    def _affordable(
        self, view: m.StakeView, prices: Prices, costs: Sequence[Nano], chosen: list[Due]
    ) -> bool:
        """Tell whether spare gas pays for the external; what is not owed leaves the gas of what is.

        `costs` are those of externals with 1, 2, ... actions. A claim is affordable if its own submission
        is, and those of all other claims.
        """
        keys = {each.action.key for each in chosen}
        owed = [job for job in self._journal.jobs(BUSY) if job.claimed and not job.locked]
        claims = sum(each.action.kind is ActionKind.CLAIM for each in chosen)
        later = claims + sum(job.key not in keys for job in owed) if claims else 0
        needed = costs[len(chosen) - 1] + prices.of(chosen) + later * (costs[0] + prices.work)
        return view.gas >= needed

    async def _sign_and_send(self, view: m.StakeView, prices: Prices, chosen: list[Due]) -> None:
        domain = signing.Domain(self._context.global_id, self._context.stake.address, view.epoch)
        valid_until = self._context.time.surely() + self._policy.message_validity_s
        body = signing.external_body(
            self._context.operator,
            c.PURPOSE_STAKE_EXTERNAL,
            domain,
            seqno=view.seqno,
            valid_until=valid_until,
            max_spend=prices.of(chosen),
            actions=[each.signed for each in chosen],
        )
        await self._send(self._keep(view.seqno, valid_until, body, chosen))

    def _keep(self, seqno: int, valid_until: int, body: Cell, chosen: list[Due]) -> ExternalRecord:
        """Write the external, and where its jobs stand now."""
        now = self._context.time.maybe()
        with self._journal.transaction():
            self._journal.add_external(
                seqno=seqno,
                valid_until=valid_until,
                message=signing.external_message(self._context.stake.address, body),
                body_hash=bytes(body.hash),
                actions=[each.action for each in chosen],
                info_hash=next((each.info_hash for each in chosen if each.info_hash), b""),
            )
            for each in chosen:
                job = None if each.action.key is None else self._journal.job(each.action.key)
                if job is not None:
                    self._books.keep(job, move(job, _UNDER_WAY[each.action.kind], now))
                if each.action.kind in SESSION_ACTIONS:
                    self._books.sessions.planned(each.action, each.signed, now)
        external = self._journal.pending_external()
        if external is None:
            raise WorkerError("the journal lost an external", hint="This is a bug: report it")
        return external
