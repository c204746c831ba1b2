"""How an engine is to choose its tokens: the parameters of one request, in integers.

Owns `Sampling`, how it is read from a request, how an engine is told of it, and which requests cannot be
replayed. The choice itself is made by `cocoon_worker.engine.sampler` and done again by
`cocoon_sdk.verify.replay`. Must not know models or transports.

The order is vLLM's own: repetition, frequency and presence penalty; temperature; min-p; top-k; top-p; then
noise (`cocoon_sdk.verify.noise`), and the largest sum is the choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.verify.noise import SEED_BYTES

MILLION: Final = 1_000_000
MAX_TEMPERATURE: Final = 2 * MILLION
MIN_TEMPERATURE: Final = MILLION // 100
"""vLLM's own: it raises a positive temperature below 0.01 to it (and takes one below 0.00001 for 0)."""
MAX_TOP_K: Final = (1 << 31) - 1
MAX_PENALTY: Final = 2 * MILLION
MIN_REPETITION: Final = MILLION // 100
MAX_REPETITION: Final = 10 * MILLION
ENOUGH_CANDIDATES: Final = 50
"""A position's best tokens at temperature 1, beyond which more told nothing (docs/verification.md, 3)."""
LEAST_CANDIDATES: Final = 5
"""A position's best tokens that are always looked at: the choice's neighbours, and what tells how sure the
model was.
"""
ARGUMENTS: Final = "cocoon_"
"""Every name in `vllm_xargs` that our sampler reads begins so."""

_SEED: Final = re.compile(f"[0-9a-f]{{{2 * SEED_BYTES}}}")
_GREEDY_BELOW: Final = 1e-5
_BOUNDS: Final = {
    "temperature": (0, MAX_TEMPERATURE),
    "top_k": (0, MAX_TOP_K),
    "top_p": (1, MILLION),
    "min_p": (0, MILLION),
    "presence_penalty": (-MAX_PENALTY, MAX_PENALTY),
    "frequency_penalty": (-MAX_PENALTY, MAX_PENALTY),
    "repetition_penalty": (MIN_REPETITION, MAX_REPETITION),
}
_DEFAULTS: Final = {
    "temperature": MILLION,
    "top_k": 0,
    "top_p": MILLION,
    "min_p": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": MILLION,
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of one request: millionths, but `top_k`, which counts tokens (0: all)."""

    temperature: int = MILLION
    top_k: int = 0
    top_p: int = MILLION
    min_p: int = 0
    presence_penalty: int = 0
    frequency_penalty: int = 0
    repetition_penalty: int = MILLION

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise MalformedError(
                    f"cannot sample with this {name}", why=f"it is no whole number from {low} to {high}"
                )
        if 0 < self.temperature < MIN_TEMPERATURE:
            raise MalformedError(
                "cannot sample with this temperature", why=f"it is neither 0 nor {MIN_TEMPERATURE} or more"
            )

    @classmethod
    def of_request(cls, body: Mapping[str, Any]) -> Self:
        """Read an OpenAI or vLLM request body, with vLLM's defaults (`--generation-config vllm`).

        Values are rounded to millionths, half to even. Raises `MalformedError` for what vLLM would refuse.
        """
        values = {name: _millionths(body, name) for name in _DEFAULTS if name not in ("temperature", "top_k")}
        return cls(temperature=_temperature(body), top_k=_top_k(body), **values)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what `to_json` wrote. Raises `MalformedError`; every field must be there, and no other."""
        if not isinstance(value, dict) or value.keys() != _BOUNDS.keys():
            raise MalformedError(
                "cannot read sampling parameters", why=f"they are not exactly {', '.join(_BOUNDS)}"
            )
        return cls(**value)

    def to_json(self) -> dict[str, int]:
        """Return all parameters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def greedy(self) -> bool:
        """Whether the best token is taken, without noise."""
        return self.temperature == 0

    def candidates(self, top: int) -> int:
        """Return how many of a position's best tokens a replay looks at, of `top` at most.

        A token is worth listing where it could be the right choice. Without noise that is the best one;
        top-k says itself how many there can be; and a temperature below 1 leaves the less to the tail the
        lower it is, p^(1 / temperature). Penalties may put any token behind any other: then all of `top` are
        looked at. Each token less spares an endpoint work for every token that it reads.
        """
        if self.presence_penalty or self.frequency_penalty or self.repetition_penalty != MILLION:
            return top
        if self.greedy:
            return min(top, LEAST_CANDIDATES)
        count = max(LEAST_CANDIDATES, -(-max(top, ENOUGH_CANDIDATES) * self.temperature // MILLION))
        if self.top_k:
            count = min(count, self.top_k + LEAST_CANDIDATES)
        return min(top, count)

    def to_engine(self, seed: bytes, *, choices: int = 1) -> dict[str, Any]:
        """Return the fields to put over those of an engine's request body, so that it samples like this.

        Greedy sampling is the engine's own. Else our sampler does it all (`vllm_xargs`) and the engine takes
        its argmax. vLLM refuses several `choices` at temperature 0: they keep a temperature, and vLLM's seed
        of each choice, 0 and upwards, tells our sampler which one it is.
        """
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        if self.greedy:
            return {
                **{"temperature": 0, "top_k": 0, "top_p": 1, "min_p": 0, "seed": None},
                "presence_penalty": self.presence_penalty / MILLION,
                "frequency_penalty": self.frequency_penalty / MILLION,
                "repetition_penalty": self.repetition_penalty / MILLION,
                "vllm_xargs": {},
            }
        values: dict[str, Any] = {f"{ARGUMENTS}{name}": value for name, value in self.to_json().items()}
        return {
            **{"temperature": 0 if choices == 1 else 1, "seed": None if choices == 1 else 0},
            **{"top_k": 0, "top_p": 1, "min_p": 0},
            **{"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1},
            "vllm_xargs": values | {f"{ARGUMENTS}seed": seed.hex()},
        }

    @classmethod
    def of_engine(cls, arguments: Mapping[str, Any] | None) -> tuple[Self, bytes] | None:
        """Read `to_engine`'s `vllm_xargs` in the engine: parameters and seed, or None where none are ours.

        Raises `MalformedError` for anything but exactly what `to_engine` writes.
        """
        ours = {
            name.removeprefix(ARGUMENTS): value
            for name, value in (arguments or {}).items()
            if name.startswith(ARGUMENTS)
        }
        if not ours:
            return None
        seed = ours.pop("seed", None)
        if not isinstance(seed, str) or not _SEED.fullmatch(seed):
            raise MalformedError(
                "cannot sample with this seed",
                why=f"it is not {2 * SEED_BYTES} lower-case hexadecimal digits",
            )
        sampling = cls.from_json(ours)
        if sampling.greedy:
            raise MalformedError("cannot sample with this temperature", why="temperature 0 takes no seed")
        return sampling, bytes.fromhex(seed)

    @staticmethod
    def replayable(body: Mapping[str, Any]) -> str | None:
        """Return why the choices of this request cannot be replayed from log-probabilities, or None."""
        for name, reason in _CONSTRAINTS.items():
            if body.get(name):
                return reason
        if (form := body.get("response_format")) and form != {"type": "text"}:
            return "response_format constrains which tokens may follow"
        # Also where the model may call none: strict tools and some of vLLM's tool parsers guide a call.
        if body.get("tools") and body.get("tool_choice") != "none":
            return "tools may constrain which tokens follow"
        repetition = body.get("repetition_penalty")
        if repetition is not None and _millionths(body, "repetition_penalty") != MILLION:
            return "repetition_penalty acts on logits, which log-probabilities do not determine"
        return None


_CONSTRAINTS: Final = {
    "structured_outputs": "structured_outputs constrains which tokens may follow",
    "logit_bias": "logit_bias shifts the choice",
    "bad_words": "bad_words constrains which tokens may follow",
    "allowed_token_ids": "allowed_token_ids constrains which tokens may follow",
    "min_tokens": "min_tokens keeps the end away",
    "use_beam_search": "beam search compares whole sequences",
    "thinking_token_budget": "thinking_token_budget forces tokens",
}


def _number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not abs(value) <= MAX_REPETITION:  # and so nothing unordered
        raise MalformedError(f"cannot sample with this {name}", why="it is not a number within bounds")
    return float(value)


def _millionths(body: Mapping[str, Any], name: str) -> int:
    value = _number(body, name)
    if value is None:
        return _DEFAULTS[name]
    rounded = round(value * MILLION)
    # What is positive stays positive: top_p 1e-9 means the best token only, and not a refusal.
    return max(rounded, _BOUNDS[name][0]) if value > 0 else rounded


def _temperature(body: Mapping[str, Any]) -> int:
    value = _number(body, "temperature")
    if value is None:
        return MILLION
    if 0 <= value < _GREEDY_BELOW:
        return 0
    return max(MIN_TEMPERATURE, round(value * MILLION)) if value > 0 else round(value * MILLION)


def _top_k(body: Mapping[str, Any]) -> int:
    value = body.get("top_k")
    if value is not None and type(value) is not int:
        raise MalformedError("cannot sample with this top_k", why="it is not a whole number")
    return 0 if value in (None, -1) else int(value)
