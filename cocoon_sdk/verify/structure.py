"""What must hold of an answer before any statistics: counts, hashes, parameters, its end, its text.

Owns these checks and how much each fault weighs. Must not know log-probabilities or thresholds. Everything
here compares what the worker says with the question, the tokens and the tokenizer; an honest worker never
fails one, whatever its hardware. Where something that is needed is not known (what the worker offered, which
tokens end an answer), a fault weighs less or is not looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.calls import Call, Doubt, doubt_about, shown_calls
from cocoon_sdk.verify.commitment import CANCELLED, Choice, Commitment, prompt_hash
from cocoon_sdk.verify.forms import is_unlisted
from cocoon_sdk.verify.rescoring import CHAT, Rescoring
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.texts import ends_with, fits, is_at_stop, is_mark, left_over, squeezed, without_marks

DEFAULT_MAX_TOKENS: Final = 512
"""Output limit that a request without one may count on, unless the worker offers less."""
_REASONING: Final = ("reasoning", "reasoning_content")
"""Two names of the same, of which engines use either or both."""
_SHOWN: Final = (
    *("content", "text", "reasoning", "reasoning_content", "refusal"),
    *("tool_calls", "function_call"),
)
_TEXTS: Final = (*_REASONING, "content", "refusal")
_CALL: Final = 96
_AS_LONG: Final = 4
"""A call has so many characters around it, and so many times as many as it is shown with, in any form."""
_NO_CALL: Final = 64
"""Characters that a parser of calls may swallow without anybody being the wiser."""
_HELD_BACK: Final = 2
"""Characters before an unfinished one that a decoder may hold back with it."""
_MUCH: Final = 256
"""Characters by which a text may be longer than anything that parsers and marks explain."""


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


def faults(
    question: Question, response: Mapping[str, Any], commitment: Commitment, rescoring: Rescoring
) -> list[Fault]:
    """Return every fault of an answer's structure. `response` is the OpenAI response; it may be anything."""
    found = [*form_faults(question, response, commitment), *_prompt(commitment, rescoring)]
    answers = response.get("choices")
    if not isinstance(answers, list) or len(answers) != len(commitment.choices):
        return found
    for index, (answer, choice) in enumerate(zip(answers, commitment.choices, strict=True)):
        seen = _Seen(question, answer if isinstance(answer, dict) else {}, choice, rescoring, index)
        found += [*seen.text_faults(), *seen.end_faults(commitment)]
    return found


def _prompt(commitment: Commitment, rescoring: Rescoring) -> Iterator[Fault]:
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


class _Seen:
    """One choice: what the client got, and what was committed to."""

    def __init__(
        self, question: Question, answer: Mapping[str, Any], choice: Choice, rescoring: Rescoring, index: int
    ) -> None:
        self._question, self._answer, self._choice = question, answer, choice
        self._whole, self._body = rescoring.texts[index], rescoring.bodies[index]
        self._ends = rescoring.end_tokens
        self._prompt = len(rescoring.prompt)
        self._name = f"choice {index}: " if len(rescoring.texts) > 1 else ""
        self._shown = _shown(question.kind, answer)
        self._stopped = False

    def text_faults(self) -> Iterator[Fault]:
        """Compare what is shown with what the tokens say."""
        if self._shown is None:
            yield self._fault(FaultKind.TEXT, "the response shows no text in form")
        elif self._whole is not None and self._body is not None and not self._fits():
            yield from self._parsed_faults(self._shown, self._whole)

    def _fits(self) -> bool:
        """Tell whether the text is shown as it stands, all of it."""
        if self._shown is None or self._shown.calls or len(self._shown.pieces) > 1:
            return False
        text = "".join(self._shown.pieces)
        whole, body, cancelled = self._whole or "", self._body or "", self._question.cancelled
        self._stopped = is_at_stop(text, whole, self._stops())
        if self._shows_prompt() and any(ends_with(text, each) for each in (whole, body)):
            return True
        return self._stopped or any(fits(text, each, cancelled=cancelled) for each in (whole, body))

    def _shows_prompt(self) -> bool:
        """Tell whether the prompt may stand before the text.

        Engines show it when they are asked to, and when it comes as tokens that end within a character.
        """
        prompt = self._question.body.get("prompt")
        return bool(self._question.body.get("echo")) or (
            isinstance(prompt, list) and (self._whole or "").startswith("\ufffd")
        )

    def _parsed_faults(self, shown: Shown, whole: str) -> Iterator[Fault]:
        """Compare what parsers made of the text: reasoning, content and calls, taken out of it."""
        tools, cancelled = bool(self._question.body.get("tools")), self._question.cancelled
        left = None
        # A block that a mark or a phrase begins, cut off or empty, leaves one piece behind.
        body = self._body or ""
        blocks = self._question.kind == CHAT and (
            without_marks(body) != body or not is_unlisted(squeezed(whole))
        )
        if tools or shown.calls or len(shown.pieces) > 1 or blocks:
            self._stopped = any(stop in whole for stop in self._stops())
            left = min(
                (
                    found
                    for each in self._endings(whole)
                    if (found := left_over(shown.pieces, each, cancelled=cancelled)) is not None
                ),
                default=None,
            )
        if left is None:
            why = "the text shown is not that of the committed tokens"
            yield self._fault(FaultKind.TEXT, why, self._weight_of_text(shown, whole))
            return
        doubt = doubt_about(shown.calls, whole, named=self._named())
        if doubt is not Doubt.NONE:
            level = Level.REFUND if doubt is Doubt.FALSE and not cancelled else Level.SUSPECT
            yield self._fault(FaultKind.TEXT, "a call that is shown is not in the committed tokens", level)
        written = sum(_CALL + _AS_LONG * (len(call.name) + len(call.arguments)) for call in shown.calls)
        written = max(written, _NO_CALL if tools else 0)
        one_call = tools and self._question.body.get("parallel_tool_calls") is False
        if left.characters > written and not cancelled and not one_call:
            # Parsers swallow calls that they cannot read.
            level = Level.SUSPECT if tools else Level.REFUND
            yield self._fault(FaultKind.TEXT, "not all that the committed tokens say is shown", level)

    def _endings(self, whole: str) -> Iterator[str]:
        """Yield what the tokens say: with, then without the token or stop sequence that ends it."""
        yield whole
        if self._body is not None and set(self._choice.tokens[-1:]) & self._end_tokens():
            yield self._body
        for stop in self._stops():
            at = whole.find(stop, max(0, len(self._body or "") - len(stop) + 1))
            if at >= 0:
                yield whole[:at]
                yield whole[: at + len(stop)]

    def _weight_of_text(self, shown: Shown, whole: str) -> Level:
        """Return how much another text weighs: whoever shows far more than it committed to, by far, commits
        to a few words of the model to sell something else. Nothing that parsers do makes a text longer.
        """
        length = sum(len(piece) for piece in shown.pieces)
        beyond = length > _AS_LONG * len(whole) + _MUCH and not self._question.body.get("echo")
        return Level.SLASH if beyond else Level.REFUND

    def _named(self) -> str | None:
        """Return the function that the request itself calls, whose name no token says."""
        choice = self._question.body.get("tool_choice")
        function = choice.get("function") if isinstance(choice, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        return name if isinstance(name, str) else None

    def _stops(self) -> list[str]:
        stop = self._question.body.get("stop")
        stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
        return [each for each in stops if isinstance(each, str) and each]

    def end_faults(self, commitment: Commitment) -> Iterator[Fault]:
        """Check why the answer ended, and that it did not go on after its end."""
        finish, told = self._choice.finish, self._answer.get("finish_reason")
        if told != finish and not (finish == CANCELLED and self._question.cancelled):
            yield self._fault(FaultKind.FINISH, f"the response says {told!a:.20}, committed to is {finish}")
        if finish == CANCELLED:
            if not self._question.cancelled:
                yield self._fault(FaultKind.FINISH, "nobody cancelled it")
        elif finish == "length":
            yield from self._length_faults(commitment)
        elif finish in ("stop", "tool_calls", "function_call"):
            if not self._ended():
                yield self._fault(FaultKind.FINISH, "it stops without an end token or a stop sequence")
        else:
            yield self._fault(FaultKind.FINISH, f"{finish} is no way to end")
        early = set(self._choice.tokens[:-1]) & self._end_tokens()
        if early and not self._question.body.get("ignore_eos"):
            yield self._fault(FaultKind.FINISH, "it goes on after an end token")
        body = _decoded(self._body or "")
        passed = [stop for stop in self._stops() if stop in body and stop in without_marks(body)]
        if passed and not self._question.body.get("min_tokens"):
            yield self._fault(FaultKind.FINISH, "it goes on after a stop sequence")

    def _length_faults(self, commitment: Commitment) -> Iterator[Fault]:
        count, context = len(self._choice.tokens), self._question.context
        if not count:
            yield self._fault(FaultKind.FINISH, "it ends for its length without a token")
            return
        if count == commitment.max_tokens or (context is not None and self._prompt + count >= context):
            return
        why = f"it ends for its length after {count} tokens of {commitment.max_tokens}"
        # Without the offer, the worker's context may have been full.
        shorter = context is None and count < commitment.max_tokens
        yield self._fault(FaultKind.FINISH, why, Level.SUSPECT if shorter else Level.REFUND)

    def _ended(self) -> bool:
        if not self._choice.tokens:
            return False
        if self._choice.tokens[-1] in self._end_tokens():
            return True
        if self._stopped or self._ends is not None:
            return self._stopped
        if self._whole is None or self._body is None:
            return True  # nobody can tell
        last = self._whole[len(self._body) :] if self._whole.startswith(self._body) else self._whole
        return is_mark(last.strip())

    def _end_tokens(self) -> set[int]:
        asked = self._question.body.get("stop_token_ids")
        listed = {each for each in asked if type(each) is int} if isinstance(asked, list) else set()
        return listed | (self._ends or frozenset())

    def _fault(self, kind: FaultKind, why: str, level: Level = Level.REFUND) -> Fault:
        return Fault(kind, level, self._name + why)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a choice shows: reasoning, content and refusal in this order, where there are any, and calls."""

    pieces: tuple[str, ...]
    calls: tuple[Call, ...] = ()


def _shown(kind: str, answer: Mapping[str, Any]) -> Shown | None:
    """Read what a choice shows; None for another form."""
    if kind != CHAT:
        text = answer.get("text")
        return Shown((text,) if text else ()) if isinstance(text, str) else None
    message = answer.get("message")
    if not isinstance(message, dict) or message.get("audio"):
        return None
    thoughts = {message[name] for name in _REASONING if isinstance(message.get(name), str) and message[name]}
    pieces = [*thoughts, message.get("content"), message.get("refusal")]
    calls = shown_calls(message)
    if calls is None or len(thoughts) > 1 or not all(_is_text(message.get(name)) for name in _TEXTS):
        return None
    return Shown(tuple(piece for piece in pieces if piece), calls)


def _decoded(text: str) -> str:
    """Return a text up to where a decoder has shown it: what waits for the rest of a character is held back,
    with the blanks and marks that stand in the same token.
    """
    if not text.endswith("\ufffd"):
        return text
    shown = text.rstrip("\ufffd")
    return shown[: shown.rfind(" ")] if " " in shown[-_HELD_BACK:] else shown


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def says_something(response: Mapping[str, Any]) -> bool:
    """Tell whether a response shows anything at all beside empty choices."""
    choices = response.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        shown = message if isinstance(message, dict) else choice
        if not isinstance(shown, dict) or any(shown.get(name) for name in _SHOWN):
            return True
    return False
