"""What an account is, whether it is genuine, and how it stands.

Owns recognising accounts over any `Chain`. Must not know adapters. An account of the suite is believed only
if its address derives from its identity and a code of this package, or one that the named registry lists.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.chain.base import AccountState, AccountStatus, Chain
from cocoon_sdk.contracts.accounts import derived_from, registry_rules
from cocoon_sdk.contracts.code import code_hash
from cocoon_sdk.contracts.escrow import Escrow
from cocoon_sdk.contracts.market import Market
from cocoon_sdk.contracts.network import Network
from cocoon_sdk.contracts.parameters import own_codes
from cocoon_sdk.contracts.registry import PROPOSE_PARAMS, Registry
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.errors import CocoonError, GetterError, MalformedError
from cocoon_sdk.explain.facts import AccountKindName, AccountSeen, Fact, Property, Standing
from cocoon_sdk.explain.job_facts import JobStatus
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.abi_dict import parse
from cocoon_sdk.protocol.session_states import entries_of, state_of
from cocoon_sdk.types import Nano

WALLET_CODES: Final = {
    "5c9a5e68c108e18721a07c42f9956bfb39ad77ec6d624b60c576ec88eee65329": "v2r1",
    "fe9530d3243853083ef2ef0b4c2908c0abf6fa1c31ea243aacaa5bf8c7d753f1": "v2r2",
    "b61041a58a7980b946e8fb9e198e3c904d24799ffa36574ea4251c41a566f581": "v3r1",
    "84dafa449f98a6987789ba232358072bc0f76dc4524002a5d0918b9a75d2d599": "v3r2",
    "64dd54805522c5be8a9db59cea0105ccf0d08786ca79beb8cb79e880a8d7322d": "v4r1",
    "feb5ff6820e2ff0d9483e7e0d62c817d846789fb4ae580c878866d959dabd5c0": "v4r2",
    "20834b7b72b112147e1b2fb457b84e74d1a30f04f737d4f62a668e9552d2b72f": "v5r1",
    "9494d1cc8edf12f05671a1a9ba09921096eb50811e1924ec65c3c629fbb80812": "highload v2",
    "11acad7955844090f283bf238bc1449871f783e7cc0979408d3f4859483e8525": "highload v3",
}
"""Code hashes of common wallets; a test holds them against the wallet libraries."""
STATUS_BY_NUMBER: Final = (JobStatus.OPEN, JobStatus.CLAIMED, JobStatus.SUBMITTED, JobStatus.DISPUTED)
"""Status of a job as its entry stores it."""
_MAX_LISTED: Final = 16


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was found at an address; `identity` for escrows and stakes."""

    state: AccountState
    what: AccountKindName
    standing: Standing
    identity: m.AccountIdentity | None = None
    detail: str = ""


async def recognise(chain: Chain, address: Address, network: Network | None = None) -> Recognised:
    """Find out what an account is. Raises what the `Chain` raises."""
    state = await chain.account(address)
    if state.code is None:
        return Recognised(state, AccountKindName.NOTHING, Standing.NOT_OURS)
    code = state.code.hash
    if code == code_hash("Registry"):
        named = network is not None and network.registry == address
        standing = Standing.NAMED if named else Standing.GENUINE_CODE
        return Recognised(state, AccountKindName.REGISTRY, standing)
    if code == code_hash("Market"):
        return await _market(chain, state, network)
    wallet = WALLET_CODES.get(code.hex())
    if wallet is not None:
        return Recognised(state, AccountKindName.WALLET, Standing.NOT_OURS, detail=wallet)
    return await _owned(chain, state, network)


async def _market(chain: Chain, state: AccountState, network: Network | None) -> Recognised:
    try:
        data = m.MarketIdentity.from_cell(state.data) if state.data is not None else None
    except MalformedError:
        data = None
    if data is None:
        return Recognised(state, AccountKindName.MARKET, Standing.FORGED)
    derived = Network(data.registry).market(data.model_id.to_bytes(32, "big")).address
    return Recognised(
        state, AccountKindName.MARKET, _standing(derived == state.address, data.registry, network)
    )


async def _owned(chain: Chain, state: AccountState, network: Network | None) -> Recognised:
    """Recognise an escrow or a stake, of this package's code or of one that the named registry lists."""
    kinds = ((AccountKindName.ESCROW, "Escrow"), (AccountKindName.STAKE, "WorkerStake"))
    codes = {kind: [own_codes(name)] for kind, name in kinds}
    if network is not None:
        try:
            _, rules = await registry_rules(chain, network.registry)
        except CocoonError:
            pass  # a registry that cannot be read lists nothing
        else:
            codes[AccountKindName.ESCROW].append(Escrow.listed_codes(rules))
            codes[AccountKindName.STAKE].append(WorkerStake.listed_codes(rules))
    assert state.code is not None
    running = int.from_bytes(state.code.hash, "big")
    what = next(
        (kind for kind, lists in codes.items() if any(running in (x.hash, x.previous_hash) for x in lists)),
        AccountKindName.UNKNOWN,
    )
    try:
        identity = await Escrow.at(chain, state.address).identity()
    except (GetterError, MalformedError):
        standing = Standing.NOT_OURS if what is AccountKindName.UNKNOWN else Standing.FORGED
        return Recognised(state, what, standing)
    if what is AccountKindName.UNKNOWN:
        return Recognised(state, what, Standing.IMITATION, identity)
    genuine = any(
        derived_from(listed, identity.registry, identity.owner, identity.index, state.address)
        for listed in codes[what]
    )
    return Recognised(state, what, _standing(genuine, identity.registry, network), identity)


def _standing(derives: bool, registry: Address, network: Network | None) -> Standing:
    if not derives:
        return Standing.FORGED
    other = network is not None and network.registry != registry
    return Standing.OTHER_NETWORK if other else Standing.GENUINE


async def account_facts(chain: Chain, address: Address, network: Network | None = None) -> tuple[Fact, ...]:
    """Return what an account is and how it stands. Raises what the `Chain` raises."""
    found = await recognise(chain, address, network)
    seen = AccountSeen(
        address=address,
        what=found.what,
        standing=found.standing,
        status=found.state.status.value,
        balance=found.state.balance,
        detail=found.detail,
    )
    return seen, *[fact async for fact in _details(chain, found)]


async def _details(chain: Chain, found: Recognised) -> AsyncIterator[Fact]:
    address = found.state.address
    if found.state.status is not AccountStatus.ACTIVE or found.standing in (
        Standing.FORGED,
        Standing.IMITATION,
    ):
        return
    if found.identity is not None:
        yield Property(name="registry", value=found.identity.registry)
        yield Property(name="owner", value=found.identity.owner)
        yield Property(name="index", value=found.identity.index)
    match found.what:
        case AccountKindName.ESCROW:
            for fact in _escrow(await Escrow.at(chain, address).state()):
                yield fact
        case AccountKindName.STAKE:
            stake = WorkerStake.at(chain, address)
            for fact in _stake(await stake.state(), len(await stake.locks())):
                yield fact
        case AccountKindName.MARKET:
            yield Property(name="model", value=await Market.at(chain, address).model_id())
            surplus = Nano(max(0, found.state.balance - c.MARKET_RENT))
            yield Property(name="above rent", value=surplus, note="anyone can sweep it to the treasury")
        case AccountKindName.REGISTRY:
            for fact in await _registry(Registry.at(chain, address), found.state.balance):
                yield fact


def _escrow(view: m.EscrowView) -> Iterator[Property]:
    yield Property(name="active", value=view.active, note="" if view.active else _PENDING)
    yield Property(name="free", value=Nano(view.free), note="can be withdrawn, or spent on new jobs")
    yield Property(name="reserved", value=Nano(view.reserved), note=f"for {view.jobs} open jobs and sessions")
    yield Property(name="daily limit", value=Nano(view.daily_limit), note="of the hot key")
    yield Property(name="left of it now", value=Nano(view.bucket))
    yield Property(name="hot key", value=f"{view.hot_key:064x}")
    yield Property(name="next job id", value=view.next_id)
    allowed = (
        "any worker" if view.allowed is None else f"{len(list(parse(view.allowed, 256)))} listed workers"
    )
    yield Property(name="allowed workers", value=allowed)
    for number, entry in list(entries_of(view.entries).items())[:_MAX_LISTED]:
        if isinstance(entry, m.Session):
            yield Property(name=f"session {number}", value=state_of(entry).value)
        else:
            yield Property(name=f"job {number}", value=STATUS_BY_NUMBER[entry.status].value)
    if view.tombstones is not None:
        count = len(list(parse(view.tombstones, 34)))
        yield Property(name="undelivered outcomes", value=count, note="anyone can deliver them")


def _stake(view: m.StakeView, locks: int) -> Iterator[Property]:
    yield Property(name="active", value=view.active, note="" if view.active else _PENDING)
    yield Property(name="stake", value=Nano(view.stake))
    yield Property(name="locked", value=Nano(view.locked), note=f"in {locks} locks")
    yield Property(name="lockable", value=Nano(view.lockable), note="collateral for new jobs")
    yield Property(name="earned", value=Nano(view.earned), note="the owner can withdraw it")
    yield Property(name="protocol fee due", value=Nano(view.fee_due))
    yield Property(name="spare gas", value=Nano(view.gas))
    if view.unbonding:
        yield Property(name="unbonding", value=Nano(view.unbonding))
        yield Property(name="unbonded at", value=view.unbonds_at, is_time=True)
    yield Property(name="most locked at once", value=Nano(view.max_locked), note="of the operator key")
    yield Property(name="lockable today", value=Nano(view.bucket), note=f"of {Nano(view.daily_lock)} a day")
    yield Property(name="operator key", value=f"{view.operator_key:064x}")
    announced = f"{view.info_hash:064x}" if view.info_hash else "nothing"
    yield Property(name="announced", value=announced)


_PENDING: Final = "it waits for its parameters: send SyncParams"


async def _registry(registry: Registry, balance: Nano) -> Iterator[Property]:
    params, owner, pending = await registry.params(), await registry.owner(), await registry.pending_owner()
    proposal, models = await registry.proposal(), await registry.models()
    found = [
        Property(name="owner", value=owner),
        Property(name="parameters", value=f"version {params.version}"),
        Property(name="protocol fee", value=f"{params.fee_bps} basis points"),
        Property(name="dispute bond", value=Nano(params.dispute_bond)),
        Property(name="announcement fee", value=Nano(params.announce_fee)),
        Property(name="treasury", value=Nano(max(0, balance - c.REGISTRY_RESERVE))),
    ]
    if pending is not None:
        found.append(Property(name="offered to", value=pending, note="it has to accept the ownership"))
    if proposal is not None:
        kind = "parameters" if proposal.kind == PROPOSE_PARAMS else "a model's entry"
        found.append(Property(name="waiting proposal", value=kind, note="anyone can execute it then"))
        found.append(Property(name="executable from", value=proposal.ready_at, is_time=True))
    listed = (Property(name=f"model {model.name}", value=model.model_id) for model in models[:_MAX_LISTED])
    return iter([*found, *listed])
