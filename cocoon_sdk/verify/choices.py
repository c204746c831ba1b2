"""What one choice shows, and how it ends, against the tokens that were committed to.

Owns these two checks: the text (reasoning, content, refusal, calls) and the end of each choice. Must not know
log-probabilities or thresholds. What cannot be told by a text's form accuses nobody: it is called unclear,
and the tokens themselves are re-scored all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cocoon_sdk.verify.calls import Call, Doubt, doubt_about, shown_calls
from cocoon_sdk.verify.commitment import CANCELLED, Choice, Commitment
from cocoon_sdk.verify.forms import is_broken, is_unlisted
from cocoon_sdk.verify.rescoring import CHAT, Rescoring
from cocoon_sdk.verify.structure import Fault, FaultKind, Level, Question, form_faults, prompt_faults
from cocoon_sdk.verify.texts import (
    Left,
    ends_with,
    fits,
    is_at_stop,
    is_mark,
    left_over,
    squeezed,
    without_marks,
)
from cocoon_sdk.verify.work import Work

_REASONING: Final = ("reasoning", "reasoning_content")
"""Two names of the same, of which engines use either or both."""
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
_PREFILLED: Final = "<think>"
"""The tag that one parser writes before a text whose template wrote it already."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What the structure of an answer comes to. `unclear`: why its text could not be checked by its form."""

    faults: tuple[Fault, ...]
    unclear: str = ""


def structure(
    question: Question,
    response: Mapping[str, Any],
    commitment: Commitment,
    rescoring: Rescoring,
    work: Work | None = None,
) -> Structure:
    """Check an answer's structure. `response` is the OpenAI response; it may be anything.

    `work` is how much may be compared, of all choices together.
    """
    found = [*form_faults(question, response, commitment), *prompt_faults(commitment, rescoring)]
    answers = response.get("choices")
    if not isinstance(answers, list) or len(answers) != len(commitment.choices):
        return Structure(tuple(found))
    work, unclear = Work() if work is None else work, ""
    for index, (answer, choice) in enumerate(zip(answers, commitment.choices, strict=True)):
        shown = answer if isinstance(answer, dict) else {}
        seen = _Seen(question, shown, choice, rescoring, index, work)
        found += [*seen.text_faults(), *seen.end_faults(commitment)]
        unclear = unclear or seen.unclear
    return Structure(tuple(found), unclear)


class _Seen:
    """One choice: what the client got, and what was committed to."""

    def __init__(
        self,
        question: Question,
        answer: Mapping[str, Any],
        choice: Choice,
        rescoring: Rescoring,
        index: int,
        work: Work,
    ) -> None:
        self._question, self._answer, self._choice, self._work = question, answer, choice, work
        self._whole, self._body = rescoring.texts[index], rescoring.bodies[index]
        self._ends = rescoring.end_tokens
        self._prompt = len(rescoring.prompt)
        self._name = f"choice {index}: " if len(rescoring.texts) > 1 else ""
        self._shown = _shown(question.kind, answer, self._whole or "")
        self._stopped = False
        self.unclear = ""
        """Why what is shown could not be checked by its form."""

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
        if tools or shown.calls or len(shown.pieces) > 1 or self._has_blocks(whole):
            self._stopped = any(stop in whole for stop in self._stops())
            left = self._left_over(shown, whole)
        if left is None:
            why = "the text shown is not that of the committed tokens"
            yield self._fault(FaultKind.TEXT, why, self._weight_of_text(shown, whole))
            return
        if left.is_unclear:
            self.unclear = (
                self._name + "a parser may have left something out, or comparing it takes too much work"
            )
        doubt = doubt_about(shown.calls, whole, named=self._named(), work=self._work)
        if doubt is Doubt.OPEN:
            self.unclear = self._name + "comparing its calls takes too much work"
        elif doubt is not Doubt.NONE:
            level = Level.REFUND if doubt is Doubt.FALSE and not cancelled else Level.SUSPECT
            yield self._fault(FaultKind.TEXT, "a call that is shown is not in the committed tokens", level)
        written = sum(_CALL + _AS_LONG * (len(call.name) + len(call.arguments)) for call in shown.calls)
        written = max(written, _NO_CALL if tools else 0)
        one_call = tools and self._question.body.get("parallel_tool_calls") is False
        if left.characters > written and not cancelled and not one_call:
            # Parsers swallow calls that they cannot read.
            level = Level.SUSPECT if tools else Level.REFUND
            yield self._fault(FaultKind.TEXT, "not all that the committed tokens say is shown", level)

    def _has_blocks(self, whole: str) -> bool:
        """Tell whether a mark or a phrase may begin a block: cut off or empty, it leaves one piece behind."""
        body = self._body or ""
        marked = without_marks(body) != body or not is_unlisted(squeezed(whole))
        return self._question.kind == CHAT and marked

    def _left_over(self, shown: Shown, whole: str) -> Left | None:
        """Return what nobody shows of the text, in whatever way it may have ended."""
        cancelled, work = self._question.cancelled, self._work
        pieces = tuple(dict.fromkeys(shown.pieces)) if self._thinks_aloud() else shown.pieces
        found = [left_over(pieces, each, cancelled=cancelled, work=work) for each in self._endings(whole)]
        return min((each for each in found if each is not None), default=None)

    def _thinks_aloud(self) -> bool:
        """Tell whether the request wants an answer even of a thought alone: it may be shown as both."""
        switches = self._question.body.get("chat_template_kwargs")
        switches = switches if isinstance(switches, dict) else {}
        return switches.get("enable_thinking") is False or switches.get("force_nonempty_content") is True

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
        if length > _AS_LONG * len(whole) + _MUCH and not self._question.body.get("echo"):
            return Level.SLASH
        return Level.SUSPECT if is_broken(squeezed(whole)) else Level.REFUND

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


def _shown(kind: str, answer: Mapping[str, Any], said: str) -> Shown | None:
    """Read what a choice shows, but a tag before what was said; None for another form."""
    if kind != CHAT:
        text = answer.get("text")
        return Shown((text,) if text else ()) if isinstance(text, str) else None
    message = answer.get("message")
    if not isinstance(message, dict) or message.get("audio"):
        return None
    thoughts = {message[name] for name in _REASONING if isinstance(message.get(name), str) and message[name]}
    calls = shown_calls(message)
    if calls is None or len(thoughts) > 1 or not all(_is_text(message.get(name)) for name in _TEXTS):
        return None
    content = message.get("content") or ""
    if not thoughts and not said.lstrip().startswith(_PREFILLED):
        content = content.removeprefix(_PREFILLED)
    pieces = [*thoughts, content, message.get("refusal")]
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
