"""How the process of a load gets and gives back memory: one pool for all, which shrinks again.

Belongs here: what allocators are told, with what it came to. Does not belong here: what is held in memory.
"""

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
# Blocks of lines are larger and go back to the system at once; the many small things are kept.
_MMAP_BYTES = 1 << 17


@functools.cache
def share_one_pool() -> None:
    """Let Arrow take its memory where everything else does, in small pages, and let threads share it. Once per process.

    Arrow's own allocator keeps what each thread has used: loading a million lines, of which never more than 40 MB are
    held, it stood at 395 MB, and 290 MB with the system's. Nothing is slower by it.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    library = ctypes.CDLL(None)
    prctl = getattr(library, "prctl", None)
    if prctl is not None:
        # Pages of 2 MB, which numpy asks for, are full when one byte of them is used: 10 MB.
        prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    mallopt = getattr(library, "mallopt", None)
    if mallopt is not None:  # other C libraries share their memory between threads anyway
        mallopt(_M_ARENA_MAX, ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)


def give_back() -> None:
    """Return what is free to the system, between two stages whose things have other sizes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
