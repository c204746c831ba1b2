"""Whether an engine samples as its offers promise: asked once, with a question whose answer proves it.

Owns the question. The engine is asked for a few tokens among the five most likely, at a high temperature,
with a fixed seed, and has to tell their log-probabilities: with our sampler each token is the one that its
log-probability and the noise make the best, and without it practically never all of them. Must not know how
the engine is reached.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from cocoon_sdk.errors import ConfigError, EngineInterruptedError
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.verify.noise import NOISE_UNIT, SEED_BYTES, gumbel
from cocoon_sdk.verify.sampling import MILLION, Sampling
from cocoon_worker.engine.base import (
    Engine,
    EngineAnswerError,
    EngineKind,
    EngineRequest,
    EngineRequestError,
    EngineResult,
)
from cocoon_worker.engine.vllm_command import SAMPLER

_SEED: Final = hashlib.sha256(b"cocoon sampler probe").digest()[:SEED_BYTES]
_TOKENS: Final = 16
_CANDIDATES: Final = 5
_TOLD: Final = 20
"""Log-probabilities of each place: more than candidates, for several may be equally likely."""
_HOT: Final = Sampling(temperature=2 * MILLION, top_k=_CANDIDATES)
_COLD: Final = Sampling(temperature=0)
_TOLERANCE: Final = 0.01
"""Nat: what rounding on the way may make of a choice."""
_PROMPT: Final = "Once upon a time"
_DEADLINE_S: Final = 120.0


async def prove_sampling(engine: Engine, model: str, sampling: SamplingClass) -> None:
    """Raise `ConfigError` unless a started engine keeps what `sampling` promises, and what `run` raises."""
    replayed = sampling is SamplingClass.REPLAYABLE
    body = {
        "model": model,
        "prompt": _PROMPT,
        "max_tokens": _TOKENS,
        "ignore_eos": True,
        "logprobs": _TOLD,
        "return_tokens_as_token_ids": True,
        **(_HOT if replayed else _COLD).to_engine(_SEED),
    }
    request = EngineRequest(EngineKind.COMPLETION, body, evidence=True)
    try:
        result = await engine.run(request, deadline_s=_DEADLINE_S)
    except EngineInterruptedError:
        raise
    except (EngineAnswerError, EngineRequestError) as error:
        raise ConfigError(
            f"cannot offer {model} as {sampling.value}",
            why=f"its engine does not tell how it chose its tokens: {error}",
            hint="Use vLLM, or offer it as unverified.",
        ) from None
    if replayed and not _replays(result):
        raise ConfigError(
            f"cannot offer {model} as replayable",
            why="its engine does not choose tokens by our sampler",
            hint=f"Start vLLM with VLLM_USE_V2_MODEL_RUNNER=0 and --logits-processors {SAMPLER}, or offer "
            "the model as greedy or unverified.",
        )


def _replays(result: EngineResult) -> bool:
    """Tell whether every token is the one that the noise makes the best, and not only the most likely."""
    evidence = result.evidence
    tables = (result.response["choices"][0].get("logprobs") or {}).get("top_logprobs") or ()
    if evidence is None or len(tables) != len(evidence.tokens) or len(tables) != _TOKENS:
        return False
    surprises = 0
    for position, (chosen, table) in enumerate(zip(evidence.tokens, tables, strict=True)):
        try:
            tokens = np.array([int(name.removeprefix("token_id:")) for name in table], dtype=np.int64)
            logprobs = np.array(list(table.values()), dtype=np.float64)
        except (AttributeError, TypeError, ValueError):
            return False
        # Tokens that are as likely as the last candidate may count as candidates or not.
        edge = np.sort(logprobs)[-min(_CANDIDATES, len(logprobs))]
        noise = gumbel(_SEED, position, tokens) * NOISE_UNIT
        scores = logprobs + _HOT.temperature / MILLION * noise
        best = scores[(logprobs > edge + _TOLERANCE) | (tokens == chosen)].max(initial=-np.inf)
        (place,) = np.nonzero((tokens == chosen) & (logprobs >= edge - _TOLERANCE))
        if len(place) != 1 or best - scores[place[0]] > _TOLERANCE:
            return False
        surprises += int(logprobs[place[0]] < logprobs.max())
    return surprises > 0
