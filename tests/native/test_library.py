"""Building and loading the kernels, and doing without."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from headrace import native
from headrace.native import build, library

PRODUCT = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, format="%(name)s %(message)s")
import numpy as np, headrace as tf
loaded = sys.modules["headrace.native.library"]._loaded
assert loaded is None, "loaded at import"
a = np.arange(128 * 128, dtype=np.float32).reshape(128, 128) / 1e4
x = tf.placeholder(tf.float32, [None, 128])
y = tf.matmul(tf.matmul(x, x), tf.constant(a))
with tf.Session() as sess:
    for _ in range(3):
        got = sess.run(y, {x: a})
assert np.allclose(got, a @ a @ a, rtol=1e-4)
print("available:", sys.modules["headrace.native.library"]._loaded)
"""


# Builds of earlier sources, and for another release of jaxlib.
OTHERS = (".so", "0.so"), ("kernels-", "kernels-0.0.1.")


def run(program, **environment):
    """What `program` prints, in a process of its own with more variables in its environment."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def unloaded(monkeypatch):
    """The library as it is in a new process."""
    monkeypatch.setattr(library, "_loaded", None)
    return monkeypatch


def test_a_process_without_the_kernels_computes_the_same_and_says_why_once():
    output = run(PRODUCT, HEADRACE_NATIVE="0")
    assert "available: False" in output
    assert output.count("XLA's own kernels are used: HEADRACE_NATIVE is 0") == 1


@pytest.mark.skipif(not native.available(), reason="the kernels are not built here")
def test_a_process_loads_the_kernels_at_the_first_product():
    assert "available: True" in run(PRODUCT)


def test_a_build_for_something_else_is_not_loaded(unloaded, tmp_path, caplog):
    unloaded.delenv("HEADRACE_NATIVE", raising=False)
    unloaded.setattr(library.jaxlib, "__version__", "0.0.0")
    with caplog.at_level(logging.DEBUG, "headrace"):
        assert not native.available() and not native.available()
    assert [r.levelname for r in caplog.records] == ["DEBUG"]
    assert "kernels-0.0.0-" in caplog.text and "was not built" in caplog.text


@pytest.mark.parametrize(
    "manifest", [None, "{", '{"onednn": "/nowhere/libdnnl.so.3"}', json.dumps({"onednn": __file__})]
)
def test_a_broken_file_or_a_missing_library_is_not_loaded(unloaded, tmp_path, caplog, manifest):
    unloaded.delenv("HEADRACE_NATIVE", raising=False)
    unloaded.setattr(library, "folders", lambda: [tmp_path])
    path = tmp_path / library.file_name()
    path.write_bytes(b"no library")
    if manifest is not None:
        path.with_suffix(".json").write_text(manifest)
    with caplog.at_level(logging.DEBUG, "headrace"):
        assert not native.available()
    assert "cannot be loaded" in caplog.text
    a = np.ones((100, 100), np.float32)
    np.testing.assert_array_equal(native.dot(a, a), a @ a)


def test_a_build_without_a_compiler_or_a_library_says_what_is_missing(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(build, "_find_onednn", lambda: (tmp_path / "libdnnl.so.3", tmp_path))
    monkeypatch.setattr(build, "folders", lambda: [tmp_path / "built"])
    for compiler, words in (
        ("/nowhere/g++", "/nowhere/g++ cannot be run"),
        (f"{sys.executable} -c raise(SystemExit('oops'))", "failed:\noops"),
    ):
        monkeypatch.setenv("CXX", compiler)
        assert build.main([]) == 1
        assert words in capsys.readouterr().err
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build.BuildError, match="no C\\+\\+ compiler"):
        build.build()
    assert list((tmp_path / "built").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(build.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(build.BuildError, match="oneDNN is not installed"):
        build.build(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(build.BuildError, match="written to"):
        build.build(tmp_path / "file" / "folder")


def test_what_is_built_is_kept_and_what_was_is_removed(monkeypatch, tmp_path):
    # A compiler that only writes its output: the words after -o say where.
    compiler = tmp_path / "compiler.py"
    compiler.write_text("import sys; open(sys.argv[sys.argv.index('-o') + 1], 'w').write('made')")
    monkeypatch.setenv("CXX", f"{sys.executable} {compiler}")
    monkeypatch.setattr(build, "_find_onednn", lambda: (tmp_path / "libdnnl.so.3", tmp_path))
    folder = tmp_path / "built"
    folder.mkdir()
    monkeypatch.setattr(build, "folders", lambda: [folder])
    earlier, other = (folder / library.file_name().replace(*of) for of in OTHERS)
    earlier.write_text("")
    other.write_text("")
    path = build.build()
    assert path.read_text() == "made" and other.exists() and not earlier.exists()
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "onednn": str(tmp_path / "libdnnl.so.3")
    }
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert build.build() == path
    # Another oneDNN: the manifest must name it.
    monkeypatch.setattr(build, "_find_onednn", lambda: (tmp_path / "moved.so.3", tmp_path))
    with pytest.raises(build.BuildError, match="cannot be run"):
        build.build()
