"""A liteserver for a sandbox: unmodified TON clients read the chain over ADNL-TCP and check its proofs."""

from cocoon_sdk.sandbox.liteserver.config import global_config, write_global_config
from cocoon_sdk.sandbox.liteserver.errors import QueryError, TlError, WireError
from cocoon_sdk.sandbox.liteserver.keys import ServerKey
from cocoon_sdk.sandbox.liteserver.limits import Limits
from cocoon_sdk.sandbox.liteserver.server import LiteServer
from cocoon_sdk.sandbox.liteserver.service import supported

__all__ = [
    "Limits",
    "LiteServer",
    "QueryError",
    "ServerKey",
    "TlError",
    "WireError",
    "global_config",
    "supported",
    "write_global_config",
]
