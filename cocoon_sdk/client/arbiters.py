"""A dispute's arbiters: sending evidence, collecting signatures, handing a verdict in (docs/arbiter.md).

Owns what is believed of an arbiter: what a listed key signed. Must not know how it is asked
(`cocoon_sdk.client.arbiter_endpoints`), what the evidence is or whose it is; clients, workers and other
arbiters use it alike. URLs come from the caller's configuration.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.client.arbiter_endpoints import Answered, ArbiterEndpoints, ArbiterUnreachableError
from cocoon_sdk.contracts.disputes import Dispute, Member, resolve_message
from cocoon_sdk.contracts.sender import OwnerWallet
from cocoon_sdk.crypto.keys import VerifyKey
from cocoon_sdk.errors import CocoonError, ConfigError, MalformedError
from cocoon_sdk.protocol.disputes import (
    MAX_ARBITERS,
    MAX_EVIDENCE_BYTES,
    ArbiterInfo,
    Evidence,
    Item,
    ItemKind,
    Opinions,
    Receipt,
    receipt_digest,
    seal_evidence,
)
from cocoon_sdk.protocol.offers import check_endpoint

AT_A_TIME: Final = 4
"""Arbiters that evidence is sealed to at once: each has a copy in memory."""
_UNASKED: Final = 64 * 1024
"""Evidence below this is delivered without asking first whether the dispute is known there."""
_MAX_RECEIPTS: Final = 1024
_NOT_FOUND: Final = 404
_TOGETHER: Final = MAX_EVIDENCE_BYTES // 2


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of evidence at one arbiter: the kinds that it signed for, and what went wrong.

    `receipts` are its signatures over each item, so it cannot say later that nothing came in time. `reached`
    tells whether it looked at the evidence: what it then refused, it would refuse again. `away` tells that it
    did not even answer.
    """

    index: int
    taken: frozenset[ItemKind]
    problem: str = ""
    reached: bool = True
    away: bool = False
    receipts: Mapping[ItemKind, Receipt] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class CollectedVerdict:
    """A verdict with the k signatures that it needs, by arbiters' indexes; amounts in nanoTON."""

    pay: int
    slash: int
    signatures: Mapping[int, bytes]


def portions(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in the order of their kinds, together as long as they are small."""
    portion: list[Item] = []
    size = 0
    for item in sorted(items, key=lambda item: item.kind):
        if portion and size + len(item.data) > _TOGETHER:
            yield portion
            portion, size = [], 0
        portion.append(item)
        size += len(item.data)
    if portion:
        yield portion


class Arbiters:
    """The arbiters of one network as a party or another arbiter reaches them: verdict key -> URL.

    Raises `ConfigError` for what is no key or no URL.
    """

    def __init__(self, urls: Mapping[str, str], *, endpoints: ArbiterEndpoints | None = None) -> None:
        self.urls: dict[VerifyKey, str] = {}
        for key, url in urls.items():
            try:
                self.urls[VerifyKey.from_hex(key)] = check_endpoint(url)
            except (CocoonError, ValueError) as error:
                raise ConfigError(
                    "cannot use the list of arbiters", why=str(error), hint="It maps verdict keys to URLs"
                ) from None
        self.endpoints = endpoints or ArbiterEndpoints()
        self._infos: dict[VerifyKey, ArbiterInfo] = {}
        self._receipts: OrderedDict[tuple[bytes, bytes], dict[int, Receipt]] = OrderedDict()
        self._sending = asyncio.Semaphore(AT_A_TIME)

    async def close(self) -> None:
        """Close all connections."""
        await self.endpoints.close()

    def known(self, dispute: Dispute) -> list[tuple[Member, str]]:
        """Return which of a dispute's arbiters can be reached, and where."""
        members = sorted(dispute.members.values(), key=lambda member: member.index)
        return [(member, self.urls[member.key]) for member in members if member.key in self.urls]

    async def info_of(self, member: Member, network: int) -> ArbiterInfo:
        """Return the evidence key of an arbiter, signed by its verdict key; asked for once.

        Raises `ArbiterUnreachableError`, or `MalformedError` when somebody else answers there.
        """
        found = self._infos.get(member.key)
        if found is None:
            found = await self.endpoints.info(self.urls[member.key])
            if found.key != member.key or found.network != network:
                raise MalformedError(
                    f"arbiter {member.index} cannot be used", why="another one answers at its URL"
                )
            self._infos[member.key] = found
        return found

    async def deliver(self, dispute: Dispute, items: Iterable[Item], member: Member) -> Delivered:
        """Seal evidence to one arbiter and bring it there; says what became of it and raises nothing.

        What other arbiters signed for goes along: who was away may take it a while later then.
        """
        receipts: dict[ItemKind, Receipt] = {}
        problem = ""
        try:
            url = self.urls[member.key]
            info = await self.info_of(member, dispute.domain.global_id)
            for portion in portions(self._with_receipts(dispute, item) for item in items):
                evidence = Evidence(dispute.digest, tuple(portion))
                sealed = await asyncio.to_thread(seal_evidence, evidence, info.box_key)
                answered = await self._bring(url, dispute, sealed)
                problem = problem or answered.refused
                for item in portion:
                    signature = answered.signatures.get(item.kind)
                    if signature is not None and self._keep(dispute, item, member, signature):
                        receipts[item.kind] = Receipt(member.index, signature)
                    else:
                        problem = problem or f"it signed no receipt for the {item.kind.name.lower()}"
        except CocoonError as error:
            self._infos.pop(member.key, None)  # it may have another evidence key by now
            away = isinstance(error, ArbiterUnreachableError) and error.status is None
            return Delivered(
                member.index, frozenset(receipts), str(error), reached=False, away=away, receipts=receipts
            )
        return Delivered(member.index, frozenset(receipts), problem, receipts=receipts)

    async def _bring(self, url: str, dispute: Dispute, sealed: bytes) -> Answered:
        """Deliver, and only if the arbiter does not know the dispute tell it to look at it."""
        try:
            if len(sealed) > _UNASKED:
                await self.endpoints.status(url, dispute.digest)
            return await self.endpoints.deliver(url, dispute.digest, sealed)
        except ArbiterUnreachableError as error:
            if error.status != _NOT_FOUND:
                raise
        await self.endpoints.announce(url, dispute)
        return await self.endpoints.deliver(url, dispute.digest, sealed)

    def _with_receipts(self, dispute: Dispute, item: Item) -> Item:
        """Add the receipts that arbiters gave us for an item."""
        known = self._receipts.get((dispute.digest, item.digest()), {})
        receipts = {**known, **{each.index: each for each in item.receipts}}
        return Item(item.kind, item.data, tuple(receipts.values())[:MAX_ARBITERS])

    def _keep(self, dispute: Dispute, item: Item, member: Member, signature: bytes) -> bool:
        """Check a receipt and remember it; false when it is not that arbiter's."""
        if not member.key.verify(receipt_digest(dispute.digest, item), signature):
            return False
        key = dispute.digest, item.digest()
        self._receipts.setdefault(key, {})[member.index] = Receipt(member.index, signature)
        self._receipts.move_to_end(key)
        if len(self._receipts) > _MAX_RECEIPTS:
            self._receipts.popitem(last=False)
        return True

    async def deliver_all(
        self, dispute: Dispute, items: Iterable[Item], members: Iterable[Member]
    ) -> tuple[Delivered, ...]:
        """Bring evidence to some arbiters, a few at a time: one that stalls delays no other one."""
        sent = tuple(items)

        async def bring(member: Member) -> Delivered:
            async with self._sending:
                return await self.deliver(dispute, sent, member)

        return tuple(await asyncio.gather(*map(bring, members)))

    async def send_evidence(self, dispute: Dispute, items: Iterable[Item]) -> tuple[Delivered, ...]:
        """Bring evidence to every arbiter of the dispute that can be reached, and say what became of it.

        One honest arbiter is enough: it passes on what it took. Raises `ConfigError` when no URL is known.
        """
        known = self.known(dispute)
        if not known:
            raise ConfigError(
                "cannot send evidence",
                why="no arbiter of this dispute is in the list of arbiters",
                hint="Pass `arbiters`: a mapping of their verdict keys to their URLs",
            )
        return await self.deliver_all(dispute, items, [member for member, _ in known])

    async def verdict(self, dispute: Dispute) -> CollectedVerdict | None:
        """Ask the arbiters for signatures; return a verdict that k of them signed, None while there is none.

        Every signature is checked as the escrow checks it.
        """
        signed: dict[tuple[int, int], dict[int, bytes]] = {}
        committed: dict[int, set[bytes]] = {}
        voted: dict[int, tuple[int, int]] = {}
        known = self.known(dispute)
        answers = await asyncio.gather(
            *(self.endpoints.exchange(url, dispute.digest) for _, url in known), return_exceptions=True
        )
        for answer in answers:
            if not isinstance(answer, Opinions) or answer.dispute != dispute.digest:
                continue
            for each in answer.verdicts:
                member = dispute.members.get(each.index)
                numbers = int(each.pay), int(each.slash)
                if member is not None and member.key.verify(dispute.verdict_digest(*numbers), each.signature):
                    signed.setdefault(numbers, {})[each.index] = each.signature
            for commitment in answer.commitments:
                member = dispute.members.get(commitment.index)
                if member is not None and commitment.is_of(member.key, dispute.digest):
                    committed.setdefault(commitment.index, set()).add(bytes(commitment.vote))
            for vote in answer.votes:
                if bytes(vote.digest()) in committed.get(vote.index, ()):
                    voted[vote.index] = vote.numbers
        for numbers, signatures in sorted(signed.items()):
            if len(signatures) >= dispute.threshold:
                # Those that had committed to it are paid before those that came round later.
                order = sorted(signatures, key=lambda index: (voted.get(index) != numbers, index))
                chosen = order[: dispute.threshold]
                return CollectedVerdict(*numbers, {index: signatures[index] for index in sorted(chosen)})
        return None

    async def resolve(self, chain: Chain, dispute: Dispute, wallet: OwnerWallet) -> CollectedVerdict | None:
        """Collect a verdict and hand it in from any wallet, which pays the gas; None while there is none.

        For the party that wins: arbiters do it too, but need not. Raises what the wallet and `Chain` raise.
        """
        found = await self.verdict(dispute)
        if found is not None:
            message = await resolve_message(chain, dispute, found.pay, found.slash, found.signatures)
            await wallet.send([message])
        return found
