"""The two forms of a streamed answer: OpenAI's chunks as they come, and the events of a response.

Owns what is written before, for, and after each event of a worker. Must not know HTTP.
"""

from __future__ import annotations

from typing import Any, Protocol

from cocoon_sdk.client.sessions import Bill
from cocoon_sdk.gateway import answers
from cocoon_sdk.gateway.errors import Refusal
from cocoon_sdk.gateway.responses import ResponseEvents


class Billed(Protocol):
    """Something that costs; the bill is made when it is looked at."""

    @property
    def bill(self) -> Bill:
        """What was used and paid so far."""
        ...


class StreamForm(Protocol):
    """Makes the bytes of one stream."""

    def begin(self) -> bytes:
        """Return what comes before the first event."""
        ...

    def event(self, document: bytes, billed: Billed) -> bytes:
        """Return what one event of the worker becomes. Raises `MalformedError`."""
        ...

    def end(self, billed: Billed) -> bytes:
        """Return what ends a whole answer."""
        ...

    def failed(self, refusal: Refusal, billed: Billed) -> bytes:
        """Return what ends an answer that broke off."""
        ...


class ChunkForm:
    """Chat and text completions: the worker's own events under the model's public name, and `[DONE]`."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._renaming: tuple[bytes, bytes] | None = None
        self._first = True

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def event(self, document: bytes, billed: Billed) -> bytes:
        """Return the event; the one with the usage tells the cost too."""
        if self._first:
            self._first = False
            self._renaming = answers.renaming(document, self._model)
        if answers.states_usage(document):
            document, _ = answers.priced_event(document, billed.bill)
        if self._renaming is not None:
            document = document.replace(*self._renaming, 1)
        return b"data: " + document + b"\n\n"

    def end(self, billed: Billed) -> bytes:
        """Return what tells that nothing is missing."""
        return answers.DONE

    def failed(self, refusal: Refusal, billed: Billed) -> bytes:
        """Return the error as an event, which clients raise; no `[DONE]` follows."""
        return answers.event(refusal.body())


class ResponseForm:
    """The Responses API."""

    def __init__(self, events: ResponseEvents) -> None:
        self._events = events
        self._usage: dict[str, Any] | None = None

    def begin(self) -> bytes:
        """Return the events that open a response."""
        return self._events.begin()

    def event(self, document: bytes, billed: Billed) -> bytes:
        """Return the events that one event of the chat becomes; its usage is kept for the end."""
        if answers.states_usage(document):
            _, usage = answers.priced_event(document, billed.bill)
            self._usage = usage or self._usage
        return self._events.feed(document)

    def end(self, billed: Billed) -> bytes:
        """Return the events that end a response."""
        return self._events.finish(self._usage or answers.usage_of(None, billed.bill))

    def failed(self, refusal: Refusal, billed: Billed) -> bytes:
        """Return the events that end a response which broke off."""
        return self._events.fail(refusal, answers.usage_of(None, billed.bill))
