"""`WorkerStake`: a worker's account. Owns its getters and the messages of its owner; policies live above."""

from __future__ import annotations

from dataclasses import dataclass

from pytoniq_core import Address, Cell

from cocoon_sdk.contracts.accounts import OwnedContract
from cocoon_sdk.contracts.escrow import OWNER_GAS
from cocoon_sdk.contracts.network import Deployment, Network
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.abi_dict import parse as parse_dict
from cocoon_sdk.protocol.abi_runtime import Message
from cocoon_sdk.protocol.getters import WorkerStakeGetters
from cocoon_sdk.types import Nano

BUCKET_EARNED = 0
BUCKET_GAS = 1


@dataclass(frozen=True, slots=True)
class StakeLock:
    """Collateral of one escrow's jobs, in nanoTON.

    `number` counts upwards (it comes back after 8 million locks) and ends with the slot of the table.
    `escrow` is an account id. After `end` (unix seconds) anyone can free it.
    """

    number: int
    escrow: int
    collateral: Nano
    end: int

    @classmethod
    def of(cls, lock: m.Lock) -> StakeLock:
        """Return what a leaf of the table says."""
        return cls(lock.number, lock.tag ^ lock.number, Nano(lock.collateral), lock.end)

    @property
    def slot(self) -> int:
        """Where it stands in the table, from 1 to 255."""
        return self.number & 0xFF


class WorkerStake(OwnedContract[m.StakeView]):
    """The account that backs a worker's promises and collects what it earned (docs/protocol.md 2.2)."""

    NAME = "WorkerStake"
    PURPOSE = c.PURPOSE_STAKE_EXTERNAL

    @classmethod
    def _deployment(cls, network: Network, owner: Address, index: int, code: Cell | None) -> Deployment:
        return network.stake(owner, index, code=code)

    @classmethod
    def listed_codes(cls, rules: m.ParamsRules) -> m.Codes:
        """Return the codes that the registry lists for stakes."""
        return m.Codes.from_cell(rules.stake_codes)

    async def state(self) -> m.StakeView:
        """Return the whole state; amounts in nanoTON."""
        return await self.get(WorkerStakeGetters.state())

    async def lock(self, number: int) -> StakeLock | None:
        """Return a lock, None when it was emptied or never was."""
        found = await self.get(WorkerStakeGetters.lock(number))
        return None if found is None else StakeLock.of(found)

    async def locks(self) -> dict[int, StakeLock]:
        """Return all locks by number. Raises `MalformedError`."""
        cell = await self.get(WorkerStakeGetters.locks())
        leaves = () if cell is None else (leaf for _, leaf in parse_dict(cell, 8))
        return {lock.number: lock for lock in (StakeLock.of(m.Lock.read(leaf)) for leaf in leaves)}

    async def work_cost(self) -> Nano:
        """Return what one submission takes out of gas, at the chain's current prices."""
        amount = await self.get(WorkerStakeGetters.work_cost())
        return Nano(amount)

    async def claim_cost(self) -> Nano:
        """Return what one claim takes out of gas besides its bond, at the chain's current prices."""
        amount = await self.get(WorkerStakeGetters.claim_cost())
        return Nano(amount)

    async def external_cost(self, actions: int = 1) -> Nano:
        """Return what an external with this many actions must have covered."""
        amount = await self.get(WorkerStakeGetters.external_cost(actions))
        return Nano(amount)

    # -- messages of the owner ----------------------------------------------------------------------

    def configure(
        self,
        key: VerifyKey,
        *,
        max_locked: Nano,
        daily_lock: Nano,
        info_hash: bytes = bytes(32),
        value: Nano = OWNER_GAS,
    ) -> OwnerMessage:
        """Set key and limits at once; the first one creates the account and asks for the parameters."""
        body = m.ConfigureStake(
            query_id=0,
            operator_key=key.to_int(),
            info_hash=int.from_bytes(info_hash, "big"),
            max_locked=max_locked,
            daily_lock=daily_lock,
        )
        init = None if self.deployment is None else self.deployment.state_init
        return OwnerMessage(self.address, value, body.to_cell(), init)

    def add_gas(self, amount: Nano) -> OwnerMessage:
        """Add gas money."""
        return OwnerMessage(self.address, amount)

    def add_stake(self, amount: Nano) -> OwnerMessage:
        """Add stake; the gas on top stays in the account as gas."""
        body = m.AddStake(query_id=0, amount=amount)
        return OwnerMessage(self.address, amount + OWNER_GAS, body.to_cell())

    def unbond(self, amount: Nano) -> OwnerMessage:
        """Start to take stake out."""
        return self._message(m.Unbond(query_id=0, amount=amount))

    def complete_unbond(self) -> OwnerMessage:
        """Take unbonded stake out after its delay."""
        return self._message(m.CompleteUnbond(query_id=0))

    def withdraw_earned(self, amount: Nano) -> OwnerMessage:
        """Take earnings out; the protocol's fee that is due goes along."""
        return self._message(m.WithdrawBucket(query_id=0, bucket=BUCKET_EARNED, amount=amount))

    def withdraw_gas(self, amount: Nano) -> OwnerMessage:
        """Take spare gas out."""
        return self._message(m.WithdrawBucket(query_id=0, bucket=BUCKET_GAS, amount=amount))

    def set_key(self, key: VerifyKey) -> OwnerMessage:
        """Replace the operator key."""
        return self._message(m.SetKey(query_id=0, key=key.to_int()))

    def set_limits(self, max_locked: Nano, daily_lock: Nano) -> OwnerMessage:
        """Replace the limits of what the operator may lock."""
        return self._message(m.SetStakeLimits(query_id=0, max_locked=max_locked, daily_lock=daily_lock))

    def accept_code(self, code_hash: bytes) -> OwnerMessage:
        """Deal with escrows of another listed code from now on."""
        return self._message(m.AcceptCode(query_id=0, code_hash=int.from_bytes(code_hash, "big")))

    # -- messages of anyone -------------------------------------------------------------------------

    def release_expired(self, lock: int) -> OwnerMessage:
        """Free all that is left in a lock that outlived every job."""
        return self._message(m.ReleaseExpired(lock=lock))

    def sync_params(self) -> OwnerMessage:
        """Ask the registry for the parameters in force."""
        return self._message(m.SyncParams(query_id=0))

    def _message(self, body: Message) -> OwnerMessage:
        return OwnerMessage(self.address, OWNER_GAS, body.to_cell())
