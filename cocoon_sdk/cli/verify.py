"""`cocoon verify`: was this answer made as promised?

Fetches a job's question and answer as its client (a session's come in a file: `verify_file`), has the answer
re-scored by a vLLM endpoint of the user's choice, and shows what the evidence comes to. The exit code says
the level, for scripts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from cocoon_sdk.cli import calibrate, verify_file
from cocoon_sdk.cli.options import Index, JobName, Json
from cocoon_sdk.cli.session import Session, run
from cocoon_sdk.cli.verify_options import (
    EXIT_NOT_CHECKABLE,
    EXITS,
    EndpointUrl,
    EndTokens,
    KeyFile,
    ModelFolder,
    ServedName,
    ThresholdsFile,
    Top,
    open_verifier,
    read_thresholds,
)

if TYPE_CHECKING:
    from cocoon_sdk.client.app import AsyncCocoon
    from cocoon_sdk.client.job import AsyncJob
    from cocoon_sdk.protocol.offers import Offer
    from cocoon_sdk.verify.checking import Findings
    from cocoon_sdk.verify.commitment import Commitment
    from cocoon_sdk.verify.structure import Question
    from cocoon_sdk.verify.thresholds import Thresholds

_JOB: Final = "job"
_FILE: Final = "file"


class _JobByDefault(TyperGroup):
    """`cocoon verify 7` is `cocoon verify job 7`, `cocoon verify FILE` is `cocoon verify file FILE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Take what is no command for a job, or for a file where there is one of this name."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            is_file = not args[0].isdecimal() and Path(args[0]).is_file()
            args = [_FILE if is_file else _JOB, *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_JobByDefault,
    no_args_is_help=True,
    help="Check answers. `cocoon verify JOB` and `cocoon verify FILE` leave with 0 when all is well, 3 "
    "suspect, 4 refund, 5 slash, 6 nothing to check.",
)

app.command()(calibrate.calibrate)
app.command(_FILE)(verify_file.verify_file)


@dataclass(frozen=True, slots=True)
class Asked:
    """One job's question and answer. `model` is the name under which it was asked for."""

    question: Question
    response: dict[str, Any]
    commitment: Commitment | None
    model: str

    @property
    def model_id(self) -> bytes:
        """The model that the terms name."""
        assert self.question.model_id is not None
        return self.question.model_id


@app.command(_JOB)
def verify_job(
    job: JobName,
    endpoint: EndpointUrl,
    api_key_file: KeyFile = None,
    model: ServedName = None,
    model_folder: ModelFolder = None,
    thresholds: ThresholdsFile = None,
    end_token: EndTokens = None,
    top: Top = 20,
    wait: Annotated[
        float | None, typer.Option("--wait", metavar="SECONDS", help="Longest time to wait for the result.")
    ] = None,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """Re-score a job's answer with one prefill and say whether it was made as promised. Pays nothing."""

    async def work(session: Session) -> None:
        from cocoon_sdk.cli.job import own_job
        from cocoon_sdk.verify.checking import NotCheckableError
        from cocoon_sdk.verify.verifying import verify

        client = await session.client(hot_key=True, open_escrow=True)
        try:
            with session.out.step(f"Fetching question and answer of job {job}"):
                asked = await asked_of(client, await own_job(client, job), wait)
            model_id = asked.model_id
            limits = None if thresholds is None else await _read_thresholds(client, thresholds, model_id)
            verifier = await open_verifier(
                session,
                endpoint,
                api_key_file,
                model or asked.model,
                top=top,
                end_tokens=end_token,
                folder=model_folder,
            )
            with session.out.step("Re-scoring the answer"):
                findings = await verify(asked.question, asked.response, asked.commitment, verifier, limits)
        except NotCheckableError as error:
            session.out.error(error)
            raise typer.Exit(EXIT_NOT_CHECKABLE) from None
        _show(session, findings)

    run(work, as_json=as_json, index=index)


async def asked_of(client: AsyncCocoon, job: AsyncJob, wait: float | None) -> Asked:
    """Return a job's question and answer, read from the chain and the worker, hashes checked.

    Raises `NotCheckableError` for what makes no tokens, and what fetching raises.
    """
    from cocoon_sdk.contracts.escrow import Escrow
    from cocoon_sdk.verify.checking import NotCheckableError
    from cocoon_sdk.verify.rescoring import CHAT, COMPLETION
    from cocoon_sdk.verify.seeds import job_seed
    from cocoon_sdk.verify.structure import Question

    result = await job.result(timeout=wait)
    asked = await job.payload()
    if asked.plain.kind not in (CHAT, COMPLETION):
        raise NotCheckableError("the answer cannot be checked", why=f"a {asked.plain.kind} makes no tokens")
    offer = await _offer(client, job, asked.terms_hash)
    domain = await Escrow.at(client.chain, client.escrow.address).domain()
    question = Question(
        kind=asked.plain.kind.value,
        body=asked.plain.request,
        seed=job_seed(domain, job.id, asked.payload_hash),
        sampling=offer.terms.sampling,
        model_id=offer.terms.model_id,
        output_limit=offer.max_output_tokens,
        context=offer.max_context,
    )
    return Asked(question, result.response, _commitment(result.plain.proof), asked.plain.model)


async def _offer(client: AsyncCocoon, job: AsyncJob, terms_hash: bytes) -> Offer:
    """Return the offer that the job was opened under. Raises `TermsUnknownError`."""
    from cocoon_sdk.client.errors import TermsUnknownError

    worker = (await job.status()).worker
    found = None if worker is None else await client.workers.terms_of(worker, terms_hash)
    if found is None:
        raise TermsUnknownError(
            f"the terms of job {job.id} cannot be found",
            why="its worker announced none with the hash that the job names",
            hint="Use an endpoint that keeps the history",
        )
    return found[1]


def _commitment(proof: dict[str, Any] | None) -> Commitment | None:
    """Read a result's proof; one that is not in form is none."""
    from cocoon_sdk.errors import MalformedError
    from cocoon_sdk.verify.commitment import Commitment

    try:
        return None if proof is None else Commitment.from_json(proof)
    except MalformedError:
        return None


async def _read_thresholds(client: AsyncCocoon, path: Path, model_id: bytes) -> Thresholds:
    """Read the limits of a model. Raises `ConfigError` for another model's, or others than are registered."""
    from cocoon_sdk.errors import ConfigError

    found = read_thresholds(path, model_id)
    registered = await client.models.get(model_id)
    if found.digest() != registered.calibration_hash:
        raise ConfigError(
            f"the thresholds {path} cannot be used",
            why="they are not those that the registry names for this model",
            hint="Get the model's own; without --thresholds the numbers are shown and not judged",
        )
    return found


def _show(session: Session, findings: Findings) -> None:
    from cocoon_sdk.cli.verify_report import report

    session.out.result(findings.to_json(), report(findings))
    if code := EXITS[findings.level.word]:
        raise typer.Exit(code)
