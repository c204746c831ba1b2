"""The routes that ask workers: chats, completions, embeddings and responses.

Owns the way of one request through the gateway: read, admit, ask, write, charge. Must not know sessions or
chain. A stream's headers are sent with its first piece, so that what fails before has its own status.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from aiohttp import web

from cocoon_sdk.client.sessions import CHAT, COMPLETION, EMBEDDING, Bill, InferenceRequest
from cocoon_sdk.clock import Clock
from cocoon_sdk.gateway import answers
from cocoon_sdk.gateway.config import GatewayConfig
from cocoon_sdk.gateway.errors import Refusal
from cocoon_sdk.gateway.forms import ChunkForm, ResponseForm, StreamForm
from cocoon_sdk.gateway.gate import Gate, Ticket
from cocoon_sdk.gateway.incoming import Incoming
from cocoon_sdk.gateway.inference import AnswerStream, Inference
from cocoon_sdk.gateway.outgoing import EventWriter, json_response
from cocoon_sdk.gateway.requests import Prepared, encode, prepare, read_fields
from cocoon_sdk.gateway.responses import ResponseEvents, response_of_chat, translate

Watch = Callable[[BaseException], Refusal]
"""Counts and logs what failed, and returns what the client is told."""
_ID_BYTES: Final = 16


class InferenceHandlers:
    """Serves the routes under /v1 that cost money."""

    def __init__(
        self,
        inference: Inference,
        gate: Gate,
        incoming: Incoming,
        config: GatewayConfig,
        clock: Clock,
        watch: Watch,
    ) -> None:
        self._inference, self._gate, self._incoming = inference, gate, incoming
        self._config, self._clock, self._watch = config, clock, watch
        self._leaving: set[asyncio.Future[None]] = set()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        return await self._plain(request, CHAT)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        return await self._plain(request, COMPLETION)

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/embeddings."""
        return await self._plain(request, EMBEDDING)

    async def responses(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/responses."""
        place = self._gate.enter(await self._incoming.key(request))
        try:
            asked = translate(await self._incoming.body(request))
            prepared = Prepared(CHAT, asked.model, encode(asked.chat), asked.stream)
            ticket = await self._gate.admit(place, prepared)
            response_id, created = f"resp_{os.urandom(_ID_BYTES).hex()}", self._clock.now()
            if asked.stream:
                events = ResponseEvents(asked, response_id, created)
                return await self._stream(request, prepared, ticket, ResponseForm(events))
            body, bill = await self._answer(prepared, ticket)
            stated = answers.stated_usage(read_fields(body))
            usage = answers.usage_of(stated, bill)
            return json_response(encode(response_of_chat(asked, response_id, created, body, usage)), bill)
        finally:
            place.leave()

    # -- one request ---------------------------------------------------------------------------------------

    async def _plain(self, request: web.Request, kind: str) -> web.StreamResponse:
        place = self._gate.enter(await self._incoming.key(request))
        try:
            prepared = prepare(kind, read_fields(await self._incoming.body(request)))
            ticket = await self._gate.admit(place, prepared)
            if prepared.stream:
                return await self._stream(request, prepared, ticket, ChunkForm(prepared.model))
            body, bill = await self._answer(prepared, ticket)
            if kind == EMBEDDING:
                body = answers.vectors_as(body, as_base64=prepared.as_base64)
            return json_response(answers.priced_body(body, bill, prepared.model), bill)
        finally:
            place.leave()

    def _question(self, prepared: Prepared, ticket: Ticket) -> InferenceRequest:
        return InferenceRequest(
            kind=prepared.kind,
            model=prepared.model,
            body=prepared.body,
            stream=prepared.stream,
            max_price=ticket.max_price,
            timeout_s=self._config.request_timeout_s,
        )

    async def _answer(self, prepared: Prepared, ticket: Ticket) -> tuple[bytes, Bill]:
        # The key is charged with the final bill, which comes last of all when the client leaves early.
        return await self._inference.answer(self._question(prepared, ticket), on_bill=ticket.settle)

    async def _stream(
        self, request: web.Request, prepared: Prepared, ticket: Ticket, form: StreamForm
    ) -> web.StreamResponse:
        stream = self._inference.stream(self._question(prepared, ticket))
        writer, whole = EventWriter(request, self._config.write_timeout_s), False
        try:
            try:
                async for document in stream:
                    if writer.response is None:
                        ticket.first_piece()
                        await writer.open(form.begin())
                    data = form.event(document, stream)
                    if more := stream.ready():  # what came together leaves together
                        data += b"".join([form.event(each, stream) for each in more])
                    await writer.write(data)
                whole = True
                if writer.response is None:
                    await writer.open(form.begin())
            except Exception as error:
                if writer.response is None or writer.lost:
                    raise
                # The status is sent already: the reason is the last event.
                last = form.failed(self._watch(error), stream)
            else:
                last = form.end(stream)
            return await writer.close(last)
        finally:
            if whole:
                ticket.settle(stream.bill)
            else:
                # In a task of its own: who leaves is cancelled, perhaps only now; the last count must come.
                leaving = asyncio.ensure_future(_leave(stream, ticket))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
                await asyncio.shield(leaving)


async def _leave(stream: AnswerStream, ticket: Ticket) -> None:
    """End a stream and charge its key."""
    try:
        await stream.aclose()
    finally:
        ticket.settle(stream.bill)
