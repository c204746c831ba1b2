"""Disputes of sessions before whole arbiters: real contracts, real HTTP; balances to the nanoTON.

What scores the content is a scripted double (`ScriptedJudge`). The worker's receipts are signed by hand, its
client disputes through the SDK, and its evidence is brought as clients bring it.
"""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from cocoon_sdk.arbiter.receipts import SessionCase, read_case
from cocoon_sdk.client.errors import EvidenceNotSentError
from cocoon_sdk.client.sessions.account import AsyncSessions
from cocoon_sdk.contracts.disputes import Dispute, NoDisputeError
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.disputes import DisputeKind, Ground, Item, ItemKind, payload_item
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.session_evidence import SessionEvidence
from cocoon_sdk.protocol.session_states import SessionStatus
from cocoon_sdk.types import Nano
from tests.helpers.arbiters import Court
from tests.helpers.session_trials import COMPENSATION, Session, check_money, started
from tests.helpers.suite import key_of

EVIDENCE_S = 12 * 3600


# -- verdicts and money --------------------------------------------------------------------------------------


@pytest.mark.parametrize("says", [Ground.HONEST, Ground.SUSPECT, Ground.NOT_CHECKABLE])
async def test_honest_worker_is_released_and_the_client_pays_the_arbiters(
    session: Session, court: Court, says: Ground
) -> None:
    await started(court, says)
    _, before, after = await session.tried()
    check_money(session, before, after, slashed=0)
    assert session.status is SessionStatus.CLOSING
    (case,) = court.judges[0].sessions
    assert [record.rid for record in case.records] == [1]
    assert case.ignored == 0


@pytest.mark.parametrize("says", [Ground.SLASH, Ground.NO_COMMITMENT])
async def test_cheating_worker_loses_the_collateral_of_the_session(
    session: Session, court: Court, says: Ground
) -> None:
    await started(court, says)
    held = (await session.town.client.escrow.balance()).free
    dispute, before, after = await session.tried()
    assert before.locked == dispute.collateral > 0
    check_money(session, before, after, slashed=before.locked)
    assert session.status is SessionStatus.CLOSING
    # Bond and compensation are the client's; announcement and gas are gone.
    now = (await session.town.client.escrow.balance()).free
    assert held + COMPENSATION - Nano.ton("0.06") < now < held + COMPENSATION
    # What was signed is paid all the same.
    earned = session.purse().earned
    session.town.redeem(session.held, session.signed_ahead)
    assert session.purse().earned > earned


async def test_verdict_about_one_session_is_worth_nothing_in_another(session: Session, court: Court) -> None:
    await started(court, Ground.SLASH)
    dispute, _, _ = await session.tried()
    found = await court.arbiters().verdict(dispute)
    assert found is not None
    other = await session.another()
    theirs = await other.dispute()
    before = other.purse()
    anybody = session.town.town.chain.actor("anybody")
    for resolve, code in (
        (dispute.resolve(found.pay, found.slash, found.signatures), ExitCode.WRONG_STATE),
        (theirs.resolve(0, int(theirs.collateral), found.signatures), ExitCode.BAD_SIGNATURE),
        (
            m.Resolve(
                id=other.number,
                verdict=dispute.verdict(found.pay, found.slash).to_cell(),
                signatures=dispute.resolve(found.pay, found.slash, found.signatures).signatures,
            ),
            ExitCode.BAD_VERDICT,
        ),
    ):
        done = anybody.send(session.town.client.escrow.address, Nano.ton("0.1"), resolve.to_cell())
        assert [each.exit_code for each in done if each.exit_code] == [code]
    assert other.status is SessionStatus.DISPUTED
    assert (other.purse().stake, other.purse().locked) == (before.stake, before.locked)


# -- evidence ------------------------------------------------------------------------------------------------


async def late(session: Session) -> None:
    """Let the time for evidence pass, and the arbiters work."""
    session.town.pass_time(EVIDENCE_S + 3 * 3600 + 1)
    await session.court.rounds()


async def test_client_cannot_win_when_it_withholds_its_evidence(session: Session, court: Court) -> None:
    await started(court, Ground.SLASH)
    dispute = await session.dispute()
    before = session.purse()
    await court.rounds()
    assert session.status is SessionStatus.DISPUTED
    await late(session)
    check_money(session, before, session.purse(), slashed=0)
    assert dispute.kind is DisputeKind.SESSION
    assert not any(judge.sessions for judge in court.judges.values())


async def test_client_cannot_show_other_evidence_than_it_named(session: Session, court: Court) -> None:
    await started(court, Ground.SLASH)
    dispute = await session.dispute()
    others = SessionEvidence.of(session.ref, [session.record(2)]).to_bytes()
    assert len(await session.show(dispute, others)) == 3
    problems = await court.arbiters().send_evidence(dispute, [payload_item(b"w", b"t")])
    assert all("no evidence in this dispute" in each.problem for each in problems)
    before = session.purse()
    await late(session)
    check_money(session, before, session.purse(), slashed=0)


async def test_client_that_knows_the_arbiters_disputes_and_shows_in_one_step(
    session: Session, court: Court
) -> None:
    await started(court, Ground.SLASH)
    client = session.town.client
    with pytest.raises(EvidenceNotSentError, match="does not know where"):
        await session.sessions.send_evidence(session.number, session.evidence)
    knowing = session.town.town.cocoon(arbiters=court.urls)
    sessions = AsyncSessions(knowing._context, client.workers, database=session.town.place)
    other = SessionEvidence.of(
        dataclasses.replace(session.ref, session_id=session.number + 1), session.records
    )
    with pytest.raises(ConfigError, match="another session"):
        await sessions.dispute(session.number, other)
    with pytest.raises(NoDisputeError):
        await sessions.send_evidence(session.number, session.evidence)
    assert (await sessions.dispute(session.number, session.evidence, force=True)).disputed
    before = session.purse()
    await court.rounds()
    check_money(session, before, session.purse(), slashed=before.locked)
    await sessions.close()


async def test_client_can_send_its_evidence_later_and_only_what_the_dispute_stands_on(
    session: Session, court: Court
) -> None:
    away = {key.verify_key.hex: "http://127.0.0.1:1" for key in session.town.town.suite.arbiters}
    knowing = session.town.town.cocoon(arbiters=away)
    sessions = AsyncSessions(knowing._context, session.town.client.workers, database=session.town.place)
    with pytest.raises(EvidenceNotSentError):
        await sessions.dispute(session.number, session.evidence, force=True)
    await sessions.close()
    await started(court, Ground.SLASH)
    knowing = session.town.town.cocoon(arbiters=court.urls)
    sessions = AsyncSessions(knowing._context, session.town.client.workers, database=session.town.place)
    with pytest.raises(ConfigError, match="stands on"):
        await sessions.send_evidence(session.number, SessionEvidence.of(session.ref, [session.record(9)]))
    delivered = await sessions.send_evidence(session.number, session.evidence)
    assert [each.taken for each in delivered] == [{ItemKind.SESSION}] * 3
    before = session.purse()
    await court.rounds()
    check_money(session, before, session.purse(), slashed=before.locked)
    await sessions.close()


async def test_evidence_that_cannot_be_judged_is_not_read_again_and_again(
    session: Session, court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Dispute] = []

    def counted(dispute: Dispute, data: bytes) -> SessionCase | None:
        reads.append(dispute)
        return read_case(dispute, data)

    monkeypatch.setattr("cocoon_sdk.arbiter.evidence.read_case", counted)
    await court.start(0, says=None)
    dispute = await session.dispute()
    await session.show(dispute)
    await court.rounds(10)
    # Once to see that it has to be judged, and once for each turn.
    assert (len(reads), len(court.judges[0].sessions)) == (2, 1)
    session.town.pass_time(61)
    await court.rounds(10)
    assert (len(reads), len(court.judges[0].sessions)) == (3, 2)


async def test_one_arbiter_that_has_the_evidence_is_enough(session: Session, court: Court) -> None:
    await started(court, Ground.SLASH)
    dispute = await session.dispute()
    item = Item(ItemKind.SESSION, session.evidence.to_bytes())
    (member,) = [each for each in dispute.members.values() if each.index == 1]
    assert (await court.arbiters().deliver(dispute, [item], member)).taken == {ItemKind.SESSION}
    before = session.purse()
    await court.rounds()
    check_money(session, before, session.purse(), slashed=before.locked)


async def decided_without_judge(session: Session, court: Court) -> None:
    """Dispute with records that all say nothing: the worker is released, and nobody judges anything."""
    await started(court, Ground.SLASH)
    _, before, after = await session.tried()
    check_money(session, before, after, slashed=0)
    assert not any(judge.sessions for judge in court.judges.values())


async def test_client_cannot_forge_a_receipt(session: Session, court: Court) -> None:
    stranger = key_of("stranger")
    session.records = [session.record(1, key=stranger), session.record(2, key=stranger)]
    await decided_without_judge(session, court)


async def test_client_cannot_sign_a_receipt_in_the_name_of_the_worker(session: Session, court: Court) -> None:
    forged = session.record(1, key=key_of("stranger"))
    session.records = [replace(forged, operator=session.key.verify_key.raw)]
    await decided_without_judge(session, court)


async def test_client_cannot_use_a_receipt_of_another_session(session: Session, court: Court) -> None:
    other = dataclasses.replace(session.ref, session_id=session.number + 1)
    session.records = [session.record(1, session=other)]
    await decided_without_judge(session, court)


async def test_client_cannot_bring_the_whole_evidence_of_another_session(
    session: Session, court: Court
) -> None:
    session.named = dataclasses.replace(session.ref, session_id=session.number + 1)
    session.records = [session.record(1, session=session.named)]
    await decided_without_judge(session, court)


async def test_records_that_say_nothing_do_not_spoil_those_that_do(session: Session, court: Court) -> None:
    await started(court, Ground.SLASH)
    session.records += [session.record(2, key=key_of("stranger")), session.record(3)]
    _, before, after = await session.tried()
    check_money(session, before, after, slashed=before.locked)
    (case,) = court.judges[0].sessions
    assert ([record.rid for record in case.records], case.ignored) == ([1, 3], 1)


# -- operator keys -------------------------------------------------------------------------------------------


async def test_worker_cannot_void_its_receipts_by_replacing_its_key(session: Session, court: Court) -> None:
    await started(court, Ground.SLASH)
    session.replace_key("second")
    session.records.append(session.record(2))
    session.replace_key("third")
    session.pad(200)
    _, before, after = await session.tried()
    check_money(session, before, after, slashed=before.locked)
    (case,) = court.judges[0].sessions
    assert [record.rid for record in case.records] == [1, 2]


async def test_worker_cannot_hide_its_old_key_behind_another_acceptance(
    session: Session, court: Court
) -> None:
    await started(court, Ground.SLASH)
    session.replace_key("second")
    # It is refused, since the session is guarded; its collateral is in the same lock for a moment.
    account, driver = session.town.worker.account, session.town.town.driver(session.town.client)
    done = account.accept_session(driver, session.number)
    assert any(message.op == m.Gone.OPCODE for each in done for message in each.out_msgs)
    _, before, after = await session.tried()
    check_money(session, before, after, slashed=before.locked)


async def test_thief_of_a_key_that_was_replaced_cannot_sign_for_a_later_session(
    session: Session, court: Court
) -> None:
    account, driver = session.town.worker.account, session.town.town.driver(session.town.client)
    stolen = session.key
    # The thief had it accept a session that did not exist yet: that comes to nothing.
    ahead = signing.accept_session(session.number + 1, account.session_target(driver, session.number))
    assert any(message.op == m.Gone.OPCODE for each in account.act(ahead) for message in each.out_msgs)
    session.replace_key("second")
    await session.sessions.close_session(session.number)
    later = await session.another()
    assert later.number == session.number + 1
    later.records = [later.record(1, key=stolen)]
    await started(court, Ground.SLASH)
    dispute, before, after = await later.tried()
    assert (after.stake, after.locked) == (before.stake, before.locked - dispute.collateral)
    assert not any(judge.sessions for judge in court.judges.values())


async def test_key_that_came_after_the_dispute_signs_nothing_before_it(
    session: Session, court: Court
) -> None:
    await started(court, Ground.SLASH)
    later = key_of("second")
    session.records = [session.record(1, key=later)]
    dispute = await session.dispute()
    session.town.pass_time(60)
    session.replace_key("second")
    session.replace_key("third")
    assert await session.show(dispute) == []
    before = session.purse()
    await court.rounds()
    check_money(session, before, session.purse(), slashed=0)
