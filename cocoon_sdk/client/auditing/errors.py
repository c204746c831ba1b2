"""Errors of audits. None of them accuses anybody by itself: an accusation is a finding."""

from __future__ import annotations

from cocoon_sdk.errors import CocoonError, JobError
from cocoon_sdk.types import Nano


class AuditError(CocoonError):
    """Something about a client's audits."""


class UncheckableError(AuditError):
    """A result cannot be checked; that says nothing about its worker.

    `cost` is what trying cost, in nanoTON; None where what was set aside for it counts.
    """

    def __init__(self, what: str, *, why: str = "", hint: str = "", cost: Nano | None = None) -> None:
        super().__init__(what, why=why, hint=hint)
        self.cost = cost


class NoEvidenceError(AuditError):
    """Nothing is kept of a session that a dispute could stand on."""


class AuditFailedError(JobError):
    """A result failed its audit, so it is not paid for by hand without saying so."""


class NoAgreementError(JobError):
    """The workers of a redundant job do not agree, so no answer of theirs can be told to be right."""
