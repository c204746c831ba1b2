"""Who recomputes an answer: the client's own endpoint, or another worker that is paid for it.

Owns whom a check may be given to, what it may cost there, and the draw. Must not know what is made of the
numbers. Who is checked has no say: what its check may cost follows from the request and the policy, not from
what the worker claims to have counted.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from cocoon_sdk.client.auditing.beginnings import (
    beginning_of,
    longest_of,
    price_of_scoring,
    tokens_that_fit,
)
from cocoon_sdk.client.auditing.case import AuditCase
from cocoon_sdk.client.auditing.errors import UncheckableError
from cocoon_sdk.client.auditing.holes import filled
from cocoon_sdk.client.auditing.paid import Asker, WorkerEndpoint, top_that_fits
from cocoon_sdk.client.auditing.policy import AuditPolicy, OwnVerifier
from cocoon_sdk.client.discovery import WorkerList, WorkerOffer
from cocoon_sdk.errors import CocoonError
from cocoon_sdk.protocol.pricing import Tariff
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.commitment import Commitment, prompt_hash
from cocoon_sdk.verify.rescoring import Rescoring, UnknownTokenError, Verifier

LOOKS: Final = 2
"""By how many an answer is looked at before it is held against anybody."""
_LIKELY_BYTES_PER_TOKEN: Final = 4
_TEMPLATE_TOKENS: Final = 64
_NOTHING: Final = Nano(0)


@dataclass(frozen=True, slots=True)
class Look:
    """One recomputation. `rescorings` is empty when the model has none of the answer's tokens.

    `other_prompt` holds the prompt's tokens where they are not those that were committed to: that is a
    finding without any recomputation. `tokens` tells that only so many tokens of each choice were looked at.
    """

    verifier: str
    rescorings: tuple[Rescoring, ...]
    cost: Nano
    other_prompt: tuple[int, ...] | None = None
    tokens: int | None = None


class Lookers(Protocol):
    """Who recomputes answers."""

    async def most_cost(self, case: AuditCase) -> Nano:
        """Return what all looks at a case may cost together."""
        ...

    async def look(self, case: AuditCase, past: Sequence[Look]) -> Look:
        """Recompute an answer; `past` looks were by others, or in another batch.

        Raises `UncheckableError` (with what it cost) and `CocoonError`.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class OwnLookers:
    """The client's own endpoint."""

    def __init__(self, verifier: OwnVerifier) -> None:
        self._verifier = verifier
        self._open: dict[str, Verifier] = {}

    async def most_cost(self, case: AuditCase) -> Nano:
        """See `Lookers.most_cost`."""
        return _NOTHING

    async def look(self, case: AuditCase, past: Sequence[Look]) -> Look:
        """See `Lookers.look`. A second look is two at once: another batch than the first."""
        verifier = self._of(case)
        looks = await asyncio.gather(*(examined(verifier, case) for _ in range(1 + len(past))))
        return Look(self._verifier.url, tuple(each for each in looks if each is not None), _NOTHING)

    def _of(self, case: AuditCase) -> Verifier:
        own, asked = self._verifier, case.body.get("model")
        model = asked if isinstance(asked, str) else case.subject.model
        found = self._open.get(model)
        if found is None:
            name = own.models.get(model) or own.models.get(case.subject.model, model)
            ends = own.end_tokens.get(model)
            found = Verifier(own.url, own.api_key, name, top=own.top, end_tokens=ends)
            self._open[model] = found
        return found

    async def close(self) -> None:
        """See `Lookers.close`."""
        for verifier in self._open.values():
            await verifier.close()
        self._open.clear()


class PaidLookers:
    """Other workers of the same model, each of another owner; who looks is drawn by collateral.

    First the owner is drawn, each with the weight of what its stakes that could check have free to lock, then
    one of its workers. Offers and owners cost nothing, collateral does: who wants to check a share of all
    answers has to stake that share of all collateral.
    """

    def __init__(
        self,
        offers: Callable[[bytes], Awaitable[WorkerList]],
        ask: Asker,
        policy: AuditPolicy,
    ) -> None:
        self._offers, self._ask, self._policy = offers, ask, policy
        self._allowed = Nano(policy.most_per_check // LOOKS)

    async def most_cost(self, case: AuditCase) -> Nano:
        """See `Lookers.most_cost`."""
        found = await self._able(case, ())
        return Nano(LOOKS * max(int(self._most(case, offer)) for offer in found))

    async def look(self, case: AuditCase, past: Sequence[Look]) -> Look:
        """See `Lookers.look`."""
        offer = self._drawn(await self._able(case, past))
        most = self._most(case, offer)
        timeout_s = self._policy.timeout_s
        return await look_of_worker(self._ask, offer, case, most=most, timeout_s=timeout_s, whole=False)

    def _most(self, case: AuditCase, offer: WorkerOffer) -> Nano:
        return min(self._allowed, most_of_look(case, offer))

    async def _able(self, case: AuditCase, past: Sequence[Look]) -> list[WorkerOffer]:
        """Return who may check a case: of another owner, within the price of one look, with the context."""
        listed = await self._offers(bytes(case.subject.model_id))
        used = {look.verifier for look in past}
        owners = {case.owner} | {offer.worker.owner for offer in listed if _name(offer) in used}
        others = [
            offer
            for offer in listed
            if offer.endpoint is not None
            and offer.address != case.subject.worker
            and offer.worker.owner not in owners
        ]
        able = [offer for offer in others if can_look(case, offer, self._allowed)]
        able = able or [offer for offer in others if can_look(case, offer, self._allowed, whole=False)]
        if not able:
            further = "further " if past else ""
            why = f"no {further}worker of another owner serves {case.subject.model}"
            if others:
                why += f" with the context for it, and checks it for {self._allowed} at most"
            raise UncheckableError(
                "the result cannot be checked", why=why, hint="Name a verifier endpoint of your own"
            )
        return able

    def _drawn(self, able: Sequence[WorkerOffer]) -> WorkerOffer:
        owned: dict[bytes, list[WorkerOffer]] = {}
        for offer in able:
            owned.setdefault(bytes(offer.worker.owner.hash_part), []).append(offer)
        weights = {owner: sum(int(offer.lockable) for offer in owned[owner]) for owner in owned}
        point = int(self._policy.draw() * sum(weights.values()))
        passed = list(itertools.accumulate(weights.values()))
        offers = owned[next(owner for owner, end in zip(weights, passed, strict=True) if point < end)]
        return offers[min(len(offers) - 1, int(self._policy.draw() * len(offers)))]

    async def close(self) -> None:
        """See `Lookers.close`."""


def can_look(case: AuditCase, offer: WorkerOffer, most: Nano, *, whole: bool = True) -> bool:
    """Tell whether a look at a case, or its beginning, probably fits into an offer, for `most` at its price.

    A prompt that was counted long counts as long as its bytes probably are: a false claim does not choose.
    """
    commitment = case.commitment
    counted = case.usage.input_tokens if commitment is None else commitment.prompt_tokens
    prompt = min(counted, case.body_bytes // _LIKELY_BYTES_PER_TOKEN + _TEMPLATE_TOKENS)
    telling = _price_of_telling(offer, prompt)
    longest = longest_of(case)
    if telling > most or prompt >= offer.offer.max_context:
        return False
    fits = tokens_that_fit(case, offer, prompt, most - telling)
    return fits == longest if whole else fits > 0


def most_of_look(case: AuditCase, offer: WorkerOffer) -> Nano:
    """Return what one worker may ask at most for recomputing a case, in nanoTON.

    The prompt is bounded by its bytes, none of which is more than a token.
    """
    prompt = case.body_bytes + _TEMPLATE_TOKENS
    scoring = price_of_scoring(case, offer, prompt, longest_of(case))
    return Nano(_price_of_telling(offer, prompt) + scoring)


def _price_of_telling(offer: WorkerOffer, prompt: int) -> Nano:
    """Return what it costs to be told the tokens of a prompt of that length."""
    return Nano(Tariff(offer.terms).price(prompt, 0, 1))


async def look_of_worker(
    ask: Asker, offer: WorkerOffer, case: AuditCase, *, most: Nano, timeout_s: float, whole: bool = True
) -> Look:
    """Have one worker recompute a case, paid: `most` nanoTON in all.

    The prompt's tokens come first, for the price of the prompt. If they are not those that were committed to,
    that is what was found. Unless it has to be the `whole` answer, its beginning is looked at where that is
    all that the offer can carry. Raises `UncheckableError` with what it cost.
    """
    commitment = case.commitment
    assert commitment is not None
    endpoint = WorkerEndpoint(ask, offer, most=most, timeout_s=timeout_s)
    name, model, what = _name(offer), offer.offer.model, "the result cannot be checked"
    try:
        prompt = await Verifier.over(endpoint, model).prompt_tokens(case.kind, case.body)
        if not _is_committed(prompt, commitment):
            return Look(name, (), endpoint.cost, prompt)
        longest = longest_of(case)
        tokens = longest if whole else tokens_that_fit(case, offer, len(prompt), most - endpoint.cost)
        top = top_that_fits(len(prompt) + max(1, tokens))
        if top < 1 or (longest and not tokens):
            why = f"{len(prompt) + longest} tokens are too many for one answer of a worker, or too dear"
            hint = "Name a verifier endpoint of your own"
            raise UncheckableError(what, why=why, hint=hint, cost=endpoint.cost)
        part = tokens < longest
        looked_at = replace(case, commitment=beginning_of(commitment, tokens)) if part else case
        found = await examined(Verifier.over(endpoint, model, top=top), looked_at)
    except UncheckableError:
        raise
    except CocoonError as error:
        raise UncheckableError(what, why=str(error), cost=endpoint.cost) from None
    if part:
        return Look(name, () if found is None else (found,), endpoint.cost, tokens=tokens)
    return Look(name, () if found is None else (filled(found, case),), endpoint.cost)


def _is_committed(prompt: tuple[int, ...], commitment: Commitment) -> bool:
    return commitment.prompt_tokens == len(prompt) and commitment.prompt_hash == prompt_hash(prompt)


async def examined(verifier: Verifier, case: AuditCase) -> Rescoring | None:
    """Recompute a case; None when the model has none of the answer's tokens."""
    assert case.commitment is not None
    try:
        return await verifier.examine(case.kind, case.body, case.commitment)
    except UnknownTokenError:
        return None


def _name(offer: WorkerOffer) -> str:
    return f"worker {offer.address.to_str()}"
