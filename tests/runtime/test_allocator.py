"""Memory that programs give back stays with the process, unless somebody says otherwise."""

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
