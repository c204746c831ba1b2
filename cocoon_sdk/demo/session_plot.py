"""The demo's second plot: many streamed requests over one session, settled by one redemption."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.sessions.values import NOTHING_PAID, NOTHING_USED, Bill
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.demo.staffing import until
from cocoon_sdk.demo.stages import Stage, Stages
from cocoon_sdk.errors import NoWorkerError
from cocoon_sdk.protocol.pricing import Usage
from cocoon_sdk.types import Nano

REQUESTS: Final = 50
AT_ONCE: Final = 8
MAX_TOKENS: Final = 32
"""Of each answer: the demo is about paying, not about reading."""


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """All answers came and were paid. Amounts in nanoTON; `session` is escrow and number.

    `receipts` counts the answers whose receipt by the worker was checked.
    """

    session: str
    answer: str
    requests: int
    receipts: int
    usage: Usage
    cost: Nano
    signed: Nano
    redeemed: Nano

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "session": self.session,
            "answer": self.answer,
            "requests": self.requests,
            "receipts": self.receipts,
            "usage": self.usage.to_wire(),
            "cost_nano": str(int(self.cost)),
            "signed_nano": str(int(self.signed)),
            "redeemed_nano": str(int(self.redeemed)),
        }


@dataclass(slots=True)
class _Tally:
    """What the requests came to so far."""

    done: int = 0
    pieces: int = 0
    receipts: int = 0
    cost: Nano = NOTHING_PAID
    usage: Usage = NOTHING_USED

    def add(self, bill: Bill) -> None:
        self.done += 1
        self.cost += bill.cost
        self.usage += bill.usage
        self.receipts += sum(attempt.receipt is not None for attempt in bill.attempts)


class SessionPlot:
    """Ask `prompt`, then again and again, streamed; end the session and see what the worker redeems."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt

    async def play(self, stages: Stages, client: AsyncCocoon, model: str) -> SessionOutcome:
        """Stream all requests, close the session, wait for the redemption."""
        tally = _Tally()
        with stages.step("Opening a session and streaming the first answer") as stage:
            first = await self._stream(client, model, 0, stage, tally)
            stage.done("First answer streamed, encrypted to the worker, without waiting for any block")
        with stages.step(f"Streaming {REQUESTS} requests, {AT_ONCE} at a time") as stage:
            free = asyncio.Semaphore(AT_ONCE)

            async def one_more(number: int) -> None:
                async with free:
                    await self._stream(client, model, number, stage, tally)

            async with asyncio.TaskGroup() as requests:
                for number in range(1, REQUESTS):
                    requests.create_task(one_more(number))
            stage.done(f"{tally.done} answers in {tally.pieces} pieces; no transaction was needed for any")
        with stages.step("Ending the session; the worker redeems") as stage:
            session_id, signed, redeemed = await self._end(client)
            stage.done(f"One redemption paid for all of it: {redeemed}")
        name = f"{client.escrow.address.to_str()}/{session_id}"
        return SessionOutcome(
            name, first, tally.done, tally.receipts, tally.usage, tally.cost, signed, redeemed
        )

    async def _stream(self, client: AsyncCocoon, model: str, number: int, stage: Stage, tally: _Tally) -> str:
        """Stream one answer and return its text."""
        asked = self._prompt if not number else f"{self._prompt} ({number})"
        stream = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": asked}],
            temperature=0,
            max_tokens=MAX_TOKENS,
            stream=True,
        )
        text = ""
        async for chunk in stream:
            tally.pieces += 1
            for choice in chunk.choices:
                text += choice.delta.content or ""
        tally.add(stream.bill)
        stage.update(f"{tally.done} of {REQUESTS} answers, {tally.pieces} pieces")
        return text

    async def _end(self, client: AsyncCocoon) -> tuple[int, Nano, Nano]:
        """Close the session; the worker, who sees that on chain, redeems and ends it at once."""
        sessions = await client.sessions.list()
        if len(sessions) != 1:
            raise NoWorkerError("the requests went over more than one session")
        (session,) = sessions
        await client.sessions.close_session(session.session_id)
        stake = WorkerStake.at(client.chain, session.worker)
        escrow = Escrow.at(client.chain, client.escrow.address)

        async def is_redeemed() -> bool:
            return await escrow.session(session.session_id) is None and (await stake.state()).earned > 0

        await until(client.chain, is_redeemed, "the worker did not redeem")
        view = await stake.state()
        return session.session_id, session.signed, Nano(view.earned + view.fee_due)
