"""Answers of an engine together with what is needed to commit to them.

Owns asking a vLLM endpoint that runs our sampler for one answer by token ids, and reading it. For
calibration, audits of one's own engine and benches: a worker makes its commitments from the requests that it
serves anyway. Must not know jobs, sessions or judgements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from cocoon_sdk.verify.commitment import Choice
from cocoon_sdk.verify.endpoint import Endpoint, EndpointLimits, VerifierAnswerError
from cocoon_sdk.verify.noise import SEED_BYTES
from cocoon_sdk.verify.sampling import Sampling

_BYTES_PER_TOKEN: Final = 1024


class _Logprobs(Struct, gc=False):
    token_logprobs: list[float]


class _Choice(Struct, gc=False):
    text: str
    finish_reason: str
    token_ids: list[int]
    logprobs: _Logprobs


class _Answer(Struct, gc=False):
    choices: list[_Choice]


_read: Final = msgspec.json.Decoder(_Answer).decode


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer: token ids with the end token, their natural raw log-probabilities, text, and its end."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: str
    text: str

    @property
    def choice(self) -> Choice:
        """What an honest worker commits to of it. Raises `MalformedError` for impossible values."""
        return Choice.of(self.tokens, self.logprobs, self.finish)


class Generator:
    """An engine that serves `model` with our sampler. Close it, or use it with `async with`.

    Raises `ConfigError` for a URL or key that cannot be used.
    """

    def __init__(
        self, url: str, api_key: str | None, model: str, *, limits: EndpointLimits | None = None
    ) -> None:
        self._endpoint = Endpoint(url, api_key=api_key, limits=limits)
        self._model = model

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._endpoint.close()

    async def generate(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        sampling: Sampling,
        seed: bytes,
        *,
        more: Mapping[str, Any] | None = None,
    ) -> Generated:
        """Answer the prompt's tokens. `more` goes over the fields of the engine's request.

        Raises `VerifierError` as the endpoint's failures go.
        """
        body: dict[str, Any] = {
            **{"model": self._model, "prompt": list(prompt), "max_tokens": max_tokens},
            **{"logprobs": 0, "return_token_ids": True},
            **sampling.to_engine(seed),
            **(more or {}),
        }
        most = (1 << 20) + (len(prompt) + max_tokens) * _BYTES_PER_TOKEN
        raw = await self._endpoint.post("v1/completions", body, max_bytes=most)
        try:
            (choice,) = _read(raw).choices
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            raise _unusable("it has another form") from None
        logprobs = choice.logprobs.token_logprobs
        if len(choice.token_ids) != len(logprobs) or len(logprobs) > max_tokens:
            raise _unusable("tokens and log-probabilities differ in number")
        return Generated(tuple(choice.token_ids), tuple(logprobs), choice.finish_reason, choice.text)


def trial_seed(*parts: str) -> bytes:
    """Return the seed of a trial that no job and no session gives one; its parts are its name."""
    return hashlib.sha256("/".join(("cocoon/trial", *parts)).encode()).digest()[:SEED_BYTES]


def _unusable(why: str) -> VerifierAnswerError:
    return VerifierAnswerError(
        "the engine's answer cannot be used", why=why, hint="It must be a vLLM with our sampler"
    )
