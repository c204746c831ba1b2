"""The one place of the client that chooses an adapter: a toncenter HTTP endpoint."""

from __future__ import annotations

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.clock import Clock


def connect_chain(endpoint: str, *, api_key: str | None = None, clock: Clock | None = None) -> Chain:
    """Return a chain over a toncenter v2 endpoint, such as `https://toncenter.com/api/v2`.

    Raises `ConfigError` for an endpoint that makes no sense.
    """
    return ToncenterChain(endpoint, api_key=api_key, clock=clock)
