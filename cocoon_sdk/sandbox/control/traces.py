"""Which transactions belong together.

Owns finding causes and consequences. Pure: knows nothing of names or of showing them.
"""

from __future__ import annotations

from collections.abc import Sequence

from cocoon_sdk.sandbox.transactions import Transaction

MAX_TRACE = 10_000


def root_of(transaction: Transaction) -> Transaction:
    """Return the transaction that everything began with."""
    while transaction.parent is not None:
        transaction = transaction.parent
    return transaction


def whole_trace(transaction: Transaction, history: Sequence[Transaction]) -> list[Transaction]:
    """Return a transaction's root and all that followed from it, out of a history that is oldest first."""
    root = root_of(transaction)
    members = {id(root)}
    found = [root]
    for candidate in history:
        if candidate.lt > root.lt and candidate.parent is not None and id(candidate.parent) in members:
            members.add(id(candidate))
            found.append(candidate)
            if len(found) >= MAX_TRACE:
                break
    return found


def related(chosen: Sequence[Transaction]) -> list[Transaction]:
    """Return transactions together with everything that caused them, oldest first."""
    found: dict[int, Transaction] = {}
    for transaction in chosen:
        current: Transaction | None = transaction
        while current is not None and id(current) not in found:
            found[id(current)] = current
            current = current.parent
    return sorted(found.values(), key=lambda transaction: transaction.lt)
