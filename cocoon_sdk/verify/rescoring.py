"""Re-scoring: what the named model thinks of an answer, token by token, for the price of one prefill.

Owns what is asked of a vLLM endpoint (tokenizer, one prefill with `prompt_logprobs`, detokenizer) and the
reading of it. Must not know sockets (`endpoint`), nor judge (`statistics`, `checking`). The endpoint may be
anybody's own vLLM or a second worker's: it needs no plug-in and no flags. With more than vLLM's 20 best
tokens per position (`--max-logprobs` there, `top` here) the replay of a choice sees further down.

What comes back is bounded and checked for form. Whether the endpoint tells the truth is for whoever chose it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Annotated, Any, Final, Protocol, Self, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from cocoon_sdk.clock import Clock
from cocoon_sdk.errors import MalformedError
from cocoon_sdk.verify.commitment import Commitment
from cocoon_sdk.verify.endpoint import (
    Endpoint,
    EndpointLimits,
    VerifierAnswerError,
    VerifierError,
    VerifierRefusedError,
)
from cocoon_sdk.verify.sampling import Sampling

DEFAULT_TOP: Final = 20
"""Most tokens per position that vLLM serves unless it is told otherwise."""
MAX_TOP: Final = 1000
MAX_TOKENS: Final = 1 << 18
"""Most tokens of prompt and output together."""
AT_ONCE: Final = 8
"""Prefills that one verifier asks for at a time: an endpoint that is flooded answers none of them in time."""
WIDEST: Final = Sampling()
"""Parameters under which all `top` tokens of a position are asked for."""
CHAT: Final = "chat.completion"
COMPLETION: Final = "completion"

_MAX_TOKENIZED_BYTES: Final = 16 * MAX_TOKENS
_MAX_TEXT_BYTES: Final = 1 << 24
_BYTES_PER_ENTRY: Final = 256
"""Of a token with its log-probability, rank and text; what JSON escapes makes them longer."""
_LEAST_LOGPROB: Final = -9999.0  # what vLLM writes for impossible tokens, JSON having no infinity
_VOCABULARY: Final = "vocabulary"
_TOKENIZER_FIELDS: Final = ("messages", "tools", "add_generation_prompt", "continue_final_message")

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
_Form = TypeVar("_Form")
_Raw = TypeVar("_Raw")
_Result = TypeVar("_Result")
_TokenId: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 31)]


class _Entry(Struct, gc=False):
    logprob: float
    rank: Annotated[int, Meta(ge=1, lt=1 << 31)] | None = None


class _Tokenized(Struct, gc=False):
    tokens: list[_TokenId]


class _Detokenized(Struct, gc=False):
    prompt: str


class _Scored(Struct, gc=False):
    # Raw: the prompt's own positions, which are most of a long request, are never built.
    prompt_logprobs: list[msgspec.Raw] | None = None


class _Answer(Struct, gc=False):
    choices: list[_Scored]


_read_tokenized: Final = msgspec.json.Decoder(_Tokenized).decode
_read_detokenized: Final = msgspec.json.Decoder(_Detokenized).decode
_read_answer: Final = msgspec.json.Decoder(_Answer).decode
_read_entries: Final = msgspec.json.Decoder(dict[_TokenId, _Entry]).decode


class UnknownTokenError(VerifierError):
    """The answer's tokens are none of this model: the endpoint's vocabulary does not have them."""


class TooManyTokensError(VerifierError):
    """Prompt and output together are longer than anything that is asked of an endpoint."""


@dataclass(frozen=True, slots=True, eq=False)
class Rescored:
    """One output under the model. One row for each output token, natural logarithms of raw probabilities.

    `logprobs` and `ranks` (1 is the best) are the output's own tokens'. `top_tokens` and `top_logprobs` are
    the best of each position, best first; where one has fewer, it is filled up with -1 and minus infinity.
    """

    tokens: Ids
    logprobs: Floats
    ranks: Ids
    top_tokens: Ids
    top_logprobs: Floats

    def within(self, top: int) -> Self:
        """Return the same as if only `top` tokens of each position had been asked for."""
        if self.top_tokens.shape[1] <= top:
            return self
        return replace(self, top_tokens=self.top_tokens[:, :top], top_logprobs=self.top_logprobs[:, :top])


@dataclass(frozen=True, slots=True, eq=False)
class Rescoring:
    """What the endpoint says about one answer, choice by choice.

    `texts` are the tokens of each choice as text and `bodies` the same without the last token; None where
    the endpoint cannot tell. `end_tokens` are the tokens that end an answer of this model; None where
    unknown.
    """

    prompt: tuple[int, ...]
    choices: tuple[Rescored, ...]
    texts: tuple[str | None, ...]
    bodies: tuple[str | None, ...]
    end_tokens: frozenset[int] | None = None


class Transport(Protocol):
    """What carries JSON to a vLLM server and its answer back (`cocoon_sdk.verify.endpoint.Endpoint`)."""

    @property
    def host(self) -> str:
        """Who answers, fit to be shown."""
        ...

    async def post(self, path: str, body: dict[str, Any], *, max_bytes: int) -> bytes:
        """Send JSON to a path below the root; return the answer. Raises `VerifierError`."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Verifier:
    """A vLLM endpoint that serves `model`, with its tokenizer.

    Of each position the `top` best tokens are asked for, or as many of them as the request's sampling
    parameters leave in question (`Sampling.candidates`).

    `end_tokens` come from the model's generation configuration. At most `at_once` prefills are under way; the
    others wait, and their time does not run yet. Close it, or use it with `async with`. Raises `ConfigError`
    for a URL or key that cannot be used.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        model: str,
        *,
        top: int = DEFAULT_TOP,
        end_tokens: Collection[int] | None = None,
        limits: EndpointLimits | None = None,
        clock: Clock | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        endpoint = Endpoint(url, api_key=api_key, limits=limits, clock=clock)
        self._begin(endpoint, model, top, end_tokens, at_once)

    @classmethod
    def over(
        cls,
        transport: Transport,
        model: str,
        *,
        top: int = DEFAULT_TOP,
        end_tokens: Collection[int] | None = None,
    ) -> Self:
        """Return one that asks over something else than HTTP, such as another worker's paid session."""
        self = cls.__new__(cls)
        self._begin(transport, model, top, end_tokens, AT_ONCE)
        return self

    def _begin(
        self, transport: Transport, model: str, top: int, end_tokens: Collection[int] | None, at_once: int
    ) -> None:
        if not 1 <= top <= MAX_TOP:
            raise MalformedError(
                "cannot re-score", why=f"1 to {MAX_TOP} tokens per position can be asked for"
            )
        self._endpoint = transport
        self._model, self._top = model, top
        self._end_tokens = None if end_tokens is None else frozenset(end_tokens)
        self._places = asyncio.Semaphore(at_once)

    def __repr__(self) -> str:
        return f"Verifier({self._endpoint.host}, {self._model!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._endpoint.close()

    async def examine(self, kind: str, body: Mapping[str, Any], commitment: Commitment) -> Rescoring:
        """Re-score every choice of a commitment under the prompt of the question itself.

        Raises what `prompt_tokens` and `rescore` raise, and `MalformedError` for sampling parameters that no
        engine would take.
        """
        prompt, sampling = await self.prompt_tokens(kind, body), Sampling.of_request(body)
        outputs = [choice.tokens for choice in commitment.choices]
        choices = await together(self.rescore(prompt, tokens, sampling) for tokens in outputs)
        texts = [await self.text(tokens) for tokens in outputs]
        bodies = [await self.text(tokens[:-1]) for tokens in outputs]
        return Rescoring(prompt, tuple(choices), tuple(texts), tuple(bodies), self._end_tokens)

    async def prompt_tokens(self, kind: str, body: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the token ids that a chat's or completion's prompt has for this model.

        Raises `MalformedError` for a kind that has no prompt, and `VerifierError`.
        """
        question = tokenizer_question(kind, body)
        if isinstance(question, tuple):
            return question
        raw = await self._endpoint.post(
            "tokenize", {"model": self._model, **question}, max_bytes=_MAX_TOKENIZED_BYTES
        )
        tokens = _decoded(_read_tokenized, raw, "its tokens").tokens
        if not 1 <= len(tokens) <= MAX_TOKENS:
            raise _unusable("its prompt has no tokens, or too many")
        return tuple(tokens)

    async def rescore(
        self, prompt: Sequence[int], output: Sequence[int], sampling: Sampling = WIDEST
    ) -> Rescored:
        """Score `output`, which was sampled so, after `prompt` with one prefill.

        Raises `UnknownTokenError` for tokens that the model does not have, `TooManyTokensError`,
        `VerifierRefusedError` (mostly: its context is too short), `VerifierUnavailableError`,
        `VerifierTimeoutError`, `VerifierAnswerError`.
        """
        top = sampling.candidates(self._top)
        if not output:
            return _nothing(top)
        count = len(prompt) + len(output)
        if count > MAX_TOKENS:
            raise TooManyTokensError(
                "cannot re-score", why=f"prompt and output have more than {MAX_TOKENS} tokens"
            )
        body = {
            **{"model": self._model, "prompt": [*prompt, *output], "add_special_tokens": False},
            **{"max_tokens": 1, "temperature": 0, "prompt_logprobs": top},
        }
        most = (1 << 20) + count * (top + 1) * _BYTES_PER_ENTRY
        try:
            async with self._places:
                raw = await self._endpoint.post("v1/completions", body, max_bytes=most)
        except VerifierRefusedError as error:
            if _VOCABULARY in error.answer:
                raise UnknownTokenError("the answer cannot be re-scored", why=error.answer) from None
            raise
        return _read_rescored(raw, len(prompt), tuple(output), top)

    async def text(self, tokens: Sequence[int]) -> str | None:
        """Return the tokens as text, special ones included; None where the endpoint refuses to tell.

        One refusal says nothing about the next answer's tokens: everybody's are asked for.
        """
        if not tokens:
            return ""
        body = {"model": self._model, "tokens": list(tokens)}
        try:
            raw = await self._endpoint.post("detokenize", body, max_bytes=_MAX_TEXT_BYTES)
        except VerifierRefusedError:
            return None
        return _decoded(_read_detokenized, raw, "its text").prompt


async def together(jobs: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """Run all at once; the first failure ends the others, so that none goes on for nobody."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def tokenizer_question(kind: str, body: Mapping[str, Any]) -> dict[str, Any] | tuple[int, ...]:
    """Return what to ask vLLM's tokenizer for a request's prompt, or the tokens if the body names them.

    Raises `MalformedError` for kinds that have no prompt, and for several prompts in one request.
    """
    if kind == CHAT:
        question = {name: body[name] for name in _TOKENIZER_FIELDS if body.get(name) is not None}
        switches = dict(body.get("chat_template_kwargs") or {})
        effort = body.get("reasoning_effort")
        if effort is not None:  # as vLLM hands it to the template
            switches = {"enable_thinking": effort != "none"} | switches | {"reasoning_effort": effort}
        return question | ({"chat_template_kwargs": switches} if switches else {})
    if kind != COMPLETION:
        raise MalformedError("cannot re-score", why=f"{kind[:40]!r} is not a kind whose answer has tokens")
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return {"prompt": prompt, "add_special_tokens": body.get("add_special_tokens") is not False}
    if isinstance(prompt, list) and prompt and all(type(token) is int and token >= 0 for token in prompt):
        return tuple(prompt)
    raise MalformedError("cannot re-score", why="the request's prompt is neither a text nor token ids")


def _nothing(top: int) -> Rescored:
    none, empty = np.empty(0, np.int64), np.empty(0)
    return Rescored(none, empty, none, np.empty((0, top), np.int64), np.empty((0, top)))


def _read_rescored(raw: bytes, prompt_length: int, output: tuple[int, ...], top: int) -> Rescored:
    choices = _decoded(_read_answer, raw, "its log-probabilities").choices
    rows = choices[0].prompt_logprobs if len(choices) == 1 else None
    if rows is None or len(rows) != prompt_length + len(output):
        raise _unusable("it gives no log-probability for each token", hint="Is it vLLM?")
    count = len(output)
    logprobs, ranks = np.empty(count), np.empty(count, np.int64)
    top_tokens = np.full((count, top), -1, np.int64)
    top_logprobs = np.full((count, top), -np.inf)
    for position, token in enumerate(output):
        entries = _decoded(_read_entries, rows[prompt_length + position], "its log-probabilities")
        own = entries.get(token)
        if own is None or own.rank is None or not 1 <= len(entries) <= top + 1:
            raise _unusable("a position lacks its own token, or has more than was asked for")
        logprobs[position], ranks[position] = _natural(own.logprob), own.rank
        best = sorted(((_natural(each.logprob), -number) for number, each in entries.items()), reverse=True)
        for column, (logprob, negative) in enumerate(best[:top]):
            top_tokens[position, column] = -negative
            top_logprobs[position, column] = logprob
    return Rescored(np.array(output, np.int64), logprobs, ranks, top_tokens, top_logprobs)


def _natural(logprob: float) -> float:
    # A probability of 1 may come out a rounding error above.
    if math.isnan(logprob) or logprob > 0.01:
        raise _unusable("it gives something that is no log-probability")
    return -math.inf if logprob <= _LEAST_LOGPROB else min(logprob, 0.0)


def _decoded(read: Callable[[_Raw], _Form], raw: _Raw, what: str) -> _Form:
    try:
        return read(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _unusable(f"{what} have another form") from None


def _unusable(why: str, *, hint: str = "") -> VerifierAnswerError:
    return VerifierAnswerError("the verifier's answer cannot be used", why=why, hint=hint)
