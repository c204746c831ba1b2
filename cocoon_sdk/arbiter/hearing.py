"""`Hearing`: one dispute before one arbiter, from the first evidence to the signed verdict.

Owns the order of things: evidence, vote, commitment, opening, verdict; every step is kept before it is shown.
Must not know transport, how content is judged, or who sends the verdict. Times are the chain's, in seconds.

Signatures are dear to check, so they come last: what hashes, bounds or our own memory settle is not checked,
and the first one that is wrong ends the list that it stands in. Whoever checks what it passes on sends none,
so honest senders lose nothing by it, and others have one checked in vain for each of their lists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import takewhile
from typing import Final

from cocoon_sdk.arbiter.errors import EvidenceError, OpinionError, SecondVerdictError
from cocoon_sdk.arbiter.evidence import (
    OnChain,
    Weighed,
    check_item,
    opened_result,
    published,
    weigh,
    what_is_shown,
)
from cocoon_sdk.arbiter.panel import Numbers, Panel
from cocoon_sdk.arbiter.rules import Bounds, SessionShown, is_settled, numbers, outcome
from cocoon_sdk.arbiter.store import ArbiterStore
from cocoon_sdk.arbiter.timetable import Timetable
from cocoon_sdk.arbiter.vote_store import MAX_SIGNED, OwnVote
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.protocol.disputes import (
    Evidence,
    Ground,
    Item,
    ItemKind,
    Measured,
    Opinions,
    Receipt,
    SignedVerdict,
    Vote,
    VoteCommitment,
    commitment_digest,
    receipt_digest,
)
from cocoon_sdk.types import Hash, Nano

_DERIVED: Final = ItemKind.RESULT
"""What the client's key opens on chain: others open it themselves."""


class Hearing:
    """One dispute. `prepare` once, then `take` what comes and `advance` as time goes by."""

    def __init__(self, dispute: Dispute, on_chain: OnChain, key: SigningKey, store: ArbiterStore) -> None:
        index = dispute.index_of(key.verify_key)
        assert index is not None, "the caller looks whether the parameters name us"
        self.dispute, self.index = dispute, index
        self.times = Timetable(
            dispute.disputed_at,
            dispute.evidence_s,
            dispute.arbitration_s,
            len(dispute.members) - dispute.threshold,
        )
        self.bounds = Bounds.of(int(dispute.amount), int(dispute.collateral), dispute.slash_bps)
        self.is_doubled = False
        """Whether somebody else votes with our key: then we are silent."""
        self._on_chain, self._key, self._store = on_chain, key, store
        self._shown = what_is_shown(dispute, on_chain, {})
        self._digests: dict[ItemKind, Hash] = {}

    async def prepare(self) -> None:
        """Go on where the store left it; take what is public on chain."""
        public = published(self.dispute, self._on_chain)
        known = await self.items()
        if public is not None and ItemKind.PAYLOAD not in known:
            await self._keep(public)
        self._on_chain = replace(self._on_chain, payload=None)  # there may be many of us, and it was read
        await self._look()

    # -- evidence ------------------------------------------------------------------------------------------

    async def items(self) -> dict[ItemKind, Item]:
        """Return the evidence that is there, each item with the receipts to pass it on with."""
        return await self._store.items(self.dispute.digest)

    @property
    def held(self) -> list[ItemKind]:
        """Which kinds of evidence are there."""
        shown = self._shown
        if isinstance(shown, SessionShown):
            return [ItemKind.SESSION] if shown.evidence else []
        there = {
            ItemKind.PAYLOAD: shown.payload,
            ItemKind.RESULT: shown.result,
            ItemKind.CLIENT_KEY: shown.client_key,
            ItemKind.RECEIVED: shown.received,
            ItemKind.TERMS: shown.terms,
        }
        return [kind for kind, is_there in there.items() if is_there]

    async def take(self, evidence: Evidence, now: int) -> None:
        """Check and keep evidence; what fits is kept even when something else in it does not.

        Raises `EvidenceError` for what does not fit, or came too late.
        """
        if evidence.dispute != self.dispute.digest:
            raise EvidenceError("the evidence is about another dispute")
        refused: EvidenceError | None = None
        for item in sorted(evidence.items, key=lambda item: item.kind):
            try:
                if item.kind in self._digests:
                    await self._keep_receipts(item)
                else:
                    await self._take(item, now)
            except EvidenceError as error:
                refused = refused or error
        if refused is not None:
            raise refused

    async def _take(self, item: Item, now: int) -> None:
        needed = self.times.receipts_needed(now)
        late = EvidenceError(
            f"the {item.kind.name.lower()} came too late",
            why=f"evidence was taken until {self.times.evidence_until}",
        )
        if needed is None or len(self._new_receipts(item, ())) < needed:
            raise late
        known: dict[ItemKind, bytes] = {}
        if item.kind is ItemKind.CLIENT_KEY:  # the only one that is bound by another item
            known = {kind: each.data for kind, each in (await self.items()).items()}
        check_item(item, self.dispute, known)
        receipts = self._valid(item, ())
        if len(receipts) < needed:
            raise late
        await self._keep(Item(item.kind, item.data, receipts))
        if item.kind is ItemKind.CLIENT_KEY:
            await self._open_delivered()
        await self._look()

    async def _keep_receipts(self, item: Item) -> None:
        """Keep who else holds what we hold: with more receipts it can be passed on for longer."""
        if not item.receipts or item.digest() != self._digests[item.kind]:
            return
        known = (await self._store.receipts(self.dispute.digest))[item.kind]
        if valid := self._valid(item, [each.index for each in known]):
            await self._store.add_item(self.dispute.digest, Item(item.kind, item.data, valid))

    async def receipts(self, evidence: Evidence) -> dict[ItemKind, bytes]:
        """Return our signature for each delivered item that we hold just so: proof that it came in time."""
        held = await self._store.receipts(self.dispute.digest)
        return {
            item.kind: receipt.signature
            for item in evidence.items
            if item.kind in self._digests and item.digest() == self._digests[item.kind]
            for receipt in held[item.kind]
            if receipt.index == self.index
        }

    def _new_receipts(self, item: Item, known: Collection[int]) -> list[Receipt]:
        """Return what is said to be receipts of other arbiters than those in `known`, one of each."""
        found: dict[int, Receipt] = {}
        for receipt in item.receipts:
            if receipt.index in self.dispute.members and receipt.index not in (self.index, *known):
                found.setdefault(receipt.index, receipt)
        return list(found.values())

    def _valid(self, item: Item, known: Collection[int]) -> tuple[Receipt, ...]:
        """Return the receipts of distinct other arbiters than those in `known`, up to the first wrong one."""
        digest = receipt_digest(self.dispute.digest, item)
        new = self._new_receipts(item, known)
        return tuple(takewhile(lambda each: self._is_receipt(each, digest), new))

    def _is_receipt(self, receipt: Receipt, digest: bytes) -> bool:
        return self.dispute.members[receipt.index].key.verify(digest, receipt.signature)

    async def _keep(self, item: Item) -> None:
        mine = Receipt(self.index, self._key.sign(receipt_digest(self.dispute.digest, item)))
        await self._store.add_item(self.dispute.digest, Item(item.kind, item.data, (*item.receipts, mine)))

    async def _open_delivered(self) -> None:
        known = {kind: item.data for kind, item in (await self.items()).items()}
        _opens, text = opened_result(self.dispute, self._on_chain, known)
        if text is not None and _DERIVED not in known:
            await self._keep(Item(_DERIVED, text))

    async def _look(self) -> None:
        items = await self.items()
        known = {kind: item.data for kind, item in items.items()}
        self._shown = what_is_shown(self.dispute, self._on_chain, known)
        self._digests = {kind: item.digest() for kind, item in items.items()}

    # -- our vote ------------------------------------------------------------------------------------------

    async def own(self) -> OwnVote | None:
        """Return our vote."""
        return await self._store.votes.own(self.dispute.digest)

    async def weigh(self, now: int) -> Weighed | None:
        """Return what the evidence comes to once it is complete or closed; None before, or after our vote."""
        if self.is_doubled or await self.own() is not None:
            return None
        if not is_settled(self._shown) and now < self.times.evidence_closed_at:
            return None
        known = {kind: item.data for kind, item in (await self.items()).items()}
        # Evidence of megabytes with many signatures: not on the event loop.
        return await asyncio.to_thread(weigh, self.dispute, known, outcome(self._shown))

    async def vote(self, ground: Ground, *, due: int = 0, measured: Measured | None = None) -> Vote:
        """Vote, on what the evidence or the judge says, with what it measured; kept and committed to, not
        yet shown.

        Raises `SecondVerdictError` when there is a vote already, here or of another one with our key.
        """
        if self.is_doubled:
            raise SecondVerdictError("refused to vote: somebody else votes with our key")
        late = outcome(self._shown).late
        pay, slash = numbers(ground, self.bounds, late=late, due=due)
        vote = Vote(
            dispute=self.dispute.digest,
            index=self.index,
            pay=Nano(pay),
            slash=Nano(slash),
            ground=ground,
            late=late,
            measured=measured,
        )
        digest = vote.digest()
        signature = self._key.sign(commitment_digest(self.dispute.digest, self.index, digest))
        await self._store.votes.put_vote(
            vote, VoteCommitment(index=self.index, vote=digest, signature=signature)
        )
        return vote

    # -- what all of them say ------------------------------------------------------------------------------

    async def panel(self) -> Panel:
        """Return all that is known to be signed."""
        return await self._store.votes.panel(self.dispute.digest, self.dispute.threshold)

    async def opinions(self) -> Opinions:
        """Return all that is known to be signed, to be passed on; our vote only once it is open."""
        return await self._store.votes.opinions(self.dispute.digest)

    async def hear(self, opinions: Opinions) -> None:
        """Take what others signed, of each kind up to the first that is not signed by whom it names.

        Votes are kept that fit a commitment. Raises `OpinionError` when something was left out.
        """
        if opinions.dispute != self.dispute.digest:
            raise OpinionError("these opinions are about another dispute")
        own = await self.own()
        panel = await self.panel()
        commitments = [each for each in opinions.commitments if self._is_new(panel, each)]
        right = list(takewhile(self._signed, commitments))
        self._watch_own(own, right)
        committed = {(each.index, each.vote) for each in right}
        committed |= {(index, vote) for index, votes in panel.commitments.items() for vote in votes}
        votes = [vote for vote in opinions.votes if vote.index not in panel.votes]
        kept_votes = [vote for vote in votes if self._is_vote(vote, committed)]
        verdicts = [
            each
            for each in opinions.verdicts
            if (int(each.pay), int(each.slash)) not in (known := panel.verdicts.get(each.index, {}))
            and len(known) < MAX_SIGNED
        ]
        kept_verdicts = list(takewhile(self._is_verdict, verdicts))
        await self._store.votes.add_opinions(
            self.dispute.digest,
            [each for each in right if each.index != self.index],
            [each for each in kept_votes if each.index != self.index],
            [each for each in kept_verdicts if each.index != self.index],
            late=own is not None and own.shown,
        )
        left_out = len(commitments) > len(right) or len(verdicts) > len(kept_verdicts)
        if left_out or len(votes) > len(kept_votes):
            raise OpinionError("something is not signed by the arbiter that it names")

    def _is_new(self, panel: Panel, commitment: VoteCommitment) -> bool:
        known = panel.commitments.get(commitment.index, ())
        return commitment.vote not in known and len(known) < MAX_SIGNED

    def _signed(self, commitment: VoteCommitment) -> bool:
        member = self.dispute.members.get(commitment.index)
        return member is not None and commitment.is_of(member.key, self.dispute.digest)

    def _is_vote(self, vote: Vote, committed: Iterable[tuple[int, bytes]]) -> bool:
        return vote.dispute == self.dispute.digest and (vote.index, vote.digest()) in committed

    def _is_verdict(self, signed: SignedVerdict) -> bool:
        member = self.dispute.members.get(signed.index)
        pay, slash = int(signed.pay), int(signed.slash)
        if member is None or pay > self.bounds.amount or slash > self.bounds.max_slash:
            return False
        return member.key.verify(self.dispute.verdict_digest(pay, slash), signed.signature)

    def _watch_own(self, own: OwnVote | None, commitments: Iterable[VoteCommitment]) -> None:
        """Notice votes under our key that are not in our store: a copy of us runs, or our store was lost."""
        for commitment in commitments:
            if commitment.index == self.index and (own is None or own.vote.digest() != commitment.vote):
                self.is_doubled = True

    # -- the verdict ---------------------------------------------------------------------------------------

    async def advance(self, now: int) -> None:
        """Open our vote and sign the verdict, when it is time for either."""
        own = await self.own()
        if own is None or self.is_doubled:
            return
        panel = await self.panel()
        if not own.shown and panel.may_open(now, self.times):
            await self._store.votes.show_vote(own.vote)
            panel = await self.panel()
        agreed = panel.agreed(now, self.times)
        if agreed is None or own.signed is not None:
            return
        if own.vote.numbers == agreed or panel.is_median(agreed):
            await self._sign(agreed)

    async def _sign(self, agreed: Numbers) -> None:
        signature = self._key.sign(self.dispute.verdict_digest(*agreed))
        await self._store.votes.put_verdict(
            self.dispute.digest,
            SignedVerdict(index=self.index, pay=Nano(agreed[0]), slash=Nano(agreed[1]), signature=signature),
        )

    async def complete(self) -> tuple[Numbers, dict[int, bytes]] | None:
        """Return a verdict with its k signatures; None while there is none."""
        panel = await self.panel()
        found = panel.complete()
        if found is None:
            return None
        agreed, signers = found
        return agreed, {index: panel.verdicts[index][agreed] for index in signers}
