"""`cocoon sandbox`: a whole network on this machine, to try things on, and the tools to steer it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from cocoon_sdk.cli.options import Json
from cocoon_sdk.cli.session import Session, run

app = typer.Typer(no_args_is_help=True, help="A TON sandbox on this machine: real TVM, blocks, servers.")

Folder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Folder of the sandbox [COCOON_SANDBOX]."),
]
AddressText: TypeAlias = Annotated[str, typer.Argument(metavar="ADDRESS", help="An account.")]
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@app.command()
def up(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="TCP port of the toncenter API; 0 picks one.")
    ] = 0,
    adnl_port: Annotated[
        int, typer.Option("--adnl-port", min=0, max=65535, help="TCP port of the liteserver; 0 picks one.")
    ] = 0,
    folder: Folder = None,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Keep nothing: the folder goes away with the sandbox.")
    ] = False,
    block_time: Annotated[
        float | None,
        typer.Option("--block-time", metavar="S", help="Seconds between blocks; else each send makes one."),
    ] = None,
    still: Annotated[bool, typer.Option("--still", help="Time stands still until `warp`.")] = False,
    suite: Annotated[bool, typer.Option("--suite/--no-suite", help="Deploy Cocoon's contracts.")] = True,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Run a worker with the labelled echo engine.")
    ] = True,
    accounts: Annotated[
        int,
        typer.Option("--accounts", min=0, max=1000, metavar="N", help="Funded wallets, 24 words each."),
    ] = 0,
    funds: Annotated[
        str, typer.Option("--funds", metavar="TON", help="What each wallet starts with.")
    ] = "1000",
    fork: Annotated[
        Path | None,
        typer.Option("--fork", metavar="FILE", help="Start from accounts saved with `save-accounts`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve a sandbox over the toncenter API and as a liteserver, until Ctrl-C.

    Prints endpoints, the registry and funded wallets, and writes their keys, settings for `cocoon` and a
    global config for lite clients into a private folder. The chain is kept there and goes on at the next
    `up`, unless it is --ephemeral. The chain's clock follows this machine's.
    """

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount
        from cocoon_sdk.cli.sandbox_place import ephemeral_folder, own_folder
        from cocoon_sdk.cli.sandbox_up import UpOptions
        from cocoon_sdk.cli.sandbox_up import up as serve
        from cocoon_sdk.errors import ConfigError

        if ephemeral and folder is not None:
            raise ConfigError("--ephemeral and --folder exclude each other")
        if still and suite:
            raise ConfigError(
                "--still needs --no-suite", why="Cocoon's clients and workers do not act on old blocks"
            )
        amount = parse_amount(funds)
        options = UpOptions(
            folder=ephemeral_folder() if ephemeral else own_folder(folder),
            ephemeral=ephemeral,
            port=port,
            adnl_port=adnl_port,
            block_time_s=block_time,
            still=still,
            suite=suite,
            worker=worker,
            accounts=accounts,
            funds=amount,
            fork=fork,
        )
        await serve(session, options)

    run(work, as_json=as_json)


@app.command()
def status(folder: Folder = None, as_json: Json = False) -> None:
    """Show the running sandbox: endpoints, chain, snapshots. Fails when none runs."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.sandbox_place import running_folders
        from cocoon_sdk.sandbox.control import ControlClient

        places = [folder.absolute()] if folder is not None else running_folders()
        found = []
        for client in [ControlClient(place) for place in places] or [_client(None)]:
            async with client:
                found.append(await client.call("status"))
        session.out.result({"sandboxes": found}, "\n\n".join(_status(each) for each in found))

    run(work, as_json=as_json)


@app.command()
def faucet(
    address: AddressText,
    amount: Annotated[str, typer.Argument(metavar="TON", help="How much to mint, such as 1.5.")],
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Mint money to an address."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount
        from cocoon_sdk.types import Nano

        nano = parse_amount(amount)
        async with _client(folder) as client:
            found = await client.call("faucet", address=address, amount=str(int(nano)))
        session.out.result(found, f"{address} got {nano} and holds {Nano(int(found['balance']))}")

    run(work, as_json=as_json)


@app.command()
def mine(
    blocks: Annotated[int, typer.Argument(metavar="N", min=1, max=10_000, help="How many blocks.")] = 1,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Seal blocks now, the first with everything that waits for one."""
    _change("mine", folder, as_json, blocks=blocks)


@app.command()
def warp(
    duration: Annotated[str, typer.Argument(metavar="DURATION", help="90, 90s, 15m, 2h, 3d or 1w.")],
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Let chain time pass; it stays ahead of this machine's clock."""

    async def work(session: Session) -> None:
        await _call_and_show(session, folder, "warp", seconds=parse_duration(duration))

    run(work, as_json=as_json)


@app.command()
def snapshot(
    name: Annotated[str, typer.Argument(metavar="NAME", help="1 to 64 of A-Z a-z 0-9 . _ -")],
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Remember the present under a name; an older snapshot of that name is replaced."""

    async def work(session: Session) -> None:
        async with _client(folder) as client:
            found = await client.call("snapshot", name=name)
        session.out.result(found, f"{name} is block {found['seqno']}")

    run(work, as_json=as_json)


@app.command()
def restore(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A snapshot's name; `status` lists them.")],
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Bring the chain back to a snapshot. Later blocks and later snapshots are gone."""
    _change("restore", folder, as_json, name=name)


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Bring the chain back to what `up` first printed. Everything since then is gone, snapshots too."""

    async def work(session: Session) -> None:
        from cocoon_sdk.errors import ConfigError

        async with _client(folder) as client:
            if not yes:
                if not session.out.is_interactive:
                    raise ConfigError(
                        "the sandbox was not reset", why="there is no terminal to ask on", hint="Pass --yes"
                    )
                if not typer.confirm(f"Throw away everything in {client.folder}?", err=True):
                    raise ConfigError("the sandbox was not reset", why="you said no")
            found = await client.call("reset")
        session.out.result(found, _block(found))

    run(work, as_json=as_json)


@app.command()
def logs(
    address: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", help="Only transactions of this account.")
    ] = None,
    transaction: Annotated[
        str | None,
        typer.Option("--tx", metavar="HASH", help="The whole trace of a transaction or a message."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at first.")] = 20,
    abi: Annotated[
        list[Path] | None,
        typer.Option("--abi", metavar="FILE", help='Tact .abi.json, or {"ops": {...}, "errors": {...}}.'),
    ] = None,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Show transactions as trees: who sent what to whom, values, fees, results by name.

    Cocoon's own contracts are named when the suite is there; more names come from --abi. With --follow
    --json every transaction is one line.
    """

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.sandbox_logs import show_logs

        async with _client(folder) as client:
            await show_logs(
                session,
                client,
                address=address,
                transaction=transaction,
                limit=limit,
                follow=follow,
                abis=abi or (),
            )

    run(work, as_json=as_json)


@app.command()
def save_accounts(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="The accounts to save.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="A toncenter URL, mainnet, testnet or a global config file (liteservers); "
            "the running sandbox if left out.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The new file.")] = Path(
        "accounts.json"
    ),
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Save accounts with their code, data and balance, for `cocoon sandbox up --fork FILE`."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.sandbox_saving import from_chain, from_sandbox

        if source is None:
            async with _client(folder) as client:
                found = await from_sandbox(client, addresses)
        else:
            found = await from_chain(session, source, addresses)
        found.accounts.write(output)
        session.out.result(found.to_json(output), found.words(output))

    run(work, as_json=as_json)


# -- parts ------------------------------------------------------------------------------------------------


def parse_duration(text: str) -> int:
    """Read a duration in seconds: `90`, `90s`, `15m`, `2h`, `3d`, `1w`. Raises `ConfigError`."""
    from cocoon_sdk.errors import ConfigError

    match = re.fullmatch(r"(\d{1,12})([smhdw]?)", text.strip())
    if match is None:
        raise ConfigError("not a duration", why=f"{text[:40]!r}", hint="Write it like 90s, 15m, 2h or 3d")
    return int(match[1]) * _UNITS[match[2]]


def _client(folder: Path | None) -> Any:
    from cocoon_sdk.cli.sandbox_place import connect

    return connect(folder)


def _change(method: str, folder: Path | None, as_json: bool, **values: Any) -> None:
    run(lambda session: _call_and_show(session, folder, method, **values), as_json=as_json)


async def _call_and_show(session: Session, folder: Path | None, method: str, **values: Any) -> None:
    async with _client(folder) as client:
        found = await client.call(method, **values)
    session.out.result(found, _block(found))


def _block(found: dict[str, Any]) -> str:
    return f"block {found['seqno']} at {_time(found['now'])}"


def _time(now: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC ({now})"


def _status(status: dict[str, Any]) -> str:
    sealing = "instant" if status["block_time_s"] is None else f"every {status['block_time_s']:g} s"
    clock = "follows this machine's" if status["follows_clock"] else "stands still until warp"
    if status["ahead_s"]:
        clock += f", {status['ahead_s']} s ahead"
    snapshots = ", ".join(f"{name} ({seqno})" for name, seqno in status["snapshots"].items())
    lines = [
        f"folder         {status['folder']}{'' if status['persistent'] else ' (goes away with the sandbox)'}",
        f"process        {status['pid']}",
        f"endpoint       {status['endpoint']}",
        f"liteserver     {status['adnl']}  (key {status['adnl_key']})",
        f"global config  {status['global_config']}",
        f"block          {status['seqno']}, sealing {sealing}",
        f"time           {_time(status['now'])}; the clock {clock}",
        f"accounts       {status['accounts']}, {status['transactions']} transactions",
        f"waiting        {status['waiting']} messages",
        f"snapshots      {snapshots or 'none'}",
    ]
    if status.get("registry"):
        lines += [f"registry       {status['registry']}", f"worker         {status['worker'] or 'none'}"]
    return "\n".join(lines)
