"""Showing what happened: transactions as a tree or a table, with names for numbers.

Owns the rendering and the registries of names that users fill. Knows no contract: without names it shows
opcodes and exit codes as numbers, except for the codes that TVM itself defines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pytoniq_core import Address
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from cocoon_sdk.sandbox.cells import address_key, key_address
from cocoon_sdk.sandbox.messages import BOUNCED_OP, Message
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.types import Nano

TVM_EXIT_CODES: Mapping[int, str] = {
    0: "ok",
    1: "ok",
    2: "stack underflow",
    3: "stack overflow",
    4: "integer overflow",
    5: "integer out of range",
    6: "invalid opcode",
    7: "type check",
    8: "cell overflow",
    9: "cell underflow",
    10: "dictionary",
    11: "unknown",
    12: "fatal",
    13: "out of gas",
    -14: "out of gas",
    32: "invalid action list",
    33: "too many actions",
    34: "invalid action",
    35: "invalid source address",
    36: "invalid destination address",
    37: "not enough TON",
    38: "not enough extra currency",
    40: "not enough funds to process a message",
    43: "library limits exceeded",
    50: "account state too big",
}
_PLAIN_WIDTH = 240
_MAX_INDENTS = 20  # deeper, what follows stands below instead of further right


class Names:
    """What opcodes, exit codes and accounts are called; `a | b` joins two registries, `b` winning."""

    def __init__(
        self,
        ops: Mapping[int, str] | None = None,
        exit_codes: Mapping[int, str] | None = None,
        accounts: Mapping[Address, str] | Iterable[tuple[Address, str]] | None = None,
    ) -> None:
        pairs = accounts.items() if isinstance(accounts, Mapping) else accounts or ()
        self._ops = dict(ops or {})
        self._exit_codes = dict(exit_codes or {})
        self._accounts = {address_key(address): name for address, name in pairs}

    def __or__(self, other: Names) -> Names:
        joined = Names(self._ops | other._ops, self._exit_codes | other._exit_codes)
        joined._accounts = self._accounts | other._accounts
        return joined

    def op(self, op: int | None) -> str:
        """Name an opcode."""
        if op is None:
            return "-"
        return self._ops.get(op, "bounced" if op == BOUNCED_OP else f"0x{op:08x}")

    def exit_code(self, code: int) -> str:
        """Name an exit code of a contract or of TVM, with its number unless it is a plain success."""
        if code in (0, 1) and code not in self._exit_codes:
            return TVM_EXIT_CODES[code]
        name = self._exit_codes.get(code) or TVM_EXIT_CODES.get(code)
        return f"{name} ({code})" if name else f"exit {code}"

    def account(self, address: Address | None) -> str:
        """Name an account, or shorten its address."""
        return "outside" if address is None else self._account(address_key(address))

    def _account(self, key: int) -> str:
        name = self._accounts.get(key)
        if name is not None:
            return name
        text: str = key_address(key).to_str()
        return f"{text[:6]}..{text[-4:]}"


class Trace:
    """Transactions, ready to be printed: `str(trace)` is plain text, `rich.print(trace)` has colours."""

    def __init__(self, transactions: Sequence[Transaction], names: Names | None = None) -> None:
        self.transactions = tuple(transactions)
        self.names = names or Names()

    def tree(self) -> Tree:
        """Return who caused what; messages nobody has received yet are shown as pending."""
        shown = {id(transaction) for transaction in self.transactions}
        children: dict[int, list[Transaction]] = {}
        roots = []
        for transaction in self.transactions:
            if transaction.parent is not None and id(transaction.parent) in shown:
                children.setdefault(id(transaction.parent), []).append(transaction)
            else:
                roots.append(transaction)
        tree = Tree(f"[bold]{len(self.transactions)} transactions, {self._cost()} in fees[/]")
        # Not recursive: a chain of messages may be longer than Python's recursion limit.
        waiting = [(tree, root, 0) for root in reversed(roots)]
        while waiting:
            branch, transaction, depth = waiting.pop()
            node = branch.add(self._line(transaction))
            if depth > _MAX_INDENTS:
                node = branch
            below = {child.in_msg.hash: child for child in children.get(id(transaction), ())}
            following = []
            for message in transaction.out_msgs:
                child = below.get(message.hash)
                if child is not None:
                    following.append((node, child, depth + 1))
                else:
                    node.add(self._undelivered(message))
            waiting.extend(reversed(following))
        return tree

    def table(self) -> Table:
        """Return one row per transaction, in order."""
        table = Table("lt", "from", "to", "value", "op", "result", "gas", "fees", "forward", box=None)
        for transaction in self.transactions:
            message = transaction.in_msg
            table.add_row(
                str(transaction.lt),
                escape(self.names.account(message.src)),
                escape(self.names.account(message.dst)),
                str(message.value),
                escape(self._op(message)),
                self._result(transaction),
                str(transaction.gas_used),
                str(transaction.total_fees),
                str(transaction.forward_fees),
            )
        return table

    def _line(self, transaction: Transaction) -> str:
        message = transaction.in_msg
        sender, receiver = (escape(self.names.account(address)) for address in (message.src, message.dst))
        return (
            f"{sender} -> [bold]{receiver}[/]  "
            f"{escape(self._op(message))}  {message.value}  {self._result(transaction)}  "
            f"[dim]gas {transaction.gas_used}  fees {transaction.cost}[/]"
        )

    def _undelivered(self, message: Message) -> str:
        if message.is_external_out:
            return f"[dim]event {escape(self.names.op(message.op))}[/]"
        receiver = escape(self.names.account(message.dst))
        return f"[yellow]pending[/] -> {receiver}  {escape(self._op(message))}  {message.value}"

    def _op(self, message: Message) -> str:
        if not message.bounced:
            name = self.names.op(message.op)
            # What comes from outside mostly begins with a signature.
            return "external" if message.is_external_in and name.startswith("0x") else name
        rest = message.body.begin_parse()
        if message.op != BOUNCED_OP or len(rest.bits) < 64:
            return "bounced"
        return f"bounced {self.names.op(rest.skip_bits(32).load_uint(32))}"

    def _result(self, transaction: Transaction) -> str:
        if transaction.exit_code is None:
            text, style = f"no code run ({transaction.skipped})", "yellow"
        elif not transaction.compute or not transaction.compute.success:
            text, style = self.names.exit_code(transaction.exit_code), "red"
        elif transaction.action_result_code:
            text, style = f"action phase: {self.names.exit_code(transaction.action_result_code)}", "red"
        else:
            text, style = self.names.exit_code(transaction.exit_code), "green"
        if transaction.bounced_back:
            text += ", bounced"
        return f"[{style}]{escape(text)}[/]"

    def _cost(self) -> Nano:
        return Nano(sum(int(transaction.cost) for transaction in self.transactions))

    def __rich__(self) -> Tree:
        return self.tree()

    def __str__(self) -> str:
        console = Console(width=_PLAIN_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
        with console.capture() as capture:
            console.print(self.tree())
        return "\n".join(line.rstrip() for line in capture.get().splitlines())
