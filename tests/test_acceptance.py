"""The acceptance programs that Headrace passes: tests/acceptance.txt lists them.

Each one is a small TensorFlow 1.x program with numbers from the real TensorFlow. They lie
beside the checkout, in ../shared/acceptance; where that folder is absent, they are skipped.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SHARED

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = SHARED / "acceptance"
LISTED = (ROOT / "tests" / "acceptance.txt").read_text().split()


def test_the_list_is_sorted_without_repeats():
    assert sorted(set(LISTED)) == LISTED


@pytest.mark.parametrize("program", LISTED)
def test_acceptance(program, tmp_path):
    path = PROGRAMS / f"{program}.py"
    if not PROGRAMS.is_dir():
        pytest.skip(f"the acceptance programs are not here ({PROGRAMS})")
    assert path.exists(), f"tests/acceptance.txt names {program}, which {PROGRAMS} does not have"
    env = dict(os.environ, TF_TARGET="headrace", PYTHONIOENCODING="utf-8")
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(path)],
        env=env,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stdout.strip().splitlines()[-1] == f"OK {program}"
