"""The root of the `cocoon` command: global options and the list of commands.

Owns nothing but the wiring. Every command imports what it needs when it runs, so that `--help` is fast.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cocoon_sdk.cli import (
    arbiter,
    audit,
    demo,
    escrow,
    explain,
    gateway,
    job,
    keys,
    model,
    models,
    sandbox,
    session_commands,
    verify,
    watchtower,
    worker,
)
from cocoon_sdk.cli.session import GLOBAL

app = typer.Typer(
    name="cocoon",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Decentralised AI compute on TON: buy inference, sell GPU time, and see where every nanoTON goes.",
)
app.command()(explain.explain)
app.add_typer(job.app, name="job")
app.add_typer(escrow.app, name="escrow")
sessions = typer.Typer(no_args_is_help=True, help="Prepaid inference: deposits, vouchers, and who redeems.")
session_commands.add_to(sessions)
watchtower.add_to(sessions)
app.add_typer(sessions, name="session")
app.add_typer(audit.app, name="audit")
app.add_typer(worker.app, name="worker")
app.add_typer(models.workers, name="workers")
app.add_typer(models.models, name="models")
app.add_typer(model.app, name="model")
app.add_typer(verify.app, name="verify")
app.add_typer(keys.app, name="key")
app.add_typer(gateway.app, name="gateway")
app.add_typer(arbiter.app, name="arbiter")
app.add_typer(sandbox.app, name="sandbox")
app.command()(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"cocoon {version('cocoon-sdk')}")
        raise typer.Exit


@app.callback()
def root(
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="toncenter-compatible API [COCOON_ENDPOINT].")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="mainnet|testnet|FILE",
            help="TON's liteservers instead of an API: a name, or a global configuration [COCOON_NETWORK].",
        ),
    ] = None,
    registry: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Registry of the network [COCOON_REGISTRY].")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take options that stand in front of every command."""
    GLOBAL.endpoint, GLOBAL.network, GLOBAL.registry, GLOBAL.debug = endpoint, network, registry, debug


def main() -> None:
    """Run the command line."""
    app()
