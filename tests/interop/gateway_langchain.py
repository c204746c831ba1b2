"""A LangChain chat model as a client of the gateway, unmodified: prints what it got as one JSON document.

Run by test_gateway_clients.py in the interop environment: `python gateway_langchain.py URL KEY MODEL`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


class City(BaseModel):
    """A city."""

    name: str
    people: int


async def main(url: str, key: str, model: str) -> dict[str, Any]:
    """Ask in every way that LangChain offers."""
    chat = ChatOpenAI(model=model, base_url=url, api_key=SecretStr(key), max_retries=0, stream_usage=True)
    asked = [SystemMessage("Be brief."), HumanMessage("one two three")]
    whole = await chat.ainvoke(asked)
    pieces = [piece async for piece in chat.astream(asked)]
    joined = pieces[0]
    for piece in pieces[1:]:
        joined += piece
    blocking = chat.invoke([HumanMessage("four five")])
    batch = await chat.abatch([[HumanMessage(f"number {number}")] for number in range(5)])
    chain = ChatPromptTemplate.from_messages([("user", "{words}")]) | chat | StrOutputParser()
    called = await chat.bind_tools([weather], tool_choice="required").ainvoke(asked)
    structured = await chat.with_structured_output(City, method="json_schema").ainvoke(asked)
    embeddings = OpenAIEmbeddings(
        model=model, base_url=url, api_key=SecretStr(key), check_embedding_ctx_length=False, max_retries=0
    )
    try:
        await chat.bind(temperature=-1).ainvoke(asked)
        refused = []
    except Exception as error:
        refused = [kind.__name__ for kind in type(error).__mro__]
    return {
        "whole": whole.content,
        "usage": [whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]],
        "streamed": joined.content,
        "pieces": len(pieces),
        "streamed_usage": [joined.usage_metadata["input_tokens"], joined.usage_metadata["output_tokens"]],
        "blocking": blocking.content,
        "batch": [each.content for each in batch],
        "chain": await chain.ainvoke({"words": "six seven"}),
        "tool": [each["name"] for each in called.tool_calls],
        "structured": structured.model_dump(),
        "embeddings": [len(each) for each in await embeddings.aembed_documents(["one two", "three"])],
        "refused": refused,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:4]))))
