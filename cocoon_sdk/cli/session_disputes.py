"""`cocoon session dispute|evidence`: arbiters about what was done in a guarded session.

Owns the options, and reading what a dispute stands on. Must not know how it is sent, or what it is worth.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cocoon_sdk.cli.options import DryRun, Index, Json, Yes
from cocoon_sdk.cli.session import Session, run
from cocoon_sdk.cli.session_commands import Database, Force, Number, sessions_of, show_session

if TYPE_CHECKING:
    from cocoon_sdk.protocol.session_evidence import SessionEvidence

_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")


def dispute(
    number: Number,
    shown: Annotated[
        str,
        typer.Argument(
            metavar="FILE|HASH",
            help="Evidence that it stands on, sent to the arbiters; or its hash: 64 digits.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="On whose market; default: the session's own model.")
    ] = None,
    force: Force = False,
    database: Database = None,
    index: Index = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Dispute what was done in a guarded session: arbiters judge its worker's collateral."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.money import Move, agree

        stands_on = _stands_on(shown)
        sessions = await sessions_of(session, hot_key=True)
        bond = await sessions.dispute_bond(number)
        escrow = (await session.client(hot_key=True)).escrow.address
        move = Move(escrow, escrow, bond, f"set aside for a dispute of session {number}, gas included")
        note = (
            "The announcement and the arbiters' fee come out of it; the rest comes back. If they slash the "
            "worker, the fee comes back, too. The worker may still redeem what you signed, and nothing more "
            "can be signed for the session. A session can be disputed once."
        )
        if agree(session.out, [move], note=note, yes=yes, dry_run=dry_run):
            with session.out.step("Disputing the session"):
                after = await sessions.dispute(number, stands_on, model=model, force=force)
            await show_session(session, after)

    run(work, as_json=as_json, index=index, database=database)


def evidence(
    number: Number,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Evidence that its dispute stands on.")],
    database: Database = None,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """Send what a session's dispute stands on to the arbiters, once more: without it the worker wins."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.verify_file import read_evidence

        stands_on = read_evidence(file)
        with session.out.step("Sending the evidence"):
            delivered = await (await sessions_of(session)).send_evidence(number, stands_on)
        taken = [each.index for each in delivered if each.taken]
        problems = {str(each.index): each.problem for each in delivered if each.problem}
        text = f"{len(taken)} of {len(delivered)} arbiters that are known here have it."
        session.out.result({"taken": taken, "problems": problems}, text)

    run(work, as_json=as_json, index=index, database=database)


def _stands_on(text: str) -> bytes | SessionEvidence:
    """Return the evidence in a file, or the hash that is written in its place."""
    from cocoon_sdk.cli.verify_file import read_evidence
    from cocoon_sdk.errors import ConfigError

    if _HASH.fullmatch(text):
        return bytes.fromhex(text)
    if not Path(text).is_file():
        why = f"{text[:80]!r} is neither a file nor a hash of 64 hex digits"
        raise ConfigError("cannot dispute the session", why=why)
    return read_evidence(Path(text))
