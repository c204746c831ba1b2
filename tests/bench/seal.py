"""What sealing a block costs when ten accounts changed, among a hundred accounts and among 100,000.

Owns making such chains. Sealing has to cost by what changed: the ratio of the two times is the figure.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from statistics import median

from pytoniq_core import Address

from cocoon_sdk.sandbox import Transaction
from cocoon_sdk.sandbox.blocks.cells import coins, make_cell
from cocoon_sdk.sandbox.blocks.producer import BlockProducer
from cocoon_sdk.sandbox.cells import NativeCell, address_key
from cocoon_sdk.sandbox.storage.account_set import AccountSet

FEW, MANY, CHANGED = 100, 100_000, 10
_NOW = 1_780_000_000
_BALANCE = 10**9
_WARM_UPS = 3
_BLOCKS = 25


@dataclass(frozen=True)
class SealTimes:
    """Seconds per block among few and among many accounts; seconds that the many took to set up."""

    few: float
    many: float
    setup: float

    @property
    def ratio(self) -> float:
        """How many times longer a block takes among the many."""
        return self.many / self.few


def measure() -> SealTimes:
    """Seal blocks of both chains in turns; return the medians."""
    few, _ = _chain(FEW)
    many, setup = _chain(MANY)
    times: tuple[list[float], list[float]] = [], []
    for number in range(_WARM_UPS + _BLOCKS):
        for chain, seen in zip((few, many), times, strict=True):
            seconds = chain.block()
            if number >= _WARM_UPS:
                seen.append(seconds)
    return SealTimes(median(times[0]), median(times[1]), setup)


class _SealedChain:
    def __init__(self, count: int) -> None:
        self._draw = random.Random(count)
        self._addresses = [Address((0, self._draw.randbytes(32))) for _ in range(count)]
        accounts = {address_key(address): _shard_account(address) for address in self._addresses}
        self._chain = AccountSet(_NOW, "benchmark", accounts).blockchain()
        self._producer = BlockProducer(self._chain)

    def block(self) -> float:
        """Change some accounts; return the seconds that sealing took."""
        transactions: list[Transaction] = []
        for address in self._draw.sample(self._addresses, CHANGED):
            transactions += self._chain.faucet(address, 1)
        start = time.perf_counter()
        self._producer.seal(transactions)
        return time.perf_counter() - start


def _chain(count: int) -> tuple[_SealedChain, float]:
    start = time.perf_counter()
    return _SealedChain(count), time.perf_counter() - start


def _shard_account(address: Address) -> NativeCell:
    """Return an uninitialised account that holds some money."""
    used = "000000000"  # no cells and bits counted yet, no extra information
    storage_info = f"{used}{_NOW:032b}0"  # last paid, no debt
    storage = f"{0:064b}{coins(_BALANCE)}000"  # last lt, no extra currencies, uninitialised
    account = make_cell(f"1100{address_key(address):0264b}{storage_info}{storage}")
    return make_cell("0" * (256 + 64), account)
