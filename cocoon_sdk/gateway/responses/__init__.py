"""OpenAI's Responses API on top of chat completions: nothing is stored, so every request carries it all.

Owns the translation in both directions. Must not know HTTP, keys or workers.
"""

from cocoon_sdk.gateway.responses.answer import response_of_chat
from cocoon_sdk.gateway.responses.events import ResponseEvents
from cocoon_sdk.gateway.responses.request import ResponseRequest, translate

__all__ = ["ResponseEvents", "ResponseRequest", "response_of_chat", "translate"]
