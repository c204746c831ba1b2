"""An OpenAI-compatible HTTP server in front of a client's sessions: keys, budgets, limits, metrics.

Owns everything between a socket and `InferenceClient`. Must not know how workers are found, asked or paid.
"""

from cocoon_sdk.gateway.budgets import Budgets
from cocoon_sdk.gateway.config import GatewayConfig
from cocoon_sdk.gateway.errors import GatewayError
from cocoon_sdk.gateway.key_store import SCHEMA, KeyStore, KeyUse
from cocoon_sdk.gateway.keys import ApiKey, KeyLimits, UnknownKeyError, new_key
from cocoon_sdk.gateway.server import GatewayServer
from cocoon_sdk.gateway.treasury import Treasury, TreasuryView

__all__ = [
    "ApiKey",
    "Budgets",
    "GatewayConfig",
    "GatewayError",
    "GatewayServer",
    "KeyLimits",
    "KeyStore",
    "KeyUse",
    "SCHEMA",
    "Treasury",
    "TreasuryView",
    "UnknownKeyError",
    "new_key",
]
