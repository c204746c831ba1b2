"""A node behind a liteserver, and what tests of foreign lite clients have in common.

Owns the wallets' keys and the little contract that tests deploy. Knows no client.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey
from pytoniq import WalletV4R2
from pytoniq.contract.wallets.wallet import WALLET_V4_R2_CODE
from pytoniq_core import Address, begin_cell
from pytoniq_core.tlb.account import StateInit

from cocoon_sdk.sandbox import Blockchain, contract_address
from cocoon_sdk.sandbox.liteserver import Limits, LiteServer
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.types import Nano

HERE = Path(__file__).parent
TON = Nano.ton("1")
_KEY = SigningKey(bytes(range(32)))
WALLET_KEY = bytes(_KEY) + bytes(_KEY.verify_key)
"""Seed and public key, as pytoniq and tonutils take them."""
ANSWER = 42


@dataclass
class Rig:
    """What a test talks to, and what it may look at from within."""

    node: Node
    server: LiteServer

    @property
    def config(self) -> dict[str, Any]:
        return self.server.global_config()


@asynccontextmanager
async def liteserver(
    limits: Limits | None = None, *, blockchain: Blockchain | None = None
) -> AsyncIterator[Rig]:
    """Start a fresh chain behind a liteserver."""
    async with Node(blockchain) as node, LiteServer(node, limits=limits) as server:
        yield Rig(node, server)


def small_contract() -> StateInit:
    """Return the StateInit of a contract whose every get-method returns 42, and which accepts everything."""
    # SETCP0 DROP 42 PUSHINT: the method's id or the message's selector is dropped
    code = begin_cell().store_bytes(bytes.fromhex("ff0030802a")).end_cell()
    return StateInit(code=code, data=begin_cell().store_uint(7, 32).end_cell())


def address_of(init: StateInit) -> Address:
    return contract_address(init.serialize())


async def run_foreign(*command: str, task: dict[str, Any], timeout_s: float = 60) -> dict[str, Any]:
    """Run a client in a process of its own; it gets a task and gives what it saw, both as JSON."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=HERE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, errors = await process.communicate(json.dumps(task).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode(errors="replace")
    seen: dict[str, Any] = json.loads(out)
    return seen


def python(script: str) -> tuple[str, str]:
    return sys.executable, str(HERE / script)


def node(script: str) -> tuple[str, str]:
    return "node", str(HERE / script)


def wallet_init(seed: bytes) -> StateInit:
    """Return the StateInit of the wallet (version 4, revision 2) of a key, as all wallets derive it."""
    public = bytes(SigningKey(seed).verify_key)
    return StateInit(code=WALLET_V4_R2_CODE, data=WalletV4R2.create_data_cell(public, wc=0))
