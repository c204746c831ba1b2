"""Saved accounts: from any chain into a file, and a sandbox that starts from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_sdk.sandbox import FAUCET, Blockchain, Ledger, SandboxChain
from cocoon_sdk.sandbox.accounts import ShardAccount
from cocoon_sdk.sandbox.cells import address_key, native_hash, to_native
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.storage.account_set import (
    AccountSet,
    library_hashes,
    save_accounts,
    shard_account_of,
)
from cocoon_sdk.types import Nano

NOBODY = Address((0, b"\x01" * 32))


@pytest.fixture
def world() -> Blockchain:
    chain = Blockchain()
    chain.actor("alice").send(FAUCET, Nano.ton(2), bounce=False)
    return chain


async def test_account_as_a_chain_tells_it_is_the_one_that_the_engine_made(world: Blockchain) -> None:
    """Storage statistics, last transaction and the rest come out to the bit where nothing was sent last."""
    for address in (world.actor("carol").address, FAUCET):
        account = world.shard_account(address)
        built = to_native(shard_account_of(world.account(address), account.last_paid))
        assert ShardAccount(built).balance == account.balance
        assert native_hash(built) == native_hash(account.native)


async def test_sandbox_starts_from_accounts_that_were_saved(world: Blockchain, tmp_path: Path) -> None:
    alice = world.actor("alice")
    saved, absent = await save_accounts(SandboxChain(world), [alice.address, FAUCET, NOBODY], "a test")
    assert absent == [NOBODY]
    saved.write(tmp_path / "set.json")
    read = AccountSet.read(tmp_path / "set.json")
    assert (read.now, read.source, read.config.keys()) == (world.now, "a test", saved.config.keys())
    chain = read.blockchain()
    async with Node(chain) as node:
        key = address_key(alice.address)
        assert node.shard_account(key).balance == world.balance(alice.address)
        assert node.run_getter(key, "seqno").values() == [1]
        chain.actor("alice").send(NOBODY, Nano.ton(1), bounce=False)
        await node.mine()
        assert node.shard_account(address_key(NOBODY)).balance == Nano.ton(1)
        first = node.head.shard_block.transactions
        assert min(each.lt for each in first) > world.lt // 1_000_000 * 1_000_000
        Ledger.of(chain).assert_balanced()


async def test_frozen_account_cannot_be_saved_from_a_chain(world: Blockchain) -> None:
    state = world.account(FAUCET)
    with pytest.raises(ConfigError, match="frozen"):
        shard_account_of(replace(state, status=AccountStatus.FROZEN), world.now)


def test_libraries_that_code_needs_are_named(world: Blockchain) -> None:
    wanted = b"\x07" * 32
    from pytoniq_core.boc.tvm_bitarray import TvmBitarray

    bits = TvmBitarray(1023)
    bits.frombytes(b"\x02" + wanted)
    code = begin_cell().store_ref(Cell(bits, [], 2)).end_cell()
    assert library_hashes(code) == {wanted}
    state = replace(world.account(world.actor("alice").address), code=code)
    native = to_native(shard_account_of(state, world.now))
    saved = AccountSet(world.now, "a test", {address_key(state.address): native})
    assert saved.missing_libraries() == {wanted}


def document(world: Blockchain) -> dict[str, Any]:
    alice = world.actor("alice")
    return {
        "format": "sandbox-accounts",
        "version": 1,
        "now": 1_790_000_000,
        "source": "a test",
        "config": {},
        "libraries": [],
        "accounts": [
            {
                "address": alice.address.to_str(),
                "shard_account": world.shard_account(alice.address).native.to_boc(),
            }
        ],
    }


def test_file_written_by_hand_can_be_read(world: Blockchain, tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text(json.dumps(document(world)))
    assert list(AccountSet.read(path).accounts) == [address_key(world.actor("alice").address)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "x"),
        ("version", 2),
        ("now", -1),
        ("now", "soon"),
        ("accounts", [{"address": NOBODY.to_str(), "shard_account": "WRONG"}]),
        ("accounts", {}),
        ("accounts", [{"address": "EQ", "shard_account": ""}]),
        ("libraries", ["!"]),
        ("config", {"x": ""}),
    ],
)
def test_file_that_is_no_set_cannot_be_read(
    world: Blockchain, tmp_path: Path, field: str, value: object
) -> None:
    wrong = {**document(world), field: value}
    if value == {}:
        del wrong[field]
    path = tmp_path / "set.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(MalformedError, match="not a saved set"):
        AccountSet.read(path)


def test_account_cannot_be_read_under_another_address(world: Blockchain, tmp_path: Path) -> None:
    wrong = document(world)
    wrong["accounts"][0]["address"] = NOBODY.to_str()
    path = tmp_path / "set.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(MalformedError, match="another address"):
        AccountSet.read(path)


def test_set_cannot_be_read_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        AccountSet.read(tmp_path / "nothing")
