"""Errors of talking to the Hub: whether another try may go better, and what to say of them."""

from __future__ import annotations

import re

from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

from stages.console.errors import HubError
from stages.text.escape import for_terminal

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that another try may not meet."""
ADVICE = {
    401: "the Hub does not accept this token. Log in again: hf auth login",
    403: "no permission to write {} with this token. Ask its owner, or choose another --repo (see: hf auth whoami)",
}


class Unanswered(HubError):
    """The Hub could not be asked, or refused."""


def cause(e: BaseException) -> BaseException:
    """An upload's error comes wrapped."""
    while isinstance(e, RuntimeError) and e.__cause__:
        e = e.__cause__
    return e


def status(e: BaseException) -> int | None:
    """Of an answer of the Hub; None when there was none. The Xet client has it in its message alone."""
    if isinstance(e, HfHubHTTPError):
        return e.response.status_code if e.response is not None else None
    words = re.search(r"HTTP status (?:client|server) error \((\d{3})", str(e))
    return int(words[1]) if words else None


def is_of_this_disk(e: BaseException) -> bool:
    """A full disk, or a file that is gone or cannot be read."""
    return isinstance(e, OSError) and bool(e.errno) and not isinstance(e, (HTTPError, ConnectionError, TimeoutError))


def is_retryable(e: BaseException) -> bool:
    e = cause(e)
    if is_of_this_disk(e) or isinstance(e, OfflineModeIsEnabled):
        return False
    code = status(e)
    return code in TRANSIENT if code else isinstance(e, (HTTPError, OSError)) and not isinstance(e, HfHubHTTPError)


def explain(e: BaseException, repository: str, endpoint: str, token: str | None) -> str:
    """One sentence for a failed request, with the Hub's own words but for the token, and what to type next."""
    e, code = cause(e), status(cause(e))
    text = str(e).replace(token, "***") if token else str(e)
    text = " ".join(for_terminal(line) for line in text.split("\n"))[:300].strip()
    again = "Readers see nothing half-published; run the same command again"
    if is_of_this_disk(e):
        return f"this computer's disk, not the Hub: {text}. {again}"
    if code in ADVICE:
        return f"{ADVICE[code].format(repository)} ({text})"
    if code not in TRANSIENT and "xet" in f"{type(e).__module__} {text}".lower() and not isinstance(e, HTTPError):
        return (
            f"{endpoint} did not accept an upload over Xet ({text}). If it has no Xet storage, type: "
            f"export HF_HUB_DISABLE_XET=1, then run the same command again"
        )
    if code and code not in TRANSIENT:
        return f"{endpoint} refuses a request for {repository} ({code}: {text})"
    return f"unexpected response from {endpoint} ({type(e).__name__}: {text}). {again}"
