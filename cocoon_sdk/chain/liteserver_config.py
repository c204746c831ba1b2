"""Which liteservers make up a network: TON's global configuration, from a file, a dict, or packaged by name.

Owns reading and bounds of it. Must not open sockets. The packaged lists (`networks/*.json`, each with origin
and date) are the public ones: servers come and go, so a file of one's own is the way when too few answer.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self

from cocoon_sdk.chain.proofs import MASTERCHAIN, WHOLE_SHARD, BlockId
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import ConfigError, KeyMaterialError

NETWORKS: Final = ("mainnet", "testnet")
MAX_SERVERS: Final = 256
MAX_FILE_BYTES: Final = 1 << 20

_HINT = "Take the network's global.config.json, or another file of that form"


@dataclass(frozen=True, slots=True)
class Liteserver:
    """One server: an IPv4 address, a TCP port, and its ed25519 key, 32 bytes."""

    host: str
    port: int
    key: bytes

    @property
    def is_local(self) -> bool:
        """Whether the server runs on this machine."""
        return ipaddress.IPv4Address(self.host).is_loopback

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LiteserverConfig:
    """The servers of one network, and the key block from which everything newer can be proven.

    `origin` says in a few words where it comes from; errors show it.
    """

    servers: tuple[Liteserver, ...]
    init_block: BlockId
    origin: str

    @classmethod
    def load(cls, network: str | Path) -> Self:
        """Return a packaged network by name, `mainnet` or `testnet`, or read a file. Raises `ConfigError`."""
        return cls.named(network) if network in NETWORKS else cls.from_file(Path(network))

    @classmethod
    def named(cls, name: str) -> Self:
        """Return a packaged network by its name. Raises `ConfigError`."""
        if name not in NETWORKS:
            raise ConfigError(f"no network {name!r} is packaged", hint=f"Known: {', '.join(NETWORKS)}")
        text = resources.files("cocoon_sdk.chain").joinpath("networks", f"{name}.json").read_text("utf-8")
        content = json.loads(text)
        return cls.from_dict(content, origin=f"the {name} list packaged on {content['origin']['date']}")

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a file of the form of TON's global.config.json. Raises `ConfigError`."""
        what = f"cannot read the network's liteservers from {path}"
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            known = " or ".join(NETWORKS)
            raise ConfigError(what, why=type(error).__name__, hint=f"Name a file, {known}") from None
        if len(raw) > MAX_FILE_BYTES:
            raise ConfigError(what, why=f"it is larger than {MAX_FILE_BYTES} bytes", hint=_HINT)
        try:
            content = json.loads(raw)
        except (ValueError, RecursionError):
            raise ConfigError(what, why="it is not JSON", hint=_HINT) from None
        return cls.from_dict(content, origin=str(path))

    @classmethod
    def from_dict(cls, content: object, *, origin: str = "the configuration given") -> Self:
        """Read the parsed global configuration. Raises `ConfigError`."""
        try:
            root = _member(content, "liteservers"), _member(_member(content, "validator"), "init_block")
            if not isinstance(root[0], list) or not 1 <= len(root[0]) <= MAX_SERVERS:
                raise ValueError(f"1 to {MAX_SERVERS} liteservers were expected")
            servers = tuple(dict.fromkeys(_server(item) for item in root[0]))
            return cls(servers, _block(root[1]), origin)
        except ValueError as error:
            raise ConfigError(f"{origin} names no liteservers", why=str(error), hint=_HINT) from None


def _member(holder: object, name: str) -> Any:
    if not isinstance(holder, Mapping) or name not in holder:
        raise ValueError(f"{name} is missing")
    return holder[name]


def _integer(holder: object, name: str, low: int, high: int) -> int:
    value = _member(holder, name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is not a number within {low}..{high}")
    return value


def _base64(holder: object, name: str) -> bytes:
    value = _member(holder, name)
    try:
        raw = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise ValueError(f"{name} is not 32 bytes of base64")
    return raw


def _server(item: object) -> Liteserver:
    ip = _integer(item, "ip", -(1 << 31), (1 << 32) - 1) & 0xFFFF_FFFF
    identity = _member(item, "id")
    if _member(identity, "@type") != "pub.ed25519":
        raise ValueError("a liteserver's key is not ed25519")
    try:
        key = VerifyKey(_base64(identity, "key"))
    except KeyMaterialError as error:
        raise ValueError(f"a liteserver's key cannot be used, {error.why}") from None
    return Liteserver(str(ipaddress.IPv4Address(ip)), _integer(item, "port", 1, 65_535), bytes(key))


def _block(item: object) -> BlockId:
    _integer(item, "workchain", MASTERCHAIN, MASTERCHAIN)
    if isinstance(item, Mapping) and "shard" in item:  # some lists leave it out
        _integer(item, "shard", WHOLE_SHARD, WHOLE_SHARD)
    seqno = _integer(item, "seqno", 0, (1 << 31) - 1)
    return BlockId(MASTERCHAIN, WHOLE_SHARD, seqno, _base64(item, "root_hash"), _base64(item, "file_hash"))
