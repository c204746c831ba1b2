"""The global configuration: the JSON by which lite clients find servers and the blocks to trust.

Owns its format. Knows nothing of sockets.
"""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from cocoon_sdk.sandbox.blocks import BlockArchive, BlockId
from cocoon_sdk.sandbox.liteserver.keys import ServerKey


class Endpoint(Protocol):
    """Where a server is reached, and its key."""

    @property
    def host(self) -> str:
        """IPv4 address."""
        ...

    @property
    def port(self) -> int:
        """TCP port."""
        ...

    @property
    def key(self) -> ServerKey:
        """The key that clients encrypt to."""
        ...


def global_config(archive: BlockArchive, servers: Sequence[Endpoint]) -> dict[str, Any]:
    """Return a configuration with these servers, the first key block and the zero state of the chain."""
    return {
        "@type": "config.global",
        "dht": {
            "@type": "dht.config.global",
            "k": 6,
            "a": 3,
            "static_nodes": {"@type": "dht.nodes", "nodes": []},
        },
        "liteservers": [
            {
                "ip": _ip(server.host),
                "port": server.port,
                "id": {"@type": "pub.ed25519", "key": server.key.public_base64},
            }
            for server in servers
        ],
        "validator": {
            "@type": "validator.config.global",
            "zero_state": _block(archive.zero_state_masterchain),
            "init_block": _block(archive.init_block.id),
            "hardforks": [],
        },
    }


def write_global_config(path: Path, archive: BlockArchive, servers: Sequence[Endpoint]) -> None:
    """Write the configuration to a file, whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(global_config(archive, servers), indent=2) + "\n")
    temporary.replace(path)


def _ip(host: str) -> int:
    """Return an IPv4 address as the signed number that configurations carry."""
    return int.from_bytes(ipaddress.IPv4Address(host).packed, "big", signed=True)


def _block(block: BlockId) -> dict[str, Any]:
    return {
        "workchain": block.workchain,
        "shard": block.shard,
        "seqno": block.seqno,
        "root_hash": base64.b64encode(block.root_hash).decode(),
        "file_hash": base64.b64encode(block.file_hash).decode(),
    }
