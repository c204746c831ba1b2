"""What the worker counts, in a registry of its own, so that several workers fit into one process.

Owns names and help texts. Must not decide anything.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from cocoon_worker.journal import Journal
from cocoon_worker.sessions import SessionBook, SessionState
from cocoon_worker.states import JobState

_TON = 1e9


class Metrics:
    """Counters and gauges of one worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.refused = Counter("cocoon_refused_jobs", "Jobs declined", ["reason"], registry=self.registry)
        self.dropped = Counter("cocoon_dropped_notices", "Notices over max_queue", registry=self.registry)
        self.failures = Counter("cocoon_failures", "Failed steps", ["step"], registry=self.registry)
        self.sends = Counter("cocoon_externals_sent", "External messages sent", registry=self.registry)
        self.foreign = Counter(
            "cocoon_foreign_externals", "Externals of our key that we did not sign", registry=self.registry
        )
        self.handovers = Counter("cocoon_handovers", "Signed results fetched", registry=self.registry)
        self.tokens = Counter("cocoon_tokens", "Tokens of served requests", ["side"], registry=self.registry)
        self.jobs = Gauge("cocoon_jobs", "Jobs in the journal", ["state"], registry=self.registry)
        self.locked = Gauge("cocoon_open_locks", "Jobs whose collateral is locked", registry=self.registry)
        self.paid = Gauge("cocoon_paid_ton", "Rewards before fees (TON)", registry=self.registry)
        self.slashed = Gauge("cocoon_slashed_ton", "Collateral lost (TON)", registry=self.registry)
        self.gas = Gauge("cocoon_spare_gas_ton", "Spare gas of the stake (TON)", registry=self.registry)
        self.chain_time = Gauge("cocoon_chain_time", "Time of the newest block", registry=self.registry)
        self.sessions = Gauge("cocoon_sessions", "Sessions in the journal", ["state"], registry=self.registry)
        self.session_money = Gauge(
            "cocoon_session_ton", "Money of sessions (TON)", ["what"], registry=self.registry
        )
        self.session_margin = Gauge(
            "cocoon_session_margin_seconds", "Least time left to redeem a session", registry=self.registry
        )
        self.alarm = Gauge("cocoon_alarm", "1 while an alarm is on", ["name"], registry=self.registry)

    def render(self, journal: Journal) -> bytes:
        """Return the text exposition, with the journal's numbers as of now."""
        counts = journal.count_jobs()
        for state in JobState:
            self.jobs.labels(state.value).set(counts.get(state, 0))
        paid, _, slashed = journal.totals()
        # Gauges are floats: good enough to look at, never computed with.
        self.paid.set(int(paid) / _TON)
        self.slashed.set(int(slashed) / _TON)
        self.locked.set(len(journal.locked_jobs()))
        book = SessionBook(journal.database)
        sessions = book.count()
        for kind in SessionState:
            self.sessions.labels(kind.value).set(sessions.get(kind, 0))
        for what, amount in book.totals().items():
            self.session_money.labels(what).set(int(amount) / _TON)
        return generate_latest(self.registry)
