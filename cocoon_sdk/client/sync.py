"""`Cocoon`: the same client without `await`, for scripts and notebooks.

Owns thin, typed wrappers: each method runs its async counterpart on a private event loop with a thread of
its own, and waits. Must not hold any logic of its own. It works inside Jupyter, whose own loop is already
running, and from several threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeAlias

from pytoniq_core import Address

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.app import AsyncCocoon, Owner
from cocoon_sdk.client.auditing import AsyncAudits, AuditNumbers
from cocoon_sdk.client.blocking import Blocking, LoopThread, blocking
from cocoon_sdk.client.discovery import AsyncWorkers
from cocoon_sdk.client.escrow import AsyncEscrow
from cocoon_sdk.client.job import AsyncJob
from cocoon_sdk.client.jobs import AsyncJobs
from cocoon_sdk.client.models import AsyncModels
from cocoon_sdk.client.openai.blocking import OpenAIResources
from cocoon_sdk.client.planning import JobCost
from cocoon_sdk.client.sessions.account import AsyncSessions
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.crypto.keys import SigningKey

if TYPE_CHECKING:
    from cocoon_sdk.client.redundant import AsyncRedundantJob, RedundantResult

P = ParamSpec("P")
_Redundant: TypeAlias = "AsyncRedundantJob"


class Job(Blocking[AsyncJob]):
    """One job; see `AsyncJob`."""

    @property
    def id(self) -> int:
        """The job's number in its escrow."""
        return self._inner.id

    @property
    def cost_estimate(self) -> JobCost | None:
        """What opening it took out of free funds; None for a job that was looked up."""
        return self._inner.cost_estimate

    def unaudited(self) -> Job:
        """Return the same handle, whose result no audit is drawn for; see `AsyncJob.unaudited`."""
        self._inner.unaudited()
        return self

    status = blocking(AsyncJob.status)
    bond = blocking(AsyncJob.bond)
    terms = blocking(AsyncJob.terms)
    history = blocking(AsyncJob.history)
    payload = blocking(AsyncJob.payload)
    wait = blocking(AsyncJob.wait)
    result = blocking(AsyncJob.result)
    accept = blocking(AsyncJob.accept)
    dispute = blocking(AsyncJob.dispute)
    send_evidence = blocking(AsyncJob.send_evidence)
    cancel = blocking(AsyncJob.cancel)
    reclaim = blocking(AsyncJob.reclaim)


def _as_job(
    method: Callable[Concatenate[AsyncJobs, P], Coroutine[Any, Any, AsyncJob]],
) -> Callable[Concatenate[Blocking[AsyncJobs], P], Job]:
    @functools.wraps(method)
    def call(self: Blocking[AsyncJobs], /, *args: P.args, **kwargs: P.kwargs) -> Job:
        return Job(self._thread.run(method(self._inner, *args, **kwargs)), self._thread)

    return call


class Jobs(Blocking[AsyncJobs]):
    """The jobs of one client; see `AsyncJobs`."""

    create = _as_job(AsyncJobs.create)
    estimate = blocking(AsyncJobs.estimate)

    def get(self, job_id: int, **options: Any) -> Job:
        """Return the handle of a job by its id; see `AsyncJobs.get`."""
        return Job(self._inner.get(job_id, **options), self._thread)

    def create_redundant(self, **options: Any) -> RedundantJob:
        """Open the same job at several workers; see `AsyncJobs.create_redundant`."""
        made = self._thread.run(self._inner.create_redundant(**options))
        return RedundantJob(made, self._thread)

    def get_redundant(self, job_ids: Sequence[int], **options: Any) -> RedundantJob:
        """Return the handle of a redundant job; see `AsyncJobs.get_redundant`."""
        return RedundantJob(self._thread.run(self._inner.get_redundant(job_ids, **options)), self._thread)

    def list(self) -> tuple[Job, ...]:
        """Return handles of all jobs that have not ended; see `AsyncJobs.list`."""
        return tuple(Job(job, self._thread) for job in self._thread.run(self._inner.list()))


class Escrow(Blocking[AsyncEscrow]):
    """The escrow of one client; see `AsyncEscrow`."""

    @property
    def address(self) -> Address:
        """The account's address, known before it exists."""
        return self._inner.address

    is_open = blocking(AsyncEscrow.is_open)
    state = blocking(AsyncEscrow.state)
    balance = blocking(AsyncEscrow.balance)
    open = blocking(AsyncEscrow.open)
    deposit = blocking(AsyncEscrow.deposit)
    withdraw = blocking(AsyncEscrow.withdraw)
    set_key = blocking(AsyncEscrow.set_key)
    set_limits = blocking(AsyncEscrow.set_limits)
    accept_code = blocking(AsyncEscrow.accept_code)
    sync_params = blocking(AsyncEscrow.sync_params)


class Sessions(Blocking[AsyncSessions]):
    """The sessions of one client; see `AsyncSessions`."""

    list = blocking(AsyncSessions.list)
    get = blocking(AsyncSessions.get)
    estimate = blocking(AsyncSessions.estimate)
    open = blocking(AsyncSessions.open)
    top_up = blocking(AsyncSessions.top_up)
    close_session = blocking(AsyncSessions.close_session)
    dispute = blocking(AsyncSessions.dispute)
    dispute_bond = blocking(AsyncSessions.dispute_bond)
    send_evidence = blocking(AsyncSessions.send_evidence)
    settle = blocking(AsyncSessions.settle)
    keep = blocking(AsyncSessions.keep)


class RedundantJob(Blocking[_Redundant]):
    """The same job at several workers; see `AsyncRedundantJob`."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The handles of its jobs."""
        return tuple(Job(job, self._thread) for job in self._inner.jobs)

    def result(self, timeout: float | None = None) -> RedundantResult:
        """Wait for the answers and have them compared; see `AsyncRedundantJob.result`."""
        return self._thread.run(self._inner.result(timeout))


class Audits(Blocking[AsyncAudits]):
    """The audits of one client; see `AsyncAudits`."""

    @property
    def numbers(self) -> AuditNumbers:
        """What was done since this client began."""
        return self._inner.numbers

    list = blocking(AsyncAudits.list)
    scores = blocking(AsyncAudits.scores)
    forgive = blocking(AsyncAudits.forgive)
    idle = blocking(AsyncAudits.idle)
    keep = blocking(AsyncAudits.keep)


class Workers(Blocking[AsyncWorkers]):
    """The workers of a network; see `AsyncWorkers`."""

    list = blocking(AsyncWorkers.list)

    def leave(self, worker: Address, why: str) -> None:
        """List a worker no more; see `AsyncWorkers.leave`."""
        self._inner.leave(worker, why)

    def come_back(self, worker: Address) -> None:
        """List a worker again; see `AsyncWorkers.come_back`."""
        self._inner.come_back(worker)


class Models(Blocking[AsyncModels]):
    """The models of a network; see `AsyncModels`."""

    list = blocking(AsyncModels.list)
    get = blocking(AsyncModels.get)
    id_of = staticmethod(AsyncModels.id_of)


class Cocoon:
    """A client of one network without `await`; see `AsyncCocoon` for the arguments.

    The chain must not have been used on another event loop.
    """

    def __init__(
        self,
        chain: Chain,
        registry: Address | str | Network,
        hot_key: SigningKey,
        *,
        owner: Owner,
        **options: Any,
    ) -> None:
        self._thread = LoopThread()

        async def make() -> AsyncCocoon:
            return AsyncCocoon(chain, registry, hot_key, owner=owner, **options)

        self._start(make)

    def _start(self, make: Callable[[], Coroutine[Any, Any, AsyncCocoon]]) -> None:
        try:
            self._inner = self._thread.run(make())
        except BaseException:
            self._thread.close()
            raise
        self.escrow = Escrow(self._inner.escrow, self._thread)
        self.models = Models(self._inner.models, self._thread)
        self.workers = Workers(self._inner.workers, self._thread)
        self.jobs = Jobs(self._inner.jobs, self._thread)
        self.sessions = Sessions(self._inner.sessions, self._thread)
        self.audits = Audits(self._inner.audits, self._thread)
        self.openai = OpenAIResources(self._inner.openai, self._thread)
        self.chat, self.completions = self.openai.chat, self.openai.completions
        self.embeddings = self.openai.embeddings

    @classmethod
    def connect(
        cls,
        endpoint: str,
        registry: Address | str | Network,
        hot_key: SigningKey,
        *,
        owner: Owner,
        **options: Any,
    ) -> Self:
        """Make a client over a toncenter v2 HTTP endpoint; see `AsyncCocoon.connect`."""
        self = cls.__new__(cls)
        self._thread = LoopThread()

        async def make() -> AsyncCocoon:
            return AsyncCocoon.connect(endpoint, registry, hot_key, owner=owner, **options)

        self._start(make)
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} escrow {self.escrow.address.to_str()}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections and the private loop. Jobs go on on chain."""
        self._thread.run(self._inner.close())
        self._thread.close()
