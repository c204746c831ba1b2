"""What the methods take: OpenAI's own parameters, and three of ours. For type checkers only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming as ChatNonStreaming,
)
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as ChatStreaming
from openai.types.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from openai.types.embedding_create_params import EmbeddingCreateParams

from cocoon_sdk.types import Nano


class Extras(TypedDict, total=False):
    """`extra_body` adds fields that engines know and OpenAI does not; `timeout` is in seconds, over all
    attempts; `max_price` is what the answer may cost at most, in nanoTON.
    """

    extra_body: Mapping[str, Any] | None
    timeout: float | None
    max_price: Nano | None


class ChatParams(ChatNonStreaming, Extras, total=False):
    """A chat."""


class ChatStreamParams(ChatStreaming, Extras, total=False):
    """A chat, streamed."""


class CompletionParams(CompletionCreateParamsNonStreaming, Extras, total=False):
    """A completion."""


class CompletionStreamParams(CompletionCreateParamsStreaming, Extras, total=False):
    """A completion, streamed."""


class EmbeddingParams(EmbeddingCreateParams, Extras, total=False):
    """Embeddings."""
