"""A language model small enough for unit tests: a table of logits, sampled and re-scored like a real one.

Its tokens are numbers below `VOCABULARY`; token t reads " wt", `END` ends an answer. `spread` (nat) moves
every logit a little, as another machine does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.types import Hash, Nano
from cocoon_sdk.verify.commitment import Choice, Commitment, prompt_hash
from cocoon_sdk.verify.noise import choice_seed
from cocoon_sdk.verify.replay import replay
from cocoon_sdk.verify.rescoring import Floats, Ids, Rescored, Rescoring
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.structure import Question

VOCABULARY = 300
END = 0
MODEL_ID = Hash(b"\x77" * 32)


@dataclass(frozen=True)
class Answer:
    """One generation: what the client gets, and what the worker commits to."""

    question: Question
    response: dict[str, Any]
    commitment: Commitment


@dataclass(frozen=True)
class TableModel:
    """Logits follow from the last two tokens; `weights` says which model it is."""

    weights: int = 1
    spread: float = 0.0
    machine: int = 0
    sharpness: float = 2.5

    def logprobs(self, context: Sequence[int]) -> Floats:
        logits = np.random.default_rng([self.weights, *context[-2:]]).normal(0, self.sharpness, VOCABULARY)
        logits[END] -= 4
        if self.spread:
            noise = np.random.default_rng([self.machine, len(context), *context[-2:]])
            logits = logits + noise.normal(0, self.spread, VOCABULARY)
        return np.asarray(logits - np.log(np.exp(logits).sum()))

    def generate(
        self, prompt: Sequence[int], sampling: Sampling, seed: bytes, most: int
    ) -> tuple[list[int], list[float], str]:
        tokens: list[int] = []
        logprobs: list[float] = []
        every = np.arange(VOCABULARY)
        while len(tokens) < most:
            row = self.logprobs([*prompt, *tokens])
            done = replay(
                sampling,
                seed,
                len(tokens),
                every,
                row,
                prompt=ids(prompt),
                output=ids(tokens),
                vocabulary=VOCABULARY,
            )
            chosen = int(np.where(done.sure >= 0, done.scores, -np.inf).argmax())
            tokens.append(chosen)
            logprobs.append(float(row[chosen]))
            if chosen == END:
                return tokens, logprobs, "stop"
        return tokens, logprobs, "length"

    def rescore(self, prompt: Sequence[int], output: Sequence[int], top: int = 20) -> Rescored:
        count = len(output)
        logprobs, ranks = np.empty(count), np.empty(count, np.int64)
        top_tokens, top_logprobs = np.empty((count, top), np.int64), np.empty((count, top))
        for position, token in enumerate(output):
            row = self.logprobs([*prompt, *output[:position]])
            order = np.argsort(-row, kind="stable")
            logprobs[position] = row[token]
            ranks[position] = int(np.flatnonzero(order == token)[0]) + 1
            top_tokens[position], top_logprobs[position] = order[:top], row[order[:top]]
        return Rescored(ids(output), logprobs, ranks, top_tokens, top_logprobs)

    def examine(self, prompt: Sequence[int], commitment: Commitment) -> Rescoring:
        """Return what `Verifier.examine` returns."""
        outputs = [choice.tokens for choice in commitment.choices]
        return Rescoring(
            prompt=tuple(prompt),
            choices=tuple(self.rescore(prompt, tokens) for tokens in outputs),
            texts=tuple(text_of(tokens) for tokens in outputs),
            bodies=tuple(text_of(tokens[:-1]) for tokens in outputs),
            end_tokens=frozenset({END}),
        )

    def answer(
        self, prompt: Sequence[int], body: Mapping[str, Any], seed: bytes, *, most: int = 48
    ) -> Answer:
        """Answer a completion request as an honest worker does."""
        question = Question(
            kind="completion",
            body={"prompt": list(prompt), "max_tokens": most, **body},
            seed=seed,
            sampling=SamplingClass.REPLAYABLE,
            model_id=MODEL_ID,
            output_limit=4096,
            context=8192,
        )
        sampling = Sampling.of_request(question.body)
        made = [
            self.generate(prompt, sampling, choice_seed(seed, index), most)
            for index in range(question.body.get("n", 1))
        ]
        return committed(question, prompt, made)


def committed(
    question: Question, prompt: Sequence[int], made: Sequence[tuple[Sequence[int], Sequence[float], str]]
) -> Answer:
    """Return response and commitment for these tokens, log-probabilities and finish reasons."""
    commitment = Commitment(
        manifest=MODEL_ID,
        engine="table",
        platform="cpu",
        dtype="float64",
        prompt_tokens=len(prompt),
        prompt_hash=prompt_hash(prompt),
        max_tokens=question.body["max_tokens"],
        sampling=Sampling.of_request(question.body).to_json(),
        seed=question.seed,
        choices=tuple(Choice.of(*each) for each in made),
    )
    choices = [
        {"index": index, "text": shown(tokens), "finish_reason": finish}
        for index, (tokens, _, finish) in enumerate(made)
    ]
    usage = {"prompt_tokens": len(prompt), "completion_tokens": sum(len(tokens) for tokens, _, _ in made)}
    return Answer(question, {"choices": choices, "usage": usage}, commitment)


def ids(tokens: Sequence[int]) -> Ids:
    return np.array(tokens, np.int64)


def text_of(tokens: Sequence[int]) -> str:
    return "".join("<|end|>" if token == END else f" w{token}" for token in tokens)


def shown(tokens: Sequence[int]) -> str:
    """Return the text as an engine shows it: without its end token."""
    return text_of([token for token in tokens if token != END])


def table_terms(sampling: SamplingClass = SamplingClass.REPLAYABLE) -> Terms:
    """Return terms under which a token of the table costs 1 nanoTON."""
    return Terms(
        model_id=MODEL_ID,
        model_entry_hash=Hash(bytes(32)),
        input_price=Nano(1),
        cached_input_price=Nano(1),
        output_price=Nano(1),
        minimum_price=Nano(0),
        sampling=sampling,
    )
