"""The TL codecs, against pytoniq-core's where that is right, and against themselves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core.tl.generator import TlGenerator

from cocoon_sdk.sandbox.liteserver.errors import TlError
from cocoon_sdk.sandbox.liteserver.tl import Source, lite_schema

SCHEMA = lite_schema()
PYTONIQ = TlGenerator.with_default_schemas().generate()
PYTONIQ._auto_deserialize = False
hashes = st.binary(min_size=32, max_size=32)
longs = st.integers(-(1 << 63), (1 << 63) - 1)
ints = st.integers(-(1 << 31), (1 << 31) - 1)
block_ids = st.fixed_dictionaries(
    {"workchain": ints, "shard": longs, "seqno": ints, "root_hash": hashes, "file_hash": hashes}
)


@given(block_ids, st.lists(block_ids, max_size=4), st.binary(max_size=600))
def test_server_can_write_lists_that_pytoniq_reads(
    block: dict[str, Any], others: list[dict[str, Any]], data: bytes
) -> None:
    encoded = SCHEMA.encode("liteServer.transactionList", ids=[block, *others], transactions=data)
    read, size = PYTONIQ.deserialize(encoded)
    assert size == len(encoded)
    assert read["transactions"] == data
    assert [one["seqno"] for one in read["ids"]] == [one["seqno"] for one in [block, *others]]
    assert bytes.fromhex(read["ids"][0]["root_hash"]) == block["root_hash"]


@pytest.mark.parametrize("mode", range(32))
def test_server_can_write_exactly_the_fields_of_a_mode(mode: int) -> None:
    block = {"workchain": -1, "shard": 5, "seqno": 7, "root_hash": bytes(32), "file_hash": b"\xff" * 32}
    names = ["shard_proof", "proof", "state_proof", "init_c7", "lib_extras", "result"]
    encoded = SCHEMA.encode(
        "liteServer.runMethodResult",
        mode=mode,
        id=block,
        shardblk=block,
        exit_code=-256,
        **{name: name.encode() for name in names},
    )
    read, size = PYTONIQ.deserialize(encoded)
    assert size == len(encoded)
    bits = dict(zip(names, [0, 0, 1, 3, 4, 2], strict=True))
    assert {name for name in names if name in read} == {name for name in names if mode >> bits[name] & 1}
    assert read["exit_code"] == -256


@given(ints, st.text(max_size=400))
def test_server_can_write_errors_of_any_text(code: int, text: str) -> None:
    encoded = SCHEMA.encode("liteServer.error", code=code, message=text)
    assert SCHEMA.decode_whole(encoded, "liteServer.error") == {"code": code, "message": text}
    assert len(encoded) % 4 == 0


@given(block_ids, st.integers(0, 255), st.integers(0, 1000), hashes, longs)
def test_server_can_read_optional_fields_by_their_mode(
    block: dict[str, Any], mode: int, count: int, account: bytes, lt: int
) -> None:
    after = {"account": account, "lt": lt}
    fields = {"id": block, "mode": mode, "count": count, "after": after}
    encoded = SCHEMA.encode("liteServer.listBlockTransactions", **fields, reverse_order=True, want_proof=True)
    read = SCHEMA.decode_whole(encoded, "liteServer.listBlockTransactions")
    expected = {"id": block, "mode": mode, "count": count}
    if mode & 128:
        expected["after"] = after
    if mode & 64:
        expected["reverse_order"] = True
    if mode & 32:
        expected["want_proof"] = True
    assert read == expected


@given(st.binary(max_size=400))
def test_server_can_refuse_any_bytes_that_are_no_query(data: bytes) -> None:
    for name in ("liteServer.query", "liteServer.getBlock", "liteServer.getLibraries"):
        try:
            SCHEMA.decode_whole(SCHEMA.by_name[name].id + data, name)
        except TlError:
            continue


def test_server_cannot_be_made_to_allocate_a_vector_it_was_not_sent() -> None:
    encoded = SCHEMA.by_name["liteServer.getLibraries"].id + (0xFFFF_FFFF).to_bytes(4, "little")
    with pytest.raises(TlError, match="vector length"):
        SCHEMA.decode_whole(encoded, "liteServer.getLibraries")


def test_server_cannot_read_a_query_when_bytes_follow_it() -> None:
    encoded = SCHEMA.encode("liteServer.getTime") + b"\0\0\0\0"
    with pytest.raises(TlError, match="Too much data"):
        SCHEMA.decode_whole(encoded, "liteServer.getTime")


def test_server_cannot_read_a_constructor_it_did_not_ask_for() -> None:
    with pytest.raises(TlError, match="Unknown constructor"):
        SCHEMA.decode(Source(SCHEMA.encode("liteServer.getTime")), ("liteServer.getVersion",))


def test_server_cannot_write_a_value_that_does_not_fit() -> None:
    with pytest.raises(TlError, match="status cannot be written"):
        SCHEMA.encode("liteServer.sendMsgStatus", status=1 << 32)
    with pytest.raises(TlError, match="status cannot be written"):
        SCHEMA.encode("liteServer.sendMsgStatus")


@given(block_ids, block_ids, st.binary(max_size=64))
def test_server_can_write_boxed_links_that_read_back(
    source: dict[str, Any], target: dict[str, Any], signature: bytes
) -> None:
    signatures = {
        "@type": "liteServer.signatureSet.ordinary",
        "validator_set_hash": 1,
        "catchain_seqno": 2,
        "signatures": [{"node_id_short": bytes(32), "signature": signature}],
    }
    step = {
        "@type": "liteServer.blockLinkForward",
        "to_key_block": False,
        "from": source,
        "to": target,
        "dest_proof": b"a",
        "config_proof": b"b" * 300,
        "signatures": signatures,
    }
    fields = {"complete": True, "from": source, "to": target, "steps": [step]}
    encoded = SCHEMA.encode("liteServer.partialBlockProof", **fields)
    assert SCHEMA.decode_whole(encoded, "liteServer.partialBlockProof") == fields
