"""How many output tokens a job asks for when the caller did not say."""

from __future__ import annotations

from cocoon_sdk.client.planning import DEFAULT_OUTPUT_TOKENS, JobRequest, normalise

MESSAGES = [{"role": "user", "content": "hi"}]


def request(**changes: int | None) -> JobRequest:
    return normalise(None, MESSAGES, None, changes.get("max_output_tokens"), None)


def test_client_can_use_a_worker_with_a_low_limit_when_it_did_not_ask_for_more() -> None:
    fitted = request().within(512)
    assert (fitted.max_output_tokens, fitted.body["max_tokens"]) == (512, 512)


def test_client_cannot_lose_tokens_that_it_asked_for() -> None:
    assert request(max_output_tokens=1024).within(512).max_output_tokens == 1024


def test_a_high_limit_does_not_raise_the_default() -> None:
    assert request().within(100_000).max_output_tokens == DEFAULT_OUTPUT_TOKENS
