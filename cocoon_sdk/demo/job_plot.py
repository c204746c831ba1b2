"""The demo's first plot: one encrypted job, from the escrow to the worker's reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.job import AsyncJob
from cocoon_sdk.client.results import JobResult
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.demo.engines import MAX_OUTPUT
from cocoon_sdk.demo.staffing import until
from cocoon_sdk.demo.stages import Stages

ANSWER_TIMEOUT_S: Final = 240.0


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """One job, answered and paid. `job` is escrow and number."""

    job: str
    result: JobResult

    @property
    def answer(self) -> str:
        """The model's answer."""
        return self.result.text

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "job": self.job,
            "answer": self.answer,
            "usage": self.result.usage.to_wire(),
            "amount_nano": str(int(self.result.amount)),
            "arrival": self.result.arrival.value,
        }


class JobPlot:
    """Ask `prompt` as a job."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt

    async def play(self, stages: Stages, client: AsyncCocoon, model: str) -> JobOutcome:
        """Send the job, wait for answer and payment."""
        with stages.step("Sending the encrypted job") as stage:
            job = await client.jobs.create(
                model=model,
                request={"messages": [{"role": "user", "content": self._prompt}], "temperature": 0},
                max_output_tokens=MAX_OUTPUT,
            )
            name = f"{client.escrow.address.to_str()}/{job.id}"
            stage.done(f"Job {name} sent, encrypted to the worker")
        with stages.step("Waiting for the answer") as stage:
            result = await job.result(timeout=ANSWER_TIMEOUT_S)
            stage.done(f"Answer {result.arrival}, checked and paid: {result.amount}")
        await _settled(client, job)
        return JobOutcome(name, result)


async def _settled(client: AsyncCocoon, job: AsyncJob) -> None:
    """Wait until the reward has arrived, so that no money is under way when the books are closed."""
    status = await job.status()
    assert status.worker is not None
    stake = WorkerStake.at(client.chain, status.worker)

    async def is_paid() -> bool:
        return (await stake.state()).earned > 0

    await until(client.chain, is_paid, "the reward did not arrive")
