"""`AsyncSessions`: a client's sessions as its owner sees them, and those that inference asks for.

Owns opening the database when it is first needed, and putting together what was stored with what the chain
says. Must not know requests. Amounts are nanoTON, times unix seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.client.arbiters import Delivered
from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.discovery import AsyncWorkers, WorkerOffer
from cocoon_sdk.client.evidence_signers import why_not_counted
from cocoon_sdk.client.session_evidence import send_session_evidence
from cocoon_sdk.client.sessions.errors import SessionRefusedError
from cocoon_sdk.client.sessions.funds.holding import HeldSession
from cocoon_sdk.client.sessions.funds.keeper import KeeperReport
from cocoon_sdk.client.sessions.funds.manager import SessionManager
from cocoon_sdk.client.sessions.funds.onchain import EscrowSight
from cocoon_sdk.client.sessions.funds.records import (
    UNENDED_STATES,
    SessionPolicy,
    SessionRecord,
    SessionState,
    SpendLimits,
)
from cocoon_sdk.client.sessions.funds.store import SessionStore
from cocoon_sdk.client.sessions.funds.tables import SESSIONS_SCHEMA
from cocoon_sdk.client.sessions.info import SessionInfo, stored_info, unknown_info
from cocoon_sdk.errors import ConfigError, NoWorkerError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_evidence import SessionEvidence
from cocoon_sdk.storage import Database, open_database
from cocoon_sdk.types import Nano

DEFAULT_DATABASE: Final = "~/.local/state/cocoon/sessions.db"
"""Where vouchers are kept unless another place is named: one file for all escrows of a user."""

DatabasePlace: TypeAlias = "Database | str | Path"
_NOTHING: Final = Nano(0)


@dataclass(frozen=True, slots=True)
class SessionCost:
    """What opening a session takes out of free funds: what comes back at the end is the rest of `deposit`."""

    worker: Address
    deposit: Nano
    gas: Nano
    external: Nano
    expires: int

    @property
    def total(self) -> Nano:
        """All of it."""
        return self.deposit + self.gas + self.external


class AsyncSessions:
    """The sessions of one client; get it as `AsyncCocoon.sessions`.

    Inference opens, tops up and closes sessions by itself; this is for looking at them, and for doing it by
    hand. The database is opened at the first call. Every method may raise `StorageError` and `ChainError`
    kinds.
    """

    def __init__(
        self,
        context: ClientContext,
        workers: AsyncWorkers,
        *,
        database: DatabasePlace = DEFAULT_DATABASE,
        policy: SessionPolicy | None = None,
        limits: SpendLimits | None = None,
    ) -> None:
        self._context, self._workers, self._place = context, workers, database
        self._policy, self._limits = policy, limits
        self._opening = asyncio.Lock()
        self._manager: SessionManager | None = None
        self._database: Database | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<AsyncSessions of {self._context.escrow.address.to_str()}>"

    async def manager(self) -> SessionManager:
        """Return what runs the sessions; opens the database at the first call."""
        async with self._opening:
            if self._closed:
                raise SessionRefusedError("cannot use the sessions", why="this client is closed")
            if self._manager is None:
                place = self._place
                if isinstance(place, str | Path):
                    place = self._database = await open_database(place, SESSIONS_SCHEMA)
                else:
                    await place.migrate(SESSIONS_SCHEMA)
                store = SessionStore(place)
                self._manager = SessionManager(self._context, store, policy=self._policy, limits=self._limits)
            return self._manager

    async def close(self) -> None:
        """Give leases back and close the database; sessions stay open."""
        async with self._opening:
            self._closed = True
            manager, self._manager = self._manager, None
            if manager is not None:
                await manager.close()
            database, self._database = self._database, None
            if database is not None:
                await database.close()

    # -- for inference ------------------------------------------------------------------------------

    async def acquire(self, worker: WorkerOffer, at_least: Nano) -> HeldSession:
        """See `SessionManager.acquire`; from the first session on they are looked after in the background."""
        manager = self._manager or await self.manager()
        manager.start()
        return await manager.acquire(worker, at_least)

    async def release(self, held: HeldSession, reserved: int = 0) -> None:
        """See `SessionManager.release`."""
        if self._manager is not None:
            await self._manager.release(held, reserved)

    async def retire(self, held: HeldSession, why: str) -> None:
        """See `SessionManager.retire`."""
        await (await self.manager()).retire(held, why)

    def remaining(self, worker: Address) -> Nano | None:
        """Return what is left in the session that this process holds with a worker, None without one."""
        return None if self._manager is None else self._manager.remaining(worker)

    async def stake_key(self, worker: Address) -> int:
        """See `SessionManager.stake_key`."""
        return await (await self.manager()).stake_key(worker)

    # -- for people ---------------------------------------------------------------------------------

    async def list(self, *, ended: bool = False) -> tuple[SessionInfo, ...]:
        """Return all sessions, those on chain that this database does not know included; oldest first."""
        manager = await self.manager()
        sight = await manager.desk.look()
        states = tuple(SessionState) if ended else UNENDED_STATES
        stored = await manager.store.sessions(sight.domain, states)
        # A number that went to somebody else may stand in an opening: what is on chain is not that then.
        known = {each.session_id for each in stored if each.state is not SessionState.OPENING}
        found = [stored_info(each, _entry(sight, each)) for each in stored]
        found += [
            unknown_info(number, each) for number, each in sight.sessions.items() if number not in known
        ]
        return tuple(sorted(found, key=lambda each: each.session_id))

    async def get(self, session_id: int) -> SessionInfo:
        """Return one session by its number. Raises `SessionRefusedError` when there is none."""
        sight, record = await self._find(session_id)
        if record is None:
            return unknown_info(session_id, sight.sessions[session_id])
        return stored_info(record, _entry(sight, record))

    async def estimate(
        self,
        model: str | bytes,
        *,
        worker: Address | str | None = None,
        deposit: Nano | None = None,
        lifetime_s: int | None = None,
    ) -> SessionCost:
        """Return what `open` would take, after the same checks, without spending."""
        _, record = await self._plan(model, worker, deposit, lifetime_s)
        escrow = self._context.escrow
        gas, external = await escrow.session_gas(), await escrow.external_cost()
        return SessionCost(record.worker, record.deposit, gas, external, record.expires)

    async def open(
        self,
        model: str | bytes,
        *,
        worker: Address | str | None = None,
        deposit: Nano | None = None,
        lifetime_s: int | None = None,
    ) -> SessionInfo:
        """Open a session ahead of its first request, with the cheapest worker or the one that is named.

        Whoever asks this worker next, in any process that shares the database, uses it. Raises
        `NoWorkerError`, `InsufficientEscrowError`, `SpendLimitError`, `SessionRefusedError`.
        """
        manager, planned = await self._plan(model, worker, deposit, lifetime_s)
        record = await manager.funding.open(planned)
        await manager.store.release(record.uid, manager.desk.holder)
        return await self.get(record.session_id)

    async def top_up(self, session_id: int, amount: Nano, *, force: bool = False) -> SessionInfo:
        """Add `amount` to a session's deposit.

        Raises `StaleSessionError` when another process holds it and it is not taken by `force`,
        `SessionUsedUpError`, `InsufficientEscrowError`, `SpendLimitError`.
        """
        if amount <= 0:
            raise ConfigError(f"cannot add {amount}", why="only a positive amount can be added")
        manager = await self.manager()
        sight, record = await self._find_known(session_id)
        held = next((each for each in manager.held if each.uid == record.uid), None)
        if held is not None:
            await manager.top_up(held, held.available + amount, exactly=True)
            return await self.get(session_id)
        leased = await manager.ending.leased(record, "add to", by_force=force)
        try:
            agreed = await manager.funding.agree(sight, leased)
            await manager.funding.plan_top_up(sight, agreed, amount, exactly=True)
            await manager.funding.top_up(agreed, amount)
        finally:
            await manager.store.release(record.uid, manager.desk.holder)
        return await self.get(session_id)

    async def close_session(
        self, session_id: int, why: str = "closed by hand", *, force: bool = False
    ) -> SessionInfo:
        """End a session: nothing more is signed, and after the worker's delay the rest can be freed.

        Raises `StaleSessionError` when another process holds it and it is not taken by `force`.
        """
        manager = await self.manager()
        _, record = await self._find(session_id)
        if record is None:
            await self._send(manager.desk.chain.close, session_id)
        else:
            manager.let_go(record.uid, why)
            await manager.ending.close(record, why, by_force=force)
            await manager.store.release(record.uid, manager.desk.holder)
        return await self.get(session_id)

    async def dispute(
        self,
        session_id: int,
        evidence: bytes | SessionEvidence,
        *,
        model: str | bytes | None = None,
        force: bool = False,
    ) -> SessionInfo:
        """Dispute what was done in a guarded session: arbiters judge its worker's collateral.

        `evidence` is what they are shown, and is sent to them if this client knows where they are; or its
        hash (32 bytes), then `send_evidence` is the next step. The dispute is announced on the market of
        `model`, by default the one that the session was opened for. Bond and gas come out of free funds and
        the daily limit; the bond comes back, less the arbiters' fee if there is a verdict. Nothing more is
        signed; what was signed the worker may still redeem. There is one dispute at most.

        Raises `SessionRefusedError`, `InsufficientEscrowError`, `SpendLimitError`, `StaleSessionError`
        when another process holds the session and it is not taken by `force`, and `EvidenceNotSentError` when
        the dispute stands but too few arbiters have the evidence: call `send_evidence`.
        """
        evidence_hash = (
            evidence if isinstance(evidence, bytes) else await self._digest_of(session_id, evidence)
        )
        if len(evidence_hash) != 32:
            raise ConfigError("cannot dispute the session", why="the hash of its evidence has 32 bytes")
        manager = await self.manager()
        _, record = await self._find(session_id)
        named = model if model is not None else "" if record is None else record.model
        if not named:
            what = f"cannot dispute session {session_id}"
            raise ConfigError(what, why="this database does not know for which model it was", hint="Name it")
        model_id = (await self._workers.list(named)).model.model_id
        if record is None:
            entry = await manager.ending.disputable(session_id)
            async with manager.desk.turn():
                await manager.desk.chain.dispute(session_id, entry, evidence_hash, model_id)
        else:
            await manager.ending.disputable(session_id)
            manager.let_go(record.uid, "it is disputed")
            await manager.ending.dispute(record, evidence_hash, model_id, by_force=force)
            await manager.store.release(record.uid, manager.desk.holder)
        if isinstance(evidence, SessionEvidence) and self._context.arbiters is not None:
            await self.send_evidence(session_id, evidence)
        return await self.get(session_id)

    async def send_evidence(
        self, session_id: int, evidence: bytes | SessionEvidence
    ) -> tuple[Delivered, ...]:
        """Send what a dispute stands on (or its bytes) to the arbiters; may be repeated. Raises what
        `send_session_evidence` raises.
        """
        return await send_session_evidence(self._context, session_id, evidence)

    async def _digest_of(self, session_id: int, evidence: SessionEvidence) -> bytes:
        escrow, session = self._context.escrow, evidence.session
        about = (session.domain.global_id, session.domain.contract, session.session_id)
        if about != (await self._context.chain.global_id(), escrow.address, session_id):
            why = "its evidence is about another session"
            raise ConfigError(f"cannot dispute session {session_id}", why=why)
        return evidence.digest()

    async def why_not_counted(self, session_id: int, evidence: SessionEvidence) -> str:
        """Say in words why arbiters would not count all of the evidence; empty when they would.

        They count what the stake's key signed, as the chain's history tells. Raises `SessionRefusedError`
        when the session cannot be disputed, and `ChainError` when the history cannot be seen (yet).
        """
        entry = await (await self.manager()).ending.disputable(session_id)
        return await why_not_counted(self._context.chain, entry, evidence)

    async def dispute_bond(self, session_id: int) -> Nano:
        """Return what a dispute would take now, gas included. Raises what `dispute` raises beforehand."""
        entry = await (await self.manager()).ending.disputable(session_id)
        return await self._context.escrow.dispute_cost(entry)

    async def settle(self, session_id: int, *, force: bool = False) -> None:
        """Free what is left of a session whose time is over. Raises `TooEarlyError` before that."""
        manager = await self.manager()
        _, record = await self._find(session_id)
        if record is None:
            await self._send(manager.desk.chain.settle, session_id)
        else:
            manager.let_go(record.uid, "it is over")
            await manager.ending.settle(record, by_force=force)

    async def keep(self, *, idle_s: int | None = None) -> KeeperReport:
        """Look after all sessions once: what died halfway, what is idle so long, what can be settled."""
        return await (await self.manager()).close_idle(idle_s)

    # -- finding ------------------------------------------------------------------------------------

    async def _plan(
        self,
        model: str | bytes,
        worker: Address | str | None,
        deposit: Nano | None,
        lifetime_s: int | None,
    ) -> tuple[SessionManager, SessionRecord]:
        manager = await self.manager()
        offer = await self._offer(model, worker)
        sight = await manager.desk.look()
        name = offer.model.name or offer.model.model_id.hex()
        planned = await manager.funding.plan(
            sight, offer.address, name, _NOTHING, deposit=deposit, lifetime_s=lifetime_s
        )
        return manager, planned

    async def _offer(self, model: str | bytes, worker: Address | str | None) -> WorkerOffer:
        listed = await self._workers.list(model)
        if worker is None:
            found = next((offer for offer in listed if offer.endpoint is not None), None)
            if found is None:
                why = f"nobody who serves it has an endpoint ({listed.why_ignored()})"
                raise NoWorkerError(f"no session for {listed.model.name}", why=why)
            return found
        address = worker if isinstance(worker, Address) else _address(worker)
        found = listed.find(address)
        if found is None or found.endpoint is None:
            why = "it does not offer this model" if found is None else "it announced no endpoint"
            raise NoWorkerError(f"no session with {address.to_str()}", why=why, hint="See workers.list()")
        return found

    async def _find(self, session_id: int) -> tuple[EscrowSight, SessionRecord | None]:
        manager = await self.manager()
        sight = await manager.desk.look()
        record = await manager.store.find(sight.domain, session_id)
        if record is None and session_id not in sight.sessions:
            what = f"there is no session {session_id}"
            raise SessionRefusedError(what, why="neither the escrow nor the database knows it")
        return sight, record

    async def _find_known(self, session_id: int) -> tuple[EscrowSight, SessionRecord]:
        sight, record = await self._find(session_id)
        if record is None:
            raise SessionRefusedError(
                f"cannot use session {session_id}",
                why="this database knows nothing of what was signed for it",
                hint="Close it; its deposit is free again after the worker's delay",
            )
        return sight, record

    async def _send(self, external: Callable[[int], Awaitable[None]], session_id: int) -> None:
        async with (await self.manager()).desk.turn():
            await external(session_id)


def _entry(sight: EscrowSight, record: SessionRecord) -> m.Session | None:
    return None if record.state is SessionState.OPENING else sight.sessions.get(record.session_id)


def _address(text: str) -> Address:
    try:
        return Address(text)
    except Exception as error:  # the library signals a bad address with several unrelated exception types
        raise ConfigError("the worker is not an address of TON", why=str(error)[:80]) from None
