"""`cocoon sandbox`: a whole network on this machine, to try things on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cocoon_sdk.cli.options import Json
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from pathlib import Path

    from cocoon_sdk.demo.engines import ReadyEngine
    from cocoon_sdk.demo.localnet import LocalNetwork

app = typer.Typer(no_args_is_help=True, help="A TON sandbox with the whole contract suite, on this machine.")
ACTORS = ("client", "worker")


@app.callback()
def _sandbox() -> None:
    """Keep `up` a subcommand."""


@app.command()
def up(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="TCP port on loopback; 0 picks one.")
    ] = 0,
    funds: Annotated[
        str, typer.Option("--funds", metavar="TON", help="What each wallet starts with.")
    ] = "1000",
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Run a worker with the labelled echo engine.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Serve a sandbox with a freshly deployed suite over the toncenter API, until Ctrl-C.

    Prints the endpoint, the registry and funded wallets, and writes their keys and a settings file for
    `cocoon` into a private folder that goes away with the sandbox. The chain's clock follows this machine's.
    """
    run(lambda session: _up(session, port, funds, worker=worker), as_json=as_json)


async def _up(session: Session, port: int, funds: str, *, worker: bool) -> None:
    import asyncio
    import tempfile
    from pathlib import Path

    from cocoon_sdk.cli.logs import log_to_file
    from cocoon_sdk.cli.money import parse_amount
    from cocoon_sdk.demo.engines import EngineChoice, prepare
    from cocoon_sdk.demo.localnet import LocalNetwork
    from cocoon_sdk.errors import ConfigError

    amount = parse_amount(funds)
    # Closed last: what runs in it ends before it goes away.
    folder = Path(session.closing.enter_context(tempfile.TemporaryDirectory(prefix="cocoon-sandbox-")))
    log_to_file(folder / "worker.log")
    ready = await prepare(EngineChoice.ECHO, folder, session.out.note)
    try:
        local = await session.closing.enter_async_context(LocalNetwork([ready.model], port=port))
    except OSError as error:
        raise ConfigError(f"cannot serve on port {port}", why=error.strerror or str(error)) from None
    with session.out.step("Deploying registry and market"):
        await local.deploy()
    document = {
        "endpoint": local.endpoint,
        "registry": local.network.registry.to_str(),
        "models": [{"name": ready.model.name, "id": ready.model.model_id.hex()}],
        "folder": str(folder),
        "actors": [_actor(local, folder, name, amount) for name in ACTORS],
        "worker": None,
    }
    if worker:
        with session.out.step("Starting an echo worker"):
            document["worker"] = await _serve(session, local, ready, folder)
    session.out.result(document, _shown(document))
    session.out.note("Serving until Ctrl-C.")
    await asyncio.Event().wait()


async def _serve(session: Session, local: LocalNetwork, ready: ReadyEngine, folder: Path) -> str:
    """Stake and run a worker until the sandbox ends; return its stake."""
    import asyncio

    from cocoon_sdk.crypto import SigningKey
    from cocoon_sdk.demo.staffing import stake_worker
    from cocoon_sdk.types import Nano

    wallet = local.wallet("echo worker's wallet", SigningKey.generate(), Nano.ton(10))
    staff = await stake_worker(local, ready, wallet, folder)
    service = await session.closing.enter_async_context(staff.service(local))
    await service.settle()
    working = asyncio.create_task(service.run(), name="worker")

    async def end() -> None:
        service.stop()
        await asyncio.gather(working, return_exceptions=True)

    session.closing.push_async_callback(end)
    return str(staff.stake.to_str())


def _actor(local: LocalNetwork, folder: Path, name: str, amount: Any) -> dict[str, Any]:
    """Make a funded wallet with a hot key and settings for the command line."""
    from cocoon_sdk.cli.files import write_private
    from cocoon_sdk.crypto import SigningKey, write_key_file

    owner, hot = SigningKey.generate(), SigningKey.generate()
    owner_file, hot_file = folder / f"{name}-owner.key", folder / f"{name}-hot.key"
    write_key_file(owner_file, owner)
    write_key_file(hot_file, hot)
    wallet = local.wallet(name, owner, amount)
    settings = folder / f"{name}.toml"
    lines = {
        "endpoint": local.endpoint,
        "registry": local.network.registry.to_str(),
        "owner_key_file": str(owner_file),
        "hot_key_file": str(hot_file),
    }
    text = "".join(f'{key} = "{value}"\n' for key, value in lines.items())
    write_private(settings, f'{text}private_networks = ["127.0.0.0/8"]\npoll_s = 0.1\n')
    return {
        "name": name,
        "wallet": wallet.address.to_str(is_bounceable=False),
        "balance": str(amount),
        "owner_key_file": str(owner_file),
        "hot_key_file": str(hot_file),
        "config": str(settings),
    }


def _shown(document: dict[str, Any]) -> str:
    lines = [
        f"endpoint  {document['endpoint']}",
        f"registry  {document['registry']}",
        *(f"model     {model['name']} ({model['id']})" for model in document["models"]),
        f"worker    {document['worker'] or 'none'}",
    ]
    for actor in document["actors"]:
        lines += [
            "",
            f"{actor['name']}  {actor['wallet']} holds {actor['balance']}",
            f"  export COCOON_CONFIG={actor['config']}",
        ]
    return "\n".join(lines)
