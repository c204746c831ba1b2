"""What can be said about a job: typed facts, before they become words.

Owns the facts of a job's life. Must not know chains or sentences. Amounts are nanoTON, times unix seconds.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum

from pytoniq_core import Address

from cocoon_sdk.explain.facts import Fact, Role
from cocoon_sdk.types import Hash, Nano


class PayloadPlace(StrEnum):
    """Where a job's payload is."""

    INLINE = "inline"
    BY_REFERENCE = "by reference"
    NOT_ON_CHAIN = "not on chain"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOpened(Fact):
    """The hot key opened the job. `worker` None: an open job, announced on the market."""

    model_id: Hash
    price: Nano
    bond: Nano
    collateral: Nano
    worker: Address | None
    claim_by: int
    work_period_s: int
    window_s: int
    items: int
    payload: PayloadPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeReturned(Fact):
    """A notice to an account that does not exist, or refused it, came back."""

    to: Address
    notice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NobodyThere(Fact):
    """The worker that a job is for has no active account: nobody can answer."""

    worker: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class JobClaimed(Fact):
    """A worker left its bond and has until `submit_by`."""

    worker: Address
    bond: Nano
    submit_by: int


class Work(StrEnum):
    """What a worker sent."""

    CLAIM = "claim"
    SUBMISSION = "submission"


class Refusal(Enum):
    """Why an escrow refused a worker's message; the value says it in words."""

    NEVER_OPENED = "there was no such job"
    ENDED = "the job had ended already"
    TAKEN = "another worker had claimed it first"
    ALREADY_CLAIMED = "this worker held a claim already"
    ALREADY_SUBMITTED = "a result had been submitted already"
    DIRECTED = "the job was for another worker only"
    LATE_CLAIM = "the time to claim was over"
    LATE_SUBMISSION = "the time to submit was over"
    OVER_PRICE = "it asked for more than the job's maximum price"
    NO_CLAIM = "this worker held no such claim"
    NO_WINDOW = "a job without a dispute window is not claimed, only submitted"
    WRONG_BINDING = (
        "it named other parameters, terms or collateral than the job's, "
        "or its account does not derive from code that the client accepts"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRefused(Fact):
    """The escrow took no part of it.

    A submission is answered with `Gone`: `freed`, what it had locked, is free again. A claim goes back:
    `returned` is what is left of its value.
    """

    worker: Address
    work: Work
    reason: Refusal
    freed: Nano = field(default_factory=lambda: Nano(0))
    returned: Nano = field(default_factory=lambda: Nano(0))
    amount: Nano | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSubmitted(Fact):
    """A result is on chain; until `window_end` the client may dispute it."""

    worker: Address
    amount: Nano
    result_hash: Hash
    window_end: int


class PaidBecause(Enum):
    """Why a worker was paid; the value says it in words."""

    NO_WINDOW = "the job had no dispute window, so the submission paid at once"
    ACCEPTED = "the client accepted the result"
    ACCEPTED_SIGNED = "the client accepted the result that the worker signed and handed over directly"
    WINDOW_OVER = "the dispute window passed without a dispute"
    ARBITERS_SILENT = "the arbiters gave no verdict in time"
    VERDICT = "the arbiters ruled so"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPaid(Fact):
    """`amount` left the escrow for the worker, of which `fee` is the protocol's."""

    worker: Address
    amount: Nano
    fee: Nano
    price: Nano
    because: PaidBecause
    by: Address | None = None
    result_hash: Hash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDisputed(Fact):
    """The client disputed the result; the price and the bond stay set aside."""

    worker: Address
    amount: Nano
    bond: Nano
    evidence_until: int
    verdict_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArbiterPaid(Fact):
    """An arbiter that signed the verdict got its share."""

    arbiter: Address
    amount: Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictExecuted(Fact):
    """Enough arbiters signed: what the worker gets of the `asked` amount, and what it loses."""

    worker: Address
    asked: Nano
    pay: Nano
    slash: Nano
    signers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSlashed(Fact):
    """The worker's stake was ordered to pay `amount`: `back` to the escrow, the rest is burned."""

    worker: Address
    amount: Nano
    back: Nano

    @property
    def burned(self) -> Nano:
        """What nobody gets."""
        return self.amount - self.back


@dataclass(frozen=True, slots=True, kw_only=True)
class SlashArrived(Fact):
    """The client's part of a slash arrived in the escrow."""

    worker: Address
    amount: Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled(Fact):
    """The client took an unserved job back."""

    price: Nano
    by_owner: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReclaimed(Fact):
    """The claimed job was not served in time; the price is free again, and `back` of the worker's bond."""

    worker: Address
    price: Nano
    by: Address | None
    back: Nano
    burned: Nano


class OutcomeKind(StrEnum):
    """What a tombstone keeps."""

    REWARD = "reward"
    SLASH = "slash"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeUndelivered(Fact):
    """An outcome bounced off the worker's account and is kept until somebody delivers it."""

    worker: Address
    outcome: OutcomeKind
    amount: Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRedelivered(Fact):
    """Somebody paid for sending a kept outcome again."""

    worker: Address | None
    outcome: OutcomeKind
    by: Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeWaiting(Fact):
    """An undelivered outcome is kept right now; after `expires` it goes out without a way back.

    `sent`: it went out again and has not come back, so nothing is owed unless it does.
    """

    worker: Address
    outcome: OutcomeKind
    amount: Nano
    expires: int
    sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSkipped(Fact):
    """A signed action was left out by the contract, which logged the code; nothing else of it happened."""

    by: Role
    account: Address
    action: str
    exit_code: int
    name: str
    why: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRefused(Fact):
    """A message about the job made the escrow throw; its value went back."""

    sender: Address | None
    message: str
    exit_code: int
    name: str
    why: str
    hint: str


class WorkerAnswer(StrEnum):
    """What a worker's own endpoint says about a job."""

    READY = "ready"
    NOTHING_YET = "nothing yet"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSays(Fact):
    """What the worker's endpoint answers now; its word, not the chain's."""

    worker: Address
    answer: WorkerAnswer
    reason: str = ""


class JobStatus(StrEnum):
    """Where a job stands."""

    UNKNOWN = "unknown"
    OPEN = "open"
    CLAIMED = "claimed"
    SUBMITTED = "submitted"
    DISPUTED = "disputed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandsNow(Fact):
    """Where the job stands now, and what the escrow still holds for it."""

    status: JobStatus
    held: Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class CanDo(Fact):
    """Who can do what, from `since` (None: already) until `until` (None: without an end)."""

    who: str
    what: str
    since: int | None = None
    until: int | None = None
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTotals(Fact):
    """All that the job moved so far. Network fees are those of the escrow's and workers' transactions."""

    to_worker: Nano
    protocol_fee: Nano
    to_arbiters: Nano
    slashed: Nano
    """Bonds of late claims included."""
    burned: Nano
    client_network_fees: Nano
    worker_network_fees: Nano
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryCutOff(Fact):
    """The endpoint shows too little of the history to tell the whole story."""

    account: Address
    why: str
