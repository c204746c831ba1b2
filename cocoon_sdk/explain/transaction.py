"""What one transaction did: message, actions, code, money, and what it caused.

Owns finding a transaction and its children over any `Chain`, and turning them into facts. Must not know
adapters or sentences.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.explain.account import recognise
from cocoon_sdk.explain.facts import (
    AccountKindName,
    ActionSeen,
    ChildSeen,
    ExternalSeen,
    Fact,
    MessageSeen,
    Outcome,
    TransactionSeen,
    TxRef,
)
from cocoon_sdk.explain.names import CodeName, action_name, code_name, message_name, readable_fields
from cocoon_sdk.history import (
    AccountKind,
    ChainMessage,
    DecodedTransaction,
    HistoryNotFoundError,
    MessageKind,
    decode_transaction,
    walk,
)

MAX_SEARCH: Final = 1024
"""Transactions of one account that a search looks at."""
_KINDS: Final = {
    AccountKindName.ESCROW: AccountKind.ESCROW,
    AccountKindName.STAKE: AccountKind.STAKE,
}


async def find_transaction(
    chain: Chain, address: Address, *, lt: int | None = None, tx_hash: bytes | None = None
) -> DecodedTransaction:
    """Return a transaction of an account by its logical time or its hash.

    Raises `HistoryNotFoundError` when the endpoint does not show it, `MalformedError` when it cannot be read.
    """
    if lt is not None:
        found = await chain.transactions(address, limit=1, before_lt=lt + 1, after_lt=lt - 1)
        if found:
            return decode_transaction(found[0])
    else:
        async for transaction in walk(chain, address, limit=MAX_SEARCH):
            if transaction.record.hash == tx_hash:
                return transaction
    wanted = f"lt {lt}" if lt is not None else f"hash {(tx_hash or b'').hex()}"
    raise HistoryNotFoundError(
        f"there is no transaction with {wanted} at {address.to_str()}",
        why=f"the endpoint shows none among its newest {MAX_SEARCH}" if lt is None else "",
        hint="Check account and transaction; the endpoint may lag or have dropped old history",
    )


async def find_among(chain: Chain, addresses: Iterable[Address], tx_hash: bytes) -> DecodedTransaction:
    """Look for a transaction by its hash alone in several accounts: no network can be asked for that.

    Raises `HistoryNotFoundError`.
    """
    for address in addresses:
        try:
            return await find_transaction(chain, address, tx_hash=tx_hash)
        except HistoryNotFoundError:
            continue
    raise HistoryNotFoundError(
        f"no known account has a transaction {tx_hash.hex()}",
        why="a hash alone does not say whose transaction it is",
        hint="Name the account: ADDRESS@HASH or ADDRESS@LT",
    )


async def transaction_facts(
    chain: Chain, transaction: DecodedTransaction, network: Network | None = None
) -> tuple[Fact, ...]:
    """Return what a transaction did and caused. Raises what the `Chain` raises."""
    found = await recognise(chain, transaction.address, network)
    where = TxRef(transaction.address, transaction.lt)
    facts: list[Fact] = [
        TransactionSeen(
            at=transaction.now,
            tx=where,
            address=transaction.address,
            account_kind=found.what.value,
            lt=transaction.lt,
            hash=transaction.record.hash,
        )
    ]
    incoming = transaction.in_message
    if incoming is not None:
        facts.append(_message(incoming, incoming=True))
        if incoming.kind is MessageKind.EXTERNAL_IN and found.what in _KINDS:
            facts += _external(transaction, _KINDS[found.what])
    facts.append(_outcome(transaction))
    facts += [_message(message, incoming=False) for message in sent_messages(transaction)]
    facts += [child async for child in _children(chain, transaction)]
    return tuple(facts)


def sent_messages(transaction: DecodedTransaction) -> tuple[ChainMessage, ...]:
    """Return the internal messages that left; logged events stand with the actions they are about."""
    return tuple(x for x in transaction.out_messages if x.kind is MessageKind.INTERNAL)


def _message(message: ChainMessage, *, incoming: bool) -> MessageSeen:
    return MessageSeen(
        incoming=incoming,
        external=message.kind is not MessageKind.INTERNAL,
        src=message.src,
        dst=message.dst,
        value=message.value,
        forward_fee=message.forward_fee,
        name=message_name(message.op),
        op=message.op,
        bounced=message.bounced,
        fields=readable_fields(message.content) if message.content is not None else {},
    )


def _external(transaction: DecodedTransaction, kind: AccountKind) -> Iterable[Fact]:
    try:
        external = transaction.external(kind)
    except MalformedError:
        return
    yield ExternalSeen(
        seqno=external.seqno,
        valid_until=external.valid_until,
        max_spend=external.max_spend,
        actions=len(external.actions),
    )
    for position, action in enumerate(external.actions, 1):
        code = transaction.skip_code(position)
        named = code_name(code) if code is not None else CodeName("", "", "")
        yield ActionSeen(
            position=position,
            name=action_name(action),
            fields=readable_fields(action),
            exit_code=code,
            code_name=named.name,
            why=named.why,
            hint=named.hint,
        )


def _outcome(transaction: DecodedTransaction) -> Outcome:
    # The action phase has codes of its own; they count when the code itself ran well.
    code = transaction.exit_code if not _ran_well(transaction) else transaction.action_code
    named = CodeName("", "", "") if transaction.success or code is None else code_name(code)
    return Outcome(
        success=transaction.success,
        exit_code=transaction.exit_code,
        action_code=transaction.action_code,
        name=named.name,
        why=named.why,
        hint=named.hint,
        gas_used=transaction.gas_used,
        fees=transaction.total_fees,
        forward_fees=transaction.forward_fees,
    )


def _ran_well(transaction: DecodedTransaction) -> bool:
    return transaction.exit_code in (0, 1)


async def _children(chain: Chain, transaction: DecodedTransaction) -> AsyncIterator[ChildSeen]:
    for message in sent_messages(transaction):
        if message.dst is None:
            continue
        child = await child_of(chain, transaction.address, message)
        code = None if child is None else child.exit_code
        failed = child is not None and not child.success and code is not None
        yield ChildSeen(
            name=message_name(message.op),
            to=message.dst,
            child=None if child is None else TxRef(child.address, child.lt),
            success=None if child is None else child.success,
            exit_code=code,
            code_name=code_name(code).name if failed and code is not None else "",
            fees=None if child is None else child.total_fees + child.forward_fees,
        )


async def child_of(chain: Chain, sender: Address, message: ChainMessage) -> DecodedTransaction | None:
    """Return the transaction that received a message; None while it is under way, or out of reach."""
    if message.dst is None:
        return None
    async for transaction in walk(chain, message.dst, after_lt=message.created_lt, limit=MAX_SEARCH):
        incoming = transaction.in_message
        if incoming is not None and incoming.created_lt == message.created_lt and incoming.src == sender:
            return transaction
    return None
