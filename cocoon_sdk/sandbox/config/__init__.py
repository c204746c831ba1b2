"""The network configuration that the sandbox runs on: mainnet's, as package data (see README.md here).

Owns loading and reading a configuration and replacing single parameters. Knows nothing of accounts or
transactions.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

from pytoniq_core import Cell

from cocoon_sdk.sandbox.cells import (
    NativeCell,
    Reader,
    from_native,
    native_dict,
    native_from_boc,
    to_native,
)

GLOBAL_VERSION_PARAM = 8
GLOBAL_ID_PARAM = 19
_KEY_BITS = 32


class NetworkConfig:
    """One immutable network configuration.

    `NetworkConfig.mainnet()` is the packaged one; `NetworkConfig.from_boc(...)` takes any other.
    """

    def __init__(self, native: NativeCell) -> None:
        self.native = native

    @classmethod
    def mainnet(cls) -> NetworkConfig:
        """Return the packaged mainnet configuration (global id -239)."""
        return _mainnet()

    @classmethod
    def from_boc(cls, boc: bytes) -> NetworkConfig:
        """Read a configuration from a bag of cells (`Hashmap 32 ^Cell`). Raises `MalformedError`."""
        return cls(native_from_boc(boc))

    @cached_property
    def cell(self) -> Cell:
        """The whole configuration as a public cell (a tenth of a second for mainnet's, once)."""
        return from_native(self.native)

    @cached_property
    def global_id(self) -> int:
        """The signed network id, ConfigParam 19; 0 when the configuration has none."""
        param = self.native_param(GLOBAL_ID_PARAM)
        return Reader.of(param).sint(32) if param is not None else 0

    @cached_property
    def global_version(self) -> int:
        """The TVM and protocol version, ConfigParam 8; 0 when the configuration has none."""
        param = self.native_param(GLOBAL_VERSION_PARAM)
        if param is None:
            return 0
        reader = Reader.of(param)
        reader.skip(8)
        return reader.uint(32)

    def param(self, index: int) -> Cell | None:
        """Return one parameter, or None when it is not set."""
        native = self.native_param(index)
        return None if native is None else from_native(native)

    def native_param(self, index: int) -> NativeCell | None:
        """Return one parameter as an engine's cell, or None when it is not set."""
        try:
            return self._open().lookup_ref_str(_key(index), _KEY_BITS, False)
        except RuntimeError:  # how the engine says that a key is missing
            return None

    def replace(self, index: int, value: Cell) -> NetworkConfig:
        """Return a configuration that differs in one parameter (for tests of other prices or networks)."""
        params = self._open()
        params.set_ref_str(_key(index), to_native(value), "set", _KEY_BITS, False)
        return NetworkConfig(params.get_pycell())

    def _open(self) -> Any:
        return native_dict(self.native, _KEY_BITS)


def _key(index: int) -> str:
    return str(index & 0xFFFF_FFFF)


@lru_cache(maxsize=1)
def _mainnet() -> NetworkConfig:
    return NetworkConfig.from_boc(files(__package__).joinpath("mainnet.boc").read_bytes())
