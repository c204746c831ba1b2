"""The demo's story: a network is born, a client and a worker play a plot, the books are checked.

Owns the order of steps and what is kept of them. Client and worker each have a chain connection of their own
over HTTP and know of each other only what is on chain, as in production.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.sessions.funds.records import SessionPolicy
from cocoon_sdk.client.wallets import KeyWallet
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.demo.books import Books, Statement
from cocoon_sdk.demo.engines import EngineChoice, prepare
from cocoon_sdk.demo.localnet import LOOPBACK, LocalNetwork
from cocoon_sdk.demo.staffing import INCREMENT, STAKE, stake_worker, until
from cocoon_sdk.demo.stages import Stages, StepFactory, Timing
from cocoon_sdk.errors import NoWorkerError
from cocoon_sdk.types import Nano
from cocoon_worker.service import WorkerService

GOVERNOR_FUNDS: Final = Nano.ton(1)
CLIENT_FUNDS: Final = Nano.ton(10)
WORKER_FUNDS: Final = Nano.ton(10)
DEPOSIT: Final = Nano.ton(5)
DAILY_LIMIT: Final = Nano.ton(5)
MAX_PROMPT_BYTES: Final = 4096


class Outcome(Protocol):
    """What came of a plot."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        ...


Told = TypeVar("Told", bound=Outcome)
Told_co = TypeVar("Told_co", bound=Outcome, covariant=True)


class Plot(Protocol[Told_co]):
    """What client and worker do with each other, once both stand."""

    async def play(self, stages: Stages, client: AsyncCocoon, model: str) -> Told_co:
        """Do it; when it returns, no money is under way."""
        ...


@dataclass(frozen=True, slots=True)
class _Wallets:
    governor: KeyWallet
    worker: KeyWallet
    client: KeyWallet


@dataclass(frozen=True, slots=True)
class DemoReport(Generic[Told]):
    """What the demo found."""

    engine: EngineChoice
    prompt: str
    describes: str
    model: str
    outcome: Told
    statement: Statement
    timings: tuple[Timing, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "engine": self.engine.value,
            "describes": self.describes,
            "model": self.model,
            "prompt": self.prompt,
            **self.outcome.to_json(),
            "timings": [{"step": each.step, "seconds": round(each.seconds, 3)} for each in self.timings],
            **self.statement.to_json(),
        }


class Demo(Generic[Told]):
    """One run of `plot`. `step` shows progress, `folder` takes both sides' files, `logs` vLLM's log."""

    def __init__(
        self,
        engine: EngineChoice,
        prompt: str,
        plot: Plot[Told],
        *,
        folder: Path,
        logs: Path,
        step: StepFactory,
    ) -> None:
        self._engine, self._prompt, self._plot = engine, prompt, plot
        self._folder, self._logs = folder, logs
        self._stages = Stages(step)

    async def play(self) -> DemoReport[Told]:
        """Play the whole story. Raises `CocoonError` for whatever goes wrong; nothing is left running."""
        stages = self._stages
        async with AsyncExitStack() as closing:
            with stages.step("Getting the engine ready") as stage:
                ready = await prepare(self._engine, self._logs, stages.progress)
                stage.done(f"Engine: {ready.describes}")
            with stages.step("Starting a TON sandbox") as stage:
                local = await closing.enter_async_context(LocalNetwork([ready.model]))
                stage.done(f"TON sandbox with a toncenter API at {local.endpoint}")
            wallets = self._wallets(local)
            books = Books(local.blockchain)
            with stages.step("Deploying registry and market") as stage:
                await local.deploy(wallets.governor)
                stage.done(f"Network of registry {local.network.registry.to_str()}")
            with stages.step("Staking a worker") as stage:
                staff = await stake_worker(local, ready, wallets.worker, self._folder)
                stage.done(f"Worker staked {STAKE} in {staff.stake.to_str()}")
            client = await self._escrow(closing, local, wallets.client)
            outcome = await self._work(client, staff.service(local), ready.model.name)
            with stages.step("Checking the books") as stage:
                statement = books.close(local.names)
                stage.done(f"Books checked: {len(statement.transactions)} transactions")
        return DemoReport(
            self._engine,
            self._prompt,
            ready.describes,
            ready.model.name,
            outcome,
            statement,
            tuple(stages.timings),
        )

    def _wallets(self, local: LocalNetwork) -> _Wallets:
        """Make three wallets and mint what they start with: all the money there ever is."""
        with self._stages.step("Funding wallets") as stage:
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
        with self._stages.step("Opening the client's escrow") as stage:
            client = AsyncCocoon(
                local.connect(),
                local.network,
                SigningKey.generate(),
                owner=wallet,
                private_networks=(f"{LOOPBACK}/32",),
                database=self._folder / "sessions.db",
                session_policy=SessionPolicy(increment=INCREMENT),
            )
            await closing.enter_async_context(client)
            local.name("client's escrow", client.escrow.address)
            await client.escrow.open(DEPOSIT, DAILY_LIMIT)
            stage.done(f"Client's escrow {client.escrow.address.to_str()} holds {DEPOSIT} to spend")
        return client

    async def _work(self, client: AsyncCocoon, service: WorkerService, model: str) -> Told:
        """Run the worker's service beside the client until the plot is over and the chain is quiet."""
        async with AsyncExitStack() as running:
            with self._stages.step("Starting the worker") as stage:
                await running.enter_async_context(service)
                stage.done(f"Worker serves {model}")
            working = asyncio.create_task(service.run(), name="worker")
            try:
                return await _first_of(working, self._ask(client, model))
            finally:
                service.stop()
                await asyncio.gather(working, return_exceptions=True)

    async def _ask(self, client: AsyncCocoon, model: str) -> Told:
        with self._stages.step("Waiting for the worker's offer") as stage:
            offer = await _first_offer(client, model)
            stage.done(f"Worker found on the market: {offer.terms.output_price} per million tokens of answer")
        return await self._plot.play(self._stages, client, model)


async def _first_of(working: asyncio.Task[None], asking: Coroutine[Any, Any, Told]) -> Told:
    """Return what came of the plot, or raise what ended the worker before."""
    client = asyncio.create_task(asking, name="client")
    try:
        await asyncio.wait((working, client), return_when=asyncio.FIRST_COMPLETED)
        if not client.done():
            await working
            raise NoWorkerError("the worker ended before the client was served")
        return client.result()
    finally:
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)


async def _first_offer(client: AsyncCocoon, model: str) -> WorkerOffer:
    """Wait until a worker's announcement can be read."""
    found: list[WorkerOffer] = []

    async def look() -> bool:
        found[:] = (await client.workers.list(model)).offers
        return bool(found)

    await until(client.chain, look, "no worker announced itself")
    return found[0]
