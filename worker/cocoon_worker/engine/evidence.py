"""Taking evidence out of an engine's answer, so that what is left is the answer that was asked for.

Owns which fields of vLLM's make an answer checkable (token ids, the prompt's token ids, log-probabilities of
the chosen tokens), and their way out of bodies and events again: without what the client did not ask for, to
the byte what the engine writes when nobody asks. Must not know what evidence is worth or who keeps it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from cocoon_worker.engine.answers import unusable
from cocoon_worker.engine.base import (
    EngineAnswerError,
    EngineChunk,
    EngineIdentity,
    EngineKind,
    EngineResult,
    Evidence,
    Json,
)

_TokenId = Annotated[int, Meta(ge=0, lt=1 << 31)]
_IDS: Final = b'"token_ids":['
_PROMPT_IDS: Final = b'"prompt_token_ids":['
_LOGPROBS: Final = b'"logprobs":{'
_BEHIND_LOGPROBS: Final = b',"finish_reason":'
_NO_STEP: Final = b'"delta":{},'


class _Chosen(Struct, gc=False):
    logprob: float


class _Logprobs(Struct, gc=False):
    content: list[_Chosen] | None = None
    token_logprobs: list[float | None] | None = None


class _Choice(Struct, gc=False):
    finish_reason: str | None = None
    token_ids: list[_TokenId] | None = None
    prompt_token_ids: list[_TokenId] | None = None
    logprobs: _Logprobs | None = None


class _Answer(Struct, gc=False):
    choices: list[_Choice] = []
    prompt_token_ids: list[_TokenId] | None = None


_read: Final = msgspec.json.Decoder(_Answer).decode
_encode: Final = msgspec.json.Encoder().encode


class EvidenceTaker:
    """One generation's evidence; make it with the body that was checked, before `fields` are added.

    `step` takes an event of a stream and `last` its last one, `whole` a body.
    """

    __slots__ = ("_evidence", "_hide_ids", "_hide_logprobs", "fields")

    def __init__(self, kind: EngineKind, body: Json, maker: EngineIdentity) -> None:
        self._evidence = Evidence(maker)
        self._hide_ids = not body.get("return_token_ids")
        chat = kind is EngineKind.CHAT
        self._hide_logprobs = not body.get("logprobs") if chat else body.get("logprobs") is None
        self.fields: Json = {"return_token_ids": True}
        """What the engine is asked besides: the chosen tokens' log-probabilities, no others."""
        if self._hide_logprobs:
            self.fields |= {"logprobs": True, "top_logprobs": 0} if chat else {"logprobs": 0}

    def step(self, chunk: EngineChunk) -> EngineChunk | None:
        """Take one event's part out of it; None when the engine would not have sent it otherwise.

        Raises `EngineAnswerError` for evidence in another form.
        """
        data, prompt, cached, done, _, _ = chunk
        answer = self._take(data)
        alone = _NO_STEP in data and answer.choices[0].finish_reason is None
        if alone and self._hide_ids and self._hide_logprobs:
            return None  # it came for its token alone
        return EngineChunk(self._hidden(data, answer), prompt, cached, done, False, self._evidence)

    def last(self, chunk: EngineChunk) -> EngineChunk:
        """Return the last event, which has counts only, with all evidence. Raises `EngineAnswerError`."""
        return chunk._replace(evidence=self._complete(chunk.prompt_tokens, chunk.completion_tokens))

    def whole(self, result: EngineResult) -> EngineResult:
        """Take a whole answer's evidence out of it. Raises `EngineAnswerError`."""
        plain = self._hidden(result.raw, self._take(result.raw))
        usage = result.usage
        return EngineResult(plain, usage, self._complete(usage.prompt_tokens, usage.completion_tokens))

    def _take(self, data: bytes) -> _Answer:
        evidence = self._evidence
        try:
            answer = _read(data)
            choice = answer.choices[0]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IndexError) as error:
            raise unusable(f"its token ids have another form ({type(error).__name__})") from None
        if choice.token_ids:
            evidence.tokens += choice.token_ids
        if (logprobs := choice.logprobs) is not None:
            if logprobs.content is not None:
                evidence.logprobs += [chosen.logprob for chosen in logprobs.content]
            else:
                evidence.logprobs += [each for each in logprobs.token_logprobs or () if each is not None]
        if choice.finish_reason is not None:
            evidence.finish = choice.finish_reason
        if not evidence.prompt:
            evidence.prompt += answer.prompt_token_ids or choice.prompt_token_ids or ()
        return answer

    def _complete(self, prompt_tokens: int, completion_tokens: int) -> Evidence:
        evidence = self._evidence
        tokens = len(evidence.tokens)
        if (len(evidence.prompt), tokens, len(evidence.logprobs)) != (
            prompt_tokens,
            completion_tokens,
            completion_tokens,
        ):
            raise EngineAnswerError(
                "the engine's answer cannot be used",
                why=f"it counts {prompt_tokens} and {completion_tokens} tokens, and names "
                f"{len(evidence.prompt)} and {tokens} with {len(evidence.logprobs)} log-probabilities",
                hint="Verifiable offers need an engine that knows return_token_ids, as vLLM does.",
            )
        return evidence

    def _hidden(self, data: bytes, answer: _Answer) -> bytes:
        """Return the answer without what the client did not ask for."""
        choice = answer.choices[0]
        plain: bytes | None = data
        if self._hide_logprobs and choice.logprobs is not None:
            plain = _without(data, _LOGPROBS, b"}", _BEHIND_LOGPROBS)
        if self._hide_ids:
            if choice.token_ids is not None:
                plain = plain and _without(plain, _IDS, b"]")
            if (answer.prompt_token_ids or choice.prompt_token_ids) is not None:
                plain = plain and _without(plain, _PROMPT_IDS, b"]")
        return self._rewritten(data) if plain is None else plain

    def _rewritten(self, data: bytes) -> bytes:
        """Do the same to JSON that is spaced otherwise than vLLM's."""
        answer: Any = msgspec.json.decode(data)
        for part in (answer, answer["choices"][0]):
            if self._hide_ids:
                part |= {name: None for name in ("token_ids", "prompt_token_ids") if name in part}
            if self._hide_logprobs and "logprobs" in part:
                part["logprobs"] = None
        return _encode(answer)


def _without(data: bytes, key: bytes, close: bytes, behind: bytes = b"") -> bytes | None:
    """Put null for the value that begins with the last byte of `key`; None where JSON is written otherwise.

    It ends with the first `close` that `behind` follows. Neither key can stand in a text: quotes have a
    backslash there.
    """
    start = data.find(key) + len(key) - 1
    end = data.find(close + behind, start)
    if start < len(key) or end < 0:
        return None
    return b"".join((data[:start], b"null", data[end + 1 :]))
