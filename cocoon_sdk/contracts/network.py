"""Addresses of one network: every account follows from the registry, an identity and a code.

Owns derivation and state-init cells. Must not talk to a chain.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.contracts.code import code_cell
from cocoon_sdk.protocol.messages import AccountIdentity, MarketIdentity, RegistryData


@dataclass(frozen=True, slots=True)
class Deployment:
    """An account that may not exist yet: its address and the cells that create it."""

    address: Address
    code: Cell = field(repr=False)
    data: Cell = field(repr=False)

    @classmethod
    def of(cls, code: Cell, data: Cell) -> Deployment:
        """Compute the address in workchain 0."""
        return cls(Address((0, _init(code, data).hash)), code, data)

    @property
    def state_init(self) -> Cell:
        """The StateInit cell: code and data."""
        return _init(self.code, self.data)


def _init(code: Cell, data: Cell) -> Cell:
    return begin_cell().store_uint(0b00110, 5).store_ref(code).store_ref(data).end_cell()


def registry_deployment(owner: Address, params: Cell, models: dict[bytes, Cell] | None = None) -> Deployment:
    """Return the registry that an owner starts a network with: its parameters and its first models."""
    table = {int.from_bytes(model, "big"): entry for model, entry in (models or {}).items()}
    data = RegistryData(owner=owner, pending_owner=None, params=params, models=table, proposal=None)
    return Deployment.of(code_cell("Registry"), data.to_cell())


@dataclass(frozen=True, slots=True)
class Network:
    """One network, named by its registry. The code of this package's artifacts unless another is given."""

    registry: Address

    def escrow(self, owner: Address, index: int = 0, *, code: Cell | None = None) -> Deployment:
        """Return the escrow of a client's owner wallet (docs/protocol.md 2, derived addresses)."""
        data = AccountIdentity(registry=self.registry, owner=owner, index=index)
        return Deployment.of(code or code_cell("Escrow"), data.to_cell())

    def stake(self, owner: Address, index: int = 0, *, code: Cell | None = None) -> Deployment:
        """Return the stake of a worker's owner wallet."""
        data = AccountIdentity(registry=self.registry, owner=owner, index=index)
        return Deployment.of(code or code_cell("WorkerStake"), data.to_cell())

    def market(self, model_id: bytes) -> Deployment:
        """Return the market of a model."""
        data = MarketIdentity(registry=self.registry, model_id=int.from_bytes(model_id, "big"))
        return Deployment.of(code_cell("Market"), data.to_cell())
