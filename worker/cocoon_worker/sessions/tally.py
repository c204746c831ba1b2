"""What serving sessions counts, and a bound on nuisances.

Owns names and help texts of these metrics, in the worker's registry, and the token bucket. Must not decide.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_TTFT_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class SessionTally:
    """Counters of one worker's served sessions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "cocoon_session_requests", "Requests in sessions, by outcome", ["outcome"], registry=registry
        )
        self.tokens = Counter(
            "cocoon_session_tokens", "Tokens of requests in sessions", ["side"], registry=registry
        )
        self.vouchers = Counter(
            "cocoon_session_vouchers", "Vouchers that came, by outcome", ["outcome"], registry=registry
        )
        self.waits = Counter(
            "cocoon_session_payment_waits", "Times an answer waited for a voucher", registry=registry
        )
        self.refused = Counter(
            "cocoon_session_refused_connections", "Connections refused", ["why"], registry=registry
        )
        self.ttft = Histogram(
            "cocoon_session_ttft_seconds",
            "From a request to the first piece of its answer",
            buckets=_TTFT_S,
            registry=registry,
        )
        self._registry = registry
        self._sides = tuple(self.tokens.labels(side) for side in ("input", "cached_input", "output"))
        self._outcomes: dict[str, Counter] = {}

    def ended(self, outcome: str, counts: tuple[int, int, int]) -> None:
        """Count a request that has ended, and its tokens: input, cached input, output."""
        counter = self._outcomes.get(outcome)
        if counter is None:
            # Outcomes are few; finding a label each time costs more than counting.
            counter = self._outcomes[outcome] = self.requests.labels(outcome)
        counter.inc()
        for side, tokens in zip(self._sides, counts, strict=True):
            side.inc(tokens)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when somebody looks."""
        Gauge(name, text, registry=self._registry).set_function(read)


class Bucket:
    """Allows `burst` at once and `rate` a second in the long run."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._left, self._at = rate, burst, burst, now

    def take(self, now: float) -> bool:
        """Use one; False when none is left."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
