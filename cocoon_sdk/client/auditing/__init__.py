"""Audits: a client checks a random share of its results by itself, and draws the conclusions.

Owns which results are checked, with whose help and for how much, what is remembered of a worker, and when it
is left or disputed. Must not know how an answer is checked (`cocoon_sdk.verify`) or how jobs and requests are
sent: it is given both.
"""

from cocoon_sdk.client.auditing.policy import AuditPolicy, OwnVerifier
from cocoon_sdk.client.auditing.records import AuditOutcome, AuditRecord, DisputeStep, WorkerScore

__all__ = [
    "AuditOutcome",
    "AuditPolicy",
    "AuditRecord",
    "DisputeStep",
    "OwnVerifier",
    "WorkerScore",
]
