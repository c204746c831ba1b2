"""What is remembered of checks: one finding for each result that was chosen, one score for each worker.

Owns the values. Must not know databases, or how a finding came about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pytoniq_core import Address

from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.types import Hash, Nano

_NOTHING: Final = Nano(0)


class Audited(StrEnum):
    """What kind of result was checked."""

    JOB = "job"
    REQUEST = "request"
    """Of a session."""


class AuditOutcome(StrEnum):
    """What a check came to."""

    UNDER_WAY = "under way"
    PASSED = "passed"
    SUSPECT = "suspect"
    """Beyond what honest machines show, but not enough for a verdict on this result alone."""
    FAILED = "failed"
    """An arbiter would not let the worker keep the money."""
    UNCHECKED = "unchecked"
    """It could not be checked: that says nothing about the worker."""


class DisputeStep(StrEnum):
    """Where an automatic dispute stands."""

    NONE = ""
    WANTED = "wanted"
    """It is to be sent, or was sent and not yet seen."""
    DISPUTED = "disputed"
    REFUSED = "refused"
    """The policy or a limit does not allow it."""
    TOO_LATE = "too late"
    """The money is paid, or the window is over."""
    NOT_NEEDED = "not needed"
    """The job ended without paying the worker."""


@dataclass(frozen=True, slots=True)
class DisputeEnd:
    """How far a dispute came, and why."""

    step: DisputeStep
    why: str = ""


OPEN_STEPS: Final = (DisputeStep.WANTED,)


@dataclass(frozen=True, slots=True)
class AuditSubject:
    """Which result: of whom, and what it cost. `number` is the job's or the session's.

    `request` is the number of the request in its session, 0 for a job. `amount` is what the worker gets for
    it, in nanoTON.
    """

    what: Audited
    domain: Domain
    number: int
    request: int
    worker: Address
    model_id: Hash
    model: str
    amount: Nano

    @property
    def uid(self) -> str:
        """The result's name: what is checked once is not checked again."""
        return self.uid_of(self.domain, self.number, self.request)

    @staticmethod
    def uid_of(domain: Domain, number: int, request: int) -> str:
        """Return the name of a result by its place."""
        place = f"{domain.global_id}:{bytes(domain.contract.hash_part).hex()}:{domain.epoch}"
        return f"{place}:{number}:{request}"

    def __str__(self) -> str:
        if self.what is Audited.JOB:
            return f"job {self.number}"
        return f"request {self.request} of session {self.number}"


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One finding. Times are unix seconds, amounts nanoTON.

    `level` is the verdict's level in words, `why` what decided it, `numbers` the statistics behind it.
    `verifier` says who recomputed it, `cost` what that was paid. `bond` is at stake in the dispute.
    """

    subject: AuditSubject
    outcome: AuditOutcome
    started_at: int
    ended_at: int = 0
    level: str = ""
    why: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    verifier: str = ""
    cost: Nano = _NOTHING
    dispute: DisputeStep = DisputeStep.NONE
    dispute_why: str = ""
    bond: Nano = _NOTHING

    @property
    def uid(self) -> str:
        """The result's name."""
        return self.subject.uid


@dataclass(frozen=True, slots=True)
class WorkerScore:
    """What the checks of one worker's results for one model came to, all together.

    `state` is the running score as `cocoon_sdk.verify.score` keeps it. Of all its `answers` in sessions,
    checked or not, `unreceipted` came without a receipt. `left_at` (unix seconds, 0: it is not) is since when
    the worker is not asked any more.
    """

    worker: Address
    model_id: Hash
    model: str
    passed: int
    suspect: int
    failed: int
    unchecked: int
    state: dict[str, Any]
    left_at: int
    left_why: str
    answers: int = 0
    unreceipted: int = 0

    @property
    def checked(self) -> int:
        """How many results were checked."""
        return self.passed + self.suspect + self.failed


@dataclass(frozen=True, slots=True)
class AuditNumbers:
    """What an auditor has done since it began. `cost` is in nanoTON.

    `seen` results came, `chosen` were drawn; `dropped` of those found the queue full. `unreceipted` answers
    came without a receipt and count against their workers.
    """

    seen: int = 0
    chosen: int = 0
    dropped: int = 0
    passed: int = 0
    suspect: int = 0
    failed: int = 0
    unchecked: int = 0
    waiting: int = 0
    disputed: int = 0
    unreceipted: int = 0
    cost: Nano = _NOTHING
