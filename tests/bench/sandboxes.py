"""Transactions per second of our sandbox and of @ton/sandbox, on the same messages in the same run.

Owns the rounds: warm-up, then theirs and ours in turns, so that a busy machine disturbs both. Figures are
medians over the rounds. Ours is timed from the bag of each message to the last transaction it caused; theirs
from the parsed message, as its users have it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.blocks.producer import BlockProducer
from tests.bench.workload import prepare
from tests.interop.ton_sandbox import TonSandbox

_WARM_UPS = 2
_ROUNDS = 9
_EXTERNALS = 150
_SEALED_ROUNDS = 3


@dataclass(frozen=True)
class Comparison:
    """Transactions per second of each, by round."""

    ours: list[float]
    theirs: list[float]
    sealed: list[float]
    transactions: int

    @property
    def ratio(self) -> float:
        """How many times faster ours is, by the medians."""
        return median(self.ours) / median(self.theirs)


def compare() -> Comparison:
    """Time both sandboxes, then ours with a block sealed after every external message."""
    work = prepare(_WARM_UPS + _ROUNDS + _SEALED_ROUNDS, _EXTERNALS)
    plain, sealed = work.rounds[:-_SEALED_ROUNDS], work.rounds[-_SEALED_ROUNDS:]
    ours: list[float] = []
    theirs: list[float] = []
    transactions = 0
    with TonSandbox() as other:
        other.reset(work.chain.config.cell.to_boc(), work.chain.now, timed=False)
        other.load(work.setup)
        other.run()
        for number, messages in enumerate(plain):
            other.load(messages)
            count, seconds = other.run()
            own_count, own_seconds = _deliver(work.chain, messages)
            assert count == own_count, f"round {number}: {own_count} transactions here, {count} there"
            if number >= _WARM_UPS:
                transactions += count
                theirs.append(count / seconds)
                ours.append(own_count / own_seconds)
    return Comparison(ours, theirs, [_sealed(work.chain, messages) for messages in sealed], transactions)


def _deliver(chain: Blockchain, messages: Sequence[bytes]) -> tuple[int, float]:
    gc.collect()
    count, start = 0, time.perf_counter()
    for message in messages:
        count += len(chain.send_external(message))
    return count, time.perf_counter() - start


def _sealed(chain: Blockchain, messages: Sequence[bytes]) -> float:
    producer = BlockProducer(chain)
    count, start = 0, time.perf_counter()
    for message in messages:
        transactions = chain.send_external(message)
        producer.seal(transactions)
        count += len(transactions)
    return count / (time.perf_counter() - start)
