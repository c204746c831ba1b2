"""What must hold of an answer before any statistics: counts, hashes, parameters, its end, its text.

Owns these checks and how much each fault weighs. Must not know log-probabilities or thresholds. Everything
here compares what the worker says with the question, the tokens and the tokenizer; an honest worker never
fails one, whatever its hardware. Where something that is needed is not known (what the worker offered, which
tokens end an answer), a fault weighs less or is not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.commitment import CANCELLED, Choice, Commitment, prompt_hash
from cocoon_sdk.verify.rescoring import CHAT, Rescoring
from cocoon_sdk.verify.sampling import Sampling

DEFAULT_MAX_TOKENS: Final = 512
"""Output limit that a request without one may count on, unless the worker offers less."""
_SPECIAL: Final = re.compile(r"<[^<>\n]{1,64}>|\[[A-Z_/]{2,32}\]")
_MARKS: Final = 64
"""Characters of marks that a parser of reasoning may take out of a text."""
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


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
    FINISH = "wrong end"
    TEXT = "another text"


OUTSIZED: Final = (FaultKind.CHOICES, FaultKind.LIMIT)
"""Faults of a commitment that may be too large to re-score; with any other the numbers are of interest."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, how much it weighs, and what was found, in words without the answer's content."""

    kind: FaultKind
    level: Level
    why: str

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
        yield Fault(FaultKind.CHOICES, Level.REFUND, why)
    asked, offered = question.max_tokens, question.output_limit
    promised = min(each for each in (asked or DEFAULT_MAX_TOKENS, offered) if each is not None)
    if commitment.max_tokens < promised:
        # Without the offer the worker may have promised less; without a wish its default may be lower.
        level = Level.SUSPECT if asked is None or offered is None else Level.REFUND
        why = f"the engine was given {commitment.max_tokens} tokens instead of {promised}"
        yield Fault(FaultKind.LIMIT, level, why)
    if asked is not None and commitment.max_tokens > asked:
        why = f"the engine was given {commitment.max_tokens} tokens, {asked} were asked for"
        yield Fault(FaultKind.LIMIT, Level.REFUND, why)
    if asked is None and offered is not None and commitment.max_tokens > offered:
        why = f"the engine was given {commitment.max_tokens} tokens, at most {offered} are offered"
        yield Fault(FaultKind.LIMIT, Level.REFUND, why)
    longest = max((len(choice.tokens) for choice in commitment.choices), default=0)
    if longest > commitment.max_tokens:
        why = f"a choice has {longest} tokens, the engine was given {commitment.max_tokens}"
        yield Fault(FaultKind.LIMIT, Level.REFUND, why)
    # Some workers hold an offer's context against the prompt alone.
    room = None if question.context is None else question.context + (offered or 0)
    if room is not None and commitment.prompt_tokens + longest > room:
        why = f"{commitment.prompt_tokens} and {longest} tokens do not fit into {question.context} of context"
        yield Fault(FaultKind.LIMIT, Level.REFUND, why)


def _counts(question: Question, response: Mapping[str, Any], commitment: Commitment) -> Iterator[Fault]:
    usage = response.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    for name, count in (
        ("prompt_tokens", commitment.prompt_tokens),
        ("completion_tokens", commitment.output_tokens),
    ):
        if usage.get(name) != count and not (question.cancelled and not usage):
            why = f"{name} is {usage.get(name)!s:.20}, committed to are {count}"
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
            yield self._fault(FaultKind.TEXT, "the response has no text")
        elif self._whole is not None and self._body is not None and not self._fits():
            yield self._fault(FaultKind.TEXT, "the text shown is not that of the committed tokens")

    def _fits(self) -> bool:
        shown, whole, body = self._shown or [], self._whole or "", self._body or ""
        if self._parsed:
            # Parsers cut calls and reasoning out of the text: what is left must stand there, in order.
            self._stopped = any(stop in whole for stop in self._stops())
            missing = _missing(shown, whole)
            return missing is not None and (bool(self._question.body.get("tools")) or missing <= _MARKS)
        text = shown[0] if shown else ""
        self._stopped = self._at_stop(text, whole)
        squeezed, full = _squeezed(text), _squeezed(whole)
        if self._question.cancelled:
            return full.startswith(squeezed) or squeezed.startswith(full)
        if self._question.body.get("echo"):
            return squeezed.endswith((full, _squeezed(body)))
        return squeezed in (full, _squeezed(body)) or self._stopped

    @property
    def _parsed(self) -> bool:
        return bool(self._question.body.get("tools")) or len(self._shown or []) > 1

    def _at_stop(self, text: str, whole: str) -> bool:
        """Tell whether the text ends where the tokens have a stop sequence, or with one."""
        # As it stands first: a stop sequence may look like a mark, or be blank.
        pairs = ((text, whole), (_without_marks(text.lstrip()), _without_marks(whole.lstrip())))
        return any(
            rest.startswith(start) and (rest[len(start) :].startswith(stop) or start.endswith(stop))
            for start, rest in pairs
            for stop in self._stops()
        )

    def _stops(self) -> list[str]:
        stop = self._question.body.get("stop")
        stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
        return [each for each in stops if isinstance(each, str) and each]

    def end_faults(self, commitment: Commitment) -> Iterator[Fault]:
        """Check why the answer ended, and that it did not go on after its end."""
        finish, told = self._choice.finish, self._answer.get("finish_reason")
        if told != finish and not (finish == CANCELLED and self._question.cancelled):
            yield self._fault(FaultKind.FINISH, f"the response says {told!s:.20}, committed to is {finish}")
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
        body = self._body or ""
        passed = [stop for stop in self._stops() if stop in body and stop in _without_marks(body)]
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
        return _SPECIAL.fullmatch(last.strip()) is not None

    def _end_tokens(self) -> set[int]:
        asked = self._question.body.get("stop_token_ids")
        listed = {each for each in asked if type(each) is int} if isinstance(asked, list) else set()
        return listed | (self._ends or frozenset())

    def _fault(self, kind: FaultKind, why: str, level: Level = Level.REFUND) -> Fault:
        return Fault(kind, level, self._name + why)


def _shown(kind: str, answer: Mapping[str, Any]) -> list[str] | None:
    """Return the pieces of text that a choice shows, in the order of generation; None for another form."""
    if kind != CHAT:
        text = answer.get("text")
        return [text] if isinstance(text, str) else None
    message = answer.get("message")
    if not isinstance(message, dict):
        return None
    names = ("reasoning" if message.get("reasoning") else "reasoning_content", "content")
    pieces = [message.get(name) for name in names]
    if not all(piece is None or isinstance(piece, str) for piece in pieces):
        return None
    return [piece for piece in pieces if piece]


def _missing(pieces: Sequence[str], whole: str) -> int | None:
    """Return how many characters the pieces leave out; None when they do not stand there in this order."""
    rest, left_out = _squeezed(whole), 0
    for piece in map(_squeezed, pieces):
        place = rest.find(piece)
        if place < 0:
            return None
        left_out += place
        rest = rest[place + len(piece) :]
    return left_out + len(rest)


def _squeezed(text: str) -> str:
    """Drop what engines show or not: marks of special tokens, blanks, a character cut in the middle."""
    return "".join(_without_marks(text).split()).rstrip(_REPLACEMENT)


def _without_marks(text: str) -> str:
    return _SPECIAL.sub("", text)
