"""Fixtures that every test may use."""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What first uses JAX in the process decides how many CPU devices it has; tests of several devices want real ones.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def reference():
    """The folder of TensorFlow 1.15's op definitions and public signatures; skips without it."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip(f"TensorFlow 1.15's reference tables are not here ({folder})")
    return folder


@pytest.fixture(autouse=True)
def fresh_default_graph():
    """Every test starts on an empty default graph, so that node names begin anew."""
    headrace = sys.modules.get("headrace")
    reset = getattr(headrace, "reset_default_graph", None)
    if reset is not None:
        reset()
