"""An arbiter's HTTP endpoint against whoever comes: bounded, in form, and nothing private in any answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cocoon_sdk.arbiter.errors import SecondVerdictError
from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.arbiter_endpoints import Answered, ArbiterEndpoints, ArbiterUnreachableError
from cocoon_sdk.client.arbiters import Arbiters
from cocoon_sdk.client.job import AsyncJob
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.errors import ConfigError, MalformedError
from cocoon_sdk.protocol.disputes import Ground, Item, ItemKind, Receipt, receipt_digest
from cocoon_sdk.sandbox import Blockchain
from tests.helpers.arbiters import Court, Submission, dispute_of, submit, verifiable
from tests.helpers.sdk import MODEL_NAME, Town, chat

SECRET = "What is the capital of France?"


@pytest.fixture
async def town(blockchain: Blockchain) -> AsyncIterator[Town]:
    made = Town(blockchain)
    yield made
    await made.close()


@pytest.fixture
async def court(town: Town, tmp_path: Path) -> AsyncIterator[Court]:
    made = Court(town.chain, town.adapter, town.suite, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def disputed(town: Town, court: Court) -> tuple[AsyncCocoon, AsyncJob, Dispute]:
    """Bring one dispute with its evidence before the arbiters that run."""
    worker = town.worker(announced=False)
    verifiable(worker)
    client = await town.client(arbiters=court.urls)
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(SECRET), accept="manual")
    await submit(worker, client, job.id)
    await job.dispute()
    return client, job, await dispute_of(client, job.id)


def url_of(court: Court, index: int = 0) -> str:
    return court.urls[court.suite.arbiters[index].verify_key.hex]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/disputes", b"", 400),
        ("/v1/disputes", b"[]", 400),
        ("/v1/disputes", b"{}", 400),
        ("/v1/disputes", b'{"escrow":"0:' + b"0" * 64 + b'","kind":9,"id":1}', 400),
        ("/v1/disputes", b'{"escrow":"0:' + b"0" * 64 + b'","kind":1,"id":-1}', 400),
        ("/v1/disputes", b'{"escrow":"0:' + b"0" * 64 + b'","kind":true,"id":1}', 400),
        ("/v1/disputes", b'{"escrow":"-1' + b"0" * 64 + b'","kind":1,"id":1}', 400),
        ("/v1/disputes", b'{"escrow":"0:' + b"x" * 64 + b'","kind":1,"id":1}', 400),
        ("/v1/disputes", b'{"escrow":"0:' + b"0" * 64 + b'","kind":1,"id":1}', 404),
        ("/v1/disputes", bytes(5000), 400),
        (f"/v1/disputes/{'0' * 64}/opinions", b"{}", 404),
        (f"/v1/disputes/{'0' * 64}/evidence", bytes(1000), 404),
        ("/v1/disputes/DIGEST/opinions", b"{}", 400),
        ("/v1/disputes/DIGEST/opinions", bytes(70_000), 400),
        ("/v1/disputes/DIGEST/evidence", bytes(1000), 400),
        ("/v1/disputes/DIGEST/evidence", b"\x01" + bytes(1000), 400),
        ("/v1/disputes/DIGEST/evidence", b"\x01" + bytes(range(1, 33)) + bytes(1000), 400),
        ("/v1/disputes/DIGEST/evidence", bytes(1 << 17), 400),
    ],
    ids=str,
)
async def test_stranger_cannot_send_what_is_not_in_form(
    town: Town, court: Court, http: aiohttp.ClientSession, path: str, body: bytes, status: int
) -> None:
    await court.start(0, says=None, max_sealed_bytes=1 << 16)
    digest = "0" * 64
    if "DIGEST" in path:
        _, _, dispute = await disputed(town, court)
        digest = dispute.digest.hex()
    async with http.post(url_of(court) + path.replace("DIGEST", digest), data=body) as response:
        answer = await response.text()
        assert response.status == status, answer
        assert set(json.loads(answer)) == {"error"}


async def test_arbiter_tells_where_a_dispute_stands_and_nothing_private(
    town: Town, court: Court, http: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    await court.start(0, says=Ground.HONEST)
    _, job, dispute = await disputed(town, court)
    await court.rounds(2)
    told: list[str] = []
    for path in (
        "arbiter",
        "disputes",
        f"disputes/{dispute.digest.hex()}",
        f"disputes/{dispute.digest.hex()}/opinions",
    ):
        async with http.get(f"{url_of(court)}/v1/{path}") as response:
            assert response.status == 200
            told.append(await response.text())
    status: dict[str, Any] = json.loads(told[2])
    assert status["id"] == job.id
    assert status["held"] == ["PAYLOAD", "RESULT", "CLIENT_KEY", "RECEIVED", "TERMS"]
    assert (status["voted"], status["signed"], status["committed"], status["needed"]) == (True, False, [0], 3)
    # It has voted and committed; what it voted nobody learns before others did.
    assert json.loads(told[3])["votes"] == []
    told.append(capsys.readouterr().out)
    assert not any("capital" in text or "Paris" in text for text in told)


async def test_party_cannot_be_sent_to_another_arbiter(town: Town, court: Court) -> None:
    await court.start(0)
    await court.start(1)
    _, _, dispute = await disputed(town, court)
    keys = [key.verify_key.hex for key in court.suite.arbiters]
    swapped = Arbiters({keys[0]: court.urls[keys[1]]})
    with pytest.raises(MalformedError, match="another one answers"):
        await swapped.info_of(dispute.members[0], dispute.domain.global_id)
    with pytest.raises(MalformedError, match="another one answers"):
        await court.arbiters().info_of(dispute.members[0], dispute.domain.global_id + 1)
    await swapped.close()


async def test_client_waits_for_no_arbiter_that_is_away() -> None:
    endpoints = ArbiterEndpoints(timeout_s=5)
    with pytest.raises(ArbiterUnreachableError):
        await endpoints.info("http://127.0.0.1:1")
    await endpoints.close()


@pytest.mark.parametrize(
    "urls", [{"00": "http://a"}, {"ab" * 32: "ftp://a"}, {"00" * 32: "http://a"}], ids=str
)
def test_list_of_arbiters_cannot_be_used_when_it_makes_no_sense(urls: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="list of arbiters"):
        Arbiters(urls)


async def undelivered(town: Town, court: Court) -> tuple[Submission, Dispute]:
    """Dispute a result whose evidence no arbiter has been shown."""
    worker = town.worker(announced=False)
    verifiable(worker)
    client = await town.client()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(SECRET), accept="manual")
    submission = await submit(worker, client, job.id)
    await job.dispute()
    return submission, await dispute_of(client, job.id)


async def test_party_can_prove_that_it_delivered(town: Town, court: Court) -> None:
    await court.start(0, says=None)
    submission, dispute = await undelivered(town, court)
    member = dispute.members[0]
    delivered = await court.arbiters().deliver(dispute, submission.items, member)
    assert delivered.taken == {ItemKind.PAYLOAD, ItemKind.RESULT}
    for item in submission.items:
        digest = receipt_digest(dispute.digest, item)
        assert member.key.verify(digest, delivered.receipts[item.kind].signature)


async def test_arbiter_cannot_take_evidence_without_signing_for_it(
    town: Town, court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    await court.start(0, says=None)
    submission, dispute = await undelivered(town, court)
    arbiters = court.arbiters()

    async def signed_nothing(*_: object) -> Answered:
        return Answered({ItemKind.PAYLOAD: bytes(64)}, "")

    monkeypatch.setattr(arbiters.endpoints, "deliver", signed_nothing)
    delivered = await arbiters.deliver(dispute, submission.items, dispute.members[0])
    assert delivered.taken == frozenset()
    assert "no receipt" in delivered.problem


async def test_arbiter_that_was_away_takes_late_what_another_one_signed_for(town: Town, court: Court) -> None:
    await court.start(0, says=None)
    submission, dispute = await undelivered(town, court)
    party = court.arbiters()
    await party.deliver(dispute, submission.items, dispute.members[0])
    await court.stop(0)
    town.chain.warp(dispute.evidence_s + 1)
    await court.start(1, says=None)
    stranger = await court.arbiters().deliver(dispute, submission.items, dispute.members[1])
    assert stranger.taken == frozenset()
    late = await party.deliver(dispute, submission.items, dispute.members[1])
    assert late.taken == {ItemKind.PAYLOAD, ItemKind.RESULT}


async def test_arbiter_keeps_receipts_for_what_it_holds(town: Town, court: Court) -> None:
    await court.start(0, says=None)
    submission, dispute = await undelivered(town, court)
    payload, _ = submission.items
    arbiters, member = court.arbiters(), dispute.members[0]
    await arbiters.deliver(dispute, [payload], member)
    signature = town.suite.arbiters[3].sign(receipt_digest(dispute.digest, payload))
    receipts = (Receipt(3, signature), Receipt(4, signature))
    await arbiters.deliver(dispute, [Item(payload.kind, payload.data, receipts)], member)
    held = (await court.hearing(0, dispute).items())[ItemKind.PAYLOAD]
    assert [receipt.index for receipt in held.receipts] == [0, 3]


async def test_dispute_is_announced_only_to_an_arbiter_that_does_not_know_it(
    town: Town, court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    await court.start(0, says=None)
    submission, dispute = await undelivered(town, court)
    arbiters, told = court.arbiters(), []
    announce = arbiters.endpoints.announce

    async def counted(url: str, about: Dispute) -> None:
        told.append(url)
        await announce(url, about)

    monkeypatch.setattr(arbiters.endpoints, "announce", counted)
    payload, result = submission.items
    large = Item(ItemKind.CLIENT_KEY, bytes(1 << 17))
    for item in (payload, result, large, payload):
        assert (await arbiters.deliver(dispute, [item], dispute.members[0])).reached
    assert len(told) == 1


async def test_arbiter_is_silent_when_somebody_else_votes_with_its_key(town: Town, court: Court) -> None:
    await court.start(0, says=None)
    submission, dispute = await undelivered(town, court)
    await court.arbiters().deliver(dispute, submission.items, dispute.members[0])
    hearing = court.hearing(0, dispute)
    hearing.is_doubled = True
    with pytest.raises(SecondVerdictError, match="our key"):
        await hearing.vote(Ground.HONEST)
    assert await hearing.own() is None
