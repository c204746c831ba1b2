"""Reading the global configuration: packaged networks, files, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.chain.liteserver_config import MAX_FILE_BYTES, NETWORKS, LiteserverConfig
from cocoon_sdk.errors import ConfigError

KEY = "n4VDnSCUuSpjnCyUk9e3QOOd6o0ItSWYbTnW3Wnn8wk="
GOOD: dict[str, Any] = {
    "liteservers": [
        {"ip": -2018135749, "port": 53312, "id": {"@type": "pub.ed25519", "key": KEY}},
        {"ip": 0x7F000001, "port": 1, "id": {"@type": "pub.ed25519", "key": KEY}, "provided": "somebody"},
    ],
    "validator": {
        "init_block": {"workchain": -1, "shard": -(1 << 63), "seqno": 7, "root_hash": KEY, "file_hash": KEY}
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    content = copy.deepcopy(GOOD)
    holder: Any = content
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in way:
        holder = holder[part]
    holder[last] = value
    return content


@pytest.mark.parametrize("name", NETWORKS)
def test_network_can_be_loaded_by_name(name: str) -> None:
    config = LiteserverConfig.load(name)
    assert len(config.servers) >= 10
    assert config.init_block.seqno > 1_000_000
    assert name in config.origin
    assert not any(server.is_local for server in config.servers)


def test_network_can_be_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "global.config.json"
    path.write_text(json.dumps(GOOD))
    config = LiteserverConfig.load(path)
    assert [str(server) for server in config.servers] == ["135.181.177.59:53312", "127.0.0.1:1"]
    assert [server.is_local for server in config.servers] == [False, True]
    assert config.init_block.seqno == 7
    assert config.origin == str(path)


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("liteservers", [], "1 to 256"),
        ("liteservers", {}, "1 to 256"),
        ("liteservers/0/ip", "1.2.3.4", "ip is not a number"),
        ("liteservers/0/port", 0, "port is not a number"),
        ("liteservers/0/port", True, "port is not a number"),
        ("liteservers/0/id", {"@type": "pub.aes", "key": KEY}, "not ed25519"),
        ("liteservers/0/id/key", "AAAA", "key is not 32 bytes"),
        ("liteservers/0/id/key", "!" * 44, "key is not 32 bytes"),
        ("liteservers/0/id/key", "A" * 43 + "=", "small order"),
        ("validator", None, "init_block is missing"),
        ("validator/init_block/workchain", 0, "workchain"),
        ("validator/init_block/seqno", -1, "seqno"),
        ("validator/init_block/shard", 1, "shard"),
        ("validator/init_block/root_hash", 5, "root_hash is not 32 bytes"),
    ],
)
def test_configuration_cannot_be_used_when_a_part_makes_no_sense(path: str, value: object, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        LiteserverConfig.from_dict(changed(path, value))


def test_file_cannot_be_used_when_it_is_absent_large_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"FileNotFoundError.*mainnet or testnet"):
        LiteserverConfig.load(str(tmp_path / "mainet"))
    path = tmp_path / "config"
    path.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        LiteserverConfig.load(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="not JSON"):
        LiteserverConfig.load(path)
    path.write_text("[]")
    with pytest.raises(ConfigError, match="liteservers is missing"):
        LiteserverConfig.load(path)
