"""The configuration, validator statistics and public libraries, with proofs.

Owns which parameters a proof shows.
"""

from __future__ import annotations

from pytoniq_core import Cell

from cocoon_sdk.sandbox.blocks import config_proof, header_proof
from cocoon_sdk.sandbox.liteserver.errors import QueryError
from cocoon_sdk.sandbox.liteserver.ids import Answer, find_master, tl_id
from cocoon_sdk.sandbox.liteserver.proofs import key_block_config_proof, libraries_proof
from cocoon_sdk.sandbox.liteserver.tl import Record
from cocoon_sdk.sandbox.node import Node

MAX_PARAMS = 256
MAX_LIBRARIES = 16
_FROM_KEY_BLOCK = 0x8000
_REFUSAL = "configuration parameters can be loaded with respect to a masterchain block only"
_NOT_MASTERCHAIN = "reference block must belong to the masterchain"


def get_config_all(node: Node, query: Record) -> Answer:
    """Answer with the whole configuration, from a state or (mode bit 15) from the last key block."""
    return _config(node, query, None)


def get_config_params(node: Node, query: Record) -> Answer:
    """Answer with some parameters of the configuration."""
    if len(query["param_list"]) > MAX_PARAMS:
        raise QueryError("too long param list")
    return _config(node, query, sorted(set(query["param_list"])))


def _config(node: Node, query: Record, params: list[int] | None) -> Answer:
    block = find_master(node.archive, query["id"], _REFUSAL)
    answer = {"mode": query["mode"] & 0xFFFF}
    if query["mode"] & _FROM_KEY_BLOCK:
        block = node.archive.init_block
        answer["state_proof"] = b""
        answer["config_proof"] = key_block_config_proof(block, params)
    else:
        answer["state_proof"] = header_proof(block)
        answer["config_proof"] = config_proof(block, params)
    return "configInfo", {**answer, "id": tl_id(block.id)}


def get_validator_stats(node: Node, query: Record) -> Answer:
    """Refuse, as a server does whose masterchain keeps no statistics of who made which block."""
    if query["limit"] <= 0:
        raise QueryError("requested entry count limit must be positive")
    if query["mode"] & ~7:
        raise QueryError("unknown flags set in mode")
    find_master(node.archive, query["id"], _NOT_MASTERCHAIN)
    raise QueryError("cannot extract block create stats from mc state")


def get_libraries(node: Node, query: Record) -> Answer:
    """Answer with public libraries by hash; those that do not exist are left out."""
    return "libraryResult", {"result": _libraries(node, query["library_list"])}


def get_libraries_with_proof(node: Node, query: Record) -> Answer:
    """Answer with public libraries and the proof that a masterchain state lists them."""
    block = find_master(node.archive, query["id"], _NOT_MASTERCHAIN)
    wanted = _wanted(query["library_list"])
    found = _libraries(node, query["library_list"])
    if query["mode"] & 2:
        found = [{"hash": entry["hash"], "data": b""} for entry in found]
    return "libraryResultWithProof", {
        "id": tl_id(block.id),
        "mode": query["mode"],
        "result": found,
        "state_proof": header_proof(block),
        "data_proof": libraries_proof(block, wanted),
    }


def _wanted(hashes: list[bytes]) -> list[bytes]:
    return sorted(set(hashes[:MAX_LIBRARIES]))


def _libraries(node: Node, hashes: list[bytes]) -> list[Record]:
    known: dict[bytes, Cell] = {library.hash: library for library in node.blockchain.libraries}
    return [{"hash": one, "data": known[one].to_boc()} for one in _wanted(hashes) if one in known]
