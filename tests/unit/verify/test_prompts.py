"""The three prompt sets: nothing in common, the same everywhere, and varied."""

from __future__ import annotations

import hashlib
import json
import re
import string
from dataclasses import fields
from itertools import combinations, pairwise

import pytest

from cocoon_sdk.verify.prompt_words import CODE, SETS, Words
from cocoon_sdk.verify.prompts import CHAT, COMPLETION, MAX_PROMPTS, OUTPUTS, SAMPLINGS, PromptSet, prompt_set
from cocoon_sdk.verify.sampling import Sampling

COUNT = 264
ALL = {which: prompt_set(which, COUNT) for which in PromptSet}
PAIRS = tuple(combinations(PromptSet, 2))


def words_of(own: Words) -> dict[str, set[str]]:
    found = {}
    for each in fields(own):
        value = getattr(own, each.name)
        found[each.name] = {value} if isinstance(value, str) else set(value)
    return found


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_sets_share_no_word_list(first: PromptSet, second: PromptSet) -> None:
    one, other = words_of(SETS[first]), words_of(SETS[second])
    assert {name: one[name] & other[name] for name in one} == {name: set() for name in one}


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_sets_share_no_run_of_words(first: PromptSet, second: PromptSet) -> None:
    def runs(which: PromptSet) -> set[tuple[str, ...]]:
        found = set()
        for prompt in ALL[which]:
            split = re.findall(r"\w+", prompt.text.lower())
            found |= {tuple(split[start : start + 7]) for start in range(len(split) - 6)}
        return found

    assert not runs(first) & runs(second)


def test_prompts_are_all_different() -> None:
    texts = [prompt.text for prompts in ALL.values() for prompt in prompts]
    assert len(set(texts)) == len(texts)
    names = {prompt.name for prompts in ALL.values() for prompt in prompts}
    assert len(names) == 3 * COUNT


@pytest.mark.parametrize("which", PromptSet)
def test_set_is_the_same_everywhere(which: PromptSet) -> None:
    text = json.dumps([[prompt.kind, prompt.body] for prompt in ALL[which]], ensure_ascii=False)
    assert (
        hashlib.sha256(text.encode()).hexdigest()[:16]
        == {
            PromptSet.CALIBRATION: "c643f5c9ac9d14cd",
            PromptSet.DEVELOPMENT: "6aa465200acdf378",
            PromptSet.EVALUATION: "9e2d35a296a7c6a8",
        }[which]
    )
    assert prompt_set(which, 7) == ALL[which][:7]


@pytest.mark.parametrize("which", PromptSet)
def test_set_is_varied(which: PromptSet) -> None:
    prompts = ALL[which][:200]
    assert {prompt.kind for prompt in prompts} == {CHAT, COMPLETION}
    assert len({prompt.style for prompt in prompts}) == 12
    assert {prompt.body["max_tokens"] for prompt in prompts} == set(OUTPUTS)
    lengths = sorted(len(prompt.text) for prompt in prompts)
    assert lengths[10] < 60
    assert lengths[-10] > 1000
    scripts = "".join(prompt.text for prompt in prompts)
    assert sum(not character.isascii() for character in scripts) > 50
    together = {(prompt.style, str(Sampling.of_request(prompt.body))) for prompt in prompts}
    assert len(together) > 90  # styles and sampling parameters are not in step
    greedy = sum(Sampling.of_request(prompt.body).greedy for prompt in prompts)
    assert 25 <= greedy <= 60
    assert any(
        message["role"] == "system" for p in prompts if p.kind == CHAT for message in p.body["messages"]
    )


def test_every_sampling_meets_every_output_limit() -> None:
    seen = {(str(Sampling.of_request(p.body)), p.body["max_tokens"]) for p in ALL[PromptSet.EVALUATION]}
    assert len(seen) == len({str(Sampling.of_request(each)) for each in SAMPLINGS}) * len(OUTPUTS)


def test_base_models_can_be_asked_when_only_completions_are_wanted() -> None:
    prompts = prompt_set(PromptSet.CALIBRATION, 40, chat=False)
    assert {prompt.kind for prompt in prompts} == {COMPLETION}
    assert len({prompt.style for prompt in prompts}) == 4


def test_phrases_have_no_name_that_nobody_fills_in() -> None:
    known = {"who", "place", "thing", "number", "language", "task", "words", "first", "second", "third"}
    for own in SETS.values():
        for values in words_of(own).values():
            for text in values:
                assert {name for _, name, _, _ in string.Formatter().parse(text) if name} <= known
    assert len(set(CODE)) == len(CODE)


@pytest.mark.parametrize("count", [-1, MAX_PROMPTS + 1])
def test_set_cannot_have_so_many(count: int) -> None:
    with pytest.raises(ValueError, match="at most"):
        prompt_set(PromptSet.CALIBRATION, count)


def test_conversations_alternate() -> None:
    for prompt in ALL[PromptSet.DEVELOPMENT]:
        if prompt.kind == CHAT:
            roles = [message["role"] for message in prompt.body["messages"] if message["role"] != "system"]
            assert roles[0] == roles[-1] == "user"
            assert all(one != other for one, other in pairwise(roles))
