"""The known wallet codes are those of the libraries that our users have."""

from __future__ import annotations

import sys

import pytoniq.contract.wallets.wallet  # noqa: F401 - loads the codes
from pytoniq_core import Cell
from tonsdk.contract.wallet import Wallets, WalletVersionEnum

from cocoon_sdk.explain.account import WALLET_CODES


def test_wallet_codes_are_those_of_the_libraries() -> None:
    found = {
        value.hash.hex()
        for module in list(sys.modules.values())
        if module.__name__.startswith("pytoniq.contract.wallets")
        for value in vars(module).values()
        if isinstance(value, Cell)
    }
    for version in WalletVersionEnum:
        wallet = Wallets.create(version, 0)[3]
        found.add(bytes(wallet.options["code"].bytes_hash()).hex())
    assert found == set(WALLET_CODES)
