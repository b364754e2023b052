"""Keeping freed memory in the process, for long runs on the CPU."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Let malloc reuse the memory of freed tensors instead of giving it back to the system; True where that worked.

    Otherwise each tensor of more than a few megabytes costs a page fault per 4 kB, which for wide layers over many
    voxels takes longer than the layer. It changes the whole process, so programs call it (training does), not imports.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
