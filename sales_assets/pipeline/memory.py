"""Memory allocator settings of a loading process."""

import ctypes
import functools

import pyarrow as pa

# glibc's numbers of its settings; their manual page is mallopt(3).
_M_ARENA_MAX = -8
_M_MMAP_THRESHOLD = -3
# Linux's, from prctl(2).
_PR_SET_THP_DISABLE = 41
# For `MALLOC_ARENA_MAX` as well, which glibc reads when a process starts.
ARENAS = 2
# Larger blocks go back to the system at once. From 128 KB on, as glibc has it at first, columns of each block of lines
# would: parsing a million lines took 3.1 s instead of 2.0, for 8 MB less.
_MMAP_BYTES = 1 << 20


@functools.cache
def share_one_pool() -> None:
    """Make Arrow use the system allocator, with small pages and few arenas. Once per process.

    Arrow's default allocator keeps what each thread has used: loading a million rows, of which at most 40 MB are held
    at a time, peaked at 395 MB, and at 290 MB with the system allocator.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    library = ctypes.CDLL(None)
    prctl = getattr(library, "prctl", None)
    if prctl is not None:
        # numpy asks for 2 MB pages, which are resident as soon as one byte is used: 10 MB.
        prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    mallopt = getattr(library, "mallopt", None)
    if mallopt is not None:  # glibc only; other C libraries share their arenas anyway
        mallopt(_M_ARENA_MAX, ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)


def give_back() -> None:
    """Return free memory to the system, between two stages that allocate different sizes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
