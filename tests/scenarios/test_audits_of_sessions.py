"""Audits of guarded sessions: what is found in them is disputed with what the worker signed, by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cocoon_sdk.client import AsyncCocoon
from cocoon_sdk.client.auditing import AuditOutcome, DisputeStep
from cocoon_sdk.client.auditing.evidence_book import EvidenceVault
from cocoon_sdk.client.sessions import CHAT, InferenceRequest
from cocoon_sdk.client.sessions.answers.joining import write_json
from cocoon_sdk.contracts.disputes import read_session_dispute
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.errors import DecryptionError
from cocoon_sdk.protocol.disputes import Ground
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.arbiters import Court
from tests.helpers.audit_town import HOT, AuditTown, audit_town, cheap_table
from tests.helpers.sdk import MODEL_NAME, chat
from tests.helpers.suite import key_of

SECRET = "what nobody else shall read"


@pytest.fixture
async def town(blockchain: Blockchain, tmp_path: Path) -> AsyncIterator[AuditTown]:
    async with audit_town(blockchain, tmp_path) as made:
        yield made


async def ask(client: AsyncCocoon, *, stream: bool = False, **options: Any) -> None:
    messages = [*chat(), {"role": "user", "content": SECRET}]
    body = write_json({"model": MODEL_NAME, "messages": messages, **HOT, **options})
    request = InferenceRequest(CHAT, MODEL_NAME, body, stream)
    if stream:
        assert [piece async for piece in client.inference.stream(request)]
    else:
        await client.inference.answer(request)
    assert await client.audits.idle()


async def guarded(town: AuditTown, client: AsyncCocoon, name: str) -> int:
    """Open a session by a first answer, and let its worker put collateral into it; return its number."""
    await ask(client)
    (session,) = await client.sessions.list()
    town.place.rig.account(name).accept_session(town.town.driver(client), session.session_id)
    assert (await client.sessions.get(session.session_id)).guarded
    return session.session_id


@pytest.mark.parametrize("stream", [False, True])
async def test_cheated_client_of_a_guarded_session_disputes_it_with_the_signed_answer(
    town: AuditTown, stream: bool
) -> None:
    await town.worker("mallory")
    client = await town.client()
    number = await guarded(town, client, "mallory")
    town.doubles["mallory"].table = cheap_table
    free = (await client.escrow.balance()).free
    await ask(client, stream=stream, stream_options={"include_usage": True} if stream else None)
    newest = next(each for each in await client.audits.list() if each.outcome is AuditOutcome.FAILED)
    assert (newest.level, newest.dispute, newest.dispute_why) == ("slash", DisputeStep.DISPUTED, "")
    assert 0 < newest.bond <= free
    assert (await client.sessions.get(number)).disputed
    assert client.audits.numbers.disputed == 1

    # The chain names the hash of what is kept, and that is one answer, as its worker signed it.
    store = await client.audits.store()
    sealed = await store.disputes.evidence(newest.uid)
    assert sealed is not None
    assert SECRET.encode() not in sealed
    vault = EvidenceVault(client.escrow.address, client._context.hot_key)
    evidence = vault.open(sealed)
    dispute = await read_session_dispute(Escrow.at(client.chain, client.escrow.address), number)
    assert dispute.result_hash == evidence.digest()
    (record,) = evidence.records
    assert (evidence.session.session_id, record.rid) == (number, newest.subject.request)
    key = town.place.rig.account("mallory").key.verify_key
    assert record.receipt.verified_by(key, evidence.session, record.signature)
    assert SECRET.encode() in record.request
    assert record.commitment
    with pytest.raises(DecryptionError):
        EvidenceVault(client.escrow.address, key_of("a thief")).open(sealed)
    files = [path.read_bytes() for path in town.folder.glob("client.sqlite*")]
    assert not any(SECRET.encode() in content for content in files)

    await client.audits.keep()
    (again,) = [each for each in await client.audits.list() if each.dispute]
    assert (again.dispute, again.bond) == (DisputeStep.DISPUTED, newest.bond)


async def test_cheater_of_a_guarded_session_loses_its_collateral_without_anybody_doing_anything_by_hand(
    town: AuditTown, tmp_path: Path
) -> None:
    """Found by an audit, disputed, shown and decided. What scores at the arbiters is a scripted double."""
    court = Court(town.town.chain, town.town.adapter, town.town.suite, tmp_path / "arbiters")
    court.root.mkdir()
    for index in range(3):
        await court.start(index, says=Ground.SLASH, wallet=index == 0)
    await town.worker("mallory")
    client = await town.client(arbiters=court.urls)
    number = await guarded(town, client, "mallory")
    stake = town.place.rig.account("mallory").get_state().stake
    town.doubles["mallory"].table = cheap_table
    await ask(client)
    (finding,) = [each for each in await client.audits.list() if each.outcome is AuditOutcome.FAILED]
    assert finding.dispute is DisputeStep.DISPUTED
    dispute = await read_session_dispute(Escrow.at(client.chain, client.escrow.address), number)
    await court.rounds()
    (case,) = court.judges[0].sessions
    assert [record.rid for record in case.records] == [finding.subject.request]
    assert case.ignored == 0
    assert not (await client.sessions.get(number)).disputed
    after = town.place.rig.account("mallory").get_state().stake
    assert stake - after == dispute.collateral > 0
    await court.close()


async def test_dispute_waits_for_an_arbiter_that_takes_its_evidence(town: AuditTown, tmp_path: Path) -> None:
    court = Court(town.town.chain, town.town.adapter, town.town.suite, tmp_path / "arbiters")
    court.root.mkdir()
    for index in range(3):
        await court.start(index, says=Ground.SLASH)
    await town.worker("mallory")
    client = await town.client(arbiters=court.urls)
    number = await guarded(town, client, "mallory")
    for index in range(3):
        await court.stop(index)
    town.doubles["mallory"].table = cheap_table
    await ask(client)
    newest = next(each for each in await client.audits.list() if each.outcome is AuditOutcome.FAILED)
    assert newest.dispute is DisputeStep.WANTED
    assert (await client.sessions.get(number)).disputed
    for index in range(3):
        await court.start(index, says=Ground.SLASH)
    await client.audits.keep()
    again = next(each for each in await client.audits.list() if each.outcome is AuditOutcome.FAILED)
    assert (again.dispute, again.bond) == (DisputeStep.DISPUTED, newest.bond)
    await court.rounds()
    assert len(court.judges[0].sessions) == 1
    await court.close()


@pytest.mark.parametrize("policy", [{"dispute": False}, {"most_bond": Nano(1)}])
async def test_session_is_not_disputed_beyond_the_policy(town: AuditTown, policy: dict[str, Any]) -> None:
    await town.worker("mallory")
    client = await town.client(audit=town.policy(**policy))
    number = await guarded(town, client, "mallory")
    town.doubles["mallory"].table = cheap_table
    await ask(client)
    newest = next(each for each in await client.audits.list() if each.outcome is AuditOutcome.FAILED)
    assert newest.dispute is (DisputeStep.NONE if "dispute" in policy else DisputeStep.REFUSED)
    assert not (await client.sessions.get(number)).disputed
    assert await (await client.audits.store()).disputes.evidence(newest.uid) is None


async def test_honest_worker_of_a_guarded_session_is_not_disputed(town: AuditTown) -> None:
    await town.worker("alice")
    client = await town.client()
    number = await guarded(town, client, "alice")
    for _ in range(9):
        await ask(client)
    assert {each.dispute for each in await client.audits.list()} == {DisputeStep.NONE}
    assert not (await client.sessions.get(number)).disputed
