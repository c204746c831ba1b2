"""The messages that both sandboxes are timed with: the same bytes, made before any clock runs.

Owns what a realistic mixture is. Knows nothing of timing.

Senders are wallets of three versions with valid signatures. Of ten externals four pay one to four other
wallets, one pays an address that nobody used, two go to an address where nothing can be run and bounce, and
three move jettons, which takes five transactions or so. A fixed seed draws everything.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.interop.foreign_contracts import Jetton, Transfer, Version, Wallet, transfer

_SEED = 20_26
_VERSIONS: tuple[Version, ...] = ("v3r2", "v4r2", "v5r1")
_WALLETS = 30
_KINDS = ("pay",) * 4 + ("first",) + ("bounce",) * 2 + ("jetton",) * 3
_PAY_FEES_SEPARATELY = 1
_IGNORE_ERRORS = 2
_MODE = _PAY_FEES_SEPARATELY | _IGNORE_ERRORS


@dataclass(frozen=True)
class Workload:
    """A chain that is ready, the messages that made it so, and rounds of external messages, as bags."""

    chain: Blockchain
    setup: list[bytes]
    rounds: list[list[bytes]]


def prepare(rounds: int, externals: int) -> Workload:
    """Deploy everybody on a chain of ours and sign `rounds` times `externals` messages."""
    chain = Blockchain()
    wallets = [Wallet(_VERSIONS[i % len(_VERSIONS)], f"bench {i}") for i in range(_WALLETS)]
    for wallet in wallets:
        chain.deploy(wallet.init, Nano.ton(1_000_000))
    jetton = Jetton(wallets[0].address)
    chain.deploy(jetton.init, Nano.ton(10))
    for wallet in wallets:
        body = Jetton.mint(wallet.address, 10**15, int(Nano.ton("0.1")))
        chain.send_internal(jetton.address, Nano.ton(1), body, src=wallets[0].address)
    setup = [
        bytes(tx.in_msg.cell.to_boc())
        for tx in reversed(chain.transactions(limit=100_000))
        if tx.parent is None
    ]
    draw = random.Random(_SEED)
    seqnos = dict.fromkeys(wallets, 0)
    batches = []
    for _ in range(rounds):
        batch = []
        for _ in range(externals):
            wallet = draw.choice(wallets)
            transfers = _transfers(draw, wallets, wallet, jetton)
            batch.append(bytes(wallet.request(transfers, seqnos[wallet]).to_boc()))
            seqnos[wallet] += 1
        batches.append(batch)
    return Workload(chain, setup, batches)


def _transfers(draw: random.Random, wallets: list[Wallet], sender: Wallet, jetton: Jetton) -> list[Transfer]:
    nobody = Address((0, draw.randbytes(32)))
    amount = draw.randrange(10**7, 10**9)
    match draw.choice(_KINDS):
        case "pay":
            receivers = draw.choices(wallets, k=draw.randint(1, 4))
            return [transfer(wallet.address, amount, _MODE, bounce=False) for wallet in receivers]
        case "first":
            return [transfer(nobody, amount, _MODE, bounce=False)]
        case "bounce":
            return [transfer(nobody, amount, _MODE, _comment())]
        case _:
            receiver = draw.choice(wallets).address
            body = Jetton.transfer(receiver, draw.randrange(1, 10**6), sender.address, 1)
            return [transfer(jetton.wallet(sender.address), int(Nano.ton("0.2")), _MODE, body)]


def _comment() -> Cell:
    return begin_cell().store_uint(0, 32).store_bytes(b"is anybody there?").end_cell()
