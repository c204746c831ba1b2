"""Whole arbiters on a sandbox: real contracts, real HTTP between them, a scripted judge.

The judge is a double, and labelled so: what it says is what the test put into it. Everything else is real.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cocoon_sdk.arbiter.config import ArbiterConfig
from cocoon_sdk.arbiter.errors import JudgingError
from cocoon_sdk.arbiter.evidence import Case
from cocoon_sdk.arbiter.hearing import Hearing
from cocoon_sdk.arbiter.judging import Judge, Judgement
from cocoon_sdk.arbiter.receipts import SessionCase
from cocoon_sdk.arbiter.service import ArbiterService
from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.arbiters import Arbiters
from cocoon_sdk.client.wallets import SignerWallet
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.contracts.disputes import Dispute, read_dispute
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.crypto.keys import BoxKey
from cocoon_sdk.data import InlineData, encode_data
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.canonical import canonical_bytes
from cocoon_sdk.protocol.disputes import Ground, Item, ItemKind, payload_item
from cocoon_sdk.protocol.envelope import (
    JobRef,
    ResultPlain,
    SealedResult,
    read_payload_header,
    result_hash,
    seal_result,
    seal_result_text,
)
from cocoon_sdk.protocol.pricing import Usage
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.storage import Schema, SqliteDatabase, Statements, StorageFullError
from cocoon_sdk.storage.base import Row, Value
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.commitment import Choice, Commitment
from tests.helpers.audit import BURN
from tests.helpers.sdk import USAGE, ScriptedWorker, Town, completion
from tests.helpers.suite import Suite, Worker, hash_of

FORWARD_FEE = 400_000
"""Of an empty message, at the sandbox's prices, in nanoTON."""


@dataclass
class ScriptedJudge:
    """A double: says what it was told to, and keeps what it was asked."""

    says: Ground | None = Ground.HONEST
    cases: list[Case] = field(default_factory=list)
    sessions: list[SessionCase] = field(default_factory=list)

    async def judge(self, case: Case) -> Judgement:
        self.cases.append(case)
        return self._said()

    async def judge_session(self, case: SessionCase) -> Judgement:
        self.sessions.append(case)
        return self._said()

    def _said(self) -> Judgement:
        if self.says is None:
            raise JudgingError("this judge is told nothing")
        return Judgement(self.says)

    async def close(self) -> None:
        pass


class Disk:
    """A database whose disk may be full: then nothing is written, as SQLite has it."""

    def __init__(self, path: Path) -> None:
        self._inner = SqliteDatabase(path)
        self.is_full = False

    @property
    def where(self) -> str:
        return self._inner.where

    async def execute(self, sql: str, *values: Value) -> int:
        self._check()
        return await self._inner.execute(sql, *values)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        self._check()
        await self._inner.execute_many(sql, rows)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return await self._inner.fetch(sql, *values)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Statements]:
        self._check()
        async with self._inner.transaction() as within:
            yield within

    async def migrate(self, schema: Schema) -> None:
        await self._inner.migrate(schema)

    async def close(self) -> None:
        await self._inner.close()

    def _check(self) -> None:
        if self.is_full:
            raise StorageFullError("cannot write", why="the disk is full")


@dataclass
class Court:
    """The arbiters of a network by index; those that were not started are offline."""

    blockchain: Blockchain
    adapter: Chain
    suite: Suite
    root: Path
    running: dict[int, ArbiterService] = field(default_factory=dict)
    judges: dict[int, ScriptedJudge] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    ports: dict[int, int] = field(default_factory=dict)
    databases: dict[int, Disk] = field(default_factory=dict)
    _lives: dict[int, contextlib.AsyncExitStack] = field(default_factory=dict)
    _peers: list[Arbiters] = field(default_factory=list)

    @property
    def clock(self) -> ManualClock:
        return ManualClock(self.blockchain.now)

    def wallet(self, index: int) -> SignerWallet:
        return SignerWallet(self.adapter, self.blockchain.actor(f"courier {index}", Nano.ton(10)))

    def arbiters(self) -> Arbiters:
        """Return what a party or an arbiter knows: the keys and URLs of those that run, now and later."""
        known = Arbiters(self.urls)
        self._peers.append(known)
        return known

    async def start(
        self,
        index: int,
        *,
        says: Ground | None = Ground.HONEST,
        wallet: bool = False,
        real: Judge | None = None,
        **config: Any,
    ) -> ArbiterService:
        """Start an arbiter with its own store; the same index goes on where it was left.

        The judge is a double that `says` something, unless a `real` one is given.
        """
        judge = ScriptedJudge(says)
        fields = {
            "port": self.ports.get(index, 0),
            "public_url": "http://arbiter.example",
            "look_s": 1,
            "courier_s": 0,
        }
        peers = self.arbiters()
        self.databases[index] = Disk(self.root / f"arbiter-{index}.sqlite")
        service = ArbiterService(
            ArbiterConfig(**{**fields, **config}),
            self.adapter,
            self.suite.network,
            self.suite.arbiters[index],
            BoxKey(hash_of(f"evidence key of arbiter {index}")),
            ArbiterStore(self.databases[index]),
            real or judge,
            peers,
            wallet=self.wallet(index) if wallet else None,
            clock=self.clock,
        )
        life = contextlib.AsyncExitStack()
        await life.enter_async_context(service)
        self.ports[index] = service.port
        self._lives[index], self.running[index], self.judges[index] = life, service, judge
        key = self.suite.arbiters[index].verify_key
        self.urls[key.hex] = f"http://127.0.0.1:{service.port}"
        for each in self._peers:
            each.urls[key] = self.urls[key.hex]
        return service

    async def stop(self, index: int) -> None:
        """End an arbiter; it stays in the lists of the others."""
        await self._lives.pop(index).aclose()
        del self.running[index]

    async def close(self) -> None:
        for index in list(self.running):
            await self.stop(index)
        for each in self._peers:
            await each.close()

    async def rounds(self, count: int = 3) -> None:
        """Let every running arbiter take some rounds."""
        for _ in range(count):
            for service in list(self.running.values()):
                await service.settle()

    def hearing(self, index: int, dispute: Dispute) -> Hearing:
        found = self.running[index].hearing(dispute.digest)
        assert found is not None, "the dispute is not followed"
        return found


async def dispute_of(client: AsyncCocoon, job_id: int) -> Dispute:
    """Read a dispute from the chain."""
    return await read_dispute(client.chain, Escrow.at(client.chain, client.escrow.address), job_id)


def commitment() -> Commitment:
    """Return a commitment in form; what stands in it is judged by the scripted judge only."""
    return Commitment(
        manifest=None,
        engine="vllm 0.32.0",
        platform="cpu",
        dtype="bfloat16",
        prompt_tokens=12,
        prompt_hash=hash_of("prompt"),  # type: ignore[arg-type]
        max_tokens=64,
        sampling={},
        seed=bytes(16),
        choices=(Choice(tokens=(1, 2, 3, 4, 5), logprobs=(0, 10, 20, 30, 40), finish="stop"),),
    )


def verifiable(worker: ScriptedWorker) -> None:
    """Let a worker announce that it commits to its answers."""
    worker.announce(terms=worker.terms(sampling=SamplingClass.REPLAYABLE))


@dataclass
class Submission:
    """What a scripted worker submitted for a job, and how it delivers it."""

    worker: ScriptedWorker
    client: AsyncCocoon
    job_id: int
    wire: bytes
    sealed: SealedResult
    payload_text: bytes

    @property
    def items(self) -> list[Item]:
        """The worker's evidence."""
        return [payload_item(self.wire, self.payload_text), Item(ItemKind.RESULT, self.sealed.text)]


async def submit(
    worker: ScriptedWorker,
    client: AsyncCocoon,
    job_id: int,
    *,
    proof: dict[str, Any] | None = None,
    usage: Usage = USAGE,
    amount: Nano | None = None,
    job: JobRef | None = None,
    text: bytes | None = None,
    delivered: bytes | None = None,
    without_data: bool = False,
) -> Submission:
    """Submit a verifiable result inline; the keyword arguments make wrong ones.

    `text` is committed to in place of a result, `delivered` stands on chain in place of the sealed result.
    """
    plain, wire = await worker.read(client, job_id)
    key = read_payload_header(wire).client_key
    if text is None:
        result = ResultPlain(
            job=job or JobRef.of(client.escrow.address, job_id),
            response=completion("Paris."),
            usage=usage,
            proof=commitment().to_json() if proof is None else proof or None,
        )
        sealed = seal_result(result, key)
    else:
        sealed = SealedResult(seal_result_text(text, key), text, result_hash(text))
    data = None if without_data else encode_data(InlineData(delivered or sealed.data))
    due = worker.price(usage) if amount is None else amount
    action = signing.submit(job_id, due, worker.target(client, job_id), sealed.result_hash, data)
    worker.account.act(action, max_spend=worker.account.work_spend())
    return Submission(worker, client, job_id, wire, sealed, canonical_bytes(plain.to_wire()))


@dataclass(frozen=True)
class Purse:
    """What everybody holds at one moment, in nanoTON."""

    stake: int
    earned: int
    fee_due: int
    locked: int
    burned: int
    treasury: int
    escrow: int
    reserved: int
    payouts: tuple[int, ...]


def purse(town: Town, client: AsyncCocoon, worker: ScriptedWorker | Worker) -> Purse:
    """Look at all accounts that a verdict touches; the sandbox's own ledger must balance too."""
    Ledger.of(town.chain).assert_balanced()
    account = worker.account if isinstance(worker, ScriptedWorker) else worker
    stake, escrow = account.get_state(), town.driver(client).get_state()
    return Purse(
        stake=stake.stake,
        earned=stake.earned,
        fee_due=stake.fee_due,
        locked=stake.locked,
        burned=int(town.chain.balance(BURN)),
        treasury=int(town.chain.balance(town.suite.network.registry)),
        escrow=int(town.chain.balance(client.escrow.address)),
        reserved=escrow.reserved,
        payouts=tuple(int(actor.balance) for actor in town.suite.payouts),
    )


def paid_arbiters(town: Town, before: Purse, after: Purse, *, share: int) -> list[int]:
    """Return which arbiters got a share: all the same, less the forward fee on the way and the gas there."""
    pairs = enumerate(zip(before.payouts, after.payouts, strict=True))
    paid = [index for index, (old, new) in pairs if old != new]
    for index in paid:
        (arrival, *_) = town.chain.transactions(town.suite.payouts[index].address, limit=1)
        assert arrival.in_msg.value == share - FORWARD_FEE
        assert after.payouts[index] - before.payouts[index] == arrival.in_msg.value - arrival.total_fees
    return paid
