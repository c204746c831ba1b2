"""What can happen in a random life: a small world of foreign contracts, and the steps that change it.

Owns the world and the steps; a failing life is printed as a list of steps, which can be pasted back as
`live([...])`. Knows the chain only as a `Blockchain`, not that there may be another one, nor how lives are
drawn (`fuzz_lives`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pytoniq_core import Address, Cell, begin_cell

from cocoon_sdk.chain.base import AccountStatus
from cocoon_sdk.errors import ExternalRejectedError
from cocoon_sdk.sandbox import Blockchain, external_message, state_init
from tests.interop.foreign_contracts import (
    FOREVER,
    PUPPET,
    Jetton,
    Puppet,
    Transfer,
    Version,
    Wallet,
    code_action,
    library_action,
    reserve_action,
    send_action,
    transfer,
)

VERSIONS: tuple[Version, ...] = ("v1r3", "v2r2", "v3r2", "v4r2", "v5r1", "highload_v2")
FUNDS = 3 * 10**9
_MANY_DEPTH = 40
_END_OF_TIME = 4_200_000_000
"""Unix time has 32 bits; a life may last 76 years."""


class World:
    """Wallets, puppets, a jetton and empty addresses, some of them in the masterchain."""

    def __init__(self, chain: Blockchain) -> None:
        self.chain = chain
        self.wallets = [Wallet(version, version) for version in VERSIONS]
        self.seqnos = [0] * len(VERSIONS)
        chain.set_libraries([PUPPET])
        self.puppets = [Puppet(0), Puppet(1), Puppet(2, library=True), Puppet(3)]
        self.jetton = Jetton(self.wallets[3].address)
        for wallet in self.wallets:
            chain.deploy(wallet.init, FUNDS)
        for puppet in self.puppets[:3]:
            chain.deploy(puppet.init, FUNDS)
        chain.deploy(self.jetton.init, FUNDS)
        in_masterchain = chain.deploy(self.puppets[0].init, FUNDS, workchain=-1)
        holders = [self.wallets[3].address, self.puppets[0].address]
        self.jetton_wallets = [self.jetton.wallet(holder) for holder in holders]
        self.places: list[Address] = [
            *(wallet.address for wallet in self.wallets),
            *(puppet.address for puppet in self.puppets),
            in_masterchain,
            self.jetton.address,
            *self.jetton_wallets,
            Address((0, b"\x11" * 32)),
            Address((-1, b"\x22" * 32)),
            Address((5, b"\x33" * 32)),  # no such workchain
        ]

    def place(self, index: int) -> Address:
        return self.places[index % len(self.places)]

    def puppet(self, index: int) -> Puppet:
        return self.puppets[index % len(self.puppets)]

    def external(self, message: Cell) -> bool:
        """Send an external message; whether it was accepted."""
        try:
            self.chain.send_external(message)
        except ExternalRejectedError:
            return False
        return True


def _many_cells(depth: int) -> Cell:
    cell = begin_cell().store_uint(depth, 32).end_cell()
    for level in range(depth):
        cell = begin_cell().store_uint(level, 32).store_ref(cell).end_cell()
    return cell


@dataclass(frozen=True)
class Body:
    """A message body: nothing, a text, something that does not fit into the message's cell, many cells."""

    kind: int
    content: bytes = b""

    def cell(self) -> Cell | None:
        match self.kind:
            case 0:
                return None
            case 1:
                return begin_cell().store_uint(0, 32).store_bytes(self.content).end_cell()
            case 2:
                inner = begin_cell().store_bytes(self.content).end_cell()
                return begin_cell().store_bytes(self.content * 2).store_ref(inner).store_ref(inner).end_cell()
            case _:
                return _many_cells(_MANY_DEPTH)


@dataclass(frozen=True)
class Sending:
    """One message of a contract: where to, how much, with which mode."""

    place: int
    value: int
    mode: int
    body: Body
    bounce: bool
    deploy: bool = False

    def make(self, world: World) -> Transfer:
        body, init = self.body.cell(), None
        to = world.place(self.place)
        if self.deploy:
            init = world.puppet(self.place).init
            if self.place % 3:  # else the StateInit is mostly somebody else's
                to = world.puppet(self.place).address
        return transfer(to, self.value, self.mode, body, init=init, bounce=self.bounce)


@dataclass(frozen=True)
class WalletSends:
    """An external request at a wallet, which may be expired, replayed or wrongly signed."""

    wallet: int
    sendings: tuple[Sending, ...]
    fault: str = ""

    def apply(self, world: World) -> None:
        index = self.wallet % len(world.wallets)
        seqno = world.seqnos[index] + (1 if self.fault == "seqno" else 0)
        valid_until = world.chain.now - 1 if self.fault == "expired" else FOREVER
        wallet = world.wallets[index]
        if wallet.version == "highload_v2":
            valid_until = world.chain.now + (-60 if self.fault == "expired" else 60)
        request = wallet.request(
            [sending.make(world) for sending in self.sendings],
            seqno,
            valid_until=valid_until,
            forged=self.fault == "signature",
        )
        if world.external(request):
            world.seqnos[index] += 1


@dataclass(frozen=True)
class Mint:
    """An internal message out of nowhere, from any sender, perhaps marked as bounced."""

    source: int
    place: int
    value: int
    body: Body
    bounce: bool
    bounced: bool
    deploy: bool

    def apply(self, world: World) -> None:
        world.chain.send_internal(
            world.place(self.place),
            self.value,
            self.body.cell(),
            src=world.place(self.source),
            state_init=world.puppet(self.place).init if self.deploy else None,
            bounce=self.bounce,
            bounced=self.bounced,
        )


@dataclass(frozen=True)
class Action:
    """One entry of a puppet's action list: 0 to 3 send, then reserve, code, library, nonsense."""

    kind: int
    mode: int
    sending: Sending

    def cell(self, world: World) -> Cell:
        match self.kind:
            case 4:
                return reserve_action(self.mode, self.sending.value)
            case 5:
                return code_action(world.puppets[2].code if self.mode & 1 else PUPPET)
            case 6:
                return library_action(self.mode & 0x7F, _many_cells(self.sending.place % 5))
            case 7:
                return begin_cell().store_uint(self.sending.value, 64).end_cell()
            case _:
                return send_action(self.sending.make(world))


@dataclass(frozen=True)
class PuppetActs:
    """A puppet runs a program and leaves actions, told so by an external or by an internal message."""

    puppet: int
    actions: tuple[Action, ...] = ()
    program: bytes = b""
    throw_early: int = 0
    throw_late: int = 0
    value: int | None = None
    bounce: bool = True
    data_depth: int = 0
    in_masterchain: bool = False

    def apply(self, world: World) -> None:
        body = Puppet.body(
            [action.cell(world) for action in self.actions],
            throw_early=self.throw_early,
            throw_late=self.throw_late,
            data=_many_cells(self.data_depth),
            program=self.program,
        )
        to = world.puppet(self.puppet).address
        if self.in_masterchain:
            to = Address((-1, world.puppets[0].address.hash_part))
        if self.value is None:
            world.external(external_message(to, body))
        else:
            world.chain.send_internal(to, self.value, body, bounce=self.bounce, src=world.place(self.puppet))


@dataclass(frozen=True)
class JettonMoves:
    """Mint, transfer or burn jettons; some by somebody who may not."""

    what: int
    holder: int
    place: int
    amount: int
    value: int
    forward: int
    honest: bool

    def apply(self, world: World) -> None:
        wallet, owner = world.wallets[3].address, world.puppets[0].address
        holder = (wallet, owner)[self.holder % 2]
        source = holder if self.honest else world.place(self.place)
        to = world.jetton.wallet(holder)
        match self.what % 3:
            case 0:
                to, source = world.jetton.address, wallet if self.honest else owner
                body = Jetton.mint(holder, self.amount, self.forward)
            case 1:
                receiver = world.place(self.place)
                body = Jetton.transfer(
                    receiver, self.amount, source if self.amount & 1 else None, self.forward
                )
            case _:
                body = Jetton.burn(self.amount, source if self.amount & 1 else None)
        world.chain.send_internal(to, self.value, body, src=source)


@dataclass(frozen=True)
class Wait:
    """Time passes: rent becomes due; accounts may freeze."""

    seconds: int

    def apply(self, world: World) -> None:
        world.chain.set_now(min(world.chain.now + self.seconds, _END_OF_TIME))


@dataclass(frozen=True)
class Libraries:
    """The public library that one puppet's code is disappears, or comes back."""

    there: bool

    def apply(self, world: World) -> None:
        world.chain.set_libraries([PUPPET] if self.there else [])


@dataclass(frozen=True)
class Junk:
    """An external message with a random body, perhaps with a StateInit."""

    place: int
    body: Body
    deploy: bool

    def apply(self, world: World) -> None:
        puppet = world.puppet(self.place)
        to = puppet.address if self.deploy else world.place(self.place)
        world.external(
            external_message(to, self.body.cell() or Cell.empty(), puppet.init if self.deploy else None)
        )


@dataclass(frozen=True)
class Ruin:
    """A puppet stores much, sends its money away and lives on for years; then its last state arrives anew."""

    puppet: int
    cells: int
    keeps: int
    seconds: int
    visits: int
    value: int

    def apply(self, world: World) -> None:
        puppet = world.puppet(self.puppet)
        body = Puppet.body(
            [reserve_action(0, self.keeps), send_action(transfer(world.place(0), 0, 128))],
            data=_many_cells(self.cells),
        )
        world.chain.send_internal(puppet.address, 10**9, body)
        for _ in range(self.visits):
            Wait(self.seconds).apply(world)
            world.chain.send_internal(puppet.address, self.value, bounce=False)
        last = state_init(puppet.code, _many_cells(self.cells))
        world.chain.send_internal(puppet.address, self.value, state_init=last, bounce=False)


Step = WalletSends | Mint | PuppetActs | JettonMoves | Wait | Libraries | Junk | Ruin


@dataclass
class Tally:
    """How often a life reached the rarer states, so that a test can see that it did."""

    frozen: int = 0
    uninitialised: int = 0
    due: int = 0
    transactions: int = 0
    exit_codes: set[int] = field(default_factory=set)
    action_codes: set[int] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)

    def look(self, world: World) -> None:
        """Count what is to be seen at the end of a life."""
        for place in world.places:
            account = world.chain.shard_account(place)
            self.frozen += account.status is AccountStatus.FROZEN
            self.uninitialised += account.status is AccountStatus.UNINIT
            self.due += account.due_payment > 0
        for tx in world.chain.transactions(limit=1_000_000):
            self.transactions += 1
            self.skipped |= {tx.skipped} - {None}
            self.exit_codes |= {tx.exit_code} - {None}
            self.action_codes |= {tx.action_result_code} - {None}


def live(steps: list[Step], chain: Blockchain) -> World:
    """Make a world on a fresh chain and let the steps happen."""
    world = World(chain)
    for step in steps:
        step.apply(world)
    return world
