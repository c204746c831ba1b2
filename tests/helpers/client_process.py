"""A client's process that a test starts, races and kills: `python -m tests.helpers.client_process '{...}'`.

It reaches the test's sandbox over HTTP and the test's database, does one thing, and says on standard output
how far it is, one JSON document a line. It waits for a line on standard input where several are to begin at
the same time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.http_transport import TransportLimits
from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.sessions.errors import StaleSessionError
from cocoon_sdk.client.sessions.funds.manager import SessionManager
from cocoon_sdk.client.sessions.funds.onchain import new_key
from cocoon_sdk.client.sessions.funds.records import SessionPolicy
from cocoon_sdk.client.sessions.funds.store import SessionStore
from cocoon_sdk.client.sessions.funds.tables import SESSIONS_SCHEMA
from cocoon_sdk.storage import open_database
from cocoon_sdk.types import Nano
from tests.helpers.sdk import MODEL_NAME
from tests.helpers.suite import key_of


class DeadlyChain(ToncenterChain):
    """A chain at whose first external the process is killed: before it leaves, or when it has left."""

    dies = ""

    async def send(self, message: Cell) -> bytes:
        if self.dies == "before":
            die()
        sent = await super().send(message)
        if self.dies == "after":
            die()
        return sent


def die() -> None:
    """End as a process ends that is killed: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def go() -> None:
    """Wait until the test says so."""
    say(ready=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def main(asked: dict[str, Any]) -> None:
    chain = DeadlyChain(
        asked["endpoint"], limits=TransportLimits(requests_per_s=None), max_lag_s=None, poll_s=0.01
    )
    chain.dies = asked.get("dies", "")
    client = AsyncCocoon(chain, asked["registry"], key_of("client"), owner=Address(asked["owner"]))
    database = await open_database(asked["place"], SESSIONS_SCHEMA)
    policy = SessionPolicy(deposit=Nano.ton("0.1"), low=Nano(0), lease_s=10)
    manager = SessionManager(client._context, SessionStore(database), policy=policy, holder=asked["holder"])
    offers = {offer.address.to_str(): offer for offer in await client.workers.list(MODEL_NAME)}
    wanted = [offers[name] for name in asked["workers"]]
    match asked["work"]:
        case "sign":
            held = await manager.acquire(wanted[0], Nano(1000))
            voucher = await held.sign(asked["amount"])
            say(uid=held.uid, amount=int(voucher.amount))  # to the test, not to the worker
            die()
        case "open":
            await go()
            for offer in wanted:
                held = await manager.acquire(offer, Nano(1000))
                say(uid=held.uid, session=held.ref.session_id)
        case "race":
            # Both believe that the session is theirs for the taking, again and again.
            await go()
            signed = []
            for _ in range(asked["rounds"]):
                record = (await manager.store.get(asked["uid"])) or sys.exit("no such session")
                if await manager.desk.lease(record, by_force=True) is None:
                    continue
                leased = await manager.store.get(asked["uid"])
                assert leased is not None
                held = manager._hold(leased, new_key(client._context, leased))
                with suppress(StaleSessionError):
                    for _ in range(3):
                        voucher = await held.sign(held.ledger.signed + 1)
                        signed.append([held.ledger.signed, voucher.signature.hex()])
            say(signed=signed)
    await manager.close()
    await database.close()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
