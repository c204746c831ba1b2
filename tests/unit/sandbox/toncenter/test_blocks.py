"""What the API says of blocks and the network."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from nacl.signing import VerifyKey
from pytoniq_core import Cell, begin_cell
from pytoniq_core.proof.check_proof import check_block_header_proof

from cocoon_sdk.sandbox.cells import native_hash
from tests.unit.sandbox.toncenter.conftest import NOBODY, Api

WHOLE = str(-(1 << 63))
VALIDATORS = 34


def name_of(block: Any) -> dict[str, Any]:
    return {"workchain": block.id.workchain, "shard": WHOLE, "seqno": block.id.seqno}


async def test_reader_can_see_the_head_and_the_beginning(api: Api) -> None:
    await api.give()
    found = await api.result("getMasterchainInfo")
    head, zero = api.node.head, api.node.archive.zero_state_masterchain
    assert found["last"]["seqno"] == head.seqno == 2
    assert base64.b64decode(found["state_root_hash"]) == native_hash(head.state)
    assert (found["init"]["seqno"], found["init"]["shard"]) == (0, "0")
    assert base64.b64decode(found["init"]["root_hash"]) == zero.root_hash
    consensus = await api.result("getConsensusBlock")
    assert (consensus["consensus_block"], consensus["timestamp"]) == (2, head.gen_utime)


async def test_reader_can_find_blocks_by_number_time_and_logical_time(api: Api) -> None:
    for _ in range(3):
        await api.give()
        await api.node.warp(10)
    for workchain in (-1, 0):
        for seqno in (1, 4, api.node.head.seqno):
            block = api.node.archive.by_seqno(workchain, seqno)
            for how in (
                {"seqno": seqno},
                {"lt": str(block.end_lt)},
                {"lt": block.start_lt},
            ):
                found = await api.result("lookupBlock", workchain=workchain, shard=WHOLE, **how)
                assert found["seqno"] == seqno
                assert base64.b64decode(found["root_hash"]) == block.id.root_hash
        newest = await api.result(
            "lookupBlock", workchain=workchain, shard=WHOLE, unixtime=api.blockchain.now + 1000
        )
        assert newest["seqno"] == api.node.head.seqno
    status, words = await api.refusal("lookupBlock", workchain=-1, shard=WHOLE, unixtime=5)
    assert status == 500
    assert words.startswith(
        "LITE_SERVER_NOTREADY: cannot find block (-1,8000000000000000) utime=5: utime not"
    )


async def test_reader_can_see_headers_that_lead_from_block_to_block(api: Api) -> None:
    await api.give()
    await api.give()
    for start in (api.node.head, api.node.head.shard_block):
        name, digest = name_of(start), start.id.root_hash
        for seqno in range(start.seqno, 0, -1):
            header = await api.result("getBlockHeader", **{**name, "seqno": seqno})
            assert base64.b64decode(header["id"]["root_hash"]) == digest
            block = api.node.archive.by_seqno(start.workchain, seqno)
            assert (header["start_lt"], header["end_lt"]) == (str(block.start_lt), str(block.end_lt))
            assert (header["gen_utime"], header["global_id"]) == (block.gen_utime, -239)
            assert header["is_key_block"] is (start.workchain == -1 and seqno == 1)
            (previous,) = header["prev_blocks"]
            assert previous["seqno"] == seqno - 1
            digest = base64.b64decode(previous["root_hash"])
        zero = api.node.archive
        first = zero.zero_state_masterchain if start.workchain else zero.zero_state_basechain
        assert digest == first.root_hash


async def test_reader_can_name_a_block_by_its_hashes_and_not_by_wrong_ones(api: Api) -> None:
    block = api.node.head
    hashes = {"root_hash": block.id.root_hash.hex(), "file_hash": block.id.file_hash.hex()}
    assert (await api.result("getBlockHeader", **name_of(block), **hashes))["id"]["seqno"] == block.seqno
    status, words = await api.refusal(
        "getBlockHeader", **name_of(block), root_hash="11" * 32, file_hash="22" * 32
    )
    assert status == 500
    assert words == f"LITE_SERVER_NOTREADY: block (-1,8000000000000000,{block.seqno}) is not in db"


async def test_reader_can_go_from_the_masterchain_to_transactions(api: Api) -> None:
    done = await api.give()
    for method in ("shards", "getShards"):
        (shard,) = (await api.result(method, seqno=api.node.head.seqno))["shards"]
        assert shard["workchain"] == 0
    name = {key: shard[key] for key in ("workchain", "shard", "seqno", "root_hash", "file_hash")}
    listed = await api.result("getBlockTransactions", **name)
    hashes = [base64.b64decode(item["hash"]) for item in listed["transactions"]]
    assert sorted(hashes) == sorted(item.hash for item in done)
    assert (listed["req_count"], listed["incomplete"]) == (40, False)
    first = await api.result("getBlockTransactions", **name, count=1)
    assert (first["incomplete"], len(first["transactions"])) == (True, 1)
    (last,) = first["transactions"]
    rest = await api.result(
        "getBlockTransactionsExt", **name, after_lt=last["lt"], after_hash=last["account"], count=100
    )
    assert [base64.b64decode(item["transaction_id"]["hash"]) for item in rest["transactions"]] == hashes[1:]
    assert {item["@type"] for item in rest["transactions"]} == {"raw.transactionExt"}
    master = await api.result("getBlockTransactions", workchain=-1, shard=WHOLE, seqno=api.node.head.seqno)
    assert master["transactions"] == []


async def test_reader_can_check_the_signature_of_a_block(api: Api) -> None:
    await api.give()
    block = api.node.head
    found = await api.result("getMasterchainBlockSignatures", seqno=block.seqno)
    assert base64.b64decode(found["id"]["root_hash"]) == block.id.root_hash
    (signature,) = found["signatures"]
    param = await api.result("getConfigParam", config_id=VALIDATORS)
    entry = Cell.one_from_boc(base64.b64decode(param["config"]["bytes"])).refs[0].begin_parse()
    key = entry.load_bits(len(entry.bits))[-64 - 256 : -64].tobytes()
    signed = bytes.fromhex("706e0bc5") + block.id.root_hash + block.id.file_hash
    VerifyKey(key).verify(signed, base64.b64decode(signature["signature"]))
    name = hashlib.sha256(bytes.fromhex("c6b41348") + key).digest()
    assert base64.b64decode(signature["node_id_short"]) == name


async def test_reader_can_follow_the_proof_from_the_head_to_an_old_shard_block(api: Api) -> None:
    await api.give()
    old = api.node.head.shard_block
    for _ in range(3):
        await api.give()
    found = await api.result("getShardBlockProof", **name_of(old))
    assert found["from"]["seqno"] == api.node.head.seqno
    (link,) = found["links"]
    assert base64.b64decode(link["id"]["root_hash"]) == old.id.root_hash
    (back,) = found["mc_proof"]
    assert (back["from"], back["to"]) == (found["from"], found["mc_id"])
    for proof, block in ((back["proof"], "from"), (back["dest_proof"], "to")):
        cell = Cell.one_from_boc(base64.b64decode(proof))
        check_block_header_proof(
            cell[0], base64.b64decode(found["from" if block == "from" else "mc_id"]["root_hash"])
        )
    here = await api.result("getShardBlockProof", **name_of(old), from_seqno=old.seqno)
    assert here["mc_proof"] == []
    status, words = await api.refusal("getShardBlockProof", **name_of(old), from_seqno=1)
    assert (status, words) == (500, "from mc block is too old")
    own = await api.result("getShardBlockProof", **name_of(api.node.head))
    assert (own["links"], own["mc_proof"]) == ([], [])


async def test_reader_can_see_what_waits_in_queues(api: Api) -> None:
    api.blockchain.hold()
    await api.give()
    for method in ("getOutMsgQueueSize", "getOutMsgQueueSizes"):
        found = await api.result(method)
        assert [item["size"] for item in found["shards"]] == [0, 1]
        assert [item["id"]["workchain"] for item in found["shards"]] == [-1, 0]
    api.blockchain.release()


async def test_reader_can_get_the_configuration_in_parts_and_whole(api: Api) -> None:
    config = api.blockchain.config
    for name in ("config_id", "param"):
        found = await api.result("getConfigParam", **{name: 20})
        assert found["@type"] == "configInfo"
        assert Cell.one_from_boc(base64.b64decode(found["config"]["bytes"])) == config.param(20)
    missing = await api.result("getConfigParam", config_id=4242)
    assert missing["config"] == {"@type": "tvm.cell", "bytes": ""}
    whole = await api.result("getConfigAll", seqno=1)
    params = Cell.one_from_boc(base64.b64decode(whole["config"]["bytes"])).begin_parse()
    table = type(params).load_hashmap(params, 32)
    assert table[20].load_ref() == config.param(20)


async def test_reader_can_get_libraries_by_hash(api: Api) -> None:
    library = begin_cell().store_uint(0x1234, 16).end_cell()
    api.blockchain.set_libraries([library])
    found = await api.result("getLibraries", libraries=[library.hash.hex(), "00" * 32])
    (entry,) = found["result"]
    assert base64.b64decode(entry["hash"]) == library.hash
    assert Cell.one_from_boc(base64.b64decode(entry["data"])) == library
    text = base64.b64encode(library.hash).decode()
    _, body = await api.ask(
        "GET", "/api/v2/getLibraries", params=[("libraries", text), ("libraries", "00" * 32)]
    )
    assert body["result"] == found
    assert (await api.result("getAddressState", address=NOBODY.to_str())) == "uninitialized"
