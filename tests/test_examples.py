"""The examples run as they stand, as `make demo` runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parents[1]


def test_the_example_of_the_readme(capsys):
    source = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .partition("```python\n")[2]
        .partition("```")[0]
    )
    exec(compile(source, "README.md", "exec"), {})
    loss, *weights = capsys.readouterr().out.replace("[", " ").replace("]", " ").split()
    # TensorFlow 1.15 prints these.
    assert float(loss) == pytest.approx(0.00014756333, rel=1e-5)
    assert [float(w) for w in weights] == pytest.approx([1.0, 0.9845387], rel=1e-6)


def test_digits(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "digits.py"), "--folder", "out"],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT), PYTHONIOENCODING="utf-8"),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stdout.partition("test accuracy ")[2].partition("%")[0])
    # TensorFlow 1.15, the same program and seeds: 99.50 %.
    assert accuracy == pytest.approx(99.5, abs=0.5)
    assert done.stdout.count("it says ") == 6 and "8, but is 9" in done.stdout
    written = {path.name.partition(".")[0] for path in (tmp_path / "out").iterdir()}
    assert written == {"checkpoint", "digits", "events", "loss"}


def test_records(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "records.py"), "--folder", "out", "--epochs", "8"],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.partition("test accuracy ")[2].partition("%")[0]) > 95
    assert done.stdout.rstrip().endswith("of 397") and len(os.listdir(tmp_path / "out")) == 5
