"""Walking down the history of an account, newest first, within bounds of number and time.

Owns paging and what a look-up says that found nothing. Must not know what transactions mean to a job. Anybody
can send messages to an account and so make its history longer: searches that money depends on are bounded by
time and by a number that costs its maker more than they are worth, not by a page or two.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain, Link
from cocoon_sdk.errors import ChainError, MalformedError
from cocoon_sdk.history.transactions import DecodedTransaction, decode_transaction

MAX_WALK: Final = 4096
"""Transactions that a walk for somebody's eyes looks at before it gives up."""
MAX_SEARCH: Final = 1 << 20
"""Transactions that a search looks at which a payment depends on: each costs whoever pads the history gas."""
FIRST_PAGE: Final = 64
LARGE_PAGE: Final = 256
"""Page of a walk that is longer than one page: what is looked for is mostly near the top."""


class HistoryNotFoundError(ChainError):
    """The endpoint does not show the transaction that was looked for."""


async def walk(
    chain: Chain,
    address: Address,
    *,
    before_lt: int | None = None,
    after_lt: int = 0,
    since: int = 0,
    limit: int = MAX_WALK,
    turns: AbstractAsyncContextManager[Any] | None = None,
) -> AsyncIterator[DecodedTransaction]:
    """Yield transactions of an account, newest first, at most `limit`; unreadable ones are left out.

    It ends at the first one that is older than `since` (unix seconds). Each page is asked for within `turns`,
    such as a semaphore: so walks beside each other go on by turns, and a long one keeps no short one waiting.
    Raises what `Chain.transactions` raises.
    """
    turn: AbstractAsyncContextManager[Any] = contextlib.nullcontext() if turns is None else turns
    seen = 0
    start: Link | None = None  # with it a page is one page, whoever else reads histories meanwhile
    while seen < limit:
        size = min(LARGE_PAGE if seen else FIRST_PAGE, limit - seen)
        async with turn:
            page = await chain.transactions(
                address, limit=size, before_lt=before_lt, after_lt=after_lt, start=start
            )
        if not page:
            return
        for record in page:
            if record.now < since:
                return
            try:
                decoded = decode_transaction(record)
            except MalformedError:
                continue  # not made by one of our contracts' messages
            yield decoded
        seen += len(page)
        before_lt, start = None, page[-1].previous
        if start[0] <= after_lt:
            return


async def sending_transaction(chain: Chain, src: Address, created_lt: int) -> DecodedTransaction:
    """Return the transaction of `src` that sent the message created at `created_lt`.

    It is the newest one with a smaller lt. Raises `HistoryNotFoundError` when the endpoint does not show it
    (a lagging one, or a forged message), `MalformedError` when it cannot be read.
    """
    found = await chain.transactions(src, limit=1, before_lt=created_lt)
    decoded = decode_transaction(found[0]) if found else None
    if decoded is None or all(message.created_lt != created_lt for message in decoded.out_messages):
        raise HistoryNotFoundError(
            f"cannot find the transaction of {src.to_str()} that sent a message",
            why=f"no transaction at the endpoint created one at lt {created_lt}",
            hint="The endpoint may lag: try again, or use one that keeps the history",
        )
    return decoded
