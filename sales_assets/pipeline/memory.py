"""Memory allocator settings of a loading process."""

import ctypes
import functools

import pyarrow as pa

# Parameter numbers of glibc, see mallopt(3).
_M_ARENA_MAX = -8
_M_MMAP_THRESHOLD = -3
# Option of Linux, see prctl(2).
_PR_SET_THP_DISABLE = 41
# Also the value of `MALLOC_ARENA_MAX`, which glibc reads at process start.
ARENAS = 2
# Larger blocks are returned to the system at once. With glibc's default of 128 KB this would affect the columns of each
# block of lines: parsing a million lines took 3.1 s instead of 2.0 and saved 8 MB.
_MMAP_BYTES = 1 << 20


@functools.cache
def share_one_pool() -> None:
    """Make Arrow use the system allocator, with small pages and few arenas. Call once per process.

    Arrow's default allocator retains memory per thread: loading a million rows, at most 40 MB of them at a time, peaked
    at 395 MB, with the system allocator at 290 MB.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    library = ctypes.CDLL(None)
    prctl = getattr(library, "prctl", None)
    if prctl is not None:
        # numpy requests 2 MB pages, which are resident once one byte is used: this took 10 MB more.
        prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    mallopt = getattr(library, "mallopt", None)
    if mallopt is not None:  # glibc only; other C libraries share their arenas anyway
        mallopt(_M_ARENA_MAX, ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)


def release_memory() -> None:
    """Return free memory to the system, between two stages that allocate different sizes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
