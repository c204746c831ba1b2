"""Hearing of disputes: the markets of all models that the registry lists, from a stored cursor.

Owns which accounts are watched and how far. Must not believe what it reads: a notice only says where to look.
An endpoint that does not show one market ends that market's round, not the others'; the next one goes on from
the stored cursor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.arbiter.finding_store import MAX_NOTICES, FindingStore
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.chain.watcher import AccountWatcher, Cursor, HistoryGapError
from cocoon_sdk.clock import Clock
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.market import Market
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.registry import Registry
from cocoon_sdk.errors import (
    AccountNotFoundError,
    ChainError,
    CocoonError,
    ForgedAccountError,
    MalformedError,
)
from cocoon_sdk.history import DecodedTransaction, decode_transaction, walk
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.session_states import entries_of

Noticed: TypeAlias = Callable[[Address, int, bool], Awaitable[bool]]
"""What is called with escrow and id of each dispute that somebody announced, and whether it may be refused:
false when there is no room for more of them now.
"""
LOOK_BACK_S: Final = 10 * 86_400
"""Older disputes than this have ended under all parameters: a job lives a week at most."""
_MODELS_S: Final = 600
_MAX_ROUND: Final = 512


@dataclass(slots=True)
class _Watched:
    address: Address
    watcher: AccountWatcher | None = None


class DisputeFinder:
    """Reads what is new on the markets and hands on whatever may be a dispute."""

    def __init__(self, chain: Chain, network: Network, store: FindingStore, clock: Clock) -> None:
        self._chain, self._network, self._store, self._clock = chain, network, store, clock
        self._markets: dict[bytes, _Watched] = {}
        self._models_at = -_MODELS_S

    async def pump(self, now: int, noticed: Noticed) -> None:
        """Handle what is new. Raises `ChainError` when an endpoint did not show a market, and what `noticed`
        raises: the notice is then read again.
        """
        if now >= self._models_at + _MODELS_S:
            await self._look_at_models()
            self._models_at = now
        failed: ChainError | None = None
        for watched in self._markets.values():
            try:
                with contextlib.suppress(HistoryGapError):
                    await self._pump(watched, now, noticed)
                    continue
                await self._look_back(watched, now, noticed)
            except ChainError as error:
                watched.watcher = None  # its walk was cut off; the store has the cursor
                failed = failed or error
            except CocoonError:
                watched.watcher = None
                raise
        if failed is not None:
            raise failed

    async def look_through(self, escrow: Address, noticed: Noticed) -> None:
        """Hand on every entry of an escrow that exists, whatever state it is in."""
        for number in entries_of((await Escrow.at(self._chain, escrow).state()).entries):
            await noticed(escrow, number, False)

    async def is_escrow(self, address: Address) -> bool:
        """Tell whether an address may be an escrow of this network: what cannot be read may be one."""
        try:
            await Escrow.at(self._chain, address).verify_genuine(self._network)
        except (AccountNotFoundError, ForgedAccountError):
            return False
        except CocoonError:
            return True
        return True

    async def _look_at_models(self) -> None:
        registry = Registry(self._chain, self._network.registry, clock=self._clock)
        params = await registry.params()
        for model in await registry.models():
            market = Market.of(self._chain, self._network, params, model.model_id).address
            self._markets.setdefault(bytes(market.hash_part), _Watched(market))

    async def _pump(self, watched: _Watched, now: int, noticed: Noticed) -> None:
        watcher = watched.watcher
        if watcher is None:
            cursor = await self._store.cursor(watched.address)
            if cursor is None:
                cursor = await self._look_back(watched, now, noticed)
            watcher = AccountWatcher(self._chain, watched.address, cursor, clock=self._clock, on_error=_raise)
            watched.watcher = watcher
        for _ in range(_MAX_ROUND):
            record = await watcher.next_known()
            if record is None:
                return
            with contextlib.suppress(MalformedError):  # nobody's dispute
                if not await _hand_on(decode_transaction(record), noticed, may_refuse=True):
                    watched.watcher = None  # what waits on the market costs us nothing
                    return
            # After it was followed: a cut in between looks at it twice, never not at all.
            await self._store.put_cursor(watched.address, Cursor.after(record))

    async def _look_back(self, watched: _Watched, now: int, noticed: Noticed) -> Cursor:
        """Begin with a market: its last days now, then what comes. Raises what `pump` does."""
        cursor = await Cursor.newest(self._chain, watched.address)
        async for transaction in walk(
            self._chain,
            watched.address,
            before_lt=cursor.lt + 1,
            since=now - LOOK_BACK_S,
            limit=MAX_NOTICES,
        ):
            await _hand_on(transaction, noticed, may_refuse=False)
        await self._store.put_cursor(watched.address, cursor)
        watched.watcher = None
        return cursor


async def _hand_on(transaction: DecodedTransaction, noticed: Noticed, *, may_refuse: bool) -> bool:
    message = transaction.in_message
    if message is None or message.src is None or message.bounced or message.src.wc != 0:
        return True
    if isinstance(message.content, m.DisputeNotice):
        return await noticed(message.src, message.content.id, may_refuse)
    return True


def _raise(error: ChainError, _pause_s: float) -> None:
    raise error
