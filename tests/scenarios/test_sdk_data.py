"""Large payloads and results by location, over HTTP from end to end, and what a client keeps knowing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client import AsyncCocoon, SignerWallet
from cocoon_sdk.client.errors import PayloadTooLargeError, TermsUnknownError
from cocoon_sdk.client.results import Arrival
from cocoon_sdk.data import DirectoryStore, Location, RoutingSource, decode_data
from cocoon_sdk.errors import ConfigError, HashMismatchError, NoWorkerError, ResultUnavailableError
from cocoon_sdk.history import payload_of
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain, SandboxChain
from cocoon_sdk.sandbox.liteserver.server import LiteServer
from cocoon_sdk.sandbox.node import Node
from cocoon_sdk.sandbox.toncenter import ToncenterServer
from cocoon_sdk.types import Nano
from tests.helpers.sdk import LOCAL, MODEL_NAME, Endpoint, Town, chat
from tests.helpers.suite import key_of


@pytest.fixture
async def town(blockchain: Blockchain, chain: Chain) -> AsyncIterator[Town]:
    made = Town(blockchain, chain)
    yield made
    await made.close()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint() as server:
        yield server


async def test_client_can_send_a_payload_by_location(town: Town, store: DirectoryStore) -> None:
    town.worker()
    cocoon = await town.client(store=store)
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat(), inline=False, max_output_tokens=16)
    opened = await payload_of(town.adapter, cocoon.escrow.address, job.id)
    assert opened.data is not None
    where = decode_data(opened.data, schemes={"file"})
    assert isinstance(where, Location)
    assert len(await store.get(where)) == where.length


async def test_client_cannot_send_what_does_not_fit_when_it_has_no_store(town: Town) -> None:
    town.worker()
    cocoon = await town.client()
    with pytest.raises(PayloadTooLargeError, match="no data store"):
        await cocoon.jobs.create(model=MODEL_NAME, messages=chat(), inline=False)
    noise = "".join(chr(0x4E00 + (i * 7919) % 20000) for i in range(9000))
    with pytest.raises(PayloadTooLargeError, match="inline at most"):
        await cocoon.jobs.create(
            model=MODEL_NAME, messages=chat(noise), max_output_tokens=16, max_input_tokens=2000
        )
    assert (await cocoon.escrow.state()).seqno == 0


async def test_client_can_fetch_a_result_by_location(town: Town, store: DirectoryStore) -> None:
    worker = town.worker()
    cocoon = await town.client(source=RoutingSource({"file": store}))
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat())
    sealed = await worker.make(cocoon, job.id)
    where = await store.put(sealed.data)
    await submit_at(town, cocoon, job.id, where, sealed.result_hash)
    result = await job.result(timeout=30)
    assert (result.text, result.arrival) == ("Paris.", Arrival.LOCATION)


async def submit_at(
    town: Town, cocoon: AsyncCocoon, job_id: int, where: Location, result_hash: bytes
) -> None:
    from cocoon_sdk.data import encode_data
    from cocoon_sdk.protocol import signing

    worker = town.suite.worker("worker", stake=0)
    target = worker.target(town.driver(cocoon), job_id)
    price = Nano.ton("0.001")
    action = signing.submit(job_id, price, target, result_hash, encode_data(where))
    worker.act(action, max_spend=worker.work_spend())


async def test_client_cannot_fetch_a_result_that_is_gone(town: Town, store: DirectoryStore) -> None:
    worker = town.worker()
    cocoon = await town.client(source=RoutingSource({"file": store}))
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat())
    sealed = await worker.make(cocoon, job.id)
    where = await store.put(sealed.data)
    for file in Path(where.url.removeprefix("file://")).parent.iterdir():
        file.unlink()
    await submit_at(town, cocoon, job.id, where, sealed.result_hash)
    with pytest.raises(ResultUnavailableError):
        await job.result(timeout=30)
    assert (await job.status()).state is JobState.SUBMITTED


async def test_client_cannot_get_a_result_that_was_never_given(town: Town) -> None:
    worker = town.worker()
    cocoon = await town.client()
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat())
    await worker.answer(cocoon, job.id, without_data=True)
    with pytest.raises(ResultUnavailableError, match=r"dispute\(\)"):
        await job.result(timeout=30)


async def test_client_can_ask_the_worker_for_what_the_chain_has_only_the_hash_of(
    town: Town, endpoint: Endpoint
) -> None:
    worker = town.worker(announced=False)
    worker.announce(endpoint=endpoint.url)
    cocoon = await town.client()
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat())
    endpoint.answers[job.id] = (200, await worker.handover(cocoon, job.id))
    assert (await job.result(timeout=30)).accepted
    again = town.cocoon()
    found = await again.jobs.get(job.id).result(timeout=30)
    assert (found.text, found.accepted, found.arrival) == ("Paris.", True, Arrival.HANDOVER)
    endpoint.answers[job.id] = (200, await worker.handover(cocoon, job.id))  # another salt, another hash
    with pytest.raises(HashMismatchError):
        await again.jobs.get(job.id).result(timeout=30)
    endpoint.answers.clear()
    with pytest.raises(ResultUnavailableError):
        await again.jobs.get(job.id).result(timeout=30)


async def test_client_can_check_prices_of_a_job_that_names_terms_nobody_announced(town: Town) -> None:
    worker = town.worker()
    cocoon = await town.client()
    terms = worker.terms(output_price=Nano.ton(50))
    job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat(), worker="open", terms=terms)
    worker.account.claim(town.driver(cocoon), job.id)
    sealed = await worker.make(cocoon, job.id)
    from cocoon_sdk.data import InlineData, encode_data
    from cocoon_sdk.protocol import signing

    target = worker.account.target(town.driver(cocoon), job.id)
    action = signing.submit_claimed(
        job.id, Nano.ton("0.001"), target, sealed.result_hash, encode_data(InlineData(sealed.data))
    )
    worker.account.act(action, max_spend=worker.account.work_spend())
    with pytest.raises(TermsUnknownError, match="Pass `terms`"):
        await town.cocoon().jobs.get(job.id).result(timeout=30)
    result = await town.cocoon().jobs.get(job.id, terms=terms).result(timeout=30)
    assert result.accepted


async def test_client_cannot_use_a_worker_under_other_parameters(town: Town) -> None:
    cocoon = await town.client()
    suite = town.suite
    proposal = m.Propose(query_id=0, kind=0, model_id=0, content=suite.params_cell)
    suite.governor.send(suite.network.registry, Nano.ton(1), proposal.to_cell())
    town.chain.warp(suite.parameters.timelock_s)
    suite.governor.send(suite.network.registry, Nano.ton(1), m.Execute(query_id=0).to_cell())
    worker = town.worker()
    for chosen in (None, worker.address):
        with pytest.raises(NoWorkerError, match="sync_params"):
            await cocoon.jobs.create(model=MODEL_NAME, messages=chat(), worker=chosen)
    await cocoon.escrow.sync_params()
    assert (await cocoon.jobs.create(model=MODEL_NAME, messages=chat())).id == 1


@pytest.mark.parametrize("way", ["an HTTP API", "liteservers in a file"])
async def test_client_can_do_everything_by_the_name_of_its_endpoint(
    blockchain: Blockchain, tmp_path: Path, way: str
) -> None:
    async with Node(blockchain) as node, ToncenterServer(node) as api, LiteServer(node) as liteserver:
        liteserver.write_global_config(tmp_path / "global.config.json")
        town = Town(blockchain, SandboxChain(blockchain))
        worker = town.worker()
        cocoon = AsyncCocoon.connect(
            f"{api.url}/api/v2" if way == "an HTTP API" else str(tmp_path / "global.config.json"),
            town.suite.network.registry,
            key_of("client"),
            owner=lambda chain: SignerWallet(chain, town.chain.actor("client", Nano.ton(10_000))),
            clock=ChainClock(town.chain),
            private_networks=LOCAL,
        )
        async with cocoon:
            await cocoon.escrow.open(Nano.ton(20), Nano.ton(100))
            job = await cocoon.jobs.create(model=MODEL_NAME, messages=chat())
            await worker.answer(cocoon, job.id)
            assert (await job.result(timeout=30)).text == "Paris."
            assert (await job.status()).state is JobState.PAID
            assert len(await cocoon.models.list()) == 1
        await town.close()


class ChainClock:
    """The sandbox's own time, so that its blocks are not old to the client; sleeping lets blocks pass."""

    def __init__(self, chain: Blockchain) -> None:
        self._chain = chain

    def now(self) -> int:
        return self._chain.now

    async def sleep(self, seconds: float) -> None:
        self._chain.warp(max(1, int(seconds)))


def test_client_cannot_connect_to_what_is_no_endpoint(town: Town) -> None:
    with pytest.raises(ConfigError):
        AsyncCocoon.connect(
            "nowhere", town.suite.network, key_of("client"), owner=town.suite.governor.address
        )
