"""A client's sessions as the chain has them, and the externals that change them.

Owns checking beforehand, in words and numbers, what the contract will check anyway. Must not know what is
stored. All amounts are nanoTON, all times block times in unix seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.client.checks import params_of
from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.sessions.errors import SessionRefusedError, SpendLimitError
from cocoon_sdk.client.sessions.funds.records import SessionRecord
from cocoon_sdk.contracts.accounts import VALID_FOR_S, Plan
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.errors import InsufficientEscrowError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.abi_dict import parse as parse_dict
from cocoon_sdk.protocol.session_states import SessionState, SessionStatus, entries_of, settles_at, state_of
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.vouchers import MAX_VOUCHER, voucher_key
from cocoon_sdk.types import Nano

ANY_EXTERNAL_S: Final = VALID_FOR_S + 30
"""After so many seconds of block time an external that was sent can take effect no more."""


@dataclass(frozen=True, slots=True)
class EscrowSight:
    """What one look at the escrow shows: block time, state, domain, and sessions by number."""

    now: int
    view: m.EscrowView
    domain: Domain
    sessions: dict[int, m.Session]


@dataclass(frozen=True, slots=True)
class Room:
    """What the escrow can put into a session now; `gas` comes on top of it."""

    free: Nano
    bucket: Nano
    gas: Nano

    @property
    def most(self) -> Nano:
        """The largest amount; may be negative."""
        return min(self.free, self.bucket) - self.gas


def is_open(entry: m.Session) -> bool:
    """Tell whether vouchers count on: the session is not closing."""
    return entry.status == SessionStatus.OPEN


def new_key(context: ClientContext, record: SessionRecord) -> SigningKey:
    """Return the voucher key that a session is opened with: it follows from hot key and place."""
    return voucher_key(context.hot_key, record.escrow, record.session_id)


def key_of(context: ClientContext, record: SessionRecord, entry: m.Session) -> SigningKey | None:
    """Return the voucher key of a session on chain, also if an earlier hot key of ours opened it."""
    for hot_key in (context.hot_key, *context.previous_hot_keys):
        key = voucher_key(hot_key, record.escrow, record.session_id)
        if key.verify_key.to_int() == entry.voucher_key:
            return key
    return None


def guard_of(entry: m.Session | None) -> int:
    """Return the lock of the collateral that stands for a session, 0 when none does."""
    return entry.lock if entry is not None and entry.collateral else 0


def bond_of(entry: m.Session) -> Nano:
    """Return bond and announcement of a dispute, by the session's own parameters."""
    params = m.Params.from_cell(entry.params)
    return Nano(params.dispute_bond + params.announce_fee)


def check_disputable(session_id: int, entry: m.Session, now: int) -> None:
    """Raise `SessionRefusedError` when a session cannot be disputed (any more)."""
    what = f"cannot dispute session {session_id}"
    state = state_of(entry)
    if state is SessionState.DISPUTED:
        raise SessionRefusedError(what, why="it is disputed already", hint="Wait for the arbiters' verdict")
    if not state.is_guarded:
        why = "its worker has no collateral in it, or a verdict has freed it"
        raise SessionRefusedError(what, why=why, hint="Close it, and leave this worker")
    if now >= settles_at(entry):
        raise SessionRefusedError(what, why="its time is over", hint="Settle it")


def is_ours(context: ClientContext, record: SessionRecord, entry: m.Session) -> bool:
    """Tell whether an entry is what the record was opened as, and not somebody else's under that number."""
    return (
        entry.worker == signing.account_id(record.worker)
        and entry.deposit == record.deposit
        # A close moves the deadline; until then it tells one opening from any other.
        and (entry.deadline == record.expires or not is_open(entry))
        and key_of(context, record, entry) is not None
    )


class EscrowSide:
    """Reads and writes the sessions of one escrow. Methods raise what `OwnedContract.act` raises."""

    def __init__(self, context: ClientContext) -> None:
        self._context, self._contract = context, context.escrow

    @property
    def address(self) -> Address:
        """The escrow."""
        return self._contract.address

    async def now(self) -> int:
        """Return the newest block's time."""
        return (await self._context.chain.head()).now

    async def look(self) -> EscrowSight:
        """Read everything at once."""
        now = await self.now()
        view = await self._contract.state()
        entries = entries_of(view.entries)
        sessions = {number: entry for number, entry in entries.items() if isinstance(entry, m.Session)}
        return EscrowSight(now, view, await self._contract.domain(view), sessions)

    async def session(self, session_id: int) -> m.Session | None:
        """Return one session's entry."""
        return await self._contract.session(session_id)

    async def stake_key(self, worker: Address) -> int:
        """Return the operator key that a stake has now."""
        return (await WorkerStake.at(self._context.chain, worker).state()).operator_key

    # -- opening ------------------------------------------------------------------------------------

    async def room_to_open(self, view: m.EscrowView, worker: Address) -> Room:
        """Return what a new session may hold. Raises `SessionRefusedError` when there can be none."""
        what = f"cannot open a session with {worker.to_str()}"
        if view.jobs >= c.MAX_JOBS:
            why = f"{view.jobs} jobs and sessions are open, at most {c.MAX_JOBS}"
            raise SessionRefusedError(what, why=why, hint="Wait until some have ended")
        if view.allowed is not None:
            account = signing.account_id(worker)
            if all(number != account for number, _ in parse_dict(view.allowed, 256)):
                why, hint = "the owner does not let the hot key use it", "See `cocoon escrow set-limits`"
                raise SessionRefusedError(what, why=why, hint=hint)
        gas = await self._contract.session_gas()
        # The external that opens is paid out of free funds too, and before the rest is looked at.
        free = Nano(view.free) - await self._contract.external_cost()
        return Room(free, Nano(view.bucket), gas)

    def lifetime(self, view: m.EscrowView, wanted_s: int) -> int:
        """Return how long a session may live, in seconds. Raises `PendingError`."""
        return min(wanted_s, params_of(view).max_phases)

    async def open(self, numbered: Callable[[m.EscrowView], Awaitable[SessionRecord]]) -> None:
        """Open what `numbered` returns for the escrow's present state; called again for each attempt."""

        async def attempt(view: m.EscrowView) -> Plan:
            record = await numbered(view)
            action = signing.open_session(
                record.session_id,
                record.worker,
                new_key(self._context, record).verify_key,
                record.deposit,
                record.expires,
            )
            return Plan([action], record.deposit + await self._contract.session_gas())

        await self._contract.act(self._context.hot_key, attempt)

    # -- the others ---------------------------------------------------------------------------------

    async def room_to_add(self, view: m.EscrowView) -> Room:
        """Return what a top-up may add."""
        gas = await self._contract.external_cost()
        return Room(Nano(view.free), Nano(view.bucket), gas)

    async def top_up(self, session_id: int, amount: Nano, planned: Callable[[], Awaitable[None]]) -> None:
        """Add to the deposit; `planned` is called before each attempt leaves."""

        async def attempt(_view: m.EscrowView) -> Plan:
            await planned()
            cost = await self._contract.external_cost()
            return Plan([signing.top_up_session(session_id, amount)], amount + cost)

        await self._contract.act(self._context.hot_key, attempt)

    async def close(self, session_id: int) -> None:
        """End a session; its worker then has time to redeem."""
        await self._contract.send_external(self._context.hot_key, signing.close_session(session_id))

    async def room_to_dispute(self, view: m.EscrowView, entry: m.Session) -> Room:
        """Return what is there for a dispute's bond and announcement; its gas comes on top."""
        gas = await self._contract.dispute_cost(entry) - bond_of(entry)
        return Room(Nano(view.free), Nano(view.bucket), Nano(gas))

    async def dispute(self, session_id: int, entry: m.Session, evidence_hash: bytes, model_id: bytes) -> None:
        """Dispute a guarded session, announced on the market of `model_id`."""

        async def attempt(_view: m.EscrowView) -> Plan:
            action = signing.dispute_session(session_id, evidence_hash, model_id)
            return Plan([action], await self._contract.dispute_cost(entry))

        await self._contract.act(self._context.hot_key, attempt)

    async def settle(self, session_id: int) -> None:
        """Free what is left of a session whose time is over."""
        await self._contract.send_external(self._context.hot_key, signing.settle_session(session_id))


def check_room(room: Room, least: Nano, what: str) -> None:
    """Raise `InsufficientEscrowError` or `SpendLimitError` when not even `least` fits."""
    if least + room.gas > room.free:
        raise InsufficientEscrowError(
            what,
            why=f"{max(Nano(0), room.free)} are free; needed are {least} and {room.gas} for gas",
            hint=f"Deposit {least + room.gas - room.free} more, or close sessions that are not used",
        )
    if least + room.gas > room.bucket:
        raise SpendLimitError(
            what,
            why=f"the hot key may spend {max(Nano(0), room.bucket)} now; needed are {least + room.gas}",
            hint="Wait until its daily limit refills, or let the owner raise it (escrow.set_limits)",
        )


def fits_deposit(amount: int) -> Nano:
    """Return the amount, or the most that a deposit can be."""
    return Nano(min(amount, MAX_VOUCHER))
