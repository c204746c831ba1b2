"""`cocoon session redeem` and `cocoon session watch`: redeeming for a worker, with vouchers that it exported.

Owns reading the files, the loop and what is shown. When to act is `cocoon_sdk.client.watchtower`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cocoon_sdk.cli.options import DryRun, Json, Yes
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from cocoon_sdk.client.watchtower import Watched, Watchtower
    from cocoon_sdk.protocol.voucher_file import SavedVoucher

MAX_FILES: Final = 10_000
_WAIT_S: Final = 10.0

Files = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="Voucher files, or folders of them (*.voucher.json).")
]
Least = Annotated[str, typer.Option("--least", metavar="TON", help="Leave what is worth less.")]


def add_to(app: typer.Typer) -> None:
    """Add both commands to `cocoon session`."""
    app.command()(redeem)
    app.command()(watch)


def redeem(
    files: Files,
    least: Least = "0.05",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Redeem a worker's vouchers now, from your own wallet; the money goes to the worker."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import agree, moves_of, parse_amount
        from cocoon_sdk.client.watchtower import Outlook, Watchtower

        tower = Watchtower(session.chain, session.network, least=parse_amount(least))
        vouchers = _read(session, files)
        seen = [await tower.look(saved) for saved in vouchers]
        worth = {Outlook.OPEN, Outlook.WORKER_FIRST, Outlook.DUE}
        chosen = [watched.saved for watched in seen if watched.outlook in worth]
        if chosen:
            wallet = session.wallet
            messages = [tower.message(saved) for saved in chosen]
            note = "This is gas: what a redemption does not use goes to the worker, as does what it redeems."
            moves = moves_of(wallet.address, messages, "redeem a voucher")
            if not agree(session.out, moves, note=note, yes=yes, dry_run=dry_run):
                return
            with session.out.step(f"Redeeming {len(chosen)} vouchers"):
                await _redeem(session, tower, chosen)
                seen = [await tower.look(saved) for saved in vouchers]
        _show(session, seen)

    run(work, as_json=as_json)


def watch(
    files: Files,
    least: Least = "0.05",
    before: Annotated[
        int, typer.Option("--before", metavar="SECONDS", min=60, help="Act so long before money can be lost.")
    ] = 12 * 3600,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=1.0)] = 60.0,
    rounds: Annotated[int, typer.Option("--rounds", min=0, help="Stop after so many; 0: never.")] = 0,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Watch over a worker's vouchers until Ctrl-C, and redeem those that the worker leaves too long."""

    async def work(session: Session) -> None:
        import asyncio

        from cocoon_sdk.cli.money import NotConfirmedError, parse_amount
        from cocoon_sdk.client.watchtower import Watchtower
        from cocoon_sdk.errors import ChainError

        if not yes:
            raise NotConfirmedError(
                "a watchtower spends gas without asking",
                why="about 0.02 TON of your wallet for each redemption",
                hint="Pass --yes",
            )
        tower = Watchtower(session.chain, session.network, least=parse_amount(least), before_s=before)
        number, seen = 0, []
        while True:
            try:
                seen = await _round(session, tower, files)
            except ChainError as error:
                session.out.note(f"The endpoint does not answer: {error}")
            number += 1
            if number == rounds:
                break
            await asyncio.sleep(every)
        _show(session, seen)

    run(work, as_json=as_json)


async def _round(session: Session, tower: Watchtower, files: Sequence[Path]) -> list[Watched]:
    from cocoon_sdk.client.watchtower import Outlook
    from cocoon_sdk.types import format_ton

    vouchers = _read(session, files)
    seen = [await tower.look(saved) for saved in vouchers]
    due = [watched for watched in seen if watched.outlook is Outlook.DUE]
    for watched in due:
        session.out.note(f"Redeeming {format_ton(watched.due)} TON of {_name(watched)}")
    if due:
        await _redeem(session, tower, [watched.saved for watched in due])
        seen = [await tower.look(saved) for saved in vouchers]
    return seen


async def _redeem(session: Session, tower: Watchtower, vouchers: Sequence[SavedVoucher]) -> None:
    """Send redemptions and wait a while for their effect; whoever was faster, the worker has its money."""
    from cocoon_sdk.client.watchtower import Outlook

    await tower.redeem(vouchers, session.wallet)
    head = await session.chain.head()
    left = list(vouchers)
    for _ in range(18):
        left = [
            saved
            for saved in left
            if (await tower.look(saved)).outlook not in (Outlook.NOTHING_DUE, Outlook.ENDED)
        ]
        if not left:
            return
        head = await session.chain.wait_head(head.seqno, _WAIT_S)
    session.out.note(f"{len(left)} redemptions show no effect yet")


def _read(session: Session, files: Sequence[Path]) -> list[SavedVoucher]:
    """Read all files; one that cannot be read is told about and left out. The best of each session counts."""
    from cocoon_sdk.errors import CocoonError, ConfigError
    from cocoon_sdk.protocol.voucher_file import MAX_FILE_BYTES, SUFFIX, SavedVoucher

    paths: list[Path] = []
    for file in files:
        paths += sorted(file.glob(f"*{SUFFIX}")) if file.is_dir() else [file]
    if len(paths) > MAX_FILES:
        raise ConfigError("too many vouchers", why=f"{len(paths)} files, at most {MAX_FILES}")
    best: dict[str, SavedVoucher] = {}
    for path in paths:
        try:
            with path.open("rb") as source:
                saved = SavedVoucher.from_bytes(source.read(MAX_FILE_BYTES + 1))
        except OSError as error:
            session.out.note(f"{path}: {error.strerror}")
            continue
        except CocoonError as error:
            session.out.note(f"{path}: {error}")
            continue
        if saved.name not in best or best[saved.name].voucher.amount < saved.voucher.amount:
            best[saved.name] = saved
    return list(best.values())


def _name(watched: Watched) -> str:
    saved = watched.saved
    return f"{saved.escrow.to_str(is_user_friendly=False)}/{saved.session.session_id}"


def _show(session: Session, seen: Sequence[Watched]) -> None:
    from rich.table import Table

    from cocoon_sdk.types import format_ton

    table = Table("session", "outlook", "signed", "due", "why")
    document: list[dict[str, Any]] = []
    for watched in seen:
        amount = watched.saved.voucher.amount
        document.append(
            {
                "session": _name(watched),
                "outlook": watched.outlook.value,
                "signed_nano": str(int(amount)),
                "due_nano": str(int(watched.due)),
                "settle_at": watched.settle_at,
                "why": watched.why,
            }
        )
        row = (
            _name(watched),
            watched.outlook.value,
            format_ton(amount),
            format_ton(watched.due),
            watched.why,
        )
        table.add_row(*row)
    session.out.result({"vouchers": document}, table if seen else "No vouchers.")
