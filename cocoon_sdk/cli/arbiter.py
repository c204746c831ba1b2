"""`cocoon arbiter`: deciding disputes, and looking at what an arbiter does.

Owns wiring, key files, signals and what is shown. Deciding is `cocoon_sdk.arbiter`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cocoon_sdk.cli.options import Json
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from rich.text import Text

    from cocoon_sdk.arbiter.rescoring import JudgedModel
    from cocoon_sdk.arbiter.service import ArbiterService
    from cocoon_sdk.cli.arbiter_settings import ArbiterSettings
    from cocoon_sdk.client.arbiter_endpoints import Overview
    from cocoon_sdk.crypto import BoxKey
    from cocoon_sdk.types import Hash

app = typer.Typer(no_args_is_help=True, help="Decide disputes: evidence, re-scoring, verdicts.")
EVIDENCE_KEY: Final = "evidence.json"
DATABASE: Final = "arbiter.sqlite"

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings [arbiter.toml, COCOON_ARBITER_CONFIG]."),
]


@app.command("run")
def run_arbiter(
    config: Config = None,
    escrow: Annotated[
        list[str] | None,
        typer.Option(
            "--escrow",
            metavar="ADDRESS",
            help="Also look through this escrow's jobs and sessions; repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Follow disputes, judge them and sign verdicts, until Ctrl-C."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.arbiter_settings import load_arbiter_settings
        from cocoon_sdk.explain.target import parse_address
        from cocoon_sdk.logs import log_to_stderr

        settings = load_arbiter_settings(config)
        log_to_stderr(as_json=settings.log_json)
        named = [parse_address(text) for text in escrow or []]
        async with _service(session, settings) as service:
            for address in named:
                await service.look_through(address)
            info = service.info()
            document = {
                "key": info.key.hex,
                "evidence_key": info.box_key.hex,
                "port": service.port,
                "peers": len(settings.peers),
                "models": sorted(settings.models),
                "following": len(service.hearings()),
            }
            shown = f"Arbiter {info.key.hex}\n  listens on {settings.host} port {service.port}"
            session.out.result(document, f"{shown}, follows {len(service.hearings())} disputes")
            await _until_signalled(service)

    run(work, as_json=as_json)


@app.command()
def status(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="Any arbiter; without it, the one of the settings.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show which disputes an arbiter follows and where each stands."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.arbiter_settings import load_arbiter_settings
        from cocoon_sdk.client.arbiter_endpoints import ArbiterEndpoints
        from cocoon_sdk.protocol.offers import check_endpoint

        asked = url
        if asked is None:
            settings = load_arbiter_settings(config)
            host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
            asked = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
        endpoints = ArbiterEndpoints()
        session.closing.push_async_callback(endpoints.close)
        info = await endpoints.info(check_endpoint(asked))
        _show(session, info.key.hex, await endpoints.overview(asked))

    run(work, as_json=as_json)


def _service(session: Session, settings: ArbiterSettings) -> ArbiterService:
    from cocoon_sdk.arbiter.rescoring import RescoringJudge
    from cocoon_sdk.arbiter.service import ArbiterService
    from cocoon_sdk.arbiter.store import ArbiterStore
    from cocoon_sdk.client.arbiters import Arbiters
    from cocoon_sdk.client.wallets import KeyWallet
    from cocoon_sdk.contracts.registry import Registry
    from cocoon_sdk.crypto import read_signing_key_file
    from cocoon_sdk.errors import ConfigError
    from cocoon_sdk.storage import SqliteDatabase

    key = read_signing_key_file(settings.key_file)
    wallet = None
    if settings.wallet_key_file is not None:
        wallet_key = read_signing_key_file(settings.wallet_key_file)
        if wallet_key.verify_key == key.verify_key:
            raise ConfigError(
                "refused to use the verdict key for a wallet",
                why="a key that signs verdicts must hold no money",
                hint="Make another one with `cocoon key new`",
            )
        wallet = KeyWallet(session.chain, wallet_key, version=settings.wallet_version)
    registry = Registry.at(session.chain, session.network.registry)

    async def calibration(model_id: Hash) -> Hash | None:
        entry = await registry.model(model_id)
        return None if entry is None else entry.calibration_hash

    return ArbiterService(
        settings.config(),
        session.chain,
        session.network,
        key,
        _evidence_key(settings.data_dir),
        ArbiterStore(SqliteDatabase(settings.data_dir / DATABASE)),
        RescoringJudge(models_of(settings), calibration),
        Arbiters(settings.peers),
        wallet=wallet,
    )


def _evidence_key(folder: Path) -> BoxKey:
    """Return the key that evidence is sealed to; made when there is none."""
    from cocoon_sdk.crypto import BoxKey, read_box_key_file, write_key_file
    from cocoon_sdk.errors import ConfigError

    path = folder / EVIDENCE_KEY
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use {folder}", why=error.strerror or "") from None
    if not path.exists():
        write_key_file(path, BoxKey.generate())
    return read_box_key_file(path)


def models_of(settings: ArbiterSettings) -> dict[Hash, JudgedModel]:
    """Return what judges each model of the settings, by its id.

    Raises `ConfigError`, `MalformedError` and `ModelDiffersError` for files of another model.
    """
    from cocoon_sdk.arbiter.rescoring import JudgedModel
    from cocoon_sdk.cli.verify_options import read_thresholds
    from cocoon_sdk.errors import ConfigError
    from cocoon_sdk.types import Hash
    from cocoon_sdk.verify.model_facts import facts_of
    from cocoon_sdk.verify.model_files import read_manifest
    from cocoon_sdk.verify.rescoring import Verifier

    found: dict[Hash, JudgedModel] = {}
    for text, model in settings.models.items():
        model_id = Hash(bytes.fromhex(text))
        manifest = read_manifest(model.manifest)
        if manifest.digest != model_id:
            raise ConfigError(
                f"cannot judge answers of model {text[:16]}",
                why=f"{model.manifest} is the manifest of model {manifest.digest.hex()[:16]}",
                hint="The hash of a manifest is the model's id",
            )
        facts = facts_of(manifest, model.folder or model.manifest.parent)
        verifier = Verifier(
            model.url,
            None if model.api_key is None else model.api_key.get_secret_value(),
            model.engine_model,
            top=model.top,
            end_tokens=facts.end_tokens,
        )
        limits = read_thresholds(model.thresholds, model_id)
        found[model_id] = JudgedModel(verifier, limits, facts.context, model.most_tokens)
    return found


async def _until_signalled(service: ArbiterService) -> None:
    import asyncio
    import signal

    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, service.stop)
    try:
        await service.run()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _show(session: Session, key: str, overview: Overview) -> None:
    from rich.console import Group
    from rich.table import Table

    from cocoon_sdk.protocol.disputes import DisputeKind

    table = Table("dispute", "about", "evidence", "committed", "verdicts", "until")
    for each in overview.disputes:
        verdicts = {
            f"pay {one['pay']}, slash {one['slash']}"
            for one in each.get("verdicts", [])
            if isinstance(one, dict) and {"pay", "slash"} <= one.keys()
        }
        what = "session" if each.get("kind") == DisputeKind.SESSION else "job"
        row = (
            each["digest"][:16],
            f"{what} {each.get('escrow')}/{each.get('id')}",
            ", ".join(map(str, each.get("held", []))) or "-",
            f"{len(each.get('committed', []))} of {each.get('needed')}",
            "; ".join(sorted(verdicts)) or "-",
            str(each.get("ends_at")),
        )
        table.add_row(*(_plain(cell) for cell in row))
    lines = [] if overview.disputes else [f"Arbiter {key} follows no dispute."]
    if overview.accepts_evidence:
        lines.append("It accepts evidence.")
    else:
        lines.append("It accepts no evidence now: its log says why. Bring evidence to the others meanwhile.")
    document = {
        "key": key,
        "accepts_evidence": overview.accepts_evidence,
        "disputes": list(overview.disputes),
    }
    text = "\n".join(lines)
    session.out.result(document, Group(table, text) if overview.disputes else text)


def _plain(text: str) -> Text:
    """Return what another machine said: bounded, without markup or anything that moves a cursor."""
    from rich.text import Text

    return Text("".join(char if char.isprintable() else "?" for char in text[:120]))
