"""A process may die at any moment of `Saver.save`: what `latest_checkpoint` names is whole, and never steps back.

HEADRACE_KILLS sets how many processes of each kind are killed (default 8).
"""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.mark.parametrize("kind", ["numbered", "one_prefix", "sharded", "v1"])
def test_killed_while_saving(kind):
    kills = os.environ.get("HEADRACE_KILLS", "8")
    done = subprocess.run(
        [sys.executable, str(HERE / "saver_under_fire.py"), kind, kills, "1"],
        env=dict(os.environ, PYTHONPATH=str(HERE.parents[1]), JAX_PLATFORMS="cpu"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kills} kills" in done.stdout
