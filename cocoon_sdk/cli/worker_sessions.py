"""`cocoon worker sessions` and `cocoon worker redeem`: what clients signed, and fetching it now.

Owns the options and what is shown. Reads the worker's journal beside a running worker; redeeming goes through
that worker, or through this process while none runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cocoon_sdk.cli.options import DryRun, Json, Yes
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from rich.table import Table

    from cocoon_worker.sessions.records import SessionEntry

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The worker's settings (default: worker.toml)."),
]
_TIME = "%Y-%m-%d %H:%M"


def sessions(
    config: Config = None,
    everything: Annotated[bool, typer.Option("--all", help="Show sessions that have ended, too.")] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FOLDER", help="Write vouchers that are not redeemed, as files."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List sessions: what is signed, used up, redeemed, and until when the rest has to be redeemed."""

    async def work(session: Session) -> None:
        from cocoon_worker.config import load_config
        from cocoon_worker.sessions.once import reading
        from cocoon_worker.sessions.records import SessionState

        with reading(load_config(config)) as (book, owner):
            states = list(SessionState) if everything else [SessionState.OPEN, SessionState.CLOSING]
            found = book.entries(states)
            totals = {name: str(int(amount)) for name, amount in book.totals().items()}
            written = [] if export is None else _export(export, book.unredeemed_entries(), owner)
        document: dict[str, Any] = {"sessions": [_document(entry) for entry in found], "totals_nano": totals}
        if export is not None:
            document["files"] = [str(path) for path in written]
            session.out.note(f"Wrote {len(written)} vouchers into {export}")
        session.out.result(document, _table(found) if found else "No sessions.")

    run(work, as_json=as_json)


def redeem(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SESSION]...", help="ESCROW/ID; default: all with money.")
    ] = None,
    config: Config = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Redeem what clients signed, now; the gas comes out of the stake."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import Move, agree
        from cocoon_sdk.logs import log_to_stderr
        from cocoon_worker.config import load_config
        from cocoon_worker.main import make_chain
        from cocoon_worker.sessions.once import reading, redeem_now
        from cocoon_worker.sessions.wishes import parse_key

        settings = load_config(config)
        keys = [parse_key(name) for name in names] if names else None
        with reading(settings) as (book, owner):
            due = [entry for entry in book.unredeemed_entries() if keys is None or entry.key in keys]
        if not due:
            session.out.result({"redeemed": []}, "Nothing is due.")
            return
        stake = _stake(owner)
        moves = [Move(e.key.address, stake, e.unredeemed, f"redeem session {e.key.session_id}") for e in due]
        note = "Each redemption takes up to 0.008 TON of gas from the stake, and the protocol's fee."
        if not agree(session.out, moves, note=note, yes=yes, dry_run=dry_run):
            return
        log_to_stderr(as_json=settings.log_json, level=settings.log_level)
        chain = make_chain(settings)
        try:
            after = await redeem_now(settings, chain, keys, report=session.out.note)
        finally:
            await chain.close()
        session.out.result({"redeemed": [_document(entry) for entry in after]}, _table(after))

    run(work, as_json=as_json)


def _stake(owner: str) -> Any:
    from pytoniq_core import Address

    return Address(owner.partition(":")[2])


def _export(folder: Path, entries: Sequence[SessionEntry], owner: str) -> list[Path]:
    from cocoon_sdk.errors import ConfigError
    from cocoon_worker.sessions.export import saved_voucher, write_voucher

    global_id, stake = int(owner.partition(":")[0]), _stake(owner)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [write_voucher(folder, saved_voucher(entry, global_id, stake)) for entry in entries]
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}", why=error.strerror or "") from None


def _document(entry: SessionEntry) -> dict[str, Any]:
    amounts = ("deposit", "signed", "booked", "redeemed", "paid", "fee", "unredeemed", "lost", "collateral")
    return {
        "session": str(entry.key),
        "state": entry.state.value,
        "guard": entry.guard.value,
        **{f"{name}_nano": str(int(getattr(entry, name))) for name in amounts},
        "expires": entry.expires,
        "settle_at": entry.settle_at,
        "under_way": bool(entry.asked),
        "reason": entry.reason,
    }


def _table(entries: Sequence[SessionEntry]) -> Table:
    from datetime import UTC, datetime

    from rich.table import Table

    from cocoon_sdk.types import format_ton

    table = Table("session", "state", "signed", "used", "paid out", "due", "redeem until (UTC)")
    for entry in entries:
        until = datetime.fromtimestamp(entry.settle_at, UTC).strftime(_TIME)
        amounts = (entry.signed, entry.booked, entry.settled, entry.unredeemed)
        table.add_row(str(entry.key), entry.state.value, *(format_ton(each) for each in amounts), until)
    return table
