"""Asking before money moves.

Owns the question and its rules: nothing moves without `--yes` or a person's yes. Must not move anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.types import Nano, format_ton

if TYPE_CHECKING:
    from pytoniq_core import Address

    from cocoon_sdk.cli.output import Output
    from cocoon_sdk.contracts.sender import OwnerMessage


class NotConfirmedError(ConfigError):
    """Money would move, and nobody said yes."""


@dataclass(frozen=True, slots=True)
class Move:
    """Money on its way: who sends how much nanoTON to whom, and what for."""

    sender: Address
    to: Address
    amount: Nano
    purpose: str

    def to_json(self) -> dict[str, Any]:
        """Return the move as JSON values; amounts as text."""
        return {
            "from": self.sender.to_str(),
            "to": self.to.to_str(),
            "amount": format_ton(self.amount),
            "nano": str(int(self.amount)),
            "purpose": self.purpose,
        }


def moves_of(owner: Address, messages: Sequence[OwnerMessage], purpose: str) -> list[Move]:
    """Describe an owner's messages."""
    return [Move(owner, message.to, message.value, purpose) for message in messages]


def agree(out: Output, moves: Sequence[Move], *, note: str, yes: bool, dry_run: bool) -> bool:
    """Show what would move and get a yes; False when it was only to be shown.

    Raises `NotConfirmedError` when a person says no, or when there is nobody to ask.
    """
    if dry_run:
        out.result({"dry_run": True, "moves": [move.to_json() for move in moves], "note": note})
        if not out.as_json:
            _show(out, moves, note)
            out.note("Nothing was sent (--dry-run).")
        return False
    if yes:
        return True
    if not out.is_interactive:
        raise NotConfirmedError(
            f"refused to move {format_ton(sum(move.amount for move in moves))} TON",
            why="there is no terminal to ask on",
            hint="Look with --dry-run, then pass --yes",
        )
    _show(out, moves, note)
    import typer

    if not typer.confirm("Go on?", err=True):
        raise NotConfirmedError("nothing was sent", why="you said no")
    return True


def _show(out: Output, moves: Sequence[Move], note: str) -> None:
    for move in moves:
        out.note(f"{move.purpose}: {move.amount} from {move.sender.to_str()} to {move.to.to_str()}")
    if note:
        out.note(note)


def parse_amount(text: str, *, zero: bool = False) -> Nano:
    """Read an amount of TON from the command line. Raises `ConfigError`."""
    try:
        amount = Nano.ton(text)
    except ValueError as error:
        raise ConfigError("not an amount", why=str(error), hint="Write it like 1.5") from None
    if amount == 0 and not zero:
        raise ConfigError("not an amount to move", why="it is 0")
    return amount
