"""Bringing up a whole network: registry with its first models, and a market for each, from one wallet.

Owns the order of messages and waiting until everything is active. Must not know adapters or wallets' keys.
Running it again goes on where an interrupted run stopped: every address follows from what is deployed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import AccountStatus, Chain
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.contracts.network import Deployment, Network, registry_deployment
from cocoon_sdk.contracts.parameters import NetworkParameters
from cocoon_sdk.contracts.registry import model_entry
from cocoon_sdk.contracts.sender import OwnerMessage, OwnerWallet
from cocoon_sdk.errors import ChainTimeoutError, ConfigError
from cocoon_sdk.types import Hash, Nano

REGISTRY_VALUE: Final = Nano.ton("0.5")
"""What the registry starts with: its reserve and the gas of its first answers."""
MARKET_VALUE: Final = Nano.ton("0.05")
_WAIT_S: Final = 180
_BLOCK_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class FirstModel:
    """A model that the registry lists from the start: without the timelock, since nobody is there yet.

    `model_id` is the hash of its manifest, `calibration_hash` that of the calibration document.
    """

    model_id: Hash
    name: str
    calibration_hash: Hash
    arbiter_fee: Nano

    def entry(self) -> Cell:
        """Return the registry entry, whose cell hash workers' terms name. Raises `MalformedError`."""
        return model_entry(self.name, self.calibration_hash, self.arbiter_fee)


@dataclass(frozen=True, slots=True)
class Genesis:
    """What a new network consists of; nothing of it need exist yet."""

    registry: Deployment
    markets: tuple[Deployment, ...]

    @property
    def network(self) -> Network:
        """The network, as everything else names it."""
        return Network(self.registry.address)

    @property
    def accounts(self) -> tuple[tuple[Deployment, Nano], ...]:
        """All accounts to deploy, in order, each with the nanoTON it is sent."""
        return (self.registry, REGISTRY_VALUE), *((market, MARKET_VALUE) for market in self.markets)

    @property
    def cost(self) -> Nano:
        """What deploying takes out of the governor's wallet, without its own fees."""
        return Nano(sum(value for _, value in self.accounts))


def plan_genesis(
    governor: Address, parameters: NetworkParameters, models: Sequence[FirstModel] = ()
) -> Genesis:
    """Compute all addresses of a new network that `governor` will own.

    Raises `ConfigError` for a model that is listed twice, `MalformedError` for values that fit no cell.
    """
    entries = {bytes(model.model_id): model.entry() for model in models}
    if len(entries) != len(models):
        raise ConfigError("cannot start a network", why="a model is listed twice")
    registry = registry_deployment(governor, parameters.to_cell(), entries)
    network = Network(registry.address)
    return Genesis(registry, tuple(network.market(model.model_id) for model in models))


async def deploy_genesis(
    chain: Chain, governor: OwnerWallet, genesis: Genesis, *, clock: Clock | None = None
) -> Network:
    """Deploy what is missing of a planned network, and return it once every account is active.

    Raises what the wallet raises, and `ChainTimeoutError` when an account stays inactive.
    """
    missing = [
        OwnerMessage(deployment.address, value, state_init=deployment.state_init)
        for deployment, value in genesis.accounts
        if not await _is_active(chain, deployment.address)
    ]
    if missing:
        await governor.send(missing)
    clock = clock or SystemClock()
    give_up = clock.now() + _WAIT_S
    head = await chain.head()
    for deployment, _ in genesis.accounts:
        while not await _is_active(chain, deployment.address):
            left = give_up - clock.now()
            if left <= 0:
                raise ChainTimeoutError(
                    f"{deployment.address.to_str()} was not deployed",
                    why=f"it is not active after {_WAIT_S} s",
                    hint="Look at the governor's wallet; run it again to go on",
                )
            head = await chain.wait_head(head.seqno, min(left, _BLOCK_WAIT_S))
    return genesis.network


async def _is_active(chain: Chain, address: Address) -> bool:
    return (await chain.account(address)).status is AccountStatus.ACTIVE
