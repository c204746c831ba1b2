"""`cocoon gateway`: OpenAI's API on this machine, and the keys of those who may use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cocoon_sdk.cli.options import DryRun, Index, Json
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cocoon_sdk.gateway import KeyLimits, KeyStore, KeyUse
    from cocoon_sdk.types import Nano

app = typer.Typer(help="Serve OpenAI's API, paid from your escrow.")
keys = typer.Typer(no_args_is_help=True, help="API keys: who may use the gateway, and for how much.")
app.add_typer(keys, name="keys")

Database = Annotated[
    str | None,
    typer.Option(metavar="FILE|URL", help="SQLite file, or postgresql:// for several gateways."),
]
Budget = Annotated[str | None, typer.Option("--budget", metavar="TON", help="The most it may spend ever.")]
DailyBudget = Annotated[
    str | None, typer.Option("--daily-budget", metavar="TON", help="The most it may spend in a day of UTC.")
]
RequestRate = Annotated[int | None, typer.Option("--rpm", min=1, help="Requests a minute.")]
TokenRate = Annotated[int | None, typer.Option("--tpm", min=1, help="Tokens a minute, read and written.")]
Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="NAME", help="A model it may use; default: all.")
]
KeyName = Annotated[str, typer.Argument(metavar="KEY", help="Name or id of a key.")]


@app.callback(invoke_without_command=True)
def gateway(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where to listen; beyond this machine only with keys.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=0, max=65_535, help="0: a free one.")
    ] = None,
    database: Database = None,
    per_day: Annotated[
        str | None, typer.Option("--spend-per-day", metavar="TON", help="The most to spend in a day of UTC.")
    ] = None,
    total: Annotated[
        str | None, typer.Option("--spend-total", metavar="TON", help="The most to spend in all.")
    ] = None,
    deposit: Annotated[
        str | None, typer.Option("--session-deposit", metavar="TON", help="What a new session gets.")
    ] = None,
    max_price: Annotated[
        str | None, typer.Option("--max-price", metavar="TON", help="The most one request may cost.")
    ] = None,
    audit: Annotated[
        float | None,
        typer.Option("--audit", metavar="SHARE", min=0, max=1, help="Share of the answers to check."),
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option("--verifier", metavar="URL", help="vLLM that checks; default: other workers, paid."),
    ] = None,
    thresholds: Annotated[
        list[Path] | None,
        typer.Option("--thresholds", metavar="FILE", help="Limits of a model that is checked."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be served and paid for, and stop.")
    ] = False,
    index: Index = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document at the start, then logs in JSON.")
    ] = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM: answers under way end first; a second one cuts them."""
    if context.invoked_subcommand is not None:
        return
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "spend_per_day": per_day,
        "spend_total": total,
        "session_deposit": deposit,
        "max_price": max_price,
        "log_json": as_json or None,
        "audit": audit,
        "verifier": verifier,
        "thresholds": tuple(thresholds) if thresholds else None,
    }

    async def work(session: Session) -> None:
        _check_packages()
        from cocoon_sdk.cli.gateway_run import serve
        from cocoon_sdk.cli.gateway_settings import load_gateway_settings

        await serve(session, load_gateway_settings(**options), dry_run=dry_run)

    run(work, as_json=as_json, swift=True, index=index, database=database)


# -- keys --------------------------------------------------------------------------------------------------


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="What to call it: a person, a program.")],
    budget: Budget = None,
    daily_budget: DailyBudget = None,
    rpm: RequestRate = None,
    tpm: TokenRate = None,
    model: Models = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it: only now, since nothing but its hash is kept."""

    async def work(session: Session) -> None:
        _check_packages()
        from cocoon_sdk.clock import SystemClock
        from cocoon_sdk.gateway import KeyLimits, new_key

        limits = KeyLimits(
            budget_total=_amount(budget),
            budget_day=_amount(daily_budget),
            requests_per_minute=rpm,
            tokens_per_minute=tpm,
            models=frozenset(model or ()),
        )
        key, text = new_key(name, limits, SystemClock().now())
        async with _store(session) as store:
            await store.add(key)
        session.out.result({"id": key.id, "name": key.name, "key": text, **_limits_json(limits)}, text)
        session.out.note(f"Key {key.name!r} ({_words(limits)}). Keep it now: it is shown only this once.")

    run(work, as_json=as_json, database=database)


@keys.command("list")
def list_(database: Database = None, as_json: Json = False) -> None:
    """List the keys, what they may do, and what they spent."""

    async def work(session: Session) -> None:
        from rich.table import Table

        from cocoon_sdk.clock import SystemClock
        from cocoon_sdk.gateway.key_store import DAY_S
        from cocoon_sdk.types import format_ton

        now = SystemClock().now()
        async with _store(session) as store:
            found = await store.list(now // DAY_S)
        table = Table("key", "id", "spent TON", "today TON", "set aside", "allowed", "state", box=None)
        for use in found:
            table.add_row(
                use.key.name,
                use.key.id,
                format_ton(use.spent),
                format_ton(use.spent_today),
                format_ton(use.held),
                _words(use.key.limits),
                "valid" if use.key.revoked is None else "revoked",
            )
        document = [_use_json(use) for use in found]
        session.out.result(
            document, table if found else "No API keys. Make one: cocoon gateway keys add NAME"
        )

    run(work, as_json=as_json, database=database)


@keys.command()
def revoke(key: KeyName, database: Database = None, as_json: Json = False) -> None:
    """Make a key invalid for good; running gateways notice within seconds."""

    async def work(session: Session) -> None:
        from cocoon_sdk.clock import SystemClock

        async with _store(session) as store:
            found = await store.find(key)
            changed = await store.revoke(found.id, SystemClock().now())
        words = f"Revoked {found.name!r}." if changed else f"{found.name!r} was revoked already."
        session.out.result({"id": found.id, "name": found.name, "revoked": True}, words)

    run(work, as_json=as_json, database=database)


@keys.command("set-budget")
def set_budget(
    key: KeyName,
    budget: Budget = None,
    daily_budget: DailyBudget = None,
    no_budget: Annotated[bool, typer.Option("--no-budget", help="Lift the budget in all.")] = False,
    no_daily_budget: Annotated[
        bool, typer.Option("--no-daily-budget", help="Lift the budget of a day.")
    ] = False,
    dry_run: DryRun = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Change what a key may spend; what is not named stays."""

    async def work(session: Session) -> None:
        from dataclasses import replace

        from cocoon_sdk.errors import ConfigError

        if (budget is not None and no_budget) or (daily_budget is not None and no_daily_budget):
            raise ConfigError("cannot set the budget", why="a new one and none at all are asked for")
        if budget is None and daily_budget is None and not no_budget and not no_daily_budget:
            raise ConfigError("cannot set the budget", why="none is named", hint="Pass --budget TON")
        async with _store(session) as store:
            found = await store.find(key)
            limits = found.limits
            if budget is not None or no_budget:
                limits = replace(limits, budget_total=_amount(budget))
            if daily_budget is not None or no_daily_budget:
                limits = replace(limits, budget_day=_amount(daily_budget))
            if not dry_run:
                await store.set_limits(found.id, limits)
        document = {"id": found.id, "name": found.name, "dry_run": dry_run, **_limits_json(limits)}
        session.out.result(document, f"{found.name!r} may use: {_words(limits)}")

    run(work, as_json=as_json, database=database)


# -- what they share -------------------------------------------------------------------------------------


def _check_packages() -> None:
    """Raise `ConfigError` when the packages of the gateway are not installed."""
    from importlib.util import find_spec

    from cocoon_sdk.errors import ConfigError

    missing = [name for name in ("prometheus_client", "structlog") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            "the gateway is not installed",
            why=f"it needs {' and '.join(missing)}",
            hint="Install it with `pip install 'cocoon-sdk[gateway]'`",
        )


def _store(session: Session) -> Any:
    _check_packages()
    from contextlib import asynccontextmanager

    from cocoon_sdk.client.sessions.account import DEFAULT_DATABASE
    from cocoon_sdk.gateway import SCHEMA, KeyStore
    from cocoon_sdk.storage import open_database

    @asynccontextmanager
    async def opened() -> AsyncIterator[KeyStore]:
        database = await open_database(session.settings.database or DEFAULT_DATABASE, SCHEMA)
        try:
            yield KeyStore(database)
        finally:
            await database.close()

    return opened()


def _amount(text: str | None) -> Nano | None:
    from cocoon_sdk.cli.money import parse_amount

    return None if text is None else parse_amount(text, zero=True)


def _words(limits: KeyLimits) -> str:
    from cocoon_sdk.types import format_ton

    parts = []
    if limits.budget_total is not None:
        parts.append(f"{format_ton(limits.budget_total)} TON in all")
    if limits.budget_day is not None:
        parts.append(f"{format_ton(limits.budget_day)} TON a day")
    if limits.requests_per_minute is not None:
        parts.append(f"{limits.requests_per_minute} requests a minute")
    if limits.tokens_per_minute is not None:
        parts.append(f"{limits.tokens_per_minute} tokens a minute")
    parts.append(", ".join(sorted(limits.models)) or "all models")
    return "; ".join(parts)


def _limits_json(limits: KeyLimits) -> dict[str, Any]:
    return {
        "budget_nano": None if limits.budget_total is None else str(int(limits.budget_total)),
        "daily_budget_nano": None if limits.budget_day is None else str(int(limits.budget_day)),
        "requests_per_minute": limits.requests_per_minute,
        "tokens_per_minute": limits.tokens_per_minute,
        "models": sorted(limits.models),
    }


def _use_json(use: KeyUse) -> dict[str, Any]:
    return {
        "id": use.key.id,
        "name": use.key.name,
        "created": use.key.created,
        "revoked": use.key.revoked,
        "spent_nano": str(int(use.spent)),
        "spent_today_nano": str(int(use.spent_today)),
        "held_nano": str(int(use.held)),
        **_limits_json(use.key.limits),
    }
