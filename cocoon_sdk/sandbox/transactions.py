"""`Transaction`: a lazy view of one raw transaction.

Owns the TL-B of `Transaction` and its phases. The message loop only stores what it had to read anyway;
everything else is decoded when somebody asks. Knows nothing of queues or contracts.
"""

from __future__ import annotations

from functools import cached_property

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import TransactionRecord
from cocoon_sdk.sandbox.cells import NativeCell, Reader, from_native, key_address, native_hash
from cocoon_sdk.sandbox.messages import Message
from cocoon_sdk.sandbox.phases import ActionPhase, BouncePhase, ComputePhase, Description, StoragePhase
from cocoon_sdk.types import Nano

_HEADER_BITS = 4 + 256 + 64  # tag, account, lt


class Transaction:
    """One transaction. Money is in nanoTON, gas in gas units, times in unix seconds.

    `parent` is the transaction that sent the incoming message, None for externals and minted messages.
    """

    def __init__(
        self,
        native: NativeCell,
        *,
        key: int,
        lt: int,
        now: int,
        total_fees: int,
        in_message: NativeCell,
        out_messages: tuple[NativeCell, ...],
        parent: Transaction | None,
        seqno: int,
    ) -> None:
        self.native = native
        self.key = key
        self.lt = lt
        self.now = now
        self.total_fees = Nano(total_fees)
        self.parent = parent
        self.seqno = seqno
        self._in = in_message
        self._outs = out_messages

    # -- identity ---------------------------------------------------------------------------------

    @cached_property
    def cell(self) -> Cell:
        """The raw TL-B `Transaction`."""
        return from_native(self.native)

    @cached_property
    def hash(self) -> bytes:
        """32 bytes: hash of the raw transaction."""
        return native_hash(self.native)

    @cached_property
    def address(self) -> Address:
        """The account."""
        return key_address(self.key)

    @property
    def prev_hash(self) -> bytes:
        """Hash of the account's transaction before this one; zeros for the first."""
        return self._previous[0]

    @property
    def prev_lt(self) -> int:
        """Logical time of the account's transaction before this one; 0 for the first."""
        return self._previous[1]

    @cached_property
    def _previous(self) -> tuple[bytes, int]:
        reader = Reader.of(self.native)
        reader.skip(_HEADER_BITS)
        return reader.uint(256).to_bytes(32, "big"), reader.uint(64)

    def record(self) -> TransactionRecord:
        """Return the form that every `Chain` gives."""
        return TransactionRecord(
            address=self.address,
            lt=self.lt,
            now=self.now,
            hash=self.hash,
            prev_lt=self.prev_lt,
            prev_hash=self.prev_hash,
            cell=self.cell,
        )

    # -- messages -----------------------------------------------------------------------------------

    @cached_property
    def in_msg(self) -> Message:
        """The message that caused it."""
        return Message(self._in)

    @property
    def native_out_messages(self) -> tuple[NativeCell, ...]:
        """What it sent, as the engine's cells."""
        return self._outs

    @cached_property
    def out_msgs(self) -> tuple[Message, ...]:
        """What it sent, in order, external-out messages included."""
        return tuple(Message(native) for native in self._outs)

    @property
    def op(self) -> int | None:
        """First 32 bits of the incoming body."""
        return self.in_msg.op

    # -- phases ---------------------------------------------------------------------------------------

    @cached_property
    def description(self) -> Description:
        """The decoded `TransactionDescr`."""
        reader = Reader.of(self.native)
        reader.skip(_HEADER_BITS + 256 + 64 + 32 + 15 + 2 + 2)
        reader.ref()  # messages
        reader.currencies()
        reader.ref()  # hash update
        return Description(Reader.of(reader.ref()))

    @property
    def storage(self) -> StoragePhase | None:
        """The storage phase."""
        return self.description.storage

    @property
    def compute(self) -> ComputePhase | None:
        """The compute phase; None when it was skipped."""
        return self.description.compute

    @property
    def action(self) -> ActionPhase | None:
        """The action phase; None when there was none."""
        return self.description.action

    @property
    def bounce_phase(self) -> BouncePhase | None:
        """The bounce phase; None when there was none."""
        return self.description.bounce

    @property
    def skipped(self) -> str | None:
        """Why the compute phase did not run: no_state, bad_state, no_gas or suspended; None if it ran."""
        return self.description.skipped

    @property
    def aborted(self) -> bool:
        """Whether the state was left as it was."""
        return self.description.aborted

    @property
    def destroyed(self) -> bool:
        """Whether the account was deleted."""
        return self.description.destroyed

    @property
    def bounced_back(self) -> bool:
        """Whether it sent its incoming value back."""
        bounce = self.bounce_phase
        return bounce is not None and bounce.sent

    @property
    def exit_code(self) -> int | None:
        """Exit code of the compute phase; None when it was skipped."""
        return None if self.compute is None else self.compute.exit_code

    @property
    def action_result_code(self) -> int | None:
        """Result code of the action phase; None when there was none."""
        return None if self.action is None else self.action.result_code

    @property
    def success(self) -> bool:
        """Whether code ran and both phases succeeded."""
        return (
            not self.aborted
            and self.compute is not None
            and self.compute.success
            and (self.action is None or self.action.success)
        )

    @property
    def gas_used(self) -> int:
        """Gas units of the compute phase; 0 when it was skipped."""
        return 0 if self.compute is None else self.compute.gas_used

    # -- money ----------------------------------------------------------------------------------------

    @property
    def compute_fee(self) -> Nano:
        """What the gas cost."""
        return Nano(0) if self.compute is None else self.compute.gas_fees

    @property
    def storage_fee(self) -> Nano:
        """Storage collected here, old debts included."""
        collected = Nano(0) if self.storage is None else self.storage.collected
        return collected + self.description.due_collected

    @property
    def action_fee(self) -> Nano:
        """This account's validators' share of its forward fees, and fines for failed actions."""
        return Nano(0) if self.action is None else self.action.action_fees

    @property
    def import_fee(self) -> Nano:
        """What bringing in an external message cost; 0 for internal messages."""
        if not self.in_msg.is_external_in:
            return Nano(0)
        return self.total_fees - self.storage_fee - self.compute_fee - self.action_fee

    @property
    def forward_fees(self) -> Nano:
        """Forward fees that left with the outgoing messages; their receivers' validators collect them."""
        return Nano(sum(int(message.fwd_fee) for message in self.out_msgs if message.is_internal))

    @property
    def cost(self) -> Nano:
        """All that this transaction cost somebody: `total_fees` and `forward_fees`."""
        return self.total_fees + self.forward_fees

    def __repr__(self) -> str:
        outcome = f"skipped {self.skipped}" if self.compute is None else f"exit {self.exit_code}"
        return f"<Transaction {self.address} lt {self.lt} {outcome} fees {self.total_fees}>"
