"""The accounts this worker watches: its stake, and the markets of models whose open jobs it serves.

Owns cursors and paging (`AccountWatcher` of the SDK). Must not know what events lead to. An endpoint that
fails ends the round, not the worker: the next round goes on from the stored cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.chain.watcher import AccountWatcher, Cursor, HistoryGapError
from cocoon_sdk.errors import ChainError, MalformedError
from cocoon_sdk.history import DecodedTransaction, decode_transaction
from cocoon_worker.bookkeeping import Bookkeeper
from cocoon_worker.context import Context
from cocoon_worker.events import Event, market_event, stake_event

_MAX_ROUND: Final = 512
"""Transactions of one account that one round handles; the rest waits for the next."""


@dataclass(slots=True)
class _Watched:
    address: Address
    read: Callable[[DecodedTransaction], Event | None]
    from_newest: bool
    watcher: AccountWatcher | None = None


class Watchers:
    """Reads what is new and hands it to the bookkeeper."""

    def __init__(
        self, context: Context, books: Bookkeeper, markets: Iterable[Address], least_fee: int
    ) -> None:
        self._context, self._books = context, books
        # A worker with a fresh journal looks at its own whole history: offers made meanwhile count. What
        # markets announced before it came has found its worker.
        self._watched = [_Watched(context.stake.address, stake_event, from_newest=False)]
        self._watched += [
            _Watched(address, lambda transaction: market_event(transaction, least_fee), from_newest=True)
            for address in markets
        ]

    async def pump(self) -> bool:
        """Handle what is new; tell whether there was anything.

        Raises `ChainError` when the endpoint fails, `ChainResetError` or `HistoryGapError` when the stake's
        history does not go on where it was left, and what `Journal` raises.
        """
        news = False
        for watched in self._watched:
            try:
                news |= await self._pump(watched)
            except HistoryGapError:
                if not watched.from_newest:
                    raise
                self._context.log.warning("market history has a gap", market=watched.address.to_str())
                await self._start_at_newest(watched)
            except ChainError:
                watched.watcher = None  # its walk was cut off; the journal has the cursor
                raise
        return news

    async def _pump(self, watched: _Watched) -> bool:
        watcher = watched.watcher or await self._watcher(watched)
        watched.watcher = watcher
        for count in range(_MAX_ROUND):
            record = await watcher.next_known()
            if record is None:
                return count > 0
            try:
                event = watched.read(decode_transaction(record))
            except MalformedError as error:
                self._context.log.warning("unreadable transaction", lt=record.lt, why=str(error))
                event = None
            self._books.note(watched.address, Cursor.after(record), event, record.now)
        return True

    async def _watcher(self, watched: _Watched) -> AccountWatcher:
        cursor = self._context.journal.cursor(watched.address)
        if cursor is None and watched.from_newest:
            cursor = await self._start_at_newest(watched)
        return AccountWatcher(
            self._context.chain,
            watched.address,
            cursor,
            clock=self._context.clock,
            on_error=_raise,
        )

    async def _start_at_newest(self, watched: _Watched) -> Cursor:
        cursor = await Cursor.newest(self._context.chain, watched.address)
        self._books.note(watched.address, cursor, None, 0)
        watched.watcher = None
        return cursor


def _raise(error: ChainError, _pause_s: float) -> None:
    raise error
