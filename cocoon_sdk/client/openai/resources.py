"""`AsyncCocoon.chat`, `.completions`, `.embeddings` and `.openai.models`: OpenAI's methods over sessions.

Owns the methods and their streams. Must not know workers or sessions. Errors are ours (`CocoonError`): they
say more about who failed, and what to do, than HTTP statuses could.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from cocoon_sdk.client.openai.requests import as_type, make_request, read_body
from cocoon_sdk.client.sessions.answers.events import usage_with_cost
from cocoon_sdk.client.sessions.answers.inference import InferenceClient, InferenceStream
from cocoon_sdk.client.sessions.values import CHAT, COMPLETION, EMBEDDING, Bill, InferenceRequest

if TYPE_CHECKING:
    from typing import Unpack

    from openai.pagination import AsyncPage
    from openai.types import Completion, CreateEmbeddingResponse, Model
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    from cocoon_sdk.client.openai import params

T = TypeVar("T")


class AsyncStream(Generic[T]):
    """The events of one answer, in OpenAI's types. `bill` tells what it costs so far, and who answers.

    Leaving early (`close`, or the end of `async with`) stops the worker.
    """

    def __init__(self, stream: InferenceStream, read: Callable[[dict[str, Any]], T]) -> None:
        self._stream, self._read = stream, read
        self._first: bytes | None = None

    async def begin(self) -> Self:
        """Wait for the first event, so that what stands in the way is raised here."""
        try:
            self._first = await anext(self._stream, None)
        except BaseException:
            await self._stream.aclose()
            raise
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Return the next event."""
        event, self._first = self._first, None
        return self._read(read_body(await anext(self._stream) if event is None else event))

    async def some(self) -> list[T]:
        """Return the events that are there, at least one; none after the last one."""
        first = await anext(self, None)
        if first is None:
            return []
        return [first, *(self._read(read_body(event)) for event in self._stream.ready())]

    @property
    def bill(self) -> Bill:
        """What it used and costs so far."""
        return self._stream.bill

    async def close(self) -> None:
        """Stop the answer at the worker."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncChatCompletions:
    """Chats; get it as `AsyncCocoon.chat.completions`."""

    def __init__(self, inference: InferenceClient) -> None:
        self._inference = inference

    @overload
    async def create(
        self, **arguments: Unpack[params.ChatStreamParams]
    ) -> AsyncStream[ChatCompletionChunk]: ...
    @overload
    async def create(self, **arguments: Unpack[params.ChatParams]) -> ChatCompletion: ...

    async def create(self, **arguments: Any) -> Any:
        """Answer a chat: as `openai.resources.chat.Completions.create`, and `max_price` in nanoTON.

        `usage.cost` says what it cost. Raises what `InferenceClient.answer` raises.
        """
        from openai.types.chat import ChatCompletion, ChatCompletionChunk

        request = make_request(CHAT, arguments)
        if request.stream:
            stream = self._inference.stream(request)
            return await AsyncStream(stream, lambda event: as_type(ChatCompletionChunk, event)).begin()
        return as_type(ChatCompletion, await _answer(self._inference, request))


class AsyncChat:
    """Get it as `AsyncCocoon.chat`."""

    def __init__(self, inference: InferenceClient) -> None:
        self.completions = AsyncChatCompletions(inference)


class AsyncCompletions:
    """Completions of plain text; get it as `AsyncCocoon.completions`."""

    def __init__(self, inference: InferenceClient) -> None:
        self._inference = inference

    @overload
    async def create(self, **arguments: Unpack[params.CompletionStreamParams]) -> AsyncStream[Completion]: ...
    @overload
    async def create(self, **arguments: Unpack[params.CompletionParams]) -> Completion: ...

    async def create(self, **arguments: Any) -> Any:
        """Complete a text: as `openai.resources.Completions.create`, and `max_price` in nanoTON."""
        from openai.types import Completion

        request = make_request(COMPLETION, arguments)
        if request.stream:
            stream = self._inference.stream(request)
            return await AsyncStream(stream, lambda event: as_type(Completion, event)).begin()
        return as_type(Completion, await _answer(self._inference, request))


class AsyncEmbeddings:
    """Embeddings; get it as `AsyncCocoon.embeddings`."""

    def __init__(self, inference: InferenceClient) -> None:
        self._inference = inference

    async def create(self, **arguments: Unpack[params.EmbeddingParams]) -> CreateEmbeddingResponse:
        """Embed texts: as `openai.resources.Embeddings.create`, and `max_price` in nanoTON."""
        from openai.types import CreateEmbeddingResponse

        content = await _answer(self._inference, make_request(EMBEDDING, arguments))
        content["usage"].pop("completion_tokens", None)
        return as_type(CreateEmbeddingResponse, content)


class AsyncServedModels:
    """The models that workers serve now; get it as `AsyncCocoon.openai.models`."""

    def __init__(self, inference: InferenceClient) -> None:
        self._inference = inference

    async def list(self) -> AsyncPage[Model]:
        """Return the models by name: as `openai.resources.Models.list`."""
        from openai.pagination import AsyncPage
        from openai.types import Model

        return as_type(AsyncPage[Model], await self.listed())

    async def listed(self) -> dict[str, Any]:
        """Return the same as plain values."""
        served = await self._inference.models()
        data = [
            {"id": each.name, "object": "model", "created": each.announced_at, "owned_by": "cocoon"}
            for each in served
        ]
        return {"object": "list", "data": data}


class AsyncOpenAIResources:
    """OpenAI's methods; get it as `AsyncCocoon.openai`."""

    def __init__(self, inference: InferenceClient) -> None:
        self.chat = AsyncChat(inference)
        self.completions = AsyncCompletions(inference)
        self.embeddings = AsyncEmbeddings(inference)
        self.models = AsyncServedModels(inference)


async def _answer(inference: InferenceClient, request: InferenceRequest) -> dict[str, Any]:
    body, bill = await inference.answer(request)
    content = read_body(body)
    usage = content.get("usage")
    content["usage"] = usage_with_cost(usage if isinstance(usage, dict) else None, bill)
    return content
