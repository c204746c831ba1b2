"""The demo's story: a network is born, a client pays a worker for an encrypted job, the books are checked.

Owns the order of steps and what is kept of them. Client and worker each have a chain connection of their own
over HTTP and know of each other only what is on chain, as in production.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.job import AsyncJob
from cocoon_sdk.client.results import JobResult
from cocoon_sdk.client.wallets import KeyWallet
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.demo.books import Books, Statement
from cocoon_sdk.demo.engines import MAX_OUTPUT, EngineChoice, prepare
from cocoon_sdk.demo.localnet import LOOPBACK, LocalNetwork
from cocoon_sdk.demo.staffing import STAKE, stake_worker, until
from cocoon_sdk.errors import NoWorkerError
from cocoon_sdk.types import Nano
from cocoon_worker.service import WorkerService

GOVERNOR_FUNDS: Final = Nano.ton(1)
CLIENT_FUNDS: Final = Nano.ton(10)
WORKER_FUNDS: Final = Nano.ton(10)
DEPOSIT: Final = Nano.ton(5)
DAILY_LIMIT: Final = Nano.ton(5)
MAX_PROMPT_BYTES: Final = 4096
ANSWER_TIMEOUT_S: Final = 240.0


class Stage(Protocol):
    """Where the demo reports to; `cocoon_sdk.cli.output.Output.step` has this form."""

    def update(self, detail: str) -> None:
        """Say how far the step is."""
        ...

    def done(self, text: str) -> None:
        """Replace the words that stay when the step is over."""
        ...


StepFactory = Callable[[str], Any]
"""Opens a step: a context manager that yields a `Stage`."""


@dataclass(frozen=True, slots=True)
class _Wallets:
    governor: KeyWallet
    worker: KeyWallet
    client: KeyWallet


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one step took, in seconds."""

    step: str
    seconds: float


@dataclass(slots=True)
class DemoReport:
    """What the demo found; complete when `play` returned."""

    engine: EngineChoice
    prompt: str
    describes: str = ""
    model: str = ""
    job: str = ""
    result: JobResult | None = None
    statement: Statement | None = None
    timings: list[Timing] = field(default_factory=list)

    @property
    def answer(self) -> str:
        """The model's answer."""
        assert self.result is not None
        return self.result.text

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        assert self.result is not None
        assert self.statement is not None
        return {
            "engine": self.engine.value,
            "describes": self.describes,
            "model": self.model,
            "prompt": self.prompt,
            "answer": self.answer,
            "job": self.job,
            "usage": self.result.usage.to_wire(),
            "amount_nano": str(int(self.result.amount)),
            "arrival": self.result.arrival.value,
            "timings": [{"step": each.step, "seconds": round(each.seconds, 3)} for each in self.timings],
            **self.statement.to_json(),
        }


class Demo:
    """One run. `step` shows progress, `folder` takes the worker's files, `logs` vLLM's log."""

    def __init__(
        self, engine: EngineChoice, prompt: str, *, folder: Path, logs: Path, step: StepFactory
    ) -> None:
        self._folder, self._logs, self._step = folder, logs, step
        self.report = DemoReport(engine, prompt)
        self._stage: Stage | None = None

    async def play(self) -> DemoReport:
        """Play the whole story. Raises `CocoonError` for whatever goes wrong; nothing is left running."""
        async with AsyncExitStack() as closing:
            with self._timed("Getting the engine ready") as stage:
                ready = await prepare(self.report.engine, self._logs, self._progress)
                self.report.describes, self.report.model = ready.describes, ready.model.name
                stage.done(f"Engine: {ready.describes}")
            with self._timed("Starting a TON sandbox") as stage:
                local = await closing.enter_async_context(LocalNetwork([ready.model]))
                stage.done(f"TON sandbox with a toncenter API at {local.endpoint}")
            wallets = self._wallets(local)
            books = Books(local.blockchain)
            with self._timed("Deploying registry and market") as stage:
                await local.deploy(wallets.governor)
                stage.done(f"Network of registry {local.network.registry.to_str()}")
            with self._timed("Staking a worker") as stage:
                staff = await stake_worker(local, ready, wallets.worker, self._folder)
                stage.done(f"Worker staked {STAKE} in {staff.stake.to_str()}")
            client = await self._escrow(closing, local, wallets.client)
            answer = await self._work(client, staff.service(local))
            with self._timed("Checking the books") as stage:
                self.report.statement = books.close(local.names)
                stage.done(f"Books checked: {len(self.report.statement.transactions)} transactions")
            self.report.result = answer
        return self.report

    def _wallets(self, local: LocalNetwork) -> _Wallets:
        """Make three wallets and mint what they start with: all the money there ever is."""
        with self._timed("Funding wallets") as stage:
            found = _Wallets(
                local.wallet("governor", SigningKey.generate(), GOVERNOR_FUNDS),
                local.wallet("worker's wallet", SigningKey.generate(), WORKER_FUNDS),
                local.wallet("client's wallet", SigningKey.generate(), CLIENT_FUNDS),
            )
            stage.done(
                f"Three wallets: governor {GOVERNOR_FUNDS}, worker {WORKER_FUNDS}, client {CLIENT_FUNDS}"
            )
        return found

    async def _escrow(self, closing: AsyncExitStack, local: LocalNetwork, wallet: KeyWallet) -> AsyncCocoon:
        with self._timed("Opening the client's escrow") as stage:
            client = AsyncCocoon(
                local.connect(),
                local.network,
                SigningKey.generate(),
                owner=wallet,
                private_networks=(f"{LOOPBACK}/32",),
            )
            await closing.enter_async_context(client)
            local.name("client's escrow", client.escrow.address)
            await client.escrow.open(DEPOSIT, DAILY_LIMIT)
            stage.done(f"Client's escrow {client.escrow.address.to_str()} holds {DEPOSIT} to spend")
        return client

    async def _work(self, client: AsyncCocoon, service: WorkerService) -> JobResult:
        """Run the worker's service beside the client until the job is paid and the chain is quiet."""
        async with AsyncExitStack() as running:
            with self._timed("Starting the worker") as stage:
                await running.enter_async_context(service)
                stage.done(f"Worker serves {self.report.model}")
            working = asyncio.create_task(service.run(), name="worker")
            try:
                return await self._first_of(working, self._ask(client, self.report.model))
            finally:
                service.stop()
                await asyncio.gather(working, return_exceptions=True)

    async def _ask(self, client: AsyncCocoon, model: str) -> JobResult:
        with self._timed("Waiting for the worker's offer") as stage:
            offer = await _first_offer(client, model)
            stage.done(f"Worker found on the market: {offer.terms.output_price} per million tokens of answer")
        with self._timed("Sending the encrypted job") as stage:
            job = await client.jobs.create(
                model=model,
                request={"messages": [{"role": "user", "content": self.report.prompt}], "temperature": 0},
                max_output_tokens=MAX_OUTPUT,
            )
            self.report.job = f"{client.escrow.address.to_str()}/{job.id}"
            stage.done(f"Job {self.report.job} sent, encrypted to the worker")
        with self._timed("Waiting for the answer") as stage:
            result = await job.result(timeout=ANSWER_TIMEOUT_S)
            stage.done(f"Answer {result.arrival}, checked and paid: {result.amount}")
        await self._settled(client, job)
        return result

    async def _settled(self, client: AsyncCocoon, job: AsyncJob) -> None:
        """Wait until the reward has arrived, so that no money is under way when the books are closed."""
        status = await job.status()
        assert status.worker is not None
        stake = WorkerStake.at(client.chain, status.worker)

        async def is_paid() -> bool:
            return (await stake.state()).earned > 0

        await until(client.chain, is_paid, "the reward did not arrive")

    async def _first_of(
        self, working: asyncio.Task[None], asking: Coroutine[Any, Any, JobResult]
    ) -> JobResult:
        """Return the answer, or raise what ended the worker before."""
        client = asyncio.create_task(asking, name="client")
        try:
            await asyncio.wait((working, client), return_when=asyncio.FIRST_COMPLETED)
            if not client.done():
                await working
                raise NoWorkerError("the worker ended before the job did")
            return client.result()
        finally:
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)

    def _progress(self, detail: str) -> None:
        """Pass on what the engine says, to whichever step is running."""
        if self._stage is not None:
            self._stage.update(detail)

    @contextmanager
    def _timed(self, text: str) -> Iterator[Stage]:
        start = time.perf_counter()
        with self._step(text) as stage:
            self._stage = stage
            try:
                yield stage
            finally:
                self._stage = None
        self.report.timings.append(Timing(text, time.perf_counter() - start))


async def _first_offer(client: AsyncCocoon, model: str) -> WorkerOffer:
    """Wait until a worker's announcement can be read."""
    found: list[WorkerOffer] = []

    async def look() -> bool:
        found[:] = (await client.workers.list(model)).offers
        return bool(found)

    await until(client.chain, look, "no worker announced itself")
    return found[0]
