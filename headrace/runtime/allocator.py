"""The C library's allocator, told to keep what programs give back.

A program of XLA asks for all its scratch memory at once and gives it back at its end. glibc maps a block of that size anew
for each run, and the kernel clears its pages again one fault at a time: 20 of 120 ms of CPU time in a step of a recurrent
network with 78 MB of scratch memory. What a program has given back, its next run takes again.

The compiler's memory is another matter. A step of a thousand operations leaves hundreds of megabytes behind, strewn with what
lives on, so that a program's scratch memory finds no place there: they go back to the system at once.

Threads that share one heap hand the same cache lines to and fro: elementwise work takes a fifth longer. But a block of more
than 64 MB has room in the first heap alone, and is mapped anew for whoever has another one. So there is a heap for each
thread of XLA's pool, and one for all others.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

import jax

from headrace.lowering.compilations import COMPILED

# mallopt's parameters (malloc.h) and values for them.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_KEPT_BYTES = 2**31 - 1  # the largest that mallopt takes

# A block of this size comes from the thread's heap itself.
_NOT_CACHED_BYTES = 5000

# What a compilation of so many seconds leaves behind is worth giving back, which takes 10 to 30 ms.
_LONG_SECONDS = 0.5


@functools.cache
def keep_freed_memory() -> bool:
    """Makes freed memory stay with the process, up to 2 GiB. Returns whether that was done.

    To be called before XLA starts its threads, for whose number there is a heap more. Not done outside of glibc, where the
    environment variable HEADRACE_KEEP_MEMORY is "0", and where one of glibc's own variables (MALLOC_ARENA_MAX,
    MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_MAX_, MALLOC_MMAP_THRESHOLD_) says what the user wants.
    """
    wished = ("ARENA_MAX", "TRIM_THRESHOLD_", "MMAP_MAX_", "MMAP_THRESHOLD_")
    if not sys.platform.startswith("linux") or os.environ.get("HEADRACE_KEEP_MEMORY") == "0":
        return False
    if any(f"MALLOC_{name}" in os.environ for name in wished):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    arenas = len(os.sched_getaffinity(0)) + 1
    settings = ((_ARENA_MAX, arenas), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT_BYTES))
    done = all([mallopt(parameter, value) for parameter, value in settings])
    if done:
        jax.monitoring.register_event_duration_secs_listener(_after_compilation)
    return done


def _after_compilation(event: str, duration_secs: float, **_: str | int) -> None:
    if event == COMPILED and duration_secs >= _LONG_SECONDS:
        ctypes.CDLL(None).malloc_trim(0)


def in_first_heap() -> bool:
    """Whether a thread has glibc's first heap, that of the main thread; to be called where `keep_freed_memory` is done."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]
    block = library.malloc(_NOT_CACHED_BYTES)
    if not block:
        return False
    # In front of each block stands its size, whose third bit says that it is of another heap (malloc.c).
    size = ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value
    library.free(block)
    return not size & 4
