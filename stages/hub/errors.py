"""Errors of talking to the Hub: whose fault they are, whether another try may go better, and what to say of them."""

from __future__ import annotations

import re
from errno import EACCES, EDQUOT, EFBIG, EIO, EMFILE, ENOENT, ENOSPC, EROFS

from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from stages.console.errors import HubError
from stages.text.escape import for_terminal

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that another try may not meet."""
OF_THIS_DISK = (ENOSPC, EDQUOT, EFBIG, EROFS, EIO, EMFILE, ENOENT, EACCES)


class Unanswered(HubError):
    """The Hub could not be asked, or refused."""


def cause(e: BaseException) -> BaseException:
    """An upload's error comes wrapped."""
    while isinstance(e, RuntimeError) and e.__cause__:
        e = e.__cause__
    return e


def status(e: BaseException) -> int | None:
    """Of an answer of the Hub; None when there was none. The Xet client tells it in words alone."""
    if isinstance(e, HfHubHTTPError):
        return e.response.status_code if e.response is not None else None
    words = re.search(r"HTTP status (?:client|server) error \((\d{3})", str(e))
    return int(words[1]) if words else None


def is_of_xet(e: BaseException) -> bool:
    return not isinstance(e, HTTPError) and "xet" in f"{type(e).__module__} {e}".lower()


def is_of_this_disk(e: BaseException) -> bool:
    """A full disk, a file that is gone or may not be read: nothing that the Hub could have answered."""
    return isinstance(e, OSError) and not isinstance(e, HTTPError) and e.errno in OF_THIS_DISK


def is_retryable(e: BaseException) -> bool:
    e = cause(e)
    if is_of_this_disk(e) or isinstance(e, OfflineModeIsEnabled):
        return False
    code = status(e)
    return code in TRANSIENT if code else isinstance(e, (HTTPError, OSError)) and not isinstance(e, HfHubHTTPError)


def explain(e: BaseException, repository: str, endpoint: str, token: str | None) -> str:
    """One sentence for a failed request: whose fault it is, and what to type next; the token never stands in it."""
    e = cause(e)
    text = str(e).replace(token, "***") if token else str(e)
    text = " ".join(for_terminal(line) for line in text.split("\n"))[:300].strip()
    again = "Readers see nothing half-published; run the same command again"
    if is_of_this_disk(e):
        return f"this computer's disk, not the Hub: {text}. {again}"
    code = status(e)
    if isinstance(e, OfflineModeIsEnabled):
        return "the Hub client is offline. Type: unset HF_HUB_OFFLINE"
    if is_of_xet(e) and code not in (401, 403, *TRANSIENT):
        return (
            f"{endpoint} did not accept an upload over Xet ({text}). If it has no Xet storage, type: "
            f"export HF_HUB_DISABLE_XET=1, then run the same command again"
        )
    if isinstance(e, RepositoryNotFoundError):
        return f"{repository} is not on {endpoint}, or this token may not see it"
    if isinstance(e, EntryNotFoundError) and code:
        return f"{repository} has no such file: {text}"
    match code:
        case 401:
            return f"the Hub does not accept this token ({text}). Log in again: hf auth login"
        case 403:
            return (
                f"no permission to write {repository} with this token ({text}). Ask its owner, or choose another "
                f"--repo; `hf auth whoami` shows where you may write"
            )
        case 413:
            return f"the Hub finds a file of {repository} too large ({text})"
        case int() if code not in TRANSIENT:
            return f"the Hub refuses ({code}: {text})"
    return f"unexpected response from {endpoint} ({type(e).__name__}: {text}). {again}"
