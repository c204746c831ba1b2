"""The parts of OpenAI's API that workers serve, as methods with the types of the `openai` package.

That package is imported at the first answer, so that importing this one stays cheap.
"""

from cocoon_sdk.client.openai.blocking import OpenAIResources, Stream
from cocoon_sdk.client.openai.resources import AsyncOpenAIResources, AsyncStream

__all__ = ["AsyncOpenAIResources", "AsyncStream", "OpenAIResources", "Stream"]
