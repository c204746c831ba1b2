"""Rows of the journal as frozen values.

Owns their fields. Must not know SQL, chains or policies. Amounts in nanoTON, times in unix seconds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from pytoniq_core import Address, Cell

from cocoon_sdk.protocol.signing import account_address
from cocoon_sdk.types import Nano
from cocoon_worker.states import ActionKind, ExternalState, JobState


class JobKey(NamedTuple):
    """A job everywhere: account id of its escrow, and the id of the entry. Escrows never use an id twice."""

    escrow: int
    id: int

    @property
    def address(self) -> Address:
        """The escrow's address."""
        return account_address(self.escrow)

    def __str__(self) -> str:
        return f"0:{self.escrow:064x}/{self.id}"


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What was established about a job when it was accepted, and does not change."""

    escrow_owner: int
    escrow_index: int
    escrow_epoch: int
    escrow_previous_code: bool
    """The stake's owner holds the escrow's code as the previous one."""
    own_previous_code: bool
    """The escrow's owner holds this stake's code as the previous one."""
    job_hash: int
    """What names the job's terms in submissions (`signing.job_hash`)."""
    payload_hash: str
    """In hex."""
    offer: dict[str, Any]
    """The offer it was accepted under (`OwnOffer.to_json`): a later change of prices does not touch it."""
    max_price: int
    run_s: int
    """Pessimistic run time of the engine."""
    binding: int = 0
    """What a claim binds: parameters and terms as they were seen (`signing.binding_hash`)."""

    def to_json(self) -> str:
        """Return the stored form."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> JobFacts:
        """Read the stored form."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job. `facts` is None until it was accepted."""

    key: JobKey
    state: JobState
    is_open: bool
    notice_lt: int
    """Logical time of the notice that announced it: leads to the escrow's transaction with the payload."""
    created_at: int
    updated_at: int
    deadline: int = 0
    """OFFERED to CLAIMING: claim, or submit without a claim, by. CLAIMED: submit by. SUBMITTED: window's end.
    DISPUTED: end of the arbitration."""
    lock: int = 0
    """Number of the stake's lock that holds its collateral, and that of other jobs of the escrow; 0: none."""
    claimed: bool = False
    """Whether the stake sent a claim: a submission goes on that claim."""
    bond: Nano = field(default_factory=lambda: Nano(0))
    """What a claim takes along, and the escrow keeps until the job ends; 0 when it came back."""
    collateral: Nano = field(default_factory=lambda: Nano(0))
    amount: Nano = field(default_factory=lambda: Nano(0))
    """What the result asks for."""
    paid: Nano = field(default_factory=lambda: Nano(0))
    """What came, before the protocol's fee."""
    fee: Nano = field(default_factory=lambda: Nano(0))
    slashed: Nano = field(default_factory=lambda: Nano(0))
    ready_at: int = 0
    not_before: int = 0
    """Nothing is tried again before this time."""
    tries: int = 0
    """Failed attempts of the present step."""
    reason: str = ""
    facts: JobFacts | None = None

    @property
    def locked(self) -> bool:
        """Whether the stake still holds its collateral."""
        return self.lock != 0

    @property
    def bonded(self) -> bool:
        """Whether the escrow has, or is about to get, the bond of our claim."""
        return self.claimed and self.bond > 0

    @property
    def at_stake(self) -> bool:
        """Whether anything of ours hangs on its outcome."""
        return self.locked or self.bonded


@dataclass(frozen=True, slots=True)
class PayloadRecord:
    """A job's payload as it travelled; kept sealed. `prekey_id` is empty for a public one."""

    data: bytes = field(repr=False)
    prekey_id: bytes = b""


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """The one result of a job: what is delivered and was signed. `text` is evidence, wiped at the end."""

    sealed: bytes = field(repr=False)
    text: bytes = field(repr=False)
    result_hash: bytes
    amount: Nano
    signature: bytes = field(repr=False)
    created_at: int


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """One action of an external. `key` is None for announcements, whose `model_id` is set instead."""

    kind: ActionKind
    key: JobKey | None = None
    model_id: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalRecord:
    """A signed external of the operator key. `message` is the whole external-in message."""

    number: int
    seqno: int
    valid_until: int
    message: Cell = field(repr=False)
    body_hash: bytes
    state: ExternalState
    actions: tuple[PlannedAction, ...]
    info_hash: bytes = b""
    """What its announcements publish."""
    sent_at: int = 0
    sends: int = 0
