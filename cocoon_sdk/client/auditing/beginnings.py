"""The beginning of an answer, where all of it is too much for a look that is paid for.

Owns how much of an answer a worker's offer can carry, and judging that part. Must not know who looks, or what
follows. A worker could make its answers so long that nobody's context, price or one message of a session
holds them, and so be never checked. But the beginning of an honest answer is honest: its tokens count, replay
and log-probabilities alike, and the text as far as they reach. How the answer ends is not looked at, and of
the rest nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from cocoon_sdk.client.auditing.case import AuditCase
from cocoon_sdk.client.auditing.holes import filled
from cocoon_sdk.client.auditing.paid import MOST_TOP, top_that_fits
from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.protocol.pricing import Tariff
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.checking import Findings, check
from cocoon_sdk.verify.commitment import CANCELLED, Choice, Commitment
from cocoon_sdk.verify.rescoring import Rescoring
from cocoon_sdk.verify.structure import Level, Question
from cocoon_sdk.verify.texts import squeezed, without_marks
from cocoon_sdk.verify.thresholds import Thresholds

LEAST_TOKENS: Final = 64
"""A shorter beginning says too little to pay for it."""
LEAST_TOP: Final = MOST_TOP // 4
"""A beginning is cut so short that a replay sees at least so many tokens at each place."""
_THOUGHTS: Final = ("reasoning", "reasoning_content")
_LABELS: Final = 64
"""Characters that stand between a thought and what follows it, at most."""


def longest_of(case: AuditCase) -> int:
    """Return how many tokens the longest choice of a case has."""
    choices = () if case.commitment is None else case.commitment.choices
    return max((len(choice.tokens) for choice in choices), default=0)


def price_of_scoring(case: AuditCase, offer: WorkerOffer, prompt: int, tokens: int) -> Nano:
    """Return what it costs to score at most `tokens` tokens of each choice behind so long a prompt."""
    tariff = Tariff(offer.terms)
    choices = () if case.commitment is None else case.commitment.choices
    return Nano(sum(tariff.price(prompt + min(tokens, len(choice.tokens)), 0, 1) for choice in choices))


def tokens_that_fit(case: AuditCase, offer: WorkerOffer, prompt: int, most: Nano) -> int:
    """Return how many tokens of each choice an offer can score for `most`, with a prompt of that length.

    All if possible, else at least `LEAST_TOKENS`, else 0.
    """
    longest = longest_of(case)
    room = offer.offer.max_context - prompt - 1
    enough = price_of_scoring(case, offer, prompt, longest) <= most
    if longest <= room and enough and top_that_fits(prompt + max(1, longest)):
        return longest
    below, above = 0, 1 + max(0, min(longest, room))
    while above - below > 1:
        middle = (below + above) // 2
        affordable = price_of_scoring(case, offer, prompt, middle) <= most
        if affordable and top_that_fits(prompt + middle) >= LEAST_TOP:
            below = middle
        else:
            above = middle
    return below if below >= LEAST_TOKENS else 0


def beginning_of(commitment: Commitment, tokens: int) -> Commitment:
    """Return what was committed to up to `tokens` tokens of each choice, as if it was cancelled there."""
    cut = tuple(
        Choice(tokens=each.tokens[:tokens], logprobs=each.logprobs[:tokens], finish=CANCELLED)
        for each in commitment.choices
    )
    return commitment.model_copy(update={"choices": cut})


def judged_beginning(
    question: Question,
    case: AuditCase,
    rescorings: Sequence[Rescoring],
    tokens: int,
    thresholds: Thresholds | None,
) -> Findings:
    """Return the findings about the first `tokens` tokens of each choice. Raises what `check` raises."""
    assert case.commitment is not None
    commitment = beginning_of(case.commitment, tokens)
    question = replace(question, cancelled=True)
    if not rescorings:
        return check(question, case.response, commitment, (), thresholds)
    response = _shown_so_far(case, rescorings[0])
    cut = replace(case, response=response)
    mended = [_without_prompts(filled(each, cut), case) for each in rescorings]
    return check(question, response, commitment, mended, thresholds)


def holds_for_all(found: Findings, level: Level) -> bool:
    """Tell whether findings about a beginning are as grave as `level` whatever the rest of the answer is.

    A mean over all of it may be lower; a fault stays one, and so does the largest deviation.
    """
    if any(fault.level >= level for fault in found.faults):
        return True
    numbers, limits = found.numbers, found.limits
    if numbers is None or limits is None or level is Level.HONEST:
        return False
    return not {"lp_max", "tok_max"}.isdisjoint(limits.exceeded(numbers, level.word))


def _without_prompts(rescoring: Rescoring, case: AuditCase) -> Rescoring:
    """Return a rescoring that says nothing about texts where the prompt may stand before them."""
    tokens = isinstance(case.body.get("prompt"), list)
    texts = [
        None if case.body.get("echo") or (tokens and text is not None and text[:1] == "\ufffd") else text
        for text in rescoring.texts
    ]
    return replace(rescoring, texts=tuple(texts))


def _shown_so_far(case: AuditCase, rescoring: Rescoring) -> dict[str, Any]:
    """Return the response as far as the tokens' text surely reaches; its counts are those of all of it."""
    choices = case.response.get("choices")
    listed = choices if isinstance(choices, list) else []
    reach = [len(squeezed(without_marks(text or ""))) for text in rescoring.bodies]
    return {"choices": [_cut_choice(each, most) for each, most in zip(listed, reach, strict=False)]}


def _cut_choice(choice: Any, most: int) -> dict[str, Any]:
    """Return a choice up to so many characters; what was called stands at its end, and is left out."""
    choice = choice if isinstance(choice, dict) else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        return {"text": _cut(choice.get("text"), most)}
    shown = {name: _cut(message.get(name), most) for name in _THOUGHTS}
    left = most - max((len(squeezed(text)) for text in shown.values() if isinstance(text, str)), default=0)
    # Behind a thought the form has a few words of its own, of which the tokens may not go beyond.
    if left < most and left <= _LABELS:
        return {"message": shown}
    return {"message": {**shown, "content": _cut(message.get("content"), left)}}


def _cut(text: Any, most: int) -> Any:
    """Return a text up to so many characters that are no blanks; anything else as it is."""
    if not isinstance(text, str):
        return text
    for place, each in enumerate(text):
        most -= not each.isspace()
        if most < 0:
            return text[:place]
    return text
