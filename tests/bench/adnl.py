"""How many `sendMessage` a second a sandbox takes over ADNL, sealed, from unmodified pytoniq clients.

The server runs in a process of its own; pre-signed wallet messages go over several connections. Every message
is a transfer: the wallet's transaction and the receiver's. What was accepted is counted by the clients, what
was executed by the server, and both must be everything.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey
from pytoniq import LiteClient, WalletV4R2
from pytoniq.contract.contract import Contract
from pytoniq.contract.wallets.wallet import WALLET_V4_R2_CODE
from pytoniq_core import Address
from pytoniq_core.tlb.account import StateInit

WALLETS = 200
MESSAGES_PER_WALLET = 10
CONNECTIONS = 4
IN_FLIGHT = 64
"""Messages that one connection has under way at a time."""
_WALLET_ID = 698983191
_BALANCE = 100 * 10**9
_AMOUNT = 10**6
_VALID_UNTIL = 0xFFFF_FFFF
_SINK = Address((0, b"\x51" * 32))
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class SendRate:
    """Messages per second, how many were accepted and executed, and in how many blocks."""

    per_s: float
    seconds: float
    accepted: int
    transactions: int
    blocks: int
    connections: int


def adnl_sends_per_s(
    *, wallets: int = WALLETS, messages_per_wallet: int = MESSAGES_PER_WALLET, connections: int = CONNECTIONS
) -> tuple[float, SendRate]:
    """Measure once; return the rate and the details. Raises `AssertionError` when a message was lost."""
    measured = asyncio.run(_measure(wallets, messages_per_wallet, connections))
    return measured.per_s, measured


async def _measure(wallets: int, messages_per_wallet: int, connections: int) -> SendRate:
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.adnl",
        str(wallets),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        config = json.loads(await server.stdout.readline())
        queues = [
            [_signed(index, messages_per_wallet) for index in range(start, wallets, connections)]
            for start in range(connections)
        ]
        clients = [LiteClient.from_config(config, trust_level=2) for _ in range(connections)]
        await asyncio.gather(*(client.connect() for client in clients))
        begin = time.perf_counter()
        accepted = sum(await asyncio.gather(*map(_send_all, clients, queues)))
        seconds = time.perf_counter() - begin
        await asyncio.gather(*(client.close() for client in clients))
        server.stdin.write(b"\n")
        counted = json.loads(await server.stdout.readline())
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()
    total = wallets * messages_per_wallet
    assert accepted == total, f"{accepted} of {total} messages were accepted"
    assert counted["transactions"] == 2 * total, (
        f"{counted['transactions']} transactions instead of {2 * total}"
    )
    return SendRate(
        per_s=total / seconds,
        seconds=seconds,
        accepted=accepted,
        transactions=counted["transactions"],
        blocks=counted["blocks"],
        connections=connections,
    )


async def _send_all(client: LiteClient, queues: list[list[bytes]]) -> int:
    """Send messages, those of one wallet in order; return how many were accepted."""
    places = asyncio.Semaphore(IN_FLIGHT)

    async def send(message: bytes) -> int:
        try:
            return int(await client.raw_send_message(message))
        finally:
            places.release()

    tasks = []
    for message in (message for turn in zip(*queues, strict=True) for message in turn):
        await places.acquire()
        tasks.append(asyncio.create_task(send(message)))
    return sum(await asyncio.gather(*tasks))


# -- wallets ------------------------------------------------------------------------------------------


def _key(index: int) -> SigningKey:
    return SigningKey(index.to_bytes(32, "big"))


def _wallet(index: int) -> StateInit:
    data = WalletV4R2.create_data_cell(bytes(_key(index).verify_key), wc=0)
    return StateInit(code=WALLET_V4_R2_CODE, data=data)


def _signed(index: int, count: int) -> list[bytes]:
    """Return a wallet's transfers, signed and in order."""
    key = _key(index)
    private = bytes(key) + bytes(key.verify_key)
    address = Address((0, _wallet(index).serialize().hash))
    transfer = WalletV4R2.create_wallet_internal_message(_SINK, value=_AMOUNT, bounce=False)
    messages = []
    for seqno in range(count):
        body = WalletV4R2.raw_create_transfer_msg(
            private, seqno, _WALLET_ID, [transfer], valid_until=_VALID_UNTIL
        )
        messages.append(Contract.create_external_msg(dest=address, body=body).serialize().to_boc())
    return messages


# -- the server's process -------------------------------------------------------------------------------


async def _serve(wallets: int) -> None:
    from cocoon_sdk.sandbox import Blockchain
    from cocoon_sdk.sandbox.liteserver import LiteServer
    from cocoon_sdk.sandbox.node import Node

    blockchain = Blockchain()
    for index in range(wallets):
        blockchain.deploy(_wallet(index).serialize(), _BALANCE)
    async with Node(blockchain) as node, LiteServer(node) as server:
        before, first = len(blockchain.transactions(limit=1 << 30)), node.head.seqno
        _tell(server.global_config())
        await asyncio.to_thread(sys.stdin.readline)
        made = len(blockchain.transactions(limit=1 << 30)) - before
        _tell({"transactions": made, "blocks": node.head.seqno - first})


def _tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
