"""Two chains that get the same messages: ours, and @ton/sandbox, which must say the same of each.

Owns mirroring and comparing. Knows nothing of what is sent.

`Twin` is our `Blockchain`; whatever enters it from outside also enters the other chain, at the same unix
time, with the same configuration, block seed and logical times. The logical times are ours, given to the
other side one by one, because contracts can read them and account states hold them. In which order messages
arrive is each side's own decision.

Compared for every transaction: account, logical and unix time, the state hashes before and after, the whole
description (all phases: fees, exit codes, gas, steps, action results, bounces) and every outgoing message,
bit by bit; fees, statuses; the incoming message by its content. For every rejected external: its exit code.
At the end: all accounts, bit by bit, which includes balances.

Not compared are hashes of whole transactions: @ton/sandbox parses every message and serialises it again
before it executes it, so a body may have moved out of its cell or back into it, and the hashes of incoming
messages with it. For externals that would also change the import fee: they enter both chains as @ton/core
lays them out.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pytoniq_core import Cell, begin_cell

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.sandbox import Blockchain, Message, NetworkConfig, Transaction
from cocoon_sdk.sandbox.blockchain import DEFAULT_NOW, block_seed
from cocoon_sdk.sandbox.cells import (
    NativeCell,
    Reader,
    empty_dict,
    native_dict,
    native_from_boc,
    native_slice,
    to_native,
)
from cocoon_sdk.sandbox.phases import Description
from tests.interop.ton_sandbox import Delivery, TonSandbox

_HASH_UPDATE_BITS = 8


@dataclass(frozen=True)
class Facts:
    """What a transaction says that does not depend on how messages are laid out in cells."""

    account: int
    lt: int
    now: int
    statuses: int
    total_fees: int
    state_before: int
    state_after: int
    incoming: tuple[object, ...]
    outgoing: tuple[str, ...]
    description: str
    phases: str

    @classmethod
    def of(cls, native: NativeCell) -> Facts:
        """Read a raw transaction."""
        reader = Reader.of(native)
        reader.skip(4)
        account, lt = reader.uint(256), reader.uint(64)
        reader.skip(256 + 64)  # the transaction before
        now, count, statuses = reader.uint(32), reader.uint(15), reader.uint(4)
        messages = Reader.of(reader.ref())
        total_fees = reader.currencies()
        update, description = Reader.of(reader.ref()), reader.ref()
        update.skip(_HASH_UPDATE_BITS)
        return cls(
            account=account,
            lt=lt,
            now=now,
            statuses=statuses,
            total_fees=total_fees,
            state_before=update.uint(256),
            state_after=update.uint(256),
            incoming=_content(Message(messages.ref())) if messages.bit() else (),
            outgoing=tuple(_outgoing(messages, count)),
            description=description.get_hash(),
            phases=_phases(description),
        )


def _outgoing(messages: Reader, count: int) -> Iterable[str]:
    if not messages.bit():
        return
    dictionary = native_dict(messages.ref(), 15)
    for index in range(count):
        yield dictionary.lookup_ref_str(str(index), 15, False).get_hash()


def _content(message: Message) -> tuple[object, ...]:
    init = message.init
    return (
        (message.is_internal, message.src_key, message.dst_key),
        (int(message.value), int(message.fwd_fee), int(message.ihr_fee), message.bounce, message.bounced),
        (message.created_lt, message.created_at),
        None if init is None else init.hash.hex(),
        message.body.hash.hex(),
    )


def _phases(description: NativeCell) -> str:
    phases = Description(Reader.of(description))
    return ", ".join(f"{name}={getattr(phases, name)}" for name in Description.__slots__)


def differences(ours: Facts, theirs: Facts) -> list[str]:
    """Say field by field in what two transactions differ; empty when they do not."""
    return [
        f"    {field.name}\n      ours   {mine}\n      theirs {other}"
        for field in fields(Facts)
        if (mine := getattr(ours, field.name)) != (other := getattr(theirs, field.name))
    ]


_NOBODYS_LIBRARY = begin_cell().store_bytes(b"nobody's library").end_cell()


class Twin(Blockchain):
    """Our blockchain, which mirrors to `other` what enters it; without one it is just ours.

    `disagreements` says what differed so far, for people.
    """

    def __init__(
        self, *, now: int = DEFAULT_NOW, config: NetworkConfig | None = None, other: TonSandbox | None = None
    ) -> None:
        super().__init__(now=now, config=config)
        self._other = other
        self.compared = 0
        self.rejected = 0
        self.disagreements: list[str] = []
        if other is not None:
            other.reset(_boc(self.config.native), now, timed=True)
            self.set_libraries(())

    def send_external(self, message: Cell | NativeCell | bytes) -> list[Transaction]:
        """Deliver an external message on both chains, laid out as the other side would do it."""
        boc = message if isinstance(message, bytes) else _boc(_native(message))
        if self._other is None:
            return super().send_external(boc)
        boc = self._other.normalise(boc)
        try:
            transactions = super().send_external(boc)
        except ExternalRejectedError as error:
            self._mirror_rejection(self._other, boc, error)
            raise
        self._mirror(transactions)
        return transactions

    def send_internal(self, *args: Any, **options: Any) -> list[Transaction]:
        """Deliver a minted message on both chains."""
        transactions = super().send_internal(*args, **options)
        self._mirror(transactions)
        return transactions

    def set_libraries(self, libraries: Iterable[Cell]) -> None:
        """Replace the public libraries of both chains."""
        super().set_libraries(libraries)
        if self._other is None:
            return
        root = empty_dict(256)
        # The other engine keeps the libraries of an earlier chain when it is given none: it always gets one
        # that nobody asks for.
        for library in (_NOBODYS_LIBRARY, *self.libraries):
            # The engine's raw dictionary of libraries has the cell itself as its value.
            root.set_ref_str(str(int.from_bytes(library.hash, "big")), to_native(library), "set", 256, False)
        self._other.set_libraries(_boc(root.get_pycell()))

    # -- the other chain ------------------------------------------------------------------------------

    def _mirror(self, transactions: Sequence[Transaction]) -> None:
        if self._other is None:
            return
        first = transactions[0]
        delivery = self._other.send(
            _boc(first.in_msg.native),
            now=first.now,
            seed=block_seed(first.seqno),
            times=[tx.lt for tx in transactions],
        )
        self._compare(transactions, delivery)

    def _compare(self, transactions: Sequence[Transaction], delivery: Delivery) -> None:
        self.compared += len(transactions)
        if delivery.error is not None:
            self.disagreements.append(
                f"the other side stopped after {len(delivery.transactions)}: {delivery.error}"
            )
        if len(delivery.transactions) != len(transactions):
            self.disagreements.append(
                f"{len(transactions)} transactions here, {len(delivery.transactions)} there"
            )
        for mine, boc in zip(transactions, delivery.transactions, strict=False):
            if found := differences(Facts.of(mine.native), Facts.of(native_from_boc(boc))):
                self.disagreements.append("\n".join([f"{mine!r}", *found]))

    def _mirror_rejection(self, other: TonSandbox, message: bytes, error: ExternalRejectedError) -> None:
        seed, lt = block_seed(self.seqno + 1), (self.lt // 1_000_000 + 1) * 1_000_000 + 1
        delivery = other.send(message, now=self.now, seed=seed, times=[lt])
        self.rejected += 1
        if delivery.transactions:
            self.disagreements.append(f"accepted there, but here: {error}")
        elif (delivery.exit_code or 0) != (error.exit_code or 0):
            self.disagreements.append(
                f"rejected with {error.exit_code} here, with {delivery.exit_code} there ({delivery.error})"
            )

    def compare_accounts(self) -> None:
        """Compare all accounts of both chains."""
        assert self._other is not None
        theirs = {key: native_from_boc(boc) for key, boc in self._other.accounts().items()}
        for address in self.accounts():
            mine = self.shard_account(address)
            raw = f"{address.wc}:{address.hash_part.hex()}"
            other = theirs.pop(raw, None)
            if other is None:
                if mine.status is not AccountStatus.NONEXIST:
                    self.disagreements.append(f"account {raw} is {mine.status} here and missing there")
            elif _account_hash(mine.native) != _account_hash(other):
                self.disagreements.append(f"account {raw} ({mine.status}, {mine.balance}) differs")
        self.disagreements += [f"account {raw} exists only there" for raw in theirs]

    def assert_agreement(self) -> None:
        """Fail with all that differed."""
        self.compare_accounts()
        assert not self.disagreements, "\n".join(["the two sandboxes differ:", *self.disagreements])


def _account_hash(shard_account: NativeCell) -> str:
    account: str = native_slice(shard_account).fetch_ref().get_hash()
    return account


def _native(message: Cell | NativeCell) -> NativeCell:
    return to_native(message) if isinstance(message, Cell) else message


def _boc(native: NativeCell) -> bytes:
    return base64.b64decode(native.to_boc())
