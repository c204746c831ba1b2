"""`Escrow`: a client's account. Owns its getters and the messages of its owner; policies live above."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pytoniq_core import Address, Cell

from cocoon_sdk.contracts.accounts import OwnedContract
from cocoon_sdk.contracts.network import Deployment, Network
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.abi_dict import build
from cocoon_sdk.protocol.abi_runtime import Message
from cocoon_sdk.protocol.getters import EscrowGetters
from cocoon_sdk.protocol.session_states import entries_of
from cocoon_sdk.types import Nano

OWNER_GAS: Final = Nano.ton("0.05")
"""Value attached to an owner's message for gas; what is not used stays in the account or comes back."""
REDEEM_GAS: Final = Nano.ton("0.02")
"""Value attached to a redemption by anyone: enough for an escrow with 128 entries."""


def allowed_workers(workers: Iterable[Address] | None) -> Cell | None:
    """Return the dictionary of workers that a hot key may use; None for any worker.

    Raises `MalformedError` for an address outside of workchain 0.
    """
    if workers is None:
        return None
    return build({signing.account_id(worker): Cell.empty() for worker in workers}, 256)


class Escrow(OwnedContract[m.EscrowView]):
    """The account that holds a client's money and pays its workers (docs/protocol.md 2.3)."""

    NAME = "Escrow"
    PURPOSE = c.PURPOSE_ESCROW_EXTERNAL

    @classmethod
    def _deployment(cls, network: Network, owner: Address, index: int, code: Cell | None) -> Deployment:
        return network.escrow(owner, index, code=code)

    @classmethod
    def listed_codes(cls, rules: m.ParamsRules) -> m.Codes:
        """Return the codes that the registry lists for escrows."""
        return m.Codes.from_cell(rules.escrow_codes)

    async def state(self) -> m.EscrowView:
        """Return the whole state; amounts in nanoTON."""
        return await self.get(EscrowGetters.state())

    async def job(self, job_id: int) -> m.Job | None:
        """Return a job's entry, None when it has ended or never was."""
        return await self.get(EscrowGetters.job(job_id))

    async def jobs(self) -> tuple[int, ...]:
        """Return the ids of all jobs that have not ended, in order. Raises `MalformedError`."""
        entries = entries_of((await self.state()).entries)
        return tuple(number for number, entry in entries.items() if isinstance(entry, m.Job))

    async def session(self, session_id: int) -> m.Session | None:
        """Return a session's entry, None when it has ended, never was, or is a job's."""
        return await self.get(EscrowGetters.session(session_id))

    async def sessions(self) -> dict[int, m.Session]:
        """Return all sessions that have not ended, by id. Raises `MalformedError`."""
        entries = entries_of((await self.state()).entries)
        return {number: entry for number, entry in entries.items() if isinstance(entry, m.Session)}

    async def tombstone(self, job_id: int, kind: int) -> m.Tombstone | None:
        """Return an outcome that came back (kind: 0 reward, 1 slash, 2 release)."""
        return await self.get(EscrowGetters.tombstone(job_id, kind))

    async def job_gas(self) -> Nano:
        """Return the gas that one more job sets aside, at the chain's current prices."""
        amount = await self.get(EscrowGetters.job_gas())
        return Nano(amount)

    async def session_gas(self) -> Nano:
        """Return the gas that one more session sets aside besides its deposit: as much as a job's."""
        return await self.job_gas()

    async def dispute_cost(self, session: m.Session) -> Nano:
        """Return what disputing a session takes out of free funds: bond, announcement and gas."""
        params = m.Params.from_cell(session.params)
        return Nano(params.dispute_bond + params.announce_fee + await self.external_cost(3))

    async def external_cost(self, actions: int = 1) -> Nano:
        """Return what an external with this many actions must have covered."""
        amount = await self.get(EscrowGetters.external_cost(actions))
        return Nano(amount)

    # -- messages of the owner ----------------------------------------------------------------------

    def configure(
        self, key: VerifyKey, daily_limit: Nano, *, allowed: Cell | None = None, value: Nano = OWNER_GAS
    ) -> OwnerMessage:
        """Set key and limits at once; the first one creates the account and asks for the parameters."""
        body = m.ConfigureEscrow(query_id=0, hot_key=key.to_int(), daily_limit=daily_limit, allowed=allowed)
        init = None if self.deployment is None else self.deployment.state_init
        return OwnerMessage(self.address, value, body.to_cell(), init)

    def deposit(self, amount: Nano) -> OwnerMessage:
        """Add money."""
        return OwnerMessage(self.address, amount)

    def withdraw(self, amount: Nano) -> OwnerMessage:
        """Take free money out."""
        return self._message(m.Withdraw(query_id=0, amount=amount))

    def set_key(self, key: VerifyKey) -> OwnerMessage:
        """Replace the hot key."""
        return self._message(m.SetKey(query_id=0, key=key.to_int()))

    def set_limits(self, daily_limit: Nano, allowed: Cell | None) -> OwnerMessage:
        """Replace daily limit and allowed workers."""
        return self._message(m.SetEscrowLimits(query_id=0, daily_limit=daily_limit, allowed=allowed))

    def accept_code(self, code_hash: bytes) -> OwnerMessage:
        """Deal with stakes of another listed code from now on."""
        return self._message(m.AcceptCode(query_id=0, code_hash=int.from_bytes(code_hash, "big")))

    def cancel_job(self, job_id: int) -> OwnerMessage:
        """Take an unserved job back."""
        return self._message(m.CancelJob(query_id=0, id=job_id))

    def close_session(self, session_id: int) -> OwnerMessage:
        """End a session without the hot key; the worker then has the close delay to redeem."""
        return self._message(m.CloseSession(query_id=0, id=session_id))

    def dispute_session(self, session_id: int, evidence_hash: bytes, model_id: bytes) -> OwnerMessage:
        """Dispute a guarded session without the hot key, and without its daily limit.

        `evidence_hash` and `model_id` (32 bytes each) as in `signing.dispute_session`.
        """
        evidence, model = int.from_bytes(evidence_hash, "big"), int.from_bytes(model_id, "big")
        return self._message(
            m.DisputeSession(query_id=0, id=session_id, evidence_hash=evidence, model_id=model)
        )

    def _message(self, body: Message) -> OwnerMessage:
        return OwnerMessage(self.address, OWNER_GAS, body.to_cell())

    # -- messages of anyone -------------------------------------------------------------------------

    def finalize(self, job_id: int) -> OwnerMessage:
        """Pay a job whose window or arbitration is over."""
        return self._message(m.Finalize(id=job_id))

    def reclaim_late(self, job_id: int) -> OwnerMessage:
        """Take a job back from a late claimer."""
        return self._message(m.ReclaimLate(id=job_id))

    def redeem(
        self,
        session_id: int,
        amount: Nano,
        signature: bytes,
        *,
        forgo: Nano = signing.NOTHING,
        value: Nano = REDEEM_GAS,
    ) -> OwnerMessage:
        """Redeem a voucher for a session's worker; what is left of `value` goes to the worker too.

        The voucher states `amount` and `forgo` together (`signing.redeem`). Anyone may; only the worker's own
        stake can also end the session.
        """
        cell = signing.voucher_cell(signature, forgo)
        body = m.Redeem(id=session_id, amount=amount, close=False, signature=cell)
        return OwnerMessage(self.address, value, body.to_cell())

    def settle_session(self, session_id: int) -> OwnerMessage:
        """Free what is left of a session whose time is over; anyone may."""
        return self._message(m.SettleSession(id=session_id))

    def deliver(self, job_id: int, kind: int) -> OwnerMessage:
        """Send an outcome that came back once more."""
        return self._message(m.Deliver(id=job_id, kind=kind))

    def resolve(self, verdict: m.Resolve) -> OwnerMessage:
        """Hand in the arbiters' verdict."""
        return OwnerMessage(self.address, Nano.ton("0.1"), verdict.to_cell())

    def sync_params(self) -> OwnerMessage:
        """Ask the registry for the parameters in force."""
        return self._message(m.SyncParams(query_id=0))
