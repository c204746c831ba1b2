"""A worker for a local network: its stake, its settings, its service.

Owns what it costs and charges here, and waiting until it stands. Must not know who asks it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.wallets import KeyWallet
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto.keyfiles import read_signing_key_file, write_key_file
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.demo.engines import MAX_CONTEXT, MAX_OUTPUT, ReadyEngine
from cocoon_sdk.demo.localnet import LOOPBACK, LocalNetwork
from cocoon_sdk.errors import AccountNotFoundError, ChainTimeoutError
from cocoon_sdk.protocol.metering import MAX_INCREMENT
from cocoon_sdk.types import Nano
from cocoon_worker.config import (
    EndpointConfig,
    EngineConfig,
    OfferConfig,
    ServingConfig,
    SessionsConfig,
    WorkerConfig,
)
from cocoon_worker.service import WorkerService
from cocoon_worker.setup import create_stake

STAKE: Final = Nano.ton(5)
WORKER_GAS: Final = Nano.ton(1)
INPUT_PRICE: Final = Nano.ton(10)
"""Per million tokens: dear for so small a model, so that a short demo earns more than a redemption costs."""
OUTPUT_PRICE: Final = Nano.ton(20)
INCREMENT: Final = MAX_INCREMENT
"""What either side of a session risks here: enough for a long prompt at these prices."""
MINIMUM_PRICE: Final = Nano.ton("0.001")
SETTLE_S: Final = 60.0
_KEY_FILE: Final = "operator.key"


@dataclass(frozen=True, slots=True)
class Staff:
    """A staked worker that does not run yet."""

    stake: Address
    config: WorkerConfig
    operator: SigningKey
    engine: ReadyEngine

    def service(self, local: LocalNetwork) -> WorkerService:
        """Return the worker's service with a connection of its own."""
        return WorkerService(self.config, local.connect(), self.engine.engine, operator=self.operator)


async def stake_worker(local: LocalNetwork, ready: ReadyEngine, wallet: KeyWallet, folder: Path) -> Staff:
    """Create and fund a stake from `wallet`, and write the worker's files into `folder`.

    Raises what the wallet raises, and `ChainTimeoutError`.
    """
    operator = SigningKey.generate()
    key_file = folder / _KEY_FILE
    write_key_file(key_file, operator)
    stake = WorkerStake.from_owner(local.connect(), local.network, wallet.address)
    local.name("worker's stake", stake.address)
    await wallet.send(create_stake(stake, operator.verify_key, amount=STAKE, gas=WORKER_GAS))

    async def is_staked() -> bool:
        try:
            view = await stake.state()
        except AccountNotFoundError:
            return False
        return view.active and view.stake > 0

    await until(stake.chain, is_staked, "the stake did not become active")
    config = _config(local, wallet.address, key_file, folder, ready)
    return Staff(stake.address, config, operator, ready)


def rehire(local: LocalNetwork, ready: ReadyEngine, owner: Address, folder: Path) -> Staff:
    """Return the worker that `stake_worker` made, from its files in `folder`. Raises `KeyMaterialError`."""
    key_file = folder / _KEY_FILE
    operator = read_signing_key_file(key_file)
    stake = WorkerStake.from_owner(local.connect(), local.network, owner)
    local.name("worker's stake", stake.address)
    return Staff(stake.address, _config(local, owner, key_file, folder, ready), operator, ready)


def _config(
    local: LocalNetwork, owner: Address, key_file: Path, folder: Path, ready: ReadyEngine
) -> WorkerConfig:
    port = _free_port()
    offer = OfferConfig(
        model=ready.model.name,
        model_id=ready.model.model_id.hex(),
        input_price=INPUT_PRICE,
        output_price=OUTPUT_PRICE,
        minimum_price=MINIMUM_PRICE,
        max_context=MAX_CONTEXT,
        max_output_tokens=MAX_OUTPUT,
        bytes_per_token=1.0,
    )
    return WorkerConfig(
        registry=local.network.registry.to_str(),
        owner=owner.to_str(),
        operator_key_file=key_file,
        prekey_dir=folder / "prekeys",
        data_dir=folder / "worker",
        # Says what the engine is; the service is handed the engine itself.
        engine=EngineConfig(kind=ready.choice.value, model_path=ready.folder),
        offers=(offer,),
        sessions=SessionsConfig(serving=ServingConfig(max_unpaid=INCREMENT)),
        endpoint=EndpointConfig(host=LOOPBACK, port=port, public_url=f"http://{LOOPBACK}:{port}"),
    )


async def until(chain: Chain, look: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Look at every block until something is so. Raises `ChainTimeoutError` that says what did not happen."""
    try:
        async with asyncio.timeout(SETTLE_S):
            head = await chain.head()
            while not await look():
                head = await chain.wait_head(head.seqno, 1.0)
    except TimeoutError:
        raise ChainTimeoutError("cannot go on", why=f"{otherwise} within {SETTLE_S:g} s") from None


def _free_port() -> int:
    """Pick a free loopback port: the worker announces it before it is bound."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
