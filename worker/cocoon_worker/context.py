"""What all parts of one running worker share.

Owns nothing but the bundle, and the alarms: conditions that a person has to end, each with a name. The
service builds it; parts take it whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.clock import Clock
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto import SigningKey
from cocoon_worker.catalogue import OwnOffer
from cocoon_worker.chaintime import ChainTime
from cocoon_worker.config import WorkerConfig
from cocoon_worker.engine.base import Engine
from cocoon_worker.journal import Journal
from cocoon_worker.metrics import Metrics
from cocoon_worker.prekeys import PrekeyRing
from cocoon_worker.sessions.desk import SessionDesk
from cocoon_worker.survey import Survey


@dataclass(slots=True, kw_only=True)
class Context:
    """One worker's parts. `public_url` is what is announced, None without an endpoint."""

    config: WorkerConfig
    chain: Chain
    engine: Engine
    clock: Clock
    time: ChainTime
    network: Network
    global_id: int
    stake: WorkerStake
    operator: SigningKey = field(repr=False)
    prekeys: PrekeyRing = field(repr=False)
    offers: Sequence[OwnOffer]
    journal: Journal
    survey: Survey
    sessions: SessionDesk
    metrics: Metrics
    log: FilteringBoundLogger
    public_url: str | None = None
    draining: bool = False
    """Whether the worker is about to stop: nothing new is taken, results go on chain at once."""
    alarms: dict[str, str] = field(default_factory=dict)

    def alarm(self, name: str, on: bool, why: str = "", **details: Any) -> None:
        """Set or end an alarm; logged only when it changes."""
        if on and name not in self.alarms:
            self.log.error("alarm", name=name, why=why, **details)
        elif not on and name in self.alarms:
            self.log.info("alarm over", name=name)
        if on:
            self.alarms[name] = why
        else:
            self.alarms.pop(name, None)
        self.metrics.alarm.labels(name).set(int(on))
