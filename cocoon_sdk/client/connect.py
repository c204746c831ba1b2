"""The one place of the client that chooses an adapter: a toncenter HTTP endpoint, or liteservers."""

from __future__ import annotations

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.clock import Clock
from cocoon_sdk.errors import ConfigError


def connect_chain(endpoint: str, *, api_key: str | None = None, clock: Clock | None = None) -> Chain:
    """Return a chain over a toncenter v2 endpoint, such as `https://toncenter.com/api/v2`, or liteservers.

    Those are named `mainnet`, `testnet`, or by the path of a file of the form of TON's global.config.json.
    Raises `ConfigError` for an endpoint that makes no sense.
    """
    if "://" in endpoint:
        return ToncenterChain(endpoint, api_key=api_key, clock=clock)
    from cocoon_sdk.chain.liteserver import LiteserverChain  # the lite client takes its time to import
    from cocoon_sdk.chain.liteserver_config import LiteserverConfig

    if api_key is not None:
        raise ConfigError("liteservers take no API key", hint="Leave it out, or name an HTTP endpoint")
    return LiteserverChain(LiteserverConfig.load(endpoint), clock=clock)
