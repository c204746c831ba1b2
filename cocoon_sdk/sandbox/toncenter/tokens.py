"""Jettons and NFTs as toncenter's getTokenData tells them.

Owns recognising a token contract by its get-methods (TEP-62, TEP-74) and checking it against its parent, as
the service does. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cocoon_sdk.chain.base import StackValue
from cocoon_sdk.errors import AccountNotFoundError, CocoonError, MalformedError
from cocoon_sdk.sandbox.blocks import MasterBlock
from cocoon_sdk.sandbox.cells import NativeCell, Reader, from_native, key_address, remainder
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter.addresses import friendly_address
from cocoon_sdk.sandbox.toncenter.params import Refused
from cocoon_sdk.sandbox.toncenter.shapes import cell_b64
from cocoon_sdk.sandbox.toncenter.token_content import token_content

_INT, _CELL, _SLICE = 1, 2, 4


class _Answer:
    """What a get-method left on the stack, checked as it is read. Raises `MalformedError`."""

    def __init__(self, stack: Any) -> None:
        self._entries = [stack.at(index) for index in range(stack.depth() - 1, -1, -1)]

    def __len__(self) -> int:
        return len(self._entries)

    def number(self, index: int) -> int:
        entry = self._entries[index]
        if entry.type() != _INT:  # the engine's process ends when it is asked for the number of anything else
            raise MalformedError("stackEntryNumber expected")
        try:
            return int(entry.as_int())
        except ValueError as error:
            raise MalformedError("stackEntryNumber expected", why="it is NaN") from error

    def cell(self, index: int) -> NativeCell:
        if self._entries[index].type() != _CELL:
            raise MalformedError(f"stackEntryCell expected at {index} position")
        return self._entries[index].as_cell()

    def address(self, index: int) -> int | None:
        entry = self._entries[index]
        if entry.type() not in (_CELL, _SLICE):
            raise MalformedError("stackEntryCell or stackEntrySlice expected")
        cell = entry.as_cell() if entry.type() == _CELL else remainder(entry.as_cell_slice())
        try:
            return Reader.of(cell).address_key()
        except RuntimeError as error:
            raise MalformedError("an address cannot be read", why="the cell ends too early") from error


class TokenReader:
    """Reads token contracts at one block."""

    def __init__(self, node: Node, block: MasterBlock) -> None:
        self._node, self._block = node, block

    def read(self, key: int) -> dict[str, Any]:
        """Return the answer of getTokenData; raises `Refused` with status 409 for what is no token."""
        kinds: Sequence[Callable[[int], dict[str, Any]]] = (
            self._jetton_master,
            self._jetton_wallet,
            self._nft_collection,
            self._nft_item,
        )
        for kind in kinds:
            try:
                return kind(key)
            except (CocoonError, IndexError):
                continue
        raise Refused(409, f"Smart contract {friendly_address(key)} is not Jetton or NFT")

    def _call(self, key: int, method: str, least: int, stack: Sequence[StackValue] = ()) -> _Answer:
        run = self._node.run_getter(key, method, stack, block=self._block)
        answer = _Answer(run.native_stack)
        if run.exit_code != 0 or len(answer) < least:
            raise MalformedError(f"{method} is not a token's", why=f"exit code {run.exit_code}")
        return answer

    def _jetton_master(self, key: int) -> dict[str, Any]:
        found = self._call(key, "get_jetton_data", 5)
        return {
            "@type": "ext.tokens.jettonMasterData",
            "address": friendly_address(key),
            "contract_type": "jetton_master",
            "total_supply": str(found.number(0)),
            "mintable": bool(found.number(1)),
            **_optional("admin_address", found.address(2)),
            "jetton_content": token_content(found.cell(3)),
            "jetton_wallet_code": cell_b64(found.cell(4)),
        }

    def _jetton_wallet(self, key: int) -> dict[str, Any]:
        found = self._call(key, "get_wallet_data", 4)
        owner, master = found.address(1), found.address(2)
        self._confirm(key, master, "get_wallet_address", [_slice(owner)])
        answer: dict[str, Any] = {
            "@type": "ext.tokens.jettonWalletData",
            "address": friendly_address(key),
            "contract_type": "jetton_wallet",
            "balance": str(found.number(0)),
            "owner": friendly_address(owner),
            "jetton": friendly_address(master),
            "jetton_wallet_code": cell_b64(found.cell(3)),
        }
        try:
            answer["mintless_is_claimed"] = bool(self._call(key, "is_claimed", 1).number(0))
        except MalformedError:  # an ordinary jetton has no such method
            return answer
        return answer

    def _nft_collection(self, key: int) -> dict[str, Any]:
        found = self._call(key, "get_collection_data", 3)
        return {
            "@type": "ext.tokens.nftCollectionData",
            "address": friendly_address(key),
            "contract_type": "nft_collection",
            "next_item_index": str(found.number(0)),
            **_optional("owner_address", found.address(2)),
            "collection_content": token_content(found.cell(1)),
        }

    def _nft_item(self, key: int) -> dict[str, Any]:
        found = self._call(key, "get_nft_data", 5)
        index, collection, content = found.number(1), found.address(2), found.cell(4)
        if collection is not None:
            self._confirm(key, collection, "get_nft_address_by_index", [index])
            arguments = [index, from_native(content)]
            content = self._call(collection, "get_nft_content", 1, arguments).cell(0)
        return {
            "@type": "ext.tokens.nftItemData",
            "address": friendly_address(key),
            "contract_type": "nft_item",
            "init": bool(found.number(0)),
            "index": str(index),
            **_optional("collection_address", collection),
            **_optional("owner_address", found.address(3)),
            "content": token_content(content),
        }

    def _confirm(self, key: int, parent: int | None, method: str, stack: list[StackValue]) -> None:
        """Ask the parent for the address that this contract should have: anybody can claim to be a wallet."""
        if parent is None:
            raise AccountNotFoundError("a token names no parent")
        if self._call(parent, method, 1, stack).address(0) != key:
            raise MalformedError(f"{friendly_address(parent)} does not know this contract")


def _slice(key: int | None) -> StackValue:
    if key is None:
        raise MalformedError("a token names no owner")
    return key_address(key).to_cell().begin_parse()


def _optional(name: str, key: int | None) -> dict[str, Any]:
    return {} if key is None else {name: friendly_address(key)}
