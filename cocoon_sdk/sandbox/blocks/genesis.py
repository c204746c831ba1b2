"""The beginning of a chain of blocks: the validator and the configuration that names it.

Owns the validator's key, ConfigParam 34 with it, ConfigParam 12 with the basechain's zero state, and the
short hash of the validator set that headers carry. Everything is derived from a seed: runs are alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from nacl.signing import SigningKey

from cocoon_sdk.sandbox.blocks.block import BASECHAIN, BlockId
from cocoon_sdk.sandbox.blocks.cells import bits256, byte_bits, make_cell, read_cell
from cocoon_sdk.sandbox.blocks.labels import write_label
from cocoon_sdk.sandbox.blocks.master import CATCHAIN_SEQNO
from cocoon_sdk.sandbox.cells import NativeCell, from_native
from cocoon_sdk.sandbox.config import NetworkConfig

_VALIDATORS_PARAM = 34
_WORKCHAINS_PARAM = 12
_CONFIG_ADDRESS_PARAM = 0
_WEIGHT = 1 << 60
_NEVER = 0xFFFF_FFFF
_SIGNED_BLOCK_MAGIC = b"\x70\x6e\x0b\xc5"  # ton.blockId in TL
_PUBLIC_KEY_MAGIC = b"\xc6\xb4\x13\x48"  # pub.ed25519 in TL
_VALIDATOR_SET_MAGIC = -1877581587
_ZERO_STATE_HASHES_AT = 8 + 32 + 3 * 8 + 3 + 13
_CRC32C_POLYNOMIAL = 0x82F63B78


@dataclass(frozen=True, slots=True)
class Validator:
    """The only validator of a sandbox; it signs masterchain blocks."""

    key: SigningKey

    @classmethod
    def of_seed(cls, seed: bytes) -> Validator:
        """Derive a validator from a seed of any length."""
        return cls(SigningKey(hashlib.sha256(b"sandbox validator" + seed).digest()))

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        return bytes(self.key.verify_key)

    @property
    def short_id(self) -> bytes:
        """The 32 bytes that name the key in signatures."""
        return hashlib.sha256(_PUBLIC_KEY_MAGIC + self.public_key).digest()

    def sign(self, block: BlockId) -> bytes:
        """Return the 64 bytes of signature of a masterchain block."""
        signature: bytes = self.key.sign(_SIGNED_BLOCK_MAGIC + block.root_hash + block.file_hash).signature
        return signature

    @property
    def set_hash(self) -> int:
        """The 32 bits that name the validator set in block headers."""
        data = _VALIDATOR_SET_MAGIC.to_bytes(4, "little", signed=True)
        data += CATCHAIN_SEQNO.to_bytes(4, "little") + (1).to_bytes(4, "little")
        return _crc32c(data + self.public_key + _WEIGHT.to_bytes(8, "little") + bytes(32))

    def param(self, since: int) -> NativeCell:
        """Return ConfigParam 34: this validator from a unix time on, for ever."""
        descr = f"{0x53:08b}{0x8E81278A:032b}{bits256(self.public_key)}{_WEIGHT:064b}"
        entry = make_cell(write_label("0" * 16, 16) + descr)
        bits = f"{0x12:08b}{since:032b}{_NEVER:032b}{1:016b}{1:016b}{_WEIGHT:064b}1"
        return make_cell(bits, entry)


def with_validator(config: NetworkConfig, validator: Validator, since: int) -> NetworkConfig:
    """Return a configuration whose validators, from a unix time on, are this one."""
    return config.replace(_VALIDATORS_PARAM, from_native(validator.param(since)))


def with_basechain(config: NetworkConfig, zero_state: BlockId) -> NetworkConfig:
    """Return a configuration whose basechain begins at this zero state.

    A configuration without workchains, or of another form, stays as it is.
    """
    param = config.native_param(_WORKCHAINS_PARAM)
    if param is None:
        return config
    bits, refs = read_cell(param)
    if bits != "1":
        return config
    entry, below = read_cell(refs[0])
    prefix = write_label(f"{BASECHAIN:032b}", 32)  # the basechain alone
    at = len(prefix) + _ZERO_STATE_HASHES_AT
    if not entry.startswith(prefix) or below:
        return config
    entry = entry[:at] + bits256(zero_state.root_hash) + bits256(zero_state.file_hash) + entry[at + 512 :]
    return config.replace(_WORKCHAINS_PARAM, from_native(make_cell("1", make_cell(entry))))


def config_address(config: NetworkConfig) -> str:
    """Return the 256 bits of the configuration contract's address, ConfigParam 0."""
    param = config.native_param(_CONFIG_ADDRESS_PARAM)
    return byte_bits(b"\x55" * 32) if param is None else read_cell(param)[0]


def _crc32c(data: bytes) -> int:
    value = 0xFFFF_FFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_CRC32C_POLYNOMIAL if value & 1 else 0)
    return value ^ 0xFFFF_FFFF
