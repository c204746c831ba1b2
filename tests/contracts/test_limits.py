"""What a thief with a hot key can take: the owner's limits, to the nanoTON and to the second."""

from __future__ import annotations

import pytest
from pytoniq_core import Cell, HashMap, begin_cell

from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.exit_codes import ExitCode
from cocoon_sdk.protocol.getters import EscrowGetters
from cocoon_sdk.types import Nano
from tests.helpers.audit import World, denied, job_gas, rejected, skipped
from tests.helpers.suite import Client, Worker


def limit(client: Client, daily: int, allowed: Cell | None = None) -> None:
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(daily), allowed=allowed))


def allowing(*workers: Worker) -> Cell:
    table = HashMap(
        256,
        map_={signing.account_id(worker.address): None for worker in workers},
        value_serializer=lambda source, builder: builder,
    ).serialize()
    assert table is not None
    return table


def needed(client: Client, price: int) -> int:
    return price + int(Nano.ton("0.21")) + job_gas(client)


def external_cost(client: Client) -> int:
    return int(client.get(EscrowGetters.external_cost(1)))


def test_thief_cannot_spend_more_than_the_bucket(world: World, client: Client, worker: Worker) -> None:
    """Day after day it opens what it can; what leaves or is reserved stays below limit and refill."""
    daily = Nano.ton(10)
    limit(client, daily)
    spent, start = 0, client.get_state()
    for day in range(4):
        for _ in range(30):
            state = client.get_state()
            if state.bucket < needed(client, Nano.ton("0.5")) + external_cost(client):
                break
            client.open(
                world.suite.directed_terms(worker, price=Nano.ton("0.5")),
                max_spend=needed(client, Nano.ton("0.5")),
            )
        now = client.get_state()
        spent = (start.balance - now.balance) + (now.reserved - start.reserved)
        assert spent <= daily * (day + 1)
        world.chain.warp(86_400)
    assert spent > daily * 3


def test_bucket_refills_with_time_and_never_beyond_the_limit(
    world: World, client: Client, worker: Worker
) -> None:
    limit(client, Nano.ton(4))
    client.open(world.suite.directed_terms(worker), max_spend=Nano.ton(2))
    level = client.get_state().bucket
    assert Nano.ton("2.7") < level < Nano.ton("2.8")
    world.chain.warp(3600)
    assert client.get_state().bucket == level + 4 * 10**9 * 3600 // 86_400
    world.chain.warp(86_400)
    assert client.get_state().bucket == Nano.ton(4)
    world.chain.warp(365 * 86_400)
    assert client.get_state().bucket == Nano.ton(4)


def test_bucket_is_never_credited_when_jobs_end(world: World, client: Client, worker: Worker) -> None:
    limit(client, Nano.ton(4))
    number, _ = client.open(world.suite.open_terms())
    level = client.get_state().bucket
    skipped(client, client.act(signing.cancel_job(number)))
    assert client.get_state().bucket <= level


@pytest.mark.parametrize("short", [0, 1])
def test_hot_key_needs_the_bucket_for_all_that_an_opening_takes(
    world: World, client: Client, worker: Worker, short: int
) -> None:
    """What one opening takes out of a full bucket is exactly what the next one needs."""
    terms = world.suite.directed_terms(worker)
    limit(client, Nano.ton(10))
    client.open(terms)
    taken = Nano.ton(10) - client.get_state().bucket
    assert taken >= terms.max_price + Nano.ton("0.21") + job_gas(client)
    limit(client, taken - short)
    if short:
        denied(client, lambda: client.open(terms), ExitCode.DAILY_LIMIT)
    else:
        skipped(client, client.open(terms)[1])
        assert client.get_state().bucket == 0


def test_empty_bucket_allows_one_due_step_and_nothing_else(
    world: World, client: Client, worker: Worker
) -> None:
    first, _ = client.open(world.suite.directed_terms(worker))
    second, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, first, Nano.ton(1))
    limit(client, 0)
    terms = world.suite.directed_terms(worker).to_cell()
    unknown = signing.Action(begin_cell().store_uint(77, 8).store_uint(first, 32).end_cell())
    refused_actions: list[tuple[tuple[signing.Action, ...], ExitCode]] = [
        ((signing.open_job(3, terms),), ExitCode.DAILY_LIMIT),
        ((signing.accept_result(first), signing.accept_result(second)), ExitCode.DAILY_LIMIT),
        ((signing.accept_result(second),), ExitCode.WRONG_STATE),
        ((signing.accept_result(99),), ExitCode.NO_JOB),
        ((signing.dispute_result(second),), ExitCode.WRONG_STATE),
        ((signing.cancel_job(second),), ExitCode.TOO_EARLY),
        ((signing.reclaim_late(first),), ExitCode.WRONG_STATE),
        ((unknown,), ExitCode.UNKNOWN_ACTION),
    ]
    for actions, code in refused_actions:
        rejected(world.chain, client, client.external(*actions), code)
    skipped(client, client.act(signing.dispute_result(first)))
    rejected(world.chain, client, client.external(signing.dispute_result(first)), ExitCode.WRONG_STATE)
    assert client.get_state().bucket == 0


def test_thief_can_use_only_allowed_workers(world: World, client: Client, worker: Worker) -> None:
    accomplice = world.worker("accomplice")
    limit(client, Nano.ton(1000), allowing(worker))
    denied(client, lambda: client.open(world.suite.directed_terms(accomplice)), ExitCode.WORKER_NOT_ALLOWED)
    denied(client, lambda: client.open(world.suite.open_terms()), ExitCode.WORKER_NOT_ALLOWED)
    skipped(client, client.open(world.suite.directed_terms(worker))[1])
    limit(client, Nano.ton(1000), allowing(worker, accomplice))
    skipped(client, client.open(world.suite.directed_terms(accomplice))[1])
    limit(client, Nano.ton(1000))
    skipped(client, client.open(world.suite.open_terms())[1])


def test_unreadable_list_of_workers_allows_nobody(world: World, client: Client, worker: Worker) -> None:
    limit(client, Nano.ton(1000), begin_cell().store_uint(0b111, 3).end_cell())
    denied(client, lambda: client.open(world.suite.directed_terms(worker)), None)
    assert client.get_state().jobs == 0
