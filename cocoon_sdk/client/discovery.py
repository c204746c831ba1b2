"""`AsyncWorkers`: who serves a model now, at which price, and why others were left out.

Owns reading a market and believing nothing of it: every notice's sender is derived, every stake is looked
at, every announcement is checked against the hash in the stake. Must not know jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pytoniq_core import Address

from cocoon_sdk.client.context import ClientContext
from cocoon_sdk.client.models import AsyncModels
from cocoon_sdk.contracts.accounts import Genuine, derived_from, registry_rules
from cocoon_sdk.contracts.market import Market, Notice
from cocoon_sdk.contracts.registry import RegisteredModel
from cocoon_sdk.contracts.worker_stake import WorkerStake
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.data import InlineData, decode_data
from cocoon_sdk.errors import (
    AccountNotFoundError,
    CocoonError,
    DecryptionError,
    HashMismatchError,
    MalformedError,
)
from cocoon_sdk.history import (
    AccountKind,
    AnnounceAction,
    DecodedTransaction,
    HistoryNotFoundError,
    actions_of,
    sending_transaction,
    walk,
)
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol.offers import Offer, Prekey, WorkerInfo, decode_info
from cocoon_sdk.protocol.pricing import Usage, price
from cocoon_sdk.protocol.signing import account_address
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Hash, Nano

MAX_AGE_S: Final = 8 * 86400
"""Workers announce themselves weekly; what is older than this counts for nothing."""
MAX_CANDIDATES: Final = 256
_PARALLEL: Final = 8
_TYPICAL: Final = Usage(input_tokens=1000, output_tokens=1000)


class IgnoreReason(StrEnum):
    """Why an announcement was left out."""

    FORGED = "not sent by a genuine stake"
    FEE = "announcement fee too low"
    NOT_ACTIVE = "stake is not active"
    OUTDATED = "stake names another announcement by now"
    UNREADABLE = "announcement cannot be found or read"
    OTHER_KEY = "announcement names another operator key"
    NO_OFFER = "announcement has no offer for this model"
    OTHER_ENTRY = "terms name another entry of the registry"
    NO_PREKEY = "all prekeys have expired"
    NO_STAKE = "no stake left to lock"
    NO_GAS = "no gas left to answer"
    LEFT = "left after an audit"


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """A genuine, active worker that offers a model. `lockable` is what it can still lock, in nanoTON.

    `announced_at` is unix time in seconds. `params_hash` names the parameters that its stake works under: an
    escrow that works under others and the worker cannot do business.
    """

    worker: Genuine
    model: RegisteredModel
    offer: Offer
    info: WorkerInfo = field(repr=False)
    prekey: Prekey = field(repr=False)
    lockable: Nano
    announced_at: int
    params_hash: Hash

    @property
    def address(self) -> Address:
        """The worker's stake."""
        return self.worker.address

    @property
    def operator(self) -> VerifyKey:
        """The key that signs results."""
        return self.info.operator

    @property
    def terms(self) -> Terms:
        """Prices and sampling."""
        return self.offer.terms

    @property
    def endpoint(self) -> str | None:
        """Where results are handed over, if anywhere but on chain."""
        return self.info.endpoint

    def price_of(self, usage: Usage) -> Nano:
        """Return what a use costs with this worker, in nanoTON."""
        return price(usage, self.terms)


@dataclass(frozen=True, slots=True)
class IgnoredWorker:
    """An announcer that was left out, and why."""

    address: Address
    reason: IgnoreReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WorkerList:
    """Offers for one model as of one block, cheapest first, and what was left out."""

    model: RegisteredModel
    offers: tuple[WorkerOffer, ...]
    ignored: tuple[IgnoredWorker, ...]
    block: int

    def __iter__(self) -> Iterator[WorkerOffer]:
        return iter(self.offers)

    def __len__(self) -> int:
        return len(self.offers)

    def find(self, address: Address) -> WorkerOffer | None:
        """Return the offer of one worker."""
        return next((offer for offer in self.offers if offer.address == address), None)

    def only(self, wanted: Callable[[WorkerOffer], bool]) -> WorkerList:
        """Return the list with those offers only for which `wanted` is true."""
        return replace(self, offers=tuple(offer for offer in self.offers if wanted(offer)))

    def why_ignored(self) -> str:
        """Return one line that says who was left out, for error messages."""
        counted: dict[str, int] = {}
        for worker in self.ignored:
            counted[worker.reason] = counted.get(worker.reason, 0) + 1
        return ", ".join(f"{number} x {reason}" for reason, number in counted.items()) or "nobody announced"


class _IgnoredError(CocoonError):
    """Ends the look at one announcement."""

    def __init__(self, reason: IgnoreReason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass(slots=True)
class _Topic:
    """What is known of one market: the newest notice of each announcer, and the list of one block."""

    seen_lt: int = 0
    notices: dict[bytes, Notice] = field(default_factory=dict)
    refused: dict[bytes, IgnoredWorker] = field(default_factory=dict)
    listed: WorkerList | None = None


class AsyncWorkers:
    """The workers of a network; get it as `AsyncCocoon.workers`."""

    def __init__(self, context: ClientContext, models: AsyncModels) -> None:
        self._context, self._models = context, models
        self._topics: dict[Hash, _Topic] = {}
        self._infos: dict[bytes, WorkerInfo] = {}
        self._left: dict[bytes, str] = {}
        self._lock = asyncio.Lock()

    async def list(self, model: str | bytes) -> WorkerList:
        """Return who serves a model (id or name), cheapest first; the same answer within one block.

        Raises `UnknownModelError` for a model that the registry does not list.
        """
        async with self._lock:
            entry = await self._models.get(model)
            topic = self._topics.setdefault(entry.model_id, _Topic())
            head = await self._context.chain.head()
            if topic.listed is None or topic.listed.block != head.seqno:
                topic.listed = await self._look(entry, topic, head.seqno, head.now)
            return self._without_left(topic.listed)

    def leave(self, worker: Address, why: str) -> None:
        """List this worker no more; `why` is told where others that are left out are named."""
        self._left[bytes(worker.hash_part)] = why

    def come_back(self, worker: Address) -> None:
        """List a worker that was left again."""
        self._left.pop(bytes(worker.hash_part), None)

    def _without_left(self, listed: WorkerList) -> WorkerList:
        if not self._left:
            return listed
        left = [offer for offer in listed if bytes(offer.address.hash_part) in self._left]
        ignored = tuple(
            IgnoredWorker(offer.address, IgnoreReason.LEFT, self._left[bytes(offer.address.hash_part)])
            for offer in left
        )
        kept = listed.only(lambda offer: offer not in left)
        return replace(kept, ignored=(*listed.ignored, *ignored))

    async def _look(self, model: RegisteredModel, topic: _Topic, block: int, now: int) -> WorkerList:
        context = self._context
        params, rules = await registry_rules(context.chain, context.network.registry)
        market = Market.of(context.chain, context.network, params, model.model_id)
        codes = m.Codes.from_cell(rules.stake_codes)
        await self._read(market, topic, params, codes, now)
        limit = asyncio.Semaphore(_PARALLEL)

        async def judge(notice: Notice) -> WorkerOffer | IgnoredWorker:
            async with limit:
                try:
                    return await self._judge(notice, model, params, codes, now)
                except _IgnoredError as error:
                    return IgnoredWorker(notice.src, error.reason, error.detail)

        judged = await asyncio.gather(*(judge(notice) for notice in topic.notices.values()))
        offers = [found for found in judged if isinstance(found, WorkerOffer)]
        offers.sort(key=lambda offer: (offer.price_of(_TYPICAL), offer.address.hash_part))
        ignored = tuple(found for found in judged if isinstance(found, IgnoredWorker))
        return WorkerList(model, tuple(offers), (*ignored, *topic.refused.values()), block)

    async def _read(self, market: Market, topic: _Topic, params: m.Params, codes: m.Codes, now: int) -> None:
        """Take note of what was announced since the last look.

        Who is not genuine or pays no fee is told apart without asking the chain, and cannot crowd others out.
        """
        oldest = now - MAX_AGE_S
        newest = topic.seen_lt
        async for notice in market.notices(after_lt=topic.seen_lt):
            newest = max(newest, notice.lt)
            if notice.now < oldest:
                break
            if not isinstance(notice.content, m.OfferNotice):
                continue
            who = notice.src.hash_part
            try:
                self._sender(notice, params, codes)
            except _IgnoredError as error:
                if len(topic.refused) < MAX_CANDIDATES:
                    topic.refused.setdefault(who, IgnoredWorker(notice.src, error.reason, error.detail))
                continue
            known = topic.notices.get(who)
            if known is None or known.lt < notice.lt:
                topic.notices[who] = notice
        topic.seen_lt = newest
        fresh = [(who, notice) for who, notice in topic.notices.items() if notice.now >= oldest]
        fresh.sort(key=lambda item: -item[1].lt)
        topic.notices = dict(fresh[:MAX_CANDIDATES])

    def _sender(self, notice: Notice, params: m.Params, codes: m.Codes) -> Genuine:
        content = notice.content
        assert isinstance(content, m.OfferNotice)
        if notice.fee < params.announce_fee:
            raise _IgnoredError(IgnoreReason.FEE, f"{notice.fee} instead of {Nano(params.announce_fee)}")
        registry, owner = self._context.network.registry, account_address(content.owner)
        worker = derived_from(codes, registry, owner, content.index, notice.src)
        if worker is None:
            raise _IgnoredError(IgnoreReason.FORGED)
        return worker

    async def _judge(
        self, notice: Notice, model: RegisteredModel, params: m.Params, codes: m.Codes, now: int
    ) -> WorkerOffer:
        content = notice.content
        assert isinstance(content, m.OfferNotice)
        worker = self._sender(notice, params, codes)
        view = await self._stake_view(worker.address)
        if view.info_hash != content.info_hash:
            raise _IgnoredError(IgnoreReason.OUTDATED)
        info = await self._announced(notice, model)
        if info.operator.to_int() != view.operator_key:
            raise _IgnoredError(IgnoreReason.OTHER_KEY)
        offer = next((one for one in info.offers if one.terms.model_id == model.model_id), None)
        if offer is None:
            raise _IgnoredError(IgnoreReason.NO_OFFER)
        if offer.terms.model_entry_hash != model.entry_hash:
            raise _IgnoredError(IgnoreReason.OTHER_ENTRY)
        prekey = info.current_prekey(now)
        if prekey is None:
            raise _IgnoredError(IgnoreReason.NO_PREKEY)
        lockable = Nano(min(view.lockable, view.max_locked - view.locked, view.bucket))
        if lockable < params.min_collateral:
            raise _IgnoredError(IgnoreReason.NO_STAKE, f"{lockable} can be locked")
        if view.gas <= 0:
            raise _IgnoredError(IgnoreReason.NO_GAS)
        assert view.params is not None  # it is active
        params_hash = Hash(view.params.hash)
        return WorkerOffer(worker, model, offer, info, prekey, lockable, notice.now, params_hash)

    async def _stake_view(self, address: Address) -> m.StakeView:
        try:
            view = await WorkerStake.at(self._context.chain, address).state()
        except (AccountNotFoundError, MalformedError) as error:
            raise _IgnoredError(IgnoreReason.NOT_ACTIVE, str(error)[:200]) from None
        if not view.active:
            raise _IgnoredError(IgnoreReason.NOT_ACTIVE)
        return view

    async def _announced(self, notice: Notice, model: RegisteredModel) -> WorkerInfo:
        content = notice.content
        assert isinstance(content, m.OfferNotice)
        info_hash = content.info_hash.to_bytes(32, "big")
        known = self._infos.get(info_hash)
        if known is not None:
            return known
        try:
            origin = await sending_transaction(self._context.chain, notice.src, notice.created_lt)
        except (HistoryNotFoundError, MalformedError) as error:
            raise _IgnoredError(IgnoreReason.UNREADABLE, error.what) from None
        for found, action in _announcements(origin):
            if action.model_id == model.model_id and found.info_hash == info_hash:
                if len(self._infos) >= 4 * MAX_CANDIDATES:
                    self._infos.clear()
                self._infos[info_hash] = found
                return found
        raise _IgnoredError(IgnoreReason.UNREADABLE, "the transaction carries no such announcement")

    async def announcements(self, worker: Address) -> AsyncIterator[WorkerInfo]:
        """Yield what a stake announced of itself, newest first; only what it signed, not what is current."""
        async for transaction in walk(self._context.chain, worker):
            for info, _ in _announcements(transaction):
                yield info

    async def terms_of(self, worker: Address, terms_hash: bytes) -> tuple[WorkerInfo, Offer] | None:
        """Return the announcement in which a worker offered terms with that hash, None if there is none."""
        async for info in self.announcements(worker):
            for offer in info.offers:
                if offer.terms.terms_hash == terms_hash:
                    return info, offer
        return None


def _announcements(transaction: DecodedTransaction) -> Iterator[tuple[WorkerInfo, AnnounceAction]]:
    for action, skipped in actions_of(transaction, AccountKind.STAKE):
        if skipped is not None or not isinstance(action, AnnounceAction) or action.data is None:
            continue
        try:
            data = decode_data(action.data)
            if isinstance(data, InlineData):
                yield decode_info(data.content, action.info_hash), action
        except (MalformedError, HashMismatchError, DecryptionError):
            continue
