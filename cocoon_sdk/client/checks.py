"""Checks of the escrow's own state before a job is opened: funds, limits, whom it may deal with.

Owns what the contract will check anyway, said earlier, in words and numbers. Must not send anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.planning import JobCost
from cocoon_sdk.errors import InsufficientEscrowError, NoWorkerError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.abi_dict import parse as parse_dict
from cocoon_sdk.protocol.exit_codes import (
    DailyLimitError,
    PendingError,
    TooManyJobsError,
    WorkerNotAllowedError,
)
from cocoon_sdk.types import Nano


def params_of(view: m.EscrowView) -> m.Params:
    """Return the parameters that the escrow works under. Raises `PendingError`."""
    if view.params is None:
        raise PendingError("the escrow cannot open jobs")
    return m.Params.from_cell(view.params)


def check_funds(view: m.EscrowView, cost: JobCost) -> None:
    """Check beforehand what the contract will check; raises the errors named in `AsyncJobs.create`."""
    if view.jobs >= c.MAX_JOBS:
        raise TooManyJobsError("cannot open another job", why=f"{view.jobs} are open, at most {c.MAX_JOBS}")
    free, bucket = Nano(view.free), Nano(view.bucket)
    if free < cost.total:
        raise InsufficientEscrowError(
            "the escrow cannot cover the job",
            why=f"{free} are free; needed are {cost.total}: price {cost.price}, bond {cost.bond}, "
            f"gas and announcements {cost.total - cost.price - cost.bond}",
            hint=f"Deposit {cost.total - free} more, or lower max_output_tokens",
        )
    if bucket < cost.spend:
        raise DailyLimitError(
            "the hot key's daily limit does not cover the job",
            why=f"it may spend {bucket} now; needed are {cost.spend}",
            hint="Wait until the limit refills, or let the owner call escrow.set_limits",
        )


def check_all(costs: Sequence[JobCost], view: m.EscrowView) -> None:
    """Check beforehand that several jobs fit; raises what `check_funds` raises."""
    if view.jobs + len(costs) > c.MAX_JOBS:
        why = f"{view.jobs} are open, at most {c.MAX_JOBS}"
        raise TooManyJobsError(f"cannot open {len(costs)} more jobs", why=why)
    total = Nano(sum(int(cost.total) for cost in costs))
    spend = Nano(sum(int(cost.spend) for cost in costs))
    free, bucket = Nano(view.free), Nano(view.bucket)
    if free < total:
        raise InsufficientEscrowError(
            f"the escrow cannot cover {len(costs)} jobs",
            why=f"{free} are free; needed are {total}",
            hint=f"Deposit {total - free} more, ask fewer workers, or lower max_output_tokens",
        )
    if bucket < spend:
        raise DailyLimitError(
            f"the hot key's daily limit does not cover {len(costs)} jobs",
            why=f"it may spend {bucket} now; needed are {spend}",
            hint="Wait until the limit refills, or let the owner call escrow.set_limits",
        )


def is_allowed(offer: WorkerOffer, view: m.EscrowView) -> bool:
    """Tell whether the owner lets the hot key use this worker."""
    if view.allowed is None:
        return True
    account = signing.account_id(offer.address)
    return any(number == account for number, _ in parse_dict(view.allowed, 256))


def check_usable(offer: WorkerOffer, view: m.EscrowView) -> None:
    """Raise `WorkerNotAllowedError` or `NoWorkerError` when the two cannot work together."""
    if not is_allowed(offer, view):
        raise WorkerNotAllowedError(f"the hot key may not use {offer.address.to_str()}")
    if not same_params(offer, view):
        raise other_params(f"{offer.address.to_str()} works under other parameters than this escrow")


def same_params(offer: WorkerOffer, view: m.EscrowView) -> bool:
    """Tell whether both work under the same parameters: the escrow refuses any others."""
    return view.params is not None and view.params.hash == offer.params_hash


def other_params(what: str) -> NoWorkerError:
    """Return the error for two that do not."""
    return NoWorkerError(
        what,
        why="one of the two has not taken over the registry's newest parameters",
        hint="Call escrow.sync_params; if that changes nothing, the worker has to",
    )
