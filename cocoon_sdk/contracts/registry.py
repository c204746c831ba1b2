"""`Registry`: parameters, code lists and models of one network.

Owns reading the registry and the messages of its owner. Must not know who else reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.base import AccountStatus, Chain
from cocoon_sdk.clock import Clock
from cocoon_sdk.contracts.accounts import Contract
from cocoon_sdk.contracts.network import Deployment, registry_deployment
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.errors import AccountNotFoundError, MalformedError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.abi_cells import Reader
from cocoon_sdk.protocol.abi_runtime import Message
from cocoon_sdk.protocol.canonical import canonical_bytes
from cocoon_sdk.protocol.getters import RegistryGetters
from cocoon_sdk.protocol.hashing import sha256
from cocoon_sdk.types import Hash, Nano

_MAX_NAME_BYTES = 127
PROPOSE_PARAMS = 0
PROPOSE_MODEL = 1
_GAS = Nano.ton("0.05")


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model that the registry lists. `entry_hash` is what workers' terms name; fee in nanoTON."""

    model_id: Hash
    name: str
    arbiter_fee: Nano
    calibration_hash: Hash
    entry_hash: Hash

    @classmethod
    def from_cell(cls, model_id: bytes, cell: Cell) -> RegisteredModel:
        """Read an entry. Raises `MalformedError`."""
        entry = m.ModelEntry.from_cell(cell)
        source = Reader.of_cell(entry.name)
        size = source.bits_left // 8
        if source.bits_left % 8 or source.refs_left or size > _MAX_NAME_BYTES:
            raise MalformedError("a model's name in the registry cannot be read")
        try:
            name = source.uint(size * 8).to_bytes(size, "big").decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedError("a model's name in the registry is not UTF-8") from None
        return cls(
            Hash(bytes(model_id)),
            name,
            entry.arbiter_fee,
            Hash(entry.calibration_hash.to_bytes(32, "big")),
            Hash(cell.hash),
        )


def model_entry(name: str, calibration_hash: bytes, arbiter_fee: Nano) -> Cell:
    """Return the registry entry of a model. Raises `MalformedError` for a name beyond 127 bytes."""
    text = name.encode("utf-8")
    if len(text) > _MAX_NAME_BYTES:
        raise MalformedError(
            "a model's name is too long", why=f"{len(text)} bytes, at most {_MAX_NAME_BYTES}"
        )

    return m.ModelEntry(
        arbiter_fee=arbiter_fee,
        calibration_hash=int.from_bytes(calibration_hash, "big"),
        name=begin_cell().store_bytes(text).end_cell(),
    ).to_cell()


def model_id_of(manifest: dict[str, Any]) -> Hash:
    """Return the model id: SHA-256 of the canonical JSON of a manifest. Raises `MalformedError`."""
    return sha256(canonical_bytes(manifest))


class Registry(Contract):
    """The registry of a network."""

    NAME = "Registry"

    def __init__(
        self,
        chain: Chain,
        address: Address,
        *,
        clock: Clock | None = None,
        deployment: Deployment | None = None,
    ) -> None:
        super().__init__(chain, address, clock=clock)
        self.deployment = deployment

    @classmethod
    def from_init(
        cls, chain: Chain, owner: Address, params: Cell, models: dict[bytes, Cell] | None = None
    ) -> Registry:
        """Wrap the registry that an owner starts a network with; it may not exist yet."""
        deployment = registry_deployment(owner, params, models)
        return cls(chain, deployment.address, deployment=deployment)

    async def params_cell(self) -> Cell:
        """Return the parameter cell in force; its hash is what claims and submissions bind."""
        return await self.get(RegistryGetters.params())

    async def params(self) -> m.Params:
        """Return the parameters in force."""
        return m.Params.from_cell(await self.params_cell())

    async def rules(self) -> m.ParamsRules:
        """Return the part of the parameters that only the slower paths need."""
        return m.ParamsRules.from_cell((await self.params()).rules)

    async def owner(self) -> Address:
        """Return who governs."""
        return await self.get(RegistryGetters.owner())

    async def pending_owner(self) -> Address | None:
        """Return who may accept ownership."""
        return await self.get(RegistryGetters.pending_owner())

    async def proposal(self) -> m.Proposal | None:
        """Return the change that waits for its timelock."""
        return await self.get(RegistryGetters.proposal())

    async def model(self, model_id: bytes) -> RegisteredModel | None:
        """Return a model's entry, None when the registry lists no such model."""
        cell = await self.get(RegistryGetters.model(int.from_bytes(model_id, "big")))
        return None if cell is None else RegisteredModel.from_cell(model_id, cell)

    async def models(self) -> tuple[RegisteredModel, ...]:
        """Return all models in the order of their ids, read out of the account's data.

        Entries that cannot be read are left out. Raises `AccountNotFoundError`.
        """
        account = await self.account()
        if account.status is not AccountStatus.ACTIVE or account.data is None:
            raise AccountNotFoundError(f"there is no registry at {self.address.to_str()}")
        found: list[RegisteredModel] = []
        for number, cell in sorted(m.RegistryData.from_cell(account.data).models.items()):
            try:
                found.append(RegisteredModel.from_cell(number.to_bytes(32, "big"), cell))
            except MalformedError:
                continue
        return tuple(found)

    # -- messages of the owner ----------------------------------------------------------------------

    def deploy(self, value: Nano) -> OwnerMessage:
        """Create the registry. Only for one wrapped with `from_init`."""
        assert self.deployment is not None
        return OwnerMessage(self.address, value, state_init=self.deployment.state_init)

    def propose_params(self, params: Cell) -> OwnerMessage:
        """Propose new parameters; the timelock runs from the message's arrival."""
        return self._message(m.Propose(query_id=0, kind=PROPOSE_PARAMS, model_id=0, content=params))

    def propose_model(self, model_id: bytes, entry: Cell) -> OwnerMessage:
        """Propose a model's entry; the timelock runs from the message's arrival."""
        number = int.from_bytes(model_id, "big")
        return self._message(m.Propose(query_id=0, kind=PROPOSE_MODEL, model_id=number, content=entry))

    def cancel_proposal(self) -> OwnerMessage:
        """Withdraw the proposal."""
        return self._message(m.CancelProposal(query_id=0))

    def execute(self) -> OwnerMessage:
        """Anyone: put the proposal into force after its timelock."""
        return self._message(m.Execute(query_id=0))

    def transfer_ownership(self, new_owner: Address) -> OwnerMessage:
        """Offer the registry to a new owner, who has to accept."""
        return self._message(m.TransferOwnership(query_id=0, new_owner=new_owner))

    def accept_ownership(self) -> OwnerMessage:
        """New owner: accept."""
        return self._message(m.AcceptOwnership(query_id=0))

    def withdraw_treasury(self, amount: Nano, to: Address) -> OwnerMessage:
        """Pay out of the treasury; the reserve stays."""
        return self._message(m.WithdrawTreasury(query_id=0, amount=amount, to=to))

    def _message(self, body: Message) -> OwnerMessage:
        return OwnerMessage(self.address, _GAS, body.to_cell())
