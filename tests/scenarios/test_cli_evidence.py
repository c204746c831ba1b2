"""Evidence out of a client's database into a file, and what `cocoon verify FILE` makes of it.

The finding is put into the database by hand, and a table model stands in for vLLM; all else is real.
"""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pytoniq_core import Address
from typer.testing import CliRunner

from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.cli.main import app
from cocoon_sdk.client.auditing.evidence_book import EvidenceVault
from cocoon_sdk.client.auditing.records import Audited, AuditOutcome, AuditSubject, DisputeStep
from cocoon_sdk.client.auditing.store import AuditStore, Conclusion, Judgement
from cocoon_sdk.client.auditing.tables import AUDITS_SCHEMA
from cocoon_sdk.client.sessions.answers.joining import write_json
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.crypto import SigningKey, read_signing_key_file
from cocoon_sdk.protocol.session_evidence import EvidenceRecord, SessionEvidence
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.vouchers import SessionRef, request_hash
from cocoon_sdk.storage import open_database
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.seeds import request_seed
from tests.helpers.local_sandbox import sandbox_up
from tests.helpers.session_records import signed_record
from tests.helpers.table_model import MODEL_ID, TableModel, table_terms
from tests.helpers.table_server import NAME, table_server_beside

pytestmark = pytest.mark.xdist_group("cli")
SESSION_ID = 7
WORKER = Address((0, b"\x02" * 32))
NOW = 1_800_000_000
MODEL = TableModel()
PROMPT = [7, 8, 9]
SECRET = "what nobody else shall read"


@dataclass
class Person:
    """Somebody at a terminal with an open escrow, and a database with one session's evidence in it."""

    environment: dict[str, str]
    evidence: SessionEvidence

    def types(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, arguments, env={**self.environment, "COLUMNS": "300"})
        assert done.exit_code == code, done.output
        return done.stdout

    def reads(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.types(*arguments, "--json", code=code))


def record(session: SessionRef, rid: int) -> EvidenceRecord:
    body = {"model": NAME, "prompt": PROMPT, "max_tokens": 40, "temperature": 1.0, "user": SECRET}
    seed = request_seed(session, rid, request_hash("completion", write_json(body)))
    answer = MODEL.answer(PROMPT, body, seed, most=40)
    terms = table_terms()
    return signed_record(
        session,
        rid,
        SigningKey(b"\x06" * 32),
        terms,
        body=body,
        pieces=[answer.response],
        commitment=answer.commitment,
        input_tokens=len(PROMPT),
        output_tokens=answer.commitment.output_tokens,
    )


async def domain_of(endpoint: str, escrow: Address) -> Domain:
    chain = ToncenterChain(endpoint)
    found = await Escrow.at(chain, escrow).domain()
    await chain.close()
    return found


async def keep(place: Path, evidence: SessionEvidence, vault: EvidenceVault) -> None:
    """Put a failed answer into a database, with the evidence that its dispute is to stand on."""
    database = await open_database(place, AUDITS_SCHEMA)
    store = AuditStore(database)
    session = evidence.session
    subject = AuditSubject(
        *(Audited.REQUEST, session.domain, session.session_id, evidence.records[-1].rid, WORKER),
        *(MODEL_ID, "Org/Tiny-1B", Nano(1000)),
    )
    assert await store.begin(subject, "me", NOW, NOW + 60)
    made = Conclusion(AuditOutcome.FAILED, "the reason", NOW + 9, evidence=vault.seal(evidence))
    wanted = Judgement({"v": 1}, "it lied", DisputeStep.WANTED)
    await store.conclude(subject, "me", made, lambda _: wanted)
    await database.close()


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    folder = tmp_path_factory.mktemp("person")
    with sandbox_up(folder) as sandbox:
        config = sandbox["actors"][0]["config"]
        settings = tomllib.loads(Path(config).read_text())
        environment = {"COCOON_CONFIG": config, "COCOON_DATABASE": str(folder / "client.db")}
        made = CliRunner().invoke(
            app, ["escrow", "open", "5", "--daily-limit", "5", "--yes", "--json"], env=environment
        )
        assert made.exit_code == 0, made.output
        balance = CliRunner().invoke(app, ["escrow", "balance", "--json"], env=environment)
        escrow = Address(json.loads(balance.stdout)["address"])
        session = SessionRef(asyncio.run(domain_of(settings["endpoint"], escrow)), SESSION_ID, WORKER)
        evidence = SessionEvidence.of(session, [record(session, 3), record(session, 4)])
        vault = EvidenceVault(escrow, read_signing_key_file(Path(settings["hot_key_file"])))
        asyncio.run(keep(folder / "client.db", evidence, vault))
        yield Person(environment, evidence)


def test_client_can_have_its_evidence_checked_by_anybody_offline(person: Person, tmp_path: Path) -> None:
    file = tmp_path / "session.evidence"
    told = person.reads("session", "evidence", str(SESSION_ID), "--output", str(file))
    assert told == {
        "file": str(file),
        "evidence_hash": person.evidence.digest().hex(),
        "requests": [3, 4],
    }
    assert file.stat().st_mode & 0o777 == 0o600
    kept = file.read_bytes()
    assert SessionEvidence.from_bytes(kept) == person.evidence
    assert SECRET.encode() in kept
    # Whoever gets the file needs no network, no keys and no database for it.
    with table_server_beside(MODEL) as url:
        done = CliRunner().invoke(app, ["verify", str(file), "--endpoint", url, "--json"], env={})
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["level"], found["evidence_hash"]) == ("honest", told["evidence_hash"])
    assert [each["rid"] for each in found["records"]] == told["requests"]
    for each, kept_record in zip(found["records"], person.evidence.records, strict=True):
        assert len(each["tokens"]) == kept_record.output_tokens
        assert each["numbers"]["lp_max"] < 0.01
        assert each["numbers"]["tok_max"] < 0.01


def test_evidence_is_not_written_over_anything(person: Person, tmp_path: Path) -> None:
    file = tmp_path / "diary"
    file.write_text("dear diary")
    asked = ("session", "evidence", str(SESSION_ID), "--output", str(file))
    assert "exists" in person.reads(*asked, code=1)["error"]["why"]
    assert file.read_text() == "dear diary"
    assert "already" in person.reads(*asked[:3], str(file), *asked[3:], code=1)["error"]["why"]


def test_client_is_told_when_nothing_is_kept(person: Person, tmp_path: Path) -> None:
    file = tmp_path / "session.evidence"
    error = person.reads("session", "evidence", "8", "--output", str(file), code=1)["error"]
    assert error["type"] == "NoEvidenceError"
    assert not file.exists()
    # Without a file what is kept is sent; here nothing is disputed that it could be sent for.
    assert person.reads("session", "evidence", str(SESSION_ID), code=1)["error"]["type"] != "NoEvidenceError"


def test_file_with_evidence_says_whom_it_is_for(person: Person) -> None:
    assert "prompts and answers in the clear" in " ".join(
        person.types("session", "evidence", "--help").split()
    )
