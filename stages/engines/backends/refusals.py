"""What the refusals of servers that speak OpenAI's API say, each in its own words: whether another try may go better,
and what may be asked instead."""

from __future__ import annotations

import re
from typing import Any

from openai import APIConnectionError, APIStatusError
from tenacity import RetryCallState

from stages.engines.backends.server import BadAnswer

LONGEST_RETRY_AFTER_S = 60.0
NO_TEXT = re.compile(
    r"context[ _](length|size|window)|maximum model length|too many tokens|content_(filter|policy_violation)",
    re.IGNORECASE,
)
NO_N = re.compile(
    r"(?<![\\\w])n\b|(?i:\bn_(cmpl|choices)\b|(only (one|1)|multi|multiple|number of)[ -](completion "
    r")?(choice|candidate|completion))"
)
"""A `n` that stands alone, or several completions in words; a backslash before it is half of a quoted line break."""
LIMIT = re.compile(r"context length (?:is|of)(?: only)? (\d+)", re.IGNORECASE)
PROMPT = re.compile(
    r"(\d+) (?:input tokens|tokens from the input|of text input|in (?:the messages|your prompt))", re.IGNORECASE
)
"""As vLLM, SGLang, OpenAI and OpenRouter say it."""


def words(e: APIStatusError) -> str:
    """What the server says, wherever it says it."""
    body: Any = e.body
    return str(body.get("message") or body.get("detail") or body) if isinstance(body, dict) else str(body or "nothing")


def is_retryable(e: BaseException) -> bool:
    """Whether another try may go better. 409: something else was at work on it."""
    if isinstance(e, APIStatusError):
        return (e.status_code in (408, 409, 429) or e.status_code >= 500) and "insufficient_quota" not in (
            e.code,
            e.type,
        )
    return isinstance(e, (APIConnectionError, BadAnswer, TimeoutError))


def retry_after(state: RetryCallState) -> float:
    """Seconds that the server asks to wait, within bounds; 0 when it asks nothing."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.response.headers.get("retry-after", "") if isinstance(error, APIStatusError) else ""
    return min(float(asked), LONGEST_RETRY_AFTER_S) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", asked) else 0.0


def refuses_n(e: BaseException) -> bool:
    """Whether it is several completions of one call that are refused: by Groq, Gemini and others; by llama.cpp with
    500."""
    return (
        isinstance(e, APIStatusError)
        and (e.status_code in (400, 422) or e.status_code >= 500)
        and bool(NO_N.search(_reason(e)))
    )


def no_text(e: APIStatusError) -> bool:
    """Whether it is the prompt's fate and would come again: it fills the context, or a hosted filter will not have
    it."""
    return e.status_code in (400, 413, 422) and bool(NO_TEXT.search(_reason(e)))


def told_context(e: APIStatusError) -> tuple[int, int]:
    """The tokens of the server's context, and those of the prompt that is refused; 0, 0 where not both are told."""
    limit, prompt = LIMIT.search(_reason(e)), PROMPT.search(_reason(e))
    return (int(limit[1]), int(prompt[1])) if limit and prompt else (0, 0)


def _reason(e: APIStatusError) -> str:
    """The names that the API has for it, and the first words, which may quote the prompt further on."""
    return f"{e.code} {e.type} {e.param} {words(e)[:300]}"
