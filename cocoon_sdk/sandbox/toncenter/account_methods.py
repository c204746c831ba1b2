"""Methods about accounts, and about addresses alone."""

from __future__ import annotations

from typing import Any

from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.addresses import detect_address, detect_hash
from cocoon_sdk.sandbox.toncenter.methods import Blocks, Method, method
from cocoon_sdk.sandbox.toncenter.params import Params
from cocoon_sdk.sandbox.toncenter.shapes import AccountView, tvm_cell
from cocoon_sdk.sandbox.toncenter.tokens import TokenReader
from cocoon_sdk.sandbox.toncenter.wallets import extended_information, wallet_information

_ACCOUNT = "address seqno"


class AccountMethods:
    """Answers what an account is, now or after an older masterchain block."""

    def __init__(self, node: Node) -> None:
        self._node, self._blocks = node, Blocks(node)

    def table(self) -> dict[str, Method]:
        """Return the methods by name."""
        return {
            "detectAddress": method(self._detect_address, "address"),
            "detectHash": method(self._detect_hash, "hash"),
            "packAddress": method(self._pack_address, "address"),
            "unpackAddress": method(self._unpack_address, "address"),
            "getAddressInformation": method(self._information, _ACCOUNT),
            "getExtendedAddressInformation": method(self._extended, _ACCOUNT),
            "getWalletInformation": method(self._wallet, _ACCOUNT),
            "getAddressBalance": method(self._balance, _ACCOUNT),
            "getAddressState": method(self._state, _ACCOUNT),
            "getShardAccountCell": method(self._shard_account, _ACCOUNT),
            "getTokenData": method(self._token_data, _ACCOUNT),
        }

    def _view(self, params: Params) -> AccountView:
        address = params.address()
        return AccountView(address.key, self._blocks.master(params))

    async def _detect_address(self, params: Params) -> Any:
        return detect_address(params.address())

    async def _detect_hash(self, params: Params) -> Any:
        return detect_hash(params.hash("hash"))

    async def _pack_address(self, params: Params) -> Any:
        return params.address().friendly()

    async def _unpack_address(self, params: Params) -> Any:
        return params.address().raw_form(upper=True)

    async def _information(self, params: Params) -> Any:
        return self._view(params).information()

    async def _extended(self, params: Params) -> Any:
        return extended_information(self._view(params))

    async def _wallet(self, params: Params) -> Any:
        return wallet_information(self._view(params))

    async def _balance(self, params: Params) -> Any:
        return str(int(self._view(params).balance))

    async def _state(self, params: Params) -> Any:
        return self._view(params).state

    async def _shard_account(self, params: Params) -> Any:
        return tvm_cell(self._view(params).account.native)

    async def _token_data(self, params: Params) -> Any:
        address = params.address()
        return TokenReader(self._node, self._blocks.master(params)).read(address.key)
