"""A liteserver that lies: the real one, with one kind of answer forged. Clients have to notice.

Each lie is the most convincing one that needs no validator's key: true proofs around false contents, true
contents under a false name, or the truth of yesterday.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pytoniq import LiteClient
from pytoniq.liteclient.client import LiteClientError
from pytoniq_core import Address, Builder, Cell
from pytoniq_core.proof.check_proof import ProofError
from ton_core import NetworkGlobalID
from tonutils.clients import LiteClient as TonutilsClient

from cocoon_sdk.sandbox import DEFAULT_NOW, Blockchain
from cocoon_sdk.sandbox.blocks import header_proof
from cocoon_sdk.sandbox.liteserver.ids import tl_id
from cocoon_sdk.sandbox.liteserver.tl import Record
from tests.interop.liteserver_rig import TON, Rig, liteserver, python, run_foreign

VICTIM = Address((0, b"\x22" * 32))
OTHER = Address((0, b"\x33" * 32))
NOTICED = (ProofError, LiteClientError, AssertionError)
Change = Callable[[Record, Record], Record]


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.chdir(tmp_path)
    async with liteserver() as running:
        await running.node.faucet(VICTIM, 3 * TON)
        await running.node.faucet(VICTIM, 4 * TON)
        await running.node.faucet(OTHER, 900 * TON)
        yield running


def lie(rig: Rig, name: str, change: Change) -> list[str]:
    """Forge the answers to one query; return the list that grows with every lie told."""
    told: list[str] = []
    honest = rig.server.answers.handlers[name]

    def forged(node: Any, query: Record) -> tuple[str, Record]:
        kind, answer = honest(node, query)
        told.append(name)
        return kind, {**answer, **change(query, answer)}

    rig.server.answers.handlers[name] = forged
    return told


@asynccontextmanager
async def client_of(rig: Rig, trust_level: int) -> AsyncIterator[LiteClient]:
    client = LiteClient.from_config(rig.config, trust_level=trust_level)
    await client.connect()
    try:
        yield client
    finally:
        await client.close()


def altered(state: bytes) -> bytes:
    """Return an account's state with its last bit but one, behind the balance, turned."""
    cell = Cell.one_from_boc(state)
    bits = cell.bits.copy()
    bits[-2] = not bits[-2]
    builder = Builder().store_bits(bits)
    for ref in cell.refs:
        builder.store_ref(ref)
    changed: bytes = builder.end_cell().to_boc()
    return changed


# -- state ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust_level", [0, 1, 2])
async def test_pytoniq_rejects_an_altered_account_at_any_trust_level(rig: Rig, trust_level: int) -> None:
    told = lie(rig, "getAccountState", lambda query, answer: {"state": altered(answer["state"])})
    async with client_of(rig, trust_level) as client:
        with pytest.raises(NOTICED):
            await client.raw_get_account_state(VICTIM)
    assert told


@pytest.mark.parametrize("trust_level", [0, 1, 2])
async def test_pytoniq_rejects_another_accounts_state_at_any_trust_level(rig: Rig, trust_level: int) -> None:
    rich_state = await _state_of(rig, OTHER)
    told = lie(rig, "getAccountState", lambda query, answer: {"state": rich_state})
    async with client_of(rig, trust_level) as client:
        with pytest.raises(NOTICED):
            await client.raw_get_account_state(VICTIM)
    assert told


async def test_tonutils_rejects_another_accounts_state(rig: Rig) -> None:
    rich_state = await _state_of(rig, OTHER)
    told = lie(rig, "getAccountState", lambda query, answer: {"state": rich_state})
    async with TonutilsClient.from_config(NetworkGlobalID.MAINNET, config=rig.config, index=0) as client:
        with pytest.raises(Exception, match=r"(?i)proof|mismatch|invalid"):
            await client.get_info(VICTIM.to_str())
    assert told


async def _state_of(rig: Rig, address: Address) -> bytes:
    async with client_of(rig, 2) as client:
        result = await client.liteserver_request(
            "getAccountState", {"id": client.last_mc_block.to_dict(), "account": address.to_tl_account_id()}
        )
    state: bytes = result["state"]
    return state


# -- shard --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust_level", [0, 1])
async def test_pytoniq_rejects_yesterdays_account_under_todays_block(rig: Rig, trust_level: int) -> None:
    """An old basechain block with its own true account proof, passed off as the one that was committed."""
    honest = rig.server.answers.handlers["getAccountState"]
    old = rig.node.archive.by_seqno(-1, rig.node.head.seqno - 2)  # it had three TON then

    def stale(query: Record, answer: Record) -> Record:
        _, before = honest(rig.node, {**query, "id": tl_id(old.id)})
        return {"shardblk": before["shardblk"], "proof": before["proof"], "state": before["state"]}

    told = lie(rig, "getAccountState", stale)
    async with client_of(rig, trust_level) as client:
        with pytest.raises(NOTICED):
            await client.raw_get_account_state(VICTIM)
    assert told


@pytest.mark.parametrize("trust_level", [0, 1])
async def test_pytoniq_rejects_shards_of_another_block(rig: Rig, trust_level: int) -> None:
    honest = rig.server.answers.handlers["getAllShardsInfo"]
    old = rig.node.archive.by_seqno(-1, 2)
    async with client_of(rig, trust_level) as client:
        told = lie(
            rig,
            "getAllShardsInfo",
            lambda query, answer: {"data": honest(rig.node, {"id": tl_id(old.id)})[1]["data"]},
        )
        with pytest.raises(NOTICED):
            await client.raw_get_all_shards_info()
    assert told


# -- header and block -------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust_level", [0, 1])
@pytest.mark.parametrize("name", ["lookupBlock", "getBlockHeader"])
async def test_pytoniq_rejects_the_header_of_another_block(rig: Rig, trust_level: int, name: str) -> None:
    other = rig.node.archive.by_seqno(-1, 3)
    told = lie(rig, name, lambda query, answer: {"header_proof": header_proof(other)})
    async with client_of(rig, trust_level) as client:
        if name == "lookupBlock":
            reading = client.lookup_block(-1, -(2**63), 2)
        else:
            reading = client.raw_get_block_header(client.last_mc_block)
        with pytest.raises(NOTICED):
            await reading
    assert told


@pytest.mark.parametrize("trust_level", [0, 1])
async def test_pytoniq_rejects_the_data_of_another_block(rig: Rig, trust_level: int) -> None:
    other = rig.node.archive.by_seqno(-1, 3)
    told = lie(rig, "getBlock", lambda query, answer: {"data": other.boc})
    async with client_of(rig, trust_level) as client:
        with pytest.raises(NOTICED):
            await client.raw_get_block(client.last_mc_block)
    assert told


# -- transactions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust_level", [0, 1])
async def test_pytoniq_rejects_transactions_of_another_account(rig: Rig, trust_level: int) -> None:
    foreign = rig.node.blockchain.transactions(OTHER)[0]
    told = lie(rig, "getTransactions", lambda query, answer: {"transactions": foreign.cell.to_boc()})
    async with client_of(rig, trust_level) as client:
        with pytest.raises(NOTICED):
            await client.get_transactions(VICTIM, 1)
    assert told


@pytest.mark.parametrize("trust_level", [0, 1])
async def test_pytoniq_rejects_a_transaction_that_its_block_does_not_have(rig: Rig, trust_level: int) -> None:
    mine, foreign = rig.node.blockchain.transactions(VICTIM)[0], rig.node.blockchain.transactions(OTHER)[0]
    told = lie(rig, "getOneTransaction", lambda query, answer: {"transaction": foreign.cell.to_boc()})
    async with client_of(rig, trust_level) as client:
        newest = client.last_mc_block
        _, blocks = await client.raw_get_transactions(VICTIM, 1)
        assert newest is not None
        with pytest.raises(NOTICED):
            await client.get_one_transaction(VICTIM, mine.lt, blocks[0])
    assert told


@pytest.mark.parametrize("trust_level", [0, 1])
async def test_pytoniq_rejects_a_forged_list_of_transactions(rig: Rig, trust_level: int) -> None:
    told = lie(
        rig,
        "listBlockTransactions",
        lambda query, answer: {"ids": [{**one, "hash": b"\x66" * 32} for one in answer["ids"]]},
    )
    async with client_of(rig, trust_level) as client:
        shard = (await client.get_all_shards_info())[0]
        with pytest.raises(NOTICED):
            await client.raw_get_block_transactions(shard)
    assert told


# -- configuration and signatures ----------------------------------------------------------------------------


@pytest.mark.parametrize("trust_level", [0, 1])
async def test_pytoniq_rejects_the_configuration_of_another_state(rig: Rig, trust_level: int) -> None:
    honest = rig.server.answers.handlers["getConfigAll"]
    old = rig.node.archive.by_seqno(-1, 2)

    def stale(query: Record, answer: Record) -> Record:
        return {"config_proof": honest(rig.node, {**query, "id": tl_id(old.id)})[1]["config_proof"]}

    told = lie(rig, "getConfigAll", stale)
    async with client_of(rig, trust_level) as client:
        with pytest.raises(NOTICED):
            await client.get_config_all()
    assert told


def _forge_signature(query: Record, answer: Record) -> Record:
    steps = [dict(step) for step in answer["steps"]]
    for step in steps:
        if "signatures" in step:
            forged = [{**one, "signature": bytes(64)} for one in step["signatures"]["signatures"]]
            step["signatures"] = {**step["signatures"], "signatures": forged}
    return {"steps": steps}


def _sign_with_nobody(query: Record, answer: Record) -> Record:
    steps = [dict(step) for step in answer["steps"]]
    for step in steps:
        if "signatures" in step:
            step["signatures"] = {**step["signatures"], "signatures": []}
    return {"steps": steps}


@pytest.mark.parametrize("change", [_forge_signature, _sign_with_nobody])
async def test_pytoniq_that_trusts_nobody_rejects_a_block_without_the_validators_signature(
    rig: Rig, change: Change
) -> None:
    told = lie(rig, "getBlockProof", change)
    client = LiteClient.from_config(rig.config, trust_level=0)
    with pytest.raises(Exception, match=r"(?i)signature|signed"):
        await client.connect()
    await client.close()
    assert told


async def test_pytoniq_that_trusts_nobody_rejects_another_chain(rig: Rig) -> None:
    """A whole chain with true proofs and signatures, but not the one whose key block the client knows."""
    async with liteserver(blockchain=Blockchain(now=DEFAULT_NOW + 1000)) as other:
        assert other.node.archive.init_block.id != rig.node.archive.init_block.id
        client = LiteClient.from_config({**other.config, "validator": rig.config["validator"]}, trust_level=0)
        with pytest.raises(NOTICED):
            await client.connect()
        await client.close()


# -- the C++ client ---------------------------------------------------------------------------------------


async def test_tonpy_rejects_another_accounts_state(rig: Rig) -> None:
    rich_state = await _state_of(rig, OTHER)
    lie(rig, "getAccountState", lambda query, answer: {"state": rich_state})
    task = {"config": rig.config, "account": VICTIM.to_str(is_user_friendly=False)}
    seen = await run_foreign(*python("liteserver_tonpy_lies.py"), task=task)
    assert "mismatch" in seen["error"]
