"""Owner wallets on the sandbox: the same money arrives whoever signs."""

from __future__ import annotations

import pytest
from pytoniq_core import Address, begin_cell
from tonsdk.contract.wallet import Wallets, WalletVersionEnum

from cocoon_sdk.client.wallets import KeyWallet, SignerWallet, TonsdkWallet, WalletVersion
from cocoon_sdk.contracts.sender import OwnerMessage, OwnerWallet
from cocoon_sdk.crypto.mnemonics import new_mnemonic
from cocoon_sdk.errors import ConfigError, KeyMaterialError
from cocoon_sdk.sandbox import Blockchain, SandboxChain
from cocoon_sdk.types import Nano
from tests.helpers.suite import key_of

TARGET = Address((0, b"\x11" * 32))
BODY = begin_cell().store_uint(0xABCD, 32).end_cell()
WORDS = new_mnemonic()


def wallet_of(kind: str, chain: SandboxChain) -> OwnerWallet:
    if kind == "tonsdk v4r2":
        *_, wallet = Wallets.from_mnemonics(list(WORDS), WalletVersionEnum.v4r2, 0)
        return TonsdkWallet(chain, wallet)
    if kind == "tonsdk v3r2":
        *_, wallet = Wallets.from_mnemonics(list(WORDS), WalletVersionEnum.v3r2, 0)
        return TonsdkWallet(chain, wallet)
    if kind == "actor":
        return SignerWallet(chain, chain.blockchain.actor("owner"))
    return KeyWallet.from_mnemonic(chain, WORDS, version=kind)


@pytest.fixture(autouse=True)
def _machine_clock_is_chain_clock(monkeypatch: pytest.MonkeyPatch, blockchain: Blockchain) -> None:
    # tonsdk stamps requests with the machine's time, and the sandbox has a time of its own.
    for version in ("v3", "v4"):
        monkeypatch.setattr(
            f"tonsdk.contract.wallet._wallet_contract_{version}.time.time", lambda: blockchain.now
        )


@pytest.mark.parametrize("kind", ["v4r2", "v3r2", "tonsdk v4r2", "tonsdk v3r2", "actor"])
async def test_owner_can_send_several_messages_when_the_wallet_is_not_deployed_yet(
    sandbox_chain: SandboxChain, kind: str
) -> None:
    wallet = wallet_of(kind, sandbox_chain)
    sandbox_chain.blockchain.faucet(wallet.address, Nano.ton(10))
    for _ in range(2):
        await wallet.send([OwnerMessage(TARGET, Nano(i), BODY, bounce=False) for i in range(1, 4)])
    received = sandbox_chain.blockchain.transactions(TARGET)
    assert [transaction.in_msg.value for transaction in received] == [3, 2, 1, 3, 2, 1]
    assert received[0].in_msg.body.hash == BODY.hash
    assert received[0].in_msg.src == wallet.address


@pytest.mark.parametrize("version", list(WalletVersion))
def test_owner_can_find_the_same_address_as_with_tonsdk(
    sandbox_chain: SandboxChain, version: WalletVersion
) -> None:
    assert wallet_of(version, sandbox_chain).address == wallet_of(f"tonsdk {version}", sandbox_chain).address


async def test_owner_cannot_send_when_the_wallet_is_empty(sandbox_chain: SandboxChain) -> None:
    wallet = KeyWallet(sandbox_chain, key_of("poor"))
    with pytest.raises(ConfigError, match="cannot pay"):
        await wallet.send([OwnerMessage(TARGET, Nano.ton(1))])
    assert not sandbox_chain.blockchain.transactions(wallet.address)


def test_nobody_can_read_a_key_in_the_repr(sandbox_chain: SandboxChain) -> None:
    key = key_of("owner")
    assert key.reveal().hex() not in repr(KeyWallet(sandbox_chain, key))
    for kind in ("v4r2", "tonsdk v4r2"):
        text = repr(wallet_of(kind, sandbox_chain))
        assert not any(word in text.lower().split() for word in WORDS)


def test_owner_cannot_use_a_wallet_when_it_is_none(sandbox_chain: SandboxChain) -> None:
    with pytest.raises(ConfigError, match="not a tonsdk wallet"):
        TonsdkWallet(sandbox_chain, object())
    with pytest.raises(ConfigError, match="wallet version"):
        KeyWallet(sandbox_chain, key_of("owner"), version="v9")
    with pytest.raises(KeyMaterialError):
        KeyWallet.from_mnemonic(sandbox_chain, "abandon " * 24)
