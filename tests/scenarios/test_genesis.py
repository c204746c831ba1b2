"""A network from nothing: one wallet deploys registry and markets, and may be interrupted on the way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.wallets import SignerWallet
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.contracts.genesis import FirstModel, Genesis, deploy_genesis, plan_genesis
from cocoon_sdk.contracts.market import Market
from cocoon_sdk.contracts.parameters import ArbiterIdentity, NetworkParameters
from cocoon_sdk.contracts.registry import Registry
from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.errors import ChainTimeoutError, ConfigError
from cocoon_sdk.explain import recognise
from cocoon_sdk.explain.facts import Standing
from cocoon_sdk.protocol.hashing import sha256
from cocoon_sdk.sandbox import Blockchain, Ledger
from cocoon_sdk.types import Hash, Nano
from tests.helpers.suite import key_of

MODELS = [
    FirstModel(Hash(sha256(name.encode())), name, sha256(b"calibration"), Nano.ton("0.15"))
    for name in ("one", "two", "three", "four", "five")
]


@pytest.fixture
async def governor(blockchain: Blockchain, chain: Chain) -> SignerWallet:
    return SignerWallet(chain, blockchain.actor("governor", Nano.ton(10)))


@pytest.fixture
async def genesis(blockchain: Blockchain, governor: SignerWallet) -> Genesis:
    arbiters = [
        ArbiterIdentity(key_of(f"arbiter {i}").verify_key, blockchain.actor(f"arbiter {i}").address)
        for i in range(3)
    ]
    return plan_genesis(governor.address, NetworkParameters(arbiters=arbiters), MODELS)


async def test_governor_can_start_a_network_with_several_models(
    blockchain: Blockchain, chain: Chain, governor: SignerWallet, genesis: Genesis
) -> None:
    before = blockchain.balance(governor.address)
    network = await deploy_genesis(chain, governor, genesis)
    registry = Registry.at(chain, network.registry)
    assert {model.name for model in await registry.models()} == {model.name for model in MODELS}
    assert await registry.owner() == governor.address
    for model, deployment in zip(MODELS, genesis.markets, strict=True):
        assert await Market.at(chain, deployment.address).model_id() == model.model_id
        assert (await recognise(chain, deployment.address, network)).standing is Standing.GENUINE
    spent = before - blockchain.balance(governor.address)
    assert genesis.cost <= spent <= genesis.cost + Nano.ton("0.2")
    Ledger.of(blockchain).assert_balanced()


async def test_governor_can_go_on_after_an_interruption(
    blockchain: Blockchain, chain: Chain, governor: SignerWallet, genesis: Genesis
) -> None:
    first, value = genesis.accounts[0]
    await governor.send([OwnerMessage(first.address, value, state_init=first.state_init)])
    await deploy_genesis(chain, governor, genesis)
    before = blockchain.balance(governor.address)
    await deploy_genesis(chain, governor, genesis)
    assert blockchain.balance(governor.address) == before


class _DeafWallet:
    """Takes messages and sends nothing."""

    def __init__(self, wallet: SignerWallet) -> None:
        self.address = wallet.address

    async def send(self, messages: Sequence[OwnerMessage]) -> None:
        """Drop them."""


async def test_governor_is_told_when_an_account_stays_inactive(
    chain: Chain, governor: SignerWallet, genesis: Genesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(1)

    async def wait_head(after_seqno: int, timeout_s: float) -> object:
        clock.advance(timeout_s)
        return await chain.head()

    monkeypatch.setattr(chain, "wait_head", wait_head)
    with pytest.raises(ChainTimeoutError, match="not active after"):
        await deploy_genesis(chain, _DeafWallet(governor), genesis, clock=clock)


def test_governor_cannot_list_a_model_twice(governor: SignerWallet) -> None:
    with pytest.raises(ConfigError, match="twice"):
        plan_genesis(governor.address, NetworkParameters(arbiters=[]), [MODELS[0], MODELS[0]])
