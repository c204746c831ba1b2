"""Holes that an audit of the spelled-out actions found, closed: each test says what the attack was."""

from __future__ import annotations

from pytoniq_core import Cell, begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.signing import Action
from cocoon_sdk.types import Nano
from tests.helpers.audit import World, locks
from tests.helpers.suite import Client, Worker, as_int, hash_of


def dressed(external: Cell, state_init: Cell) -> Cell:
    """Return a signed external with a StateInit that nobody signed, as anybody who carries it can."""
    source = external.begin_parse()
    source.load_bits(4)
    receiver = source.load_address()
    source.load_coins()
    assert source.load_bit() == 0
    body = source.load_ref() if source.load_bit() else begin_cell().store_slice(source).end_cell()
    head = begin_cell().store_uint(0b1000, 4).store_address(receiver).store_coins(0)
    return head.store_uint(0b11, 2).store_ref(state_init).store_bit(1).store_ref(body).end_cell()


VICTIM = 511


def deepen(client: Client, next_id: int) -> None:
    """Open jobs up to an id and take back all but those that each make a fork on that id's way."""
    cell = client.suite.open_terms(Nano.ton("0.01")).to_cell()
    company = {next_id ^ 1 << bit for bit in range(next_id.bit_length())}
    while (number := client.get_state().next_id) < next_id:
        batch = range(number, min(number + 8, next_id))
        opening = [signing.open_job(n, cell) for n in batch]
        client.act(*opening, max_spend=Nano.ton(4))
        going = [signing.cancel_job(n) for n in batch if n not in company]
        if going:
            client.act(*going)


def test_relayer_cannot_make_an_external_dearer_with_the_accounts_own_code(
    world: World, client: Client, worker: Worker
) -> None:
    """MEDIUM. Nothing of an external's envelope is signed. Whoever carries one (a provider of an API, anybody
    who sees it on the network) can hang the account's genuine StateInit, which is public, behind it: TON
    accepts that (another one it refuses) and charges its import, 32 million nanoTON, to the account: twice
    what a whole directed job costs, for each external, at no cost to the relayer. A thief with the hot key
    does it himself: that part of the import never touches the bucket.
    Should hold: section 6 rule 2, a third party's message costs nothing. Fix: refuse it before acceptance.
    The cheapest that was tried: take the selector off recv_external's stack with `INMSG_STATEINIT 0 INDEXQ
    2DROP` instead of `DROP` (lean.mjs): INDEXQ lets null pass and throws 7 for a cell; 52 gas an external.
    """
    number, _ = client.open(world.suite.directed_terms(worker))
    submit = signing.submit(number, Nano.ton(1), worker.target(client, number), hash_of("result"))
    plain = world.chain.try_external(worker.external(submit))
    reshaped = dressed(worker.external(submit), worker.deployment.state_init)
    try:
        dear = world.chain.try_external(reshaped)
    except ExternalRejectedError:
        return
    assert dear.cost < plain.cost + Nano.ton("0.001")


def test_client_can_dispute_one_of_eleven_jobs_with_an_empty_bucket(
    world: World, client: Client, worker: Worker
) -> None:
    """HIGH. Ids grow, so the table of jobs is as deep as 32 levels, not as 128 jobs are: eleven live jobs, at
    distances 1, 2, 4 ... 512 of each other, make ten forks, and any client that has opened 512 jobs can have
    them (a worker chooses which of its jobs stay open, and gives the lie there). `dispute` takes the
    job out before it accepts, 600 gas a level: at ten forks the gas credit is used up, nobody can dispute by
    a single external, and a batch takes bucket and free funds that the client need not have. The worker is
    paid for junk. The same at nine forks: AcceptResult with a signature, CancelJob, ReclaimLate (a batch, or
    an internal message, does those); AcceptResult at 13.
    Should hold: section 2.3, a client with nothing free can still dispute. Fix, cheaper than now: look the
    job up (125 a level), check state and deadline, accept, then `dictPut` over it: one rebuilding walk
    instead of two. The same order (find, check, accept, delete) for cancel and reclaimLate.
    """
    deepen(client, VICTIM)
    client.open(world.suite.directed_terms(worker))
    client.open(world.suite.open_terms())
    assert client.get_state().jobs == 11
    worker.submit(client, VICTIM, Nano.ton(1))
    client.from_owner(m.SetEscrowLimits(query_id=0, daily_limit=Nano(0), allowed=None))
    client.from_owner(m.Withdraw(query_id=0, amount=Nano(client.get_state().free)))
    client.act(signing.dispute_result(VICTIM))
    job = client.job(VICTIM)
    assert job is not None
    assert job.status == 3


def test_submission_leaves_no_less_free_at_a_deep_table_of_jobs(
    world: World, client: Client, worker: Worker
) -> None:
    """LOW, the same cause. GasEntryTail is measured with 7 forks; with ten, what a submission leaves of its
    gas is put 0.65 million nanoTON too high, and the client's `free` pays for the worker's external.
    Should hold: no message of a worker lowers what is free. Fix: GasEntryTail of 8,500 (11,500 of the 25,000
    that come along stay at least, the reward needs 11,000); measure it at the depth that is supported.
    """
    deepen(client, VICTIM)
    client.open(world.suite.directed_terms(worker))
    client.open(world.suite.open_terms())
    free = client.get_state().free
    worker.submit(client, VICTIM, Nano.ton(1))
    assert client.get_state().free >= free


def test_worker_cannot_lose_a_slot_to_a_submission_without_collateral(
    world: World, client: Client, worker: Worker
) -> None:
    """LOW-MEDIUM. SubmitWork with collateral 0 makes a lock of 0. For a job with window 0 the escrow takes it
    (its collateral is 0 too) and answers with lock 0, so that the lock stays for 37 days. A thief with the
    operator key, whose own client opens instant jobs of price 0, fills all 255 slots for about 4 TON: after
    SetKey the stake still cannot take a claim or a submission from any other client for 37 days.
    Should hold: every submission's lock is freed by its answer. Fix that costs nothing on the counted paths:
    `payAtOnce` echoes `msg.lock` (0 from SubmitInstant) in its Reward instead of 0.
    """
    number, _ = client.open(world.suite.directed_terms(worker, window=0))
    target = worker.target(client, number)
    work = m.SubmitWork(
        escrow_owner=target.escrow_owner,
        escrow_index=target.escrow_index,
        previous_code=False,
        job_hash=target.job_hash,
        result_hash=as_int(hash_of("result")),
    )
    bits = begin_cell().store_uint(c.ACTION_SUBMIT, 8).store_uint(number, 32).store_uint(Nano.ton(1), 56)
    bits.store_uint(0, 56).store_uint(7, 8)
    try:
        worker.act(Action(bits.end_cell(), (work.to_cell(),)))
    except ExternalRejectedError:
        return
    assert locks(worker) == {}


def test_bucket_is_charged_for_the_import_of_a_full_batch(world: World, client: Client) -> None:
    """LOW. The charge of two actions (19.2 million) is below what the account pays when the batch carries 40
    full cells: 17.1 of import, and gas: 25.3. So whoever has the hot key burns a third more than the bucket
    says (three times as much with the StateInit above). Should hold: everything the hot key makes leave is
    charged. Fix: charge externalCost(count + 1) for a batch: the part more covers 40 full cells.
    """
    data: Cell | None = None
    for position in range(37):
        link = begin_cell().store_uint(position, 23).store_bits("01" * 500)
        data = link.end_cell() if data is None else link.store_ref(data).end_cell()
    assert data is not None
    level, balance = client.get_state().bucket, client.balance
    client.act(signing.accept_result(8), Action(signing.accept_result(9).bits, (data,)))
    assert level - client.get_state().bucket >= balance - client.balance
