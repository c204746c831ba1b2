"""The official openai client as it was a major version ago: prints what it got as one JSON document.

The newest one is tested in tests/scenarios/test_gateway.py. Run by test_gateway_clients.py in the interop
environment: `python gateway_openai.py URL KEY MODEL`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import openai


def blocking(url: str, key: str, model: str) -> dict[str, Any]:
    """Ask with the blocking client."""
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
    asked: Any = {"model": model, "messages": [{"role": "user", "content": "one two three"}]}
    whole = client.chat.completions.create(**asked)
    pieces = list(client.chat.completions.create(**asked, stream=True))
    response = client.responses.create(model=model, input="one two three")
    completion = client.completions.create(model=model, prompt="one two three", max_tokens=8)
    try:
        client.with_options(api_key="sk-nobody").chat.completions.create(**asked)
        refused = ""
    except openai.APIStatusError as error:
        refused = f"{type(error).__name__} {error.status_code}"
    return {
        "version": openai.__version__,
        "whole": whole.choices[0].message.content,
        "streamed": "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices),
        "response": response.output_text,
        "completion": completion.choices[0].text,
        "models": [each.id for each in client.models.list()],
        "embedding": len(client.embeddings.create(model=model, input="one").data[0].embedding),
        "refused": refused,
    }


async def concurrent(url: str, key: str, model: str) -> list[str]:
    """Stream several answers at once with the asynchronous client."""
    client = openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0)

    async def one(number: int) -> str:
        asked: Any = [{"role": "user", "content": f"number {number}"}]
        stream = await client.chat.completions.create(model=model, messages=asked, stream=True)
        return "".join([piece.choices[0].delta.content or "" async for piece in stream if piece.choices])

    return await asyncio.gather(*(one(number) for number in range(8)))


if __name__ == "__main__":
    given = sys.argv[1:4]
    print(json.dumps({**blocking(*given), "concurrent": asyncio.run(concurrent(*given))}))
