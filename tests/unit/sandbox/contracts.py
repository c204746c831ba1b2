"""Small contracts for the sandbox's own tests, assembled from Fift at run time."""

from __future__ import annotations

import base64
from functools import lru_cache

from pytoniq_core import Cell, begin_cell
from tonpy.fift.fift import convert_assembler

from cocoon_sdk.sandbox import state_init

EMPTY = begin_cell().end_cell()


@lru_cache(maxsize=128)
def assemble(body: str) -> Cell:
    """Assemble instructions into code that is called with the usual stack (selector on top)."""
    compiled = convert_assembler(f'"Asm.fif" include\n<{{ SETCP0 {body} }}>c')
    return Cell.one_from_boc(base64.b64decode(compiled.to_boc()))


def contract(body: str, data: Cell = EMPTY) -> Cell:
    """Return the StateInit of an assembled contract."""
    return state_init(assemble(body), data)


THROWS_33 = "33 THROW"
"""Throws whatever comes, externals included."""

ANSWERS = """
    0 EQINT 44 THROWIFNOT
    DROP CTOS 4 LDU NIP LDMSGADDR DROP
    16 INT NEWC 6 STU STSLICE 111 INT STZEROES ENDC 64 INT SENDRAWMSG
"""
"""Answers every internal message with an empty one that carries the remaining value; refuses externals."""

OVERSPENDS = """
    0 EQINT 44 THROWIFNOT
    DROP CTOS 4 LDU NIP LDMSGADDR DROP
    24 INT NEWC 6 STU STSLICE 1000000000000000 INT STGRAMS 107 INT STZEROES ENDC 16 INT SENDRAWMSG
"""
"""Tries to send a million TON and to bounce when its action phase fails."""

FORWARDS_TO_DATA = """
    0 EQINT 44 THROWIFNOT
    2DROP 2DROP c4 PUSHCTR CTOS
    16 INT NEWC 6 STU STSLICE 111 INT STZEROES ENDC 64 INT SENDRAWMSG
"""
"""Passes the incoming value on to the address kept in its data."""

EMITS = """
    0 EQINT 44 THROWIFNOT 2DROP 2DROP
    48 INT NEWC 6 STU 98 INT STZEROES 305419896 INT SWAP 32 STU ENDC 0 INT SENDRAWMSG
"""
"""Emits an external-out message with the body 0x12345678."""

ACCEPTS = "ACCEPT"
"""Accepts everything and does nothing."""

SPINS = "AGAIN:<{ }>"
"""Never ends."""


def large_data(cells: int) -> Cell:
    """Return a chain of full cells, expensive to store."""
    cell = EMPTY
    for index in range(cells):
        cell = begin_cell().store_uint(index, 1000).store_ref(cell).end_cell()
    return cell


def computes(expression: str) -> str:
    """Return a contract that stores the non-negative integer left by `expression` in its data."""
    return f"2DROP 2DROP DROP {expression} NEWC 256 STU ENDC c4 POPCTR"


def getter(expression: str) -> str:
    """Return a contract whose every method drops the method id and evaluates `expression`."""
    return f"DROP {expression}"
