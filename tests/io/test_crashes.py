"""A process may die at any moment of a save: the checkpoint in place is whole, old or new.

HEADRACE_KILLS sets how many processes of each kind are killed at random (default 8).
"""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.mark.parametrize("kind", ["v2", "sharded", "v1"])
def test_killed_while_saving(kind):
    kills = os.environ.get("HEADRACE_KILLS", "8")
    environment = dict(os.environ, PYTHONPATH=str(HERE.parents[1]))
    done = subprocess.run(
        [sys.executable, str(HERE / "saving_under_fire.py"), kind, kills, "1"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kills} kills" in done.stdout and "deaths" in done.stdout
