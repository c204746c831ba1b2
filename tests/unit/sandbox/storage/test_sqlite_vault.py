"""A chain on disk: what comes back after a restart, and that damage has a name."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.sandbox import FAUCET, Actor, Blockchain, Ledger, Outgoing
from cocoon_sdk.sandbox.blocks import StateGoneError
from cocoon_sdk.sandbox.cells import address_key
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.storage import (
    FolderBusyError,
    SqliteVault,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageVersionError,
    chain_reader,
    sqlite_vault,
)
from cocoon_sdk.sandbox.vault import UnknownSnapshotError
from cocoon_sdk.types import Nano
from tests.unit.sandbox.node.clocks import SteppedClock

START = 1_790_000_000
ONE = Nano.ton(1)


def opened(folder: Path, **options: object) -> Node:
    return Node(vault=SqliteVault(folder / "chain.sqlite3"), **options)  # type: ignore[arg-type]


def facts(node: Node) -> dict[str, object]:
    """Return all that has to be the same after a restart."""
    chain, archive = node.blockchain, node.archive
    transactions = chain.transactions(limit=10_000)
    return {
        "head": node.head.id,
        "state": node.head.state.get_hash(),
        "basechain": node.head.shard_block.state.get_hash(),
        "blocks": [(block.id, block.shard_block.id, block.boc) for block in archive.masters()],
        "accounts": {key: native.get_hash() for key, native in chain.raw_items()},
        "history": [(each.hash, each.seqno > 0, each.total_fees) for each in transactions],
        "parents": [None if each.parent is None else each.parent.hash for each in transactions],
        "numbers": (chain.now, chain.lt, chain.seqno, chain.minted, chain.fees_collected, chain.held),
        "queue": [(item.native.get_hash(), item.dst_key, item.fwd_fee) for item in chain.queued],
        "libraries": [cell.hash for cell in chain.libraries],
        "snapshots": node.snapshots(),
    }


async def live(node: Node) -> Actor:
    """Let a few things happen."""
    alice = await node.apply(lambda chain: chain.actor("alice"))
    bob = await node.apply(lambda chain: chain.actor("bob"))
    await node.send(alice.request([Outgoing(bob.address, ONE), Outgoing(FAUCET, ONE)]).to_boc())
    await node.warp(3600)
    await node.faucet(bob.address, ONE)
    return alice


async def test_chain_is_the_same_after_a_restart_and_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as node:
        alice = await live(node)
        await node.snapshot("here")
        before = facts(node)
    async with opened(tmp_path) as node:
        assert facts(node) == before
        Ledger.of(node.blockchain).assert_balanced()
        await node.send(node.blockchain.actor("alice").request([]).to_boc())
        assert node.run_getter(address_key(alice.address), "seqno").values() == [2]
        after = facts(node)
    async with opened(tmp_path) as node:
        assert facts(node) == after


async def test_messages_on_their_way_survive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as node:
        alice = await node.apply(lambda chain: chain.actor("alice"))
        node.blockchain.hold()
        await node.send(alice.request([Outgoing(alice.address, ONE)]).to_boc())
        before = facts(node)
        assert len(node.blockchain.pending) == 1
    async with opened(tmp_path) as node:
        assert facts(node) == before
        (done,) = node.blockchain.release()
        assert done.parent is not None
        await node.mine()
        Ledger.of(node.blockchain).assert_balanced()


async def test_states_follow_from_a_kept_one_by_the_updates_in_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_vault, "MIN_BLOCKS_BETWEEN_STATES", 4)
    monkeypatch.setattr(sqlite_vault, "BYTES_BETWEEN_STATES", 0)
    monkeypatch.setattr(chain_reader, "STATES_AT_LEAST", 3)
    async with opened(tmp_path) as node:
        await live(node)
        while node.head.seqno < 30:
            await node.mine()
        states = {block.seqno: block.state.get_hash() for block in node.archive.masters()}
    async with opened(tmp_path) as node:
        kept = {}
        for block in node.archive.masters():
            try:
                kept[block.seqno] = block.state.get_hash()
            except StateGoneError:
                with pytest.raises(StateGoneError):
                    block.shard_block.shard_account(address_key(FAUCET))
        assert set(range(27, 31)) <= set(kept)
        assert 5 not in kept
        assert kept.items() <= states.items()


async def test_tester_can_go_back_to_snapshots_of_an_earlier_run(tmp_path: Path) -> None:
    async with opened(tmp_path) as node:
        await node.faucet(FAUCET, ONE)
        await node.snapshot("one")
        at_one = facts(node)
        await live(node)
        await node.snapshot("two")
    async with opened(tmp_path) as node:
        await node.mine(2)
        await node.restore("one")
        assert facts(node) == {**at_one, "snapshots": {"one": 2}}
        with pytest.raises(UnknownSnapshotError):
            await node.restore("two")
        await live(node)
        before = facts(node)
    async with opened(tmp_path) as node:
        assert facts(node) == before
        assert (await node.reset()).seqno == 1
    async with opened(tmp_path) as node:
        assert (node.head.seqno, node.snapshots()) == (1, {})


async def test_distance_to_the_clock_survives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=SteppedClock(START), idle_s=1) as node:
        await node.warp(500)
    async with opened(tmp_path, clock=SteppedClock(START + 10), idle_s=1) as node:
        assert (node.offset, node.head.gen_utime) == (500, START + 510)
    async with opened(tmp_path, clock=SteppedClock(START - 10_000), idle_s=1) as node:
        assert node.now == START + 510  # never back


async def test_chain_of_ones_own_cannot_start_where_one_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as node:
        await node.mine()
    vault = SqliteVault(tmp_path / "chain.sqlite3")
    with pytest.raises(ConfigError, match="one is kept here already"):
        Node(Blockchain(), vault=vault)
    vault.close()


async def test_sender_is_told_when_the_disk_is_full_and_nothing_is_half_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as node:
        alice = await live(node)
        before = facts(node)
        connection: sqlite3.Connection = node._vault._database._connection  # type: ignore[attr-defined]
        ((pages,),) = connection.execute("PRAGMA page_count")
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFullError):
            await asyncio.gather(*(node.faucet(alice.address, 1) for _ in range(100)))
        last = node.archive.head.seqno - 1  # the one that was sealed and could not be kept
        with pytest.raises(StorageFullError):
            await node.mine()
    async with opened(tmp_path) as node:
        assert node.head.seqno == last
        assert facts(node)["blocks"][: len(before["blocks"])] == before["blocks"]  # type: ignore[index,arg-type]
        await node.mine()


async def test_second_process_cannot_open_the_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as node:
        await node.mine()
        with pytest.raises(FolderBusyError):
            SqliteVault(tmp_path / "chain.sqlite3")


async def kept(folder: Path) -> Path:
    async with opened(folder) as node:
        await live(node)
    return folder / "chain.sqlite3"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM blocks WHERE seqno = 3",
        "DELETE FROM blocks WHERE seqno = (SELECT max(seqno) FROM blocks)",
        "UPDATE blocks SET base = (SELECT base FROM blocks WHERE seqno = 2) WHERE seqno = 3",
        "UPDATE blocks SET master = x'b5ee9c72' WHERE seqno = 2",
        "UPDATE states SET base = (SELECT base FROM states WHERE seqno = 0) WHERE seqno = 1",
        "DELETE FROM facts",
        "UPDATE moments SET queue = '[1]'",
    ],
)
async def test_damage_is_noticed_at_the_start(tmp_path: Path, statement: str) -> None:
    path = await kept(tmp_path)
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()
    vault = SqliteVault(path)
    with pytest.raises(StorageCorruptError):
        Node(vault=vault)
    vault.close()


async def test_file_that_is_no_database_or_another_ones_has_a_name(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite3"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageCorruptError):
        SqliteVault(path)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StorageCorruptError, match="another program"):
        SqliteVault(path)


async def test_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = await kept(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageVersionError, match="form 99"):
        SqliteVault(path)


def test_folder_that_cannot_be_written_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        SqliteVault(tmp_path / "file" / "chain.sqlite3")
