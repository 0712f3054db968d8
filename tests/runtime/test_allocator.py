"""Memory that programs give back stays with the process, unless somebody says otherwise; the compiler's does not."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
from headrace.runtime import allocator
print(allocator.keep_freed_memory())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, "True"),
        ({"HEADRACE_KEEP_MEMORY": "0"}, "False"),
        ({"MALLOC_TRIM_THRESHOLD_": "100000"}, "False"),
        ({"MALLOC_ARENA_MAX": "4"}, "False"),
    ],
)
def test_who_decides(variables, expected):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected


_COMPILING = """
import ctypes
import jax
from headrace.lowering.compilations import COMPILED
from headrace.runtime import allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

assert allocator.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
blocks = [libc.malloc(1 << 20) for _ in range(200)]
for block in blocks:
    ctypes.memset(block, 1, 1 << 20)
last = libc.malloc(100)
for block in blocks:
    libc.free(ctypes.c_void_p(block))
found = [resident()]
for seconds in (0.01, 2.0):
    jax.monitoring.record_event_duration_secs(COMPILED, seconds)
    found.append(resident())
print(*found)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_a_long_compilation_is_followed_by_giving_memory_back():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _COMPILING],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    before, after_short, after_long = map(int, done.stdout.split())
    assert after_short > before - 50
    assert after_long < before - 150
