"""Questions about now: the time, the server, the newest masterchain block.

Owns the version and abilities that the server claims, which are those of TON's own.
"""

from __future__ import annotations

from cocoon_sdk.sandbox.cells import native_hash
from cocoon_sdk.sandbox.liteserver.errors import QueryError
from cocoon_sdk.sandbox.liteserver.ids import Answer, tl_id
from cocoon_sdk.sandbox.liteserver.tl import Record
from cocoon_sdk.sandbox.node import Node

VERSION = 0x101
CAPABILITIES = 15


def get_time(node: Node, query: Record) -> Answer:
    """Answer with the chain's time, by which its contracts judge deadlines; it is not the machine's."""
    return "currentTime", {"now": node.now}


def get_version(node: Node, query: Record) -> Answer:
    """Answer with the version, the abilities and the time."""
    return "version", {"mode": 0, "version": VERSION, "capabilities": CAPABILITIES, "now": node.now}


def get_masterchain_info(node: Node, query: Record) -> Answer:
    """Answer with the newest masterchain block and the zero state."""
    return "masterchainInfo", _newest(node)


def get_masterchain_info_ext(node: Node, query: Record) -> Answer:
    """Answer with the same, and times and abilities."""
    if query["mode"] & ~1:  # bit 0 asks for the newest block whose basechain is known: that is every block
        raise QueryError("unsupported getMasterchainInfo mode")
    return "masterchainInfoExt", {
        "mode": query["mode"],
        "version": VERSION,
        "capabilities": CAPABILITIES,
        "last_utime": node.head.gen_utime,
        "now": node.now,
        **_newest(node),
    }


def _newest(node: Node) -> Record:
    head, zero = node.head, node.archive.zero_state_masterchain
    return {
        "last": tl_id(head.id),
        "state_root_hash": native_hash(head.state),
        "init": {"workchain": zero.workchain, "root_hash": zero.root_hash, "file_hash": zero.file_hash},
    }
