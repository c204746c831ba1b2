"""`cocoon audit list|score|forgive`: what a client's own checks of its results came to.

Owns the options and what is shown. Must not know how results are checked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cocoon_sdk.cli.options import Index, Json
from cocoon_sdk.cli.session import Session, run

if TYPE_CHECKING:
    from pytoniq_core import Address

    from cocoon_sdk.client.auditing import AuditRecord, WorkerScore

app = typer.Typer(no_args_is_help=True, help="Your own checks of results: findings, and scores of workers.")

Database = Annotated[
    str | None,
    typer.Option("--database", metavar="FILE|URL", help="Where findings are kept [COCOON_DATABASE]."),
]
_TIME: Final = "%Y-%m-%d %H:%M"


@app.command("list")
def list_(
    worker: Annotated[
        str | None, typer.Option("--worker", metavar="ADDRESS", help="Only results of this worker.")
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="The newest so many.")] = 100,
    database: Database = None,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """List findings, newest first: whose result, what came of its check, and of its dispute."""

    async def work(session: Session) -> None:
        from rich.table import Table

        audits = (await session.client()).audits
        found = await audits.list(worker=None if worker is None else _address(worker), most=most)
        table = Table("when", "result", "worker", "outcome", "dispute", "cost TON", "why")
        for each in found:
            table.add_row(*_finding_row(each))
        session.out.result([_finding_json(each) for each in found], table if found else "No findings.")

    run(work, as_json=as_json, index=index, database=database)


@app.command()
def score(database: Database = None, index: Index = None, as_json: Json = False) -> None:
    """Show what the checks of each worker came to, all together, and who is not asked any more."""

    async def work(session: Session) -> None:
        from rich.table import Table

        found = await (await session.client()).audits.scores()
        counts = ("checked", "passed", "suspect", "failed", "unchecked", "answers", "without receipt")
        table = Table("worker", "model", *counts, "left")
        for each in found:
            table.add_row(*_score_row(each))
        session.out.result([_score_json(each) for each in found], table if found else "No scores.")

    run(work, as_json=as_json, index=index, database=database)


@app.command()
def forgive(
    worker: Annotated[str, typer.Argument(metavar="ADDRESS", help="The worker's stake.")],
    database: Database = None,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """Begin a worker's score anew and ask it again; findings stay."""

    async def work(session: Session) -> None:
        address = _address(worker)
        forgiven = await (await session.client()).audits.forgive(address)
        words = "Its score begins anew." if forgiven else "It had no score."
        session.out.result({"worker": address.to_str(), "forgiven": forgiven}, words)

    run(work, as_json=as_json, index=index, database=database)


def _address(text: str) -> Address:
    from cocoon_sdk.explain.target import parse_address

    return parse_address(text)


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME) if seconds else ""


def _finding_row(record: AuditRecord) -> tuple[str, ...]:
    from cocoon_sdk.types import format_ton

    dispute = f"{record.dispute}: {record.dispute_why}" if record.dispute_why else str(record.dispute)
    return (
        _when(record.started_at),
        str(record.subject),
        record.subject.worker.to_str(),
        str(record.outcome),
        dispute,
        format_ton(record.cost),
        record.why,
    )


def _finding_json(record: AuditRecord) -> dict[str, Any]:
    subject = record.subject
    return {
        "what": str(subject.what),
        "number": subject.number,
        "request": subject.request,
        "worker": subject.worker.to_str(),
        "model": subject.model,
        "model_id": bytes(subject.model_id).hex(),
        "amount_nano": str(int(subject.amount)),
        "outcome": str(record.outcome),
        "level": record.level,
        "why": record.why,
        "numbers": record.numbers,
        "verifier": record.verifier,
        "cost_nano": str(int(record.cost)),
        "dispute": str(record.dispute),
        "dispute_why": record.dispute_why,
        "bond_nano": str(int(record.bond)),
        "started_at": record.started_at,
        "ended_at": record.ended_at,
    }


def _score_row(score: WorkerScore) -> tuple[str, ...]:
    left = f"{_when(score.left_at)}: {score.left_why}" if score.left_at else ""
    checks = (score.checked, score.passed, score.suspect, score.failed, score.unchecked)
    counts = (*checks, score.answers, score.unreceipted)
    return (score.worker.to_str(), score.model, *(str(count) for count in counts), left)


def _score_json(score: WorkerScore) -> dict[str, Any]:
    return {
        "worker": score.worker.to_str(),
        "model": score.model,
        "model_id": bytes(score.model_id).hex(),
        "checked": score.checked,
        "passed": score.passed,
        "suspect": score.suspect,
        "failed": score.failed,
        "unchecked": score.unchecked,
        "answers": score.answers,
        "unreceipted": score.unreceipted,
        "score": score.state,
        "left_at": score.left_at or None,
        "left_why": score.left_why,
    }
