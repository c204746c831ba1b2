"""Accounts and get-methods at a block: the state comes from the block, never from the newest accounts.

Owns finding an account in the right chain's state and running get-methods there. Must not know who asks.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cocoon_sdk.chain.base import StackValue
from cocoon_sdk.errors import AccountNotFoundError, MalformedError
from cocoon_sdk.sandbox.accounts import EMPTY_ACCOUNT, ShardAccount
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.blocks import Block, MasterBlock
from cocoon_sdk.sandbox.cells import key_address, native_from_boc, native_slice
from cocoon_sdk.sandbox.engine import deserialize_stack
from cocoon_sdk.sandbox.errors import StackError
from cocoon_sdk.sandbox.stack import MAX_STACK, pop_all, push_all
from cocoon_sdk.sandbox.tvm import GetterContext

_HASH_BITS = 256


@dataclass(frozen=True, slots=True)
class GetterRun:
    """How a get-method ended: 0 and 1 are success. `block` is the one whose state it ran on."""

    exit_code: int
    gas_used: int
    block: Block
    account: ShardAccount
    native_stack: Any

    def values(self) -> list[StackValue]:
        """Return what it left on the stack, deepest value first. Raises `StackError` for continuations."""
        return pop_all(self.native_stack)

    def boc(self) -> bytes:
        """Return the same as a bag with one `VmStack`. Raises `StackError` for continuations."""
        try:
            return base64.b64decode(self.native_stack.serialize(0).to_boc())
        except RuntimeError as error:
            raise StackError("a get-method's result cannot be serialised", why=str(error)[:200]) from error


def block_for(block: Block, key: int) -> Block:
    """Return the block whose state holds an account: a masterchain block's own, or the one it committed."""
    if isinstance(block, MasterBlock) and key >> _HASH_BITS == 0:
        return block.shard_block
    return block


def account_at(block: Block, key: int) -> ShardAccount:
    """Return an account at a block; one that does not exist there has status NONEXIST."""
    native = block_for(block, key).shard_account(key)
    return ShardAccount(EMPTY_ACCOUNT if native is None else native)


def run_getter(
    blockchain: Blockchain,
    block: Block,
    key: int,
    method: str | int,
    stack: Sequence[StackValue] | bytes,
    gas_limit: int,
) -> GetterRun:
    """Run a get-method at a block; see `Node.run_getter`."""
    account, where = account_at(block, key), block_for(block, key)
    if account.code is None:
        raise AccountNotFoundError(
            f"get-method {method!r} cannot run on {key_address(key).to_str()}",
            why=f"at block {where.id.seqno} the account is {account.status} and has no code",
            hint="deploy the contract first",
        )
    context = GetterContext(
        where.gen_utime, where.end_lt, key, int(account.balance), account.code, account.data
    )
    arguments = _read_stack(stack) if isinstance(stack, bytes) else push_all(stack)
    outcome = blockchain.call_getter(context, method, arguments, gas_limit)
    return GetterRun(outcome.exit_code, outcome.gas_used, where, account, outcome.stack)


def _read_stack(boc: bytes) -> Any:
    try:
        stack = deserialize_stack(native_slice(native_from_boc(boc)))
    except RuntimeError as error:
        raise MalformedError("a stack cannot be read", why="it is not a VmStack") from error
    if stack.depth() > MAX_STACK:
        raise StackError(
            "a get-method cannot be called", why=f"{stack.depth()} arguments, at most {MAX_STACK} fit"
        )
    return stack
