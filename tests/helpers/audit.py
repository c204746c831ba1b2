"""The auditor of the contract suite: what must hold whatever happens, and what a refusal must look like.

Owns the invariants (money, reserves, locks, sequence numbers, action phases) and exact assertions about
refused messages, skipped actions and payments. It must not know scenarios: those are the tests' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pytoniq_core import Address, Builder, Cell, HashMap, begin_cell

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.abi_runtime import Message
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.getters import EscrowGetters, WorkerStakeGetters
from cocoon_sdk.protocol.session_states import entries_of
from cocoon_sdk.protocol.signing import Action, account_id
from cocoon_sdk.sandbox import Blockchain, Transaction
from cocoon_sdk.sandbox.accounts import EMPTY_ACCOUNT, ShardAccount
from cocoon_sdk.sandbox.cells import address_key
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from tests.helpers.suite import Account, Client, Suite, Worker

BURN = Address((0, c.BURN_ACCOUNT.to_bytes(32, "big")))
ALL = 100_000
"""More transactions than a test makes."""


# -- the world -------------------------------------------------------------------------------------------


@dataclass
class World:
    """A network with everybody in it who has a name; `check` may be called at any time."""

    suite: Suite
    clients: list[Client] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    may_fail_in_action_phase: set[bytes] = field(default_factory=set)
    """Hashes of transactions in which somebody without a role attached too little: the only excuse."""

    @property
    def chain(self) -> Blockchain:
        return self.suite.chain

    def client(self, name: str = "client", **options: Any) -> Client:
        client = self.suite.client(name, **options)
        self.clients.append(client)
        return client

    def worker(self, name: str = "worker", **options: Any) -> Worker:
        worker = self.suite.worker(name, **options)
        self.workers.append(worker)
        return worker

    def check(self) -> None:
        """Hold every invariant of the suite against the chain as it is now."""
        Ledger.of(self.chain).assert_balanced()
        for client in self.clients:
            check_escrow(client)
        for worker in self.workers:
            check_stake(worker)
        for account in (*self.clients, *self.workers):
            for transaction in self.chain.transactions(account.address, limit=ALL):
                if transaction.hash not in self.may_fail_in_action_phase:
                    assert transaction.action_result_code in (None, 0), transaction


def new_world() -> World:
    return World(Suite(Blockchain()))


def audited() -> Iterator[World]:
    """Give a world to a test and audit it afterwards."""
    world = new_world()
    yield world
    world.check()


def entries(client: Client) -> dict[int, m.Job]:
    """Read every job of an escrow."""
    found = entries_of(client.get_state().entries)
    return {number: entry for number, entry in found.items() if isinstance(entry, m.Job)}


def sessions(client: Client) -> dict[int, m.Session]:
    """Read every session of an escrow."""
    found = entries_of(client.get_state().entries)
    return {number: entry for number, entry in found.items() if isinstance(entry, m.Session)}


def held_by(entry: m.Job | m.Session) -> int:
    """Return what an entry keeps reserved."""
    if isinstance(entry, m.Job):
        return entry.hold
    return entry.deposit - entry.redeemed + entry.gas + entry.back


def tombstones(client: Client) -> dict[tuple[int, int], m.Tombstone]:
    """Read every undelivered outcome of an escrow: (id, kind) -> tombstone.

    Those that were sent again and did not come back owe nothing; they stay to keep their first expiry.
    """
    return _undelivered(client.get_state())


def _undelivered(state: m.EscrowView) -> dict[tuple[int, int], m.Tombstone]:
    leaves = _leaves(state.tombstones, 34)
    kept = {(key >> 2, key & 3): m.Tombstone.load(leaf) for key, leaf in leaves}
    return {key: one for key, one in kept.items() if not one.sent}


def locks(worker: Worker) -> dict[int, m.Lock]:
    """Read every lock of a stake by its number; its slot is its key."""
    leaves = _leaves(worker.get(WorkerStakeGetters.locks()), SLOT_BITS)
    found = {slot: m.Lock.load(leaf) for slot, leaf in leaves}
    assert all(lock.number % SLOTS == slot for slot, lock in found.items())
    return {lock.number: lock for lock in found.values()}


def numbered(nth: int, slot: int | None = None) -> int:
    """Return the number of the nth lock that a stake makes, in a slot, or in the nth one."""
    return 2 * SLOTS * (nth - 1) + SLOTS + (nth if slot is None else slot)


def free_slot(worker: Worker) -> int:
    """Return the first slot without a lock."""
    return min(set(range(1, SLOTS)) - {number % SLOTS for number in locks(worker)})


def escrow_of(lock: m.Lock) -> int:
    """Return the account id of a lock's escrow."""
    return lock.tag ^ lock.number


def locked_for(worker: Worker, client: Client) -> int:
    """Return the collateral that a stake holds for one escrow, in all its locks."""
    escrow = account_id(client.address)
    return sum(int(lock.collateral) for lock in locks(worker).values() if escrow_of(lock) == escrow)


def _leaves(root: Cell | None, width: int) -> list[tuple[int, Any]]:
    if root is None:
        return []
    return list(HashMap.parse(root.begin_parse(), width).items())


SLOT_BITS = 8
SLOTS = 1 << SLOT_BITS
TOMBSTONE_REWARD, TOMBSTONE_SLASH, TOMBSTONE_RELEASE = 0, 1, 2


def check_escrow(client: Client) -> None:
    """Reserved is exactly what jobs and undelivered rewards hold, and it is there."""
    if client.suite.chain.status(client.address) is not AccountStatus.ACTIVE:
        return
    state = client.get_state()
    found, undelivered = entries_of(state.entries), _undelivered(state)
    owed = sum(held_by(entry) for entry in found.values())
    owed += sum(int(t.amount) for (_, kind), t in undelivered.items() if kind == TOMBSTONE_REWARD)
    assert state.reserved == owed
    assert state.jobs == len(found) <= c.MAX_JOBS
    assert state.balance >= state.reserved
    assert all(0 < number < state.next_id for number in found)
    for session in found.values():
        if isinstance(session, m.Session):
            assert 0 <= session.redeemed <= session.deposit
            assert (session.collateral == 0) is (session.lock == 0)


def check_stake(worker: Worker) -> None:
    """Locked is exactly the sum of the locks, and everything promised is there."""
    if worker.suite.chain.status(worker.address) is not AccountStatus.ACTIVE:
        return
    state = worker.get_state()
    held = locks(worker)
    assert state.locked == sum(int(lock.collateral) for lock in held.values())
    assert len(held) <= c.MAX_LOCKS
    assert state.stake >= state.locked + state.unbonding
    assert state.balance >= state.stake + state.earned + state.fee_due
    assert all(SLOTS < number < state.lock_count and lock.collateral > 0 for number, lock in held.items())
    assert all(number & SLOTS and number % SLOTS for number in held)
    assert state.gas == state.balance - state.stake - state.earned - state.fee_due - c.STAKE_RENT


# -- refusals -----------------------------------------------------------------------------------------------


def state_of(chain: Blockchain, address: Address) -> tuple[bytes, int]:
    """Return the hash of an account's data, and its balance."""
    account = chain.account(address)
    return (b"" if account.data is None else account.data.hash), int(account.balance)


def at(transactions: Iterable[Transaction], address: Address) -> list[Transaction]:
    """Return those transactions that happened at an account."""
    return [transaction for transaction in transactions if transaction.address == address]


def refused(
    chain: Blockchain,
    target: Address,
    send: Callable[[], Sequence[Transaction]],
    code: ExitCode,
) -> Transaction:
    """Assert that an internal message fails by name, its value comes back, and nothing else changes.

    What does not come back is exactly the gas and the forward fee; the account pays only its own rent.
    """
    data, balance = state_of(chain, target)
    transaction = at(send(), target)[0]
    assert transaction.exit_code is not None, transaction
    assert ExitCode(transaction.exit_code) is code, ExitCode(transaction.exit_code).name
    assert transaction.bounced_back, "the value was kept"
    (back,) = transaction.out_msgs
    sent = transaction.in_msg.value
    assert back.value == sent - transaction.compute_fee - transaction.action_fee - back.fwd_fee - _bounce_fee(
        transaction
    )
    assert state_of(chain, target) == (data, balance - transaction.storage_fee)
    return transaction


def _bounce_fee(transaction: Transaction) -> int:
    """Validators' share of the bounce's forward fee."""
    return int(
        transaction.total_fees - transaction.compute_fee - transaction.storage_fee - transaction.action_fee
    )


def rejected(chain: Blockchain, account: Account, external: Cell, code: ExitCode | None) -> None:
    """Assert that an external is not accepted, costs nothing and changes nothing."""
    before = state_of(chain, account.address)
    with pytest.raises(ExternalRejectedError) as caught:
        chain.send_external(external)
    if code is not None:
        assert caught.value.exit_code is not None
        assert ExitCode(caught.value.exit_code) is code, ExitCode(caught.value.exit_code).name
    assert state_of(chain, account.address) == before


def denied(account: Account, send: Callable[[], object], code: ExitCode | None) -> None:
    """Assert that a single action is not accepted, by name if there is one, and costs nothing."""
    before = state_of(account.suite.chain, account.address)
    with pytest.raises(ExternalRejectedError) as caught:
        send()
    if code is not None:
        assert caught.value.exit_code is not None
        assert ExitCode(caught.value.exit_code) is code, ExitCode(caught.value.exit_code).name
    assert state_of(account.suite.chain, account.address) == before


def skips(transactions: Iterable[Transaction], address: Address) -> list[tuple[int, ExitCode]]:
    """Return the logged codes of skipped actions: (position from 1, code)."""
    found = []
    for transaction in at(transactions, address):
        for message in transaction.out_msgs:
            if message.is_external_out:
                body = message.body.begin_parse()
                found.append((body.load_uint(8), ExitCode(body.load_uint(16))))
    return found


def skipped(account: Account, transactions: Sequence[Transaction], *codes: ExitCode) -> None:
    """Assert that an external was accepted and skipped exactly these codes, in order."""
    first = at(transactions, account.address)[0]
    assert first.success, first
    assert [code for _, code in skips([first], account.address)] == list(codes)


# -- payments -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Payment:
    """An internal message between accounts."""

    src: Address
    dst: Address
    op: int | None
    value: Nano


def payments(transactions: Iterable[Transaction]) -> list[Payment]:
    """Return every internal message that transactions sent."""
    return [
        Payment(message.src, message.dst, message.op, message.value)
        for transaction in transactions
        for message in transaction.out_msgs
        if message.is_internal and message.src is not None and message.dst is not None
    ]


def opcode(kind: type[Message]) -> int:
    """Return the opcode of a message type."""
    return int(kind.OPCODE)


def the_payment(transactions: Iterable[Transaction], kind: type[Message]) -> Payment:
    """Return the only message of a kind."""
    (payment,) = [p for p in payments(transactions) if p.op == opcode(kind)]
    return payment


def sent(transactions: Iterable[Transaction], kind: type[Message]) -> list[Transaction]:
    """Return the transactions that a kind of message caused."""
    return [transaction for transaction in transactions if transaction.op == opcode(kind)]


def net(transactions: Iterable[Transaction], address: Address) -> int:
    """Return how an account's balance changed: what came minus what left minus its own fees."""
    total = 0
    for transaction in at(transactions, address):
        arrived = int(transaction.in_msg.value) if transaction.in_msg.is_internal else 0
        left = sum(int(message.value) for message in transaction.out_msgs if message.is_internal)
        total += arrived - left - int(transaction.cost)
    return total


def gas_fee(gas: int) -> int:
    """Return the price of gas in the sandbox's configuration: mainnet's flat part, then 400 nanoTON."""
    return 40_000 if gas <= 100 else 40_000 + (gas - 100) * 400


def job_gas(client: Client) -> int:
    return int(client.get(EscrowGetters.job_gas()))


# -- wrong messages ------------------------------------------------------------------------------------------


def open_with(job_id: int, terms: Cell, *data: Cell, op: int = c.ACTION_OPEN_JOB) -> Action:
    """Open a job on terms that may be anything."""
    return Action(begin_cell().store_uint(op, 8).store_uint(job_id, 32).end_cell(), (terms, *data))


def bits(text: str) -> Cell:
    """Return a cell of literal bits."""
    builder = begin_cell()
    for bit in text:
        builder.store_bit(int(bit))
    return builder.end_cell()


def truncated(cell: Cell, drop: int = 1) -> Cell:
    """Return a cell without its last bits, references kept."""
    kept = len(cell.bits) - drop
    source = cell.begin_parse()
    builder: Builder = begin_cell().store_bits(source.load_bits(kept))
    for ref in cell.refs:
        builder.store_ref(ref)
    return builder.end_cell()


def without_refs(cell: Cell) -> Cell:
    """Return a cell's bits alone."""
    return begin_cell().store_bits(cell.begin_parse().load_bits(len(cell.bits))).end_cell()


def extended(cell: Cell, extra: str = "1", ref: Cell | None = None) -> Cell:
    """Return a cell with bits, and perhaps a reference, behind its own."""
    builder = begin_cell().store_cell(cell)
    for bit in extra:
        builder.store_bit(int(bit))
    if ref is not None:
        builder.store_ref(ref)
    return builder.end_cell()


def flipped(cell: Cell, position: int) -> Cell:
    """Return a cell with one bit turned over."""
    source = cell.begin_parse()
    builder = begin_cell().store_bits(source.load_bits(position))
    builder.store_bit(1 - source.load_bit())
    builder.store_bits(source.load_bits(len(cell.bits) - position - 1))
    for ref in cell.refs:
        builder.store_ref(ref)
    return builder.end_cell()


def tree(leaves: int, seed: int = 0) -> Cell:
    """Return a tree with many different, almost empty cells."""
    level = [begin_cell().store_uint(seed * 65_536 + i, 32).end_cell() for i in range(leaves)]
    while len(level) > 1:
        groups = [level[i : i + 4] for i in range(0, len(level), 4)]
        level = []
        for group in groups:
            builder = begin_cell()
            for cell in group:
                builder.store_ref(cell)
            level.append(builder.end_cell())
    return level[0]


# -- accounts that are not there -------------------------------------------------------------------------


@contextmanager
def absent(chain: Blockchain, address: Address) -> Iterator[None]:
    """Take an account off the chain for a while, as if it were frozen: what is sent there bounces."""
    accounts, key = chain._state.accounts, address_key(address)
    kept = accounts.pop(key)
    try:
        yield
    finally:
        gone = ShardAccount(accounts.get(key, EMPTY_ACCOUNT))
        assert gone.balance == 0, "something stayed at the absent account"
        chain._state.accounts[key] = kept
