"""Which operator keys a stake had while its collateral was in a session.

Owns the two walks that tell: down the escrow's history to the moment that it took the collateral, and down
the stake's to the message that brought it. Must not know receipts or what follows from them.

The key before a change stands nowhere any more. But the stake itself checked the external that put its
collateral into the session: who signed that one had the key then. Later keys stand in the owner's messages.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import KeyMaterialError, MalformedError
from cocoon_sdk.history.transactions import DecodedTransaction, MessageKind
from cocoon_sdk.history.walking import MAX_SEARCH, HistoryNotFoundError, walk
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.signing import Domain, is_signed_external
from cocoon_sdk.protocol.vouchers import SessionRef


async def operator_keys(
    chain: Chain,
    session: SessionRef,
    lock: int,
    candidates: Collection[VerifyKey],
    *,
    since: int,
    until: int,
    turns: AbstractAsyncContextManager[Any] | None = None,
) -> frozenset[VerifyKey]:
    """Return which of `candidates` were the operator key of a guarded session's worker at some time.

    The time begins when the escrow took the collateral in `lock`, and ends at `until` (unix seconds); nothing
    older than `since` is looked at. Each page of a history is asked for within `turns` (see `walk`). Raises
    `HistoryNotFoundError` when the endpoint does not show it, and other `ChainError`s.
    """
    sent_lt = await _guarded_by(chain, session, lock, since, turns)
    found: set[VerifyKey] = set()
    domain: Domain | None = None
    async for transaction in walk(chain, session.worker, since=since, limit=MAX_SEARCH, turns=turns):
        if any(message.created_lt == sent_lt for message in transaction.out_messages):
            domain = await WorkerStake.at(chain, session.worker).domain()
            found.update(key for key in candidates if _is_signed(transaction, domain, key))
            return frozenset(found).intersection(candidates)
        if transaction.now <= until and (key := _key_set(transaction)) is not None:
            found.add(key)
    raise _missing(session.worker, "the message that brought the collateral")


async def _guarded_by(
    chain: Chain,
    session: SessionRef,
    lock: int,
    since: int,
    turns: AbstractAsyncContextManager[Any] | None,
) -> int:
    """Return the logical time of the message whose collateral the escrow took for the session."""
    escrow = session.domain.contract
    async for transaction in walk(chain, escrow, since=since, limit=MAX_SEARCH, turns=turns):
        message = transaction.in_message
        if message is None or message.bounced or not transaction.success or message.src != session.worker:
            continue
        content = message.content
        if not isinstance(content, m.AcceptSession) or (content.id, content.lock) != (
            session.session_id,
            lock,
        ):
            continue
        # An acceptance that changes nothing, before or after the one that did, is sent back.
        if not any(isinstance(answer.content, m.Gone) for answer in transaction.out_messages):
            return message.created_lt
    raise _missing(escrow, "that it took collateral for the session")


def _key_set(transaction: DecodedTransaction) -> VerifyKey | None:
    """Return the key that the stake's owner set with it."""
    message = transaction.in_message
    if message is None or message.bounced or not transaction.success:
        return None
    try:
        if isinstance(message.content, m.SetKey):
            return VerifyKey.from_int(message.content.key)
        if isinstance(message.content, m.ConfigureStake):
            return VerifyKey.from_int(message.content.operator_key)
    except KeyMaterialError:
        pass
    return None


def _is_signed(transaction: DecodedTransaction, domain: Domain, key: VerifyKey) -> bool:
    message = transaction.in_message
    if message is None or message.kind is not MessageKind.EXTERNAL_IN:
        return False
    try:
        return is_signed_external(message.body, c.PURPOSE_STAKE_EXTERNAL, domain, key)
    except MalformedError:
        return False


def _missing(account: Address, what: str) -> HistoryNotFoundError:
    return HistoryNotFoundError(
        f"the history of {account.to_str()} does not show {what}",
        why="the endpoint may lag, or have dropped old history",
        hint="Try again, or use an endpoint that keeps the history",
    )
