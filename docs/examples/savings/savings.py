"""The app: where a savings contract is, and what one says to it. Knows pytoniq-core, but no sandbox."""

from pathlib import Path

from pytoniq_core import Address, Cell, StateInit, begin_cell

CODE = Cell.one_from_boc((Path(__file__).parent / "contract" / "Savings.code.boc").read_bytes())
WITHDRAW = 0x7E8764EF


def state_init(owner: Address, opens_at: int) -> StateInit:
    """Return what a savings contract starts with; `opens_at` is unix time in seconds."""
    data = begin_cell().store_address(owner).store_uint(opens_at, 32).end_cell()
    return StateInit(code=CODE, data=data)


def withdraw(amount: int) -> Cell:
    """Return the message by which an owner takes out an amount of nanoTON."""
    return begin_cell().store_uint(WITHDRAW, 32).store_coins(amount).end_cell()
