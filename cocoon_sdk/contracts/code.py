"""The compiled contracts as package data: code cells and ABIs.

Owns reading `artifacts/`. It must not know wrappers or networks. The files are built by contracts/build.sh;
users of the package need neither Node.js nor the compiler. `artifacts/previous/` keeps the code that was
current before: accounts never change their own code, and their owners move on when they like.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, Final

from pytoniq_core import Cell

from cocoon_sdk.errors import CocoonError

NAMES: Final = ("Registry", "WorkerStake", "Escrow", "Market")
"""The contracts of the suite."""


class UnknownContractError(CocoonError):
    """There is no compiled contract of that name in this package."""


@cache
def code_cell(name: str) -> Cell:
    """Return the code of a contract such as "Escrow". Raises `UnknownContractError`."""
    return Cell.one_from_boc(_read(name, "code.boc"))


@cache
def previous_code_cell(name: str) -> Cell:
    """Return the code that escrows and stakes ran before. Raises `UnknownContractError`."""
    return Cell.one_from_boc(_read(name, "code.boc", "previous"))


def code_hash(name: str) -> bytes:
    """Return the cell hash (32 bytes) of a contract's code. Raises `UnknownContractError`."""
    value: bytes = code_cell(name).hash
    return value


def code_depth(name: str) -> int:
    """Return the depth of a contract's code cell. Raises `UnknownContractError`."""
    value: int = code_cell(name).get_depth()
    return value


def abi(name: str) -> dict[str, Any]:
    """Return a fresh copy of a contract's ABI as the compiler wrote it. Raises `UnknownContractError`."""
    value: dict[str, Any] = json.loads(_read(name, "abi.json"))
    return value


def _read(name: str, suffix: str, *folder: str) -> bytes:
    file = resources.files("cocoon_sdk.contracts").joinpath("artifacts", *folder, f"{name}.{suffix}")
    if name not in NAMES or not file.is_file():
        raise UnknownContractError(
            f"no compiled contract {name!r} in this package",
            why=f"known are {', '.join(NAMES)}",
            hint="In a checkout run contracts/build.sh; an installed package is damaged",
        )
    return file.read_bytes()
