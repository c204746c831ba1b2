"""The contract suite on an in-process sandbox, driven message by message.

For contract tests and gas measurements: no SDK in between, every signature and every message made here, so
that tests can also make wrong ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.contracts.code import code_cell, previous_code_cell
from cocoon_sdk.contracts.network import Deployment, Network, registry_deployment
from cocoon_sdk.contracts.parameters import ArbiterIdentity, NetworkParameters
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.abi_dict import parse as parse_dict
from cocoon_sdk.protocol.abi_runtime import GetterCall, Message
from cocoon_sdk.protocol.claims import claim_bond
from cocoon_sdk.protocol.getters import EscrowGetters, RegistryGetters, WorkerStakeGetters
from cocoon_sdk.protocol.session_states import settles_at
from cocoon_sdk.sandbox import Actor, Blockchain, Transaction
from cocoon_sdk.sandbox.cells import address_key
from cocoon_sdk.types import Nano

_ANSWERS = 4096
GAS = Nano.ton("0.1")
"""Value that owners attach to messages; what is not used stays or comes back."""


def key_of(name: str) -> SigningKey:
    """Return the same key for the same name, always."""
    return SigningKey.from_seed(hashlib.sha256(b"test key " + name.encode()).digest())


def hash_of(text: str) -> bytes:
    """Return a 32-byte stand-in for the hash of content that a test does not need."""
    return hashlib.sha256(text.encode()).digest()


def as_int(value: bytes) -> int:
    """Read a 32-byte hash as contracts store it."""
    return int.from_bytes(value, "big")


@dataclass
class Account:
    """A deployed account of the suite with its owner and hot key."""

    suite: Suite
    deployment: Deployment
    owner: Actor
    key: SigningKey
    purpose: int
    index: int = 0

    @property
    def address(self) -> Address:
        return self.deployment.address

    def get(self, call: GetterCall[Any]) -> Any:
        return self.suite.get(self.address, call)

    @property
    def balance(self) -> Nano:
        return self.suite.chain.balance(self.address)

    def from_owner(self, body: Message, value: int = GAS) -> list[Transaction]:
        return self.owner.send(self.address, value, body.to_cell())

    def domain(self) -> signing.Domain:
        return signing.Domain(self.suite.chain.global_id, self.address, self.get_state().epoch)

    def get_state(self) -> Any:
        raise NotImplementedError

    def external(
        self,
        *actions: signing.Action,
        max_spend: int = 0,
        seqno: int | None = None,
        valid_for: int = 60,
        key: SigningKey | None = None,
    ) -> Cell:
        """Sign actions with the current seqno (or another) and wrap them."""
        state = self.get_state()
        body = signing.external_body(
            key or self.key,
            self.purpose,
            signing.Domain(self.suite.chain.global_id, self.address, state.epoch),
            seqno=state.seqno if seqno is None else seqno,
            valid_until=self.suite.chain.now + valid_for,
            max_spend=Nano(max_spend),
            actions=actions,
        )
        return signing.external_message(self.address, body)

    def act(self, *actions: signing.Action, max_spend: int = 0, **options: Any) -> list[Transaction]:
        """Send a signed external and run everything that follows."""
        return self.suite.chain.send_external(self.external(*actions, max_spend=max_spend, **options))


class Client(Account):
    """An escrow and who controls it."""

    def get_state(self) -> m.EscrowView:
        return self.get(EscrowGetters.state())

    def job(self, job_id: int) -> m.Job | None:
        return self.get(EscrowGetters.job(job_id))

    def session(self, session_id: int) -> m.Session | None:
        return self.get(EscrowGetters.session(session_id))

    def open_session(
        self,
        worker: Worker,
        deposit: int = Nano.ton(1),
        lasts_s: int = 86_400,
        *,
        key: SigningKey | None = None,
        **options: Any,
    ) -> tuple[int, list[Transaction]]:
        """Open a session; return its id and all transactions that followed."""
        number = self.get_state().next_id
        voucher_key = (key or self.voucher_key).verify_key
        expiry = self.suite.chain.now + lasts_s
        action = signing.open_session(number, worker.address, voucher_key, Nano(deposit), expiry)
        return number, self.act(action, **options)

    def dispute_session(
        self, session_id: int, evidence: str = "receipts", **options: Any
    ) -> list[Transaction]:
        """Dispute a guarded session."""
        action = signing.dispute_session(session_id, hash_of(evidence), self.suite.model_id)
        return self.act(action, **options)

    @property
    def voucher_key(self) -> SigningKey:
        """The key of every session of this client, unless a test takes another."""
        return key_of(f"vouchers of {self.address.to_str()}")

    def voucher(
        self, worker: Worker, session_id: int, amount: int, *, key: SigningKey | None = None
    ) -> bytes:
        """Sign a cumulative amount."""
        digest = signing.voucher_digest(self.domain(), worker.address, session_id, amount)
        return (key or self.voucher_key).sign(digest)

    def open(
        self,
        terms: m.JobTerms,
        *,
        job_id: int | None = None,
        data: Cell | None = None,
        max_spend: int | None = None,
    ) -> tuple[int, list[Transaction]]:
        """Open a job; return its id and all transactions that followed."""
        number = self.get_state().next_id if job_id is None else job_id
        spend = terms.max_price + Nano.ton("0.5") if max_spend is None else max_spend
        return number, self.act(signing.open_job(number, terms.to_cell(), data), max_spend=spend)


class Worker(Account):
    """A stake and who controls it."""

    def get_state(self) -> m.StakeView:
        return self.get(WorkerStakeGetters.state())

    def locks(self) -> dict[int, m.Lock]:
        """Every lock by its number."""
        cell = self.get(WorkerStakeGetters.locks())
        leaves = () if cell is None else (m.Lock.read(leaf) for _, leaf in parse_dict(cell, 8))
        return {lock.number: lock for lock in leaves}

    def lock_number(self, client: Client) -> int:
        """Number of a lock for that client, or the first free slot when there is none."""
        escrow = signing.account_id(client.address)
        locks = self.locks()
        taken = {number & 255 for number in locks}
        free = min(set(range(1, 256)) - taken, default=255)
        return max((number for number, lock in locks.items() if lock.tag ^ number == escrow), default=free)

    def lock(self, client: Client) -> m.Lock | None:
        return self.locks().get(self.lock_number(client))

    def target(self, client: Client, job_id: int) -> signing.JobTarget:
        job = client.job(job_id)
        assert job is not None
        return signing.JobTarget(
            escrow_owner=signing.account_id(client.owner.address),
            escrow_index=client.index,
            previous_code=False,
            own_previous_code=False,
            job_hash=signing.job_hash(job.terms),
            collateral=Nano(job.collateral),
            lock=self.lock_number(client),
        )

    @property
    def shown(self) -> Cell:
        """Owner and index as a submission on a claim shows them."""
        return begin_cell().store_bytes(self.owner.address.hash_part).store_uint(self.index, 32).end_cell()

    @property
    def claim_key(self) -> int:
        """The operator key, which a client shows to accept a signed result on a claim."""
        return self.key.verify_key.to_int()

    def claim_action(self, client: Client, job_id: int, bond: int | None = None) -> signing.Action:
        job = client.job(job_id)
        assert job is not None
        target = m.ClaimTarget(
            escrow=signing.account_id(client.address),
            bond=claim_bond(job.price, job.params) if bond is None else Nano(bond),
            key_tag=signing.key_tag(self.key.verify_key.to_int()),
        )
        return signing.claim(job_id, signing.binding_hash(job.params, job.terms), target)

    def claim(self, client: Client, job_id: int, **options: Any) -> list[Transaction]:
        return self.act(self.claim_action(client, job_id), max_spend=Nano.ton(1), **options)

    def submit(
        self,
        client: Client,
        job_id: int,
        amount: int,
        result: bytes = b"",
        *,
        target: signing.JobTarget | None = None,
        data: Cell | None = None,
        **options: Any,
    ) -> list[Transaction]:
        named = target or self.target(client, job_id)
        action = signing.submit(job_id, Nano(amount), named, result or hash_of("result"), data)
        return self.act(action, max_spend=self.work_spend(), **options)

    def submit_claimed(
        self, client: Client, job_id: int, amount: int, result: bytes = b"", **options: Any
    ) -> list[Transaction]:
        target = self.target(client, job_id)
        action = signing.submit_claimed(job_id, Nano(amount), target, result or hash_of("result"))
        return self.act(action, max_spend=self.work_spend(), **options)

    def redeem(
        self,
        client: Client,
        session_id: int,
        amount: int,
        *,
        close: bool = False,
        forgo: int = 0,
        **options: Any,
    ) -> list[Transaction]:
        """Redeem a good voucher, of which `forgo` is given up."""
        signature = client.voucher(self, session_id, amount + forgo)
        action = signing.redeem(
            session_id, client.address, Nano(amount), signature, close=close, forgo=Nano(forgo)
        )
        return self.act(action, **options)

    def end_session(self, client: Client, session_id: int, amount: int = 0) -> list[Transaction]:
        """Redeem, and end the session: collateral in it waits for the time that the client has to dispute."""
        done = self.redeem(client, session_id, amount, close=True)
        session = client.session(session_id)
        if session is not None:
            self.suite.chain.set_now(settles_at(session))
            done += self.act(signing.redeem(session_id, client.address, Nano(0), close=True))
        return done

    def session_target(self, client: Client, session_id: int) -> m.SessionTarget:
        session = client.session(session_id)
        assert session is not None
        params = m.Params.from_cell(session.params)
        share = -(-session.deposit * params.collateral_bps // c.BASIS_POINTS)
        return m.SessionTarget(
            escrow_owner=signing.account_id(client.owner.address),
            escrow_index=client.index,
            previous_code=False,
            collateral=Nano(max(int(params.min_collateral), share)),
            lock=self.lock_number(client),
            session_hash=signing.session_hash(session),
        )

    def accept_session(self, client: Client, session_id: int, **options: Any) -> list[Transaction]:
        """Lock the collateral of a session."""
        return self.act(
            signing.accept_session(session_id, self.session_target(client, session_id)), **options
        )

    def work_spend(self) -> int:
        return int(self.get(WorkerStakeGetters.work_cost()))

    def sign_result(self, client: Client, job_id: int, amount: int, result: bytes = b"") -> bytes:
        digest = signing.result_digest(
            client.domain(), self.address, job_id, result or hash_of("result"), amount
        )
        return self.key.sign(digest)


@dataclass
class Suite:
    """Registry, markets, accounts and arbiters of one network on one sandbox."""

    chain: Blockchain
    born_before: frozenset[str] = frozenset()
    """Which accounts ("escrow", "stake") begin under the code that was current before."""
    seats: int = 5
    """How many arbiters there are; more than half of them decide."""
    parameters: NetworkParameters = field(init=False)
    network: Network = field(init=False)
    answers: dict[object, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.governor = self.chain.actor("governor", Nano.ton(1000))
        self.arbiters = [key_of(f"arbiter {i}") for i in range(self.seats)]
        self.payouts = [self.chain.actor(f"arbiter {i}", Nano.ton(1)) for i in range(self.seats)]
        self.parameters = NetworkParameters(
            arbiters=[
                ArbiterIdentity(key.verify_key, actor.address)
                for key, actor in zip(self.arbiters, self.payouts, strict=True)
            ],
            escrow_codes=self.codes(self.code("escrow")),
            stake_codes=self.codes(self.code("stake")),
        )
        registry = registry_deployment(self.governor.address, self.parameters.to_cell())
        self.network = Network(registry.address)
        self.governor.send(registry.address, Nano.ton(1), state_init=registry.state_init)
        self.model_id = hash_of("model")
        market = self.network.market(self.model_id)
        self.market = market.address
        self.governor.send(market.address, Nano.ton("0.1"), state_init=market.state_init)

    def code(self, kind: str) -> Cell:
        """Return the code that a new escrow or stake begins with."""
        name = {"escrow": "Escrow", "stake": "WorkerStake"}[kind]
        return previous_code_cell(name) if kind in self.born_before else code_cell(name)

    @staticmethod
    def codes(new: Cell, old: Cell | None = None) -> m.Codes:
        """Return the entry of the parameters for two codes."""
        return m.Codes(
            hash=as_int(new.hash),
            depth=new.get_depth(),
            previous_hash=0 if old is None else as_int(old.hash),
            previous_depth=0 if old is None else old.get_depth(),
        )

    def get(self, address: Address, call: GetterCall[Any]) -> Any:
        """Run a get-method; the same question to the same account at the same time is asked once."""
        account = self.chain.raw_account(address_key(address))
        state = "" if account is None else account.get_hash()
        asked = (address_key(address), call.method, call.args, state, self.chain.now)
        if asked not in self.answers:
            if len(self.answers) >= _ANSWERS:
                self.answers.clear()
            self.answers[asked] = call.decode(self.chain.run_getter(address, call.method, call.args))
        return self.answers[asked]

    @property
    def params_cell(self) -> Cell:
        return self.get(self.network.registry, RegistryGetters.params())

    def client(
        self,
        name: str,
        deposit: int = Nano.ton(100),
        daily_limit: int = Nano.ton(10_000),
        index: int = 0,
    ) -> Client:
        """Deploy an escrow that is active and funded."""
        owner = self.chain.actor(name, Nano.ton(10_000))
        deployment = self.network.escrow(owner.address, index, code=self.code("escrow"))
        client = Client(self, deployment, owner, key_of(name), c.PURPOSE_ESCROW_EXTERNAL, index)
        body = m.ConfigureEscrow(
            query_id=0, hot_key=client.key.verify_key.to_int(), daily_limit=Nano(daily_limit), allowed=None
        )
        owner.send(client.address, deposit, body.to_cell(), state_init=client.deployment.state_init)
        return client

    def worker(
        self,
        name: str,
        stake: int = Nano.ton(100),
        gas: int = Nano.ton(10),
        max_locked: int = Nano.ton(10_000),
    ) -> Worker:
        """Deploy a stake that is active, staked and has gas."""
        owner = self.chain.actor(name, Nano.ton(10_000))
        worker = Worker(
            self,
            self.network.stake(owner.address, code=self.code("stake")),
            owner,
            key_of(name),
            c.PURPOSE_STAKE_EXTERNAL,
        )
        body = m.ConfigureStake(
            query_id=0,
            operator_key=worker.key.verify_key.to_int(),
            info_hash=0,
            max_locked=Nano(max_locked),
            daily_lock=Nano(max_locked),
        )
        owner.send(worker.address, gas, body.to_cell(), state_init=worker.deployment.state_init)
        if stake:
            worker.from_owner(m.AddStake(query_id=0, amount=Nano(stake)), stake + GAS)
        return worker

    def directed_terms(self, worker: Worker, price: int = Nano.ton(1), **changes: Any) -> m.JobTerms:
        target = m.JobWorker(
            operator_key=worker.key.verify_key.to_int(), account=signing.account_id(worker.address)
        )
        return self.open_terms(price, worker=target.to_cell(), **changes)

    def open_terms(self, price: int = Nano.ton(1), **changes: Any) -> m.JobTerms:
        fields: dict[str, Any] = {
            "model_id": as_int(self.model_id),
            "payload_hash": as_int(hash_of("payload")),
            "terms_hash": as_int(hash_of("terms")),
            "max_price": Nano(price),
            "claim_period": 3600,
            "work_period": 3600,
            "window": 3600,
            "items": 1,
            "worker": None,
        }
        return m.JobTerms(**{**fields, **changes})

    def verdict(
        self,
        client: Client,
        worker: Worker,
        job_id: int,
        pay: int,
        slash: int,
        signers: Sequence[int] = (0, 1, 2),
    ) -> m.Resolve:
        """Build a Resolve for a disputed job, signed by the named arbiters."""
        job = client.job(job_id)
        assert job is not None
        verdict = m.Verdict(
            id=job_id, disputed_at=job.deadline, result_hash=job.key_or_result, pay=pay, slash=slash
        )
        return self.signed_verdict(client, worker, verdict, signers)

    def session_verdict(
        self, client: Client, worker: Worker, session_id: int, slash: int, **changes: Any
    ) -> m.Resolve:
        """Build a Resolve for a disputed session, signed by three arbiters; `changes` as `m.Verdict`."""
        session = client.session(session_id)
        assert session is not None
        fields: dict[str, Any] = {
            "id": session_id,
            "disputed_at": session.deadline,
            "result_hash": as_int(session.evidence.begin_parse().load_bytes(32)),
            "pay": 0,
            "slash": slash,
        }
        return self.signed_verdict(client, worker, m.Verdict(**{**fields, **changes}))

    def signed_verdict(
        self, client: Client, worker: Worker, verdict: m.Verdict, signers: Sequence[int] = (0, 1, 2)
    ) -> m.Resolve:
        """Sign a verdict as the named arbiters."""
        digest = signing.verdict_digest(client.domain(), worker.address, verdict)
        link: Cell | None = None
        for index in reversed(signers):
            link = m.VerdictSignature(
                index=index, signature=self.arbiters[index].sign(digest), next=link
            ).to_cell()
        assert link is not None
        return m.Resolve(id=verdict.id, verdict=verdict.to_cell(), signatures=link)
