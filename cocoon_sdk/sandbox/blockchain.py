"""`Blockchain`: accounts, a message queue, logical time and a clock, in memory.

Owns the order of things: which message comes when, with which logical time, in which batch ("block").
Execution is `tvm`'s, what is kept is `state`'s. Knows no contract.

TON's rules as kept here: a transaction is later than the message that caused it and than every earlier
transaction of its account; messages between the same two accounts arrive in the order they were sent;
between other pairs `step` may choose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import AccountState, AccountStatus, StackValue
from cocoon_sdk.errors import AccountNotFoundError
from cocoon_sdk.sandbox.accounts import EMPTY_ACCOUNT, ShardAccount
from cocoon_sdk.sandbox.actors import DEFAULT_BALANCE, Actor
from cocoon_sdk.sandbox.cells import NativeCell, address_key, key_address, to_native
from cocoon_sdk.sandbox.config import NetworkConfig
from cocoon_sdk.sandbox.errors import EmulationError, MessageLimitError, OutOfOrderError, SandboxError
from cocoon_sdk.sandbox.loop import attempt, execute
from cocoon_sdk.sandbox.messages import Message, admit_external, contract_address, internal_message
from cocoon_sdk.sandbox.state import Log, QueuedMessage, State
from cocoon_sdk.sandbox.transactions import Transaction
from cocoon_sdk.sandbox.tvm import GETTER_GAS_LIMIT, GetterContext, GetterOutcome, Tvm
from cocoon_sdk.types import Nano

DEFAULT_NOW = 1_780_000_000
"""Unix time at which a sandbox starts unless told otherwise: fixed, so that runs are alike."""
DEFAULT_MESSAGE_LIMIT = 10_000
FAUCET = Address((0, hashlib.sha256(b"sandbox faucet").digest()))
"""Sender of minted messages that name no other."""

_LT_PER_BLOCK = 1_000_000
_EMPTY_LOG = Log()

BlockListener = Callable[[Sequence[Transaction]], None]
"""Called after each new block with its transactions (none when only time passed)."""


def block_seed(seqno: int) -> bytes:
    """Return the 32 bytes of randomness of a block: the same on every chain, so that runs are alike."""
    return hashlib.sha256(b"sandbox block %d" % seqno).digest()


class Snapshot:
    """A kept state; give it back to `Blockchain.restore`, as often as wanted.

    `Blockchain.snapshot` makes it; storage makes one of what it kept on disk.
    """

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state


class Blockchain:
    """A chain in memory that executes real contracts with the real TVM and mainnet's prices.

    `now` is unix time in seconds; it moves only through `warp` and `set_now`. `message_limit` bounds the
    messages that one call may deliver. Not safe for use from several threads.
    """

    def __init__(
        self,
        *,
        now: int = DEFAULT_NOW,
        config: NetworkConfig | None = None,
        message_limit: int = DEFAULT_MESSAGE_LIMIT,
    ) -> None:
        if message_limit < 1:
            raise ValueError("message_limit must be at least 1")
        self.config = config or NetworkConfig.mainnet()
        self.message_limit = message_limit
        self._tvm = Tvm(self.config)
        self._state = State(now=now)
        self._listeners: list[BlockListener] = []
        self._actors: dict[str, Actor] = {}

    # -- time and blocks ------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """Unix time of the chain in seconds."""
        return self._state.now

    @property
    def seqno(self) -> int:
        """Number of the newest block; each batch of messages and each passing of time makes one."""
        return self._state.seqno

    @property
    def lt(self) -> int:
        """Newest logical time used."""
        return self._state.lt

    @property
    def global_id(self) -> int:
        """Signed network id of the configuration."""
        return self.config.global_id

    def warp(self, seconds: int) -> None:
        """Let time pass; makes an empty block."""
        self.set_now(self._state.now + seconds)

    def set_now(self, now: int) -> None:
        """Move the clock to a unix time that is not in the past; makes an empty block."""
        if now < self._state.now:
            raise ValueError(f"chain time does not run backwards: {now} is before {self._state.now}")
        self._state.now = now
        self._seal([])

    def advance_lt(self, lt: int) -> None:
        """Use up logical time until `lt`: what comes is later. Sealed blocks take their share this way."""
        self._state.lt = max(self._state.lt, lt)

    def subscribe(self, listener: BlockListener) -> Callable[[], None]:
        """Call `listener` after every new block; returns what ends the subscription."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    # -- sending ----------------------------------------------------------------------------------------

    def send_external(self, message: Cell | NativeCell | bytes) -> list[Transaction]:
        """Deliver an external-in message (or its bag) and all that follows; return the transactions in order.

        Raises `ExternalRejectedError` when it is not accepted, which changes nothing; `MessageLimitError`.
        While the queue is held only the first transaction is executed.
        """
        native, receiver = admit_external(message)
        return self._batch(QueuedMessage(native, receiver, None, 0, None), drain=not self._state.held)

    def try_external(
        self, message: Cell | NativeCell | bytes, *, check_signatures: bool = True
    ) -> Transaction:
        """Return the transaction that an external-in message would make now; nothing is kept.

        What follows from it is not executed. Raises `ExternalRejectedError` when it is not accepted.
        """
        native, receiver = admit_external(message)
        item = QueuedMessage(native, receiver, None, 0, None)
        with nullcontext() if check_signatures else self._tvm.unsigned():
            return attempt(self._tvm, self._state, item)[1]

    def send_internal(
        self,
        dst: Address,
        value: int,
        body: Cell | None = None,
        *,
        src: Address = FAUCET,
        state_init: Cell | None = None,
        bounce: bool = True,
        bounced: bool = False,
    ) -> list[Transaction]:
        """Deliver an internal message from any address with minted `value` (nanoTON), and all that follows.

        For tests: no real account can forge a sender. While the queue is held only the first transaction
        is executed.
        """
        state = self._state
        cell = internal_message(
            src=src,
            dst=dst,
            value=value,
            body=body,
            init=state_init,
            bounce=bounce,
            bounced=bounced,
            created_lt=state.lt,
            created_at=state.now,
        )
        item = QueuedMessage(to_native(cell), address_key(dst), address_key(src), 0, None)
        state.minted += int(value)
        try:
            return self._batch(item, drain=not state.held)
        except EmulationError:
            state.minted -= int(value)
            raise

    def faucet(self, address: Address, amount: int) -> list[Transaction]:
        """Mint `amount` nanoTON to an address without bounce."""
        return self.send_internal(address, amount, bounce=False)

    def deploy(
        self, state_init: Cell, value: int, body: Cell | None = None, *, workchain: int = 0
    ) -> Address:
        """Deploy a contract with minted `value` nanoTON; return its address.

        Raises `SandboxError` when the account is not active afterwards.
        """
        address = contract_address(state_init, workchain)
        transactions = self.send_internal(address, value, body, state_init=state_init, bounce=False)
        if self.status(address) is not AccountStatus.ACTIVE:
            raise SandboxError(
                f"the contract at {address.to_str()} was not deployed",
                why=repr(transactions[0]),
                hint="give it more value, or look at the exit code of its first transaction",
            )
        return address

    def actor(self, name: str, balance: int = DEFAULT_BALANCE, *, seed: bytes | None = None) -> Actor:
        """Return the wallet with that name; the first use deploys it, to hold exactly `balance` nanoTON.

        Its key follows from the name, or is that of `seed` (32 bytes).
        """
        actor = Actor(self, name, seed=seed)
        if self.status(actor.address) is not AccountStatus.ACTIVE:
            actor.create(balance)
        self._actors[name] = actor
        return actor

    @property
    def actors(self) -> tuple[Actor, ...]:
        """The actors that were asked for, each name once; traces call them so."""
        return tuple(self._actors.values())

    # -- the queue ----------------------------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether messages wait for `step` instead of being delivered at once."""
        return self._state.held

    @property
    def pending(self) -> tuple[Message, ...]:
        """Messages that are on their way, in the order they would be delivered."""
        return tuple(Message(item.native) for item in self._state.queue)

    @property
    def queued(self) -> tuple[QueuedMessage, ...]:
        """The same messages with what the chain knows of them."""
        return tuple(self._state.queue)

    def hold(self) -> None:
        """Keep messages between contracts in the queue until `step`, `run` or `release`."""
        self._state.held = True

    def release(self) -> list[Transaction]:
        """End `hold` and deliver what waits."""
        self._state.held = False
        return self.run()

    def step(self, index: int = 0) -> Transaction:
        """Deliver one pending message (by its index in `pending`) as a block of its own.

        Raises `OutOfOrderError` when an earlier message between the same two accounts still waits.
        """
        queue = self._state.queue
        if not 0 <= index < len(queue):
            raise SandboxError(
                f"message {index} cannot be delivered", why=f"{len(queue)} messages are pending"
            )
        chosen = queue[index]
        for earlier in range(index):
            if queue[earlier].dst_key == chosen.dst_key and queue[earlier].src_key == chosen.src_key:
                raise OutOfOrderError(
                    f"message {index} cannot be delivered yet",
                    why=f"message {earlier} went between the same two accounts before it",
                    hint=f"deliver message {earlier} first",
                )
        del queue[index]
        try:
            return self._batch(chosen, drain=False)[0]
        except EmulationError:
            queue.insert(index, chosen)
            raise

    def discard(self) -> Message:
        """Throw away the next message with its value, since the engine cannot execute it; return it."""
        return Message(self._state.queue.popleft().native)

    def run(self) -> list[Transaction]:
        """Deliver pending messages until none is left. Raises `MessageLimitError`."""
        return self._batch(None, drain=True) if self._state.queue else []

    def _batch(self, first: QueuedMessage | None, *, drain: bool) -> list[Transaction]:
        """Execute `first`, then with `drain` the whole queue, as one block."""
        state = self._state
        lt_before = state.lt
        state.lt = (state.lt // _LT_PER_BLOCK + 1) * _LT_PER_BLOCK
        self._tvm.set_seed(block_seed(state.seqno + 1))
        done: list[Transaction] = []
        try:
            if first is not None:
                done.append(execute(self._tvm, state, first))
            while drain and state.queue:
                if len(done) >= self.message_limit:
                    raise MessageLimitError(
                        "a run was stopped",
                        done,
                        why=f"it delivered {len(done)} messages and {len(state.queue)} more are pending",
                        hint="contracts may be answering each other for ever; or raise message_limit",
                    )
                self._deliver_next(done)
        finally:
            if done:
                self._seal(done)
            else:
                state.lt = lt_before
        return done

    def _deliver_next(self, done: list[Transaction]) -> None:
        item = self._state.queue.popleft()
        try:
            done.append(execute(self._tvm, self._state, item))
        except EmulationError:
            self._state.queue.appendleft(item)
            raise

    def _seal(self, transactions: Sequence[Transaction]) -> None:
        self._state.seqno += 1
        for listener in tuple(self._listeners):
            listener(transactions)

    # -- looking ------------------------------------------------------------------------------------------

    def account(self, address: Address) -> AccountState:
        """Return an account's state; a missing one has status NONEXIST."""
        key = address_key(address)
        return self._shard_account(key).state(key)

    def shard_account(self, address: Address) -> ShardAccount:
        """Return an account with what `AccountState` leaves out: rent, debts, raw cells."""
        return self._shard_account(address_key(address))

    def balance(self, address: Address) -> Nano:
        """Return an account's balance in nanoTON."""
        return self._shard_account(address_key(address)).balance

    def status(self, address: Address) -> AccountStatus:
        """Return an account's status."""
        return self._shard_account(address_key(address)).status

    def accounts(self) -> list[Address]:
        """Return the addresses of all accounts that ever had a transaction."""
        return [key_address(key) for key in self._state.accounts]

    def raw_account(self, key: int) -> NativeCell | None:
        """Return an account's raw `ShardAccount` by its key; None when it never had a transaction."""
        return self._state.accounts.get(key)

    def raw_items(self) -> list[tuple[int, NativeCell]]:
        """Return every account's key and raw `ShardAccount`."""
        return list(self._state.accounts.items())

    def raw_accounts(self) -> list[NativeCell]:
        """Return every account's raw `ShardAccount`."""
        return list(self._state.accounts.values())

    @property
    def minted(self) -> Nano:
        """NanoTON minted since the beginning."""
        return Nano(self._state.minted)

    @property
    def fees_collected(self) -> Nano:
        """NanoTON that validators collected since the beginning: fees of transactions and of deliveries."""
        return Nano(self._state.fees)

    def run_getter(
        self,
        address: Address,
        method: str | int,
        stack: Sequence[StackValue] = (),
        *,
        gas_limit: int = GETTER_GAS_LIMIT,
    ) -> list[StackValue]:
        """Run a get-method by name or id and return its results in order.

        Raises `AccountNotFoundError` without a contract there, `GetterError`, `StackError`.
        """
        key = address_key(address)
        account = self._shard_account(key)
        if account.code is None:
            raise AccountNotFoundError(
                f"get-method {method!r} cannot run on {address.to_str()}",
                why=f"the account is {account.status} and has no code",
                hint="deploy the contract first",
            )
        state = self._state
        context = GetterContext(state.now, state.lt, key, int(account.balance), account.code, account.data)
        return self._tvm.run_getter(context, method, stack, gas_limit)

    def call_getter(
        self, context: GetterContext, method: str | int, stack: Any, gas_limit: int = GETTER_GAS_LIMIT
    ) -> GetterOutcome:
        """Run a get-method on any state (that of an older block, say) and an engine's stack.

        Returns exit code, gas and stack instead of raising.
        """
        return self._tvm.call_getter(context, method, stack, gas_limit)

    def transactions(
        self,
        address: Address | None = None,
        *,
        limit: int = 16,
        before_lt: int | None = None,
        after_lt: int = 0,
    ) -> list[Transaction]:
        """Return transactions of one account, or of all, newest first, with `after_lt < lt < before_lt`."""
        state = self._state
        log = state.log if address is None else state.histories.get(address_key(address), _EMPTY_LOG)
        return log.newest_first(limit=limit, before_lt=before_lt, after_lt=after_lt)

    @property
    def transaction_count(self) -> int:
        """Number of transactions since the beginning."""
        return len(self._state.log)

    # -- states -------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Keep the whole state: accounts, history, queue, time. Listeners are not part of it."""
        return Snapshot(self._state.copy())

    def restore(self, snapshot: Snapshot) -> None:
        """Bring a kept state back; makes no block."""
        self._state = snapshot._state.copy()
        self._tvm.set_libraries(self._state.libraries)

    @contextmanager
    def isolated(self) -> Iterator[Blockchain]:
        """Undo at the end whatever happens inside; for hypothesis examples and what-if questions."""
        kept = self.snapshot()
        try:
            yield self
        finally:
            self.restore(kept)

    @property
    def libraries(self) -> tuple[Cell, ...]:
        """Public libraries."""
        return self._state.libraries

    def set_libraries(self, libraries: Iterable[Cell]) -> None:
        """Replace the public libraries."""
        self._state.libraries = tuple(libraries)
        self._tvm.set_libraries(self._state.libraries)

    def _shard_account(self, key: int) -> ShardAccount:
        return ShardAccount(self._state.accounts.get(key, EMPTY_ACCOUNT))
