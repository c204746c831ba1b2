"""What happened to a job, a transaction or an account, and why: typed facts, sentences, JSON."""

from cocoon_sdk.explain.account import Recognised, recognise
from cocoon_sdk.explain.explanation import Explanation, Section, explain
from cocoon_sdk.explain.findings import Inquiry
from cocoon_sdk.explain.job import Asker, JobReport, NotAnEscrowError, job_report
from cocoon_sdk.explain.target import (
    AccountTarget,
    JobTarget,
    Target,
    TransactionTarget,
    parse_address,
    parse_hash,
    parse_job,
    parse_target,
)

__all__ = [
    "AccountTarget",
    "Asker",
    "Explanation",
    "Inquiry",
    "JobReport",
    "JobTarget",
    "NotAnEscrowError",
    "Recognised",
    "Section",
    "Target",
    "TransactionTarget",
    "explain",
    "job_report",
    "parse_address",
    "parse_hash",
    "parse_job",
    "parse_target",
    "recognise",
]
