"""The books of a local network: every transaction, every balance before and after, and nothing missing.

Owns the record and its statement. Sums come from the sandbox's ledger, never from here. Must not know which
story was played.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytoniq_core import Address
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.messages import MESSAGES
from cocoon_sdk.sandbox import Blockchain, Ledger, Names, Transaction, fees
from cocoon_sdk.types import Nano, format_ton


@dataclass(frozen=True, slots=True)
class Balance:
    """One account's nanoTON before and after."""

    name: str
    address: Address
    before: Nano
    after: Nano

    @property
    def change(self) -> Nano:
        """What it gained; negative when it lost."""
        return self.after - self.before


class Books:
    """Follows a blockchain from now on."""

    def __init__(self, blockchain: Blockchain) -> None:
        self._blockchain = blockchain
        self._before = {address: blockchain.balance(address) for address in blockchain.accounts()}
        self._opening = Ledger.of(blockchain)
        self._transactions: list[Transaction] = []
        self._unsubscribe = blockchain.subscribe(self._transactions.extend)

    def close(self, names: Mapping[Address, str]) -> Statement:
        """Stop following, and add up."""
        self._unsubscribe()
        after = {address: self._blockchain.balance(address) for address in self._blockchain.accounts()}
        everyone = sorted(after, key=lambda address: (names.get(address, "~"), address.hash_part))
        balances = tuple(
            Balance(
                names.get(address, "unknown account"),
                address,
                self._before.get(address, Nano(0)),
                after[address],
            )
            for address in everyone
        )
        return Statement(
            tuple(self._transactions), balances, self._opening, Ledger.of(self._blockchain), dict(names)
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """What happened between opening and closing the books."""

    transactions: tuple[Transaction, ...]
    balances: tuple[Balance, ...]
    opening: Ledger
    closing: Ledger
    names: Mapping[Address, str]

    @property
    def fees(self) -> Nano:
        """What validators collected meanwhile, as the ledger counts it."""
        return self.closing.fees - self.opening.fees

    @property
    def is_balanced(self) -> bool:
        """Whether not one nanoTON is unaccounted for, at the end and in between.

        What the transactions say they cost has to be what the ledger says validators collected; that holds
        when nothing is under way, so messages in flight count as not balanced.
        """
        return (
            not self.opening.missing
            and not self.closing.missing
            and not self.closing.in_flight
            and self.fees == fees(self.transactions)
        )

    def verdict(self) -> str:
        """Say in one sentence whether the books balance."""
        c = self.closing
        sums = (
            f"{c.minted} minted = {c.balances} in balances + {c.in_flight} in flight + {c.fees} network fees"
        )
        if self.is_balanced:
            return f"Not one nanoTON is unaccounted for: {sums}."
        return f"THE BOOKS DO NOT BALANCE: {sums}, missing {c.missing}."

    def to_json(self) -> dict[str, Any]:
        """Return the statement as JSON values: amounts in TON as text."""
        names = self._names()
        c = self.closing
        return {
            "transactions": [_row(transaction, names) for transaction in self.transactions],
            "balances": [
                {
                    "name": balance.name,
                    "address": balance.address.to_str(),
                    "before": format_ton(balance.before),
                    "after": format_ton(balance.after),
                    "change": format_ton(balance.change),
                }
                for balance in self.balances
            ],
            "ledger": {
                "minted": format_ton(c.minted),
                "balances": format_ton(c.balances),
                "in_flight": format_ton(c.in_flight),
                "fees": format_ton(c.fees),
                "missing": format_ton(c.missing),
            },
            "balanced": self.is_balanced,
        }

    def __rich__(self) -> RenderableType:
        return Group(
            self._transaction_table(),
            Text(),
            self._balance_table(),
            Text(),
            Text(self.verdict(), style="bold green" if self.is_balanced else "bold red"),
        )

    def _names(self) -> Names:
        ops = {op: message.__name__ for op, message in MESSAGES.items()}
        return Names(ops, {code.value: code.name for code in ExitCode}, self.names)

    def _transaction_table(self) -> Table:
        names = self._names()
        table = Table(
            title="Every transaction (amounts in TON)", box=None, title_justify="left", padding=(0, 1, 0, 0)
        )
        table.add_column("#", justify="right", no_wrap=True)
        for column in ("what", "from", "to"):
            table.add_column(column, overflow="fold")
        for column in ("value", "gas", "all fees"):
            table.add_column(column, justify="right", no_wrap=True)
        for number, transaction in enumerate(self.transactions, 1):
            row = _row(transaction, names)
            what = Text(row["what"])
            if row["result"]:
                what.append(f": {row['result']}", style="yellow")
            table.add_row(
                str(number),
                what,
                Text(row["from"]),
                Text(row["to"]),
                row["value"],
                str(row["gas"]),
                format_ton(transaction.cost),
            )
        return table

    def _balance_table(self) -> Table:
        table = Table(title="Every balance (in TON)", box=None, title_justify="left", padding=(0, 2, 0, 0))
        table.add_column("account", overflow="fold")
        for column in ("before", "after", "change"):
            table.add_column(column, justify="right", no_wrap=True)
        for balance in self.balances:
            amounts = (format_ton(x) for x in (balance.before, balance.after, balance.change))
            table.add_row(Text(balance.name), *amounts)
        table.add_row("network fees", "", "", format_ton(self.fees))
        return table


def _row(transaction: Transaction, names: Names) -> dict[str, Any]:
    message = transaction.in_msg
    return {
        "lt": str(transaction.lt),
        "time": transaction.now,
        "what": _what(transaction, names),
        "from": names.account(message.src),
        "to": names.account(message.dst),
        "value": format_ton(message.value),
        "gas": transaction.gas_used,
        "fees": format_ton(transaction.total_fees),
        "forward_fees": format_ton(transaction.forward_fees),
        "exit_code": transaction.exit_code,
        "result": _result(transaction, names),
    }


def _what(transaction: Transaction, names: Names) -> str:
    message = transaction.in_msg
    if message.is_external_in:
        return "signed request"
    if message.bounced:
        return "bounced"
    if message.op is None:
        return "transfer"
    return names.op(message.op)


def _result(transaction: Transaction, names: Names) -> str:
    """Say what went wrong; nothing when all went well."""
    if transaction.exit_code is None:
        # A notice is there to be read in the history and carries no gas; a new account has no code yet.
        return "" if transaction.skipped in ("no_gas", "no_state") else f"no code: {transaction.skipped}"
    if transaction.success:
        return ""
    if transaction.exit_code in (0, 1):
        return f"action phase: {names.exit_code(transaction.action_result_code or 0)}"
    return names.exit_code(transaction.exit_code)
