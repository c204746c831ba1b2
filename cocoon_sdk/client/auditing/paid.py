"""A second worker as the verifier: what is asked of a vLLM endpoint, asked of it in a paid session instead.

Owns the translation: tokenizing becomes a request that makes one token and tells its prompt's, re-scoring a
completion of given tokens with their log-probabilities, and the text of tokens is what that said about each.
Must not know what is made of the answers, or how a worker is chosen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any, Final, Protocol

import msgspec
from msgspec import Meta, Struct

from cocoon_sdk.client.discovery import WorkerOffer
from cocoon_sdk.client.sessions.errors import RequestRefusedError
from cocoon_sdk.client.sessions.values import CHAT, COMPLETION, Bill, InferenceRequest
from cocoon_sdk.errors import CocoonError, MalformedError
from cocoon_sdk.protocol.session_wire import MAX_BODY_BYTES
from cocoon_sdk.types import Nano
from cocoon_sdk.verify.endpoint import (
    VerifierAnswerError,
    VerifierRefusedError,
    VerifierUnavailableError,
)

MOST_TOP: Final = 20
"""Most tokens per position that workers serve."""
_BYTES_PER_ENTRY: Final = 100
"""What a token with its log-probability, rank and text takes in JSON, on average."""
_ANSWER_BYTES: Final = 16 * 1024


class _Entry(Struct, gc=False):
    decoded_token: str | None = None


class _Scored(Struct, gc=False):
    prompt_logprobs: list[dict[int, _Entry] | None] | None = None


class _Scores(Struct, gc=False):
    choices: Annotated[list[_Scored], Meta(min_length=1)]


_read_scored: Final = msgspec.json.Decoder(_Scores).decode
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Asker(Protocol):
    """Who sends a request to workers (`InferenceClient.answer`)."""

    def __call__(
        self,
        request: InferenceRequest,
        *,
        on_bill: Callable[[Bill], None] | None = None,
        among: Callable[[WorkerOffer], bool] | None = None,
    ) -> Awaitable[tuple[bytes, Bill]]:
        """Return the whole body and the bill."""
        ...


def top_that_fits(tokens: int) -> int:
    """Return how many tokens per position fit into one answer for so many positions, 0 when not even one."""
    return max(0, min(MOST_TOP, (MAX_BODY_BYTES - _ANSWER_BYTES) // (tokens * _BYTES_PER_ENTRY) - 1))


class WorkerEndpoint:
    """One worker in place of a vLLM endpoint; `cost` is what it was paid so far, in nanoTON.

    `timeout_s` is for one request. It may cost at most `most` in all.
    """

    def __init__(self, ask: Asker, offer: WorkerOffer, *, most: Nano, timeout_s: float) -> None:
        self._ask, self._offer, self._most, self._timeout_s = ask, offer, most, timeout_s
        self.cost = Nano(0)
        self._told: dict[bytes, bytes] = {}
        self._scored: list[tuple[list[int], list[str | None]]] = []

    @property
    def host(self) -> str:
        """Who it is, fit to be shown."""
        return f"worker {self._offer.address.to_str()}"

    async def close(self) -> None:
        """Nothing is open here: links are their pool's."""

    async def post(self, path: str, body: dict[str, Any], *, max_bytes: int) -> bytes:
        """Answer like `cocoon_sdk.verify.endpoint.Endpoint.post`, and raise what that raises."""
        if path == "tokenize":
            return await self._tokenized(body)
        if path == "v1/completions":
            raw = await self._answer(COMPLETION, body, max_bytes)
            self._note_texts(raw, body["prompt"])
            return raw
        return self._text(body["tokens"])

    def _note_texts(self, raw: bytes, tokens: list[int]) -> None:
        """Keep what the scored tokens are as text, each at its place: what one says hangs on those before.

        Whoever reads the rest looks at its form.
        """
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            rows = _read_scored(raw).choices[0].prompt_logprobs or ()
            entries = [(row or {}).get(token) for token, row in zip(tokens, rows, strict=False)]
            self._scored.append((tokens, [None if each is None else each.decoded_token for each in entries]))

    def _text(self, tokens: list[int]) -> bytes:
        for scored, texts in self._scored:
            for end in (len(scored), len(scored) - 1):
                start = max(0, end - len(tokens))
                found = texts[start:end]
                if scored[start:end] == tokens and len(found) == len(tokens) and None not in found:
                    return _encode({"prompt": "".join(text or "" for text in found)})
        raise VerifierRefusedError(f"{self.host} cannot be asked that", answer="not every token has a text")

    async def _tokenized(self, question: dict[str, Any]) -> bytes:
        asked = _encode(question)
        if asked in self._told:  # it is paid for
            return self._told[asked]
        kind = CHAT if "messages" in question else COMPLETION
        body = {**question, "max_tokens": 1, "temperature": 0, "return_token_ids": True}
        if question.get("tools"):
            body["tool_choice"] = "none"
        raw = await self._answer(kind, body, MAX_BODY_BYTES)
        try:
            answer = _decode(raw)
            tokens = answer.get("prompt_token_ids") or answer["choices"][0].get("prompt_token_ids")
        except (msgspec.MsgspecError, UnicodeDecodeError, AttributeError, LookupError, TypeError):
            tokens = None
        if not isinstance(tokens, list):
            raise VerifierAnswerError(
                "the verifier's answer cannot be used", why="it does not tell the prompt's tokens"
            )
        found = self._told[asked] = _encode({"tokens": tokens})
        return found

    async def _answer(self, kind: str, body: dict[str, Any], max_bytes: int) -> bytes:
        offer = self._offer
        request = InferenceRequest(
            kind=kind,
            model=bytes(offer.model.model_id).hex(),
            body=_encode({**body, "model": offer.offer.model}),
            stream=False,
            max_price=self._most - self.cost,
            timeout_s=self._timeout_s,
        )
        try:
            raw, _ = await self._ask(
                request, on_bill=self._paid, among=lambda other: other.address == offer.address
            )
        except MalformedError as error:
            raise VerifierAnswerError("the verifier's answer cannot be used", why=str(error)) from None
        except RequestRefusedError as error:
            raise VerifierRefusedError(f"{self.host} refused the request", answer=str(error)) from None
        except CocoonError as error:
            raise VerifierUnavailableError(f"{self.host} did not help", why=str(error)) from None
        if len(raw) > max_bytes:
            raise VerifierAnswerError(
                "the verifier's answer cannot be used", why=f"it is longer than {max_bytes} bytes"
            )
        return raw

    def _paid(self, bill: Bill) -> None:
        self.cost += bill.cost
