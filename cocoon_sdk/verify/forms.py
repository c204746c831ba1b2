"""In which forms models write thoughts and answers, and what parsers leave out of them.

Owns the list, by the names that vLLM 0.32 gives its parsers of reasoning. Nobody tells a verifier which
parser an engine uses, so a form counts where its own signs stand in the text: the model wrote those. Must not
know what is shown, or faults. Texts have no blanks here (`texts.squeezed`).

*Frames* are headers, labels and phrases, which every parser of a form leaves out. *Drops* are more than that:
some parsers throw them away and others do not, so that nobody can tell by the form whether it was the worker.
All else has to be shown. How calls are written is not listed: they are compared by their values (`calls`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

CUT: Final = "\0"
"""Stands where a part that is shown was taken out of a text, so that what was apart does not become one."""
FRAME: Final = "<||>"
THOUGHT: Final = "<|.|>"
"""Stand where a frame was, and where a thought begins: they look like marks, so that parts stay apart."""

_TAG: Final = r"(?:seed:|mm:|ifm\|)?think[^<>]{0,32}>"
_ANSWER: Final = r"(?:answer|response)>"
_TO: Final = r"to=(?P<{}>[^<]{{1,256}})"
_HARMONY_HEAD: Final = re.compile(
    rf"(?P<start><\|start\|>)?(?:assistant)?(?:{_TO.format('by')})?"
    rf"<\|channel\|>(?:analysis|commentary|final)(?:{_TO.format('to')})?"
    r"(?:(?:<\|constrain\|>)[^<]{0,64})?<\|message\|>"
)
_HARMONY_MARK: Final = re.compile(r"<\|(start|channel|constrain|message|end|return|call)\|>")
_HARMONY_ENDS: Final = ("end", "return", "call")
_THOUGHTS: Final = ("Hereismythoughtprocess:", "Here'smythoughtprocess:")
_RESPONSES: Final = ("Hereismyresponse:", "Here'smyresponse:")
_PHRASES: Final = (*_THOUGHTS, *_RESPONSES)
_THOUGHT_PHRASE: Final = re.compile("|".join(_THOUGHTS))
_LABEL: Final = re.compile(r"(?<=\|>)[A-Za-z_]{1,16}(?=<\|)")
"""One word between two special tokens: in a form that nobody listed, it may be a label."""


@dataclass(frozen=True, slots=True)
class View:
    """One reading of a text: where all of it is shown but marks, nothing was kept back.

    `is_sure`: every parser of the form shows just that.
    """

    text: str
    is_sure: bool


@dataclass(frozen=True, slots=True)
class Form:
    """One form. `parsers` are vLLM's names of those that read it; `sign` stands in texts that have it.

    `frames` are as above, and so are `drops`, of the text without them. `opens` begins a thought, the first
    or (`often`) any; what it has beyond a mark is a frame. What patterns cannot tell does `read`.
    """

    parsers: frozenset[str]
    sign: re.Pattern[str]
    frames: re.Pattern[str] | None = None
    opens: re.Pattern[str] | None = None
    often: bool = False
    drops: tuple[re.Pattern[str], ...] = ()
    read: Callable[[str], Iterator[View]] | None = None

    def views(self, text: str) -> Iterator[View]:
        """Yield the readings of a text in this form, surest first."""
        if self.read is not None:
            yield from self.read(text)
            return
        bare = self.bare(text)
        yield View(bare, True)
        for drop in self.drops:
            yield View(drop.sub(FRAME, bare), False)

    def bare(self, text: str) -> str:
        """Return a text without its frames."""
        bare = text if self.frames is None else self.frames.sub(FRAME, text)
        return bare if self.opens is None else self.opens.sub(THOUGHT, bare, count=0 if self.often else 1)


def views(text: str) -> Iterator[View]:
    """Yield the readings of a text: as it stands, then in each form whose sign it has."""
    yield View(text, True)
    for form in FORMS:
        if form.sign.search(text):
            yield from form.views(text)


def without_frames(text: str, rest: str) -> str:
    """Return what is left of a text without the frames of the forms that the text has."""
    for form in FORMS:
        if form.sign.search(text):
            rest = form.bare(rest)
    return rest


def without_labels(text: str) -> str:
    """Return a text without what may be the labels of a form that nobody listed."""
    return _LABEL.sub("", text)


def is_unlisted(text: str) -> bool:
    """Tell whether no form's sign stands in a text."""
    return not any(form.sign.search(text) for form in FORMS)


def is_broken(text: str) -> bool:
    """Tell whether a text has channels whose grammar it breaks: engines mend that each in its own way."""
    return _HARMONY_SIGN.search(text) is not None and not _harmony(text)[2]


def _harmony(text: str) -> tuple[str, str, bool]:
    """Return the text without headers, also without what others than the user are told; whether it is whole.

    A message is a header up to `<|message|>`, then what it says, up to `<|end|>`, `<|return|>`, `<|call|>` or
    the end of the text. From the first that is not, the text stays as it is.
    """
    bare: list[str] = []
    kept: list[str] = []
    place = 0
    while place < len(text):
        head = _HARMONY_HEAD.match(text, place)
        end = None if head is None else _HARMONY_MARK.search(text, head.end())
        if (
            head is None
            or (place > 0 and head["start"] is None)
            or (end is not None and end[1] not in _HARMONY_ENDS)
        ):
            return "".join((*bare, text[place:])), "".join((*kept, text[place:])), False
        said = text[head.end() : len(text) if end is None else end.start()]
        bare += (FRAME, said, FRAME)
        kept += (FRAME, "" if head["by"] or head["to"] else said, FRAME)
        place = len(text) if end is None else end.end()
    return "".join(bare), "".join(kept), True


def _read_harmony(text: str) -> Iterator[View]:
    bare, kept, is_whole = _harmony(text)
    yield View(bare, is_whole)
    yield View(kept, False)


def _read_phrases(text: str) -> Iterator[View]:
    """Read thought and response behind a phrase each.

    What stands before the first is thrown away by some, and an answer that ends within a phrase waits for the
    rest of it.
    """
    thought = _THOUGHT_PHRASE.search(text)
    if thought is not None and thought.start():
        yield View(text[thought.start() :], False)
    for phrase in _PHRASES:
        for count in range(min(len(phrase) - 1, len(text)), 0, -1):
            # Only a whole "Here" begins a phrase behind other text.
            if text.endswith(phrase[:count]) and (count >= len("Here") or count == len(text)):
                yield View(text[:-count], False)
                break


def _beginnings(*phrases: str) -> str:
    """Return a pattern for the beginnings of phrases, from their first word on, the longest first."""
    found = {phrase[:count] for phrase in phrases for count in range(len("Here"), len(phrase) + 1)}
    return f"(?:{'|'.join(map(re.escape, sorted(found, key=len, reverse=True)))})"


_FRAMED: Final = f"(?:{re.escape(THOUGHT)}|{re.escape(FRAME)})"
_BEFORE: Final = re.compile(rf"\A.*?(?={_FRAMED})", re.DOTALL)
"""What stands before the first thought, or before all that has a frame."""
_HARMONY_SIGN: Final = re.compile(r"<\|channel\|>")
FORMS: Final = (
    # What stands before the first opening tag is thrown away by some: a template may have written that tag.
    Form(
        frozenset(
            {
                *("deepseek_r1", "deepseek_v3", "deepseek_v4", "deepseek_v41", "glm45", "glm47", "holo2"),
                *("granite_thinking_parser", "hy_v3", "hy_v4", "k2_horizon", "kimi_k2", "ling3", "mimo"),
                *("minicpmv", "minimax_m2", "minimax_m2_append_think", "minimax_m3", "nemotron_v3"),
                *("olmo3", "poolside_v1", "qwen3", "seed_oss", "step3", "step3p5"),
            }
        ),
        sign=re.compile(rf"</?{_TAG}"),
        opens=re.compile(f"<{_TAG}"),
        drops=(_BEFORE,),
    ),
    # The answer has tags of its own: what stands outside of them is thrown away.
    Form(
        frozenset({"ernie45", "hunyuan_a13b"}),
        sign=re.compile(rf"</?{_ANSWER}"),
        drops=(
            re.compile(rf"(?<=</think>).*?(?=<{_ANSWER})|(?:(?<=</answer>)|(?<=</response>)).*\Z", re.DOTALL),
        ),
    ),
    Form(frozenset({"mistral"}), sign=re.compile(r"\[/?THINK\]"), opens=re.compile(r"\[THINK\]")),
    Form(
        frozenset({"cohere_command3", "cohere_command4"}),
        sign=re.compile(r"<\|(?:START|END)_THINKING\|>"),
        opens=re.compile(r"<\|START_THINKING\|>"),
    ),
    Form(
        frozenset({"plamo3"}),
        sign=re.compile(r"<\|plamo:(?:begin|end)_think"),
        opens=re.compile(r"<\|plamo:begin_think:plamo\|>"),
    ),
    Form(
        frozenset({"gemma4"}),
        sign=re.compile(r"<\|channel>|<channel\|>|\Athought"),
        opens=re.compile(r"<\|channel>(?:thought)?"),
        frames=re.compile(r"\Athought(?=.*<channel\|>)", re.DOTALL),
        drops=(re.compile(r"\Athought"),),
    ),
    Form(
        frozenset({"inkling"}),
        sign=re.compile(r"<\|(?:content_(?:thinking|text)|message_model)\|>"),
        opens=re.compile(r"<\|content_thinking\|>"),
        often=True,
        frames=re.compile(r"(?:\A|<\|message_model\|>)[^<>]{0,128}(?=<\|(?:content_|message_model))"),
    ),
    Form(
        frozenset({"kimi_k3"}),
        sign=re.compile(r"<\|(?:open|close)\|>(?:think|response)(?:<\|sep\|>|\Z)"),
        opens=re.compile(r"<\|open\|>think<\|sep\|>"),
        frames=re.compile(r"<\|close\|>(?:think|response|message)<\|sep\|>|<\|open\|>response<\|sep\|>"),
        drops=(_BEFORE, re.compile(r"<\|(?:open|close)\|>[a-z]{0,16}\Z")),
    ),
    Form(
        frozenset({"muse_glimmer"}),
        sign=re.compile(r"to=(?:self|user)<\|message\|>"),
        opens=re.compile(r"(?:<\|start\|>assistant)?to=self<\|message\|>"),
        often=True,
        frames=re.compile(
            r"(?:<\|start\|>assistant)?to=user<\|message\|>|<\|start\|>assistant(?:to=[a-z]{0,16})?\Z"
        ),
        drops=(re.compile(rf"(?:\A|(?<=<\|eom\|>)).*?(?={_FRAMED}|\Z)", re.DOTALL),),
    ),
    Form(frozenset({"openai_gptoss"}), sign=_HARMONY_SIGN, read=_read_harmony),
    # Plain phrases instead of marks: the whole text may be the beginning of one.
    Form(
        frozenset({"granite"}),
        sign=re.compile(rf"{'|'.join(_PHRASES)}|{_beginnings(*_PHRASES)}\Z|\AH(?:er?)?\Z"),
        # In one piece with what follows, the last words of a phrase are taken for a part of that.
        frames=re.compile(
            rf"\A(?:{'|'.join(_THOUGHTS)}|{_beginnings(*_THOUGHTS)}(?={CUT}))"
            rf"|(?<=[{CUT}:]){_beginnings(*_RESPONSES)}(?={CUT})|(?<=[{CUT}:])(?:{'|'.join(_RESPONSES)})\Z"
        ),
        read=_read_phrases,
    ),
)
"""Every form that vLLM 0.32 has a parser for; `hf` reads what a model's own files describe."""
