"""What must hold of an answer before any statistics: counts, hashes, parameters, sizes.

Owns these checks, what a question and a fault are, and how much each fault weighs; what each choice shows and
how it ends is `choices`. Must not know log-probabilities or thresholds. Everything here compares what the
worker says with the question and its tokens; an honest worker never fails one, whatever its hardware. Where
something that is needed is not known (what the worker offered), a fault weighs less or is not looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.commitment import Commitment, prompt_hash
from cocoon_sdk.verify.rescoring import Rescoring
from cocoon_sdk.verify.sampling import Sampling

DEFAULT_MAX_TOKENS: Final = 512
"""Output limit that a request without one may count on, unless the worker offers less."""
_SHOWN: Final = (
    *("content", "text", "reasoning", "reasoning_content", "refusal"),
    *("tool_calls", "function_call"),
)


class Level(IntEnum):
    """What findings come to, from mild to grave."""

    HONEST = 0
    SUSPECT = 1
    """Beyond what honest machines showed, too little to act upon: look at more answers."""
    REFUND = 2
    """The worker does not get its reward."""
    SLASH = 3
    """The worker loses collateral."""

    @property
    def word(self) -> str:
        """The level in one lower-case word."""
        return self.name.lower()


class FaultKind(StrEnum):
    """What is wrong with an answer's structure."""

    NO_COMMITMENT = "no commitment"
    MANIFEST = "another model"
    PROMPT = "another prompt"
    SEED = "another seed"
    SAMPLING = "other sampling"
    CHOICES = "wrong number of choices"
    TOKENS = "foreign tokens"
    USAGE = "overcharged"
    LIMIT = "another limit"
    CONTEXT = "longer than the context"
    FINISH = "wrong end"
    TEXT = "another text"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, how much it weighs, and what was found, in words without the answer's content.

    `outsized`: there is more in the commitment than was asked for, so it may be too large to re-score. With
    any other fault, the numbers are of interest all the same.
    """

    kind: FaultKind
    level: Level
    why: str
    outsized: bool = False

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked, under which promise. `body` is the OpenAI body, `seed` follows from job or session.

    `model_id` is the manifest's hash that the terms name; None leaves it unchecked. `output_limit` and
    `context` are `max_output_tokens` and `max_context` of the worker's offer, in tokens, where known; without
    the offer, `context` may be what the model holds. `cancelled`: the client stopped the answer itself.
    """

    kind: str
    body: Mapping[str, Any]
    seed: bytes
    sampling: SamplingClass
    model_id: Hash | None = None
    output_limit: int | None = None
    context: int | None = None
    cancelled: bool = False

    @property
    def how(self) -> Sampling:
        """How its tokens are to be chosen: greedy terms take a temperature that is left out for 0.

        Raises `MalformedError` for a request that no engine would take.
        """
        body = self.body
        if self.sampling is SamplingClass.GREEDY and body.get("temperature") is None:
            body = {**body, "temperature": 0}
        return Sampling.of_request(body)

    @property
    def max_tokens(self) -> int | None:
        """The output limit that the request names, None for none.

        Raises `MalformedError` for one that no engine would take.
        """
        given = [self.body[name] for name in ("max_tokens", "max_completion_tokens") if self.body.get(name)]
        if any(type(each) is not int or each < 1 for each in given):
            raise MalformedError(
                "cannot judge the answer", why="the request's output limit is no number of tokens"
            )
        return min(given, default=None)


def form_faults(question: Question, response: Mapping[str, Any], commitment: Commitment) -> list[Fault]:
    """Return the faults that show without any engine.

    They come first: a worker that commits to what no engine can re-score has not made its answer uncheckable.
    """
    found = [*_statements(question, commitment), *_counts(question, response, commitment)]
    answers = response.get("choices")
    if not isinstance(answers, list) or len(answers) != len(commitment.choices):
        why = "the response does not hold the choices that were committed to"
        found.append(Fault(FaultKind.CHOICES, Level.REFUND, why))
    return found


def prompt_faults(commitment: Commitment, rescoring: Rescoring) -> Iterator[Fault]:
    """Yield a fault when the tokens of the question's own prompt are not those that were committed to."""
    if commitment.prompt_tokens != len(rescoring.prompt) or commitment.prompt_hash != prompt_hash(
        rescoring.prompt
    ):
        why = f"{commitment.prompt_tokens} tokens were committed to, the prompt has {len(rescoring.prompt)}"
        if commitment.prompt_tokens == len(rescoring.prompt):
            why = "its tokens are not those of the question"
        yield Fault(FaultKind.PROMPT, Level.REFUND, why)


def _statements(question: Question, commitment: Commitment) -> Iterator[Fault]:
    if question.model_id is not None and commitment.manifest != question.model_id:
        yield Fault(FaultKind.MANIFEST, Level.REFUND, "it was made by a model other than the terms name")
    if commitment.seed != question.seed:
        yield Fault(FaultKind.SEED, Level.REFUND, "it was not drawn from job or request")
    if commitment.sampling != question.how.to_json():
        yield Fault(FaultKind.SAMPLING, Level.REFUND, "its parameters are not those of the request")
    wanted = question.body.get("n") or 1
    if len(commitment.choices) != wanted:
        why = f"{wanted} were asked for, {len(commitment.choices)} committed to"
        yield Fault(FaultKind.CHOICES, Level.REFUND, why, len(commitment.choices) > wanted)
    asked, offered = question.max_tokens, question.output_limit
    longest = max((len(choice.tokens) for choice in commitment.choices), default=0)
    promised = min(each for each in (asked or DEFAULT_MAX_TOKENS, offered) if each is not None)
    if commitment.max_tokens < promised:
        # Without the offer the worker may have promised less; without a wish its default may be lower.
        level = Level.SUSPECT if asked is None or offered is None else Level.REFUND
        why = f"the engine was given {commitment.max_tokens} tokens instead of {promised}"
        yield Fault(FaultKind.LIMIT, level, why)
    if asked is not None and commitment.max_tokens > asked:
        why = f"the engine was given {commitment.max_tokens} tokens, {asked} were asked for"
        yield Fault(FaultKind.LIMIT, Level.REFUND, why, longest > asked)
    if asked is None and offered is not None and commitment.max_tokens > offered:
        why = f"the engine was given {commitment.max_tokens} tokens, at most {offered} are offered"
        yield Fault(FaultKind.LIMIT, Level.REFUND, why, longest > offered)
    if longest > commitment.max_tokens:
        why = f"a choice has {longest} tokens, the engine was given {commitment.max_tokens}"
        yield Fault(FaultKind.LIMIT, Level.REFUND, why, outsized=True)
    # Some workers hold an offer's context against the prompt alone.
    room = None if question.context is None else question.context + (offered or 0)
    if room is not None and commitment.prompt_tokens + longest > room:
        why = f"{commitment.prompt_tokens} and {longest} tokens do not fit into {question.context} of context"
        yield Fault(FaultKind.CONTEXT, Level.REFUND, why, outsized=True)


def _counts(question: Question, response: Mapping[str, Any], commitment: Commitment) -> Iterator[Fault]:
    usage = response.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    for name, count in (
        ("prompt_tokens", commitment.prompt_tokens),
        ("completion_tokens", commitment.output_tokens),
    ):
        if usage.get(name) != count and not (question.cancelled and not usage):
            why = f"{name} is {usage.get(name)!a:.20}, committed to are {count}"
            yield Fault(FaultKind.USAGE, Level.REFUND, why)


def says_something(response: Mapping[str, Any]) -> bool:
    """Tell whether a response shows anything at all beside empty choices."""
    choices = response.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        shown = message if isinstance(message, dict) else choice
        if not isinstance(shown, dict) or any(shown.get(name) for name in _SHOWN):
            return True
    return False
