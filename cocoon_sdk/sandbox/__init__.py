"""A TON sandbox for anybody: real contracts on the real TVM, with mainnet's prices, alone or behind servers.

The public names are loaded at their first use: the pytest plugin lives in this package and is imported in
every project that has it installed, also where the engine (the extra `sandbox`) is not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocoon_sdk.sandbox.abi_names import read_abi
    from cocoon_sdk.sandbox.actors import Actor, Outgoing
    from cocoon_sdk.sandbox.adapter import SandboxChain
    from cocoon_sdk.sandbox.blockchain import DEFAULT_NOW, FAUCET, Blockchain, Snapshot
    from cocoon_sdk.sandbox.config import NetworkConfig
    from cocoon_sdk.sandbox.errors import (
        EmulationError,
        MessageLimitError,
        OutOfOrderError,
        SandboxError,
        StackError,
        UnbalancedError,
    )
    from cocoon_sdk.sandbox.host import SandboxHost
    from cocoon_sdk.sandbox.ledger import Ledger, fees
    from cocoon_sdk.sandbox.live import LiveSandbox
    from cocoon_sdk.sandbox.live_actors import LiveActor
    from cocoon_sdk.sandbox.messages import (
        Message,
        contract_address,
        external_message,
        internal_message,
        state_init,
    )
    from cocoon_sdk.sandbox.node import Node
    from cocoon_sdk.sandbox.storage.sqlite_vault import SqliteVault
    from cocoon_sdk.sandbox.trace import Names, Trace
    from cocoon_sdk.sandbox.transactions import Transaction

__all__ = [
    "Actor",
    "Blockchain",
    "DEFAULT_NOW",
    "EmulationError",
    "FAUCET",
    "Ledger",
    "LiveActor",
    "LiveSandbox",
    "Message",
    "MessageLimitError",
    "Names",
    "NetworkConfig",
    "Node",
    "OutOfOrderError",
    "Outgoing",
    "SandboxChain",
    "SandboxError",
    "SandboxHost",
    "Snapshot",
    "SqliteVault",
    "StackError",
    "Trace",
    "Transaction",
    "UnbalancedError",
    "contract_address",
    "external_message",
    "fees",
    "internal_message",
    "read_abi",
    "state_init",
]

_ROOMS = {
    "Actor": "actors",
    "Blockchain": "blockchain",
    "DEFAULT_NOW": "blockchain",
    "EmulationError": "errors",
    "FAUCET": "blockchain",
    "Ledger": "ledger",
    "LiveActor": "live_actors",
    "LiveSandbox": "live",
    "Message": "messages",
    "MessageLimitError": "errors",
    "Names": "trace",
    "NetworkConfig": "config",
    "Node": "node",
    "OutOfOrderError": "errors",
    "Outgoing": "actors",
    "SandboxChain": "adapter",
    "SandboxError": "errors",
    "SandboxHost": "host",
    "Snapshot": "blockchain",
    "SqliteVault": "storage.sqlite_vault",
    "StackError": "errors",
    "Trace": "trace",
    "Transaction": "transactions",
    "UnbalancedError": "errors",
    "contract_address": "messages",
    "external_message": "messages",
    "fees": "ledger",
    "internal_message": "messages",
    "read_abi": "abi_names",
    "state_init": "messages",
}


def __getattr__(name: str) -> Any:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
