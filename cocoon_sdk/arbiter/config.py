"""What an arbiter is told: bounds, times, where it listens.

Owns names, bounds and defaults. Must not read files or the environment (`cocoon_sdk.cli.arbiter` does) or
hold a secret: keys are given as keys. Times in seconds.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cocoon_sdk.protocol.disputes import MAX_SEALED_BYTES


class ArbiterConfig(BaseModel):
    """How one arbiter works."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=())

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8430
    """0 takes a free port."""
    public_url: Annotated[str, Field(min_length=8, max_length=512, pattern=r"\Ahttps?://[!-~]+\z")]
    """How parties and other arbiters reach it."""
    max_disputes: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Disputes followed at a time; more wait until one ends."""
    max_judging: Annotated[int, Field(ge=1, le=64)] = 2
    """Cases that are re-scored at a time."""
    max_sealed_bytes: Annotated[int, Field(ge=1 << 16, le=MAX_SEALED_BYTES)] = MAX_SEALED_BYTES
    """Largest evidence in one delivery, as it travels."""
    max_deliveries: Annotated[int, Field(ge=1, le=256)] = 16
    """Deliveries of evidence that are read at a time, of one address at most two."""
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    """Requests of one address; deliveries and announcements count for ten."""
    retry_s: Annotated[int, Field(ge=1, le=86_400)] = 60
    """Pause before content that could not be judged is tried again."""
    look_s: Annotated[int, Field(ge=1, le=86_400)] = 300
    """How often the chain is asked whether a dispute goes on, when nothing else shows."""
    gossip_s: Annotated[int, Field(ge=1, le=86_400)] = 60
    """How often other arbiters are asked what they know; what is new here they are told at once."""
    courier_s: Annotated[int, Field(ge=0, le=86_400)] = 120
    """Arbiters hand a verdict in one after the other, so long apart, until one got through."""
    kept_s: Annotated[int, Field(ge=0, le=366 * 86_400)] = 30 * 86_400
    """How long votes of disputes that ended are kept; evidence is wiped when they end."""
    poll_s: Annotated[float, Field(gt=0, le=60)] = 5.0
