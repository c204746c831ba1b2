"""A worker's paid path on real contracts: directed and open jobs, with and without the client's help."""

from __future__ import annotations

import base64
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.contracts.market import Market
from cocoon_sdk.crypto import VerifyKey
from cocoon_sdk.data import DirectoryStore, decode_data
from cocoon_sdk.data.location import InlineData, Location
from cocoon_sdk.history import AnnounceAction, SubmitAction, actions_of, walk
from cocoon_sdk.history.actions import AccountKind
from cocoon_sdk.protocol import decode_info, signing
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.sandbox.ledger import Ledger
from cocoon_sdk.types import Nano
from cocoon_worker.engine.base import EngineRequest, EngineResult
from cocoon_worker.engine.echo import EchoEngine
from cocoon_worker.service import WorkerService
from cocoon_worker.states import JobState
from tests.helpers.suite import Client
from tests.helpers.worker_rig import OpenedJob, Rig, record, state

MINIMUM = Nano.ton("0.01")


@pytest.fixture
async def rig(tmp_path: Path, blockchain: Blockchain, chain: Chain) -> Rig:
    return Rig(tmp_path, blockchain, chain)


@pytest.fixture
async def alice(rig: Rig) -> Client:
    return rig.suite.client("alice")


async def fetch(service: WorkerService, path: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{service.port}{path}") as response,
    ):
        return response.status, await response.json()


async def test_worker_can_serve_a_directed_job_when_the_client_only_waits(rig: Rig, alice: Client) -> None:
    async with rig.service("bob") as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()

        assert state(service, job) is JobState.SUBMITTED
        entry = alice.job(job.id)
        assert entry is not None
        submission = await rig.submitted("bob", job)
        assert submission is not None
        sealed, result_hash, amount = submission
        result = job.open(sealed, result_hash)
        assert "one two three" in result.response["choices"][0]["message"]["content"]
        assert entry.amount == amount == MINIMUM

        rig.warp(3601)
        await service.settle()
        assert state(service, job) is JobState.PAID
        assert record(service, job).paid == amount
        assert alice.job(job.id) is None
        stake = rig.account("bob").get_state()
        assert stake.earned + stake.fee_due == amount
        assert stake.locked == 0
        assert service.journal.payload(job.key) is None  # evidence is wiped
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_can_be_paid_at_once_when_the_window_is_zero(rig: Rig, alice: Client) -> None:
    async with rig.service("bob") as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob", window=0)
        await service.settle()
        assert state(service, job) is JobState.PAID
        assert rig.account("bob").locks() == {}


async def test_worker_can_claim_first_when_the_claim_deadline_is_near(rig: Rig, alice: Client) -> None:
    async with rig.service("bob") as service:
        await service.settle()
        request = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1024}
        packed = rig.pack(service, request=request)
        job = rig.open_job(alice, service, "bob", packed=packed, claim_period=90)
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED
        kinds = [type(message.content) for message in await rig.work_messages("bob")]
        assert kinds == [m.Claim, m.SubmitClaimed]
        rig.warp(3601)
        await service.settle()
        assert state(service, job) is JobState.PAID


# -- cooperative end ---------------------------------------------------------------------------------------


async def test_client_can_end_a_job_with_the_signed_result_in_four_transactions(
    rig: Rig, alice: Client
) -> None:
    async with rig.service("bob", endpoint=True) as service:
        await service.settle()
        before = rig.blockchain.lt
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        assert state(service, job) is JobState.READY

        status, answer = await fetch(service, job.url_path)
        assert status == 200
        amount, result_hash = int(answer["amount"]), bytes.fromhex(answer["result_hash"])
        signature = bytes.fromhex(answer["signature"])
        digest = signing.result_digest(
            alice.domain(), rig.account("bob").address, job.id, result_hash, amount
        )
        assert rig.account("bob").key.verify_key.verify(digest, signature)
        result = job.open(base64.b64decode(answer["result"]), result_hash)
        assert result.usage.input_tokens == 3

        alice.act(signing.accept_signed(job.id, Nano(amount), result_hash, signature))
        await service.settle()
        assert state(service, job) is JobState.PAID
        assert await rig.work_messages("bob") == []
        made = [tx for tx in rig.blockchain.transactions(limit=100) if tx.lt > before]
        assert len(made) == 4  # open, its notice, accept, the reward
        rig.warp(7200)
        await service.settle()
        assert await rig.work_messages("bob") == []


async def test_worker_can_submit_on_chain_when_the_client_does_not_come(rig: Rig, alice: Client) -> None:
    async with rig.service("bob", endpoint=True) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        rig.warp(19)
        await service.settle()
        assert state(service, job) is JobState.READY
        rig.warp(2)
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED
        assert (await fetch(service, job.url_path))[0] == 200


async def test_worker_cannot_wait_for_the_client_when_the_deadline_is_near(rig: Rig, alice: Client) -> None:
    policy = {"handover_s": 10_000}
    async with rig.service("bob", endpoint=True, policy=policy) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob", claim_period=600)
        await service.settle()
        rig.warp(600 - 61)
        await service.settle()
        assert state(service, job) is JobState.READY
        rig.warp(1)  # confirmation_s and safety_s before the deadline
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED


async def test_client_accepting_while_the_submission_is_under_way_pays_once(rig: Rig, alice: Client) -> None:
    async with rig.service("bob", endpoint=True) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        _, answer = await fetch(service, job.url_path)
        rig.warp(21)
        rig.blockchain.hold()
        await service.step()  # the stake has locked and sent its Submit, which is still on its way
        assert state(service, job) is JobState.SUBMITTING
        alice.act(
            signing.accept_signed(
                job.id,
                Nano(int(answer["amount"])),
                bytes.fromhex(answer["result_hash"]),
                bytes.fromhex(answer["signature"]),
            )
        )
        rig.blockchain.release()
        await service.settle()
        assert state(service, job) is JobState.PAID
        assert record(service, job).paid == MINIMUM
        stake = rig.account("bob").get_state()
        assert (stake.locked, rig.account("bob").locks()) == (0, {})
        assert service.journal.locked_jobs() == []
    Ledger.of(rig.blockchain).assert_balanced()


# -- open jobs ---------------------------------------------------------------------------------------------


async def test_three_workers_can_compete_for_an_open_job_and_only_one_is_paid(
    rig: Rig, alice: Client
) -> None:
    names = ("bob", "carol", "dave")
    services = [rig.service(name) for name in names]
    async with services[0], services[1], services[2]:
        for service in services:
            await service.settle()
        job = rig.open_job(alice, services[0], None)
        before = {name: rig.account(name).get_state() for name in names}
        rig.blockchain.hold()  # all three claim before any claim arrives
        for service in services:
            await service.settle()
            assert state(service, job) is JobState.CLAIMING
            assert record(service, job).bonded
        assert all([len(await rig.work_messages(name)) == 1 for name in names])
        rig.blockchain.release()
        for service in services:
            await service.settle()
        ends = {name: state(service, job) for name, service in zip(names, services, strict=True)}
        assert sorted(ends.values()) == [JobState.LOST, JobState.LOST, JobState.SUBMITTED]
        rig.warp(3601)
        for service in services:
            await service.settle()

        winner = next(name for name, end in ends.items() if end is JobState.SUBMITTED)
        for name, service in zip(names, services, strict=True):
            stake = rig.account(name).get_state()
            assert (stake.locked, rig.account(name).locks()) == (0, {})
            assert stake.stake == before[name].stake
            earned = MINIMUM if name == winner else 0
            assert stake.earned + stake.fee_due == earned
            # To the nanoTON: all that a balance lost beside its income is gas.
            assert stake.balance - stake.stake - stake.earned - stake.fee_due < before[name].balance
            assert record(service, job).paid == earned
            assert service.journal.locked_jobs() == []
            assert (record(service, job).bond, record(service, job).slashed) == (0, 0)
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_cannot_claim_when_its_gas_does_not_pay_for_bond_and_submission(
    rig: Rig, alice: Client
) -> None:
    """It refuses until its owner sends gas; another claim's submission is never put at risk."""
    bob = rig.account("bob")
    async with rig.service("bob", policy={"min_gas": "0"}) as service:
        await service.settle()
        spare = bob.get_state().gas - Nano.ton("0.05")
        bob.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(spare)))
        job = rig.open_job(alice, service, None)
        await service.settle()
        assert record(service, job).reason.startswith("not-enough-gas")
        assert await rig.work_messages("bob") == []
        bob.owner.send(bob.address, Nano.ton(1))
        rig.warp(2)
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED
    Ledger.of(rig.blockchain).assert_balanced()


async def test_worker_cannot_pay_for_a_claim_when_another_was_faster(rig: Rig, alice: Client) -> None:
    async with rig.service("bob") as bob, rig.service("carol") as carol:
        await bob.settle()
        await carol.settle()
        job = rig.open_job(alice, bob, None)
        await bob.settle()
        await carol.settle()
        assert state(bob, job) is JobState.SUBMITTED
        assert state(carol, job) is JobState.REFUSED
        assert record(carol, job).reason.startswith("already-taken")
        assert await rig.work_messages("carol") == []


async def test_worker_cannot_serve_a_private_payload_of_an_open_job_for_another(
    rig: Rig, alice: Client
) -> None:
    async with rig.service("bob") as bob, rig.service("carol") as carol:
        await bob.settle()
        await carol.settle()
        sealed = rig.pack(bob)
        job = rig.open_job(alice, bob, None, packed=sealed)
        await carol.settle()
        assert record(carol, job).reason.startswith("payload-unreadable")
        await bob.settle()
        assert state(bob, job) is JobState.SUBMITTED


# -- announcements and data ----------------------------------------------------------------------------------


async def test_reader_can_find_the_announced_offer_in_the_market(rig: Rig) -> None:
    async with rig.service("bob", endpoint=True) as service:
        await service.settle()
        params = m.Params.from_cell(rig.suite.params_cell)
        market = Market.of(rig.chain, rig.suite.network, params, rig.suite.model_id)
        notices = [notice async for notice in market.notices()]
        ((announced),) = [notice.content for notice in notices]
        stake = rig.account("bob")
        assert isinstance(announced, m.OfferNotice)
        assert announced.info_hash == stake.get_state().info_hash
        found = []
        async for transaction in walk(rig.chain, stake.address):
            found += [
                a for a, _ in actions_of(transaction, AccountKind.STAKE) if isinstance(a, AnnounceAction)
            ]
        assert len(found) == 1
        assert found[0].data is not None
        content = decode_data(found[0].data)
        assert isinstance(content, InlineData)
        info = decode_info(content.content, stake.get_state().info_hash.to_bytes(32, "big"))
        assert info == service.info()
        assert info.endpoint == "http://worker.example"
        assert info.operator == VerifyKey.from_int(stake.get_state().operator_key)


async def test_worker_can_announce_again_only_when_a_week_is_over_or_the_prekey_changed(rig: Rig) -> None:
    async def announcements() -> int:
        count = 0
        async for transaction in walk(rig.chain, rig.account("bob").address):
            actions = actions_of(transaction, AccountKind.STAKE)
            count += sum(isinstance(action, AnnounceAction) for action, _ in actions)
        return count

    async with rig.service("bob") as service:
        await service.settle()
        rig.warp(3 * 86_400)
        await service.settle()
        assert await announcements() == 1
        rig.warp(4 * 86_400 + 10)  # a third of the prekey's life is over, too
        await service.settle()
        assert await announcements() == 2
        assert len(service.info().prekeys) == 2
    async with rig.service("bob") as service:
        await service.settle()
        assert await announcements() == 2


async def test_worker_can_deliver_by_reference_when_inline_is_forbidden(rig: Rig, alice: Client) -> None:
    shared = rig.root / "shared"
    shared.mkdir()
    data = {"inline": "never", "directory": shared}
    async with rig.service("bob", data=data) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        assert state(service, job) is JobState.SUBMITTED
        locations = []
        async for transaction in walk(rig.chain, rig.account("bob").address):
            for action, _ in actions_of(transaction, AccountKind.STAKE):
                if isinstance(action, SubmitAction) and action.data is not None:
                    locations.append((decode_data(action.data, schemes={"file"}), action.result_hash))
        ((location, result_hash),) = locations
        assert isinstance(location, Location)
        assert job.open(await DirectoryStore(shared).get(location), result_hash)


async def test_client_can_fetch_a_result_from_the_endpoint_when_the_chain_names_it(
    rig: Rig, alice: Client
) -> None:
    async with rig.service("bob", endpoint=True, data={"inline": "never"}) as service:
        await service.settle()
        job: OpenedJob = rig.open_job(alice, service, "bob")
        await service.settle()
        result = service.journal.result(job.key)
        assert result is not None
        path = f"/v1/data/{Location.of('http://x.example/', result.sealed).sha256.hex()}"
        async with aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as session:
            async with session.get(path) as early:
                assert early.status == 404  # not on chain yet
            rig.warp(21)
            await service.settle()
            assert state(service, job) is JobState.SUBMITTED
            async with session.get(path) as late:
                assert late.status == 200
                assert job.open(await late.read(), result.result_hash)


class VerboseEngine(EchoEngine):
    """An echo with a long tail that does not compress."""

    tail = 0

    async def run(self, request: EngineRequest, *, deadline_s: float) -> EngineResult:
        found = await super().run(request, deadline_s=deadline_s)
        tail = base64.b64encode(random.Random(1).randbytes(self.tail)).decode()
        return replace(found, raw=msgspec.json.encode({**found.response, "tail": tail}))


@pytest.mark.parametrize(("tail", "inline"), [(7000, True), (9000, False)])
async def test_worker_can_deliver_a_long_result_inline_up_to_the_limit_and_not_beyond(
    rig: Rig, alice: Client, tail: int, inline: bool
) -> None:
    engine = VerboseEngine(clock=rig.clock)
    engine.tail = tail
    async with rig.service("bob", engine=engine) as service:
        await service.settle()
        job = rig.open_job(alice, service, "bob")
        await service.settle()
        if inline:
            submission = await rig.submitted("bob", job)
            assert submission is not None
            assert len(submission[0]) > 7000
            assert job.open(submission[0], submission[1]).response["tail"]
        else:
            assert state(service, job) is JobState.FAILED
            assert "result store" in record(service, job).reason


async def test_many_submissions_can_share_one_external_within_its_size(rig: Rig, alice: Client) -> None:
    engine = VerboseEngine(clock=rig.clock)
    engine.tail = 6000
    async with rig.service("bob", engine=engine, policy={"max_concurrent": 16}) as service:
        await service.settle()
        seqno = rig.account("bob").get_state().seqno
        jobs = [rig.open_job(alice, service, "bob") for _ in range(12)]
        await service.settle()
        assert {state(service, job) for job in jobs} == {JobState.SUBMITTED}
        assert 2 <= rig.account("bob").get_state().seqno - seqno <= 4
        rig.warp(3601)
        await service.settle()
        assert {state(service, job) for job in jobs} == {JobState.PAID}
    Ledger.of(rig.blockchain).assert_balanced()
