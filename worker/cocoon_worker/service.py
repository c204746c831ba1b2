"""`WorkerService`: one worker's life, over any chain, engine and clock.

Owns starting, the loop, the tasks that serve jobs, and stopping. Must not choose adapters or read the
environment (`cocoon_worker.main` does). `step` is one round of the loop and can be called by itself: tests
and demonstrations drive a worker with it, without real time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from types import TracebackType
from typing import Final, Self

import structlog

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.chain.watcher import ChainResetError, HistoryGapError
from cocoon_sdk.client.arbiters import Arbiters
from cocoon_sdk.clock import Clock, SystemClock
from cocoon_sdk.contracts.market import Market
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.registry import Registry
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto import SigningKey, read_signing_key_file
from cocoon_sdk.errors import AccountNotFoundError, ChainError, CocoonError, ConfigError
from cocoon_sdk.protocol import WorkerInfo
from cocoon_worker.agenda import Agenda
from cocoon_worker.bookkeeping import Bookkeeper
from cocoon_worker.catalogue import own_offers
from cocoon_worker.chaintime import ChainTime
from cocoon_worker.config import WorkerConfig
from cocoon_worker.context import Context
from cocoon_worker.delivery import Delivery
from cocoon_worker.engine.base import Engine
from cocoon_worker.errors import JournalError, JournalFullError
from cocoon_worker.evidence import EvidenceSender
from cocoon_worker.journal import Journal
from cocoon_worker.lifecycle import give_up, retry_later
from cocoon_worker.metrics import Metrics
from cocoon_worker.model_guard import guard_models
from cocoon_worker.prekeys import PrekeyRing
from cocoon_worker.processor import Processor
from cocoon_worker.records import JobKey
from cocoon_worker.server import WorkerServer
from cocoon_worker.sessions import SessionBook, SessionSurvey
from cocoon_worker.sessions.desk import SessionDesk
from cocoon_worker.sessions.endpoint import SessionEndpoint
from cocoon_worker.sessions.redemption import Redemption
from cocoon_worker.sessions.share import EngineShare
from cocoon_worker.settlement import STAKE_ALARM, Settlement
from cocoon_worker.states import OVER, JobState
from cocoon_worker.survey import Survey
from cocoon_worker.watcher import Watchers

CHAIN_ALARM: Final = "chain-unavailable"
JOURNAL_ALARM: Final = "journal-full"
JOBS_KEPT_S: Final = 30 * 86_400
"""How long rows of finished jobs are kept."""
_MAX_INTAKES: Final = 8
_HOUSEKEEPING_S: Final = 600
_MAX_PAUSE_S: Final = 30.0
_SERVED: Final = (JobState.QUEUED, JobState.CLAIMED, JobState.RUNNING)


class WorkerService:
    """One worker. Use it with `async with`, then `run()`, or `step()` by hand.

    Entering raises `ConfigError`, `KeyMaterialError`, `JournalLockedError` and its kin, `EngineError` or
    `ChainError`; what was opened until then is closed again. The caller closes `chain`.
    """

    def __init__(
        self,
        config: WorkerConfig,
        chain: Chain,
        engine: Engine,
        clock: Clock | None = None,
        *,
        operator: SigningKey | None = None,
    ) -> None:
        self._config, self._chain, self._engine = config, chain, engine
        self._clock = clock or SystemClock()
        self._operator = operator
        self._closing = contextlib.AsyncExitStack()
        self._tasks: dict[JobKey, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._stopping = asyncio.Event()
        self._cleaned_at = 0
        self._failure: JournalFullError | None = None
        self._context: Context | None = None

    @property
    def context(self) -> Context:
        """The running worker's parts. Raises `ConfigError` before it was entered."""
        if self._context is None:
            raise ConfigError("the worker is not running", hint="Use it with `async with`")
        return self._context

    @property
    def journal(self) -> Journal:
        """The journal."""
        return self.context.journal

    @property
    def port(self) -> int:
        """The endpoint's port; 0 without one."""
        return 0 if self._server is None else self._server.port

    def info(self) -> WorkerInfo:
        """Return what this worker announces now."""
        return self._agenda.info()

    # -- life --------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._cancel_tasks()
        await self._closing.aclose()

    async def _start(self) -> None:
        config, chain = self._config, self._chain
        operator = self._operator or read_signing_key_file(config.operator_key_file)
        network = Network(config.registry_address)
        stake = WorkerStake.from_owner(chain, network, config.owner_address, config.index, clock=self._clock)
        log = structlog.get_logger("cocoon_worker").bind(stake=stake.address.to_str())
        try:
            config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot use {config.data_dir}", why=error.strerror or "") from None
        global_id = await chain.global_id()
        journal = Journal(config.journal_path, f"{global_id}:{stake.address.to_str(is_user_friendly=False)}")
        self._closing.callback(journal.close)
        public_url = config.endpoint.public_url if config.endpoint is not None else None
        delivery = Delivery(config.data, public_url)
        self._closing.push_async_callback(delivery.close)
        time = ChainTime(self._clock)
        time.observe(await chain.head())
        prekeys = PrekeyRing(config.prekey_dir, config.policy.prekey_life_s)
        registry = Registry(chain, network.registry)
        params = await registry.params()
        models = {bytes.fromhex(offer.model_id) for offer in config.offers}
        listed = {model: entry for model in models if (entry := await registry.model(model))}
        entries = {model: entry.entry_hash for model, entry in listed.items()}
        for model in models - entries.keys():
            log.warning(
                "model is not in the registry", model_id=model.hex(), why="disputes have no calibration"
            )
        offers = own_offers(config.offers, entries)
        await guard_models(config, {model: entry.name for model, entry in listed.items()}, log)
        survey = Survey(chain, network, stake, delivery.source)
        context = Context(
            config=config,
            chain=chain,
            engine=self._engine,
            clock=self._clock,
            time=time,
            network=network,
            global_id=global_id,
            stake=stake,
            operator=operator,
            prekeys=prekeys,
            offers=offers,
            journal=journal,
            survey=survey,
            sessions=SessionDesk(
                SessionBook(journal.database), SessionSurvey(chain, survey, global_id, self._clock)
            ),
            metrics=Metrics(),
            log=log,
            public_url=public_url,
        )
        books = Bookkeeper(context)
        self._redemption = Redemption(context, books.sessions)
        self._agenda = Agenda(context, books, delivery, self._redemption)
        self._settlement = Settlement(context, books, self._agenda)
        self._processor = Processor(context, books, delivery)
        self._evidence = EvidenceSender(context, Arbiters(config.arbiters))
        self._closing.push_async_callback(self._evidence.close)
        markets = {
            Market.of(chain, network, params, offer.model_id).address for offer in offers if offer.open_jobs
        }
        self._watchers = Watchers(context, books, markets, params.announce_fee)
        self._context = context
        self._keep_house()
        await self._engine.start()
        self._closing.push_async_callback(self._engine.stop)
        self._share = EngineShare(config.policy.max_concurrent, config.sessions.serving.max_waiting)
        self._server: WorkerServer | None = None
        self._sessions: SessionEndpoint | None = None
        if config.endpoint is not None:
            self._sessions = SessionEndpoint(context, self._share)
            self._server = WorkerServer(context, self._agenda, config.endpoint, self._sessions)
            await self._server.start()
            self._closing.push_async_callback(self._server.stop)
            self._closing.push_async_callback(self._sessions.stop)  # first: the server waits for its handlers
        log.info("worker started", operator=operator.verify_key.hex, models=[offer.model for offer in offers])

    def stop(self) -> None:
        """Ask `run` to finish: nothing new is taken, running jobs get `shutdown_grace_s`."""
        self._stopping.set()
        self._news.set()

    async def run(self) -> None:
        """Work until `stop`. Raises `ChainResetError` or `HistoryGapError`: a person has to look.

        Endpoint failures and a full disk are outlasted, with an alarm each.
        """
        failures = 0
        while not self._stopping.is_set():
            try:
                await self.step()
                failures = 0
            except (ChainResetError, HistoryGapError):
                raise
            except (ChainError, JournalFullError) as error:
                failures += 1
                self._note_failure(error)
            await self._pause(failures)
        await self._drain()

    async def _pause(self, failures: int) -> None:
        """Wait for a new block, a finished task, or the poll interval; after failures, longer each time."""
        policy = self._config.policy
        if failures:
            timeout = min(_MAX_PAUSE_S, policy.poll_s * 2.0 ** min(failures - 1, 8))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), timeout)
            return
        head = asyncio.ensure_future(self._chain.wait_head(self.context.time.seqno, policy.poll_s))
        news = asyncio.ensure_future(self._news.wait())
        done, pending = await asyncio.wait({head, news}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            if (error := task.exception()) is not None and not isinstance(error, ChainError):
                raise error

    async def _drain(self) -> None:
        """Finish what the grace allows; what it does not stays in the journal, for the next start."""
        self.context.draining = True
        if self._sessions is not None:
            self._sessions.leave()
        self.context.log.info("worker stopping", running=len(self._tasks))
        loop = asyncio.get_running_loop()
        end = loop.time() + self._config.policy.shutdown_grace_s
        while loop.time() < end and (self._tasks or self._unsent() or self._conversing()):
            try:
                await self.step()
            except (ChainError, JournalFullError) as error:
                self._note_failure(error)
            waiting = set(self._tasks.values()) or {asyncio.ensure_future(asyncio.sleep(0.2))}
            await asyncio.wait(waiting, timeout=min(1.0, max(0.0, end - loop.time())))
        await self._cancel_tasks()
        self.context.log.info("worker stopped", left=len(self._unsent()))

    def _conversing(self) -> bool:
        return self._sessions is not None and self._sessions.busy > 0

    def _unsent(self) -> list[JobKey]:
        waiting = self.journal.jobs((JobState.RUNNING, JobState.READY))
        pending = self.journal.pending_external()
        return [job.key for job in waiting] + ([JobKey(0, 0)] if pending is not None else [])

    async def _cancel_tasks(self) -> None:
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _note_failure(self, error: CocoonError) -> None:
        name = JOURNAL_ALARM if isinstance(error, JournalError) else CHAIN_ALARM
        if isinstance(error, AccountNotFoundError):
            name = STAKE_ALARM
        self.context.metrics.failures.labels(name).inc()
        self.context.alarm(name, True, str(error))

    # -- one round ------------------------------------------------------------------------------------------

    async def step(self) -> None:
        """Read what is new, judge offers, start work, and send what is due.

        Raises `ChainError` (nothing is lost, call again) and `JournalFullError` (nothing was sent).
        """
        self._news.clear()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure  # a task could not write: the caller waits before it is tried again
        context = self.context
        self._redemption.check_margins()
        context.time.observe(await self._chain.head())
        context.metrics.chain_time.set(context.time.surely())
        self._keep_house()
        await self._watchers.pump()
        await self._agenda.look()
        await self._redemption.look()
        self._evidence.step()
        if not context.draining:
            self._start_intakes()
            self._start_work()
        await self._settlement.step()
        # What a sandbox does at once, or a fast network meanwhile, need not wait for the next round.
        await self._watchers.pump()
        self._redemption.finish_round()
        context.alarm(CHAIN_ALARM, False)
        context.alarm(JOURNAL_ALARM, False)

    async def settle(self, rounds: int = 100) -> None:
        """Take steps until nothing is under way any more that time alone would not bring on.

        For tests and demonstrations, where the chain answers at once. Raises what `step` raises.
        """
        for _ in range(rounds):
            before = self._fingerprint()
            await self.step()
            if self._tasks:
                await asyncio.wait(self._tasks.values())
                await asyncio.sleep(0)
            elif self._fingerprint() == before:
                return

    def _fingerprint(self) -> tuple[object, ...]:
        jobs = self.journal.jobs(JobState)
        sessions = self.context.sessions.book.entries()
        return (
            *jobs,
            *sessions,
            self.journal.pending_external(),
            self.journal.cursor(self.context.stake.address),
        )

    def _start_intakes(self) -> None:
        now = self.context.time.maybe()
        intakes = sum(task.get_name().startswith("judge") for task in self._tasks.values())
        for job in self.journal.jobs((JobState.OFFERED,), limit=self._config.policy.max_queue):
            if intakes >= _MAX_INTAKES:
                return
            if job.not_before <= now and job.key not in self._tasks:
                self._spawn(job.key, "judge")
                intakes += 1

    def _start_work(self) -> None:
        now = self.context.time.maybe()
        running = self._serving()
        jobs = self.journal.jobs(_SERVED)
        # Claims have the harder deadline, and what was running before a restart has waited longest.
        jobs.sort(key=lambda job: (job.state is not JobState.RUNNING, not job.claimed, job.deadline))
        for job in jobs:
            if running >= self._config.policy.max_concurrent:
                return
            if job.not_before <= now and job.key not in self._tasks:
                self._spawn(job.key, "serve")
                running += 1
                self._share.note_jobs(running)

    def _serving(self) -> int:
        return sum(task.get_name().startswith("serve") for task in self._tasks.values())

    def _spawn(self, key: JobKey, step: str) -> None:
        work = self._processor.judge(key) if step == "judge" else self._processor.serve(key)
        task = asyncio.create_task(self._guarded(key, step, work), name=f"{step} {key}")
        self._tasks[key] = task

        def forget(_: asyncio.Task[None]) -> None:
            if self._tasks.get(key) is task:
                del self._tasks[key]
            self._share.note_jobs(self._serving())
            self._news.set()

        task.add_done_callback(forget)

    async def _guarded(self, key: JobKey, step: str, work: Coroutine[None, None, None]) -> None:
        """Run one step of one job; whatever goes wrong with it stays its own problem."""
        try:
            await work
        except JournalFullError as error:
            self._failure = error
        except Exception as error:
            expected = isinstance(error, CocoonError)
            self.context.metrics.failures.labels(step).inc()
            self.context.log.warning(
                "job step failed", job=str(key), step=step, why=str(error), exc_info=not expected
            )
            with contextlib.suppress(JournalFullError), self.journal.transaction():
                job = self.journal.job(key)
                if job is not None and job.state in (JobState.OFFERED, *_SERVED):
                    now, patience = self.context.time.maybe(), self._config.policy.send_attempts
                    hopeless = job.state is JobState.RUNNING and job.tries >= patience
                    failed = give_up if hopeless else retry_later
                    self.journal.put_job(failed(job, now, str(error)))

    def _keep_house(self) -> None:
        """Rotate prekeys, forget what is old."""
        context, now = self.context, self.context.time.maybe()
        if now < self._cleaned_at + _HOUSEKEEPING_S:
            return
        self._cleaned_at = now
        context.prekeys.rotate(now, self.journal.prekeys_in_use())
        retention = self._config.data.result_retention_s
        with self.journal.transaction():
            self.journal.prune(OVER, results_before=now - retention, jobs_before=now - JOBS_KEPT_S)
            context.sessions.book.prune(now - JOBS_KEPT_S)
