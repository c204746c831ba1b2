"""`cocoon verify FILE`: answers of a session, out of a file with its evidence.

Owns reading the file and what is shown of each record. A record is judged as arbiters judge it, by the same
code; what the chain says about the session is not looked at, so that whoever gets such a file can check it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cocoon_sdk.cli.options import Json
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
    from rich.console import RenderableType

    from cocoon_sdk.protocol.session_evidence import EvidenceRecord, SessionEvidence
    from cocoon_sdk.verify.checking import Findings
    from cocoon_sdk.verify.rescoring import Verifier
    from cocoon_sdk.verify.thresholds import Thresholds

_NOT_CHECKABLE: Final = "not checkable"


def verify_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Evidence of a session, as it was exported.")],
    endpoint: EndpointUrl,
    api_key_file: KeyFile = None,
    model: ServedName = None,
    model_folder: ModelFolder = None,
    thresholds: ThresholdsFile = None,
    end_token: EndTokens = None,
    top: Top = 20,
    as_json: Json = False,
) -> None:
    """Re-score every answer in a file with a session's evidence. Needs no network and no keys."""

    async def work(session: Session) -> None:
        evidence = read_evidence(file)
        limits = None if thresholds is None else read_thresholds(thresholds, _model_of(evidence))
        name = model or _name_of(evidence)
        verifier = await open_verifier(
            session, endpoint, api_key_file, name, top=top, end_tokens=end_token, folder=model_folder
        )
        found: dict[int, Findings | str] = {}
        for record in evidence.records:
            with session.out.step(f"Re-scoring the answer to request {record.rid}"):
                found[record.rid] = await findings_of(evidence, record, verifier, limits)
        session.out.result(document(evidence, found), shown(evidence, found))
        levels = [each.level for each in found.values() if not isinstance(each, str)]
        if code := EXITS[max(levels).word] if levels else EXIT_NOT_CHECKABLE:
            raise typer.Exit(code)

    run(work, as_json=as_json)


def read_evidence(path: Path) -> SessionEvidence:
    """Read a file with evidence; every record is signed by the key it names.

    Raises `ConfigError` when the file cannot be read, `MalformedError` for anything else than evidence.
    """
    from cocoon_sdk.errors import ConfigError, MalformedError
    from cocoon_sdk.protocol.session_evidence import MAX_SESSION_EVIDENCE_BYTES, SessionEvidence

    try:
        with path.open("rb") as file:
            data = file.read(MAX_SESSION_EVIDENCE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}", why=error.strerror or type(error).__name__) from None
    evidence = SessionEvidence.from_bytes(data)
    session = evidence.session
    for record in evidence.records:
        if not record.is_signed(session):
            raise MalformedError(
                f"cannot believe {path}",
                why=f"the receipt of request {record.rid} is not signed by the key that it names",
                hint="Nobody committed to this: it says nothing about any worker",
            )
    return evidence


async def findings_of(
    evidence: SessionEvidence, record: EvidenceRecord, verifier: Verifier, limits: Thresholds | None
) -> Findings | str:
    """Return what is found of one record, or why nothing can be. Raises `VerifierError`."""
    from cocoon_sdk.arbiter.session_judging import answer_of, question_of, read_commitment
    from cocoon_sdk.errors import MalformedError
    from cocoon_sdk.verify.checking import NotCheckableError
    from cocoon_sdk.verify.verifying import verify

    try:
        commitment = read_commitment(record)
    except MalformedError:
        commitment = None  # it signed the hash of something else
    try:
        question = question_of(record, evidence.session, commitment)
        return await verify(question, answer_of(record), commitment, verifier, limits)
    except (NotCheckableError, MalformedError) as error:
        return str(error)


def document(evidence: SessionEvidence, found: Mapping[int, Findings | str]) -> dict[str, Any]:
    """Return everything for machines."""
    levels = [each.level for each in found.values() if not isinstance(each, str)]
    return {
        "session": evidence.session.to_bytes().hex(),
        "evidence_hash": evidence.digest().hex(),
        "level": max(levels).word if levels else _NOT_CHECKABLE,
        "records": [
            {
                "rid": record.rid,
                "operator": record.operator.hex(),
                "model_id": record.read_terms().model_id.hex(),
                "charged": str(record.charged),
                **_judged(found[record.rid]),
            }
            for record in evidence.records
        ],
    }


def _judged(findings: Findings | str) -> dict[str, Any]:
    if isinstance(findings, str):
        return {"level": _NOT_CHECKABLE, "reasons": [findings]}
    return findings.to_json()


def shown(evidence: SessionEvidence, found: Mapping[int, Findings | str]) -> RenderableType:
    """Return everything for people."""
    from rich.console import Group
    from rich.text import Text

    from cocoon_sdk.cli.verify_report import report

    parts: list[RenderableType] = []
    for record in evidence.records:
        if parts:
            parts.append(Text())
        signer = record.operator.hex()[:16]
        parts.append(Text(f"Request {record.rid}, signed by {signer}", style="bold"))
        findings = found[record.rid]
        if isinstance(findings, str):
            parts.append(Text(f"Not checkable: {findings}"))
        else:
            parts.append(report(findings))
    return Group(*parts)


def _model_of(evidence: SessionEvidence) -> bytes:
    from cocoon_sdk.errors import ConfigError

    models = {bytes(record.read_terms().model_id) for record in evidence.records}
    if len(models) != 1:
        raise ConfigError(
            "the thresholds cannot be used", why=f"the records are of {len(models)} models, a file is of one"
        )
    return models.pop()


def _name_of(evidence: SessionEvidence) -> str:
    """Return what the requests call the model."""
    from cocoon_sdk.client.sessions.answers.joining import read_event
    from cocoon_sdk.errors import ConfigError, MalformedError

    for record in evidence.records:
        try:
            name = read_event(record.request).get("model")
        except MalformedError:
            continue
        if isinstance(name, str) and name:
            return name
    raise ConfigError(
        "the model's name at the endpoint is not known",
        why="no request names one",
        hint="Name it with --model",
    )
