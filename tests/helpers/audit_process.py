"""A client process that is killed amid a dispute: `python -m tests.helpers.audit_process '{...}'`.

It reaches the test's sandbox over HTTP and the test's database, sees to what its audits left undone, and dies
where it is told to: before its first external leaves, or when it has left.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pytoniq_core import Address

from cocoon_sdk.chain.http_transport import TransportLimits
from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.auditing import AuditPolicy
from tests.helpers.client_process import DeadlyChain
from tests.helpers.suite import key_of


async def main(asked: dict[str, Any]) -> None:
    chain = DeadlyChain(
        asked["endpoint"], limits=TransportLimits(requests_per_s=None), max_lag_s=None, poll_s=0.01
    )
    chain.dies = asked["dies"]
    client = AsyncCocoon(
        chain,
        asked["registry"],
        key_of("client"),
        owner=Address(asked["owner"]),
        database=asked["place"],
        audit=AuditPolicy(share=1.0),
    )
    await client.audits.keep()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
