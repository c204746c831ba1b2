"""How payload and result bytes travel: inside messages, or at a location."""

from cocoon_sdk.data.directory import DirectoryStore
from cocoon_sdk.data.filesystems import FsspecStore
from cocoon_sdk.data.inline import (
    MAX_CHAIN_BYTES,
    ForwardPrices,
    bytes_to_chain,
    chain_to_bytes,
    inline_cost,
)
from cocoon_sdk.data.location import (
    MAX_INLINE_BYTES,
    REMOTE_SCHEMES,
    DataRef,
    InlineData,
    Location,
    LocationRefusedError,
    decode_data,
    encode_data,
)
from cocoon_sdk.data.store import DEFAULT_MAX_BYTES, DataSource, DataStore, RoutingSource, read_data
from cocoon_sdk.data.web import AddressPolicy, HttpSource

__all__ = [
    "DEFAULT_MAX_BYTES",
    "MAX_CHAIN_BYTES",
    "MAX_INLINE_BYTES",
    "REMOTE_SCHEMES",
    "AddressPolicy",
    "DataRef",
    "DataSource",
    "DataStore",
    "DirectoryStore",
    "ForwardPrices",
    "FsspecStore",
    "HttpSource",
    "InlineData",
    "Location",
    "LocationRefusedError",
    "RoutingSource",
    "bytes_to_chain",
    "chain_to_bytes",
    "decode_data",
    "encode_data",
    "inline_cost",
    "read_data",
]
