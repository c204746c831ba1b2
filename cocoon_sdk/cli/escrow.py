"""`cocoon escrow`: the client's money, from opening the account to taking the rest out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cocoon_sdk.cli.options import Amount, DryRun, Index, Json, Previous, Yes
from cocoon_sdk.cli.session import Session, run
from cocoon_sdk.types import Nano, format_ton

if TYPE_CHECKING:
    from pytoniq_core import Address

    from cocoon_sdk.client.escrow import AsyncEscrow, OwnerTransfer

app = typer.Typer(no_args_is_help=True, help="Your escrow: the one account that pays every worker.")

DailyLimit = Annotated[
    str, typer.Option("--daily-limit", metavar="TON", help="What the hot key may spend a day.")
]
Workers = Annotated[
    list[str] | None,
    typer.Option("--worker", metavar="ADDRESS", help="Only these workers (repeatable); default: any."),
]


@app.command("open")
def open_(
    amount: Amount,
    daily_limit: DailyLimit,
    worker: Workers = None,
    index: Index = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Create the account with TON to spend, and wait until it is active."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount

        deposit, limit, allowed = parse_amount(amount), parse_amount(daily_limit, zero=True), _allowed(worker)
        await _transfer(
            session,
            lambda escrow, dry: escrow.open(deposit, limit, allowed=allowed, dry_run=dry),
            yes=yes,
            dry_run=dry_run,
            opening=True,
        )

    run(work, as_json=as_json, index=index)


@app.command()
def deposit(
    amount: Amount, index: Index = None, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Add TON to the escrow."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount

        value = parse_amount(amount)
        await _transfer(
            session, lambda escrow, dry: escrow.deposit(value, dry_run=dry), yes=yes, dry_run=dry_run
        )

    run(work, as_json=as_json, index=index)


@app.command()
def withdraw(
    amount: Amount,
    index: Index = None,
    previous: Previous = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send free TON to the owner's wallet; "all" takes everything that is free."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount

        value = await _all_free(session) if amount == "all" else parse_amount(amount)
        await _transfer(
            session, lambda each, dry: each.withdraw(value, dry_run=dry), yes=yes, dry_run=dry_run
        )

    run(work, as_json=as_json, index=index, previous_code=previous or None)


@app.command("set-key")
def set_key(
    key_file: Annotated[Path, typer.Argument(metavar="FILE", help="Key file of the new hot key.")],
    index: Index = None,
    previous: Previous = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Replace the hot key: the old one can do nothing from then on."""

    async def work(session: Session) -> None:
        from cocoon_sdk.crypto import read_signing_key_file

        key = read_signing_key_file(key_file).verify_key
        await _transfer(
            session, lambda escrow, dry: escrow.set_key(key, dry_run=dry), yes=yes, dry_run=dry_run
        )

    run(work, as_json=as_json, index=index, previous_code=previous or None)


@app.command("set-limits")
def set_limits(
    daily_limit: DailyLimit,
    worker: Workers = None,
    index: Index = None,
    previous: Previous = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Replace the daily limit and the list of allowed workers (none named: any)."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount

        limit, allowed = parse_amount(daily_limit, zero=True), _allowed(worker)
        await _transfer(
            session,
            lambda escrow, dry: escrow.set_limits(limit, allowed=allowed, dry_run=dry),
            yes=yes,
            dry_run=dry_run,
        )

    run(work, as_json=as_json, index=index, previous_code=previous or None)


@app.command()
def balance(index: Index = None, previous: Previous = False, as_json: Json = False) -> None:
    """Show where the escrow's money is."""
    run(_balance, as_json=as_json, index=index, previous_code=previous or None)


async def _all_free(session: Session) -> Nano:
    """Return all that can be withdrawn, but for the storage fee that falls due on the way."""
    free = (await (await session.client(open_escrow=True)).escrow.balance()).free
    return free - min(free, Nano.ton("0.001"))


async def _balance(session: Session) -> None:
    from rich.console import Group
    from rich.table import Table

    escrow = (await session.client(open_escrow=True)).escrow
    found = await escrow.balance()
    rows = {
        "total": found.total,
        "free": found.free,
        "reserved": found.reserved,
        "job_gas": found.job_gas,
        "rent": found.rent,
        "left_today": found.bucket,
        "daily_limit": found.daily_limit,
    }
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, amount in rows.items():
        table.add_row(_ROWS[name], f"{format_ton(amount)} TON")
    table.add_row("open jobs", str(found.jobs))
    document = {"address": escrow.address.to_str(), "jobs": found.jobs}
    shown = Group(f"Escrow {escrow.address.to_str()}", table)
    session.out.result({**document, **{name: format_ton(amount) for name, amount in rows.items()}}, shown)


_ROWS = {
    "total": "total",
    "free": "free to withdraw or spend",
    "reserved": "reserved for open jobs",
    "job_gas": "gas set aside for them",
    "rent": "a year's rent",
    "left_today": "hot key may spend now",
    "daily_limit": "hot key's daily limit",
}


async def _transfer(
    session: Session,
    send: Callable[[AsyncEscrow, bool], Awaitable[OwnerTransfer]],
    *,
    yes: bool,
    dry_run: bool,
    opening: bool = False,
) -> None:
    """Compute what would be sent, get a yes, send it, and show it."""
    from cocoon_sdk.cli.money import agree, moves_of

    client = await session.client(owner=True, hot_key=opening, open_escrow=not opening)
    planned = await send(client.escrow, True)
    moves = moves_of(session.wallet.address, planned.messages, planned.what)
    note = f"Of it {planned.gas} is for gas: what is not used stays in the escrow or comes back. "
    note += f"The wallet's own fees are at most {planned.fees_at_most}."
    if not agree(session.out, moves, note=note, yes=yes, dry_run=dry_run):
        return
    with session.out.step(f"Sending: {planned.what}"):
        done = await send(client.escrow, False)
    document: dict[str, Any] = {
        "what": done.what,
        "escrow": client.escrow.address.to_str(),
        "sent": done.sent,
        "moves": [move.to_json() for move in moves],
    }
    session.out.result(document, f"Done: {done.what}. Escrow {client.escrow.address.to_str()}")


def _allowed(workers: list[str] | None) -> list[Address] | None:
    from cocoon_sdk.explain import parse_address

    return [parse_address(worker) for worker in workers] if workers else None
