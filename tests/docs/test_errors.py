"""docs/errors.md shows what Headrace prints today, and its messages say what a reader needs."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()
# Mistakes in which no op or variable takes part.
WITHOUT_A_PLACE = (
    "A list whose rows differ in length",
    "None for a tensor",
    "A size that is not known yet",
    "A graph that is finished",
    "Reusing a variable that is not there",
    "A variable whose size is not known",
    "Fetching something else",
    "Fetching None",
    "A name that does not exist",
    "No session",
    "A closed session",
    "An empty graph",
    "No variable at all",
    "There is no such checkpoint",
)


def test_the_page_is_current():
    program = "import runpy; print(runpy.run_path('docs/generate/errors.py')['page'](), end='')"
    env = dict(os.environ, JAX_PLATFORMS="cpu", PYTHONPATH=str(ROOT))
    env.pop("HEADRACE_FULL_TRACEBACK", None)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == PAGE, "a message has changed: make docs"


def test_every_error_names_the_line_of_the_program():
    cases = re.findall(r"^### (.*?)\n.*?```text\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(cases) >= 40
    for title, message in cases:
        assert ("train.py" in message) != (title in WITHOUT_A_PLACE), title
        if message.startswith("tf.errors."):
            assert re.search(r"\n  defined at train\.py:\d+, in ", message), title


def test_no_path_of_this_machine_is_on_the_page():
    assert str(ROOT) not in PAGE and "/tmp" not in PAGE and "site-packages" not in PAGE
