"""`cocoon session dispute|evidence`: arbiters about what was done in a guarded session.

Owns the options, reading what a dispute stands on, and writing it into a file. Must not know how it is sent,
or what it is worth.
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
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="Evidence that its dispute stands on; default: what your audits have kept."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Send nothing: write what your audits have kept into a new file, for `cocoon verify FILE`. "
            "It holds prompts and answers in the clear; only you can read it.",
        ),
    ] = None,
    database: Database = None,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """Send what a session's dispute stands on to the arbiters, once more: without it the worker wins.

    With --output write it into a file, which holds prompts and answers: hand it only to whom may read them.
    """

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.verify_file import read_evidence

        if output is not None:
            await _export(session, number, file, output)
            return
        stands_on = await _kept(session, number) if file is None else read_evidence(file)
        with session.out.step("Sending the evidence"):
            delivered = await (await sessions_of(session)).send_evidence(number, stands_on)
        taken = [each.index for each in delivered if each.taken]
        problems = {str(each.index): each.problem for each in delivered if each.problem}
        text = f"{len(taken)} of {len(delivered)} arbiters that are known here have it."
        session.out.result({"taken": taken, "problems": problems}, text)

    run(work, as_json=as_json, index=index, database=database)


async def _export(session: Session, number: int, file: Path | None, output: Path) -> None:
    from cocoon_sdk.cli.files import write_private
    from cocoon_sdk.errors import ConfigError

    if file is not None:
        raise ConfigError(
            "cannot write the evidence", why=f"{file} is evidence in a file already", hint="Leave FILE out"
        )
    found = await _kept(session, number)
    write_private(output, found.to_bytes())
    document = {
        "file": str(output),
        "evidence_hash": found.digest().hex(),
        "requests": [record.rid for record in found.records],
    }
    text = (
        f"{output} holds {len(found.records)} prompts and answers in the clear; only you can read it.\n"
        f"Check them with `cocoon verify {output} --endpoint URL`."
    )
    session.out.result(document, text)


async def _kept(session: Session, number: int) -> SessionEvidence:
    """Return what audits have kept of a session; the hot key opens it."""
    return await (await session.client(hot_key=True)).audits.evidence(number)


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
