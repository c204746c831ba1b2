"""The client without `await`: the same code, from plain functions and from inside a running loop."""

from __future__ import annotations

import inspect
import threading

import pytest

from cocoon_sdk.client import (
    AsyncEscrow,
    AsyncJob,
    AsyncJobs,
    AsyncModels,
    AsyncWorkers,
    Cocoon,
    SignerWallet,
)
from cocoon_sdk.client.sync import Escrow, Job, Jobs, Models, Workers
from cocoon_sdk.errors import ConfigError, NoWorkerError
from cocoon_sdk.protocol.job_states import JobState
from cocoon_sdk.sandbox import Blockchain, SandboxChain
from cocoon_sdk.types import Nano
from tests.helpers.sdk import LOCAL, MODEL_NAME, Town, chat
from tests.helpers.suite import key_of


def make(town: Town) -> Cocoon:
    return Cocoon(
        SandboxChain(town.chain),
        town.suite.network,
        key_of("client"),
        owner=lambda chain: SignerWallet(chain, town.chain.actor("client", Nano.ton(10_000))),
        private_networks=LOCAL,
    )


def test_script_can_run_a_job_to_its_end(blockchain: Blockchain) -> None:
    town = Town(blockchain)
    town.worker()
    with make(town) as cocoon:
        receipt = cocoon.escrow.open(Nano.ton(20), Nano.ton(100))
        assert receipt.sent
        assert cocoon.escrow.is_open()
        assert cocoon.models.get(MODEL_NAME).model_id == town.model.model_id
        assert len(cocoon.workers.list(MODEL_NAME)) == 1
        job = cocoon.jobs.create(model=MODEL_NAME, messages=chat())
        assert job.status().state is JobState.OFFERED
        assert [found.id for found in cocoon.jobs.list()] == [job.id]
        blockchain.warp(10_000)
        assert cocoon.jobs.get(job.id).cancel().state is JobState.REFUNDED
        assert cocoon.escrow.balance().jobs == 0


async def test_notebook_can_call_it_while_its_own_loop_runs(blockchain: Blockchain) -> None:
    town = Town(blockchain)
    with make(town) as cocoon:
        cocoon.escrow.open(Nano.ton(20), Nano.ton(100))
        with pytest.raises(NoWorkerError):
            cocoon.jobs.create(model=MODEL_NAME, messages=chat())


def test_script_cannot_use_a_client_when_it_is_closed(blockchain: Blockchain) -> None:
    town = Town(blockchain)
    cocoon = make(town)
    cocoon.close()
    with pytest.raises(ConfigError, match="closed"):
        cocoon.escrow.is_open()
    assert "cocoon" not in {thread.name for thread in threading.enumerate()}


def test_script_cannot_start_a_client_when_its_settings_are_wrong(blockchain: Blockchain) -> None:
    town = Town(blockchain)
    with pytest.raises(ConfigError, match="not an address"):
        Cocoon(SandboxChain(blockchain), town.suite.network, key_of("client"), owner="nobody")
    assert "cocoon" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("async_kind", "sync_kind"),
    [
        (AsyncEscrow, Escrow),
        (AsyncJob, Job),
        (AsyncJobs, Jobs),
        (AsyncModels, Models),
        (AsyncWorkers, Workers),
    ],
)
def test_every_public_method_has_a_blocking_counterpart(async_kind: type, sync_kind: type) -> None:
    internal = {"announcements", "terms_of", "accept_mode"}
    for name, member in inspect.getmembers(async_kind):
        if name.startswith("_") or name in internal or not callable(member):
            continue
        counterpart = getattr(sync_kind, name)
        assert counterpart.__doc__
        assert not inspect.iscoroutinefunction(counterpart)
