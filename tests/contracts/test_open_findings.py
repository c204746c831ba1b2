"""Confirmed holes of the contracts, each with its smallest reproduction."""

from __future__ import annotations

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.signing import Action
from cocoon_sdk.types import Nano
from tests.helpers.audit import World, extended, tree
from tests.helpers.suite import Client, Worker


def test_hot_key_thief_cannot_burn_free_funds_with_an_empty_bucket(
    world: World, client: Client, worker: Worker
) -> None:
    """A due step with junk behind it is accepted without any bucket, skipped, and so can be sent for ever.

    `isDue` looks at operation and id only; `perform` refuses the trailing bits after the acceptance. The
    import fee of a large external (up to 0.3 TON) is charged to the account and never to the bucket.
    """
    number, _ = client.open(world.suite.directed_terms(worker))
    worker.submit(client, number, Nano.ton(1))
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(0), allowed=None))
    before = client.balance
    junk = Action(extended(signing.dispute_result(number).bits), (tree(4000),))
    for _ in range(10):
        try:
            client.act(junk)
        except ExternalRejectedError:
            break
    assert before - client.balance < Nano.ton("0.1")


def test_bucket_is_charged_for_all_that_an_external_costs(
    world: World, client: Client, worker: Worker
) -> None:
    """What a hot key makes the account pay has to leave the bucket, import fees included."""
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano.ton(10), allowed=None))
    terms = world.suite.directed_terms(worker).to_cell()
    oversized = Action(signing.open_job(1, terms).bits, (extended(terms, "", tree(3000)),))
    level, balance = client.get_state().bucket, client.balance
    client.act(oversized, max_spend=Nano.ton(2))
    assert level - client.get_state().bucket >= balance - client.balance


def test_worker_can_submit_with_the_gas_that_its_claim_set_aside(
    world: World, client: Client, worker: Worker
) -> None:
    """The external's import fee is taken before the check that the set-aside gas is compared with.

    Whoever has nothing but what the claim set aside cannot submit, and pays the late penalty.
    """
    number, _ = client.open(world.suite.open_terms())
    worker.claim(client, number)
    worker.from_owner(m.WithdrawBucket(query_id=0, bucket=1, amount=Nano(worker.get_state().gas)))
    worker.submit_claimed(1, Nano.ton(1))
    job = client.job(number)
    assert job is not None
    assert job.status == 2
