"""A gateway's run: what is put together, what is shown at the start, and how it ends.

Owns wiring, the banner and signals. Serving itself is `cocoon_sdk.gateway`'s.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, Final

import structlog

from cocoon_sdk.cli.gateway_settings import GatewaySettings
from cocoon_sdk.cli.session import Session
from cocoon_sdk.client.sessions.account import DEFAULT_DATABASE
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.gateway import SCHEMA, GatewayServer, KeyStore, Treasury, TreasuryView
from cocoon_sdk.logs import log_to_stderr
from cocoon_sdk.storage import open_database
from cocoon_sdk.types import format_ton

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cocoon_sdk.client.app import AsyncCocoon
    from cocoon_sdk.client.sessions import ServedModel

SHOWN_MODELS: Final = 20
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
log = structlog.get_logger("cocoon.gateway")


async def serve(session: Session, settings: GatewaySettings, *, dry_run: bool) -> None:
    """Serve until a signal. Raises `ConfigError`, `StorageError`, `ChainError`."""
    log_to_stderr(as_json=settings.log_json)
    database = await open_database(session.settings.database or DEFAULT_DATABASE, SCHEMA)
    session.closing.push_async_callback(database.close)
    client = await session.client(
        hot_key=True,
        open_escrow=True,
        database=database,
        session_policy=settings.policy(),
        spend_limits=settings.limits(),
        audit=settings.audits(),
    )
    manager = await client.sessions.manager()
    treasury = Treasury(manager, asyncio.get_running_loop().time)
    config = settings.config()
    server = GatewayServer(
        client.inference,
        KeyStore(database),
        config,
        treasury=treasury,
        audits=lambda: client.audits.numbers,
    )
    await server.keys.refresh()
    if config.needs_keys and not len(server.keys) and not config.is_local:
        raise ConfigError(
            f"refused to listen on {config.host}",
            why="others can connect there, and there is no API key: anybody could spend your escrow",
            hint="Make one with `cocoon gateway keys add NAME`",
        )
    if not dry_run:
        try:
            await server.start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {config.host} port {config.port}",
                why=error.strerror or str(error),
                hint="Choose another --port",
            ) from None
    try:
        view, models = await treasury.look(), await client.inference.models()
        start = Start(server, settings, client, database.where, view, models, dry_run=dry_run)
        session.out.result(start.to_json(), start.shown())
        if not dry_run:
            manager.start()
            await until_signalled(server)
    finally:
        await server.abort()


async def until_signalled(server: GatewayServer) -> bool:
    """Wait for a signal; drain at the first one, cut at the second. False when answers were cut."""
    loop = asyncio.get_running_loop()
    asked, cut = asyncio.Event(), asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            cut.set()
        asked.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, ask)
    try:
        await asked.wait()
        log.info("stopping", requests_under_way=server.gate.under_way.count, again="ends at once")
        draining, cutting = asyncio.ensure_future(server.drain()), asyncio.ensure_future(cut.wait())
        await asyncio.wait((draining, cutting), return_when=asyncio.FIRST_COMPLETED)
        whole = draining.done() and draining.result()
        draining.cancel()
        cutting.cancel()
        await asyncio.gather(draining, cutting, return_exceptions=True)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    log.info("stopped", all_answers_whole=whole)
    return whole


class Start:
    """What a person or a program is told when a gateway starts."""

    def __init__(
        self,
        server: GatewayServer,
        settings: GatewaySettings,
        client: AsyncCocoon,
        database: str,
        view: TreasuryView,
        models: tuple[ServedModel, ...],
        *,
        dry_run: bool,
    ) -> None:
        self._server, self._settings, self._client = server, settings, client
        self._database, self._view, self._models, self._dry_run = database, view, models, dry_run

    @property
    def _url(self) -> str:
        if self._dry_run:
            return f"http://{self._settings.host}:{self._settings.port}/v1 (not served: --dry-run)"
        return self._server.url

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "url": self._url if not self._dry_run else None,
            "dry_run": self._dry_run,
            "escrow": self._client.escrow.address.to_str(),
            "database": self._database,
            "keys": len(self._server.keys),
            "keys_required": self._server.keys.required,
            "money": self._view.to_json(),
            "models": [_model_json(each) for each in self._models],
        }

    def shown(self) -> RenderableType:
        """Return it for people."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        facts = Table.grid(padding=(0, 2))
        for name, value in self._facts():
            facts.add_row(Text(name, style="bold"), Text(value))
        parts: list[RenderableType] = [Text("Cocoon gateway", style="bold green"), facts, Text()]
        if self._models:
            table = Table("model", "workers", "input", "output", "context", box=None)
            for each in self._models[:SHOWN_MODELS]:
                table.add_row(
                    each.name,
                    str(each.workers),
                    format_ton(each.cheapest.input_price),
                    format_ton(each.cheapest.output_price),
                    str(each.max_context),
                )
            parts += [table, Text("Prices from, in TON for a million tokens", style="dim")]
            if len(self._models) > SHOWN_MODELS:
                parts.append(
                    Text(f"... and {len(self._models) - SHOWN_MODELS} more: /v1/models", style="dim")
                )
        else:
            parts.append(
                Text("No worker serves a model by sessions now; they show up as they come.", "yellow")
            )
        if not self._dry_run:
            key = "any text" if not self._server.keys.required else "sk-cocoon-..."
            parts.append(Text(f"\nOpenAI(base_url={self._server.url!r}, api_key={key!r})   Ctrl-C stops."))
        return Group(*parts)

    def _facts(self) -> list[tuple[str, str]]:
        view, limits = self._view, self._view.limits
        free = f"{view.free} free, {view.spendable} may be used now ({view.daily_limit} a day)"
        spent = f"{view.exposure.signed_today} today, {view.exposure.signed} in all"
        caps = {"a day": limits.per_day, "in all": limits.total, "a session": limits.per_session}
        named = [f"{amount} {word}" for word, amount in caps.items() if amount is not None]
        count = len(self._server.keys)
        access = f"{count} valid" if count else "none: every program on this machine may spend"
        return [
            ("Serves", self._url),
            ("Escrow", self._client.escrow.address.to_str()),
            ("Money", free),
            ("Spent", spent),
            ("Limits", ", ".join(named) or "only the escrow's own (--spend-per-day sets one)"),
            ("Sessions", f"{view.sessions.get('open', 0)} open"),
            ("API keys", access),
            ("Database", self._database),
        ]


def _model_json(model: ServedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "workers": model.workers,
        "input_ton_per_million": format_ton(model.cheapest.input_price),
        "cached_input_ton_per_million": format_ton(model.cheapest.cached_input_price),
        "output_ton_per_million": format_ton(model.cheapest.output_price),
        "max_context": model.max_context,
        "max_output_tokens": model.max_output_tokens,
    }
