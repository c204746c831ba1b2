"""An app developer's jobs from opening to payment, with the workers' side played by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.app import AsyncCocoon
from cocoon_sdk.client.errors import AmountMismatchError
from cocoon_sdk.client.results import Arrival
from cocoon_sdk.errors import (
    HashMismatchError,
    InsufficientEscrowError,
    InsufficientStakeError,
    JobExpiredError,
    JobTimeoutError,
    NoWorkerError,
    OfferRefusedError,
    PriceTooHighError,
    UnknownModelError,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.exit_codes import (
    BadPeriodsError,
    BadSignatureError,
    DailyLimitError,
    TooEarlyError,
    TooLateError,
    WrongStateError,
)
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain
from cocoon_sdk.types import Nano
from tests.helpers.sdk import MODEL_NAME, Endpoint, Town, chat
from tests.helpers.suite import hash_of, key_of


@pytest.fixture
async def town(blockchain: Blockchain, chain: Chain) -> AsyncIterator[Town]:
    made = Town(blockchain, chain)
    yield made
    await made.close()


@pytest.fixture
async def client(town: Town) -> AsyncCocoon:
    return await town.client()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint() as server:
        yield server


async def test_client_can_get_an_answer_that_was_submitted_on_chain(town: Town, client: AsyncCocoon) -> None:
    worker = town.worker()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), max_output_tokens=64)
    payload, _ = await worker.read(client, job.id)
    assert payload.request == {"messages": chat(), "max_tokens": 64, "model": MODEL_NAME}
    assert (await job.status()).state is JobState.OFFERED
    waiting = asyncio.create_task(job.result(timeout=30))
    await asyncio.sleep(0)
    await worker.answer(client, job.id, "Paris.")
    result = await waiting
    assert (result.text, result.amount, result.accepted) == ("Paris.", worker.price(), True)
    assert result.arrival is Arrival.INLINE
    status = await job.status()
    assert (status.state, status.amount, status.worker) == (JobState.PAID, worker.price(), worker.address)
    balance = await client.escrow.balance()
    assert (balance.jobs, balance.reserved) == (0, 0)
    assert worker.account.get_state().earned == worker.price() * 99 // 100


async def test_client_can_get_an_answer_that_was_handed_over(
    town: Town, client: AsyncCocoon, endpoint: Endpoint
) -> None:
    worker = town.worker(announced=False)
    worker.announce(endpoint=endpoint.url)
    job = await client.jobs.create(model=town.model.model_id, messages=chat())
    endpoint.answers[job.id] = (200, await worker.handover(client, job.id))
    result = await job.result(timeout=30)
    assert (result.text, result.arrival, result.accepted) == ("Paris.", Arrival.HANDOVER, True)
    assert (await job.status()).state is JobState.PAID
    assert endpoint.calls == [f"/v1/results/{client.escrow.address.to_str(False)}/{job.id}"]
    kinds = [event.kind.value for event in await job.history()]
    assert kinds == ["opened", "accepted with signature"]


@pytest.mark.parametrize("rekeyed", [False, True])
async def test_client_can_take_a_claimed_answer_by_hand_only_under_the_key_that_claimed(
    town: Town, client: AsyncCocoon, endpoint: Endpoint, rekeyed: bool
) -> None:
    """A claim shows the end of its operator key; the SDK reads the rest off the stake."""
    worker = town.worker(announced=False)
    worker.announce(endpoint=endpoint.url)
    job = await client.jobs.create(model=town.model.model_id, messages=chat(), worker="open")
    worker.account.claim(town.driver(client), job.id)
    endpoint.answers[job.id] = (200, await worker.handover(client, job.id))
    if rekeyed:
        worker.account.from_owner(m.SetKey(query_id=0, key=key_of("next").verify_key.to_int()))
        with pytest.raises(JobTimeoutError) as waited:
            await job.result(timeout=0)
        assert isinstance(waited.value.__cause__, BadSignatureError)
        assert (await job.status()).state is JobState.CLAIMED
        return
    result = await job.result(timeout=30)
    assert (result.text, result.arrival, result.accepted) == ("Paris.", Arrival.HANDOVER, True)
    kinds = [event.kind.value for event in await job.history()]
    assert kinds == ["opened", "claimed", "accepted with signature"]


async def test_client_can_recover_a_result_after_it_was_killed(town: Town, client: AsyncCocoon) -> None:
    worker = town.worker()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual")
    await worker.answer(client, job.id, "Paris.")
    again = town.cocoon()
    (found,) = await again.jobs.list()
    result = await found.result(timeout=30)
    assert (result.text, result.accepted) == ("Paris.", True)
    # Even after the money went, the chain still holds what was bought.
    late = await town.cocoon().jobs.get(job.id).result(timeout=30)
    assert (late.text, late.accepted) == ("Paris.", True)


async def test_client_can_let_any_worker_claim_a_job(town: Town, client: AsyncCocoon) -> None:
    worker = town.worker()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), worker="open")
    assert (await job.status()).state is JobState.OPEN
    worker.account.claim(town.driver(client), job.id)
    assert (await job.status()).state is JobState.CLAIMED
    sealed = await worker.make(client, job.id)
    from cocoon_sdk.data import InlineData, encode_data
    from cocoon_sdk.protocol import signing

    data = encode_data(InlineData(sealed.data))
    target = worker.target(client, job.id)
    worker.account.act(signing.submit_claimed(job.id, worker.price(), target, sealed.result_hash, data))
    assert (await job.result(timeout=30)).text == "Paris."


async def test_client_can_create_jobs_from_many_tasks_and_processes_at_once(town: Town) -> None:
    town.worker(stake=Nano.ton(1000))
    first, second = await town.client(), town.cocoon()
    made = await asyncio.gather(
        *(
            cocoon.jobs.create(model=MODEL_NAME, messages=chat(f"{number}"), max_output_tokens=16)
            for number in range(4)
            for cocoon in (first, second)
        )
    )
    assert sorted(job.id for job in made) == list(range(1, 9))
    assert len(await first.jobs.list()) == 8


async def test_client_can_use_the_cheapest_worker_and_see_what_inlining_costs(
    town: Town, client: AsyncCocoon
) -> None:
    dear, cheap = town.worker("dear", announced=False), town.worker("cheap")
    dear.announce(terms=dear.terms(output_price=Nano.ton("500")))
    offers = await client.workers.list(MODEL_NAME)
    assert [offer.address for offer in offers] == [cheap.address, dear.address]
    before = await client.escrow.balance()
    estimate = await client.jobs.estimate(model=MODEL_NAME, messages=chat(), max_output_tokens=64)
    assert await client.escrow.balance() == before
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), max_output_tokens=64)
    assert job.cost_estimate == estimate
    assert 0 < estimate.inline < Nano.ton("0.02")
    assert (await job.status()).worker == cheap.address
    after = await client.escrow.balance()
    assert before.free - after.free <= estimate.total
    assert after.reserved == estimate.price + estimate.bond + estimate.announcements


# -- what is refused before anything is spent ----------------------------------------------------------------


async def test_client_cannot_create_a_job_when_the_escrow_does_not_cover_it(town: Town) -> None:
    town.worker()
    client = await town.client(deposit=Nano.ton("0.3"))
    with pytest.raises(InsufficientEscrowError, match=r"needed are .* TON: price .* bond .* Deposit"):
        await client.jobs.create(model=MODEL_NAME, messages=chat())
    assert (await client.escrow.state()).seqno == 0


@pytest.mark.parametrize("model", ["Org/Other-7B", hash_of("nothing"), hash_of("nothing").hex()])
async def test_client_cannot_create_a_job_when_the_model_is_unknown(
    town: Town, client: AsyncCocoon, model: str | bytes
) -> None:
    town.worker()
    with pytest.raises(UnknownModelError):
        await client.jobs.create(model=model, messages=chat())


async def test_client_cannot_create_a_job_when_it_can_cost_more_than_the_maximum(
    town: Town, client: AsyncCocoon
) -> None:
    worker = town.worker()
    for chosen in (None, worker.address, "open"):
        with pytest.raises(PriceTooHighError, match=r"the maximum is 0\.001 TON"):
            await client.jobs.create(
                model=MODEL_NAME, messages=chat(), max_price=Nano.ton("0.001"), worker=chosen
            )


async def test_client_cannot_create_a_job_when_nobody_can_serve_it(town: Town, client: AsyncCocoon) -> None:
    with pytest.raises(NoWorkerError, match="nobody announced"):
        await client.jobs.create(model=MODEL_NAME, messages=chat())
    worker = town.worker(stake=Nano.ton("0.5"))
    with pytest.raises(InsufficientStakeError, match=r"it can lock 0\.5 TON"):
        await client.jobs.create(model=MODEL_NAME, messages=chat(), max_output_tokens=2000)
    with pytest.raises(NoWorkerError, match="at most 2048 tokens"):
        await client.jobs.create(
            model=MODEL_NAME, messages=chat(), max_output_tokens=4000, worker=worker.address
        )
    with pytest.raises(NoWorkerError, match="announced nothing"):
        await client.jobs.create(model=MODEL_NAME, messages=chat(), worker=client.escrow.address)


async def test_client_cannot_create_a_job_when_the_daily_limit_is_used_up(
    town: Town, client: AsyncCocoon
) -> None:
    town.worker()
    await client.escrow.set_limits(Nano.ton("0.1"))
    with pytest.raises(DailyLimitError):
        await client.jobs.create(model=MODEL_NAME, messages=chat())


async def test_client_cannot_create_a_job_when_its_key_is_not_the_escrows(
    town: Town, client: AsyncCocoon
) -> None:
    town.worker()
    await client.escrow.set_key(key_of("new").verify_key)
    with pytest.raises(BadSignatureError):
        await client.jobs.create(model=MODEL_NAME, messages=chat())
    assert (await client.escrow.state()).seqno == 0


async def test_client_cannot_create_a_job_when_its_periods_are_out_of_bounds(
    town: Town, client: AsyncCocoon
) -> None:
    town.worker()
    wrong: tuple[dict[str, Any], ...] = ({"window_s": 60}, {"claim_s": 10**6}, {"window_s": -1})
    for periods in wrong:
        with pytest.raises(BadPeriodsError):
            await client.jobs.create(model=MODEL_NAME, messages=chat(), **periods)
    with pytest.raises(BadPeriodsError):
        await client.jobs.create(model=MODEL_NAME, messages=chat(), worker="open", window_s=0)


# -- what goes wrong afterwards --------------------------------------------------------------------------


async def test_client_cannot_wait_for_ever_when_the_worker_never_answers(
    town: Town, client: AsyncCocoon
) -> None:
    town.worker()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat())
    with pytest.raises(JobTimeoutError):
        await job.result(timeout=0)
    with pytest.raises(TooEarlyError, match="offered"):
        await job.cancel()
    town.chain.warp(901)
    with pytest.raises(JobExpiredError, match=r"cancel\(\)"):
        await job.result(timeout=30)
    free = (await client.escrow.balance()).free
    assert (await job.cancel()).state is JobState.REFUNDED
    balance = await client.escrow.balance()
    assert (balance.reserved, balance.jobs) == (0, 0)
    assert balance.free > free + job.cost_estimate.price  # type: ignore[union-attr]


async def test_client_can_reclaim_when_the_claimer_is_late(town: Town, client: AsyncCocoon) -> None:
    worker = town.worker()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), worker="open", work_s=600)
    worker.account.claim(town.driver(client), job.id)
    with pytest.raises(TooEarlyError):
        await job.reclaim()
    town.chain.warp(601)
    with pytest.raises(JobExpiredError, match=r"reclaim\(\)"):
        await job.result(timeout=30)
    assert (await job.reclaim()).state is JobState.PENALISED
    with pytest.raises(JobExpiredError, match="penalised"):
        await job.result(timeout=30)


async def test_client_cannot_see_a_result_when_its_hash_does_not_match(
    town: Town, client: AsyncCocoon
) -> None:
    worker = town.worker()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat())
    await worker.answer(client, job.id, result_hash=hash_of("something else"))
    with pytest.raises(HashMismatchError):
        await job.result(timeout=30)
    assert (await job.dispute()).state is JobState.DISPUTED


async def test_client_cannot_be_charged_more_than_the_terms_give(town: Town, client: AsyncCocoon) -> None:
    worker = town.worker()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat())
    await worker.answer(client, job.id, amount=worker.price() + 1)
    with pytest.raises(AmountMismatchError, match=r"dispute\(\)") as refused:
        await job.result(timeout=30)
    assert refused.value.result.text == "Paris."
    assert (await job.status()).state is JobState.SUBMITTED


async def test_client_cannot_dispute_when_the_window_is_over(town: Town, client: AsyncCocoon) -> None:
    worker = town.worker()
    job = await client.jobs.create(model=MODEL_NAME, messages=chat(), accept="manual", max_output_tokens=64)
    with pytest.raises(WrongStateError):
        await job.dispute()
    await worker.answer(client, job.id)
    assert (await job.result(timeout=30)).accepted is False
    town.chain.warp(3600)
    with pytest.raises(TooLateError):
        await job.dispute()
    assert (await job.accept()).state is JobState.PAID


async def test_client_can_learn_why_the_worker_declined(
    town: Town, client: AsyncCocoon, endpoint: Endpoint
) -> None:
    worker = town.worker(announced=False)
    worker.announce(endpoint=endpoint.url)
    job = await client.jobs.create(model=MODEL_NAME, messages=chat())
    endpoint.answers[job.id] = (410, {"status": "refused", "reason": "too \x1b[31mlong"})
    with pytest.raises(OfferRefusedError, match=r"too \?\[31mlong.*cancel\(\)"):
        await job.result(timeout=30)


@pytest.mark.parametrize("wrong", ["hash", "signature", "amount", "price", "bytes"])
async def test_client_cannot_be_fooled_by_a_wrong_handover(
    town: Town, client: AsyncCocoon, endpoint: Endpoint, wrong: str
) -> None:
    worker = town.worker(announced=False)
    worker.announce(endpoint=endpoint.url)
    job = await client.jobs.create(model=MODEL_NAME, messages=chat())
    wrongs: dict[str, dict[str, Any]] = {
        "hash": {"result_hash": hash_of("other").hex()},
        "signature": {"signature": "00" * 64},
        "amount": {"amount": Nano.ton(50)},
        "price": {"amount": worker.price() + 1},
        "bytes": {"result": "AAAA"},
    }
    endpoint.answers[job.id] = (200, await worker.handover(client, job.id, **wrongs[wrong]))
    with pytest.raises(JobTimeoutError) as waited:
        await job.result(timeout=0)
    assert waited.value.__cause__ is not None
    assert (await job.status()).state is JobState.OFFERED
    await worker.answer(client, job.id, "On chain then.")
    assert (await job.result(timeout=30)).text == "On chain then."
