"""`cocoon worker`: running a worker, and the owner's side of its stake.

Only here and in the demo does the SDK's package know the worker's; both are imported when a command runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocoon_sdk.cli import worker_sessions
from cocoon_sdk.cli.options import Amount, DryRun, Index, Json, Yes
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from cocoon_sdk.contracts.sender import OwnerMessage
    from cocoon_sdk.contracts.worker_stake import WorkerStake
    from cocoon_sdk.crypto import SigningKey

app = typer.Typer(no_args_is_help=True, help="Serve jobs with a GPU, and manage the stake behind it.")


@app.command("run")
def run_(
    config: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The worker's settings (default: worker.toml).")
    ] = None,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read all files of the model, also what did not change.")
    ] = False,
) -> None:
    """Run a worker until Ctrl-C or SIGTERM; logs go to standard error."""

    async def work(session: Session) -> None:
        from cocoon_sdk.logs import log_to_stderr
        from cocoon_worker.config import load_config
        from cocoon_worker.main import run as serve

        settings = load_config(config)
        if rehash:
            settings = settings.model_copy(update={"rehash": True})
        log_to_stderr(as_json=settings.log_json, level=settings.log_level)
        await serve(settings)

    run(work, swift=True)


@app.command()
def setup(
    operator_key: Annotated[
        Path, typer.Option("--operator-key", metavar="FILE", help="Operator's key file; made if missing.")
    ],
    stake: Annotated[str, typer.Option("--stake", metavar="TON", help="Collateral for jobs.")],
    gas: Annotated[str, typer.Option("--gas", metavar="TON", help="For the worker's messages.")] = "1",
    max_locked: Annotated[
        str | None, typer.Option("--max-locked", metavar="TON", help="Most at risk at once; default: all.")
    ] = None,
    index: Index = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Create, configure and fund a stake from the owner's wallet."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount
        from cocoon_worker.setup import create_stake

        account = _stake(session)
        key = _operator(session, operator_key, dry_run=dry_run)
        messages = create_stake(
            account,
            key.verify_key,
            amount=parse_amount(stake),
            gas=parse_amount(gas),
            max_locked=None if max_locked is None else parse_amount(max_locked),
        )
        if await _send(session, account, messages, "create and fund the stake", yes=yes, dry_run=dry_run):
            await _status(session)

    run(work, as_json=as_json, index=index)


@app.command()
def status(index: Index = None, as_json: Json = False) -> None:
    """Show the stake: what is locked, earned, unbonding."""
    run(_status, as_json=as_json, index=index)


async def _status(session: Session) -> None:
    from cocoon_sdk.explain import AccountTarget, explain

    found = await explain(
        session.chain, AccountTarget(_stake(session).address), network=session.known_network
    )
    session.out.result(found.to_json(), found)


@app.command("add-stake")
def add_stake(
    amount: Amount, index: Index = None, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Add TON to the stake."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount
        from cocoon_worker.setup import top_up

        account = _stake(session)
        messages = top_up(account, amount=parse_amount(amount))
        if await _send(session, account, messages, "add stake", yes=yes, dry_run=dry_run):
            await _status(session)

    run(work, as_json=as_json, index=index)


@app.command()
def unbond(
    amount: Annotated[
        str | None, typer.Argument(metavar="[TON]", help="Default: all that is not locked.")
    ] = None,
    index: Index = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Start to take stake out; `cocoon worker withdraw` brings it after the delay."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount
        from cocoon_worker.setup import start_unbonding

        account = _stake(session)
        wanted = None if amount is None else parse_amount(amount)
        messages = start_unbonding(account, await account.state(), wanted)
        if await _send(session, account, messages, "start unbonding", yes=yes, dry_run=dry_run):
            await _status(session)

    run(work, as_json=as_json, index=index)


@app.command()
def withdraw(
    keep_gas: Annotated[str, typer.Option("--keep-gas", metavar="TON", help="Gas that stays.")] = "1",
    index: Index = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring home all that can leave now: earnings, unbonded stake, gas above what stays."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import parse_amount
        from cocoon_worker.setup import collect

        account, keep = _stake(session), parse_amount(keep_gas, zero=True)
        messages = collect(account, await account.state(), now=await session.now(), keep_gas=keep)
        if not messages:
            session.out.result({"sent": False, "why": "nothing can leave now"}, "Nothing can leave now.")
        elif await _send(session, account, messages, "withdraw", yes=yes, dry_run=dry_run):
            await _status(session)

    run(work, as_json=as_json, index=index)


app.command()(worker_sessions.sessions)
app.command()(worker_sessions.redeem)


# -- what they share -------------------------------------------------------------------------------------


def _stake(session: Session) -> WorkerStake:
    from cocoon_sdk.contracts.worker_stake import WorkerStake

    settings = session.settings
    return WorkerStake.from_owner(
        session.chain, session.network, session.owner, settings.index, previous_code=settings.previous_code
    )


def _operator(session: Session, path: Path, *, dry_run: bool) -> SigningKey:
    """Read the operator's key, or make it. Raises `KeyMaterialError`."""
    from cocoon_sdk.crypto import SigningKey, read_signing_key_file, write_key_file

    if path.exists() or path.is_symlink():
        return read_signing_key_file(path)
    key = SigningKey.generate()
    if not dry_run:
        write_key_file(path, key)
        session.out.note(f"Made the operator's key {path}")
    return key


async def _send(
    session: Session,
    account: WorkerStake,
    messages: Sequence[OwnerMessage],
    what: str,
    *,
    yes: bool,
    dry_run: bool,
) -> bool:
    """Show, get a yes, send, and wait until the stake has them; False when it was only to be shown."""
    from cocoon_sdk.cli.arrival import wait_arrival
    from cocoon_sdk.cli.money import agree, moves_of

    wallet = session.wallet
    moves = moves_of(wallet.address, messages, what)
    note = "What the messages bring beyond their purpose pays gas; the rest stays in the stake or comes back."
    if not agree(session.out, moves, note=note, yes=yes, dry_run=dry_run):
        return False
    with session.out.step(f"Sending: {what}"):
        last_lt = (await account.account()).last_lt
        await wallet.send(messages)
        await wait_arrival(session.chain, account.address, wallet.address, messages, last_lt, what)
    return True
