"""Memory that a process keeps for its next tensor."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Of glibc's mallopt."""


def keep_freed_memory() -> None:
    """Large blocks come from the heap and stay there: by default glibc maps each anew and gives it back, and the kernel
    clears its pages at every step of a training or a decoding. Does nothing where there is no glibc."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no mallopt
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 * 2**20)):
                mallopt(option, value)
