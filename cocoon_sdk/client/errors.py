"""Errors that only the client's side raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cocoon_sdk.errors import JobError

if TYPE_CHECKING:
    from cocoon_sdk.client.results import JobResult


class AmountMismatchError(JobError):
    """The worker asks for another amount than its terms give for the stated usage.

    `result` holds what was delivered; nothing was accepted.
    """

    def __init__(self, what: str, *, result: JobResult, why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.result = result


class TermsUnknownError(JobError):
    """The prices a job was opened under cannot be found, so what it costs cannot be checked."""


class JobCancelledError(JobError):
    """The job was taken back before a result came in."""


class PayloadTooLargeError(JobError):
    """The payload does not fit into a message, and no data store is configured."""


class EvidenceNotSentError(JobError):
    """A dispute stands on chain, and too few arbiters hold this client's evidence yet, or none."""


class EvidenceTooLateError(EvidenceNotSentError):
    """The same, and the evidence deadline is over: nothing that is sent from now on counts."""
