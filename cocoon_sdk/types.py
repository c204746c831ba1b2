"""Frozen values that every room shares: money, hashes, addresses.

Must not import anything else of ours. Money is an integer number of nanoTON, never a float.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NewType, SupportsIndex

Hash = NewType("Hash", bytes)
"""32 bytes: SHA-256 or a cell hash."""

_TON = re.compile(r"\A(\d{1,10})(?:\.(\d{1,9}))?\Z")
NANO_PER_TON = 1_000_000_000
MAX_COINS = (1 << 120) - 1
"""Largest value a TL-B `Coins` field holds."""


class Nano(int):
    """An amount of nanoTON (1 TON = 10^9 nanoTON). Sums and differences stay `Nano`.

    Division is refused: every division of money needs a stated rounding direction, so use
    `//` (down) or `-(-a // b)` (up) on `int(...)` deliberately.
    """

    __slots__ = ()

    @classmethod
    def ton(cls, amount: str | int | Decimal) -> Nano:
        """Parse an exact amount of TON such as "0.25"; refuses more than nine decimals and floats."""
        if isinstance(amount, float):  # bool/float sneak past annotations at run time
            raise TypeError("a float is not money: pass a string such as '0.25'")
        match = _TON.match(format(amount, "f") if isinstance(amount, Decimal) else str(amount).strip())
        if not match:
            raise ValueError(
                f"{amount!r} is not an amount of TON: expected digits with at most nine decimals"
            )
        whole, fraction = match.groups()
        return cls(int(whole) * NANO_PER_TON + int((fraction or "").ljust(9, "0")))

    def __add__(self, other: int) -> Nano:
        return Nano(int(self) + int(other))

    __radd__ = __add__

    def __sub__(self, other: int) -> Nano:
        return Nano(int(self) - int(other))

    def __neg__(self) -> Nano:
        return Nano(-int(self))

    def __mul__(self, other: int) -> Nano:
        if isinstance(other, float):
            raise TypeError("money is never multiplied by a float")
        return Nano(int(self) * int(other))

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> float:
        raise TypeError("dividing money needs a rounding direction: use // on int(...)")

    def __round__(self, ndigits: SupportsIndex | None = None) -> int:
        return int(self)

    def __str__(self) -> str:
        return f"{format_ton(self)} TON"

    def __repr__(self) -> str:
        return f"Nano({int(self)})"


def format_ton(amount: int) -> str:
    """Render nanoTON exactly as decimal TON without trailing zeros: 1_500_000_000 -> '1.5'."""
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(int(amount)), NANO_PER_TON)
    text = f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")
    return sign + text
