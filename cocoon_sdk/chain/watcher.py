"""`AccountWatcher`: every transaction of one account exactly once, oldest first, from a resumable cursor.

Owns paging, gap filling, patience with failing endpoints and the detection of a chain that is no longer
the one that was watched. Must not know what the transactions mean, nor how a cursor is stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain, Link, TransactionRecord
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.errors import ChainError, ChainUnavailableError, ConfigError

ErrorCallback = Callable[[ChainError, float], None]
"""Called with each endpoint error and the seconds until the next attempt; raising ends the watcher."""


class ChainResetError(ChainError):
    """The chain no longer contains the transaction that the cursor names: it was reset, or is another one."""


class HistoryGapError(ChainError):
    """The endpoint no longer holds the transactions right after the cursor."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last transaction that was handled. The default stands before an account's first transaction."""

    lt: int = 0
    hash: bytes = bytes(32)

    def __post_init__(self) -> None:
        if self.lt < 0 or len(self.hash) != 32:
            raise ConfigError("not a cursor", why="lt must not be negative and the hash must have 32 bytes")

    @classmethod
    def after(cls, transaction: TransactionRecord) -> Cursor:
        """Return the cursor to store together with the effects of `transaction`."""
        return cls(transaction.lt, transaction.hash)

    @classmethod
    async def newest(cls, chain: Chain, address: Address) -> Cursor:
        """Return the cursor behind all that has happened so far. Raises what `Chain.account` raises."""
        state = await chain.account(address)
        return cls(state.last_lt, state.last_hash) if state.last_lt else cls()


class AccountWatcher:
    """An endless async iterator over the transactions after `cursor`; one instance serves one consumer.

    Store `Cursor.after(transaction)` in the same step as the transaction's effects: a new watcher from
    the stored cursor then goes on without loss or repetition, wherever the old one was cut off. Each
    transaction handed out follows the one before by its hash link, so no endpoint can skip or insert one.
    Endpoint errors are reported to `on_error` and outlasted, waiting `backoff_s` doubling to
    `backoff_max_s`. Memory: one page of at most `page_size` transactions and 4096 names.

    Iterating raises `ChainResetError` when the cursor's transaction is contradicted, or missing in
    `patience` consecutive looks (fewer may be a lagging endpoint), and `HistoryGapError` when the endpoint
    has dropped what came right after it. Cancelling a pending `anext` loses nothing.
    """

    _MAX_MARKS = 4096

    def __init__(
        self,
        chain: Chain,
        address: Address,
        cursor: Cursor | None = None,
        *,
        clock: Clock | None = None,
        page_size: int = 64,
        wait_s: float = 10.0,
        backoff_s: float = 0.5,
        backoff_max_s: float = 30.0,
        patience: int = 5,
        on_error: ErrorCallback | None = None,
    ) -> None:
        if not 2 <= page_size <= 1000 or min(wait_s, backoff_s, backoff_max_s) <= 0 or patience < 1:
            raise ConfigError("watcher settings make no sense", why="page_size is 2..1000, the rest positive")
        self._chain, self._address = chain, address
        self._cursor = cursor or Cursor()
        self._clock = clock or SystemClock()
        self._page_size, self._wait_s = page_size, wait_s
        self._backoff_s, self._backoff_max_s = backoff_s, backoff_max_s
        self._patience, self._on_error = patience, on_error
        self._seqno = -1
        self._failures = 0
        self._missing = 0
        # What a walk from the newest transaction down to the cursor left behind: the lowest page, newest
        # first, and the names of what the pages above it begin with, highest first. A walk longer than the
        # deque loses its highest names; the next walk finds those again.
        self._page: list[TransactionRecord] = []
        self._marks: deque[Link] = deque(maxlen=self._MAX_MARKS)

    @property
    def cursor(self) -> Cursor:
        """The last transaction that was handed out."""
        return self._cursor

    def __aiter__(self) -> AccountWatcher:
        return self

    async def __anext__(self) -> TransactionRecord:
        while True:
            transaction = await self.next_known()
            if transaction is not None:
                return transaction
            try:
                head = await self._chain.wait_head(self._seqno, self._wait_s)
            except ChainError as error:
                await self._outlast(error)
            else:
                self._seqno = head.seqno

    async def next_known(self) -> TransactionRecord | None:
        """Return the next transaction without waiting for new blocks; None when the newest is out."""
        while True:
            if self._page:
                return self._hand_out()
            if self._marks:
                await self._climb()
            elif not await self._descend():
                return None

    def _hand_out(self) -> TransactionRecord:
        transaction = self._page[-1]
        if transaction.previous != (self._cursor.lt, self._cursor.hash):
            raise self._reset(f"lt {transaction.lt} does not follow the cursor")
        self._page.pop()
        self._cursor = Cursor.after(transaction)
        return transaction

    async def _climb(self) -> None:
        """Fetch the page right above the cursor again."""
        page = await self._fetch(self._marks[-1], self._cursor.lt)
        if page and page[-1].prev_lt <= self._cursor.lt:
            self._marks.pop()
            self._page = page
            return
        # Another machine behind the same address, which has not seen everything yet: walk down anew.
        self._marks.clear()
        await self._outlast(
            ChainUnavailableError(
                f"history of {self._address.to_str()}",
                why="the endpoint's answers do not agree with each other",
            )
        )

    async def _descend(self) -> bool:
        """Walk from the newest transaction down to the cursor, leaving `_page` and `_marks`.

        Returns whether there is anything after the cursor.
        """
        marks: deque[Link] = deque(maxlen=self._MAX_MARKS)
        link: Link | None = None
        cursor = (self._cursor.lt, self._cursor.hash)
        while True:
            # The cursor's own transaction is asked for too: its presence shows that the chain is the same.
            page = await self._fetch(link, max(0, self._cursor.lt - 1))
            if page and link is not None and page[0].link != link:
                return self._suspect(ChainResetError, f"lt {link[0]} vanished while paging")
            if not page:
                if link is not None:
                    return self._suspect(
                        HistoryGapError, f"the endpoint shows nothing at lt {link[0]} and below"
                    )
                if self._cursor.lt:
                    return self._suspect(ChainResetError, f"nothing at lt {self._cursor.lt} and above")
                return False
            if not marks:
                marks.append(page[0].link)
            if page[-1].link == cursor:
                page.pop()
                break
            link = page[-1].previous
            if link == cursor:
                break
            if link[0] <= self._cursor.lt or page[-1].lt <= self._cursor.lt:
                raise self._reset(f"lt {page[-1].lt} follows lt {link[0]}")
            marks.append(link)
        self._missing = 0
        marks.pop()
        self._page, self._marks = page, marks
        return bool(page or marks)

    def _suspect(self, kind: type[ChainError], why: str) -> bool:
        """Take note of a missing transaction; raise once it has been missing for too long."""
        self._missing += 1
        if self._missing >= self._patience:
            if kind is ChainResetError:
                raise self._reset(why)
            hint = "Use an endpoint that keeps the full history"
            raise kind(f"history of {self._address.to_str()}", why=why, hint=hint)
        return False

    def _reset(self, why: str) -> ChainResetError:
        return ChainResetError(
            f"history of {self._address.to_str()} does not contain the cursor (lt {self._cursor.lt})",
            why=why,
            hint="The chain was reset or is another one: check the endpoint, or start from a new cursor",
        )

    async def _fetch(self, start: Link | None, after: int) -> list[TransactionRecord]:
        """Return one page, outlasting errors of the endpoint.

        It is asked for by name: so however much there is, and whatever else is read, one page is one page. A
        chain that was reset does not know the name any more: then what it has there shows that it was.
        """
        before = None if start is None else start[0] + 1
        while True:
            try:
                page = await self._chain.transactions(
                    self._address, limit=self._page_size, before_lt=before, after_lt=after, start=start
                )
                self._check(page, before, after)
            except ChainError as error:
                await self._outlast(error)
            else:
                self._failures = 0
                return list(page)

    def _check(self, page: list[TransactionRecord], before: int | None, after: int) -> None:
        linked = all(upper.previous == lower.link for upper, lower in pairwise(page))
        inside = not page or (page[-1].lt > after and (before is None or page[0].lt < before))
        if not linked or not inside or len(page) > self._page_size:
            raise ChainUnavailableError(
                f"history of {self._address.to_str()}", why="the endpoint's answer contradicts itself"
            )

    async def _outlast(self, error: ChainError) -> None:
        pause = min(self._backoff_max_s, self._backoff_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        if self._on_error is not None:
            self._on_error(error, pause)
        await self._clock.sleep(pause)
