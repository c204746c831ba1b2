"""The cheaters: each a way to produce an answer with a commitment that says nothing was wrong.

Owns what each cheater does. Must not know the judge: neither limits nor statistics. Every cheater commits to
the question's own prompt, seed and parameters, to the named model, and to the log-probabilities that its
engine gave (or that it made up, where no engine did). `with_true_logprobs` is the cheater who takes any of
these answers and has it re-scored by the true model before it commits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.commitment import Choice, Commitment, prompt_hash
from cocoon_sdk.verify.generation import Generated, trial_seed
from cocoon_sdk.verify.prompts import CHAT, Prompt
from cocoon_sdk.verify.rescoring import Rescored
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.structure import Question

CONTEXT: Final = 4096
TRUE: Final = "true"
"""The engine of the model that the terms name."""
OTHER_PARAMETERS: Final = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty")
SYSTEM_PROMPT: Final = "You are a terse assistant. Answer in as few words as you can."
UNDECLARED_TOP_K: Final = 10
INVENTED_LOGPROB: Final = -0.05
"""What a cheater says about a token that no engine chose."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question in the form that is asked: a prompt, maybe with other sampling parameters."""

    prompt: Prompt
    variant: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """A name, unique among all questions."""
        return f"{self.variant}/{self.prompt.name}"

    @property
    def seed(self) -> bytes:
        """The seed that nobody chose."""
        return trial_seed("attacks", self.name)

    @property
    def sampling(self) -> Sampling:
        """The parameters that were asked for."""
        return Sampling.of_request(self.body)


VARIANTS: Final[dict[str, dict[str, Any] | None]] = {
    "own": None,
    "hot": {"temperature": 1},
    "greedy": {"temperature": 0},
}
"""Sampling parameters instead of the prompt's own."""


def ask(prompt: Prompt, variant: str) -> Asked:
    """Return a prompt's question in one of the variants."""
    other = VARIANTS[variant]
    body = dict(prompt.body)
    if other is not None:
        body = {key: value for key, value in body.items() if key not in OTHER_PARAMETERS} | other
    return Asked(prompt, variant, body)


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer for the judge: what was asked, what came, what was committed to."""

    question: Question
    response: dict[str, Any]
    commitment: Commitment


class Kit(Protocol):
    """What a cheater works with. Its engine is the true one, or the cheaper one that the case names."""

    model_id: Hash

    async def tokens(self, body: Mapping[str, Any], kind: str) -> tuple[int, ...]:
        """Return a prompt's tokens."""
        ...

    async def generate(self, prompt: Sequence[int], limit: int, sampling: Sampling, seed: bytes) -> Generated:
        """Answer with the cheater's engine."""
        ...

    async def text(self, tokens: Sequence[int]) -> str:
        """Return tokens as text."""
        ...

    async def scored(self, prompt: Sequence[int], output: Sequence[int]) -> Rescored:
        """Score tokens with the true model."""
        ...

    def honest(self, asked: Asked) -> Generated:
        """Return the true model's answer."""
        ...

    def other(self, asked: Asked) -> Generated:
        """Return the true model's answer to some other question."""
        ...

    end_token: int


def honest(kit: Kit, asked: Asked, prompt: Sequence[int], made: Generated) -> Sample:
    """Return what an honest worker hands over."""
    return _sample(kit, asked, prompt, made)


async def cheaper(kit: Kit, asked: Asked) -> Sample:
    """Answer with another engine: another model, or the same with less of its weights."""
    prompt = await kit.tokens(asked.body, asked.prompt.kind)
    return _sample(kit, asked, prompt, await _answer(kit, asked, prompt))


async def half_prompt(kit: Kit, asked: Asked) -> Sample:
    """Read only the second half of the prompt."""
    prompt = await kit.tokens(asked.body, asked.prompt.kind)
    return _sample(kit, asked, prompt, await _answer(kit, asked, prompt[len(prompt) // 2 :]))


async def system_prompt(kit: Kit, asked: Asked) -> Sample | None:
    """Put a system prompt of one's own in front of a conversation."""
    if asked.prompt.kind != CHAT:
        return None
    messages = [each for each in asked.body["messages"] if each["role"] != "system"]
    changed = {"messages": [{"role": "system", "content": SYSTEM_PROMPT}, *messages]}
    prompt = await kit.tokens(asked.body, asked.prompt.kind)
    read = await kit.tokens(asked.body | changed, asked.prompt.kind)
    return _sample(kit, asked, prompt, await _answer(kit, asked, read))


async def copied(kit: Kit, asked: Asked) -> Sample:
    """Hand over an answer to another question."""
    prompt = await kit.tokens(asked.body, asked.prompt.kind)
    return _sample(kit, asked, prompt, kit.other(asked))


async def replaced_token(kit: Kit, asked: Asked) -> Sample | None:
    """Put the model's best other token in the place of one in the middle of the honest answer."""
    prompt, made = await kit.tokens(asked.body, asked.prompt.kind), kit.honest(asked)
    place = len(made.tokens) // 2
    if len(made.tokens) < 2:
        return None
    scored = await kit.scored(prompt, made.tokens)
    others = zip(scored.top_tokens[place].tolist(), scored.top_logprobs[place].tolist(), strict=True)
    ends = {made.tokens[place], kit.end_token}
    token, logprob = next((token, logprob) for token, logprob in others if token not in ends)
    tokens = (*made.tokens[:place], token, *made.tokens[place + 1 :])
    logprobs = (*made.logprobs[:place], logprob, *made.logprobs[place + 1 :])
    changed = Generated(tokens, logprobs, made.finish, await kit.text(tokens))
    return _sample(kit, asked, prompt, changed)


async def truncated(kit: Kit, asked: Asked) -> Sample | None:
    """Stop at half of the honest answer, and claim that the model wanted to."""
    prompt, made = await kit.tokens(asked.body, asked.prompt.kind), kit.honest(asked)
    if len(made.tokens) < 4:
        return None
    half = len(made.tokens) // 2
    tokens, logprobs = (*made.tokens[:half], kit.end_token), (*made.logprobs[:half], INVENTED_LOGPROB)
    text = await kit.text(tokens[:-1])
    return _sample(kit, asked, prompt, Generated(tokens, logprobs, "stop", text))


def temperature(value: int) -> Callable[[Kit, Asked], Awaitable[Sample]]:
    """Sample at another temperature than was asked for (millionths)."""

    async def cheat(kit: Kit, asked: Asked) -> Sample:
        prompt = await kit.tokens(asked.body, asked.prompt.kind)
        other = replace(asked.sampling, temperature=value)
        made = await kit.generate(prompt, asked.body["max_tokens"], other, asked.seed)
        return _sample(kit, asked, prompt, made)

    return cheat


async def wrong_seed(kit: Kit, asked: Asked) -> Sample | None:
    """Draw the noise from a seed of one's own."""
    if asked.sampling.greedy:
        return None
    prompt = await kit.tokens(asked.body, asked.prompt.kind)
    seed = trial_seed("attacks", "wrong seed", asked.name)
    made = await kit.generate(prompt, asked.body["max_tokens"], asked.sampling, seed)
    return _sample(kit, asked, prompt, made)


async def undeclared_top_k(kit: Kit, asked: Asked) -> Sample:
    """Choose among the best few tokens only."""
    prompt = await kit.tokens(asked.body, asked.prompt.kind)
    other = replace(asked.sampling, top_k=UNDECLARED_TOP_K)
    made = await kit.generate(prompt, asked.body["max_tokens"], other, asked.seed)
    return _sample(kit, asked, prompt, made)


@dataclass(frozen=True, slots=True)
class Case:
    """One cheater: the engine it needs, the variant of the questions, and what it does.

    `make` gives None where the cheat does not apply. With `may_do_nothing`, an answer that came out as the
    honest one is no cheat: nothing was done to it.
    """

    name: str
    engine: str
    variant: str
    make: Callable[[Kit, Asked], Awaitable[Sample | None]]
    may_do_nothing: bool = True


CASES: Final = (
    *(Case(n, n, "own", cheaper, False) for n in ("another model", "dropped layer", "int4", "int8")),
    Case("half the prompt", TRUE, "own", half_prompt),
    Case("changed system prompt", TRUE, "own", system_prompt),
    Case("copied answer", TRUE, "own", copied),
    Case("one replaced token", TRUE, "own", replaced_token),
    Case("truncated answer", TRUE, "own", truncated),
    Case("temperature 0.7 for 1.0", TRUE, "hot", temperature(700_000)),
    Case("temperature 0.7 for 0", TRUE, "greedy", temperature(700_000)),
    Case("wrong seed", TRUE, "own", wrong_seed),
    Case("undeclared top-k", TRUE, "hot", undeclared_top_k),
)


def with_true_logprobs(sample: Sample, scored: Rescored) -> Sample:
    """Return the same answer as a cheater commits to it who had the true model score it."""
    (choice,) = sample.commitment.choices
    told = Choice.of(choice.tokens, [max(-256.0, each) for each in scored.logprobs.tolist()], choice.finish)
    return replace(sample, commitment=sample.commitment.model_copy(update={"choices": (told,)}))


async def _answer(kit: Kit, asked: Asked, prompt: Sequence[int]) -> Generated:
    return await kit.generate(prompt, asked.body["max_tokens"], asked.sampling, asked.seed)


def _sample(kit: Kit, asked: Asked, prompt: Sequence[int], made: Generated) -> Sample:
    question = Question(
        kind=asked.prompt.kind,
        body=asked.body,
        seed=asked.seed,
        sampling=SamplingClass.REPLAYABLE,
        model_id=kit.model_id,
        output_limit=CONTEXT,
        context=CONTEXT,
    )
    commitment = Commitment(
        manifest=kit.model_id,
        engine="vllm",
        platform="cpu",
        dtype="float32",
        prompt_tokens=len(prompt),
        prompt_hash=prompt_hash(prompt),
        max_tokens=asked.body["max_tokens"],
        sampling=asked.sampling.to_json(),
        seed=asked.seed,
        choices=(made.choice,),
    )
    shown = {"message": {"content": made.text}} if asked.prompt.kind == CHAT else {"text": made.text}
    usage = {"prompt_tokens": len(prompt), "completion_tokens": len(made.tokens)}
    choices = [{"index": 0, "finish_reason": made.finish, **shown}]
    return Sample(question, {"choices": choices, "usage": usage}, commitment)
