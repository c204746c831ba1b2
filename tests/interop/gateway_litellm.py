"""LiteLLM as a client of the gateway, unmodified: prints what it got as one JSON document.

Run by test_gateway_clients.py in the interop environment: `python gateway_litellm.py URL KEY MODEL`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import litellm

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def main(url: str, key: str, model: str) -> dict[str, Any]:
    """Ask in every way that LiteLLM offers."""
    asked: dict[str, Any] = {
        "model": f"openai/{model}",
        "api_base": url,
        "api_key": key,
        "messages": [{"role": "user", "content": "one two three"}],
        "num_retries": 0,
    }
    whole = await litellm.acompletion(**asked)
    pieces = [chunk async for chunk in await litellm.acompletion(**asked, stream=True)]
    counted = [
        chunk
        async for chunk in await litellm.acompletion(
            **asked, stream=True, stream_options={"include_usage": True}
        )
    ]
    called = await litellm.acompletion(**asked, tools=[TOOL], tool_choice="required")
    embedded = await litellm.aembedding(
        model=f"openai/{model}", api_base=url, api_key=key, input=["one two", "three"]
    )
    errors = {}
    for name, wrong in (
        ("key", {"api_key": "sk-nobody"}),
        ("model", {"model": "openai/nobody/serves-this"}),
        ("request", {"messages": [{"role": "user", "content": "x"}], "temperature": -1}),
    ):
        try:
            await litellm.acompletion(**{**asked, **wrong})
        except Exception as error:
            errors[name] = type(error).__name__
    usage = [chunk.usage for chunk in counted if getattr(chunk, "usage", None)]
    return {
        "whole": whole.choices[0].message.content,
        "usage": [whole.usage.prompt_tokens, whole.usage.completion_tokens],
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in pieces),
        "pieces": len(pieces),
        "streamed_usage": [usage[-1].prompt_tokens, usage[-1].completion_tokens],
        "tool": called.choices[0].message.tool_calls[0].function.name,
        "arguments": json.loads(called.choices[0].message.tool_calls[0].function.arguments),
        "embeddings": [len(each["embedding"]) for each in embedded.data],
        "errors": errors,
    }


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    print(json.dumps(asyncio.run(main(*sys.argv[1:4]))))
