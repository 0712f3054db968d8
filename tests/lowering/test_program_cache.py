"""Programs kept between processes: where, who may have written them, how many bytes."""

import os
import subprocess
import sys
import textwrap

import jax
import pytest

from headrace.lowering import program_cache
from headrace.lowering.program_cache import keep_programs

PROGRAM = """
    import jax
    hits = []
    jax.monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("cache_hits")))
    import numpy as np
    import headrace as tf
    from headrace.lowering import program_cache
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    x = tf.placeholder(tf.float32, [None])
    y = x
    for _ in range(8):
        y = tf.sin(y)
    with tf.Session() as session:
        values = [session.run(y, {x: np.ones(400)})[0] for _ in range(2)]
    np.testing.assert_allclose(*values, rtol=1e-6)
    print(sum(hits))
"""


def run(folder):
    environment = {**os.environ, "HEADRACE_CACHE": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture
def settings():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_second_process_finds_the_programs_of_the_first(tmp_path):
    folder = tmp_path / "programs"
    assert run(folder) == 0
    files = sorted(f.name for f in folder.rglob("*") if f.is_file())
    assert files and folder.stat().st_mode & 0o777 == 0o700
    assert run(folder) == len([f for f in files if f.endswith("-cache")]) > 0
    assert sorted(f.name for f in folder.rglob("*") if f.is_file()) == files


def test_nothing_is_kept_unless_asked_for(settings, tmp_path):
    for asked in ({}, {"HEADRACE_CACHE": "0"}, {"HEADRACE_CACHE": ""}):
        assert keep_programs({"XDG_CACHE_HOME": str(tmp_path), **asked}) is None
    assert not list(tmp_path.iterdir())


def test_the_folder_is_the_users_cache_or_the_one_that_is_named(settings, tmp_path):
    where = keep_programs({"XDG_CACHE_HOME": str(tmp_path), "HEADRACE_CACHE": "1"})
    assert where.parent == tmp_path / "headrace" / "programs"
    assert jax.config.jax_compilation_cache_dir == str(where)
    # What JAX was given itself stays.
    assert keep_programs({"HEADRACE_CACHE": str(tmp_path / "other")}) is None
    jax.config.update("jax_compilation_cache_dir", None)
    where = keep_programs({"HEADRACE_CACHE": str(tmp_path / "other")})
    assert where.parent == tmp_path / "other"


@pytest.mark.parametrize("mode", [0o770, 0o777])
def test_a_folder_that_others_may_write_to_is_not_used(settings, tmp_path, caplog, mode):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    assert keep_programs({"HEADRACE_CACHE": str(folder)}) is None
    assert "others may write" in caplog.text
    assert not jax.config.jax_compilation_cache_dir


def test_neither_is_one_of_somebody_else_or_a_link_or_a_file(
    settings, tmp_path, caplog, monkeypatch
):
    own = tmp_path / "own"
    own.mkdir(0o700)
    (tmp_path / "link").symlink_to(own)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        assert keep_programs({"HEADRACE_CACHE": str(tmp_path / name)}) is None
    monkeypatch.setattr(os, "getuid", lambda: own.stat().st_uid + 1)
    assert keep_programs({"HEADRACE_CACHE": str(own)}) is None
    assert "another user" in caplog.text


def test_the_oldest_programs_go_first(tmp_path):
    for i, name in enumerate(("new", "old", "older")):
        file = tmp_path / "kind" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 100)
        os.utime(file, (1000 - i, 1000 - i))
    program_cache._delete_oldest(tmp_path, 250)
    assert sorted(f.name for f in (tmp_path / "kind").iterdir()) == ["new", "old"]
    program_cache._delete_oldest(tmp_path, 250)
    assert len(list((tmp_path / "kind").iterdir())) == 2
