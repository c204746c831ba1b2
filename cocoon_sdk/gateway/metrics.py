"""What a gateway counts, in a registry of its own, so that several fit into one process.

Owns names, help texts and the bounds of labels. Must not decide anything. Labels are models that workers
serve, endpoints, statuses and error codes of ours: never text of a client's choosing.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cocoon_sdk.client.auditing import AuditNumbers
from cocoon_sdk.client.sessions import Bill
from cocoon_sdk.gateway.treasury import TreasuryView

OTHER: Final = "other"
MAX_MODELS: Final = 256
"""Models with labels of their own."""
_TON: Final = 1e9
_AUDITS: Final = (
    *("seen", "chosen", "dropped", "waiting"),
    *("passed", "suspect", "failed", "unchecked", "disputed", "unreceipted"),
)
_FAST: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class _ModelCounters:
    """The counters of one model, looked up once."""

    __slots__ = ("cached", "cost", "duration", "read", "ttft", "written")

    def __init__(self, metrics: Metrics, model: str) -> None:
        self.read = metrics.tokens.labels(model, "input")
        self.cached = metrics.tokens.labels(model, "cached_input")
        self.written = metrics.tokens.labels(model, "output")
        self.cost = metrics.cost.labels(model)
        self.ttft = metrics.ttft.labels(model)
        self.duration = metrics.duration.labels(model)


class Metrics:
    """Counters, gauges and histograms of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "cocoon_gateway_requests", "Requests by answer", ["endpoint", "status"], registry=registry
        )
        self.errors = Counter(
            "cocoon_gateway_errors", "Failed requests by reason", ["code"], registry=registry
        )
        self.tokens = Counter("cocoon_gateway_tokens", "Tokens served", ["model", "side"], registry=registry)
        self.cost = Counter("cocoon_gateway_cost_ton", "Paid to workers (TON)", ["model"], registry=registry)
        self.ttft = Histogram(
            "cocoon_gateway_ttft_seconds",
            "From the request to the first piece of a streamed answer",
            ["model"],
            buckets=_FAST,
            registry=registry,
        )
        self.duration = Histogram(
            "cocoon_gateway_request_seconds", "Whole answers", ["model"], buckets=_LONG, registry=registry
        )
        self.disconnects = Counter(
            "cocoon_gateway_disconnects", "Clients that left before the end", registry=registry
        )
        self.in_flight = Gauge("cocoon_gateway_in_flight", "Requests under way", registry=registry)
        self.keys = Gauge("cocoon_gateway_keys", "Valid API keys", registry=registry)
        self.sessions = Gauge("cocoon_gateway_sessions", "Sessions by state", ["state"], registry=registry)
        self.escrow = Gauge(
            "cocoon_gateway_escrow_free_ton", "Free balance of the escrow (TON)", registry=registry
        )
        self.spend = Gauge(
            "cocoon_gateway_spend_ton",
            "Signed for workers: ever, today, and what open sessions still allow (TON)",
            ["period"],
            registry=registry,
        )
        self.audits = Gauge(
            "cocoon_gateway_audits", "Answers by what their audit came to", ["outcome"], registry=registry
        )
        self.audit_cost = Gauge(
            "cocoon_gateway_audit_cost_ton", "Paid to other workers for checks (TON)", registry=registry
        )
        self._models: dict[str, _ModelCounters] = {}

    def served(self, model: str, bill: Bill, seconds: float) -> None:
        """Count a request that a worker took part in; `model` is one that is served."""
        counters = self.model(model)
        usage = bill.usage
        counters.read.inc(usage.input_tokens)
        counters.cached.inc(usage.cached_input_tokens)
        counters.written.inc(usage.output_tokens)
        counters.cost.inc(int(bill.cost) / _TON)  # a float: good to look at, never computed with
        counters.duration.observe(seconds)

    def model(self, name: str) -> _ModelCounters:
        """Return the counters of a model; those of `OTHER` beyond the first `MAX_MODELS`."""
        known = self._models.get(name)
        if known is None:
            if len(self._models) >= MAX_MODELS:
                name = OTHER
            known = self._models.setdefault(name, _ModelCounters(self, name))
        return known

    def show(self, view: TreasuryView) -> None:
        """Set the gauges of escrow, sessions and spending."""
        for state, count in view.sessions.items():
            self.sessions.labels(state).set(count)
        self.escrow.set(int(view.free) / _TON)
        self.spend.labels("ever").set(int(view.exposure.signed) / _TON)
        self.spend.labels("today").set(int(view.exposure.signed_today) / _TON)
        self.spend.labels("open").set(int(view.exposure.outstanding) / _TON)

    def audited(self, numbers: AuditNumbers) -> None:
        """Set the gauges of audits."""
        for name in _AUDITS:
            self.audits.labels(name).set(getattr(numbers, name))
        self.audit_cost.set(int(numbers.cost) / _TON)

    def render(self) -> bytes:
        """Return the text exposition."""
        return generate_latest(self.registry)
