"""Opening redundant jobs: who is asked, and whether all of it can be paid, before anything is spent.

Owns picking workers that can check each other, and the thresholds they are judged by. Must not know how
answers are compared (`redundant`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from cocoon_sdk.client.auditing.paid import Asker
from cocoon_sdk.client.checks import check_all, is_allowed, params_of, same_params
from cocoon_sdk.client.discovery import WorkerList, WorkerOffer
from cocoon_sdk.client.planning import can_do, normalise
from cocoon_sdk.client.redundant import FEWEST_WORKERS, AsyncRedundantJob
from cocoon_sdk.contracts.registry import RegisteredModel
from cocoon_sdk.errors import CocoonError, ConfigError, NoWorkerError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.thresholds import Thresholds

if TYPE_CHECKING:
    from cocoon_sdk.client.job import AsyncJob
    from cocoon_sdk.client.job_audits import JobAudits
    from cocoon_sdk.client.jobs import AsyncJobs

MOST_WORKERS: Final = 7


class CrossChecks:
    """What redundant jobs are made with: cases, paid checks, and the thresholds that are known."""

    def __init__(self, audits: JobAudits, ask: Asker, known: Sequence[Thresholds]) -> None:
        self._audits, self._ask = audits, ask
        self._known = {bytes(each.digest()): each for each in known}

    async def open(
        self,
        jobs: AsyncJobs,
        listed: WorkerList,
        view: m.EscrowView,
        count: int,
        *,
        thresholds: Thresholds | None,
        dispute: bool,
        most_per_check: Nano,
        max_price: Nano | None,
        **options: Any,
    ) -> AsyncRedundantJob:
        """Open the same job at `count` workers; see `AsyncJobs.create_redundant`."""
        limits = self._thresholds_of(listed.model, thresholds)
        if options.get("window_s") == 0:
            raise ConfigError("cannot compare the answers", why="without a window they are paid before that")
        asked = normalise(
            options.get("kind"),
            options.get("messages"),
            options.get("request"),
            options.get("max_output_tokens"),
            options.get("max_input_tokens"),
        )
        params = params_of(view)
        offers = self._pick(
            listed,
            count,
            lambda offer: (
                is_allowed(offer, view)
                and same_params(offer, view)
                and can_do(offer, asked, max_price, params)
            ),
        )
        fields: dict[str, Any] = {**options, "model": listed.model.model_id, "max_price": max_price}
        check_all([await jobs.estimate(worker=offer, **fields) for offer in offers], view)
        opened: list[tuple[AsyncJob, WorkerOffer]] = []
        for offer in offers:
            try:
                job = await jobs.create(worker=offer, accept="manual", **fields)
            except CocoonError:
                if len(opened) < FEWEST_WORKERS:
                    raise
                break
            opened.append((job.unaudited(), offer))
        return self._handle(opened, limits, dispute=dispute, most_per_check=most_per_check)

    async def find(
        self,
        jobs: Sequence[AsyncJob],
        listed: Callable[[bytes], Any],
        *,
        thresholds: Thresholds | None,
        dispute: bool,
        most_per_check: Nano,
    ) -> AsyncRedundantJob:
        """Return the handle of jobs that were opened before; see `AsyncJobs.get_redundant`."""
        if len(jobs) < FEWEST_WORKERS:
            raise ConfigError("cannot compare the answers", why="at least two jobs have to be named")
        found: list[tuple[AsyncJob, WorkerOffer]] = []
        limits: Thresholds | None = None
        for job in jobs:
            terms, worker = await job.terms(), (await job.status()).worker
            offers: WorkerList = await listed(bytes(terms.model_id))
            limits = limits or self._thresholds_of(offers.model, thresholds)
            offer = None if worker is None else offers.find(worker)
            if offer is None:
                why = f"the worker of job {job.id} offers the model no more, or was left"
                raise NoWorkerError("cannot compare the answers", why=why)
            found.append((job.unaudited(), offer))
        assert limits is not None
        return self._handle(found, limits, dispute=dispute, most_per_check=most_per_check)

    def _thresholds_of(self, model: RegisteredModel, given: Thresholds | None) -> Thresholds:
        what = f"the answers of {model.name or model.model_id.hex()} cannot be judged"
        if given is not None and given.digest() != model.calibration_hash:
            raise ConfigError(what, why="these are not the thresholds that its registry entry names")
        found = given or self._known.get(bytes(model.calibration_hash))
        if found is None:
            raise ConfigError(what, why="its thresholds are not at hand", hint="Pass `thresholds`")
        return found

    def _pick(self, listed: WorkerList, count: int, fits: Callable[[WorkerOffer], bool]) -> list[WorkerOffer]:
        """Return the cheapest workers that can check each other, of different owners."""
        if not FEWEST_WORKERS <= count <= MOST_WORKERS:
            why = f"{FEWEST_WORKERS} to {MOST_WORKERS} workers can be compared"
            raise ConfigError("cannot open a redundant job", why=why)
        found: dict[bytes, WorkerOffer] = {}
        for offer in listed:
            verifiable = offer.terms.sampling is not SamplingClass.UNVERIFIED
            if offer.endpoint is not None and verifiable and fits(offer):
                found.setdefault(bytes(offer.worker.owner.hash_part), offer)
        if len(found) < count:
            raise NoWorkerError(
                f"no {count} workers for {listed.model.name or listed.model.model_id.hex()}",
                why=f"{len(found)} of different owners have an endpoint and verifiable terms, and can do it",
                hint="Ask fewer, or see workers.list()",
            )
        return list(found.values())[:count]

    def _handle(
        self,
        jobs: Sequence[tuple[AsyncJob, WorkerOffer]],
        thresholds: Thresholds,
        *,
        dispute: bool,
        most_per_check: Nano,
    ) -> AsyncRedundantJob:
        if most_per_check < 0:
            raise ConfigError("cannot compare the answers", why="no limit is negative")
        return AsyncRedundantJob(
            jobs, self._audits, self._ask, thresholds, dispute=dispute, most_per_check=most_per_check
        )
