"""Random lives of this project's own contracts: honest work, nonsense and time, as steps like `fuzz_world`'s.

Owns the steps. Treats the contracts as black boxes: what they should do is the business of tests/contracts.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from hypothesis import strategies as st
from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.protocol import signing
from cocoon_sdk.protocol.opcodes import OP_NAMES
from cocoon_sdk.sandbox import Blockchain, external_message
from cocoon_sdk.types import Nano
from tests.helpers.suite import Suite

_PRICE = Nano.ton("0.2")


class SuiteWorld:
    """The whole suite with one client and one worker."""

    def __init__(self, chain: Blockchain) -> None:
        self.suite = Suite(chain)
        self.chain = chain
        self.client = self.suite.client("alice")
        self.worker = self.suite.worker("bob")
        self.jobs: list[int] = []
        self.contracts = [
            self.suite.network.registry,
            self.suite.market,
            self.client.address,
            self.worker.address,
        ]
        self.senders: list[Address] = [
            *self.contracts,
            self.client.owner.address,
            self.worker.owner.address,
            self.suite.governor.address,
        ]


@dataclass(frozen=True)
class Open:
    """The client opens a job, for the worker or for anybody."""

    directed: bool

    def apply(self, world: SuiteWorld) -> None:
        suite = world.suite
        terms = suite.directed_terms(world.worker, _PRICE) if self.directed else suite.open_terms(_PRICE)
        world.jobs.append(world.client.open(terms)[0])


@dataclass(frozen=True)
class Proceed:
    """A job goes one step further, whether that is its turn or not."""

    job: int
    how: str
    amount: int

    def apply(self, world: SuiteWorld) -> None:
        number = world.jobs[self.job % len(world.jobs)] if world.jobs else 1
        if world.client.job(number) is None:
            return
        match self.how:
            case "submit":
                world.worker.submit(world.client, number, self.amount)
            case "claim":
                world.worker.claim(world.client, number)
            case "submit claimed":
                world.worker.submit_claimed(world.client, number, self.amount)
            case _:
                world.client.act(signing.accept_result(number))


@dataclass(frozen=True)
class Nonsense:
    """A message that starts like one of the suite's and goes on at random, from anybody."""

    contract: int
    sender: int
    opcode: int
    content: bytes
    references: int
    value: int
    external: bool
    bounced: bool

    def apply(self, world: SuiteWorld) -> None:
        to = world.contracts[self.contract]
        body = begin_cell().store_uint(self.opcode, 32).store_bytes(self.content)
        for _ in range(self.references):
            body.store_ref(begin_cell().store_bytes(self.content).end_cell())
        if self.external:
            world.chain.send_external(external_message(to, body.end_cell()))
        else:
            self._send_internal(world, to, body.end_cell())

    def _send_internal(self, world: SuiteWorld, to: Address, body: Cell) -> None:
        source = world.senders[self.sender]
        world.chain.send_internal(to, self.value, body, src=source, bounced=self.bounced)


@dataclass(frozen=True)
class Pass:
    """Time passes: deadlines and rent."""

    seconds: int

    def apply(self, world: SuiteWorld) -> None:
        world.chain.warp(self.seconds)


SuiteStep = Open | Proceed | Nonsense | Pass


def live(steps: list[SuiteStep], chain: Blockchain) -> None:
    """Deploy the suite on a fresh chain and let the steps happen."""
    world = SuiteWorld(chain)
    for step in steps:
        with suppress(ExternalRejectedError):
            step.apply(world)


suite_lives: st.SearchStrategy[list[SuiteStep]] = st.lists(
    st.one_of(
        st.builds(Open, st.booleans()),
        st.builds(
            Proceed,
            st.integers(0, 3),
            st.sampled_from(["submit", "claim", "submit claimed", "accept"]),
            st.integers(0, 2 * int(_PRICE)),
        ),
        st.builds(
            Nonsense,
            st.integers(0, 3),
            st.integers(0, 6),
            st.sampled_from(sorted(OP_NAMES)),
            st.binary(max_size=100),
            st.integers(0, 3),
            st.sampled_from([0, 10**6, 10**8, 10**9]),
            st.booleans(),
            st.booleans(),
        ),
        st.builds(Pass, st.one_of(st.integers(1, 4000), st.integers(1, 10**8))),
    ),
    min_size=4,
    max_size=25,
)
