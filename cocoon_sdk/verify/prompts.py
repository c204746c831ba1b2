"""Questions to calibrate and to judge verification with: three sets that have nothing in common.

Owns `prompt_set`. The words are in `prompt_words`: each set has subjects and phrasings of its own, so no
limit that is set on one set has seen another's. Pure and deterministic: the same set, index and version give
the same question everywhere. Must not know models or engines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from cocoon_sdk.verify import prompt_words as words

PROMPTS_VERSION: Final = 1
CHAT: Final = "chat.completion"
COMPLETION: Final = "completion"
MAX_PROMPTS: Final = 10_000
T = TypeVar("T")

OUTPUTS: Final = (16, 96, 32, 64, 128, 24, 48)
"""Output limits in tokens; the index chooses."""
SAMPLINGS: Final[tuple[dict[str, float | int], ...]] = (
    {"temperature": 0},
    {"temperature": 1},
    {"temperature": 0.7},
    {"temperature": 0.3},
    {"temperature": 1, "top_p": 0.95},
    {"temperature": 0},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 0.5},
    {"temperature": 1, "top_k": 50},
    {"temperature": 0.9, "min_p": 0.05},
    {"temperature": 0},
    {"temperature": 0.6, "presence_penalty": 0.5, "frequency_penalty": 0.3},
)
"""Sampling parameters; the index chooses, out of step with everything else."""


class PromptSet(StrEnum):
    """What a set is for. Limits are made on the first, tried on the second, and judged on the third."""

    CALIBRATION = "calibration"
    DEVELOPMENT = "development"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question: `kind` and OpenAI `body`, without model and seed. `style` says what it is like."""

    set: PromptSet
    index: int
    style: str
    kind: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """A short name, unique over all sets."""
        return f"{self.set}/{self.index}"

    @property
    def text(self) -> str:
        """All text that a model is shown, without the form that a chat template gives it."""
        if self.kind == COMPLETION:
            return str(self.body["prompt"])
        return "\n".join(message["content"] for message in self.body["messages"])


def prompt_set(which: PromptSet, count: int, *, chat: bool = True) -> tuple[Prompt, ...]:
    """Return the first `count` questions of a set; without `chat`, completions only, for base models.

    Raises `ValueError` beyond `MAX_PROMPTS`.
    """
    if not 0 <= count <= MAX_PROMPTS:
        raise ValueError(f"a set has at most {MAX_PROMPTS} prompts")
    styles = [style for style in _STYLES if chat or style in _PLAIN]
    made: dict[str, Prompt] = {}
    for index in range(count):
        attempt = 0
        while (prompt := _prompt(which, index, attempt, styles)).text in made:
            attempt += 1
        made[prompt.text] = prompt
    return tuple(made.values())


class _Pick:
    """Choices that depend on set, index and how many were made before, and on no library's generator."""

    def __init__(self, which: PromptSet, index: int, attempt: int) -> None:
        self._start = f"cocoon/prompts/{PROMPTS_VERSION}/{which}/{index}/{attempt}/".encode()
        self._drawn = 0
        self.own = words.SETS[which.value]

    def below(self, count: int) -> int:
        """Return a number from 0 to `count` - 1."""
        self._drawn += 1
        digest = hashlib.sha256(self._start + str(self._drawn).encode()).digest()
        return int.from_bytes(digest[:8], "big") % count

    def one(self, items: Sequence[T]) -> T:
        """Return one of several."""
        return items[self.below(len(items))]

    @property
    def subject(self) -> str:
        """One of the set's own subjects."""
        return self.one(self.own.subjects)

    def sentences(self, count: int) -> str:
        """Return a text of so many sentences about the set's subjects."""
        made = []
        for _ in range(count):
            who, place, thing = self.one(self.own.people), self.one(self.own.places), self.subject
            number = 2 + self.below(900)
            form = self.one(self.own.sentences)
            made.append(form.format(who=who, place=place, thing=thing, number=number))
        return " ".join(made)


def _prompt(which: PromptSet, index: int, attempt: int, styles: Sequence[str]) -> Prompt:
    pick, style = _Pick(which, index, attempt), styles[index % len(styles)]
    asked = _STYLES[style](pick)
    limits = {"max_tokens": OUTPUTS[(index // len(styles) + index) % len(OUTPUTS)]}
    sampling = SAMPLINGS[(index + index // len(SAMPLINGS)) % len(SAMPLINGS)]
    if isinstance(asked, str):
        return Prompt(which, index, style, COMPLETION, {"prompt": asked, **limits, **sampling})
    messages = [{"role": role, "content": text} for role, text in asked]
    return Prompt(which, index, style, CHAT, {"messages": messages, **limits, **sampling})


Turns = list[tuple[str, str]]


def _question(pick: _Pick) -> Turns:
    return [("user", pick.one(pick.own.questions).format(thing=pick.subject))]


def _persona(pick: _Pick) -> Turns:
    system = pick.one(pick.own.personas).format(
        who=pick.one(pick.own.people), place=pick.one(pick.own.places)
    )
    return [("system", system), *_question(pick)]


def _conversation(pick: _Pick) -> Turns:
    turns: Turns = []
    for _ in range(1 + pick.below(3)):
        turns += [*_question(pick), ("assistant", pick.sentences(1 + pick.below(3)))]
    return [*turns, ("user", pick.one(pick.own.follow_ups))]


def _program(pick: _Pick) -> Turns:
    task = pick.one(pick.own.tasks).format(thing=pick.subject, number=2 + pick.below(40))
    return [("user", pick.one(pick.own.code_requests).format(language=pick.one(words.CODE), task=task))]


def _foreign(pick: _Pick) -> Turns:
    form = pick.one(pick.own.foreign)
    return [("user", form.format(place=pick.one(pick.own.places), number=2 + pick.below(90)))]


def _arithmetic(pick: _Pick) -> Turns:
    first, second, third = (2 + pick.below(99) for _ in range(3))
    form = pick.one(pick.own.sums)
    return [("user", form.format(first=first, second=second, third=third, who=pick.one(pick.own.people)))]


def _summary(pick: _Pick) -> Turns:
    return [("user", f"{pick.one(pick.own.summaries)}\n\n{pick.sentences(8 + pick.below(40))}")]


def _form(pick: _Pick) -> Turns:
    asked = pick.one(pick.own.forms).format(thing=pick.subject, number=3 + pick.below(6))
    return [("user", f"{asked}\n{pick.sentences(2)}")]


def _story(pick: _Pick) -> str:
    return f"{pick.sentences(1 + pick.below(6))} {pick.one(pick.own.openings)}"


def _source(pick: _Pick) -> str:
    thing = pick.subject.replace(" ", "_").replace("-", "_")
    return pick.one(pick.own.sources).format(thing=thing, words=pick.subject, number=2 + pick.below(30))


def _records(pick: _Pick) -> str:
    lines = [pick.own.header]
    for _ in range(4 + pick.below(25)):
        who, place = pick.one(pick.own.people), pick.one(pick.own.places)
        lines.append(
            pick.own.record.format(who=who, place=place, thing=pick.subject, number=pick.below(5000))
        )
    return "\n".join(lines) + "\n"


def _script(pick: _Pick) -> str:
    speakers = (pick.one(pick.own.people[::2]), pick.one(pick.own.people[1::2]))
    lines = [f"{speakers[turn % 2]}: {pick.sentences(1)}" for turn in range(2 + pick.below(8))]
    return "\n".join([pick.one(pick.own.scenes), *lines, f"{speakers[len(lines) % 2]}:"])


_STYLES: Final[dict[str, Callable[[_Pick], Turns | str]]] = {
    "question": _question,
    "story": _story,
    "persona": _persona,
    "program": _program,
    "source": _source,
    "conversation": _conversation,
    "foreign": _foreign,
    "records": _records,
    "arithmetic": _arithmetic,
    "summary": _summary,
    "script": _script,
    "form": _form,
}
_PLAIN: Final = frozenset({"story", "source", "records", "script"})
