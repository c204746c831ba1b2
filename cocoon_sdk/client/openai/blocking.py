"""The same methods without `await`: `Cocoon.chat`, `.completions`, `.embeddings` and `.openai.models`.

Owns no logic of its own. A stream is read on the client's loop, and handed over in whatever portions are
there.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from cocoon_sdk.client.blocking import Blocking, LoopThread, blocking
from cocoon_sdk.client.openai.requests import as_type
from cocoon_sdk.client.openai.resources import (
    AsyncChat,
    AsyncChatCompletions,
    AsyncCompletions,
    AsyncEmbeddings,
    AsyncOpenAIResources,
    AsyncServedModels,
    AsyncStream,
)
from cocoon_sdk.client.sessions.values import Bill

if TYPE_CHECKING:
    from typing import Unpack

    from openai.pagination import SyncPage
    from openai.types import Completion, Model
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    from cocoon_sdk.client.openai import params

T = TypeVar("T")


class Stream(Generic[T]):
    """The events of one answer; see `AsyncStream`."""

    def __init__(self, inner: AsyncStream[T], thread: LoopThread) -> None:
        self._inner, self._thread = inner, thread
        self._there: deque[T] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """Return the next event."""
        if not self._there:
            self._there.extend(self._thread.run(self._inner.some()))
            if not self._there:
                raise StopIteration
        return self._there.popleft()

    @property
    def bill(self) -> Bill:
        """What it used and costs so far."""
        return self._inner.bill

    def close(self) -> None:
        """Stop the answer at the worker."""
        self._there.clear()
        self._thread.run(self._inner.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ChatCompletions(Blocking[AsyncChatCompletions]):
    """Chats; see `AsyncChatCompletions`."""

    @overload
    def create(self, **arguments: Unpack[params.ChatStreamParams]) -> Stream[ChatCompletionChunk]: ...
    @overload
    def create(self, **arguments: Unpack[params.ChatParams]) -> ChatCompletion: ...

    def create(self, **arguments: Any) -> Any:
        """Answer a chat; see `AsyncChatCompletions.create`."""
        answer = self._thread.run(self._inner.create(**arguments))
        return Stream(answer, self._thread) if isinstance(answer, AsyncStream) else answer


class Chat(Blocking[AsyncChat]):
    """Get it as `Cocoon.chat`."""

    def __init__(self, inner: AsyncChat, thread: LoopThread) -> None:
        super().__init__(inner, thread)
        self.completions = ChatCompletions(inner.completions, thread)


class Completions(Blocking[AsyncCompletions]):
    """Completions of plain text; see `AsyncCompletions`."""

    @overload
    def create(self, **arguments: Unpack[params.CompletionStreamParams]) -> Stream[Completion]: ...
    @overload
    def create(self, **arguments: Unpack[params.CompletionParams]) -> Completion: ...

    def create(self, **arguments: Any) -> Any:
        """Complete a text; see `AsyncCompletions.create`."""
        answer = self._thread.run(self._inner.create(**arguments))
        return Stream(answer, self._thread) if isinstance(answer, AsyncStream) else answer


class Embeddings(Blocking[AsyncEmbeddings]):
    """Embeddings; see `AsyncEmbeddings`."""

    create = blocking(AsyncEmbeddings.create)


class ServedModels(Blocking[AsyncServedModels]):
    """The models that workers serve now; see `AsyncServedModels`."""

    def list(self) -> SyncPage[Model]:
        """Return the models by name: as `openai.resources.Models.list`."""
        from openai.pagination import SyncPage
        from openai.types import Model

        return as_type(SyncPage[Model], self._thread.run(self._inner.listed()))


class OpenAIResources:
    """OpenAI's methods; get it as `Cocoon.openai`."""

    def __init__(self, inner: AsyncOpenAIResources, thread: LoopThread) -> None:
        self.chat = Chat(inner.chat, thread)
        self.completions = Completions(inner.completions, thread)
        self.embeddings = Embeddings(inner.embeddings, thread)
        self.models = ServedModels(inner.models, thread)
