"""Conservation of money, to the nanoTON.

Owns the sums over a chain and over lists of transactions. Money enters by minting and leaves as fees:
`total_fees` of every transaction (storage, gas, import of externals, the sender's share of forward fees,
fines for failed actions) and the rest of the forward fee, which an internal message carries and whoever
delivers it collects. In between it lies in balances or travels in pending messages.

Not covered: extra currencies, and the masterchain's blackhole account that burns what it gets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cocoon_sdk.sandbox.accounts import ShardAccount
from cocoon_sdk.sandbox.blockchain import Blockchain
from cocoon_sdk.sandbox.errors import UnbalancedError
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.types import Nano


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where all minted money is, in nanoTON."""

    minted: Nano
    balances: Nano
    in_flight: Nano
    fees: Nano

    @classmethod
    def of(cls, blockchain: Blockchain) -> Ledger:
        """Add up a blockchain as it is now."""
        return cls(
            minted=blockchain.minted,
            balances=_total(ShardAccount(native).balance for native in blockchain.raw_accounts()),
            in_flight=_total(
                message.value + message.fwd_fee + message.ihr_fee for message in blockchain.pending
            ),
            fees=blockchain.fees_collected,
        )

    @property
    def missing(self) -> Nano:
        """What was minted but is nowhere; negative when money appeared from nothing."""
        return self.minted - self.balances - self.in_flight - self.fees

    def assert_balanced(self) -> None:
        """Raise `UnbalancedError` unless every nanoTON is accounted for."""
        if self.missing:
            raise UnbalancedError(
                "the ledger is not balanced",
                why=f"minted {self.minted}, but balances {self.balances}, in flight {self.in_flight} and "
                f"fees {self.fees} differ from it by {self.missing}",
            )


def fees(transactions: Iterable[Transaction]) -> Nano:
    """Return what transactions cost in nanoTON: their `total_fees` and the forward fees they paid on top."""
    return _total(transaction.cost for transaction in transactions)


def _total(amounts: Iterable[int]) -> Nano:
    return Nano(sum(int(amount) for amount in amounts))
