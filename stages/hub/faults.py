"""Errors of talking to the Hub: whose fault they are, and whether another try may go better."""

from __future__ import annotations

from errno import EACCES, EDQUOT, EFBIG, EIO, EMFILE, ENOENT, ENOSPC, EROFS

from huggingface_hub.errors import HfHubHTTPError, HTTPError

PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that another try may not meet."""


def status(e: BaseException) -> int | None:
    """Of an answer of the Hub; None when there was none."""
    return e.response.status_code if isinstance(e, HfHubHTTPError) and e.response is not None else None


def of_this_disk(e: BaseException) -> bool:
    """A full disk, a file that is gone or may not be read: nothing that the Hub could have said."""
    return (
        isinstance(e, OSError)
        and not isinstance(e, HTTPError)
        and e.errno in (ENOSPC, EDQUOT, EFBIG, EROFS, EIO, EMFILE, ENOENT, EACCES)
    )


def is_retryable(e: BaseException) -> bool:
    while isinstance(e, RuntimeError) and e.__cause__:
        e = e.__cause__
    if of_this_disk(e):
        return False
    code = status(e)
    return code in PASSING if code else isinstance(e, (HTTPError, OSError)) and not isinstance(e, HfHubHTTPError)
