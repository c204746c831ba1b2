"""Lock tables that nobody can make in a test: of a stake that has made millions of locks and kept the worst
of them.

Owns putting them into an account's data. Knows the layout of a stake's data in front of its lock table.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytoniq_core import Cell, HashMap, Slice, begin_cell

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.sandbox.cells import address_key, from_native, to_native
from cocoon_sdk.types import Nano
from tests.helpers.audit import locks
from tests.helpers.suite import Worker

_NUMBER_BITS = 32
_SPENDING_BITS = 96


@dataclass(frozen=True, slots=True)
class _Stake:
    """Data of a stake up to its lock table, and what follows."""

    seqno: int
    next_lock: int
    spending: Cell
    counts: int
    locked: int
    rest: Slice


def make_old(worker: Worker, next_lock: int) -> None:
    """Make a stake one that has made so many locks."""
    stake = _read(worker)
    _write(worker, stake, next_lock, locks(worker))


def deepen(worker: Worker, number: int, collateral: int = Nano.ton("0.2")) -> None:
    """Put the worst company around a lock: for each bit of its number one that differs there first."""
    held = locks(worker)
    company = {
        number ^ 1 << bit: m.Lock(escrow=1, collateral=collateral, end=held[number].end) for bit in range(32)
    }
    _write(worker, _read(worker), 2**_NUMBER_BITS - 1, {**company, **held})


def _read(worker: Worker) -> _Stake:
    data = worker.suite.chain.account(worker.address).data
    assert data is not None
    source = data.begin_parse()
    seqno, next_lock = source.load_uint(32), source.load_uint(_NUMBER_BITS)
    spending = begin_cell().store_bits(source.load_bits(_SPENDING_BITS)).end_cell()
    counts, locked = source.load_uint(16), source.load_uint(64)
    source.load_maybe_ref()
    return _Stake(seqno, next_lock, spending, counts, locked, source)


def _write(worker: Worker, stake: _Stake, next_lock: int, table: dict[int, m.Lock]) -> None:
    leaves = HashMap(_NUMBER_BITS, value_serializer=lambda lock, builder: builder.store_cell(lock.to_cell()))
    leaves.map = dict(table)
    data = (
        begin_cell()
        .store_uint(stake.seqno, 32)
        .store_uint(next_lock, _NUMBER_BITS)
        .store_cell(stake.spending)
        .store_uint(len(table) * 256 + stake.counts % 256, 16)
        .store_uint(sum(int(lock.collateral) for lock in table.values()), 64)
        .store_maybe_ref(leaves.serialize())
        .store_slice(stake.rest)
        .end_cell()
    )
    _set_data(worker, data)


def _set_data(worker: Worker, data: Cell) -> None:
    """Exchange an account's data cell; nothing else of it."""
    chain = worker.suite.chain
    accounts, key = chain._state.accounts, address_key(worker.address)
    old = chain.account(worker.address).data
    assert old is not None
    shard = from_native(accounts[key])
    (account,) = shard.refs
    accounts[key] = to_native(_with_ref(shard, account, _with_ref(account, old, data)))


def _with_ref(cell: Cell, old: Cell, new: Cell) -> Cell:
    builder = begin_cell().store_bits(cell.bits)
    for ref in cell.refs:
        builder.store_ref(new if ref.hash == old.hash else ref)
    return builder.end_cell()
