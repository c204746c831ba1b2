"""Audits: a client checks a random share of its results by itself, and draws the conclusions.

Owns which results are checked, with whose help and for how much, what is remembered of a worker, and when it
is left or disputed. Must not know how an answer is checked (`cocoon_sdk.verify`) or how jobs and requests are
sent: it is given both.
"""

from cocoon_sdk.client.auditing.auditor import AsyncAudits
from cocoon_sdk.client.auditing.errors import AuditError, AuditFailedError, NoAgreementError, UncheckableError
from cocoon_sdk.client.auditing.policy import AuditPolicy, OwnVerifier
from cocoon_sdk.client.auditing.records import (
    AuditNumbers,
    AuditOutcome,
    AuditRecord,
    DisputeStep,
    WorkerScore,
)

__all__ = [
    "AsyncAudits",
    "AuditError",
    "AuditFailedError",
    "AuditNumbers",
    "AuditOutcome",
    "AuditPolicy",
    "AuditRecord",
    "DisputeStep",
    "NoAgreementError",
    "OwnVerifier",
    "UncheckableError",
    "WorkerScore",
]
