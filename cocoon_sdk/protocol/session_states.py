"""The life of a session as types: states, actions, transitions, refusals (docs/protocol.md, section 4).

Owns the table that clients, workers and documents go by, and tells sessions from jobs among an escrow's
entries; tests/contracts/test_session_table.py walks the table against the compiled contracts. Must not know
how actions are signed or sent. `python -m cocoon_sdk.protocol.session_states` prints it as Markdown.

Time counts by the session's expiry while it is open, by the end of the worker's delay while it is closing, by
the end of the arbiters' time while it is disputed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from pytoniq_core import Cell

from cocoon_sdk.protocol.abi_dict import parse
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.job_states import Answer, Refusal
from cocoon_sdk.protocol.messages import Job, Params, ParamsRules, Session
from cocoon_sdk.types import Hash


class SessionStatus(IntEnum):
    """What the field `status` of an escrow's entry says; jobs have smaller numbers (`EntryStatus`)."""

    OPEN = 8
    CLOSING = 9
    DISPUTED = 10


def entries_of(entries: Cell | None) -> dict[int, Job | Session]:
    """Read an escrow's entries by id, in order. Raises `MalformedError`."""
    return {} if entries is None else {number: _entry(Job.read(leaf)) for number, leaf in parse(entries, 32)}


def _entry(entry: Job) -> Job | Session:
    # Both have the same number of bits and references, and begin with the status.
    return entry if entry.status < SessionStatus.OPEN else Session.from_cell(entry.to_cell())


class SessionState(StrEnum):
    """Where a session stands. The last two have no entry any more: history tells which one it was."""

    NONE = "none"
    OPEN = "open"
    GUARDED = "open, guarded"
    """The worker has locked collateral for it."""
    CLOSING = "closing"
    """The client has ended it, or a verdict fell; the worker still may redeem."""
    CLOSING_GUARDED = "closing, guarded"
    """Client or worker has ended it; the worker still may redeem, and the client dispute."""
    DISPUTED = "disputed"
    """Arbiters judge the collateral; the worker still may redeem."""
    SETTLED = "settled"
    CLOSED = "closed by the worker"

    @property
    def has_ended(self) -> bool:
        """Whether nothing can happen to the session any more."""
        return self in _ENDED

    @property
    def is_guarded(self) -> bool:
        """Whether the worker's collateral is locked for it."""
        return self in (SessionState.GUARDED, SessionState.CLOSING_GUARDED, SessionState.DISPUTED)

    @property
    def is_open(self) -> bool:
        """Whether vouchers may still be signed and taken, as far as the chain is concerned."""
        return self in (SessionState.OPEN, SessionState.GUARDED)


_ENDED: Final = frozenset({SessionState.SETTLED, SessionState.CLOSED})


class SessionTiming(StrEnum):
    """Where the session's time stands."""

    IN_TIME = "in time"
    """Open and not expired; closing, and the worker's delay is running; disputed, and the arbiters' is."""
    EXPIRED = "expired"
    """Open and expired, or disputed and not judged in time, and the worker's delay is running."""
    OVER = "over"
    """The worker's delay has passed: it can be settled."""


class SessionActor(StrEnum):
    """Who acts."""

    CLIENT = "client's hot key"
    OWNER = "client's owner"
    WORKER = "worker"
    """The stake that the session names."""
    STRANGER = "another account"
    ANYONE = "anyone"


class SessionAction(StrEnum):
    """What is asked of the escrow.

    Vouchers are good ones: a forged one is refused with `BAD_VOUCHER` wherever it would pay.
    """

    OPEN = "OpenSession"
    TOP_UP = "TopUpSession"
    CLOSE = "CloseSession"
    OWNER_CLOSE = "CloseSession by the owner"
    SETTLE = "SettleSession"
    ANYONE_SETTLE = "SettleSession by anyone"
    REDEEM = "Redeem, more is due"
    REDEEM_NOTHING = "Redeem, nothing is due"
    REDEEM_CLOSE = "Redeem and close, more is due"
    REDEEM_CLOSE_NOTHING = "Redeem and close, nothing is due"
    FOREIGN_CLOSE = "Redeem and close by another account, more is due"
    FOREIGN_CLOSE_NOTHING = "Redeem and close by another account, nothing is due"
    DISPUTE = "DisputeSession"
    OWNER_DISPUTE = "DisputeSession by the owner"
    RESOLVE = "Resolve, not slashed"
    RESOLVE_SLASH = "Resolve with slash"
    ACCEPT = "AcceptSession"
    ACCEPT_FOREIGN = "AcceptSession by another account"

    @property
    def actor(self) -> SessionActor:
        """Who does this."""
        return _ACTORS.get(self, SessionActor.ANYONE)


_ACTORS: Final = {
    SessionAction.OPEN: SessionActor.CLIENT,
    SessionAction.TOP_UP: SessionActor.CLIENT,
    SessionAction.CLOSE: SessionActor.CLIENT,
    SessionAction.OWNER_CLOSE: SessionActor.OWNER,
    SessionAction.SETTLE: SessionActor.CLIENT,
    SessionAction.DISPUTE: SessionActor.CLIENT,
    SessionAction.OWNER_DISPUTE: SessionActor.OWNER,
    SessionAction.REDEEM_CLOSE: SessionActor.WORKER,
    SessionAction.REDEEM_CLOSE_NOTHING: SessionActor.WORKER,
    SessionAction.FOREIGN_CLOSE: SessionActor.STRANGER,
    SessionAction.FOREIGN_CLOSE_NOTHING: SessionActor.STRANGER,
    SessionAction.ACCEPT: SessionActor.WORKER,
    SessionAction.ACCEPT_FOREIGN: SessionActor.STRANGER,
}


@dataclass(frozen=True, slots=True)
class SessionTransition:
    """A step that works: from `state` in `timing` by `action` to `to`; `sends` names the messages."""

    state: SessionState
    action: SessionAction
    timing: frozenset[SessionTiming]
    to: SessionState
    sends: tuple[str, ...]
    money: str


_S, _A, _T = SessionState, SessionAction, SessionTiming
IN_TIME: Final = frozenset({_T.IN_TIME})
OVER: Final = frozenset({_T.OVER})
NOT_OVER: Final = frozenset({_T.IN_TIME, _T.EXPIRED})
ANY_TIME: Final = frozenset(_T)
_WITH_ENTRY: Final = (_S.OPEN, _S.GUARDED, _S.CLOSING, _S.CLOSING_GUARDED, _S.DISPUTED)
_CLOSING_OF: Final = {_S.OPEN: _S.CLOSING, _S.GUARDED: _S.CLOSING_GUARDED}
_PAID = "worker gets what is due, and the caller's spare gas"
_LEFT = "the rest of the deposit and of the gas is free again"


def _transitions() -> Iterable[SessionTransition]:
    step = SessionTransition
    yield step(_S.NONE, _A.OPEN, ANY_TIME, _S.OPEN, (), "deposit and gas are set aside")
    yield step(_S.OPEN, _A.ACCEPT, IN_TIME, _S.GUARDED, (), "worker's collateral is locked")
    for state, closing in _CLOSING_OF.items():
        yield step(state, _A.TOP_UP, IN_TIME, state, (), "more is set aside")
        for action in (_A.CLOSE, _A.OWNER_CLOSE):
            yield step(state, action, ANY_TIME, closing, ("SessionClosing",), "nothing moves")
    for state in _WITH_ENTRY:
        for action in (_A.REDEEM, _A.FOREIGN_CLOSE):
            yield step(state, action, ANY_TIME, state, ("Reward",), _PAID)
        freed = f"{_LEFT}, collateral unlocked" if state.is_guarded else _LEFT
        if state is _S.DISPUTED:
            freed += ", bond free again"
        # While the client may still dispute, a worker with collateral in it can only begin the end.
        late, sends = (OVER, ("Release",)) if state.is_guarded else (ANY_TIME, ())
        if state.is_guarded:
            yield step(state, _A.REDEEM_CLOSE, NOT_OVER, _CLOSING_OF.get(state, state), ("Reward",), _PAID)
        if state is _S.GUARDED:
            told = ("SessionClosing",)
            yield step(state, _A.REDEEM_CLOSE_NOTHING, NOT_OVER, _S.CLOSING_GUARDED, told, "nothing moves")
        yield step(state, _A.REDEEM_CLOSE, late, _S.CLOSED, ("Reward",), f"{_PAID}; {freed}")
        yield step(state, _A.REDEEM_CLOSE_NOTHING, late, _S.CLOSED, ("Release",), freed)
        for action in (_A.SETTLE, _A.ANYONE_SETTLE):
            yield step(state, action, OVER, _S.SETTLED, sends, freed)
    for state in (_S.GUARDED, _S.CLOSING_GUARDED):
        for action in (_A.DISPUTE, _A.OWNER_DISPUTE):
            both = ("Disputed", "DisputeNotice")
            money = "bond and the verdict's gas are set aside; the announcement is paid"
            yield step(state, action, NOT_OVER, _S.DISPUTED, both, money)
    shared = "arbiters share their fee out of the bond, the rest of it is free again"
    yield step(_S.DISPUTED, _A.RESOLVE, IN_TIME, _S.CLOSING, ("Release",), f"{shared}; collateral unlocked")
    slashed = "arbiters' fee and compensation come out of the slash, what else it takes is burned"
    yield step(_S.DISPUTED, _A.RESOLVE_SLASH, IN_TIME, _S.CLOSING, ("Slash",), f"{shared}; {slashed}")


TRANSITIONS: Final[tuple[SessionTransition, ...]] = tuple(_transitions())
"""Everything that works."""


def transition(state: SessionState, action: SessionAction, timing: SessionTiming) -> SessionTransition | None:
    """Return the transition, or None when the action is refused."""
    for entry in TRANSITIONS:
        if entry.state is state and entry.action is action and timing in entry.timing:
            return entry
    return None


def refusal(state: SessionState, action: SessionAction, timing: SessionTiming) -> Refusal | None:
    """Return how the escrow refuses an action on a session in `state`; None when it does not."""
    if transition(state, action, timing) is not None:
        return None
    if action is _A.OPEN:
        return Refusal(Answer.REFUSED, ExitCode.UNEXPECTED_ID)  # ids never come back
    if action in (_A.ACCEPT, _A.ACCEPT_FOREIGN):
        return Refusal(Answer.GONE)
    answer = Answer.REFUSED if action.actor is SessionActor.CLIENT else Answer.THROWN
    if action in (_A.RESOLVE, _A.RESOLVE_SLASH):
        return Refusal(answer, _unjudged(state))
    if state not in _WITH_ENTRY:
        return Refusal(answer, ExitCode.NO_SESSION)
    if action in (_A.DISPUTE, _A.OWNER_DISPUTE):
        return Refusal(answer, _undisputed(state))
    if action in (_A.REDEEM_NOTHING, _A.FOREIGN_CLOSE_NOTHING, _A.REDEEM_CLOSE_NOTHING):
        return Refusal(answer, ExitCode.NOTHING_DUE)
    if action in (_A.SETTLE, _A.ANYONE_SETTLE):
        return Refusal(answer, ExitCode.TOO_EARLY)
    if state.is_open:
        return Refusal(answer, ExitCode.SESSION_EXPIRED)
    return Refusal(answer, ExitCode.SESSION_CLOSING)


def _unjudged(state: SessionState) -> ExitCode:
    if state not in _WITH_ENTRY:
        return ExitCode.NO_JOB
    return ExitCode.TOO_LATE if state is _S.DISPUTED else ExitCode.WRONG_STATE


def _undisputed(state: SessionState) -> ExitCode:
    if state is _S.DISPUTED:
        return ExitCode.SESSION_DISPUTED
    return ExitCode.TOO_LATE if state.is_guarded else ExitCode.NOT_GUARDED


def state_of(session: Session) -> SessionState:
    """Return the state of an escrow's entry. Raises `ValueError` for a status that this version lacks."""
    match SessionStatus(session.status):
        case SessionStatus.OPEN:
            return _S.GUARDED if session.collateral else _S.OPEN
        case SessionStatus.CLOSING:
            return _S.CLOSING_GUARDED if session.collateral else _S.CLOSING
    return _S.DISPUTED


def close_delay_of(session: Session) -> int:
    """Return the seconds that the worker has to redeem, by the session's own parameters."""
    return _rules_of(session).session_close_delay


def _rules_of(session: Session) -> ParamsRules:
    return ParamsRules.from_cell(Params.from_cell(session.params).rules)


def turns_at(session: Session) -> int:
    """Return when, in unix seconds, the session's own time ends.

    Open: its expiry. Closing: the end of the worker's delay. Disputed: the first second at which no verdict
    counts any more.
    """
    if SessionStatus(session.status) is not SessionStatus.DISPUTED:
        return session.deadline
    rules = _rules_of(session)
    return session.deadline + rules.evidence_deadline + rules.arbitration_timeout


def settles_at(session: Session) -> int:
    """Return the unix time in seconds from which on the client can take the rest back.

    Until then every voucher can be redeemed, and collateral is held; afterwards only as long as nobody
    settles. A verdict makes it earlier, but never sooner than the worker's whole delay after it.
    """
    closing = SessionStatus(session.status) is SessionStatus.CLOSING
    return turns_at(session) + (0 if closing else close_delay_of(session))


def evidence_of(session: Session) -> Hash | None:
    """Return the hash that a disputed session's dispute stands on; None of any other session."""
    if SessionStatus(session.status) is not SessionStatus.DISPUTED:
        return None
    return Hash(session.evidence.begin_parse().load_bytes(32))


def timing_of(session: Session, now: int) -> SessionTiming:
    """Tell where the session's time stands at unix time `now`. Each border belongs to what follows."""
    if now >= settles_at(session):
        return SessionTiming.OVER
    return SessionTiming.EXPIRED if now >= turns_at(session) else SessionTiming.IN_TIME


def can_time(state: SessionState, timing: SessionTiming) -> bool:
    """Tell whether a state knows this timing: closing ends with the worker's delay at once."""
    return timing is not SessionTiming.EXPIRED or state.is_open or state is SessionState.DISPUTED


def markdown() -> str:
    """Return both tables as Markdown."""
    lines = ["| state | time | who | action | next state | messages | money |", "|" + "---|" * 7]
    lines += [
        f"| {entry.state} | {_times(entry.timing)} | {entry.action.actor} | {entry.action} "
        f"| {entry.to} | {', '.join(entry.sends) or '-'} | {entry.money} |"
        for entry in TRANSITIONS
    ]
    lines += ["", "Everything else is refused:", "", "| state | time | action | answer |", "|" + "---|" * 4]
    for state in _S:
        lines += _refusal_lines(state)
    return "\n".join(lines) + "\n"


def _refusal_lines(state: SessionState) -> Iterable[str]:
    grouped: dict[tuple[str, str], list[str]] = {}
    known = [timing for timing in _T if can_time(state, timing)]
    for action in _A:
        found = {timing: refusal(state, action, timing) for timing in known}
        refused = [timing for timing in known if found[timing] is not None]
        if refused:
            answer = found[refused[0]]
            assert answer is not None
            text = answer.answer if answer.code is None else f"{answer.answer}, {answer.code.name}"
            when = "any" if refused == known else ", ".join(refused)
            grouped.setdefault((when, str(text)), []).append(str(action))
    return [f"| {state} | {when} | {', '.join(names)} | {text} |" for (when, text), names in grouped.items()]


def _times(timing: frozenset[SessionTiming]) -> str:
    return "any" if timing == ANY_TIME else ", ".join(entry for entry in _T if entry in timing)


if __name__ == "__main__":
    print(markdown(), end="")
