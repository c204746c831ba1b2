"""Disputes about answers of sessions: sent once, on kept evidence, whatever happens in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.client.auditing import AuditPolicy, OwnVerifier
from cocoon_sdk.client.auditing.auditor import AsyncAudits
from cocoon_sdk.client.auditing.case import AuditCase, case_of_answer
from cocoon_sdk.client.auditing.checks import Checks, Counter, Examined
from cocoon_sdk.client.auditing.consequences import Consequences, Surroundings
from cocoon_sdk.client.auditing.disputes import DisputeDesk
from cocoon_sdk.client.auditing.errors import UncheckableError
from cocoon_sdk.client.auditing.evidence_book import EvidenceBook, EvidenceVault, evidence_of
from cocoon_sdk.client.auditing.examining import ResultExaminer
from cocoon_sdk.client.auditing.lookers import OwnLookers
from cocoon_sdk.client.auditing.records import Audited, AuditOutcome, AuditSubject, DisputeStep
from cocoon_sdk.client.auditing.session_disputes import SessionDisputes
from cocoon_sdk.client.auditing.store import AuditStore, Conclusion, Judgement
from cocoon_sdk.client.auditing.tables import AUDITS_SCHEMA
from cocoon_sdk.client.errors import EvidenceNotSentError
from cocoon_sdk.client.sessions.answers.finished import EndedPart, FinishedAnswer
from cocoon_sdk.client.sessions.errors import SessionRefusedError
from cocoon_sdk.client.sessions.info import SessionInfo
from cocoon_sdk.client.sessions.values import CHAT, SignedReceipt
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_sdk.protocol.session_evidence import MAX_RECORDS, MAX_RESPONSE_BYTES, SessionEvidence
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.protocol.vouchers import NO_PROOF, Receipt, ResponseHash, SessionRef, request_hash
from cocoon_sdk.storage import open_database
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.checking import Findings
from cocoon_sdk.verify.rows import LEAST_ROW, InRow, is_over_the_line
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.structure import Level
from cocoon_sdk.verify.thresholds import SamplingKind
from tests.helpers.scripted_session_worker import (
    DOMAIN,
    ENTRY,
    HOT_KEY,
    MODEL,
    NOW,
    ScriptedSessionWorker,
    chunk,
)
from tests.helpers.session_records import LIMITS

BOND = Nano(100)


def answer(rid: int = 1, *, session: int = 1, size: int = 10) -> FinishedAnswer:
    """Return an answer with its receipt, as a session brings it."""
    worker = ScriptedSessionWorker("alice", port=1)
    ref = SessionRef(DOMAIN, session, worker.address)
    body, piece = b'{"messages": []}' + b" " * size, chunk("Hello", finish="stop")
    hashed = ResponseHash()
    hashed.update(piece)
    receipt = Receipt(
        rid,
        request_hash(CHAT, body),
        hashed.digest(),
        worker.terms.terms_hash,
        NO_PROOF,
        10,
        0,
        1,
        Nano(100),
        Nano(100 * rid),
    )
    signature = receipt.sign(worker.operator, ref)
    signed = SignedReceipt(receipt, ref, worker.operator.verify_key, signature)
    return FinishedAnswer(worker.offer, CHAT, body, (piece,), False, signed, (piece,))


def subject(rid: int = 1, session: int = 1) -> AuditSubject:
    worker = ScriptedSessionWorker("alice", port=1).address
    return AuditSubject(Audited.REQUEST, DOMAIN, session, rid, worker, ENTRY.model_id, MODEL, Nano(100))


# -- what is remembered --------------------------------------------------------------------------------------


def test_book_remembers_the_newest_answers_of_each_session() -> None:
    book = EvidenceBook()
    for rid in range(1, 41):
        book.note(answer(rid))
        book.note(answer(rid, session=2))
    assert book.answer(subject(8)) is None
    assert book.answer(subject(9)) is not None
    assert list(book.answers(subject(40, 2))) == [*range(9, 41)]
    assert len(book.answers(subject(20))) == MAX_RECORDS


def test_book_tells_the_answers_of_a_session_in_their_order() -> None:
    """Receipts come in any order, and of a request that was cancelled there is none."""
    book = EvidenceBook()
    for rid in (1, 4, 2, 8, 5):
        book.note(answer(rid))
        book.note(answer(rid, session=2))
    assert {rid: each.receipt.receipt.rid for rid, each in book.answers(subject(5)).items()} == {
        rid: rid for rid in (1, 2, 4, 5, 8)
    }
    assert list(book.answers(subject(5))) == [1, 2, 4, 5, 8]
    assert book.answers(subject(5, 3)) == {}
    assert book.answers(replace(subject(5), what=Audited.JOB)) == {}


def test_book_is_bounded_in_bytes_over_all_sessions() -> None:
    book = EvidenceBook(most_bytes=10_000)
    for session in range(1, 20):
        book.note(answer(1, session=session, size=900))
    assert book.answer(subject(1, 1)) is None
    assert book.answer(subject(1, 19)) is not None
    assert len(book._sessions) <= 10
    book.note(answer(1, session=99, size=20_000))  # more than all of it
    assert len(book._sessions) == 0


def test_worker_cannot_fill_the_memory_with_tokens_that_make_no_text() -> None:
    """A commitment names every token, and a token need not have more than a byte."""
    book = EvidenceBook(most_bytes=100_000)
    for rid in range(1, 4):
        made = answer(rid)
        receipt = replace(made.receipt.receipt, output_tokens=1000)
        book.note(replace(made, receipt=replace(made.receipt, receipt=receipt)))
    assert list(book.answers(subject(3))) == [3]


def test_evidence_is_what_the_worker_signed_and_opens_again() -> None:
    evidence = evidence_of([answer(2), answer(1)])
    assert [record.rid for record in evidence.records] == [1, 2]
    vault = EvidenceVault(DOMAIN.contract, HOT_KEY)
    assert vault.open(vault.seal(evidence)) == evidence
    newer = EvidenceVault(DOMAIN.contract, type(HOT_KEY).generate(), (HOT_KEY,))
    assert newer.open(vault.seal(evidence)) == evidence
    with pytest.raises(MalformedError, match="something else"):
        evidence_of([replace(answer(1), travelled=(b"{}",))])


# -- the way of a dispute ------------------------------------------------------------------------------------


@dataclass
class ScriptedSessions:
    """One session as a test wants it; a dispute moves it."""

    guarded: bool = True
    disputed: bool = False
    there: bool = True
    open: bool = True
    evidence_fails: bool = False
    other: bool = False
    not_counted: str = ""
    calls: list[str] = field(default_factory=list)

    async def get(self, session_id: int) -> SessionInfo:
        if not self.there:
            raise SessionRefusedError(f"there is no session {session_id}")
        none = Nano(0)
        worker = ScriptedSessionWorker("alice", port=1).address
        return SessionInfo(
            *(session_id, worker, None, MODEL, none, none, none, none, NOW + 100),
            *(NOW + 100 if self.open else 0, self.guarded, self.disputed, None, 0, 0, ""),
        )

    async def dispute_bond(self, session_id: int) -> Nano:
        return BOND

    async def why_not_counted(self, session_id: int, evidence: SessionEvidence) -> str:
        return self.not_counted

    async def dispute(self, session_id: int, evidence: SessionEvidence, *, model: bytes) -> SessionInfo:
        assert model == bytes(ENTRY.model_id)
        self.calls.append("dispute")
        self.disputed = True
        await self.send_evidence(session_id, evidence)
        return await self.get(session_id)

    async def send_evidence(self, session_id: int, evidence: SessionEvidence) -> None:
        self.calls.append("evidence")
        if self.other:
            raise ConfigError("the dispute stands on other evidence")
        if self.evidence_fails:
            raise EvidenceNotSentError("no arbiter answers")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AuditStore]:
    database = await open_database(tmp_path / "client.db", AUDITS_SCHEMA)
    yield AuditStore(database)
    await database.close()


VAULT = EvidenceVault(DOMAIN.contract, HOT_KEY)


async def wanted(store: AuditStore, rid: int = 1) -> None:
    """Keep a finding that is to be disputed, with what it stands on."""
    assert await store.begin(subject(rid), "me", NOW, NOW + 60)
    made = Conclusion(AuditOutcome.FAILED, "why", NOW, evidence=VAULT.seal(evidence_of([answer(rid)])))
    judged = Judgement({}, "why", DisputeStep.WANTED)
    assert await store.conclude(subject(rid), "me", made, lambda state: judged) is not None


async def run(store: AuditStore, sessions: ScriptedSessions, **policy: Any) -> tuple[DisputeStep, str]:
    """Let a process do what it can for the dispute that is wanted; return where it stands then."""
    (record,) = await store.disputes.wanted(DOMAIN)
    desk = DisputeDesk(
        store.disputes,
        AuditPolicy(**policy),
        lambda number: pytest.fail("it is no job"),
        "me",
        ManualClock(NOW),
        limit=None,
        with_evidence=True,
        sessions=SessionDisputes(sessions, VAULT, store.disputes, with_evidence=True),
    )
    await desk.run(record)
    found = await store.get(record.uid)
    assert found is not None
    return found.dispute, found.dispute_why


async def test_dispute_is_sent_once_and_done_when_arbiters_have_the_evidence(store: AuditStore) -> None:
    await wanted(store)
    sessions = ScriptedSessions(evidence_fails=True)
    step, why = await run(store, sessions)
    assert (step, why) == (DisputeStep.WANTED, "no arbiter answers")
    assert await store.disputes.evidence(subject().uid) is not None
    assert (await run(store, sessions))[0] is DisputeStep.WANTED
    sessions.evidence_fails = False
    assert await run(store, sessions) == (DisputeStep.DISPUTED, "")
    assert sessions.calls == ["dispute", "evidence", "evidence", "evidence"]
    (record,) = await store.findings(DOMAIN)
    assert record.bond == BOND


async def test_dispute_that_was_sent_before_a_crash_is_only_taken_note_of(store: AuditStore) -> None:
    await wanted(store)
    sessions = ScriptedSessions(disputed=True)
    assert await run(store, sessions) == (DisputeStep.DISPUTED, "")
    assert sessions.calls == ["evidence"]


@pytest.mark.parametrize(
    ("sessions", "policy", "step"),
    [
        (ScriptedSessions(guarded=False), {}, DisputeStep.REFUSED),
        (ScriptedSessions(), {"most_bond": Nano(99)}, DisputeStep.REFUSED),
        (ScriptedSessions(), {"bonds_per_day": Nano(99)}, DisputeStep.REFUSED),
        (ScriptedSessions(), {"dispute": False}, DisputeStep.REFUSED),
        (ScriptedSessions(not_counted="another key signed"), {}, DisputeStep.REFUSED),
        (ScriptedSessions(there=False), {}, DisputeStep.TOO_LATE),
        (ScriptedSessions(guarded=False, open=False), {}, DisputeStep.TOO_LATE),
        (ScriptedSessions(disputed=True, other=True), {}, DisputeStep.NOT_NEEDED),
    ],
)
async def test_what_cannot_be_disputed_ends_and_its_evidence_is_deleted(
    store: AuditStore, sessions: ScriptedSessions, policy: dict[str, Any], step: DisputeStep
) -> None:
    await wanted(store)
    assert (await run(store, sessions, **policy))[0] is step
    assert "dispute" not in sessions.calls
    assert await store.disputes.evidence(subject().uid) is None
    (record,) = await store.findings(DOMAIN)
    assert record.bond == 0


async def test_evidence_goes_with_time(store: AuditStore) -> None:
    await wanted(store)
    await store.prune(NOW)
    assert await store.disputes.evidence(subject().uid) is not None
    await store.prune(NOW + 1)
    assert await store.disputes.evidence(subject().uid) is None
    assert (await run(store, ScriptedSessions()))[0] is DisputeStep.REFUSED


# -- many answers together -----------------------------------------------------------------------------------


class ScriptedExaminer:
    """Finds every answer a little off; together they are beyond doubt or not."""

    def __init__(
        self, *, sure: bool, cost: int = 0, level: str = "suspect", uncheckable: Sequence[int] = ()
    ) -> None:
        self.sure, self.cost, self.level, self.uncheckable = sure, Nano(cost), level, uncheckable

    async def most_cost(self, case: AuditCase) -> Nano:
        if case.subject.request in self.uncheckable:
            raise UncheckableError("the result cannot be checked", why="it has no tokens that could be")
        return self.cost

    async def examine(self, case: AuditCase) -> Examined:
        return Examined(AuditOutcome.SUSPECT, self.level, "a little off", {}, "own", Nano(0))

    def judge(self, state: dict[str, Any], case: AuditCase, examined: Examined) -> Judgement:
        return Judgement(state, "its answers deviate")

    def beyond_doubt(self, examined: Mapping[int, Examined]) -> tuple[int, ...]:
        return tuple(examined)[1:] if self.sure and len(examined) >= 8 else ()

    async def close(self) -> None:
        pass


async def score_crossed(
    store: AuditStore, examiner: ScriptedExaminer, sessions: ScriptedSessions, *, large: int = 0
) -> None:
    """Check the tenth answer of a session; with it the worker's score is over the line.

    The answer `large` is larger than evidence may be.
    """
    book = EvidenceBook()
    for rid in range(1, 11):
        each = answer(rid)
        book.note(replace(each, travelled=(bytes(MAX_RESPONSE_BYTES),)) if rid == large else each)
    around = Surroundings(
        domain=lambda: pytest.fail("not needed"),
        job=lambda number: pytest.fail("it is no job"),
        leave=lambda worker, why: None,
        come_back=lambda worker: None,
        with_evidence=True,
        sessions=lambda: sessions,
        vault=VAULT,
    )
    clock, policy = ManualClock(NOW), AuditPolicy()
    checks = Checks(
        policy, examiner, Consequences(policy, around, "me", clock), Counter(), "me", clock, book, VAULT
    )

    async def claim() -> AuditCase:
        return case_of_answer(answer(10))

    await checks.check(store, subject(10), claim)


async def test_answers_in_a_row_are_disputed_together_when_none_alone_is_enough(store: AuditStore) -> None:
    sessions, examiner = ScriptedSessions(), ScriptedExaminer(sure=True)
    await score_crossed(store, examiner, sessions)
    (record,) = await store.findings(DOMAIN)
    assert (record.outcome, record.dispute) == (AuditOutcome.SUSPECT, DisputeStep.DISPUTED)
    assert sessions.calls == ["dispute", "evidence"]
    sealed = await store.disputes.evidence(record.uid)
    assert sealed is not None
    assert [each.rid for each in VAULT.open(sealed).records] == [*range(2, 11)]


async def test_answers_that_cannot_be_checked_do_not_save_the_others(store: AuditStore) -> None:
    sessions, examiner = ScriptedSessions(), ScriptedExaminer(sure=True, uncheckable=(4, 7))
    await score_crossed(store, examiner, sessions)
    (record,) = await store.findings(DOMAIN)
    assert record.dispute is DisputeStep.DISPUTED
    sealed = await store.disputes.evidence(record.uid)
    assert sealed is not None
    assert [each.rid for each in VAULT.open(sealed).records] == [2, 3, 5, 6, 8, 9, 10]


@pytest.mark.parametrize("sure", [True, False])
async def test_worker_that_is_left_for_its_receipts_is_disputed_for_the_answers_that_have_one(
    tmp_path: Path, sure: bool
) -> None:
    """None of them was drawn: with every seventh receipt withheld it is left before its score shows much."""
    sessions = ScriptedSessions()

    async def domain() -> Domain:
        return DOMAIN

    around = Surroundings(
        domain=domain,
        job=lambda number: pytest.fail("it is no job"),
        leave=lambda worker, why: None,
        come_back=lambda worker: None,
        with_evidence=True,
        sessions=lambda: sessions,
        vault=VAULT,
    )
    policy = AuditPolicy(every_s=3600.0, draw=lambda: 0.99)
    audits = AsyncAudits(
        policy, tmp_path / "client.db", ScriptedExaminer(sure=sure), around, ManualClock(NOW)
    )
    for rid in range(1, 11):
        audits.finished(answer(rid))
    for number in range(6):
        audits.ended(EndedPart(answer().offer, False, True, float(number), number + 0.5))
    assert await audits.idle()
    found = await audits.list()
    assert sessions.calls == (["dispute", "evidence"] if sure else [])
    assert [(each.subject.request, each.dispute) for each in found] == (
        [(10, DisputeStep.DISPUTED)] if sure else []
    )
    (score,) = await audits.scores()
    assert score.left_at
    assert score.state == {}, "an answer that was chosen is no sample"
    await audits.close()


@pytest.mark.parametrize("examiner", [ScriptedExaminer(sure=False), ScriptedExaminer(sure=True, cost=1)])
async def test_answers_in_a_row_that_arbiters_would_not_act_upon_are_not_disputed(
    store: AuditStore, examiner: ScriptedExaminer
) -> None:
    """A score over the line of one's own sample is not evidence yet; nor is a bond risked for a guess."""
    sessions = ScriptedSessions()
    await score_crossed(store, examiner, sessions)
    (record,) = await store.findings(DOMAIN)
    assert (record.dispute, sessions.calls) == (DisputeStep.NONE, [])


async def test_one_answer_too_large_for_evidence_does_not_save_the_others(store: AuditStore) -> None:
    sessions, examiner = ScriptedSessions(), ScriptedExaminer(sure=True)
    await score_crossed(store, examiner, sessions, large=5)
    (record,) = await store.findings(DOMAIN)
    sealed = await store.disputes.evidence(record.uid)
    assert sealed is not None
    assert [each.rid for each in VAULT.open(sealed).records] == [2, 3, 4, 6, 7, 8, 9, 10]


def examined(value: float) -> Examined:
    limits = LIMITS.model_copy(update={"longest": 64})
    found = Findings(
        Level.SUSPECT, (), (), SamplingKind.SAMPLED, Numbers(value, value, value, value), (), limits
    )
    return Examined(AuditOutcome.SUSPECT, "suspect", "", {}, "", Nano(0), found)


def test_row_is_beyond_doubt_by_the_arbiters_rule_only() -> None:
    examiner = ResultExaminer(AuditPolicy(), OwnLookers(OwnVerifier("http://127.0.0.1:1")))

    def row(each: Examined, count: int = MAX_RECORDS) -> dict[int, Examined]:
        return {at: replace(each, evidence=replace(each.evidence, prompt=b"%d" % at)) for at in range(count)}

    off, honest = examined(10.0), examined(0.0)
    assert examiner.beyond_doubt(row(off)) == tuple(range(MAX_RECORDS))
    assert not examiner.beyond_doubt(dict.fromkeys(range(MAX_RECORDS), off)), "the same prompt again"
    assert not examiner.beyond_doubt(row(off, LEAST_ROW - 1))
    assert not examiner.beyond_doubt(row(honest))
    long = replace(off.evidence, tokens=(None,) * 65, numbers=Numbers(0.0, 10.0, 0.0, 10.0))
    assert not examiner.beyond_doubt(row(replace(off, evidence=long)))
    short = replace(long, tokens=(None,) * 64)
    assert examiner.beyond_doubt(row(replace(off, evidence=short)))
    # Who lied late is shown from there on: all together would not be over the line.
    late = {**row(off, 31), **row(honest, 23)}
    assert not is_over_the_line([InRow.of(at, each.evidence) for at, each in late.items()])  # type: ignore[misc]
    assert examiner.beyond_doubt(late) == tuple(range(23, 31))
    # One that was not measured, or far away, is left out.
    many = row(off, 24)
    kept = tuple(at for at in range(24) if at != 7)
    assert examiner.beyond_doubt({**many, 7: replace(off, evidence=None)}) == kept
    assert examiner.beyond_doubt({**many, 900: many[7]}) == tuple(range(24))
