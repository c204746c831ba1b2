"""A worker's session endpoint alone, on a real socket, with what it needs and no chain: for tests and timing.

Real: book, ledgers, handshake, server, engine. Stand-in, and labelled so: `ChainSays`, which tells what a
chain would. The whole worker on real contracts is tested in tests/scenarios.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog
from aiohttp import web
from pytoniq_core import Address, begin_cell

from cocoon_sdk.clock import ManualClock
from cocoon_sdk.crypto.channel import WorkerName
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.protocol.session_wire import SESSION_PATH
from cocoon_sdk.protocol.signing import Domain, account_id
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.protocol.vouchers import SessionRef, voucher_key
from cocoon_sdk.types import Hash, Nano
from cocoon_worker.catalogue import OwnOffer
from cocoon_worker.config import ServingConfig, SessionsConfig
from cocoon_worker.engine.base import Engine
from cocoon_worker.engine.echo import ECHO_MODEL, EchoEngine
from cocoon_worker.journal import Journal
from cocoon_worker.metrics import Metrics
from cocoon_worker.sessions import SessionBook, SessionFacts, SessionKey, SessionState
from cocoon_worker.sessions.desk import SessionDesk
from cocoon_worker.sessions.endpoint import SessionEndpoint
from cocoon_worker.sessions.share import EngineShare
from cocoon_worker.survey import KnownEscrow
from tests.helpers.session_client import TestClient

NOW = 1_800_000_000
STAKE = Address((0, hashlib.sha256(b"stake").digest()))
ESCROW = Address((0, hashlib.sha256(b"escrow").digest()))
OPERATOR = SigningKey.from_seed(hashlib.sha256(b"operator").digest())
HOT_KEY = SigningKey.from_seed(hashlib.sha256(b"hot key").digest())
GLOBAL_ID = -3


def session_facts(session_id: int, **changes: Any) -> SessionFacts:
    """Return what a chain would say about an open session."""
    domain = Domain(GLOBAL_ID, ESCROW, 7)
    fields: dict[str, Any] = {
        "key": SessionKey(account_id(ESCROW), session_id),
        "ref": SessionRef(domain, session_id, STAKE),
        "escrow": KnownEscrow(1, 0, 7, False, False, True),
        "state": SessionState.OPEN,
        "voucher_key": voucher_key(HOT_KEY, ESCROW, session_id).verify_key,
        "deposit": Nano.ton(1),
        "expires": NOW + 100_000,
        "settle_at": NOW + 200_000,
        "close_delay": 100_000,
        "fee_bps": 100,
        "redeemed": Nano(0),
        "collateral": Nano(0),
        "lock": 0,
        "params": begin_cell().end_cell(),
        **changes,
    }
    return SessionFacts(**fields)


class ChainSays:
    """Stand-in for the survey: answers from a table, or raises what stands there."""

    def __init__(self) -> None:
        self.facts: dict[int, SessionFacts | Exception] = {}
        self.looks = 0

    async def look(self, escrow: int, session_id: int, *, max_age_s: int = 0) -> SessionFacts:
        self.looks += 1
        found = self.facts.get(session_id) or session_facts(session_id)
        if isinstance(found, Exception):
            raise found
        return found

    def forget(self, key: SessionKey) -> None:
        """Nothing is kept."""


def terms(**changes: Any) -> Terms:
    """Return terms of about 0.1 TON for a million tokens."""
    fields: dict[str, Any] = {
        "model_id": Hash(hashlib.sha256(b"model").digest()),
        "model_entry_hash": Hash(bytes(32)),
        "input_price": Nano.ton("0.1"),
        "cached_input_price": Nano.ton("0.05"),
        "output_price": Nano.ton("0.2"),
        "minimum_price": Nano.ton("0.01"),
        "sampling": SamplingClass.UNVERIFIED,
    }
    return Terms(**{**fields, **changes})


def offer(own: Terms, **changes: Any) -> OwnOffer:
    """Return an offer of the echo under those terms."""
    fields: dict[str, Any] = {
        "model": "echo-model",
        "engine_model": ECHO_MODEL,
        "terms": own,
        "terms_hash": own.terms_hash,
        "max_context": 4096,
        "max_output_tokens": 1024,
        "tokens_per_second": 10.0,
        "bytes_per_token": 2.0,
        "open_jobs": True,
    }
    return OwnOffer(**{**fields, **changes})


@dataclass
class Bench:
    """A running endpoint."""

    url: str
    endpoint: SessionEndpoint
    chain: ChainSays
    book: SessionBook
    engine: Engine
    context: Any
    share: EngineShare
    offers: tuple[OwnOffer, ...]
    clients: list[TestClient] = field(default_factory=list)

    def client(self, session_id: int = 1, **options: Any) -> TestClient:
        """Return a client of a session."""
        facts = self.chain.facts.get(session_id)
        facts = facts if isinstance(facts, SessionFacts) else session_facts(session_id)
        return TestClient(
            **{
                "url": self.url,
                "worker": WorkerName(GLOBAL_ID, bytes(STAKE.hash_part)),
                "operator": OPERATOR.verify_key,
                "ref": facts.ref,
                "signer": voucher_key(HOT_KEY, ESCROW, session_id),
                "terms": self.offers[0].terms,
                "deposit": facts.deposit,
                **options,
            }
        )

    def sample(self, name: str, **labels: str) -> float:
        """Return a metric."""
        return self.context.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def bench(
    folder: Path,
    engine: Engine | None = None,
    *,
    offers: tuple[OwnOffer, ...] | None = None,
    capacity: int = 64,
    book: SessionBook | None = None,
    **serving: Any,
) -> AsyncIterator[Bench]:
    """Run an endpoint on a free port."""
    clock = ManualClock(NOW)
    engine = engine or EchoEngine(clock=clock)
    await engine.start()
    journal = None if book else Journal(folder / "journal.sqlite", "test")
    chain = ChainSays()
    kept = book or SessionBook(journal.database)  # type: ignore[union-attr]
    offers = offers or (offer(terms()),)
    config = SessionsConfig(serving=ServingConfig(**serving))
    context: Any = SimpleNamespace(
        config=SimpleNamespace(sessions=config),
        engine=engine,
        operator=OPERATOR,
        global_id=GLOBAL_ID,
        stake=SimpleNamespace(address=STAKE),
        offers=offers,
        metrics=Metrics(),
        log=structlog.get_logger("test"),
        time=SimpleNamespace(maybe=clock.now),
        draining=False,
        sessions=SessionDesk(kept, chain),  # type: ignore[arg-type]
    )
    share = EngineShare(capacity, config.serving.max_waiting)
    endpoint = SessionEndpoint(context, share)
    app = web.Application()
    app.router.add_get(SESSION_PATH, endpoint.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield Bench(url, endpoint, chain, kept, engine, context, share, offers)
    finally:
        await endpoint.stop()
        await runner.cleanup()
        await engine.stop()
        if journal is not None:
            journal.close()
