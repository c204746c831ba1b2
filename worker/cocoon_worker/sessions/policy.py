"""When a session's money is fetched, and whether the session ends with it.

Owns the rules, as pure functions of one entry, the time and the settings. Must not read anything. A
redemption costs gas, so it has to be worth one; what is not worth it stays due and grows by what comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cocoon_worker.config import SessionsConfig
from cocoon_worker.sessions.records import SessionEntry, SessionState


class Reason(StrEnum):
    """Why a voucher is redeemed now."""

    CLOSING = "closing"
    """The client closes the session: there is a last moment."""
    EXPIRED = "expired"
    EXPIRING = "expiring"
    THRESHOLD = "threshold"
    PERIOD = "period"
    REQUESTED = "requested"
    """A person wants it."""
    UNLOCK = "unlock"
    """Nothing is due, but the session is over and still locks our collateral."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Redeem now. `end`: the session ends with it. `urgent`: before anything else."""

    reason: Reason
    end: bool
    urgent: bool


def is_over(entry: SessionEntry, now: int) -> bool:
    """Tell whether nothing new is served in a session at `now`."""
    return entry.state is not SessionState.OPEN or now >= entry.expires


def margin_s(entry: SessionEntry, now: int) -> int:
    """Return how many seconds are left to redeem, whatever the client does from now on."""
    left = entry.settle_at - now
    return left if is_over(entry, now) else min(left, entry.close_delay)


def is_thin(entry: SessionEntry, now: int, config: SessionsConfig) -> bool:
    """Tell whether money worth fetching is about to be lost: a person should look."""
    if entry.state is SessionState.ENDED or entry.unredeemed < config.least_redeem:
        return False
    return margin_s(entry, now) < min(config.alarm_margin_s, entry.close_delay // 2)


def judge(
    entry: SessionEntry, now: int, config: SessionsConfig, *, connected: bool, requested: bool
) -> Verdict | None:
    """Return what to do about a session at `now`, or None.

    `connected`: its client is being served, so more may be signed at any moment.
    """
    if entry.state is SessionState.ENDED or entry.asked or now < entry.not_before:
        return None
    over, thin = is_over(entry, now), is_thin(entry, now, config)
    end = over and config.end_with_redeem and not connected
    due = entry.unredeemed
    if requested and due:
        return Verdict(Reason.REQUESTED, end, thin)
    if due < config.least_redeem:
        # The client's settlement frees the collateral for nothing; it had its time.
        late = over and not connected and now >= entry.settle_at + config.look_s
        return Verdict(Reason.UNLOCK, True, False) if late and entry.lock else None
    if over:
        # What is being answered just now is still paid for: one redemption later takes all of it.
        if connected and not thin:
            return None
        closing = entry.state is SessionState.CLOSING
        return Verdict(Reason.CLOSING if closing else Reason.EXPIRED, end, thin)
    last_call = entry.expires - config.before_expiry_s
    if entry.redeemed_at < last_call <= now:
        return Verdict(Reason.EXPIRING, False, False)
    if due >= config.redeem_threshold:
        return Verdict(Reason.THRESHOLD, False, False)
    if now >= entry.redeemed_at + config.redeem_period_s:
        return Verdict(Reason.PERIOD, False, False)
    return None
