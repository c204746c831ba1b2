"""A TON sandbox for anybody: real contracts on the real TVM, in memory, with mainnet's prices."""

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
from cocoon_sdk.sandbox.messages import (
    Message,
    contract_address,
    external_message,
    internal_message,
    state_init,
)
from cocoon_sdk.sandbox.transactions import Transaction

__all__ = [
    "Actor",
    "Blockchain",
    "DEFAULT_NOW",
    "EmulationError",
    "FAUCET",
    "Message",
    "MessageLimitError",
    "NetworkConfig",
    "OutOfOrderError",
    "Outgoing",
    "SandboxChain",
    "SandboxError",
    "Snapshot",
    "StackError",
    "Transaction",
    "UnbalancedError",
    "contract_address",
    "external_message",
    "internal_message",
    "state_init",
]
