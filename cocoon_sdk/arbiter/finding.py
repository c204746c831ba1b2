"""Hearing of disputes: the markets of all models that the registry lists, from a stored cursor.

Owns which accounts are watched and how far. Must not believe what it reads: a notice only says where to look.
An endpoint that fails ends the round; the next one goes on from the stored cursor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.arbiter.errors import TooManyDisputesError
from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.chain.watcher import AccountWatcher, Cursor, HistoryGapError
from cocoon_sdk.clock import Clock
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.market import Market
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.registry import Registry
from cocoon_sdk.errors import ChainError, MalformedError
from cocoon_sdk.history import DecodedTransaction, decode_transaction, walk
from cocoon_sdk.protocol import messages as m

Noticed: TypeAlias = Callable[[Address, int], Awaitable[None]]
"""What is called with escrow and id of each dispute that somebody announced."""
LOOK_BACK_S: Final = 10 * 86_400
"""Older disputes than this have ended under all parameters: a job lives a week at most."""
_MODELS_S: Final = 600
_MAX_ROUND: Final = 512
_MAX_LOOK_BACK: Final = 4096


@dataclass(slots=True)
class _Watched:
    address: Address
    watcher: AccountWatcher | None = None


class DisputeFinder:
    """Reads what is new on the markets and hands on whatever may be a dispute."""

    def __init__(self, chain: Chain, network: Network, store: ArbiterStore, clock: Clock) -> None:
        self._chain, self._network, self._store, self._clock = chain, network, store, clock
        self._markets: dict[bytes, _Watched] = {}
        self._models_at = -_MODELS_S

    async def pump(self, now: int, noticed: Noticed) -> None:
        """Handle what is new. Raises `ChainError` when the endpoint fails, and what `noticed` raises:
        the notice is then read again.
        """
        if now >= self._models_at + _MODELS_S:
            await self._look_at_models()
            self._models_at = now
        for watched in self._markets.values():
            try:
                await self._pump(watched, now, noticed)
            except HistoryGapError:
                await self._look_back(watched, now, noticed)
            except (ChainError, TooManyDisputesError):
                watched.watcher = None  # its walk was cut off; the store has the cursor
                raise

    async def look_through(self, escrow: Address, noticed: Noticed) -> None:
        """Hand on every entry of an escrow that exists, whatever state it is in."""
        for number in await Escrow.at(self._chain, escrow).jobs():
            await noticed(escrow, number)

    async def _look_at_models(self) -> None:
        registry = Registry(self._chain, self._network.registry, clock=self._clock)
        params = await registry.params()
        for model in await registry.models():
            market = Market.of(self._chain, self._network, params, model.model_id).address
            self._markets.setdefault(bytes(market.hash_part), _Watched(market))

    async def _pump(self, watched: _Watched, now: int, noticed: Noticed) -> None:
        if watched.watcher is None:
            cursor = await self._store.cursor(watched.address)
            if cursor is None:
                cursor = await self._look_back(watched, now, noticed)
            watched.watcher = AccountWatcher(
                self._chain, watched.address, cursor, clock=self._clock, on_error=_raise
            )
        for _ in range(_MAX_ROUND):
            record = await watched.watcher.next_known()
            if record is None:
                return
            with contextlib.suppress(MalformedError):  # nobody's dispute
                await _hand_on(decode_transaction(record), noticed)
            # After it was followed: a cut in between looks at it twice, never not at all.
            await self._store.put_cursor(watched.address, Cursor.after(record))

    async def _look_back(self, watched: _Watched, now: int, noticed: Noticed) -> Cursor:
        """Begin with a market: its last days now, then what comes."""
        cursor = await Cursor.newest(self._chain, watched.address)
        async for transaction in walk(
            self._chain, watched.address, before_lt=cursor.lt + 1, limit=_MAX_LOOK_BACK
        ):
            if transaction.now < now - LOOK_BACK_S:
                break
            await _hand_on(transaction, noticed)
        await self._store.put_cursor(watched.address, cursor)
        watched.watcher = None
        return cursor


async def _hand_on(transaction: DecodedTransaction, noticed: Noticed) -> None:
    message = transaction.in_message
    if message is None or message.src is None or message.bounced or message.src.wc != 0:
        return
    if isinstance(message.content, m.DisputeNotice):
        await noticed(message.src, message.content.id)


def _raise(error: ChainError, _pause_s: float) -> None:
    raise error
