"""Cocoon: decentralised AI compute on TON. The public names of the SDK, sorted.

They are loaded at their first use, so that importing a small part of the package stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocoon_sdk.client.app import AsyncCocoon
    from cocoon_sdk.client.discovery import WorkerList, WorkerOffer
    from cocoon_sdk.client.errors import (
        AmountMismatchError,
        JobCancelledError,
        PayloadTooLargeError,
        TermsUnknownError,
    )
    from cocoon_sdk.client.escrow import AsyncEscrow, EscrowBalance, OwnerTransfer
    from cocoon_sdk.client.job import AsyncJob
    from cocoon_sdk.client.job_status import JobStatus
    from cocoon_sdk.client.planning import JobCost
    from cocoon_sdk.client.results import Arrival, JobResult
    from cocoon_sdk.client.sessions.errors import (
        AnswerCutError,
        BusyError,
        RequestRefusedError,
        SessionError,
        SpendLimitError,
        WorkerFailedError,
        WorkerTimeoutError,
    )
    from cocoon_sdk.client.sessions.funds.records import SessionPolicy, SpendLimits
    from cocoon_sdk.client.sessions.values import Bill
    from cocoon_sdk.client.sync import Cocoon, Job
    from cocoon_sdk.client.wallets import KeyWallet, SignerWallet, TonsdkWallet, WalletVersion
    from cocoon_sdk.contracts.network import Network
    from cocoon_sdk.crypto.keys import SigningKey, VerifyKey
    from cocoon_sdk.errors import (
        ChainError,
        ChainStaleError,
        ChainTimeoutError,
        ChainUnavailableError,
        CocoonError,
        ConfigError,
        ForgedAccountError,
        HashMismatchError,
        InsufficientEscrowError,
        InsufficientStakeError,
        JobError,
        JobExpiredError,
        JobTimeoutError,
        KeyMaterialError,
        MalformedError,
        NoWorkerError,
        OfferRefusedError,
        PriceTooHighError,
        ResultUnavailableError,
        UnknownModelError,
    )
    from cocoon_sdk.protocol.envelope import JobKind
    from cocoon_sdk.protocol.job_states import JobState
    from cocoon_sdk.protocol.pricing import Usage
    from cocoon_sdk.protocol.terms import Terms
    from cocoon_sdk.types import Hash, Nano

__all__ = [
    "AmountMismatchError",
    "AnswerCutError",
    "Arrival",
    "AsyncCocoon",
    "AsyncEscrow",
    "AsyncJob",
    "Bill",
    "BusyError",
    "ChainError",
    "ChainStaleError",
    "ChainTimeoutError",
    "ChainUnavailableError",
    "Cocoon",
    "CocoonError",
    "ConfigError",
    "EscrowBalance",
    "ForgedAccountError",
    "Hash",
    "HashMismatchError",
    "InsufficientEscrowError",
    "InsufficientStakeError",
    "Job",
    "JobCancelledError",
    "JobCost",
    "JobError",
    "JobExpiredError",
    "JobKind",
    "JobResult",
    "JobState",
    "JobStatus",
    "JobTimeoutError",
    "KeyMaterialError",
    "KeyWallet",
    "MalformedError",
    "Nano",
    "Network",
    "NoWorkerError",
    "OfferRefusedError",
    "OwnerTransfer",
    "PayloadTooLargeError",
    "PriceTooHighError",
    "RequestRefusedError",
    "ResultUnavailableError",
    "SessionError",
    "SessionPolicy",
    "SignerWallet",
    "SigningKey",
    "SpendLimitError",
    "SpendLimits",
    "Terms",
    "TermsUnknownError",
    "TonsdkWallet",
    "UnknownModelError",
    "Usage",
    "VerifyKey",
    "WalletVersion",
    "WorkerFailedError",
    "WorkerList",
    "WorkerOffer",
    "WorkerTimeoutError",
]

_HOMES = {
    "AsyncCocoon": "cocoon_sdk.client.app",
    "WorkerList": "cocoon_sdk.client.discovery",
    "WorkerOffer": "cocoon_sdk.client.discovery",
    "AmountMismatchError": "cocoon_sdk.client.errors",
    "JobCancelledError": "cocoon_sdk.client.errors",
    "PayloadTooLargeError": "cocoon_sdk.client.errors",
    "TermsUnknownError": "cocoon_sdk.client.errors",
    "AsyncEscrow": "cocoon_sdk.client.escrow",
    "EscrowBalance": "cocoon_sdk.client.escrow",
    "OwnerTransfer": "cocoon_sdk.client.escrow",
    "AsyncJob": "cocoon_sdk.client.job",
    "JobStatus": "cocoon_sdk.client.job_status",
    "JobCost": "cocoon_sdk.client.planning",
    "Arrival": "cocoon_sdk.client.results",
    "JobResult": "cocoon_sdk.client.results",
    "AnswerCutError": "cocoon_sdk.client.sessions.errors",
    "BusyError": "cocoon_sdk.client.sessions.errors",
    "RequestRefusedError": "cocoon_sdk.client.sessions.errors",
    "SessionError": "cocoon_sdk.client.sessions.errors",
    "SpendLimitError": "cocoon_sdk.client.sessions.errors",
    "WorkerFailedError": "cocoon_sdk.client.sessions.errors",
    "WorkerTimeoutError": "cocoon_sdk.client.sessions.errors",
    "SessionPolicy": "cocoon_sdk.client.sessions.funds.records",
    "SpendLimits": "cocoon_sdk.client.sessions.funds.records",
    "Bill": "cocoon_sdk.client.sessions.values",
    "Cocoon": "cocoon_sdk.client.sync",
    "Job": "cocoon_sdk.client.sync",
    "KeyWallet": "cocoon_sdk.client.wallets",
    "SignerWallet": "cocoon_sdk.client.wallets",
    "TonsdkWallet": "cocoon_sdk.client.wallets",
    "WalletVersion": "cocoon_sdk.client.wallets",
    "Network": "cocoon_sdk.contracts.network",
    "SigningKey": "cocoon_sdk.crypto.keys",
    "VerifyKey": "cocoon_sdk.crypto.keys",
    "ChainError": "cocoon_sdk.errors",
    "ChainStaleError": "cocoon_sdk.errors",
    "ChainTimeoutError": "cocoon_sdk.errors",
    "ChainUnavailableError": "cocoon_sdk.errors",
    "CocoonError": "cocoon_sdk.errors",
    "ConfigError": "cocoon_sdk.errors",
    "ForgedAccountError": "cocoon_sdk.errors",
    "HashMismatchError": "cocoon_sdk.errors",
    "InsufficientEscrowError": "cocoon_sdk.errors",
    "InsufficientStakeError": "cocoon_sdk.errors",
    "JobError": "cocoon_sdk.errors",
    "JobExpiredError": "cocoon_sdk.errors",
    "JobTimeoutError": "cocoon_sdk.errors",
    "KeyMaterialError": "cocoon_sdk.errors",
    "MalformedError": "cocoon_sdk.errors",
    "NoWorkerError": "cocoon_sdk.errors",
    "OfferRefusedError": "cocoon_sdk.errors",
    "PriceTooHighError": "cocoon_sdk.errors",
    "ResultUnavailableError": "cocoon_sdk.errors",
    "UnknownModelError": "cocoon_sdk.errors",
    "JobKind": "cocoon_sdk.protocol.envelope",
    "JobState": "cocoon_sdk.protocol.job_states",
    "Usage": "cocoon_sdk.protocol.pricing",
    "Terms": "cocoon_sdk.protocol.terms",
    "Hash": "cocoon_sdk.types",
    "Nano": "cocoon_sdk.types",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
