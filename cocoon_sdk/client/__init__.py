"""The client of a Cocoon network: one escrow, its jobs, the workers that serve them; async and sync."""

from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.connect import connect_chain
from cocoon_sdk.client.context import job_box_key
from cocoon_sdk.client.discovery import (
    AsyncWorkers,
    IgnoredWorker,
    IgnoreReason,
    WorkerList,
    WorkerOffer,
)
from cocoon_sdk.client.errors import (
    AmountMismatchError,
    JobCancelledError,
    PayloadTooLargeError,
    TermsUnknownError,
)
from cocoon_sdk.client.escrow import AsyncEscrow, EscrowBalance, OwnerTransfer
from cocoon_sdk.client.job import AsyncJob
from cocoon_sdk.client.job_status import JobStatus
from cocoon_sdk.client.jobs import AsyncJobs
from cocoon_sdk.client.models import AsyncModels
from cocoon_sdk.client.planning import JobCost
from cocoon_sdk.client.results import Arrival, JobResult
from cocoon_sdk.client.sync import Cocoon, Escrow, Job, Jobs, Models, Workers
from cocoon_sdk.client.wallets import KeyWallet, SignerWallet, TonsdkWallet, WalletVersion

__all__ = [
    "AmountMismatchError",
    "Arrival",
    "AsyncCocoon",
    "AsyncEscrow",
    "AsyncJob",
    "AsyncJobs",
    "AsyncModels",
    "AsyncWorkers",
    "Cocoon",
    "Escrow",
    "EscrowBalance",
    "IgnoreReason",
    "IgnoredWorker",
    "Job",
    "JobCancelledError",
    "JobCost",
    "JobResult",
    "JobStatus",
    "Jobs",
    "KeyWallet",
    "Models",
    "OwnerTransfer",
    "PayloadTooLargeError",
    "SignerWallet",
    "TermsUnknownError",
    "TonsdkWallet",
    "WalletVersion",
    "WorkerList",
    "WorkerOffer",
    "Workers",
    "connect_chain",
    "job_box_key",
]
