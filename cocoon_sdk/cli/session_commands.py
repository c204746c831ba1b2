"""`cocoon session list|show|open|topup|close|settle|tidy`: a client's deposits, and what is signed.

Owns the options and what is shown. Must not know how sessions are kept or sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cocoon_sdk.cli.options import Amount, DryRun, Index, Json, Previous, Yes
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from rich.table import Table

    from cocoon_sdk.client.sessions.account import AsyncSessions
    from cocoon_sdk.client.sessions.funds.keeper import KeeperReport
    from cocoon_sdk.client.sessions.funds.records import SessionRecord
    from cocoon_sdk.client.sessions.info import SessionInfo

Database = Annotated[
    str | None,
    typer.Option("--database", metavar="FILE|URL", help="Where vouchers are kept [COCOON_DATABASE]."),
]
Number = Annotated[int, typer.Argument(metavar="ID", min=1, help="The session's number in your escrow.")]
Force = Annotated[
    bool, typer.Option("--force", help="Take it from a process that holds it; that one goes on without.")
]
_TIME: Final = "%Y-%m-%d %H:%M UTC"
_UNKNOWN: Final = "unknown here"


def add_to(app: typer.Typer) -> None:
    """Add the commands to `cocoon session`."""
    from cocoon_sdk.cli.session_disputes import dispute, evidence

    app.command("list")(list_)
    for command in (show, open_, top_up, close, dispute, evidence, settle, tidy):
        app.command(_NAMES.get(command.__name__, command.__name__))(command)


def list_(
    everything: Annotated[bool, typer.Option("--all", help="Show sessions that have ended, too.")] = False,
    database: Database = None,
    index: Index = None,
    previous: Previous = False,
    as_json: Json = False,
) -> None:
    """List sessions: with whom, what is signed, what is left, and until when."""

    async def work(session: Session) -> None:
        sessions = await sessions_of(session)
        found = await sessions.list(ended=everything)
        where = (await sessions.manager()).store.where
        now = await session.now()
        document = {"database": where, "sessions": [_document(each) for each in found]}
        session.out.result(document, _table(found, now) if found else "No sessions.")

    run(work, as_json=as_json, index=index, database=database, previous_code=previous or None)


def show(
    number: Number,
    database: Database = None,
    index: Index = None,
    previous: Previous = False,
    as_json: Json = False,
) -> None:
    """Show one session."""

    async def work(session: Session) -> None:
        await show_session(session, await (await sessions_of(session)).get(number))

    run(work, as_json=as_json, index=index, database=database, previous_code=previous or None)


def open_(
    model: Annotated[str, typer.Option("--model", help="Name or id of the model.")],
    worker: Annotated[
        str | None, typer.Option("--worker", metavar="ADDRESS", help="With whom; default: the cheapest.")
    ] = None,
    deposit: Annotated[
        str | None, typer.Option("--deposit", metavar="TON", help="What may be spent in it; default: 0.1.")
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, help="Until when at most; the network has a limit, too.")
    ] = None,
    database: Database = None,
    index: Index = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Open a session ahead of its first request. Inference opens them by itself, too."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import Move, agree, parse_amount

        asked: dict[str, Any] = {
            "model": model,
            "worker": worker,
            "deposit": None if deposit is None else parse_amount(deposit),
            "lifetime_s": None if days is None else days * 86_400,
        }
        sessions = await sessions_of(session, hot_key=True)
        with session.out.step("Finding a worker"):
            cost = await sessions.estimate(**asked)
        escrow = (await session.client(hot_key=True)).escrow.address
        move = Move(escrow, escrow, cost.total, f"set aside for a session with {cost.worker.to_str()}")
        note = (
            f"The worker gets what you sign for, at most {cost.deposit}; the rest comes back at its "
            f"end, with most of {cost.gas} gas. At most {cost.external} are for the message itself."
        )
        if agree(session.out, [move], note=note, yes=yes, dry_run=dry_run):
            with session.out.step("Opening the session"):
                # With whom and with how much was agreed on: neither is chosen again.
                asked.update(worker=cost.worker, deposit=cost.deposit)
                opened = await sessions.open(**asked)
            await show_session(session, opened)

    run(work, as_json=as_json, index=index, database=database)


def top_up(
    number: Number,
    amount: Amount,
    force: Force = False,
    database: Database = None,
    index: Index = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Add TON to a session's deposit."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import Move, agree, parse_amount

        value = parse_amount(amount)
        sessions = await sessions_of(session, hot_key=True)
        before = await sessions.get(number)
        escrow = (await session.client(hot_key=True)).escrow.address
        move = Move(escrow, escrow, value, f"added to session {number} with {before.worker.to_str()}")
        note = f"Its deposit is {before.deposit} now, of which {before.left} are left."
        if agree(session.out, [move], note=note, yes=yes, dry_run=dry_run):
            with session.out.step("Adding to the session"):
                after = await sessions.top_up(number, value, force=force)
            await show_session(session, after)

    run(work, as_json=as_json, index=index, database=database)


def close(
    number: Number,
    force: Force = False,
    database: Database = None,
    index: Index = None,
    previous: Previous = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """End a session. What the worker does not redeem in time comes back with `settle`."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import Move, agree

        sessions = await sessions_of(session, hot_key=True)
        before = await sessions.get(number)
        escrow = (await session.client(hot_key=True)).escrow.address
        move = Move(escrow, before.worker, before.signed - before.redeemed, "still to be redeemed")
        note = (
            "Nothing more can be signed for it. The worker has time to redeem, then the rest is yours again."
        )
        if agree(session.out, [move], note=note, yes=yes, dry_run=dry_run):
            with session.out.step("Closing the session"):
                after = await sessions.close_session(number, force=force)
            await show_session(session, after)

    run(work, as_json=as_json, index=index, database=database, previous_code=previous or None)


def settle(
    number: Number,
    force: Force = False,
    database: Database = None,
    index: Index = None,
    previous: Previous = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Free what is left of a session whose time is over."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import Move, agree

        sessions = await sessions_of(session, hot_key=True)
        before = await sessions.get(number)
        escrow = (await session.client(hot_key=True)).escrow.address
        rest = before.deposit - before.redeemed
        note = f"The worker has taken {before.redeemed}; what it has not redeemed by now is lost to it."
        if agree(
            session.out, [Move(escrow, escrow, rest, "free again")], note=note, yes=yes, dry_run=dry_run
        ):
            with session.out.step("Settling the session"):
                await sessions.settle(number, force=force)
            session.out.result(
                {"id": number, "settled": True, "freed_nano": str(int(rest))},
                f"Session {number} has ended: {rest} and what is left of its gas are free again.",
            )

    run(work, as_json=as_json, index=index, database=database, previous_code=previous or None)


def tidy(
    idle: Annotated[
        int | None, typer.Option("--idle", metavar="SECONDS", min=0, help="Also close what is idle so long.")
    ] = None,
    database: Database = None,
    index: Index = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Finish what a dead process left: find lost openings, close what is idle, settle what is over."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import agree

        sessions = await sessions_of(session, hot_key=True)
        if agree(session.out, [], note="Sessions that are over or idle are ended.", yes=yes, dry_run=False):
            with session.out.step("Looking after the sessions"):
                report = await sessions.keep(idle_s=idle)
            session.out.result(_report_document(report), _report_text(report))

    run(work, as_json=as_json, index=index, database=database)


_NAMES: Final = {"open_": "open", "top_up": "topup"}


async def sessions_of(session: Session, *, hot_key: bool = False) -> AsyncSessions:
    """Return the sessions of an open escrow; `hot_key` when something will be signed."""
    return (await session.client(hot_key=hot_key, open_escrow=True)).sessions


# -- showing -----------------------------------------------------------------------------------------------


def _document(info: SessionInfo) -> dict[str, Any]:
    amounts = {
        "deposit": info.deposit,
        "signed": info.signed,
        "accounted": info.accounted,
        "redeemed": info.redeemed,
        "left": info.left,
    }
    return {
        "id": info.session_id,
        "worker": info.worker.to_str(),
        "model": info.model,
        "state": _UNKNOWN if info.state is None else info.state.value,
        **{f"{name}_nano": str(int(amount)) for name, amount in amounts.items()},
        "expires": info.expires,
        "settle_at": info.settle_at,
        "guarded": info.guarded,
        "disputed": info.disputed,
        "holder": info.holder,
        "lease_until": info.lease_until,
        "used_at": info.used_at,
        "why": info.why,
    }


def _table(found: tuple[SessionInfo, ...], now: int) -> Table:
    from rich.table import Table

    table = Table(
        "id", "worker", "model", "state", "deposit", "signed", "redeemed", "left", "until", box=None
    )
    for info in found:
        table.add_row(
            str(info.session_id),
            info.worker.to_str(),
            info.model,
            _UNKNOWN if info.state is None else info.state.value,
            *(str(amount) for amount in (info.deposit, info.signed, info.redeemed, info.left)),
            _until(info, now),
        )
    return table


def _until(info: SessionInfo, now: int) -> str:
    from datetime import UTC, datetime

    at = info.settle_at if info.state not in _OPEN else info.expires
    if not at:
        return ""
    passed = " (can be settled)" if info.settle_at and info.settle_at <= now else ""
    return datetime.fromtimestamp(at, UTC).strftime(_TIME) + passed


_OPEN: Final = ("open", "opening")


async def show_session(session: Session, info: SessionInfo) -> None:
    """Show one session, in words or as JSON."""
    from cocoon_sdk.clock import SystemClock

    lines = [
        f"Session {info.session_id} with {info.worker.to_str()}: "
        f"{_UNKNOWN if info.state is None else info.state.value}{_backing(info)}",
        f"  deposit {info.deposit}, signed {info.signed}, redeemed {info.redeemed}, left {info.left}",
    ]
    if info.why:
        lines.append(f"  {info.why}")
    if info.holder and info.lease_until > SystemClock().now():
        lines.append(f"  in use by {info.holder}")
    until = _until(info, await session.now())
    if until:
        lines.append(f"  {'expires' if info.state in _OPEN else 'can be settled from'} {until}")
    session.out.result(_document(info), "\n".join(lines))


def _backing(info: SessionInfo) -> str:
    if info.disputed:
        return ", disputed"
    return ", guarded" if info.guarded else ""


def _report_document(report: KeeperReport) -> dict[str, Any]:
    def numbers(records: list[SessionRecord]) -> list[int]:
        return [record.session_id for record in records]

    return {
        "opened": numbers(report.opened),
        "closed": numbers(report.closed),
        "settled": numbers(report.settled),
        "ended": numbers(report.ended),
        "overdrawn": [
            {"id": each.record.session_id, "redeemed_nano": str(int(each.redeemed))}
            for each in report.overdrawn
        ],
        "unknown": report.unknown,
        "failures": [{"id": record.session_id, "why": str(error)} for record, error in report.failures],
    }


def _report_text(report: KeeperReport) -> str:
    lines = [
        f"{words}: {', '.join(str(record.session_id) for record in records)}"
        for words, records in (
            ("Found open", report.opened),
            ("Closed", report.closed),
            ("Settled", report.settled),
            ("Had ended on chain", report.ended),
        )
        if records
    ]
    lines += [
        f"OVERDRAWN: of session {each.record.session_id} {each.redeemed} were redeemed, {each.record.signed} "
        "signed here: somebody else has the hot key"
        for each in report.overdrawn
    ]
    lines += [f"Session {record.session_id}: {error}" for record, error in report.failures]
    if report.unknown:
        known_not = ", ".join(map(str, report.unknown))
        lines.append(
            f"On chain, but unknown to this database: {known_not}. `cocoon session close` ends them."
        )
    return "\n".join(lines) or "Nothing to do."
