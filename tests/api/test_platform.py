"""tf.flags, tf.app, tf.logging, tf.gfile, tf.resource_loader, tf.VERSION."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import headrace as tf


def test_versions_are_tensorflows():
    assert (tf.VERSION, tf.version.VERSION, tf.GRAPH_DEF_VERSION) == ("1.15.5", "1.15.5", 134)


def test_flags_are_parsed_when_one_is_read(monkeypatch):
    values = tf.flags.FlagValues()
    tf.flags.DEFINE_integer("steps", 3, "how many", flag_values=values)
    tf.flags.DEFINE_string(
        flag_name="mode", default_value="train", docstring="x", flag_values=values
    )
    monkeypatch.setattr(sys, "argv", ["script", "--steps=5"])
    flags = type(tf.flags.FLAGS)(values)
    assert (flags.steps, flags.mode, "steps" in flags, "none" in flags) == (5, "train", True, False)
    flags.steps = 6
    assert flags.flag_values_dict() == {"steps": 6, "mode": "train"}
    with pytest.raises(AttributeError):
        _ = flags.none


def test_app_run_calls_main_with_what_no_flag_took():
    script = (
        "import headrace as tf\n"
        "tf.app.flags.DEFINE_bool('fast', False, 'x')\n"
        "def main(argv):\n    print(tf.app.flags.FLAGS.fast, argv[1:]); return 3\n"
        "tf.app.run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--fast", "--unknown=1", "rest"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert (done.stdout, done.returncode) == ("True ['--unknown=1', 'rest']\n", 3), done.stderr


@pytest.fixture
def lines(capsys):
    """Returns a function that returns the lines of the log on stderr."""
    before = tf.logging.get_verbosity()
    tf.logging.set_verbosity(tf.logging.INFO)
    yield lambda: capsys.readouterr().err.splitlines()
    tf.logging.set_verbosity(before)


@pytest.fixture
def alone(monkeypatch):
    """Returns a function that takes the root logger's handlers away (pytest adds its own late)."""
    return lambda: monkeypatch.setattr(logging.getLogger(), "handlers", [])


def test_log_lines_are_tensorflows(lines, alone):
    alone()
    tf.logging.debug("not shown")
    tf.logging.info("%d of %s", 3, "four")
    tf.logging.warn("careful")
    tf.logging.fatal("over")
    tf.logging.log_if(tf.logging.ERROR, "no", False)
    tf.logging.vlog(25, "between")
    assert lines() == [
        "INFO:tensorflow:3 of four",
        "WARNING:tensorflow:careful",
        "CRITICAL:tensorflow:over",
        "Level 25:tensorflow:between",
    ]


def test_repeated_lines_are_counted_by_their_place(lines, alone):
    alone()
    for i in range(5):
        tf.logging.log_every_n(tf.logging.INFO, "every %d", 2, i)
        tf.logging.log_first_n(tf.logging.INFO, "first %d", 2, i)
    assert [line.rpartition(":")[2] for line in lines()] == [
        "every 0",
        "first 0",
        "first 1",
        "every 2",
        "every 4",
    ]


def test_the_line_is_written_once_where_the_program_logs_too(lines, caplog):
    logging.getLogger().addHandler(caplog.handler)
    tf.logging.info("once")
    assert lines() == []
    assert [(r.message, r.filename) for r in caplog.records] == [("once", "test_platform.py")]


def test_files(tmp_path):
    with tf.gfile.GFile(str(tmp_path / "a.txt"), "w") as file:
        file.write("text")
    assert tf.gfile.Exists(str(tmp_path / "a.txt")) and tf.io.gfile.exists(str(tmp_path / "a.txt"))
    assert tf.io.gfile.listdir(str(tmp_path)) == ["a.txt"]
    with tf.python_io.TFRecordWriter(str(tmp_path / "r")) as writer:
        writer.write(b"record")
    assert list(tf.python_io.tf_record_iterator(str(tmp_path / "r"))) == [b"record"]


def test_resources_lie_beside_the_caller():
    name = Path(__file__).name
    assert tf.resource_loader.get_path_to_datafile(name) == __file__
    assert tf.resource_loader.load_resource(name) == Path(__file__).read_bytes()
    assert tf.resource_loader.readahead_file_path("a") == "a"
