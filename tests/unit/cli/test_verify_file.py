"""`cocoon verify FILE` on the command line; a table model stands in for vLLM, all else is real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytoniq_core import Address
from typer.testing import CliRunner, Result

from cocoon_sdk.cli.main import app
from cocoon_sdk.cli.verify_options import EXIT_NOT_CHECKABLE, EXIT_REFUND, EXIT_SLASH
from cocoon_sdk.client.sessions.answers.joining import write_json
from cocoon_sdk.crypto import SigningKey
from cocoon_sdk.protocol.session_evidence import EvidenceRecord, SessionEvidence
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.protocol.vouchers import SessionRef, request_hash
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.seeds import request_seed
from cocoon_sdk.verify.thresholds import Thresholds
from tests.helpers.session_records import signed_record
from tests.helpers.table_model import TableModel, table_terms
from tests.helpers.table_server import NAME, table_server_beside

SESSION = SessionRef(Domain(-239, Address((0, b"\x01" * 32)), 1_700_000_000), 7, Address((0, b"\x02" * 32)))
KEY = SigningKey(b"\x06" * 32)
MODEL = TableModel()
PROMPT = [7, 8, 9]


def record(
    rid: int, *, sampling: SamplingClass = SamplingClass.REPLAYABLE, shows: str | None = None, **changes: Any
) -> EvidenceRecord:
    """Return a request with its answer as the worker signed it; `shows` another text than the tokens'."""
    body = {"model": NAME, "prompt": PROMPT, "max_tokens": 400, "temperature": 1.0}
    seed = request_seed(SESSION, rid, request_hash("completion", write_json(body)))
    answer = MODEL.answer(PROMPT, body, seed, most=400)
    response = answer.response
    if shows is not None:
        response["choices"][0]["text"] = shows
    terms = table_terms(sampling)
    fields = {"commitment": answer.commitment, **changes}
    return signed_record(
        SESSION,
        rid,
        KEY,
        terms,
        body=body,
        pieces=[response],
        input_tokens=len(PROMPT),
        output_tokens=answer.commitment.output_tokens,
        **fields,
    )


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with table_server_beside(MODEL) as found:
        yield found


def verified(url: str, folder: Path, *records: EvidenceRecord, options: tuple[str, ...] = ()) -> Result:
    file = folder / "session.evidence"
    file.write_bytes(SessionEvidence.of(SESSION, records).to_bytes())
    return CliRunner().invoke(app, ["verify", str(file), "--endpoint", url, *options])


def test_client_sees_that_a_session_was_honest(url: str, tmp_path: Path) -> None:
    shown = verified(url, tmp_path, record(1), record(2))
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("Level: honest") == 2
    assert f"Request 2, signed by {KEY.verify_key.hex[:16]}" in shown.stdout
    assert "Log-probability: committed against recomputed" in shown.stdout

    told = json.loads(verified(url, tmp_path, record(1), record(2), options=("--json",)).stdout)
    assert told["level"] == "honest"
    assert [(each["rid"], each["level"]) for each in told["records"]] == [(1, "honest"), (2, "honest")]
    assert told["evidence_hash"] == SessionEvidence.of(SESSION, [record(1), record(2)]).digest().hex()
    assert len(told["records"][0]["tokens"]) == record(1).output_tokens


def test_client_sees_which_answer_was_altered(url: str, tmp_path: Path) -> None:
    done = verified(url, tmp_path, record(1), record(2, shows=" w1"), options=("--json",))
    assert done.exit_code == EXIT_REFUND
    told = json.loads(done.stdout)
    assert [each["level"] for each in told["records"]] == ["honest", "refund"]


def test_client_sees_a_commitment_that_was_promised_and_is_not_there(url: str, tmp_path: Path) -> None:
    assert verified(url, tmp_path, record(1, commitment=None)).exit_code == EXIT_SLASH


def test_client_is_told_when_a_session_promised_nothing(url: str, tmp_path: Path) -> None:
    plain = record(1, sampling=SamplingClass.UNVERIFIED, commitment=None)
    done = verified(url, tmp_path, plain)
    assert done.exit_code == EXIT_NOT_CHECKABLE
    assert "Not checkable" in done.stdout


def test_nobody_can_blame_a_worker_with_what_it_did_not_sign(url: str, tmp_path: Path) -> None:
    altered = record(1, shows=" w1")
    forged = EvidenceRecord(
        **{**{name: getattr(altered, name) for name in altered.__struct_fields__}, "total": 5}
    )
    done = verified(url, tmp_path, forged)
    assert done.exit_code == 1
    assert "not signed" in done.output


def test_limits_of_another_model_cannot_be_used(url: str, tmp_path: Path) -> None:
    limits = tmp_path / "limits.json"
    limits.write_bytes(Thresholds(model_id=Hash(b"\x01" * 32), greedy=None, sampled=None).to_bytes())
    done = verified(url, tmp_path, record(1), options=("--thresholds", str(limits)))
    assert done.exit_code == 1
    assert "not those of model" in done.output


@pytest.mark.parametrize(("end", "code"), [(0, 0), (299, EXIT_REFUND)])
def test_models_files_say_which_tokens_end_an_answer(url: str, tmp_path: Path, end: int, code: int) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    (folder / "model.safetensors").write_bytes(b"weights")
    done = verified(url, tmp_path, record(1), options=("--model-folder", str(folder)))
    assert done.exit_code == code, done.output


def test_file_that_is_no_evidence_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("hello")
    done = CliRunner().invoke(app, ["verify", str(file), "--endpoint", "http://127.0.0.1:9/v1"])
    assert done.exit_code == 1
    assert "evidence" in done.output
